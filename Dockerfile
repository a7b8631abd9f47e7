# syntax=docker/dockerfile:1

# The gateway as one static binary in an image without a shell: `docker build --tag switchboard .`
# For another architecture: `docker buildx build --platform linux/arm64 --tag switchboard .`

ARG RUST_VERSION=1.95.0

# Alpine's C library is musl, so that its own compiler makes static binaries: no cross compiler is needed, and the same
# lines serve both architectures.
FROM rust:${RUST_VERSION}-alpine AS build

# For the parts in C (TLS, SQLite, zstd, the allocator).
RUN apk add --no-cache build-base cmake linux-headers perl

WORKDIR /src
COPY . .

ARG TARGETARCH
# Registry and intermediate results stay in caches of the builder: a second build compiles only what has changed. The
# last two commands keep the promises of the image: nothing is linked dynamically, and the binary is below 45 MB.
RUN --mount=type=cache,target=/usr/local/cargo/registry,id=switchboard-registry \
    --mount=type=cache,target=/src/target,id=switchboard-target-${TARGETARCH},sharing=locked \
    set -eu; \
    case "${TARGETARCH:-$(uname -m)}" in \
        amd64 | x86_64) target=x86_64-unknown-linux-musl ;; \
        arm64 | aarch64) target=aarch64-unknown-linux-musl ;; \
        *) echo "no build for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin switchboard --target "$target"; \
    mkdir -p /out/state; \
    mkdir -m 0700 /out/state/data; \
    cp "target/$target/release/switchboard" /out/switchboard; \
    if readelf --program-headers /out/switchboard | grep -q INTERP; then echo "not static" >&2; exit 1; fi; \
    test "$(stat -c %s /out/switchboard)" -lt 45000000

# Nothing but certificates, time zones, /tmp and the user `nonroot` (65532).
FROM gcr.io/distroless/static:nonroot

LABEL org.opencontainers.image.title="Switchboard" \
      org.opencontainers.image.description="A self-hosted, OpenAI-compatible LLM gateway in one binary" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /out/switchboard /switchboard
# A new volume takes over owner and mode of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /out/state/ /

# A configuration is read from /etc/switchboard/switchboard.yaml when it is there. Only /data is written to, so the rest
# of the file system may be read-only.
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080

# What large bodies took goes back to the system 10 ms later; the allocator would keep it for longer.
ENV MIMALLOC_PURGE_DELAY=10

# Variables and not options of `serve`, so that `docker exec … /switchboard keys create` finds the same key store.
ENV SWITCHBOARD_LISTEN=0.0.0.0:8080 \
    SWITCHBOARD_DATA_DIR=/data

# It finds out by itself whether the gateway speaks HTTP or HTTPS.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["/switchboard", "healthcheck"]

ENTRYPOINT ["/switchboard"]
CMD ["serve"]

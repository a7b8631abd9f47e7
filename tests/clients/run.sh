#!/usr/bin/env bash
# Official SDKs and frameworks against a running gateway, with the mock provider and llama.cpp as upstreams.
#
#   tests/clients/run.sh [--no-engine] [python|node]...
#
# What is installed goes to a cache, so that a second run is quick. From the environment:
#   SWITCHBOARD_BIN   the binary to test; unset: `cargo build` and its debug binary
#   CLIENTS_CACHE     virtual environments and node modules; unset: `clients` in the target directory
#   CLIENTS_WHEELS    compiled wheels, which outlive the target directory; unset: ~/.cache/switchboard-tests
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${CLIENTS_CACHE:-$target/clients}
wheels=${CLIENTS_WHEELS:-$HOME/.cache/switchboard-tests}
engine=yes
suites=()
for argument in "$@"; do
    case $argument in
        --no-engine) engine= ;;
        python | node) suites+=("$argument") ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
[ ${#suites[@]} -gt 0 ] || suites=(python node)

say() { printf '\n== %s\n' "$*"; }

# Installs Debian packages.
install() {
    say "installing $*"
    local sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" > /dev/null
}

# Installs the packages $2… if the command $1 is missing.
need() { command -v "$1" > /dev/null || install "${@:2}"; }

wants() { [[ " ${suites[*]} " == *" $1 "* ]]; }

# Makes the directory $1 by the function $2 unless it was made for the same inputs, the files $3….
cached() {
    local directory=$1 make=$2
    shift 2
    local inputs
    inputs=$(cat "$@" | sha256sum)
    [ "$(cat "$directory/.made-for" 2> /dev/null)" = "$inputs" ] && return
    rm -rf "$directory"
    mkdir -p "$directory"
    "$make" "$directory"
    echo "$inputs" > "$directory/.made-for"
}

make_python() {
    say "installing the Python SDKs"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check \
        -r "$here/python/requirements.txt" -c "$here/python/constraints.txt"
}

make_node() {
    say "installing the Node SDKs"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$1"
    (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
}

# Debian's Node may be older than what the SDKs need; npm has newer ones.
make_runtime() {
    say "installing Node 24"
    (cd "$1" && npm init -y > /dev/null && npm install --no-audit --no-fund --loglevel=error node@24.21.0)
}

# Claude Code, a program of its own that brings its runtime.
make_claude_code() {
    say "installing Claude Code"
    (cd "$1" && npm init -y > /dev/null &&
        npm install --no-audit --no-fund --loglevel=error @anthropic-ai/claude-code@2.1.332)
}

# llama.cpp as a Python package has to be compiled: once, without what a tiny model on a CPU has no use for, and hardly
# optimised. The wheel is kept.
make_engine() {
    say "installing llama.cpp (compiles for some minutes the first time)"
    python3 -m venv "$1"
    local name
    name=$(grep -o '^llama-cpp-python.*' "$here/engine/requirements.txt" | sed 's/\[server\]//')
    mkdir -p "$wheels"
    if ! ls "$wheels/llama_cpp_python-${name##*=}"-*.whl > /dev/null 2>&1; then
        need cmake cmake
        need g++ build-essential
        CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAVA_BUILD=OFF -DLLAMA_BUILD_COMMON=OFF \
            -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1" \
            nice "$1/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheels" "$name"
    fi
    "$1/bin/pip" install --quiet --disable-pip-version-check --find-links "$wheels" -r "$here/engine/requirements.txt"
    "$1/bin/python" "$here/engine/make_model.py" "$1/tiny.gguf"
}

# Everything that was started is ended, and what it wrote is shown when something failed.
work=$(mktemp -d)
touch "$work"/{mock,gateway,engine}.log
processes=()
finish() {
    local code=$?
    trap - EXIT
    for process in "${processes[@]:-}"; do
        [ -z "$process" ] || kill "$process" 2> /dev/null || true
    done
    wait 2> /dev/null || true
    if [ "$code" -ne 0 ]; then
        for log in mock gateway engine; do
            [ -s "$work/$log.log" ] || continue
            say "the end of the $log's log"
            tail -n 60 "$work/$log.log"
        done
    fi
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Waits until the log $1 matches the expression $2 while process $3 lives, and prints what the expression's group matched.
await() {
    local tries found
    for ((tries = 0; tries < 600; tries++)); do
        found=$(sed -nE "s#.*$2.*#\1#p" "$work/$1.log" | head -n 1)
        [ -z "$found" ] || { echo "$found"; return; }
        kill -0 "$3" 2> /dev/null || break
        sleep 0.1
    done
    echo "the $1 did not start" >&2
    return 1
}

need python3 python3
need curl curl ca-certificates
python3 -c 'import ensurepip' 2> /dev/null || install python3-venv
if [ -z "${SWITCHBOARD_BIN:-}" ]; then
    (cd "$root" && cargo build --locked --quiet)
    SWITCHBOARD_BIN=$target/debug/switchboard
fi

if wants python; then
    cached "$cache/python" make_python "$here"/python/{requirements,constraints}.txt
    need npm nodejs npm
    cached "$cache/claude-code" make_claude_code "$here/run.sh"
    export CLIENTS_CLAUDE_CODE=$cache/claude-code/node_modules/.bin/claude
fi
if wants node; then
    need npm nodejs npm
    cached "$cache/node" make_node "$here"/node/package{,-lock}.json
    node=node
    if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then
        cached "$cache/node-runtime" make_runtime "$here/node/package.json"
        node=$cache/node-runtime/node_modules/.bin/node
    fi
fi

say "starting the mock, the gateway${engine:+ and the engine}"
unset CLIENTS_ENGINE_RUNS
export CLIENTS_ENGINE=http://127.0.0.1:1/v1
if [ -n "$engine" ] && wants python; then
    cached "$cache/engine" make_engine "$here"/engine/{requirements.txt,make_model.py}
    port=$("$cache/engine/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat > "$work/engine.json" << JSON
{ "host": "127.0.0.1", "port": $port, "interrupt_requests": false, "models": [
    { "model": "$cache/engine/tiny.gguf", "model_alias": "tiny", "n_ctx": 4096, "verbose": false },
    { "model": "$cache/engine/tiny.gguf", "model_alias": "tiny-embedder", "embedding": true, "verbose": false } ] }
JSON
    "$cache/engine/bin/python" -m llama_cpp.server --config_file "$work/engine.json" > "$work/engine.log" 2>&1 &
    processes+=($!)
    await engine '(Uvicorn running on)' $! > /dev/null
    export CLIENTS_ENGINE=http://127.0.0.1:$port/v1 CLIENTS_ENGINE_RUNS=yes
fi

"$SWITCHBOARD_BIN" mock --listen 127.0.0.1:0 > "$work/mock.log" 2>&1 &
processes+=($!)
CLIENTS_MOCK_ROOT=$(await mock 'listens on (http://[0-9.:]+)' $!)
export CLIENTS_MOCK_ROOT CLIENTS_MOCK=$CLIENTS_MOCK_ROOT/v1 CLIENTS_DATA=$work/data
"$SWITCHBOARD_BIN" serve --config "$here/gateway.yaml" > "$work/gateway.log" 2>&1 &
processes+=($!)
CLIENTS_GATEWAY=$(await gateway 'listens on (http://[0-9.:]+)' $!)
export CLIENTS_GATEWAY
curl --fail --silent --show-error --output /dev/null "$CLIENTS_GATEWAY/readyz"

failed=0
if wants python; then
    say "Python: openai, anthropic, LangChain, Claude Code${CLIENTS_ENGINE_RUNS:+, llama.cpp}"
    (cd "$here/python" && PYTHONDONTWRITEBYTECODE=1 "$cache/python/bin/python" -m pytest ${PYTEST_ARGS:-}) || failed=1
fi
if wants node; then
    say "Node: openai, @anthropic-ai/sdk, Vercel AI SDK"
    # Modules are looked up from the test files' own directory, which shall stay clean.
    mkdir -p "$work/node"
    cp "$here"/node/*.mjs "$here/node/package.json" "$work/node"
    ln -s "$cache/node/node_modules" "$work/node/node_modules"
    (cd "$work/node" && "$node" --test --test-concurrency=1 --test-reporter=spec) || failed=1
fi
exit $failed

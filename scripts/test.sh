#!/usr/bin/env bash
# Every check of this repository, on a fresh Debian machine with a Rust toolchain (rustup or rustc and cargo).
#
#   ./scripts/test.sh [--quick] [--full]
#
#   --quick   leaves out the official SDKs and the real engine (tests/clients)
#   --full    installs cargo-deny and cargo-machete where they are missing, which takes minutes to compile;
#             without it they run only if they are installed
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
quick= full=
for argument in "$@"; do
    case $argument in
        --quick) quick=yes ;;
        --full) full=yes ;;
        *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done

output=$(mktemp)
summary=()
failed=0
passed_tests=0
failed_tests=0
trap 'rm -f "$output"' EXIT
# The checks are about the code as it is locked and as CI sees it.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

# Runs `$2…` as the step named $1, and notes how it ended. Tests are counted from what the test runners print.
step() {
    local name=$1 started=$SECONDS code counts
    shift
    printf '\n======== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$output"
    code=${PIPESTATUS[0]}
    counts=$(counted)
    if [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed_tests=$((passed_tests + BASH_REMATCH[1]))
        failed_tests=$((failed_tests + BASH_REMATCH[2]))
    fi
    if [ "$code" -eq 0 ]; then
        note ok "$name" "$counts" $((SECONDS - started))
    else
        note FAILED "$name" "$counts" $((SECONDS - started))
        failed=$((failed + 1))
    fi
}

note() { summary+=("$(printf '%-7s %-24s %-36s %4s s' "$1" "$2" "$3" "${4:-0}")"); }

# "N passed, N failed" over all test runners of a step: libtest, pytest, node.
counted() {
    sed 's/\x1b\[[0-9;]*m//g' "$output" | awk '
        /^test result:/ { passed += $4; failures += $6; any = 1 }
        /^(=+ )?[0-9]+ (passed|failed|skipped|error)/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^(failed|error)/) failures += $(i - 1)
            }
            any = 1
        }
        /^ℹ pass / { passed += $3; any = 1 }
        /^ℹ fail / { failures += $3; any = 1 }
        END { if (any) printf "%d passed, %d failed", passed, failures }'
}

# A tool that not everybody has: run if it is there, or installed by --full.
optional() {
    local tool=$1 name=$2
    shift 2
    if ! command -v "$tool" > /dev/null && [ -n "$full" ]; then
        step "install $tool" cargo install --locked --quiet "$tool"
    fi
    if command -v "$tool" > /dev/null; then
        step "$name" "$@"
    else
        note skipped "$name" "$tool is not installed; --full does"
    fi
}

# A C compiler for SQLite and the cryptography that are compiled in.
if ! command -v cc > /dev/null; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    step "Debian packages" sh -c "$sudo apt-get update -qq && \
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends build-essential"
fi

# The tests start PostgreSQL servers of their own, as another user than root.
if ! command -v initdb > /dev/null && ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    step "PostgreSQL" sh -c "$sudo apt-get update -qq && \
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql"
fi

# And Redis servers.
if ! command -v redis-server > /dev/null; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    step "Redis" sh -c "$sudo apt-get update -qq && \
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server"
fi

step "format" cargo fmt --all --check
step "clippy" cargo clippy --all-targets --locked -- -D warnings
step "tests" cargo test --locked --no-fail-fast
if command -v python3 > /dev/null; then
    step "price script" python3 scripts/prices_test.py
else
    note skipped "price script" "python3 is not installed"
fi
optional cargo-deny "licences and advisories" cargo deny check
optional cargo-machete "unused dependencies" cargo machete
[ ! -d fuzz ] || step "fuzz targets" cargo check --locked --manifest-path fuzz/Cargo.toml
if [ -n "$quick" ]; then
    note skipped "clients" "--quick"
else
    step "clients" tests/clients/run.sh
fi

printf '\n======== summary\n'
printf '%s\n' "${summary[@]}"
echo "$passed_tests passed, $failed_tests failed"
if [ "$failed" -gt 0 ]; then
    echo "$failed of the steps failed"
    exit 1
fi
echo "all steps passed"

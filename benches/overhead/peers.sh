#!/usr/bin/env bash
# Measures other gateways that install from packages in the same interleaved run as switchboard and nginx.
#
#   benches/overhead/peers.sh [litellm] [portkey] [-- ARGUMENTS OF THE BENCH]
#
# With no name, both. Needs python3 with venv (LiteLLM) and Node.js with npm (Portkey). They are installed into
# $PEERS_DIR (default: a folder below the temporary folder, kept, so that a second run starts at once) and run with
# access to 127.0.0.1 only as far as their configuration goes. They stop when the bench ends.
#
# OVERHEAD_BENCH: command that runs the bench (default: cargo bench --bench overhead --).
# UPSTREAM_PORT, LITELLM_PORT, PORTKEY_PORT: ports to use instead of 18990, 18991 and 18992.
set -euo pipefail
cd "$(dirname "$0")/../.."

peers_dir=${PEERS_DIR:-${TMPDIR:-/tmp}/switchboard-peers}
upstream_port=${UPSTREAM_PORT:-18990}
litellm_port=${LITELLM_PORT:-18991}
portkey_port=${PORTKEY_PORT:-18992}
bench=${OVERHEAD_BENCH:-cargo bench --bench overhead --}

peers=()
while (($#)); do
    case $1 in
        litellm | portkey) peers+=("$1") ;;
        --) shift && break ;;
        *) echo "unknown peer: $1 (known: litellm, portkey)" >&2 && exit 2 ;;
    esac
    shift
done
((${#peers[@]})) || peers=(litellm portkey)

pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'exit 130' INT TERM

# wait_for NAME URL PID: until the peer answers anything at all.
wait_for() {
    for _ in $(seq 120); do
        if curl --silent --output /dev/null --max-time 2 "$2"; then return; fi
        kill -0 "$3" 2>/dev/null || break
        sleep 0.5
    done
    echo "$1 did not start; see $peers_dir/$1.log" >&2
    exit 1
}

start_litellm() {
    local home=$peers_dir/litellm
    if ! [ -x "$home/bin/litellm" ]; then
        echo "installing LiteLLM" >&2
        python3 -m venv "$home"
        "$home/bin/pip" install --quiet --disable-pip-version-check 'litellm[proxy]'
    fi
    cat >"$peers_dir/litellm.yaml" <<YAML
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench-model
      api_base: http://127.0.0.1:$upstream_port/v1
      api_key: upstream-key
general_settings:
  master_key: sk-bench-0123456789abcdef0123456789
litellm_settings:
  telemetry: false
YAML
    # No database: the setting in which it is fastest. LITELLM_LOCAL_MODEL_COST_MAP keeps it from fetching prices.
    LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_LOG=ERROR "$home/bin/litellm" --config "$peers_dir/litellm.yaml" \
        --host 127.0.0.1 --port "$litellm_port" --num_workers 1 >"$peers_dir/litellm.log" 2>&1 &
    pids+=($!)
    wait_for litellm "http://127.0.0.1:$litellm_port/health/liveliness" $!
    arguments+=(--peer "litellm=http://127.0.0.1:$litellm_port" --peer-pid "litellm=$!")
    "$home/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -i '^litellm ' >&2
}

start_portkey() {
    local home=$peers_dir/portkey
    local server=$home/node_modules/@portkey-ai/gateway/build/start-server.js
    if ! [ -f "$server" ]; then
        echo "installing Portkey" >&2
        # With any later @hono/node-server, which its own range allows, it answers 500 to every stream (its issue 1389).
        mkdir -p "$home"
        cat >"$home/package.json" <<JSON
{"private": true, "dependencies": {"@portkey-ai/gateway": "^1"}, "overrides": {"@hono/node-server": "1.14.1"}}
JSON
        npm install --prefix "$home" --silent --no-audit --no-fund --legacy-peer-deps
    fi
    NODE_ENV=production node "$server" "--port=$portkey_port" --headless >"$peers_dir/portkey.log" 2>&1 &
    pids+=($!)
    wait_for portkey "http://127.0.0.1:$portkey_port/" $!
    # It is configured by the headers of each call.
    arguments+=(--peer "portkey=http://127.0.0.1:$portkey_port" --peer-pid "portkey=$!"
        --peer-header 'portkey=x-portkey-provider: openai'
        --peer-header "portkey=x-portkey-custom-host: http://127.0.0.1:$upstream_port/v1"
        --peer-header 'portkey=authorization: Bearer upstream-key')
    node -p "'portkey ' + require('$home/node_modules/@portkey-ai/gateway/package.json').version" >&2
}

mkdir -p "$peers_dir"
arguments=(--upstream-port "$upstream_port")
for peer in "${peers[@]}"; do "start_$peer"; done
$bench "${arguments[@]}" "$@"

#!/usr/bin/env bash
# The main job: 50,000 messages by SMTP in, durable, and out to a sink; one table; nothing left running.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${MESSAGES:-50000} sessions=${SESSIONS:-100} size=${SIZE:-10k}
${CARGO:-cargo} build --release --workspace --bins
bin=${CARGO_TARGET_DIR:-target}/release
dir=$(mktemp -d "${TMPDIR:-/tmp}/posthaste-demo.XXXXXX")
sink= server=
finish() {
  local pid
  for pid in $server $sink; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in $server $sink; do
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

read -r smtp http < <(python3 tools/harness.py ports 2)
"$bin/posthaste-load" sink --listen 127.0.0.2:2526 --expect "$messages" --threads 1 --json --report "$dir/sink.json" >"$dir/sink.log" 2>&1 &
sink=$!
"$bin/posthaste" run --listen "127.0.0.1:$smtp" --http "127.0.0.1:$http" --spool "$dir/spool" --log "$dir/log" \
  --next-hop 127.0.0.2:2526 2>"$dir/server.log" &
server=$!
for _ in $(seq 300); do
  grep -q ready "$dir/server.log" && break
  kill -0 "$server" 2>/dev/null || { cat "$dir/server.log" >&2; exit 1; }
  sleep 0.1
done
grep -q ready "$dir/server.log" || { echo "demo: the server is not ready after 30 s" >&2; cat "$dir/server.log" >&2; exit 1; }
before=$(python3 tools/harness.py cpu "$server")
"$bin/posthaste-load" source --to "127.0.0.1:$smtp" --messages "$messages" --sessions "$sessions" --per-connection 20 \
  --size "$size" --domain sink.test --threads 1 --json >"$dir/source.json"
for _ in $(seq 1200); do kill -0 "$sink" 2>/dev/null || break; sleep 0.1; done
after=$(python3 tools/harness.py cpu "$server")
rss=$(awk '/^VmHWM/ { print $2 }' "/proc/$server/status")
python3 tools/harness.py table --messages "$messages" --cpu-ms "$((after - before))" --rss-kib "$rss" \
  --source "$dir/source.json" --sink "$dir/sink.json"

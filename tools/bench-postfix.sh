#!/usr/bin/env bash
# The same load through Posthaste and through a private Postfix, in turns; then medians.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${MESSAGES:-20000} rounds=${ROUNDS:-3} sessions=100
[ "$(id -u)" = 0 ] || { echo "bench-postfix: Postfix starts as root only" >&2; exit 77; }
for tool in postfix smtp-source smtp-sink; do
  command -v $tool >/dev/null || PATH=$PATH:/usr/sbin command -v $tool >/dev/null || { echo "bench-postfix: $tool is missing" >&2; exit 69; }
done
PATH=$PATH:/usr/sbin
${CARGO:-cargo} build --release --workspace --bins
bin=${CARGO_TARGET_DIR:-target}/release
dir=$(mktemp -d "${TMPDIR:-/tmp}/posthaste-bench.XXXXXX"); chmod 755 "$dir"
sink= server= postfix_up=
finish() {
  [ -z "$postfix_up" ] || postfix -c "$dir/etc" stop >/dev/null 2>&1 || true
  for pid in $server $sink; do kill -TERM "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM
read -r ours theirs http < <(python3 tools/harness.py ports 3)

mkdir -p "$dir/etc" "$dir/queue" "$dir/data"; chown postfix "$dir/data"
cat >"$dir/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
maillog_file = $dir/maillog
maillog_file_prefixes = $dir
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
relayhost = [127.0.0.2]:2526
smtpd_client_connection_count_limit = 0
default_process_limit = 200
default_destination_concurrency_limit = 100
qmgr_message_active_limit = 100000
CF
sed "s/^smtp  *inet/127.0.0.1:$theirs inet/; s/^\(127.0.0.1:$theirs inet .*\) y  *-  *smtpd/\1 n - - smtpd/" /usr/share/postfix/master.cf.dist >"$dir/etc/master.cf"
grep -q '^postlog' "$dir/etc/master.cf" || echo 'postlog unix-dgram n - n - 1 postlogd' >>"$dir/etc/master.cf"
# No service runs in a chroot: this queue directory has none of its files.
awk '/^[^# \t]/ && NF >= 8 { $5 = "n" } { print }' "$dir/etc/master.cf" >"$dir/etc/master.new"; mv "$dir/etc/master.new" "$dir/etc/master.cf"

"$bin/posthaste" run --listen "127.0.0.1:$ours" --http "127.0.0.1:$http" --spool "$dir/spool" --log "$dir/log" \
  --next-hop 127.0.0.2:2526 2>"$dir/server.log" & server=$!
for _ in $(seq 300); do grep -q ready "$dir/server.log" && break; sleep 0.1; done
grep -q ready "$dir/server.log" || { cat "$dir/server.log" >&2; exit 1; }
postfix_up=yes; postfix -c "$dir/etc" start
sleep 1; master=$(tr -d ' ' <"$dir/queue/pid/master.pid")

# run NAME PORT PID ROUND: one relay of all messages; a line `NAME seconds cpu_ms`.
run() {
  "$bin/posthaste-load" sink --listen 127.0.0.2:2526 --expect "$messages" --threads 1 --json --report "$dir/sink-$1-$4.json" >/dev/null 2>&1 & sink=$!
  sleep 0.5
  local cpu begun; cpu=$(python3 tools/harness.py cpu "$3") begun=$(date +%s%N)
  "$bin/posthaste-load" source --to "127.0.0.1:$2" --messages "$messages" --sessions $sessions --per-connection 20 \
    --size 10k --domain sink.test --threads 1 --json >"$dir/source-$1-$4.json"
  local accepted=$(( ($(date +%s%N) - begun) / 1000000 ))
  for _ in $(seq 6000); do kill -0 "$sink" 2>/dev/null || break; sleep 0.05; done
  local relayed=$(( ($(date +%s%N) - begun) / 1000000 ))
  cpu=$(( $(python3 tools/harness.py cpu "$3") - cpu ))
  kill "$sink" 2>/dev/null || true; wait "$sink" 2>/dev/null || true; sink=
  awk -v n="$1" -v m="$messages" -v a=$accepted -v r=$relayed -v c=$cpu 'BEGIN { printf "%s %d %d %d\n", n, m*1000/a, m*1000/r, c*1000/m }' >>"$dir/results"
}
# witness NAME PORT: Postfix's own generator and sink, so that no number rests on our tools alone.
witness() {
  smtp-sink 127.0.0.2:2526 1000 >/dev/null 2>&1 & sink=$!
  sleep 0.5
  local begun; begun=$(date +%s%N)
  smtp-source -s $sessions -l 10240 -m "$messages" -f from@sink.test -t to@sink.test "127.0.0.1:$2"
  awk -v n="$1" -v m="$messages" -v t=$(( ($(date +%s%N) - begun) / 1000000 )) 'BEGIN { printf "%-20s %d accepted/s by smtp-source\n", n, m*1000/t }' >>"$dir/witness"
  sleep 5; kill "$sink" 2>/dev/null || true; wait "$sink" 2>/dev/null || true; sink=
}
for round in $(seq "$rounds"); do
  run posthaste "$ours" "$server" "$round"
  run postfix "$theirs" "$master" "$round"
done
witness posthaste "$ours"; witness postfix "$theirs"
median() { grep "^$1 " "$dir/results" | cut -d' ' -f"$2" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
printf '%-12s %12s %12s %18s\n' server accepted/s relayed/s 'CPU µs/message'
for name in posthaste postfix; do
  printf '%-12s %12s %12s %18s\n' $name "$(median $name 2)" "$(median $name 3)" "$(median $name 4)"
done
cat "$dir/witness"

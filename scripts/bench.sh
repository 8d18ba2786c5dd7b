#!/usr/bin/env bash
# Measures the release build side by side with Debian's prometheus-redis-exporter, which is the base of the ratios.
#   SECTIONS=single,conc   only these; see bench/README.md
#   QUICK=1                fewer rounds, without the slow sections
# `ours` leaves out the latency histograms, which the peer of that age does not have; `ours+latency` has them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain
install_packages redis-server redis-tools prometheus-redis-exporter wrk python3

if [ -n "${QUICK:-}" ]; then
  sections=${SECTIONS:-limit,single,conc,many}
  shape=(--rounds 1 --requests 200 --seconds 2 --targets 50 --keys 200000)
else
  sections=${SECTIONS:-limit,single,conc,many,rtt,hung,keys}
  shape=(--rounds 3 --requests 500 --seconds 3)
fi

for section in ${sections//,/ }; do
  grep -qw "$section" <<<'limit single conc many rtt hung keys' || {
    echo "error: no section '$section': choose from limit,single,conc,many,rtt,hung,keys" >&2
    exit 1
  }
done

cargo build --release --locked
binary=$PWD/target/release/redvigil
common='--web.listen-address={listen} --redis.addr=redis://{redis}'
# The service variables of a developer's shell would reach both exporters.
for name in $(compgen -e | grep '^REDIS_' || true); do unset "$name"; done

results=bench/results
mkdir -p "$results"
stamp=$(date -u +%Y%m%dT%H%M%SZ)
status=0

# measure NAME SECTION... : one table, with the exporters in the array `exporters`.
measure() {
  local name=$1 picked
  shift
  picked=$(for section in "$@"; do grep -qx "$section" < <(tr ',' '\n' <<<"$sections") && echo "$section"; done | paste -sd,) || true
  [ -n "$picked" ] || return 0
  /usr/bin/python3 bench/exporter_bench.py "${exporters[@]}" "${shape[@]}" --redis-server /usr/bin/redis-server \
    --sections "$picked" --json "$results/$stamp-$name.json" || status=1
  echo "written to $results/$stamp-$name.json"
}

peer=(--exporter "peer=/usr/bin/prometheus-redis-exporter $common")
ours=(--exporter "ours=$binary $common --exclude-latency-histogram-metrics")
exporters=("${peer[@]}" "${ours[@]}" --exporter "ours+latency=$binary $common")
measure scrapes limit single conc
exporters=("${peer[@]}" "${ours[@]}")
measure fleet many rtt hung keys
exit "$status"

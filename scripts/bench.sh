#!/usr/bin/env bash
# Measures the release build side by side with Debian's prometheus-redis-exporter, which is the base of the ratios.
#   SECTIONS=single,conc   only these; see bench/README.md
#   QUICK=1                fewer rounds, without the slow sections
#   SECTIONS=farm          2,000 scripted servers that are watched as services; no peer
#   SECTIONS=failover      a real Sentinel set whose master is replaced; no peer
#   SECTIONS=push          1,000 scripted servers that are pushed to a receiver; no peer
#   SECTIONS=reload        5,000 services of which one after the other changes; no peer
#   SECTIONS=outage        a receiver that goes away, and senders that are killed meanwhile: beside vmagent and Prometheus
# `ours` leaves out the latency histograms, which the peer of that age does not have; `ours+latency` has them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain
install_packages redis-server redis-tools prometheus-redis-exporter wrk python3

known='limit single conc many rtt hung keys farm failover push reload outage'
if [ -n "${QUICK:-}" ]; then
  sections=${SECTIONS:-limit,single,conc,many}
  shape=(--rounds 1 --requests 200 --seconds 2 --targets 50 --keys 200000)
  farm_shape=(--targets 500 --interval 5 --seconds 20 --readings 2 --trouble hang)
  reload_shape=(--services 1000 --interval 5 --reloads 5)
  push_shape=(--targets 200 --seconds 10 --away 10)
  failovers=1
else
  sections=${SECTIONS:-${known// /,}}
  shape=(--rounds 3 --requests 500 --seconds 3)
  farm_shape=()
  reload_shape=()
  push_shape=()
  failovers=5
fi

for section in ${sections//,/ }; do
  grep -qw "$section" <<<"$known" || {
    echo "error: no section '$section': choose from ${known// /,}" >&2
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

# What follows services: no peer can do that.
if grep -qwE 'farm|failover|push' <<<"$sections"; then
  cargo build --release --locked -p testbed --bins
fi
if grep -qw farm <<<"$sections"; then
  /usr/bin/python3 bench/farm_bench.py --program "$binary" --farm target/release/farm "${farm_shape[@]}" \
    --json "$results/$stamp-farm.json" || status=1
fi
if grep -qw failover <<<"$sections"; then
  target/release/failover "$binary" "$failovers" "$results/$stamp-failover.json" || status=1
fi
if grep -qw push <<<"$sections"; then
  /usr/bin/python3 bench/push_bench.py --program "$binary" --farm target/release/farm --sink target/release/sink \
    "${push_shape[@]}" --json "$results/$stamp-push.json" || status=1
fi
if grep -qw reload <<<"$sections"; then
  /usr/bin/python3 bench/reload_bench.py --program "$binary" "${reload_shape[@]}" --json "$results/$stamp-reload.json" || status=1
fi
# What is pushed. Others: vmagent and Prometheus' agent.
if grep -qw outage <<<"$sections"; then
  scripts/parts.sh
  /usr/bin/python3 bench/outage.py --program "$binary" --parts "${REDVIGIL_PARTS:-.parts}/parts.tsv" \
    --json "$results/$stamp-outage.json" || status=1
fi
exit "$status"

#!/usr/bin/env bash
# Builds the exporter and runs it beside a Redis until Ctrl-C. Arguments are passed on to the exporter.
#   REDIS=host:port or URL   the server to watch; else the one on 6379; else a redis-server started here
#   PORT=9122                another port than 9121
#   LISTEN=127.0.0.1:9122    another address as well
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh

redis=${REDIS:-}
listen=${LISTEN:-:${PORT:-9121}}
port=${listen##*:}
host=${listen%:*}
host=${host#[} host=${host%]}
case $host in '' | 0.0.0.0 | ::) host=127.0.0.1 ;; esac
redis_pid='' exporter_pid='' folder=''

say() { printf '\n== %s\n' "$*"; }
fail() {
  echo "error: $*" >&2
  exit 1
}
# The scripts in single quotes are for the inner bash, which alone can be timed out.
# shellcheck disable=SC2016
# listening HOST PORT: whether somebody accepts connections there.
listening() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; }
# shellcheck disable=SC2016
# get PATH: the exporter's answer, head and body.
get() {
  timeout 10 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" "$2" >&3 && cat <&3' \
    "$host" "$port" "$1" 2>/dev/null
}
# shellcheck disable=SC2317 # called by the trap
clean_up() {
  local pid
  trap '' INT TERM HUP
  for pid in $exporter_pid $redis_pid; do kill "$pid" 2>/dev/null || true; done
  for pid in $exporter_pid $redis_pid; do wait "$pid" 2>/dev/null || true; done
  [ -z "$folder" ] || rm -rf "$folder"
}

start_redis() {
  local own_port
  install_packages redis-server redis-tools || fail "no redis-server: install it, or name a server: make run REDIS=host:port"
  folder=$(mktemp -d)
  for own_port in {16379..16479}; do
    listening 127.0.0.1 "$own_port" || break
  done
  say "starting a redis-server on port $own_port (none was named by REDIS=, none listens on 6379)"
  redis-server --bind 127.0.0.1 --port "$own_port" --dir "$folder" --save '' --logfile "$folder/log" &
  redis_pid=$!
  until redis-cli -p "$own_port" ping 2>/dev/null | grep -q PONG; do
    kill -0 "$redis_pid" 2>/dev/null || fail "redis-server ended at its start: $(tail -n 1 "$folder/log")"
    sleep 0.05
  done
  redis=127.0.0.1:$own_port
}

[[ $port =~ ^[0-9]+$ ]] || fail "no port in '$listen': write PORT=9122 or LISTEN=127.0.0.1:9122"
trap clean_up EXIT
trap 'exit 0' INT TERM HUP
need_toolchain
if listening "$host" "$port"; then
  fail "port $port is taken: choose another one, as in: make run PORT=$((port + 1))"
fi

say 'building the release'
cargo build --release --locked

if [ -z "$redis" ]; then
  if listening 127.0.0.1 6379; then redis=127.0.0.1:6379; else start_redis; fi
fi
# Only the address is shown and the whole goes through the environment: it may hold a password.
say "starting the exporter on $listen, watching ${redis##*@}"
REDIS_ADDR=$redis target/release/redvigil --web.listen-address="$listen" "$@" &
exporter_pid=$!

deadline=$((SECONDS + 30))
until answer=$(get /metrics) && [[ $answer == HTTP/*\ 200\ * ]]; do
  kill -0 "$exporter_pid" 2>/dev/null || fail "the exporter ended at its start; its last line above says why"
  [ "$SECONDS" -lt "$deadline" ] || fail "no answer on http://$host:$port/metrics for 30 s; the lines above may say why"
  sleep 0.05
done

shown_host=$host
[ "$host" != 127.0.0.1 ] || shown_host=localhost
say "it runs; Ctrl-C ends it"
printf '%-9s http://%s:%s/\n%-9s http://%s:%s/metrics\n%-9s http://%s:%s/health\n\n' \
  start "$shown_host" "$port" metrics "$shown_host" "$port" health "$shown_host" "$port"
grep -E '^redis_(up|connected_clients|instance_info\{.*) ' <<<"$answer" | cut -c 1-150 || true
if ! grep -q '^redis_up 1' <<<"$answer"; then
  echo "note: the exporter runs but could not read ${redis##*@}; the lines above may say why" >&2
fi
wait "$exporter_pid" || fail "the exporter ended, status $?"

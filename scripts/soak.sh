#!/usr/bin/env bash
# Ends our process again and again while its receiver comes and goes, for FOR seconds (else 600), and asks the oracle of
# tests/it/delivery: missing 0, reordered 0. Every two minutes it begins anew, with another number of lanes, another
# linger and another version of remote write. About four deaths a second, of which one in twelve is in good order.
#
# Then, for as long again, exporters that share 300 services are killed, stopped, cut off and joined by others, while etcd
# comes and goes: half of the time with on_etcd_loss stop, half of it with freeze. REDVIGIL_SEED repeats what was printed.
# At last, where REDVIGIL_RNACOS names the binary of an rnacos, what follows a Nacos follows that one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain
scripts/parts.sh

REDVIGIL_SOAK=${FOR:-600}
export REDVIGIL_SOAK
[[ $REDVIGIL_SOAK =~ ^[0-9]+$ ]] || {
  echo "error: FOR=$REDVIGIL_SOAK is no number of seconds" >&2
  exit 1
}
# Not by nextest, which would end a test that takes so long.
soak() {
  cargo test --locked --test it -- --test-threads=1 --nocapture "$@"
}
soak --exact delivery::kills::nothing_is_lost_while_we_are_killed_and_the_receiver_flaps
soak sharing::chaos::
if [ -n "${REDVIGIL_RNACOS:-}" ]; then
  cargo test --locked --test source -- --nocapture a_real_server_of_its_kind
fi

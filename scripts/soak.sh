#!/usr/bin/env bash
# Ends our process again and again while its receiver comes and goes, for FOR seconds (else 600), and asks the oracle of
# tests/it/delivery: missing 0, reordered 0. Every two minutes it begins anew, with another number of lanes, another
# linger and another version of remote write. About four deaths a second, of which one in twelve is in good order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain

REDVIGIL_SOAK=${FOR:-600}
export REDVIGIL_SOAK
[[ $REDVIGIL_SOAK =~ ^[0-9]+$ ]] || {
  echo "error: FOR=$REDVIGIL_SOAK is no number of seconds" >&2
  exit 1
}
# Not by nextest, which would end a test that takes so long.
exec cargo test --locked --test it -- --exact --nocapture \
  delivery::kills::nothing_is_lost_while_we_are_killed_and_the_receiver_flaps

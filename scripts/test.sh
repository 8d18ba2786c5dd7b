#!/usr/bin/env bash
# Runs every test: installs the servers that they start, fuzzes a little, then doc tests, then all the others.
#   scripts/test.sh [NAME]   only the tests whose name contains NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain
scripts/parts.sh

# Tests of optional parts that are missing write a line here; see testbed::Part::or_skip.
export REDVIGIL_SKIPPED=$PWD/target/skipped-tests.txt
mkdir -p target
: >"$REDVIGIL_SKIPPED"

status=0
# A short hunt by the fuzzer; the tests feed the same readers random bytes of fixed seeds in any case.
[ $# -gt 0 ] || FOR=${FOR:-5} scripts/fuzz.sh || status=1

if cargo nextest --version >/dev/null 2>&1; then
  # nextest knows no doc tests; they come first, so that the summary of the others closes the output.
  [ $# -gt 0 ] || cargo test --workspace --locked --doc -q || status=1
  cargo nextest run --workspace --locked "$@" || status=1
else
  cargo test --workspace --locked --no-fail-fast "$@" || status=1
fi
if [ -s "$REDVIGIL_SKIPPED" ]; then
  sort "$REDVIGIL_SKIPPED"
  echo "SKIPPED: $(wc -l <"$REDVIGIL_SKIPPED") tests, for want of an optional part"
fi
exit "$status"

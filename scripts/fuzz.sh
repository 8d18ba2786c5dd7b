#!/usr/bin/env bash
# Runs the fuzz targets, each for a while. What breaks one is kept in fuzz/artifacts/.
#   scripts/fuzz.sh [TARGET]   FOR=20 is the time for each, in seconds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain
if [ ! -d fuzz/fuzz_targets ]; then
  echo "error: there are no fuzz targets in fuzz/fuzz_targets" >&2
  exit 1
fi
need_cargo_tool cargo-fuzz 0.13.2 || {
  echo "SKIPPED: fuzzing (no cargo-fuzz)"
  exit 0
}
# The sanitizer is a nightly feature; this lets the stable compiler have it.
export RUSTC_BOOTSTRAP=1
status=0
mapfile -t targets < <(cd fuzz/fuzz_targets && ls -- *.rs)
[ $# -eq 0 ] || targets=("$@")
for target in "${targets[@]%.rs}"; do
  echo "fuzzing $target for ${FOR:-20} s"
  # What is found goes to the first folder; recorded replies are where it begins.
  mkdir -p "fuzz/corpus/$target"
  cargo fuzz run "$target" "fuzz/corpus/$target" tests/fixtures/replies -- \
    -max_total_time="${FOR:-20}" -verbosity=0 -max_len=16384 -rss_limit_mb=1024 || status=1
done
exit "$status"

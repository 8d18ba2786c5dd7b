#!/usr/bin/env bash
# Everything that can be judged without running a test. All steps run, so that one run shows all there is to mend.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=scripts/toolchain.sh
source scripts/toolchain.sh
need_toolchain

deny_version=0.20.2
failed=()
skipped=()

# step NAME COMMAND...
step() {
  local name=$1
  shift
  echo "check: $name"
  "$@" || failed+=("$name")
}

step formatting cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -q -- -D warnings
step documentation env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace --locked -q

if need_cargo_tool cargo-deny "$deny_version"; then
  # The database of advisories is fetched from elsewhere; these three need only what Cargo.lock names.
  step 'crates are here' cargo fetch --locked -q
  step 'licences, duplicates, sources' cargo deny --offline --workspace -L error check licenses bans sources
else
  skipped+=('licences, duplicates, sources (no cargo-deny)')
fi

mapfile -t shell_scripts < <(git ls-files --cached --others --exclude-standard | grep -E '\.sh$|^\.ci/run$')
if command -v shellcheck >/dev/null || install_packages shellcheck; then
  step 'shell scripts' shellcheck -x "${shell_scripts[@]}"
else
  skipped+=('shell scripts (no shellcheck)')
fi

for name in "${skipped[@]}"; do echo "SKIPPED: $name"; done
for name in "${failed[@]}"; do echo "FAILED: $name"; done
echo "check: ${#failed[@]} failed, ${#skipped[@]} skipped"
[ ${#failed[@]} -eq 0 ]

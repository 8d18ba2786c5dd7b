# The compiler and what it needs, for the other scripts; source it at the root of the repository.
# shellcheck shell=bash
# shellcheck source=scripts/debian.sh
source scripts/debian.sh

# Ends the script where there is no cargo; installs a C compiler, which the linker and one crate need.
need_toolchain() {
  command -v cargo >/dev/null || {
    echo "error: no cargo here: install a Rust toolchain (https://rustup.rs) and put it on PATH" >&2
    exit 1
  }
  command -v cc >/dev/null || install_packages gcc libc6-dev
}

# need_cargo_tool NAME VERSION: installs a cargo subcommand from source unless it is there; false where it
# cannot be had.
need_cargo_tool() {
  local log
  cargo "${1#cargo-}" --version >/dev/null 2>&1 && return
  log=$(mktemp)
  echo "installing $1 $2 from source, which takes some minutes"
  timeout 1200 cargo install "$1" --version "$2" --locked >"$log" 2>&1 || tail -n 3 "$log" >&2
  rm -f "$log"
  cargo "${1#cargo-}" --version >/dev/null 2>&1
}

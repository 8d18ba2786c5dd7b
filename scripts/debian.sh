# Installing Debian packages, for the other scripts; source it.
# shellcheck shell=bash

# as_root COMMAND...: by sudo where we are not root.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "error: this needs root to run '$1 $2 …': run it as root or install sudo" >&2
    return 1
  fi
}

# packages_present NAME...: whether all of them are installed.
packages_present() {
  local seen
  seen=$(dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>/dev/null | grep -cx installed) || true
  [ "${seen:-0}" -eq $# ]
}

# Installs what is missing of these packages, without starting the services inside.
install_packages() {
  local policy=/usr/sbin/policy-rc.d ours='' status=0 name
  local wanted=()
  for name in "$@"; do
    packages_present "$name" || wanted+=("$name")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || {
    echo "error: no apt-get here: install ${wanted[*]} by hand" >&2
    return 1
  }
  echo "installing Debian packages: ${wanted[*]}"
  if [ ! -e "$policy" ]; then
    # Debian asks this file before it starts a service; 101 means no.
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || return 1
    as_root chmod 755 "$policy"
    ours=yes
  fi
  (
    # Left behind, it would keep every service of this machine from starting: it goes whatever happens here.
    [ -z "$ours" ] || trap 'as_root rm -f "$policy"' EXIT
    apt_install "${wanted[@]}"
  ) || status=1
  return $status
}

# All at once; where that fails, after a fresh look at the mirror; where that fails too, one by one.
apt_install() {
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  local name status=0
  as_root "${get[@]}" install --no-install-recommends "$@" >/dev/null 2>&1 && return
  as_root "${get[@]}" update >/dev/null || echo "apt-get update had errors" >&2
  as_root "${get[@]}" install --no-install-recommends "$@" >/dev/null && return
  for name in "$@"; do
    as_root "${get[@]}" install --no-install-recommends "$name" >/dev/null || status=1
  done
  return $status
}

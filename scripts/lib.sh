# Shared by the scripts in this directory (sourced, not run): messages, paths, and installing requirements.
# shellcheck shell=bash

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
# shellcheck disable=SC2034 # used by those who source this
root="$(dirname "$here")"
# Downloads and builds of tests; safe to delete at any time.
# shellcheck disable=SC2034
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/holofs-tests"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE...: makes sure that COMMAND can be found; as root on Debian or Ubuntu, by installing PACKAGE.
need() {
  local command="$1"; shift
  command -v "$command" >/dev/null 2>&1 && return 0
  apt_install "$@" || die "Cannot find '$command': install it first (Debian and Ubuntu: apt-get install $*)"
  command -v "$command" >/dev/null 2>&1 || die "Installed $* but still cannot find '$command'"
}

# apt_install PACKAGE...: installs as root with apt-get; fails (quietly) where that is not possible.
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

# need_pip PYTHON: makes sure that PYTHON can run pip.
need_pip() {
  "$1" -m pip --version >/dev/null 2>&1 && return 0
  apt_install python3-pip && "$1" -m pip --version >/dev/null 2>&1 && return 0
  die "Cannot run '$1 -m pip': install it first (Debian and Ubuntu: apt-get install python3-pip)"
}

# find_uv: prints the path of uv, which is kept in the cache directory; prints nothing if uv is not available.
find_uv() {
  local env="$cache/uv"
  if [ ! -x "$env/bin/uv" ]; then
    python3 -m venv "$env" >/dev/null 2>&1 || { need_pip python3; apt_install python3-venv && python3 -m venv "$env"; } >&2 || true
    "$env/bin/pip" install --quiet uv >/dev/null 2>&1 || { say "Cannot install uv: left out"; return 0; }
  fi
  printf '%s\n' "$env/bin/uv"
}

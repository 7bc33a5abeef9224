#!/bin/sh
# Installs holofs of a release for this user, on Linux with x86_64 or aarch64; the release workflow publishes it as install.sh:
#
#   curl -LsSf https://github.com/joshyorko/holofs/releases/latest/download/install.sh | sh
#
# HOLOFS_PREFIX is where it goes (default: ~/.local), HOLOFS_VERSION which version (default: the latest), HOLOFS_DOWNLOAD the address of
# a directory with the archives and SHA256SUMS (default: those of that release). Nothing is installed unless the checksum is right.
set -eu

die() { echo "install.sh: $*" >&2; exit 1; }
fetch() {
  if command -v curl >/dev/null 2>&1; then curl --fail --location --silent --show-error "$1"
  elif command -v wget >/dev/null 2>&1; then wget --quiet --output-document=- "$1"
  else die "Cannot download: install curl or wget first"; fi
}

main() {
  [ "$(uname -s)" = Linux ] || die "This script is for Linux; on other systems: cargo binstall holofs, or pip install holofs"
  arch="$(uname -m)"
  case "$arch" in x86_64 | aarch64) ;; *) die "There is no release for $arch: cargo install --locked holofs" ;; esac
  releases=https://github.com/joshyorko/holofs/releases
  if [ -n "${HOLOFS_VERSION:-}" ]; then from="$releases/download/v$HOLOFS_VERSION"; else from="$releases/latest/download"; fi
  from="${HOLOFS_DOWNLOAD:-$from}"
  prefix="${HOLOFS_PREFIX:-${HOME:?HOME is not set}/.local}"

  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  fetch "$from/SHA256SUMS" >"$work/SHA256SUMS" || die "Cannot download $from/SHA256SUMS"
  line="$(grep -- "-$arch-linux\.tar\.gz\$" "$work/SHA256SUMS")" || die "$from has no archive for $arch"
  archive="${line##* }"
  fetch "$from/$archive" >"$work/$archive" || die "Cannot download $from/$archive"
  (cd "$work" && echo "$line" | sha256sum -c - >/dev/null 2>&1) || die "The checksum of $archive is wrong: nothing was installed"
  tar -C "$work" -xzf "$work/$archive"
  tree="$work/${archive%.tar.gz}/usr"

  mkdir -p "$prefix/bin" "$prefix/share"
  # By rename: a running holofs goes on with its own file.
  cp "$tree/bin/holofs" "$prefix/bin/.holofs.new"
  mv -f "$prefix/bin/.holofs.new" "$prefix/bin/holofs"
  for part in man bash-completion zsh fish; do [ ! -d "$tree/share/$part" ] || cp -R "$tree/share/$part" "$prefix/share/"; done
  echo "Installed $("$prefix/bin/holofs" --version) as $prefix/bin/holofs"
  case ":$PATH:" in *":$prefix/bin:"*) ;; *) echo "Add $prefix/bin to PATH to find it" ;; esac
}

# At the end, so that a truncated download does nothing.
main "$@"

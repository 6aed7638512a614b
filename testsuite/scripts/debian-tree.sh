# For scripts that make a Debian tree and an image of it: sourced, under `set -euo pipefail`, with the script's name in $me. Needs
# root, because debootstrap makes a chroot.

fail() {
  echo "$me: $*" >&2
  exit 1
}

needs_root() {
  [ "$(id -u)" = 0 ] || fail "must run as root, because debootstrap makes a chroot"
  PATH=$PATH:/usr/sbin:/sbin
}

# Installs what is missing.
need_tools() { # need_tools COMMAND:PACKAGE...
  local tool missing=
  for tool in "$@"; do
    command -v "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
  done
  [ -n "$missing" ] || return 0
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
}

# The site of the first of apt's sources that has a suite.
mirror_of() { # mirror_of SUITE
  local mirror
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $1" 'Component: main' | sed -n 1p)
  [ -n "$mirror" ] || fail "apt's sources on this machine have no $1; add one and run apt-get update"
  echo "$mirror"
}

# A tree of packages by name, without what only people read. It has its name only when it is complete.
make_tree() { # make_tree TREE SUITE PACKAGES MIRROR LOG
  local tree=$1 suite=$2 packages=$3 mirror=$4 log=$5
  echo "$me: debootstrap $suite from $mirror"
  rm -rf "$tree" "$tree.partial"
  debootstrap --arch=amd64 --variant=minbase --include="$packages" "$suite" "$tree.partial" "$mirror" >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; fail "debootstrap failed"; }
  chroot "$tree.partial" apt-get clean
  rm -rf "$tree.partial"/var/lib/apt/lists/* "$tree.partial"/usr/share/{doc,man,locale} "$tree.partial/debootstrap"
  mv "$tree.partial" "$tree"
}

# A raw ext4 image of a tree, with little room beside it. It has its name only when it is complete.
write_image() { # write_image TREE IMAGE LABEL
  local size
  rm -f "$2.partial"
  size=$(($(du -sm "$1" | cut -f 1) * 115 / 100 + 64))
  truncate -s "${size}M" "$2.partial"
  mke2fs -q -t ext4 -F -L "$3" -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$1" "$2.partial"
  mv "$2.partial" "$2"
}

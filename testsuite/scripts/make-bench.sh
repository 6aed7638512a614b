#!/usr/bin/env bash
# Builds the guest of the benchmark command: a Debian 12 tree made from packages by name, our small programs in
# testsuite/bench/ compiled by that tree's own gcc, and a raw ext4 image of it for the emulators. The bare processor runs
# the same files under chroot.
#
#   make-bench.sh FOLDER      makes FOLDER/tree and FOLDER/bench.img; what is up to date already is kept
#
# Needs root (debootstrap makes a chroot); debootstrap and e2fsprogs are installed by name. No loop device is used.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=bookworm
packages=gcc,gcc-multilib,libc6-dev,python3,perl,mawk,gawk,luajit,nodejs,openssl,xz-utils,bzip2,gzip,busybox,coreutils,procps
seed=testsuite/bench

fail() {
  echo "make-bench.sh: $*" >&2
  exit 1
}

[ $# = 1 ] || fail "usage: make-bench.sh FOLDER"
[ "$(id -u)" = 0 ] || fail "must run as root, because debootstrap makes a chroot"
PATH=$PATH:/usr/sbin:/sbin
missing=
command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v mke2fs >/dev/null || missing="$missing e2fsprogs"
command -v unshare >/dev/null || missing="$missing util-linux"
if [ -n "$missing" ]; then
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
fi
mkdir -p "$1"
folder=$(realpath "$1")
tree=$folder/tree image=$folder/bench.img

exec 9>"$folder/lock"
flock 9

wanted="$suite $packages"
if [ "$(cat "$tree/bench/packages" 2>/dev/null)" != "$wanted" ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | head -n 1)
  [ -n "$mirror" ] || fail "apt's sources on this machine have no $suite; add one and run apt-get update"
  echo "make-bench.sh: debootstrap $suite from $mirror"
  rm -rf "$tree" "$folder/tree.partial" "$image"
  debootstrap --arch=amd64 --variant=minbase --include="$packages" "$suite" "$folder/tree.partial" "$mirror" \
    >"$folder/debootstrap.log" 2>&1 || { tail -n 5 "$folder/debootstrap.log" >&2; fail "debootstrap failed"; }
  chroot "$folder/tree.partial" apt-get clean
  rm -rf "$folder"/tree.partial/var/lib/apt/lists/* "$folder"/tree.partial/usr/share/{doc,man,locale} "$folder/tree.partial/debootstrap"
  mkdir "$folder/tree.partial/bench"
  echo "$wanted" >"$folder/tree.partial/bench/packages"
  mv "$folder/tree.partial" "$tree"
fi

sum=$(cat "$seed"/* "$0" | sha256sum)
if [ ! -f "$image" ] || [ "$(cat "$tree/bench/sum" 2>/dev/null)" != "$sum" ]; then
  echo "make-bench.sh: compiling $(ls "$seed"/*.c | wc -l) programs and writing $image"
  rm -rf "$tree/bench/src" "$tree/bench/bin" "$tree/bench/sum"
  mkdir -p "$tree/bench/src" "$tree/bench/bin" "$tree/bench/data"
  cp "$seed"/* "$tree/bench/src/"
  chmod +x "$tree/bench/src/agent.sh" "$tree/bench/src/build.sh"
  unshare --mount sh -c "mount --bind /dev '$tree/dev' && mount -t proc proc '$tree/proc' && exec chroot '$tree' /bench/src/build.sh" ||
    fail "the programs do not build"
  rm -f "$image.partial"
  size=$(($(du -sm "$tree" | cut -f 1) * 115 / 100 + 64))
  truncate -s "${size}M" "$image.partial"
  mke2fs -q -t ext4 -F -L calque-bench -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$tree" "$image.partial"
  mv "$image.partial" "$image"
  echo "$sum" >"$tree/bench/sum"
fi

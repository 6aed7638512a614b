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

me=make-bench.sh
. testsuite/scripts/debian-tree.sh

[ $# = 1 ] || fail "usage: make-bench.sh FOLDER"
needs_root
need_tools debootstrap:debootstrap mke2fs:e2fsprogs unshare:util-linux
mkdir -p "$1"
folder=$(realpath "$1")
tree=$folder/tree image=$folder/bench.img

exec 9>"$folder/lock"
flock 9

wanted="$suite $packages"
if [ "$(cat "$tree/bench/packages" 2>/dev/null)" != "$wanted" ]; then
  mirror=$(mirror_of "$suite")
  rm -f "$image"
  make_tree "$tree" "$suite" "$packages" "$mirror" "$folder/debootstrap.log"
  mkdir "$tree/bench"
  echo "$wanted" >"$tree/bench/packages"
fi

sum=$(cat "$seed"/* "$0" testsuite/scripts/debian-tree.sh | sha256sum)
if [ ! -f "$image" ] || [ "$(cat "$tree/bench/sum" 2>/dev/null)" != "$sum" ]; then
  echo "make-bench.sh: compiling $(ls "$seed"/*.c | wc -l) programs and writing $image"
  rm -rf "$tree/bench/src" "$tree/bench/bin" "$tree/bench/sum"
  mkdir -p "$tree/bench/src" "$tree/bench/bin" "$tree/bench/data"
  cp "$seed"/* "$tree/bench/src/"
  chmod +x "$tree/bench/src/agent.sh" "$tree/bench/src/build.sh"
  unshare --mount sh -c "mount --bind /dev '$tree/dev' && mount -t proc proc '$tree/proc' && exec chroot '$tree' /bench/src/build.sh" ||
    fail "the programs do not build"
  write_image "$tree" "$image" calque-bench
  echo "$sum" >"$tree/bench/sum"
fi

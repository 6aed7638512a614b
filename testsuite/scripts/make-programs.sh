#!/usr/bin/env bash
# Builds the guest of programs.sh: a Debian 12 tree made from packages by name, with the tests of Debian's perl source beside
# it, and a raw ext4 image of it. The bare processor runs the same files under chroot.
#
#   make-programs.sh FOLDER      makes FOLDER/tree and FOLDER/programs.img; what is up to date already is kept
#
# Needs root (debootstrap makes a chroot); debootstrap, dpkg-dev and e2fsprogs are installed by name. No loop device is used.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=bookworm
packages=gcc,libc6-dev,python3,libpython3.11-testsuite,python3-numpy,perl,libperl-dev,mawk,gawk,bc,dc,openssl,xz-utils,bzip2,gzip,zstd,lz4,brotli,sqlite3,ffmpeg,luajit

fail() {
  echo "make-programs.sh: $*" >&2
  exit 1
}

[ $# = 1 ] || fail "usage: make-programs.sh FOLDER"
[ "$(id -u)" = 0 ] || fail "must run as root, because debootstrap makes a chroot"
PATH=$PATH:/usr/sbin:/sbin
missing=
command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v mke2fs >/dev/null || missing="$missing e2fsprogs"
command -v dpkg-source >/dev/null || missing="$missing dpkg-dev"
if [ -n "$missing" ]; then
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
fi
mkdir -p "$1"
folder=$(realpath "$1")
tree=$folder/tree image=$folder/programs.img

exec 9>"$folder/lock"
flock 9

wanted="$suite $packages $(sha256sum <"$0")"
if [ -f "$image" ] && [ "$(cat "$folder/made-of" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | head -n 1)
[ -n "$mirror" ] || fail "apt's sources on this machine have no $suite; add one and run apt-get update"
rm -rf "$tree" "$image" "$folder/made-of"

echo "make-programs.sh: debootstrap $suite from $mirror"
debootstrap --arch=amd64 --variant=minbase --include="$packages" "$suite" "$tree" "$mirror" >"$folder/debootstrap.log" 2>&1 ||
  { tail -n 5 "$folder/debootstrap.log" >&2; fail "debootstrap failed"; }
chroot "$tree" apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale} "$tree/debootstrap"

# Perl's tests, beside a `lib` made of what is installed: both are of one version, and the tests look for ../lib.
package=$(bash testsuite/scripts/source-package.sh "$folder/source" perl "$mirror" "$suite")
mkdir -p "$folder/source/unpacked" "$tree/perl/cpan"
tar -xf "$package"/perl_*.orig.tar.* -C "$folder/source/unpacked" --strip-components 1
(
  cd "$folder/source/unpacked"
  cp -r t ./*.c ./*.h "$tree/perl/"
  cp -r lib "$tree/perl/tests-of-lib"
  cp -r cpan/Math-* cpan/bignum "$tree/perl/cpan/"
)
rm -rf "$folder/source"
chroot "$tree" sh -c 'mkdir -p /perl/lib && cp -rsn /usr/lib/x86_64-linux-gnu/perl-base/. /usr/lib/x86_64-linux-gnu/perl/5.36/. /usr/share/perl/5.36/. /perl/lib/'
# The guest's first program: what it does is on the second disk, so that a change of the jobs needs no new image.
mkdir -p "$tree/work"
printf '#!/bin/sh\nmount -t ext4 /dev/vdb /work && exec /work/programs/agent.sh\n' >"$tree/start"
chmod +x "$tree/start"

echo "make-programs.sh: writing $image"
rm -f "$image.partial"
size=$(($(du -sm "$tree" | cut -f 1) * 115 / 100 + 64))
truncate -s "${size}M" "$image.partial"
mke2fs -q -t ext4 -F -L calque-programs -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$tree" "$image.partial"
mv "$image.partial" "$image"
echo "$wanted" >"$folder/made-of"

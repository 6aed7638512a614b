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

me=make-programs.sh
. testsuite/scripts/debian-tree.sh

[ $# = 1 ] || fail "usage: make-programs.sh FOLDER"
needs_root
need_tools debootstrap:debootstrap mke2fs:e2fsprogs dpkg-source:dpkg-dev
mkdir -p "$1"
folder=$(realpath "$1")
tree=$folder/tree image=$folder/programs.img

exec 9>"$folder/lock"
flock 9

wanted="$suite $packages $(cat "$0" testsuite/scripts/debian-tree.sh | sha256sum)"
if [ -f "$image" ] && [ "$(cat "$folder/made-of" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
mirror=$(mirror_of "$suite")
rm -f "$image" "$folder/made-of"
make_tree "$tree" "$suite" "$packages" "$mirror" "$folder/debootstrap.log"

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
mkdir -p "$tree/jobs"
printf '#!/bin/sh\nmount -t ext4 /dev/vdb /jobs && exec /jobs/programs/agent.sh\n' >"$tree/start"
chmod +x "$tree/start"

echo "make-programs.sh: writing $image"
write_image "$tree" "$image" calque-programs
echo "$wanted" >"$folder/made-of"

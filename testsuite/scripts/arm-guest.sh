#!/usr/bin/env bash
# Debian's kernel as 64-bit Arm code under qemu-user: boots a small Debian root that runs python3, openssl and a program
# compiled for x86-64-v3, and compares what they print with the same files on this processor. With one processor, with
# two, and on a host whose pages have 16 KiB.
#
#   arm-guest.sh CALQUE [RUN...]      RUN: one, two, pages (by default all); CALQUE: as Arm code, started by qemu-user's options
#                                     in CALQUE_QEMU
#
# CALQUE_TREE names a Debian tree with python3 and openssl, which is only read; otherwise debootstrap makes one. Needs
# root, an x86-64-v3 processor, gcc with static libraries, e2fsprogs. Takes from minutes to an hour, by the machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
me=arm-guest.sh
. testsuite/scripts/debian-tree.sh

[ $# -ge 1 ] || fail "usage: arm-guest.sh CALQUE [one|two|pages...]"
calque=$(realpath "$1")
shift
runs=("$@")
[ $# -gt 0 ] || runs=(one two pages)
needs_root
grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo && grep -qw f16c /proc/cpuinfo ||
  fail "this processor is no x86-64-v3: there is nothing to compare with"
need_tools debootstrap:debootstrap mke2fs:e2fsprogs gcc:gcc

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/arm-guest
mkdir -p "$folder"
tree=${CALQUE_TREE:-$folder/tree}
if ! [ -e "$tree/usr/bin/python3" ]; then
  mirror=$(mirror_of bookworm)
  make_tree "$tree" bookworm python3,openssl,busybox "$mirror" "$folder/debootstrap.log"
fi

# The programs with their libraries, python3's modules, and what is checked.
root=$folder/root
rm -rf "$root"
mkdir -p "$root"/{dev,proc,sys,run,tmp,bin,usr/bin,usr/lib,etc,check}
programs=(usr/bin/python3 usr/bin/openssl usr/bin/busybox usr/bin/sed usr/bin/dash)
(cd "$tree" && cp -L --parents "${programs[@]}" "$root")
cp "$root/usr/bin/dash" "$root/bin/sh"
cp -r "$tree/usr/lib/python3.11" "$root/usr/lib/"
rm -rf "$root"/usr/lib/python3.11/{test,idlelib,ensurepip,distutils,lib2to3,pydoc_data,__pycache__}
(cd "$root" && find "${programs[@]}" usr/lib/python3.11/lib-dynload -type f | sed 's|^|/|') >"$folder/files"
# shellcheck disable=SC2046
chroot "$tree" ldd $(cat "$folder/files") 2>/dev/null | sed -n 's|.*=> \(/[^ ]*\) .*|\1|p; s|^\t\(/[^ ]*\) .*|\1|p' | sort -u | while read -r library; do
  [ -e "$root$library" ] || (cd "$tree" && cp -L --parents ".$library" "$root")
done
mkdir -p "$root/usr/lib/x86_64-linux-gnu"
cp -r "$tree/usr/lib/x86_64-linux-gnu/ossl-modules" "$root/usr/lib/x86_64-linux-gnu/" 2>/dev/null || true
cp testsuite/guests/arm/* "$root/check/"
chmod +x "$root"/check/*.sh
gcc -O2 -march=x86-64-v3 -static -o "$root/check/float" testsuite/guests/arm/float.c -lm
head -c 300000 "$root/usr/bin/python3" >"$root/check/data"
openssl genrsa -out "$root/check/key.pem" 2048 2>/dev/null
write_image "$root" "$folder/root.img" calque-arm

# What this processor says.
unshare --mount chroot "$root" /check/check.sh >"$folder/expected" 2>&1
grep -q @@end "$folder/expected" && ! grep -q "^Traceback" "$folder/expected" || { cat "$folder/expected"; fail "the checks do not run here"; }

guest() { find ~/.cache/calque/debian -maxdepth 1 -name '*cloud*' 2>/dev/null | sort | tail -n 1; }
if [ -z "$(guest)" ]; then
  # Whatever becomes of the run: it prepares the guest.
  timeout 300 cargo run -q -p calque -- run debian </dev/null >"$folder/prepare.log" 2>&1 || true
fi
guest=$(guest)
[ -n "$guest" ] || { tail -n 5 "$folder/prepare.log" >&2; fail "'calque run debian' has prepared no guest"; }

status=0
for run in "${runs[@]}"; do
  cpus=1 more=
  case $run in
  one) ;;
  two) cpus=2 ;;
  pages) more="-p 16384" ;;
  *) fail "no such run: $run" ;;
  esac
  begun=$(date +%s)
  # shellcheck disable=SC2086
  timeout "${CALQUE_GUEST_SECONDS:-3600}" ${CALQUE_QEMU:-qemu-aarch64-static} $more "$calque" qemu --engine jit -cpu max -m 512 -smp $cpus \
    -nodefaults -display none -serial stdio -no-reboot -kernel "$guest/vmlinuz" -initrd "$guest/initrd.gz" \
    -append "console=ttyS0 quiet root=/dev/vda ro init=/check/init.sh" \
    -drive "file=$folder/root.img,if=virtio,format=raw,readonly=on" </dev/null >"$folder/$run.log" 2>"$folder/$run.err" ||
    echo "arm-guest.sh: $run: status $?"
  tr -d '\r' <"$folder/$run.log" | sed -n '/^@@python3/,/^@@end/p' >"$folder/$run.got"
  if grep -q "^@@processors $cpus" <(tr -d '\r' <"$folder/$run.log") && cmp -s "$folder/$run.got" "$folder/expected"; then
    echo "arm-guest.sh: $run: as on this processor, $(($(date +%s) - begun)) s"
  else
    echo "arm-guest.sh: $run: differs"
    diff "$folder/expected" "$folder/$run.got" | head -n 20 || true
    tail -n 5 "$folder/$run.log" "$folder/$run.err"
    status=1
  fi
done
exit $status

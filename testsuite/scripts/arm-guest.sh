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
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "arm-guest.sh: $*" >&2
  exit 1
}

[ $# -ge 1 ] || fail "usage: arm-guest.sh CALQUE [one|two|pages...]"
calque=$(realpath "$1")
shift
runs=("$@")
[ $# -gt 0 ] || runs=(one two pages)
[ "$(id -u)" = 0 ] || fail "must run as root, because it makes and enters a Debian tree"
grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo && grep -qw f16c /proc/cpuinfo ||
  fail "this processor is no x86-64-v3: there is nothing to compare with"
for tool in debootstrap:debootstrap mke2fs:e2fsprogs gcc:gcc; do
  command -v "${tool%:*}" >/dev/null && continue
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tool#*:}" >/dev/null
done

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/arm-guest
mkdir -p "$folder"
tree=${CALQUE_TREE:-$folder/tree}
if ! [ -e "$tree/usr/bin/python3" ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
  rm -rf "$tree.partial"
  debootstrap --variant=minbase --include=python3,openssl,busybox bookworm "$tree.partial" "$mirror" >"$folder/debootstrap.log" 2>&1 ||
    { tail -n 5 "$folder/debootstrap.log" >&2; fail "debootstrap failed"; }
  mv "$tree.partial" "$tree"
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
rm -f "$folder/root.img"
truncate -s "$(($(du -sm "$root" | cut -f 1) * 12 / 10 + 32))M" "$folder/root.img"
mke2fs -q -t ext4 -F -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$root" "$folder/root.img"

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

#!/usr/bin/env bash
# Builds a Debian 12 root file system with systemd, gcc, python3, perl and openssl as a raw ext4 image.
#
#   make-rootfs.sh IMAGE [SIZE]      SIZE as truncate(1) takes it, 2G by default
#
# Packages come from the mirror in this machine's own apt sources. Needs root (debootstrap makes a chroot),
# debootstrap and mke2fs; no loop device is used. The image appears under its name only when it is complete.
# Inside, root logs in on the console without a password, and nothing needs a network.
set -euo pipefail

suite=bookworm
packages=systemd,systemd-sysv,udev,kmod,e2fsprogs,gcc,libc6-dev,python3,perl,openssl

me=make-rootfs
. "$(dirname "$0")/debian-tree.sh"

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: make-rootfs.sh IMAGE [SIZE]"
image=$1
size=${2:-2G}
needs_root
for tool in debootstrap mke2fs apt-get chroot; do
    command -v "$tool" >/dev/null || fail "\`$tool\` is missing (apt-get install debootstrap e2fsprogs)"
done
[ -d "$(dirname "$image")" ] || fail "no folder $(dirname "$image")"

mirror=$(mirror_of "$suite")

work=$(mktemp -d "${TMPDIR:-/tmp}/make-rootfs.XXXXXX")
partial=$image.partial.$$
trap 'rm -rf "$work" "$partial"' EXIT
trap 'exit 130' INT TERM
tree=$work/tree

echo "make-rootfs: debootstrap $suite from $mirror"
debootstrap --arch=amd64 --variant=minbase --include="$packages" "$suite" "$tree" "$mirror" >"$work/log" 2>&1 || {
    tail -n 5 "$work/log" "$tree/debootstrap/debootstrap.log" >&2 || true
    fail "debootstrap failed"
}

echo calque >"$tree/etc/hostname"
printf '127.0.0.1 localhost calque\n::1 localhost\n' >"$tree/etc/hosts"
echo 'LABEL=calque-root / ext4 errors=remount-ro 0 1' >"$tree/etc/fstab"
chroot "$tree" passwd -d root >/dev/null
chroot "$tree" systemd-machine-id-setup >/dev/null 2>&1
chroot "$tree" systemctl enable serial-getty@ttyS0.service >/dev/null 2>&1
# What needs a network, a module this image does not carry, or only makes benchmarks wander.
chroot "$tree" systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
    dpkg-db-backup.timer proc-sys-fs-binfmt_misc.automount getty-static.service systemd-networkd-wait-online.service >/dev/null 2>&1
chroot "$tree" apt-get clean
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/log/*.log "$tree"/var/log/apt "$tree"/debootstrap
rm -f "$tree/etc/resolv.conf"

echo "make-rootfs: writing $image"
truncate -s "$size" "$partial"
# Inode tables are written now, so that the guest's kernel has no background work to do.
mke2fs -q -t ext4 -F -L calque-root -m 0 -E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$partial"
mv "$partial" "$image"
echo "make-rootfs: done; boot it with root=/dev/vda"

#!/bin/sh
# The first program of the guest of arm-guest.sh.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/ttyS0 >/dev/ttyS0 2>&1
busybox stty -onlcr
busybox mount -t proc proc /proc
busybox mount -t tmpfs tmpfs /tmp
echo "@@processors $(busybox grep -c ^processor /proc/cpuinfo)"
/check/check.sh
busybox poweroff -f

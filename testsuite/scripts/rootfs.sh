#!/usr/bin/env bash
# A whole Debian 12 (systemd, gcc, python3, perl, openssl) on a virtio disk: boots to a login, compares what its programs
# print with the same programs on this processor, kills calque and checks the disk. Takes minutes; needs root.
#
#   rootfs.sh [TEST...]       cloud_jit (the default), generic_jit, cloud_interp
#
# CALQUE_ROOTFS names the disk image; if it is not there it is made (by make-rootfs.sh). It is only ever copied.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

[ "$(id -u)" = 0 ] || { echo "rootfs.sh: must run as root: it makes and enters a Debian tree" >&2; exit 1; }
missing=
command -v debootstrap >/dev/null || missing="$missing debootstrap"
command -v debugfs >/dev/null || missing="$missing e2fsprogs"
if [ -n "$missing" ]; then
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CALQUE_ROOTFS=${CALQUE_ROOTFS:-$target/rootfs.img}
[ -f "$CALQUE_ROOTFS" ] || bash testsuite/scripts/make-rootfs.sh "$CALQUE_ROOTFS"

cargo build --release --package calque
export CALQUE_BIN=${CALQUE_BIN:-$target/release/calque} CALQUE_DEBIAN=1 CALQUE_ENGINES=interp,jit
tests=("$@")
[ $# -gt 0 ] || tests=(cloud_jit)
exec cargo test --package testsuite --test rootfs -- --include-ignored --nocapture --test-threads 1 --exact "${tests[@]}"

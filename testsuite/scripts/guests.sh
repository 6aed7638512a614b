#!/usr/bin/env bash
# The tests that run calque itself, with small guests and with Debian's kernels on every engine: see docs/testing.md.
#
#   guests.sh [FILTER...]     only tests whose names contain one of the words
#
# Nothing is skipped here: QEMU and e2fsprogs are installed by name when this runs as root on Debian, and the Debian
# guests are made from packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=
PATH=$PATH:/usr/sbin:/sbin
command -v qemu-system-x86_64 >/dev/null || missing="$missing qemu-system-x86"
command -v mke2fs >/dev/null && command -v debugfs >/dev/null || missing="$missing e2fsprogs"
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "guests.sh: needs the packages:$missing" >&2
    exit 1
  fi
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

cargo build --release --package calque
target=${CARGO_TARGET_DIR:-target}
export CALQUE_BIN=${CALQUE_BIN:-$target/release/calque}
# What has to be there: without these words a test that lacks something says so and passes.
export CALQUE_DEBIAN=1
case $(uname -m) in
  x86_64 | aarch64) export CALQUE_ENGINES=interp,jit,lockstep ;;
  *) export CALQUE_ENGINES=interp ;;
esac

files=()
for name in cli_errors endings smp boot_debian disk idle; do files+=(--test "$name"); done
jobs=${CALQUE_GUEST_JOBS:-2}
if command -v cargo-nextest >/dev/null; then
  exec cargo nextest run --config-file testsuite/nextest.toml --package testsuite "${files[@]}" --run-ignored all --no-fail-fast --test-threads "$jobs" \
    --success-output never --status-level pass "$@"
fi
exec cargo test --package testsuite "${files[@]}" --no-fail-fast -- --include-ignored --test-threads "$jobs" "$@"

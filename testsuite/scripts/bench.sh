#!/usr/bin/env bash
# The benchmark command: the same programs bare, in calque and in QEMU, by turns. See docs/benchmarks.md.
#
#   bench.sh [--only NAMES] [--runs N] [--quick] [--explain] [--qemu PROGRAM]... [--calque-args OPTIONS] [--out FOLDER]
#   bench.sh nightly STORED.json [options as above]     measure, and say what got worse; status 1 if something did
#   bench.sh compare OLD.json NEW.json
#   bench.sh list
#
# CALQUE_BIN names the calque to measure; without it the release build is made and taken. CALQUE_BENCH names the folder of
# the guest (target/bench), which make-bench.sh fills on first use: root, apt and some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CALQUE_BENCH=${CALQUE_BENCH:-$target/bench}
cargo build --quiet --release --package testsuite --bin bench
case ${1:-} in
  compare | list | help | --help | -h) exec "$target/release/bench" "$@" ;;
esac
if [ -z "${CALQUE_BIN:-}" ]; then
  cargo build --quiet --release --package calque
  CALQUE_BIN=$target/release/calque
fi
CALQUE_BIN=$(realpath "$CALQUE_BIN")
export CALQUE_BIN
bash testsuite/scripts/make-bench.sh "$CALQUE_BENCH"
if ! command -v qemu-system-x86_64 >/dev/null && [[ " $* " != *" --qemu "* ]]; then
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends qemu-system-x86 >/dev/null
fi
exec "$target/release/bench" "$@"

#!/usr/bin/env bash
# Real programs in a Debian guest under `-cpu max`, and the very same files on this processor: coreutils, openssl, python3's,
# perl's and numpy's numbers, gcc, sqlite3, compressors, ffmpeg, small languages. What they print has to be the same.
#
#   programs.sh [ENGINE|JOB]...       engines: jit (the default), interp; jobs: files of testsuite/programs/ (all)
#
# CALQUE_PROGRAMS names the folder of the guest (target/programs), which make-programs.sh fills on first use: root, apt, minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

engines=() jobs=()
for word in "$@"; do
  case $word in
    jit | interp) engines+=("$word") ;;
    *) jobs+=("$word") ;;
  esac
done
[ ${#engines[@]} -gt 0 ] || engines=(jit)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CALQUE_PROGRAMS=${CALQUE_PROGRAMS:-$target/programs}
bash testsuite/scripts/make-programs.sh "$CALQUE_PROGRAMS"
cargo build --release --package calque
export CALQUE_BIN=${CALQUE_BIN:-$target/release/calque} CALQUE_DEBIAN=1 CALQUE_JOBS="${jobs[*]}"
exec cargo test --package testsuite --test programs -- --include-ignored --nocapture --test-threads 1 --exact "${engines[@]}"

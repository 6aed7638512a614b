#!/usr/bin/env bash
# Builds the workspace for 64-bit Arm Linux with Debian's cross toolchain and runs its tests under qemu-user.
#
#   arm.sh                    the tests, as in CI
#   arm.sh guest [RUN...]     Debian's kernel with python3, openssl and floating point: see arm-guest.sh; takes long
#   arm.sh count [PROGRAM...] Arm instructions executed for each guest instruction: see arm-count.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

me=arm.sh
. testsuite/scripts/cross-tools.sh

host_target=${CARGO_TARGET_DIR:-target}
host_rustc=${RUSTC:-rustc}
arm_tools
# A test that hangs ends with an error.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="timeout 1200 $qemu"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/arm
if [ "${1:-}" = guest ]; then
  shift
  cargo build --release --target aarch64-unknown-linux-gnu -p calque
  calque=$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/release/calque
  RUSTC=$host_rustc CARGO_TARGET_DIR=$host_target CALQUE_QEMU=$qemu exec bash testsuite/scripts/arm-guest.sh "$calque" "$@"
fi
if [ "${1:-}" = count ]; then
  shift
  cargo build --target aarch64-unknown-linux-gnu -p calque
  CALQUE_QEMU=$qemu exec bash testsuite/scripts/arm-count.sh "$CARGO_TARGET_DIR/aarch64-unknown-linux-gnu/debug/calque" "$@"
fi
# Tests under qemu-user are slow, so they take their short form.
export CALQUE_TEST_SCALE=${CALQUE_TEST_SCALE:-0.05}
cargo test --target aarch64-unknown-linux-gnu -p emu-core -p frontend-x86 -p interp -p devices --lib
# Arm code against the evaluator, block by block; by default 4000 random blocks, with and without passes, a second time
# without optional features.
CALQUE_SEEDS=${CALQUE_SEEDS:-400} cargo test --target aarch64-unknown-linux-gnu -p backend-jit --lib --tests
CALQUE_TEST_SCALE=1 cargo test --target aarch64-unknown-linux-gnu -p testsuite --test stretches
# Other ones each day.
for seed in "$(date +%j)" "$(date +1%j)"; do
  CALQUE_TEST_SCALE=0.5 CALQUE_TEST_SEED=$seed cargo test --target aarch64-unknown-linux-gnu -p testsuite --test stretches
done
# What deals with pages of the host, on one whose pages have 16 KiB.
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="timeout 1200 $qemu -p 16384" \
  cargo test --target aarch64-unknown-linux-gnu -p emu-core -p backend-jit --lib -- mem:: pages:: mmu:: arena::
cargo build --target aarch64-unknown-linux-gnu -p calque
# What the host's processor gives is what interpreter and translation give as Arm code.
calque=$(realpath "$CARGO_TARGET_DIR")/aarch64-unknown-linux-gnu/debug/calque
if [ "$(uname -m)" = x86_64 ]; then
  record=$CARGO_TARGET_DIR/recorded.txt
  slice="--seed $(date +%j) --cases ${CALQUE_RECORDED_CASES:-20000}"
  RUSTC=$host_rustc CARGO_TARGET_DIR=$host_target cargo run -p calque -- diff $slice --legs host --record "$record"
  timeout 1200 $qemu "$calque" diff $slice --legs jit --recorded "$record"
fi
# The built-in guest as Arm code, driven by the host's test: page faults, traps, code that changes itself, power off.
wrapper=$(realpath "$CARGO_TARGET_DIR")/calque-arm
printf '#!/bin/sh\nexec %s %s "$@"\n' "$qemu" \
  "$calque" >"$wrapper"
chmod +x "$wrapper"
# And litmus tests of the order of memory on two processors.
export RUSTC=$host_rustc CARGO_TARGET_DIR=$host_target CALQUE_BIN=$wrapper CALQUE_ENGINES=jit,lockstep
cargo test -p testsuite --test monitor -- translated in_lockstep
cargo test -p testsuite --test smp -- order_messages_code_and_interrupts

#!/usr/bin/env bash
# Arm instructions executed in translated code for each guest instruction, by programs of testsuite/bench/ without a system
# around them, as a table in Markdown. qemu-user executes one instruction at a time and says where it is.
#
#   arm-count.sh CALQUE [PROGRAM...]    CALQUE: as Arm code, started by qemu-user's options in CALQUE_QEMU
#
# CALQUE_HOT=FILE also writes what was executed there, most often first, by address.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -ge 1 ] || { echo "usage: arm-count.sh CALQUE [PROGRAM...]" >&2; exit 1; }
calque=$(realpath "$1")
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Name, kind, flags of gcc, command line: from half a million to five million instructions each.
programs="sieve|integer|-O2|100000 1
quicksort|integer|-O2|10000 1
fannkuch|integer|-O2|7
calls|integer|-O2|17 3
calls-32|integer|-O2 -m32|17 3
bytecode|integer|-O2|10000
sha256|integer|-O2|4096 2
blur-v3|SIMD|-O3 -march=x86-64-v3|96 4
matmul-v3|SIMD|-O3 -march=x86-64-v3|48 1
mandelbrot-v3|SIMD|-O3 -march=x86-64-v3|24 50
nbody-v3|SIMD|-O3 -march=x86-64-v3|2000"

bare="-static -nostdlib -no-pie -fno-pie -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables
  -fno-tree-loop-distribute-patterns -Wl,-Ttext=0x400000,-n,--build-id=none,--no-warn-rwx-segments"

run() { # run QEMU-OPTIONS... -- CALQUE-OPTIONS...
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  # shellcheck disable=SC2086
  timeout 600 ${CALQUE_QEMU:-qemu-aarch64-static} -E MALLOC_ARENA_MAX=1 "${options[@]}" "$calque" run "$folder/program" --cpu max -m 64M \
    --serial null --debugcon stdio --debug-exit "$@" </dev/null
}

echo "| program | kind | guest instructions | Arm instructions | for each |"
echo "|---|---|---|---|---|"
while IFS='|' read -r name kind flags line; do
  [ $# = 0 ] || [[ " $* " = *" $name "* ]] || continue
  source=testsuite/bench/${name%-*}.c
  args="\"$name\""
  for word in $line; do args="$args, \"$word\""; done
  # shellcheck disable=SC2086
  gcc $flags -fno-math-errno -w $bare -DARGS="$args" -o "$folder/program" testsuite/guests/arm-count/bare.c "$source"
  # shellcheck disable=SC2086
  gcc $flags -fno-math-errno -w -o "$folder/here" "$source"
  # shellcheck disable=SC2086
  "$folder/here" $line >"$folder/expected"
  # A run that counts for itself executes more: two runs.
  run -- --stats >"$folder/got" 2>"$folder/stats" || true
  cmp -s "$folder/got" "$folder/expected" || { echo "arm-count.sh: $name: prints something else than here" >&2; exit 1; }
  # Where the arena is: at the same place each time, without memory pools of threads. Only what is there is written down.
  run -strace -D "$folder/strace" -- >/dev/null 2>&1 || true
  arena=$(sed -n 's/.*mmap(0x.*,134217728,PROT_EXEC.* = 0x0*\([0-9a-f]*\).*/\1/p' "$folder/strace" | head -n 1)
  mkfifo "$folder/log"
  awk '/^Trace/ { n++; at[substr($0, index($0, "/") + 1, 16)]++ }
    END { print n + 0 > total; for (a in at) print at[a], a > hot }' total="$folder/total" hot="$folder/hot" "$folder/log" &
  run -singlestep -d exec,nochain -dfilter "0x$arena+0x8000000" -D "$folder/log" -- >/dev/null 2>&1 || true
  wait
  rm "$folder/log"
  [ "$(cat "$folder/total")" != 0 ] || { echo "arm-count.sh: $name: the code was not where it had been" >&2; exit 1; }
  [ -z "${CALQUE_HOT:-}" ] || sort -rn "$folder/hot" >"$CALQUE_HOT"
  guest=$(awk '/ guest instructions$/ { print $1 }' "$folder/stats")
  arm=$(cat "$folder/total")
  echo "| $name | $kind | $guest | $arm | $(awk "BEGIN { printf \"%.2f\", $arm / $guest }") |"
done <<<"$programs"

#!/usr/bin/env bash
# Instruction tests that others have published, from Debian's source packages, in a Debian guest and on this processor: they
# have to print the same and end the same. Fetches the sources by apt, builds the programs with gcc, commits nothing.
#
#   published.sh [SUITE|ENGINE]...       suites: valgrind qemu gcc (all); engines: jit (the default), interp
#
#   valgrind   none/tests/amd64 and x86
#   qemu       tests/tcg/i386, x86_64 and what of multiarch is about arithmetic
#   gcc        gcc.target/i386: what is `dg-do run` and asks for nothing that calque does not offer; gcc.dg/vect
#
# Needs gcc (with libc6-dev-i386 for the 32-bit half), perl, python3, e2fsprogs, dpkg-dev; installs them when run as root on
# Debian. CALQUE_PUBLISHED names the folder with the programs; a suite that is not there is made by published/SUITE.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CALQUE_PUBLISHED=${CALQUE_PUBLISHED:-$target/published}

need() { # need FILE-OR-COMMAND PACKAGE
  command -v "$1" >/dev/null || [ -e "$1" ] && return 0
  [ "$(id -u)" = 0 ] || { echo "published.sh: needs the package $2" >&2; exit 1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

suites=() engines=()
for word in "$@"; do
  case $word in
    valgrind | qemu | gcc) suites+=("$word") ;;
    jit | interp) engines+=("$word") ;;
    *) echo "published.sh: neither a suite (valgrind qemu gcc) nor an engine (jit interp): $word" >&2; exit 2 ;;
  esac
done
[ ${#suites[@]} -gt 0 ] || suites=(valgrind qemu gcc)
[ ${#engines[@]} -gt 0 ] || engines=(jit)

need gcc gcc
need perl perl
need python3 python3
need dpkg-source dpkg-dev
need /usr/lib32/libc.a libc6-dev-i386
need mke2fs e2fsprogs
tests=()
for suite in "${suites[@]}"; do
  if [ ! -d "$CALQUE_PUBLISHED/$suite" ]; then
    work=$CALQUE_PUBLISHED/work-$suite
    rm -rf "$work"
    mkdir -p "$work/bin"
    bash "testsuite/scripts/published/$suite.sh" "$work"
    mv "$work/bin" "$CALQUE_PUBLISHED/$suite"
    rm -rf "$work"
  fi
  for engine in "${engines[@]}"; do tests+=("${suite}_$engine"); done
done

cargo build --release --package calque
export CALQUE_BIN=${CALQUE_BIN:-$target/release/calque} CALQUE_DEBIAN=1
exec cargo test --package testsuite --test published -- --include-ignored --nocapture --test-threads 1 --exact "${tests[@]}"

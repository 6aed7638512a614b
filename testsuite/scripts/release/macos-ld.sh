#!/usr/bin/env bash
# What rustc calls as the linker for macOS: zig's, from $CALQUE_ZIG, for the zig target in $CALQUE_ZIG_TARGET. zig brings a stub of
# libSystem only, which has what std asks libiconv for, and knows no -arch. -S leaves out where objects with debugging information were.
set -euo pipefail
args=()
while [ $# -gt 0 ]; do
  case $1 in
    -arch) shift ;;
    -liconv | -mmacosx-version-min=*) ;;
    *) args+=("$1") ;;
  esac
  shift
done
exec "$CALQUE_ZIG" cc -target "$CALQUE_ZIG_TARGET" -Wl,-S "${args[@]}"

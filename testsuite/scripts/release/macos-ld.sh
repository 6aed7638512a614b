#!/usr/bin/env bash
# What rustc calls as the linker for macOS: zig's, from $CALQUE_ZIG, for the zig target in $CALQUE_ZIG_TARGET. zig brings a stub of
# libSystem only, which has what std asks libiconv for, knows no -arch, and has the version from the target. -S leaves out where
# objects with debugging information were.
set -euo pipefail
args=()
while [ $# -gt 0 ]; do
  case $1 in
    -arch) shift ;;
    -platform_version) shift 3 ;;
    -liconv | -mmacosx-version-min=*) ;;
    *) args+=("$1") ;;
  esac
  shift
done
exec "$CALQUE_ZIG" cc -target "$CALQUE_ZIG_TARGET" -Wl,-S "${args[@]}"

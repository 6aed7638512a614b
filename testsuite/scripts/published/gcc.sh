#!/usr/bin/env bash
# gcc's tests of intrinsics and of vector code, for published.sh: gcc.sh FOLDER makes FOLDER/bin. Each is a program that aborts
# when a result is wrong; with DEBUG most also say that they have passed, or that they were skipped for want of a feature.
# They are linked with this machine's libc, which goes along in bin/lib.
set -euo pipefail
here=$(dirname "$0")
work=$1
major=$(gcc -dumpversion | cut -d . -f 1)
mkdir -p "$work/deb"
(cd "$work/deb" && apt-get -qq -o APT::Sandbox::User=root download "gcc-$major-source" && dpkg-deb -x ./*.deb .)
tar -xf "$work"/deb/usr/src/gcc-"$major"/gcc-"$major"*.tar.* -C "$work" --strip-components 1 --wildcards \
  '*/gcc/testsuite/gcc.target/i386' '*/gcc/testsuite/gcc.dg' '*/gcc/testsuite/c-c++-common' '*/gcc/testsuite/gcc.c-torture'
rm -rf "$work/deb"
top=$work/gcc/testsuite

# What no x86-64-v3 processor has, and what the processors of one maker have had for a while.
absent='avx512|avx5124|amx|xop|fma4|3dnow|tbm|lwp|rtm|hle|gfni|avxvnni|uintr|keylocker|[^a-z]kl|widekl|ptwrite|cet|shstk|enqcmd|movdir|waitpkg|serialize|tsxldtrk|hreset|sgx|pconfig|wbnoinvd'

wanted() { # wanted SOURCE 32|64
  local heads
  heads=$(grep -E 'dg-(do|require|options|additional|skip)' "$1")
  grep -Eq 'dg-do[[:space:]]+run' <<<"$heads" || return 1
  ! grep -Eqi "$absent" <<<"$heads" || return 1
  ! grep -Eq 'maybe_x32|target x32|split_stack|lto|dg-additional-sources|-mx32|ms_hook_prologue' <<<"$heads" || return 1
  if [ "$2" = 32 ]; then
    ! grep -Eq '! ?ia32|lp64|int128|-m64' <<<"$heads"
  else
    ! grep -Eq '(effective-target|run \{ target) ia32|-m32|! ?lp64' <<<"$heads"
  fi
}

options() { # the words of dg-options and dg-additional-options, without those that ask for files
  perl -ne 'print "$1 " if /dg-(?:additional-)?options\s+"([^"]*)"\s*\}?\s*(\{ *target [^}]*ia32|\{ *target [^}]*lp64)?/ && !$2' "$1" |
    sed -E 's/-{1,2}save-temps|-fdump-[^ ]*//g'
}

# What is to be built: a line each of name, source and flags, with tabs between.
{
  for bits in 64 32; do
    for source in "$top"/gcc.target/i386/*.c; do
      wanted "$source" $bits || continue
      printf '%s\t%s\t%s\n' "i386-$(basename "$source" .c)-$bits" "$source" "-m$bits $(options "$source")"
    done
  done
  # The vectoriser's tests: what has a main() runs unless it says otherwise.
  for source in "$top"/gcc.dg/vect/*.c; do
    ! grep -Eq 'dg-do[[:space:]]+(compile|link|assemble)|dg-additional-sources|dg-require-effective-target (arm|aarch64|power|vect_simd_clones)' "$source" || continue
    grep -Eq '\<main\>' "$source" || continue
    printf '%s\t%s\t%s\n' "vect-$(basename "$source" .c)" "$source" \
      "-O2 -ftree-vectorize -fno-vect-cost-model -march=x86-64-v3 $(options "$source")"
  done
} >"$work/jobs"

# The intrinsics' headers take most of the time: for flags that come more than once they are compiled first.
folder() { # folder FLAG...: where the headers for these flags are
  echo "$work/headers/$(md5sum <<<"$*" | cut -c 1-32)"
}
headers() { # headers FLAGS
  local at
  # shellcheck disable=SC2086
  at=$(folder $1)
  mkdir -p "$at"
  printf '#include <stdlib.h>\n#include <stdio.h>\n#include <string.h>\n#include <x86intrin.h>\n' >"$at/early.h"
  # shellcheck disable=SC2086
  gcc -w -DDEBUG $1 -x c-header "$at/early.h" -o "$at/early.h.gch" 2>/dev/null || true
}
build() { # build NAME<tab>SOURCE<tab>FLAGS: without the compiled headers if it does not build with them
  local name source flags at
  IFS=$'\t' read -r name source flags <<<"$1"
  # shellcheck disable=SC2086
  at=$(folder $flags)
  local early=""
  [ ! -e "$at/early.h.gch" ] || early="-include $at/early.h"
  for more in "$early" ""; do
    # shellcheck disable=SC2086
    gcc -w -DDEBUG $flags $more -I"$(dirname "$source")" -I"$top/gcc.dg" "$source" -o "$work/bin/$name" -lm 2>/dev/null && return 0
    [ -n "$more" ] || break
  done
  echo "$name" >>"$work/unbuilt"
}
export -f folder headers build
export work top
: >"$work/unbuilt"
cut -f 3 "$work/jobs" | sort | uniq -d | xargs -d '\n' -P "$(nproc)" -I{} bash -c 'headers "$1"' bash {}
xargs -d '\n' -P "$(nproc)" -I{} bash -c 'build "$1"' bash {} <"$work/jobs"
echo "published.sh: $(ls "$work/bin" | wc -l) of gcc's tests build, $(wc -l <"$work/unbuilt") do not" >&2

mkdir -p "$work/bin/lib"
loaders=$(for name in "$work"/bin/*-64 "$work"/bin/*-32; do [ -x "$name" ] && ldd "$name"; done 2>/dev/null | grep -o '/[^ ]*' | sort -u)
for file in $loaders; do
  mkdir -p "$work/bin/lib$(dirname "$file")"
  cp -L "$file" "$work/bin/lib$file"
done

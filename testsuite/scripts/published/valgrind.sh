#!/usr/bin/env bash
# Valgrind's tests of instructions, for published.sh: valgrind.sh FOLDER makes FOLDER/bin.
set -euo pipefail
here=$(dirname "$0")
work=$1 top=$1/source
mkdir -p "$top"
package=$(bash "$here/../source-package.sh" "$work/apt" valgrind)
tar -xf "$package"/valgrind_*.orig.tar.* -C "$top" --strip-components 1
# What its configure would find out.
printf '#define HAVE_MEMALIGN 1\n#define HAVE_AS_VPCLMULQDQ 1\n' >"$top/config.h"

build() { # build amd64|x86 FLAG...
  local arch=$1 source name
  shift
  for source in "$top/none/tests/$arch"/*.c "$top/none/tests/$arch"/*.def; do
    name=$(basename "${source%.*}")
    case $source in
      *.made.c) continue ;;
      *.def)
        perl "$top/none/tests/$arch/gen_insn_test.pl" <"$source" >"${source%.def}.made.c"
        source=${source%.def}.made.c
        ;;
    esac
    gcc "$@" -O0 -w -static -no-pie -I"$top" -I"$top/include" -I"$top/VEX/pub" -I"$top/none/tests/$arch" \
      -DVGO_linux=1 "-DVGA_$arch=1" "-DVGP_${arch}_linux=1" "$source" -o "$work/bin/$arch-$name" -lm -lpthread 2>/dev/null ||
      echo "published.sh: $arch/$name does not build here" >&2
  done
}
build amd64 -m64 -mfpmath=sse
build x86 -m32 -mmmx -msse2

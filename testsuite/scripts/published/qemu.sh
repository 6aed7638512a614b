#!/usr/bin/env bash
# QEMU's tests of instructions, for published.sh: qemu.sh FOLDER makes FOLDER/bin. The flags are those of its Makefiles.
set -euo pipefail
here=$(dirname "$0")
work=$1
package=$(bash "$here/../source-package.sh" "$work/apt" qemu)
tar -xf "$package"/qemu_*.orig.tar.* -C "$work" --strip-components 1 --wildcards '*/tests/tcg/*'
top=$work/tests/tcg
i386=$top/i386
python3 "$i386/test-mmx.py" "$i386/x86.csv" "$i386/test-mmx.h" MMX SSE SSE2 SSE3 SSSE3
python3 "$i386/test-avx.py" "$i386/x86.csv" "$i386/test-avx.h"

# libc6-dev-i386 leaves the kernel's headers (asm/) to those for 64 bits.
build() { # build NAME FLAG-OR-SOURCE...
  local name=$1
  shift
  gcc -w -static -no-pie -fno-strict-aliasing -idirafter /usr/include/x86_64-linux-gnu -I"$i386" -I"$top/multiarch" "$@" -o "$work/bin/$name" -lm -lpthread 2>"$work/log" ||
    { echo "published.sh: qemu's $name does not build here" >&2; head -n 3 "$work/log" >&2; }
}
for source in "$i386"/test-i386-*.c; do
  name=$(basename "$source" .c)
  flags=()
  case $name in
    test-i386-ssse3) continue ;; # for 64 bits only
    test-i386-sse-exceptions) flags=(-msse4.1 -mfpmath=sse) ;;
    test-i386-pcmpistri) flags=(-msse4.2) ;;
    test-i386-bmi2) flags=(-O2) ;;
  esac
  build "x86-$name" -m32 "${flags[@]}" "$source"
done
build x86-test-i386 -m32 -fno-pie "$i386"/test-i386.c "$i386"/test-i386-code16.S "$i386"/test-i386-vm86.S
build amd64-test-x86_64 "$i386/test-i386.c"
build amd64-test-i386-bmi2 -O2 "$i386/test-i386-bmi2.c"
build amd64-test-i386-ssse3 "$i386/test-i386-ssse3.c"
build amd64-test-mmx -masm=intel -O "$i386/test-mmx.c"
build amd64-test-avx -mavx -masm=intel -O "$i386/test-avx.c"
for source in noexec cmpxchg; do build "amd64-$source" -I"$top" "$top/x86_64/$source.c"; done
for bits in 32 64; do
  for name in sha1 sha512 overflow munmap-pthread sigbus; do
    build "m$bits-$name" -m$bits "$top/multiarch/$name.c"
  done
  build "m$bits-sha512-sse" -m$bits -msse4.1 -O3 "$top/multiarch/sha512.c"
  for name in float_convs float_convd float_madds; do
    build "m$bits-$name" -m$bits "$top/multiarch/$name.c" "$top/multiarch/libs/float_helpers.c"
  done
  # The second time with fused multiplications.
  build "m$bits-float_madds-fma" -m$bits -O2 -mfma "$top/multiarch/float_madds.c" "$top/multiarch/libs/float_helpers.c"
done

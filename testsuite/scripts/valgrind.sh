#!/usr/bin/env bash
# Valgrind's own instruction tests (none/tests/amd64 and x86 of Debian's source package) in a Debian guest, compared with the
# same programs on this processor. Fetches the source by apt, builds the programs with gcc, commits nothing. Needs gcc (with
# libc6-dev-i386 for the 32-bit half), perl, e2fsprogs, dpkg-dev; installs them when run as root on Debian.
#
#   valgrind.sh [TEST...]       jit (the default), interp
#
# CALQUE_VALGRIND names the folder with the programs; if it is not there it is made.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CALQUE_VALGRIND=${CALQUE_VALGRIND:-$target/valgrind/bin}

need() { # need FILE-OR-COMMAND PACKAGE
  command -v "$1" >/dev/null || [ -e "$1" ] && return 0
  [ "$(id -u)" = 0 ] || { echo "valgrind.sh: needs the package $2" >&2; exit 1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

fetch() { # the source package, with a package index of its own: the host's need not list sources
  local home=$target/valgrind/apt release
  release=$(. /etc/os-release; echo "$VERSION_CODENAME")
  mkdir -p "$home/lists/partial"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $release main" > "$home/src.list"
  local apt=(-qq -o "Dir::Etc::sourcelist=$home/src.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$home/lists")
  apt-get "${apt[@]}" update
  (cd "$home" && apt-get "${apt[@]}" source --download-only valgrind)
  mkdir -p "$target/valgrind/source"
  tar -xf "$home"/valgrind_*.orig.tar.* -C "$target/valgrind/source" --strip-components 1
}

build() { # build amd64|x86 FLAG...
  local arch=$1 top=$target/valgrind/source source name
  shift
  for source in "$top/none/tests/$arch"/*.c "$top/none/tests/$arch"/*.def; do
    name=$(basename "${source%.*}")
    case $source in
      *.made.c) continue ;;
      *.def)
        perl "$top/none/tests/$arch/gen_insn_test.pl" < "$source" > "${source%.def}.made.c"
        source=${source%.def}.made.c
        ;;
    esac
    gcc "$@" -O0 -w -static -no-pie -I"$top" -I"$top/include" -I"$top/VEX/pub" -I"$top/none/tests/$arch" \
      -DVGO_linux=1 "-DVGA_$arch=1" "-DVGP_${arch}_linux=1" "$source" -o "$CALQUE_VALGRIND.new/$arch-$name" -lm -lpthread 2>/dev/null ||
      echo "valgrind.sh: $arch/$name does not build here" >&2
  done
}

if [ ! -d "$CALQUE_VALGRIND" ]; then
  need gcc gcc
  need perl perl
  need dpkg-source dpkg-dev
  need /usr/include/x86_64-linux-gnu/../../lib32/libc.a libc6-dev-i386
  fetch
  # What its configure would find out.
  printf '#define HAVE_MEMALIGN 1\n#define HAVE_AS_VPCLMULQDQ 1\n' > "$target/valgrind/source/config.h"
  rm -rf "$CALQUE_VALGRIND.new"
  mkdir -p "$CALQUE_VALGRIND.new"
  build amd64 -m64 -mfpmath=sse
  build x86 -m32 -mmmx -msse2
  mv "$CALQUE_VALGRIND.new" "$CALQUE_VALGRIND"
fi
need mke2fs e2fsprogs

cargo build --release --package calque
export CALQUE_BIN=${CALQUE_BIN:-$target/release/calque} CALQUE_DEBIAN=1
tests=("$@")
[ $# -gt 0 ] || tests=(jit)
exec cargo test --package testsuite --test valgrind -- --include-ignored --nocapture --test-threads 1 --exact "${tests[@]}"

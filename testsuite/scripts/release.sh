#!/usr/bin/env bash
# Release builds: an archive for each host with the program and what its users read, unpacked again and tried. See docs/releases.md.
#
#   release.sh [linux-x86_64|linux-aarch64|macos-aarch64|macos-x86_64]...     by default all that can be built here
#   release.sh --built HOST=PROGRAM...     packs and tries programs that are built already, as CI does
#
# The archives and SHA256SUMS come to $CARGO_TARGET_DIR/release-builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
me=release.sh
. testsuite/scripts/cross-tools.sh
. testsuite/scripts/release/pack.sh
. testsuite/scripts/release/smoke.sh

# The newest glibc that a Linux program may ask for. It stands in docs/releases.md, with what it means.
glibc_limit=2.34
macos_least=11.0
ziglang=0.17.1

all="linux-x86_64 linux-aarch64 macos-aarch64 macos-x86_64"
here=linux-$(uname -m)
[ "$(uname -s)" = Linux ] || here=none
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

fail() {
  echo "$me: $*" >&2
  exit 1
}

triple_of() { # triple_of HOST
  case $1 in
    linux-x86_64 | linux-aarch64) echo "${1#linux-}-unknown-linux-gnu" ;;
    macos-x86_64 | macos-aarch64) echo "${1#macos-}-apple-darwin" ;;
    *) fail "no host '$1': $all" ;;
  esac
}

# What builds for a host and what starts its programs ($qemu), or a line that says what is missing, and a status.
tools_for() { # tools_for HOST
  qemu=
  case $1 in
    "$here") command -v readelf >/dev/null || cross_packages binutils || return 1 ;;
    linux-aarch64)
      [ "$(uname -s)" = Linux ] || { echo "$me: $1 needs Linux" >&2; return 1; }
      arm_tools || return 1
      ;;
    linux-x86_64) echo "$me: $1 needs Linux on x86-64" >&2; return 1 ;;
    macos-*)
      macos_tools || return 1
      command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || cross_packages python3-pip || return 1
      zig=$work/zig-$ziglang
      if ! [ -e "$zig/ziglang/zig" ]; then
        python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --target "$zig.partial" \
          "ziglang==$ziglang" || { echo "$me: $1 needs the package ziglang of PyPI" >&2; return 1; }
        mv "$zig.partial" "$zig"
      fi
      export CALQUE_ZIG=$zig/ziglang/zig CALQUE_ZIG_TARGET=${1#macos-}-macos.$macos_least ZIG_GLOBAL_CACHE_DIR=$work/zig-cache
      ;;
  esac
}

# Builds, and sets $program. No debugging information and no path of this machine comes into it, so that the same sources
# and compiler give the same bytes in any folder.
build() { # build HOST
  local triple flags
  triple=$(triple_of "$1")
  flags=(--release --locked --package calque --target "$triple")
  export CARGO_TARGET_DIR=$work/cargo CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=debuginfo
  if [[ $1 = macos-* ]]; then
    # rustc's own strip writes a file whose signature is wrong.
    export CARGO_PROFILE_RELEASE_STRIP=none
    local linker=CARGO_TARGET_${triple//-/_}_LINKER
    export "${linker^^}=$PWD/testsuite/scripts/release/macos-ld.sh"
    flags+=(-Zbuild-std=std,panic_abort)
  fi
  CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f%s' "--remap-path-prefix=$PWD=/calque" "--remap-path-prefix=$cargo_home=/cargo") \
    cargo build "${flags[@]}"
  program=$CARGO_TARGET_DIR/$triple/release/calque
  ! grep -qaF -e "$PWD/" -e "$cargo_home/" "$program" || fail "$program holds paths of this machine"
}

built=()
if [ "${1:-}" = --built ]; then
  shift
  [ $# -gt 0 ] || fail "usage: $me --built HOST=PROGRAM..."
  built=("$@")
  out=$target/release-builds/tried
else
  out=$target/release-builds
fi
work=$target/release-builds/work
cargo_home=${CARGO_HOME:-$HOME/.cargo}
hosts=${*:-$all}
mkdir -p "$work" "$out"
rm -f "$out"/calque-*.tar.gz "$out/SHA256SUMS"

for host in $hosts; do
  began=$SECONDS
  name=${host%%=*}
  triple_of "$name" >/dev/null
  # In a shell of its own, since each host has variables of its own; and not as a condition, in which nothing that fails would end it.
  set +e
  (
    set -e
    tools_for "$name" || exit 9
    echo "== $name"
    if [ ${#built[@]} -gt 0 ]; then program=$(realpath "${host#*=}"); else build "$name"; fi
    pack "$name" "$program"
    smoke "$name" "$archive"
  )
  status=$?
  set -e
  if [ $status = 9 ] && [ $# = 0 ]; then
    echo "$me: leaves out $name"
    continue
  fi
  [ $status = 0 ] || fail "$name: not done"
  echo "$name: $((SECONDS - began)) s"
done
(cd "$out" && sha256sum calque-*.tar.gz >SHA256SUMS)
echo "== $out"
(cd "$out" && ls -l calque-*.tar.gz | awk '{print $5, $NF}' && cat SHA256SUMS)

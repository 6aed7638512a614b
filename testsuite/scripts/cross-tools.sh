# The tools that arm.sh, macos.sh and release.sh share: sourced, under `set -euo pipefail`, with the script's name in $me.
# Each function installs Debian's packages when root, and sets the variables that cargo needs.

# Installs packages by name, or says which are needed.
cross_packages() { # cross_packages PACKAGE...
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$me: needs $*" >&2
    return 1
  fi
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq "$@" >/dev/null
}

# A compiler, std, linker and runner for 64-bit Arm Linux on another Linux. $qemu starts an Arm program.
arm_tools() {
  if ! [ -x /usr/bin/qemu-aarch64-static ] || ! command -v aarch64-linux-gnu-gcc >/dev/null ||
    ! [ -e /usr/lib/rustlib/aarch64-unknown-linux-gnu/lib ]; then
    if [ "$(id -u)" = 0 ] && command -v dpkg >/dev/null; then dpkg --add-architecture arm64; fi
    cross_packages rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static || return 1
  fi
  export RUSTC=/usr/bin/rustc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  # The loader and the libraries have to be of one build: libstd-rust-web-dev:arm64 brings an arm64 libc of its own to the
  # host's /lib, whose threads hang under the cross packages' loader, so the libraries are named too.
  sysroot=/usr/aarch64-linux-gnu
  qemu="/usr/bin/qemu-aarch64-static -L $sysroot -E LD_LIBRARY_PATH=$sysroot/lib"
}

# A compiler and the source of std, which cargo builds for macOS with -Zbuild-std: no Mac and no SDK is needed.
macos_tools() {
  local src=/usr/lib/rustlib/src/rust/library/std/Cargo.toml
  if ! [ -x /usr/bin/rustc ] || ! [ -e "$(readlink -f "$src" 2>/dev/null || echo none)" ]; then
    cross_packages rustc-web rust-web-src || return 1
  fi
  export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
}

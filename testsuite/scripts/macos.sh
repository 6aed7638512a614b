#!/usr/bin/env bash
# Type-checks the product for macOS on Arm, building std from Debian's source package: no Mac and no SDK is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."

src=/usr/lib/rustlib/src/rust/library/std/Cargo.toml
if ! [ -x /usr/bin/rustc ] || ! [ -e "$(readlink -f "$src" 2>/dev/null || echo none)" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "macos.sh: needs the packages rustc-web rust-web-src" >&2
    exit 1
  fi
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustc-web rust-web-src >/dev/null
fi
export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/macos
cargo check -Zbuild-std=std,panic_abort --target aarch64-apple-darwin -p calque

#!/usr/bin/env bash
# Type-checks the product for macOS, on Arm and on x86-64, building std from Debian's source package: no Mac and no SDK is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."

me=macos.sh
. testsuite/scripts/cross-tools.sh

macos_tools
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/macos
for target in aarch64-apple-darwin x86_64-apple-darwin; do
  cargo check -Zbuild-std=std,panic_abort --target $target -p calque
done

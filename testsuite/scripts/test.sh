#!/usr/bin/env bash
# Everything that has to hold before a change lands: format, lints, tests, guests on every engine, the Arm build
# under qemu-user, the macOS type-check, archives of what was built. Stages by name: test.sh fmt lint unit guests arm macos
# release (default: all).
#
# Debian packages that a stage needs are installed by name when this runs as root on Debian; elsewhere a stage that
# lacks a tool fails and says which.
set -euo pipefail
cd "$(dirname "$0")/../.."

stages=${*:-fmt lint unit guests arm macos release}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

need() { # need COMMAND PACKAGE...
  command -v "$1" >/dev/null && return 0
  shift
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt_update
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
  else
    echo "test.sh: needs the packages: $*" >&2
    exit 1
  fi
}

apt_update() {
  [ -n "${apt_updated:-}" ] && return 0
  apt-get update -qq >/dev/null
  apt_updated=1
}

stage() {
  printf '\n== %s (%ss)\n' "$1" "$SECONDS"
}

tests() { # run the tests of the workspace with the runner at hand
  if command -v cargo-nextest >/dev/null; then
    cargo nextest run --config-file testsuite/nextest.toml --workspace --no-fail-fast --status-level fail --final-status-level flaky "$@"
  else
    cargo test --workspace --no-fail-fast "$@"
  fi
}

for s in $stages; do
  stage "$s"
  case $s in
    fmt) cargo fmt --all --check ;;
    lint) cargo clippy --workspace --all-targets -- -D warnings ;;
    # Random cases for a minute each between the engines and on the host's processor.
    unit) CALQUE_TEST_SCALE=${CALQUE_TEST_SCALE:-2} tests ;;
    guests) bash testsuite/scripts/guests.sh ;;
    arm) bash testsuite/scripts/arm.sh ;;
    macos) bash testsuite/scripts/macos.sh ;;
    # No release builds, which take long: what guests and arm have built is packed and tried in the same way.
    release)
      target=${CARGO_TARGET_DIR:-target} programs=()
      host=linux-$(uname -m)
      [ -e "$target/release/calque" ] || cargo build --release --package calque
      programs+=("$host=$target/release/calque")
      arm=$target/arm/aarch64-unknown-linux-gnu/debug/calque
      if [ "$host" != linux-aarch64 ] && [ -e "$arm" ]; then programs+=("linux-aarch64=$arm"); fi
      bash testsuite/scripts/release.sh --built "${programs[@]}"
      ;;
    *) echo "test.sh: no stage '$s': fmt lint unit guests arm macos release" >&2; exit 2 ;;
  esac
done
printf '\nall stages passed (%ss): %s\n' "$SECONDS" "$stages"

# Unpacks an archive into an empty folder and tries the program there: sourced by release.sh.

refuse() { # refuse WHAT [FILE]
  [ -z "${2:-}" ] || tail -n 20 "$2" >&2
  fail "$host: $1"
}

# Which libraries and which glibc a Linux program asks for.
elf() { # elf PROGRAM
  local needed glibc
  needed=$(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | xargs)
  glibc=$(readelf -VW "$1" | grep -o 'GLIBC_2[0-9.]*' | sort -Vu | tail -n 1)
  echo "needs ${glibc/_/ } or newer, and of libraries: $needed"
  [[ $needed =~ ^(ld-linux-[^ ]* )?libc.so.6( libgcc_s.so.1)?( libm.so.6)?$ ]] || refuse "a library that docs/releases.md does not name"
  [ "$(printf '%s\n' "${glibc#GLIBC_}" "$glibc_limit" | sort -V | tail -n 1)" = "$glibc_limit" ] ||
    refuse "docs/releases.md says glibc $glibc_limit"
}

# Every link of README.md to a file leads to one.
links() { # links FOLDER
  local link
  grep -o '](\([^)#]*\)' "$1/README.md" | sed 's/^](//' | grep -v '^http' | sort -u | while read -r link; do
    [ -z "$link" ] || [ -e "$1/$link" ] || refuse "README.md leads to $link, which is not in the archive"
  done
}

# The program at work: what it says of itself, one instruction on each engine, a boot sector, the built-in guest as
# translated code with page faults, traps and code that changes itself, and a wrong option.
work_of() { # work_of FOLDER VERSION
  local run=(timeout 300) engine case='{"id":1,"mode":"long64","regs":{"rip":"0x1000","rax":40,"rbx":2},"mem":[["0x1000","4801d8f4"]],"cpl":0' code
  # shellcheck disable=SC2206
  run+=($qemu ./calque)
  cd "$1"
  # Nothing of this machine's is needed, and nothing is fetched.
  export HOME=$1/home XDG_CACHE_HOME=$1/home/.cache
  mkdir "$HOME"
  [ "$("${run[@]}" --version)" = "calque $2" ] || refuse "--version"
  "${run[@]}" --help >said && grep -q 'run-case' said || refuse "--help" said
  "${run[@]}" run --help >said && grep -q -e '--engine' said || refuse "run --help" said
  for engine in interp eval jit; do
    echo "$case,\"engine\":\"$engine\"}" | "${run[@]}" run-case >said || refuse "run-case" said
    grep -q '"end":"hlt".*"rax":"0x2a"' said || refuse "run-case on $engine" said
  done
  printf '\x31\xc0\xb9\x64\x00\x01\xc8\x49\x75\xfb\xba\x01\x05\xee' >sum.bin
  code=0
  "${run[@]}" run sum.bin --load-address 0x7c00 --debug-exit --serial null --hot 4 >said 2>&1 || code=$?
  [ $code = 117 ] || refuse "a boot sector ended with status $code" said
  printf 'user\nfault\ntrap\nsmc\noff\n' | "${run[@]}" run monitor -m 32 --time-limit 240 --stats >said 2>&1 || refuse "the built-in guest" said
  for text in 'from ring 3, by SYSCALL' 'It wrote, and reads back 0x1234' 'step: RIP=.* RAX=0x31 ' \
    'every result right' '[1-9][0-9]*  blocks translated' 'the guest powered off'; do
    grep -q -e "$text" said || refuse "the built-in guest does not say: $text" said
  done
  code=0
  "${run[@]}" run --no-such-option >said 2>&1 || code=$?
  [ $code = 2 ] || refuse "a wrong option ended with status $code" said
  cd - >/dev/null
}

smoke() { # smoke HOST ARCHIVE
  local host=$1 folder version root
  folder=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  tar -C "$folder" -xzf "$2"
  root=$(echo "$folder"/*)
  version=${root##*/calque-}
  version=${version%-"$host"}
  links "$root"
  case $host in
    linux-*)
      elf "$root/calque"
      work_of "$root" "$version"
      echo "works, unpacked into an empty folder${qemu:+, under qemu-user}"
      ;;
    macos-*)
      python3 testsuite/scripts/release/macho.py "$root/calque" "${host#macos-}" "$macos_least" "$zig/ziglang/lib/libc/darwin/libSystem.tbd"
      echo "looked at, not run: there is no Mac here"
      ;;
  esac
}

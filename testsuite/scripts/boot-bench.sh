#!/usr/bin/env bash
# Time from start to the shell's prompt: calque and QEMU's TCG by turns, on the same kernel and initramfs.
#
#   boot-bench.sh [-n RUNS] [-e ENGINE] [-f cloud|generic] [-m MIB]
#
# Prints every run, then medians and their ratio, calque's guest instructions a second and its resident memory at the
# prompt. CALQUE_BIN names the program to measure; without it the release build is made and taken.
set -euo pipefail
cd "$(dirname "$0")/../.."

runs=5 engine=jit flavour=cloud memory=1024
while getopts n:e:f:m: option; do
  case $option in
    n) runs=$OPTARG ;;
    e) engine=$OPTARG ;;
    f) flavour=$OPTARG ;;
    m) memory=$OPTARG ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
for tool in python3 qemu-system-x86_64; do
  command -v "$tool" >/dev/null || { echo "boot-bench.sh: needs $tool" >&2; exit 1; }
done
if [ -z "${CALQUE_BIN:-}" ]; then
  cargo build --quiet --release --package calque
  CALQUE_BIN=${CARGO_TARGET_DIR:-target}/release/calque
fi
guest=$(cargo run --quiet --release --package calque --example prepare-debian "$flavour")
kernel=$(sed -n 's/^kernel //p' <<<"$guest")
initrd=$(sed -n 's/^initrd //p' <<<"$guest")
append=$(sed -n 's/^append //p' <<<"$guest")

exec python3 - "$runs" "$memory" "$CALQUE_BIN" "$engine" "$kernel" "$initrd" "$append" <<'PYTHON'
import os, re, signal, statistics, subprocess, sys, time

runs, memory, calque, engine, kernel, initrd, append = sys.argv[1:]
PROMPT = b"root@calque:"
machine = ["-cpu", "max", "-m", memory, "-smp", "1", "-nodefaults", "-display", "none", "-serial", "stdio",
           "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", append]
emulators = {
    "calque": [calque, "qemu", "--engine", engine, "--stats"] + machine,
    "qemu": ["qemu-system-x86_64", "-accel", "tcg"] + machine,
}

def boot(command):
    """Seconds to the prompt, resident KiB there, what was said on standard error."""
    started = time.monotonic()
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.alarm(600)
    seen = b""
    while PROMPT not in seen:
        chunk = os.read(p.stdout.fileno(), 65536)
        if not chunk:
            sys.exit(f"{command[0]} ended before the prompt:\n{seen[-2000:].decode(errors='replace')}\n"
                     f"{p.stderr.read().decode(errors='replace')}")
        seen += chunk
    took = time.monotonic() - started
    with open(f"/proc/{p.pid}/status") as status:
        rss = int(re.search(r"VmRSS:\s*(\d+)", status.read())[1])
    p.stdin.write(b"poweroff\n")
    p.stdin.flush()
    _, said = p.communicate()
    signal.alarm(0)
    return took, rss, said.decode(errors="replace")

def counter(report, name):
    found = re.search(rf"^\s*(\d+)  {name}$", report, re.M)
    return int(found[1]) if found else 0

print(f"{os.path.basename(kernel)} {os.path.getsize(kernel)} bytes, engine {engine}, -m {memory}, {runs} runs each, by turns")
times = {name: [] for name in emulators}
speeds, memories = [], {name: [] for name in emulators}
for run in range(int(runs)):
    for name, command in emulators.items():
        took, rss, said = boot(command)
        times[name].append(took)
        memories[name].append(rss / 1024)
        extra = ""
        if name == "calque":
            speeds.append(counter(said, "guest instructions a second") / 1e6)
            extra = f", {speeds[-1]:.0f} million instructions/s"
        print(f"  run {run + 1}: {name:6} {took:6.2f} s to the prompt, {rss >> 10} MiB resident{extra}", flush=True)
median = {name: statistics.median(values) for name, values in times.items()}
for name, values in times.items():
    print(f"{name}: median {median[name]:.2f} s ({min(values):.2f} to {max(values):.2f}), "
          f"{statistics.median(memories[name]):.0f} MiB resident")
print(f"ratio calque / qemu: {median['calque'] / median['qemu']:.2f}")
print(f"calque, start to power-off: {statistics.median(speeds):.0f} million guest instructions a second")
PYTHON

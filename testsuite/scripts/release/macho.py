"""Looks at a macOS program that cannot be run here: macho.py FILE x86_64|aarch64 LEAST_MACOS LIBSYSTEM_TBD

An error and status 1 unless it is a 64-bit executable for that processor and no newer macOS, links libSystem alone, takes only
symbols that libSystem's stub lists, has no segment that is writable and executable and, for Arm, where nothing unsigned is
run, an ad-hoc signature whose hash of every page is right.
"""

import hashlib
import re
import struct
import sys

path, cpu, least, stub = sys.argv[1:]
data = open(path, "rb").read()


def check(holds, what):
    if not holds:
        sys.exit(f"macho.py: {path}: {what}")


# mach_header_64 (mach-o/loader.h)
magic, cputype, _, filetype, ncmds, _, flags, _ = struct.unpack_from("<8I", data)
check(magic == 0xFEEDFACF, "no 64-bit Mach-O")
check(cputype == {"x86_64": 0x01000007, "aarch64": 0x0100000C}[cpu], f"for CPU {cputype:#x}")
check(filetype == 2, "no executable")
check(flags & 0x200000, "not position-independent")

libraries, undefined, signature, minos, entry = [], set(), None, None, False
at = 32
for _ in range(ncmds):
    cmd, size = struct.unpack_from("<2I", data, at)
    if cmd in (0xC, 0x80000018, 0x8000001F):  # LC_LOAD_DYLIB, weak, re-exported
        name = at + struct.unpack_from("<I", data, at + 8)[0]
        libraries.append(data[name : data.index(b"\0", name)].decode())
    elif cmd == 0x2:  # LC_SYMTAB
        symbols, count, strings, _ = struct.unpack_from("<4I", data, at + 8)
        for n in range(count):
            name, kind, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * n)
            if not kind & 0xE0 and kind & 0x0E == 0 and kind & 1:  # no STAB, N_UNDF, N_EXT
                name += strings
                undefined.add(data[name : data.index(b"\0", name)].decode())
    elif cmd == 0x19:  # LC_SEGMENT_64
        initial = struct.unpack_from("<I", data, at + 60)[0]
        check(initial & 6 != 6, "a segment that is writable and executable")
    elif cmd == 0x32:  # LC_BUILD_VERSION
        platform, minos = struct.unpack_from("<2I", data, at + 8)
        check(platform == 1, f"for platform {platform}")
    elif cmd == 0x1D:  # LC_CODE_SIGNATURE
        signature = struct.unpack_from("<2I", data, at + 8)
    elif cmd == 0x80000028:  # LC_MAIN
        entry = True
    at += size

check(entry, "no entry point")
check(minos is not None, "no LC_BUILD_VERSION")
version = f"{minos >> 16}.{minos >> 8 & 255}"
check(version == least, f"for macOS {version}")
check(libraries == ["/usr/lib/libSystem.B.dylib"], f"links {libraries}")
known = set(re.findall(r"[A-Za-z_$][\w$.]*", open(stub).read()))
check(undefined, "no symbol is undefined, not even of libSystem")
missing = sorted(s for s in undefined if s not in known)
check(not missing, f"not in libSystem: {missing}")

signed = "no signature"
if signature:
    start, size = signature
    check(start + size == len(data), "the signature is not the file's end")
    # Big-endian: SuperBlob, then CodeDirectory (cs_blobs.h).
    magic, _, blobs = struct.unpack_from(">3I", data, start)
    check(magic == 0xFADE0CC0, "the signature is no SuperBlob")
    index = dict(struct.unpack_from(">2I", data, start + 12 + 8 * n) for n in range(blobs))
    check(0 in index, "the signature has no CodeDirectory")
    directory = start + index[0]
    magic, _, _, how, hashes, _, _, slots, limit = struct.unpack_from(">9I", data, directory)
    length, kind, _, shift = struct.unpack_from(">4B", data, directory + 36)
    check(magic == 0xFADE0C02 and kind == 2 and length == 32, "the CodeDirectory is not of SHA-256")
    check(how & 2, "not signed ad hoc")
    check(limit == start, "the signature covers another length")
    page = 1 << shift
    check(slots == -(-limit // page), "the signature has hashes for another number of pages")
    for n in range(slots):
        want = data[directory + hashes + 32 * n :][:32]
        got = hashlib.sha256(data[n * page : min((n + 1) * page, limit)]).digest()
        check(want == got, f"the hash of page {n} is wrong")
    signed = f"signed ad hoc, {slots} page hashes right"
check(signature or cpu != "aarch64", "not signed, which Arm Macs refuse")
print(f"Mach-O {cpu}, macOS {version} or newer, {len(undefined)} symbols of {libraries[0]}, {signed}")

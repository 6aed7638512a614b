//! Every x87 instruction against the host processor, on x86-64 hosts: the whole state before and after.
//!
//! Both sides load the same FXSAVE image, flags, RAX and memory operand and execute the same bytes; the states have
//! random stacks (empty, full and odd tags), odd encodings, and all control words. What they leave must agree in
//! every register, tag, flag, pointer and byte of memory. Left out are only states with a pending unmasked
//! exception, in which the host would be interrupted by #MF.
#![cfg(target_arch = "x86_64")]

#[path = "x87_vs_host/host.rs"]
mod host;
#[path = "x87_vs_host/random.rs"]
mod random;

use calque::diff::native::{Maker, maker};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::softfloat::F80;
use emu_core::state::SegReg;
use emu_core::state::bits::rflags::STATUS;
use emu_core::state::bits::{cr0, cr4, efer};
use host::{Frame, Host, IMAGE, MEMORY, MEMORY_AT};
use interp::Interp;
use random::Random;
use std::fmt::Write;

/// Bytes between two instructions in guest memory.
const SLOT: u64 = 16;
const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x18_0000;
const CASES: u32 = 2000;
/// The status word's C1.
const C1: u16 = 1 << 9;
/// A host pointer into code or data, made comparable by subtracting what it points into.
const OURS: u64 = 0xaaaa_0000_0000_0000;

/// One instruction.
struct Insn {
    bytes: Vec<u8>,
    name: String,
}

impl Insn {
    /// The escape byte, which may follow an operand-size prefix.
    fn escape(&self) -> u8 {
        self.bytes[usize::from(self.short())]
    }

    fn modrm(&self) -> u8 {
        self.bytes[1 + usize::from(self.short())]
    }

    /// The 16-bit form of an environment.
    fn short(&self) -> bool {
        self.bytes[0] == 0x66
    }

    fn memory(&self) -> bool {
        self.modrm() < 0xc0
    }

    /// The bits that choose among memory instructions.
    fn digit(&self) -> u8 {
        self.modrm() >> 3 & 7
    }

    /// Transcendental: results within a unit in the last place, C1 free.
    fn approximate(&self) -> bool {
        self.escape() == 0xd9 && matches!(self.modrm(), 0xf0..=0xf3 | 0xf9 | 0xfb | 0xfe | 0xff)
    }

    /// FCOMI and its kin.
    fn sets_flags(&self) -> bool {
        matches!(self.escape(), 0xdb | 0xdf) && matches!(self.modrm(), 0xe8..=0xf7)
    }

    /// FNSTENV or FNSAVE.
    fn saves_environment(&self) -> bool {
        self.memory() && self.digit() == 6 && matches!(self.escape(), 0xd9 | 0xdd)
    }
}

/// Every encoding that the decoder knows.
fn instructions() -> Vec<Insn> {
    let mut all = Vec::new();
    for escape in 0xd8..=0xdfu8 {
        let memory = (0..8u8).map(|digit| 0x87 | digit << 3);
        for modrm in memory.chain(0xc0..=0xff) {
            let mut bytes = vec![escape, modrm];
            if modrm < 0xc0 {
                bytes.extend((MEMORY_AT as u32).to_le_bytes());
            }
            let ins = iced_x86::Decoder::new(64, &bytes, 0).decode();
            // 8087 and 287 leftovers: not instructions of a processor that has CPUID.
            let gone = ins.cpuid_features().iter().any(|f| format!("{f:?}").contains("ONLY"));
            if ins.is_invalid() || gone {
                continue;
            }
            if matches!((escape, modrm >> 3), (0xd9 | 0xdd, 0o24 | 0o26)) && modrm < 0xc0 {
                let bytes = [&[0x66], bytes.as_slice()].concat();
                all.push(Insn { bytes, name: format!("o16 {ins}") });
            }
            all.push(Insn { bytes, name: ins.to_string() });
        }
    }
    all
}

/// What an instruction leaves.
#[derive(Clone, PartialEq)]
struct State {
    fcw: u16,
    fsw: u16,
    ftw: u8,
    fop: u16,
    fip: u64,
    fdp: u64,
    st: [F80; 8],
    flags: u64,
    ax: u64,
    memory: [u8; MEMORY],
}

impl State {
    fn from_image(image: &[u8; IMAGE], flags: u64, ax: u64, memory: [u8; MEMORY]) -> Self {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| image[at + i]));
        State {
            fcw: word(0),
            fsw: word(2),
            ftw: image[4],
            fop: word(6),
            fip: quad(8),
            fdp: quad(16),
            st: std::array::from_fn(|i| F80 { mant: quad(32 + 16 * i), se: word(40 + 16 * i) }),
            flags: flags & STATUS,
            ax,
            memory,
        }
    }

    fn image(&self) -> [u8; IMAGE] {
        let mut image = [0; IMAGE];
        image[0..2].copy_from_slice(&self.fcw.to_le_bytes());
        image[2..4].copy_from_slice(&self.fsw.to_le_bytes());
        image[4] = self.ftw;
        image[6..8].copy_from_slice(&self.fop.to_le_bytes());
        image[8..16].copy_from_slice(&self.fip.to_le_bytes());
        image[16..24].copy_from_slice(&self.fdp.to_le_bytes());
        image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        for (i, r) in self.st.iter().enumerate() {
            image[32 + 16 * i..42 + 16 * i].copy_from_slice(&r.to_bytes());
        }
        image
    }

    /// Pointers into code and data become offsets.
    fn relative(mut self, code: u64, data: u64) -> Self {
        for (pointer, base) in [(&mut self.fip, code), (&mut self.fdp, data)] {
            if pointer.wrapping_sub(base) < 16 {
                *pointer = OURS | (*pointer - base);
            }
        }
        self
    }

    /// Names what differs, with `self` as the host's.
    fn differences(&self, ours: &State) -> String {
        let mut out = String::new();
        let mut field = |name: &str, a: u64, b: u64| {
            if a != b {
                let _ = write!(out, " {name} {a:x}/{b:x}");
            }
        };
        field("fcw", self.fcw.into(), ours.fcw.into());
        field("fsw", self.fsw.into(), ours.fsw.into());
        field("ftw", self.ftw.into(), ours.ftw.into());
        field("fop", self.fop.into(), ours.fop.into());
        field("fip", self.fip, ours.fip);
        field("fdp", self.fdp, ours.fdp);
        field("flags", self.flags, ours.flags);
        field("ax", self.ax, ours.ax);
        for i in 0..8 {
            if self.st[i] != ours.st[i] {
                let _ = write!(out, " st{i} {:?}/{:?}", self.st[i], ours.st[i]);
            }
        }
        for i in 0..MEMORY {
            if self.memory[i] != ours.memory[i] {
                let _ = write!(out, " [{i}] {:02x}/{:02x}", self.memory[i], ours.memory[i]);
            }
        }
        out
    }
}

struct Guest {
    cpu: CpuBox,
    interp: Interp,
}

impl Guest {
    fn new(instructions: &[Insn]) -> Self {
        let mem = PhysMem::new(4 << 20).expect("guest memory");
        for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x83)] {
            assert!(mem.write(PhysAddr(at), &entry.to_le_bytes()));
        }
        for (i, ins) in instructions.iter().enumerate() {
            assert!(mem.write(PhysAddr(CODE + SLOT * i as u64), &ins.bytes));
        }
        let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
        let s = &mut cpu.state;
        s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE;
        s.cr4 = cr4::PAE | cr4::OSFXSR;
        s.efer = efer::LME | efer::LMA;
        s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
        s.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
        cpu.load_cr3(0x1000);
        cpu.mode_changed();
        Self { cpu, interp: Interp::new() }
    }

    /// Executes instruction `i`. The image goes in and comes out as FXRSTOR and FXSAVE see it.
    fn run(&mut self, i: usize, ins: &Insn, before: &State) -> State {
        let s = &mut self.cpu.state;
        let top = usize::from(before.fsw >> 11 & 7);
        let f = &mut s.fpu;
        (f.fcw, f.fsw, f.ftw, f.fop) = (before.fcw, before.fsw, before.ftw, before.fop);
        (f.fip, f.fdp) = (before.fip, before.fdp);
        for n in 0..8 {
            f.st[(top + n) & 7] = before.st[n];
        }
        s.rip = CODE + SLOT * i as u64;
        s.gpr[0] = before.ax;
        s.gpr[7] = DATA;
        s.rflags = before.flags | 2;
        assert!(self.cpu.mem.write(PhysAddr(DATA + MEMORY_AT as u64), &before.memory));
        self.interp.step(&mut self.cpu);
        let s = &self.cpu.state;
        let at = CODE + SLOT * i as u64;
        assert_eq!(s.rip, at + ins.bytes.len() as u64, "{} faulted", ins.name);
        let mut memory = [0; MEMORY];
        assert!(self.cpu.mem.read(PhysAddr(DATA + MEMORY_AT as u64), &mut memory));
        let f = &self.cpu.state.fpu;
        let top = usize::from(f.fsw >> 11 & 7);
        State {
            fcw: f.fcw,
            fsw: f.fsw,
            ftw: f.ftw,
            fop: f.fop,
            fip: f.fip,
            fdp: f.fdp,
            st: std::array::from_fn(|n| f.st[(top + n) & 7]),
            flags: s.rflags & STATUS,
            ax: s.gpr[0],
            memory,
        }
        .relative(at, DATA + MEMORY_AT as u64)
    }
}

/// Orders encodings, so that a difference counts units in the last place.
fn ordinal(v: F80) -> i128 {
    let magnitude = (i128::from(v.exponent().max(1)) << 63) + i128::from(v.mant) - (1 << 63);
    if v.is_negative() { -magnitude } else { magnitude }
}

/// What Intel's processors do where the manual leaves it open; `before`: the state that both started from.
fn excuse_intel(ins: &Insn, before: &State, host: &State, ours: &mut State) {
    const UE: u16 = 0x10;
    const PENDING: u16 = 0x8080;
    let more = ours.fsw & !host.fsw;
    let same = (ours.fsw ^ host.fsw) & !more == 0;
    // FPREM1 whose dividend is the remainder, and denormal: nothing has been computed that could underflow.
    let untouched = host.st[0] == before.st[0] && before.st[0].exponent() == 0;
    if ins.bytes[..2] == [0xd9, 0xf5] && same && more == UE | PENDING && untouched {
        (ours.fsw, ours.st[0]) = (host.fsw, host.st[0]);
    }
    // A transcendental result that is the smallest normal number or the denormal below it.
    let border = |v: &F80| v.exponent() == 1 && v.mant == 1 << 63;
    if ins.approximate() && same && more == UE && before.fcw & UE != 0 && host.st.iter().any(border) {
        ours.fsw = host.fsw;
    }
}

/// Makes equal what the two need not agree on.
fn excuse(ins: &Insn, host: &mut State, ours: &mut State) {
    if ins.saves_environment() {
        // The pointers' values are addresses of different machines.
        let pointers = if ins.short() { 6..14 } else { 12..28 };
        ours.memory[pointers.clone()].copy_from_slice(&host.memory[pointers]);
    }
    if host.fsw & 0x80 == 0 {
        // AMD processors save the pointers only while an exception is pending.
        (ours.fop, ours.fip, ours.fdp) = (host.fop, host.fip, host.fdp);
    }
    for (theirs, ours) in [(host.fip, &mut ours.fip), (host.fdp, &mut ours.fdp)] {
        // So does the kernel when it switches tasks, and a pointer that the instruction only keeps is lost.
        if theirs == 0 && *ours & OURS != OURS {
            *ours = 0;
        }
    }
    if ins.approximate() {
        for n in 0..8 {
            let (a, b) = (host.st[n], ours.st[n]);
            if (ordinal(a) - ordinal(b)).abs() <= 1 {
                ours.st[n] = a;
            }
        }
        ours.fsw = ours.fsw & !C1 | host.fsw & C1;
    }
    if ins.sets_flags() && ours.fsw & C1 == 0 {
        // The manual clears C1 here; this processor keeps it.
        host.fsw &= !C1;
    }
}

#[test]
fn x87_instructions_match_the_host() {
    let (all, amd) = (instructions(), maker() == Maker::Amd);
    let host = Host::new();
    let mut guest = Guest::new(&all);
    let cases = std::env::var("CALQUE_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(CASES);
    let (mut report, mut wrong) = (String::new(), 0u64);
    for (i, ins) in all.iter().enumerate() {
        let code = host.prepare(&ins.bytes);
        let mut random = Random::named(&ins.name);
        let (mut bad, mut first) = (0, String::new());
        for _ in 0..cases {
            let before = random.state(ins);
            let mut frame = Frame::new(before.image(), before.memory, before.flags, before.ax);
            let data = host.run(&mut frame);
            let mut theirs = State::from_image(&frame.after, frame.flags_out, frame.ax_out, frame.memory)
                .relative(code, data);
            let mut ours = guest.run(i, ins, &before);
            if !amd {
                excuse_intel(ins, &before, &theirs, &mut ours);
            }
            excuse(ins, &mut theirs, &mut ours);
            if theirs != ours {
                bad += 1;
                if bad == 1 {
                    let b = &before;
                    let _ = write!(
                        first,
                        "{}\n    fcw {:x} fsw {:x} ftw {:x} st {:?} mem {:02x?}",
                        theirs.differences(&ours),
                        b.fcw,
                        b.fsw,
                        b.ftw,
                        b.st,
                        &b.memory[..10]
                    );
                }
            }
        }
        if bad != 0 {
            let _ = writeln!(report, "{} ({:02x?}): {bad} of {cases},{first}", ins.name, &ins.bytes[..2]);
        }
        wrong += bad;
    }
    eprintln!("{} encodings, {cases} states each, {wrong} differ", all.len());
    assert!(wrong == 0, "host/ours:\n{report}");
}

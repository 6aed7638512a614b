//! FXSAVE and the XSAVE family against the host processor, on x86-64 hosts.
//!
//! Each case is a few instructions that load a random area and save it in some form; both sides execute the same
//! bytes. The areas that come out must be equal byte for byte, what is left unwritten included.
#![cfg(target_arch = "x86_64")]

#[path = "x87_vs_host/host.rs"]
mod host;

use calque::diff::native::{Maker, maker};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::{Features, leaf1_ecx};
use emu_core::mem::PhysMem;
use emu_core::state::SegReg;
use emu_core::state::bits::{cr0, cr4, efer};
use host::{AREA, AREA_IN_AT, AREA_OUT_AT, Frame, Host, IMAGE, MEMORY};
use interp::Interp;

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x18_0000;
const CASES: u32 = 300;
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const AVX_AT: usize = 576;
/// FCS and FDS, in areas that are not of 64-bit pointers.
const SELECTORS: [std::ops::Range<usize>; 2] = [12..14, 20..22];

/// An instruction `0F xx` with its ModRM digit, and whether its area is compacted.
struct Form {
    name: &'static str,
    opcode: u8,
    digit: u8,
    compacted: bool,
}

const fn form(name: &'static str, opcode: u8, digit: u8, compacted: bool) -> Form {
    Form { name, opcode, digit, compacted }
}

const SAVES: [Form; 4] = [
    form("fxsave", 0xae, 0, false),
    form("xsave", 0xae, 4, false),
    form("xsaveopt", 0xae, 6, false),
    form("xsavec", 0xc7, 4, true),
];
const RESTORES: [Form; 3] = [
    form("fxrstor", 0xae, 1, false),
    form("xrstor", 0xae, 5, false),
    form("xrstor of a compacted area", 0xae, 5, true),
];

/// `mov eax, mask; xor edx, edx; instruction [rdi + at]`.
fn instruction(form: &Form, wide: bool, mask: u8, at: usize) -> Vec<u8> {
    let mut code = vec![0xb8, mask, 0, 0, 0, 0x31, 0xd2];
    if wide {
        code.push(0x48);
    }
    code.extend([0x0f, form.opcode, 0x87 | form.digit << 3]);
    code.extend((at as u32).to_le_bytes());
    code
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// An area that can be restored.
    fn area(&mut self, compacted: bool) -> [u8; AREA] {
        let mut a: [u8; AREA] = std::array::from_fn(|_| self.next() as u8);
        let control = self.next() as u16;
        let mxcsr = self.next() as u32 & 0xffff;
        a[..2].copy_from_slice(&control.to_le_bytes());
        a[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if a[2] & !control as u8 & 0x3f == 0 {
            // AMD processors keep the pointers only beside a pending exception.
            a[6..24].fill(0);
        }
        // And they are 48 bits wide.
        for at in [13, 21] {
            a[at] &= 0x7f;
            a[at + 1..at + 3].fill(0);
        }
        a[XSTATE_BV..AVX_AT].fill(0);
        let layout = if compacted { self.next() as u8 & 7 } else { 7 };
        a[XSTATE_BV] = self.next() as u8 & layout;
        if compacted {
            a[XCOMP_BV] = layout;
            a[XCOMP_BV + 7] = 0x80;
        }
        a
    }
}

struct Guest {
    cpu: CpuBox,
    interp: Interp,
}

impl Guest {
    fn new(code: &[u8]) -> Self {
        let mem = PhysMem::new(4 << 20).expect("guest memory");
        for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x83)] {
            assert!(mem.write(PhysAddr(at), &entry.to_le_bytes()));
        }
        assert!(mem.write(PhysAddr(CODE), code));
        let mut features = Features::max();
        features.leaf1_ecx |= leaf1_ecx::AVX;
        let mut cpu = Cpu::new(Wiring::bare(mem), features, 0);
        let s = &mut cpu.state;
        s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE;
        s.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXSAVE;
        s.efer = efer::LME | efer::LMA;
        s.xcr0 = 7;
        s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
        s.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
        cpu.load_cr3(0x1000);
        cpu.mode_changed();
        Self { cpu, interp: Interp::new() }
    }

    fn run(&mut self, len: usize, frame: &Frame) -> [u8; AREA] {
        let put = |at: usize, bytes: &[u8]| assert!(self.cpu.mem.write(PhysAddr(DATA + at as u64), bytes));
        put(AREA_IN_AT, &frame.area_in);
        put(AREA_IN_AT + AREA, &frame.clean);
        put(AREA_OUT_AT, &frame.area_out);
        self.cpu.state.rip = CODE;
        self.cpu.state.gpr[7] = DATA;
        while self.cpu.state.rip != CODE + len as u64 {
            self.interp.step(&mut self.cpu);
            assert!((CODE..=CODE + len as u64).contains(&self.cpu.state.rip), "a fault");
        }
        let mut out = [0; AREA];
        assert!(self.cpu.mem.read(PhysAddr(DATA + AREA_OUT_AT as u64), &mut out));
        out
    }
}

/// A pristine FXSAVE image for the frame of the host.
fn clean_image() -> [u8; IMAGE] {
    let mut image = [0; IMAGE];
    image[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    image[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    image
}

#[test]
fn areas_match_the_host() {
    if !std::arch::is_x86_feature_detected!("xsavec") || !std::arch::is_x86_feature_detected!("avx") {
        eprintln!("skipped: the host has no XSAVEC or no AVX");
        return;
    }
    let (host, amd) = (Host::new(), maker() == Maker::Amd);
    let mut random = Random(0x1234_5678_9abc_def1);
    // Everything goes to its initial configuration first, so that both sides start alike.
    for restore in &RESTORES {
        for save in &SAVES {
            for case in 0..CASES {
                let (load, store) = (random.next() as u8 & 7, random.next() as u8 & 7);
                let (wide, wide_store) = (random.next() & 1 != 0, random.next() & 1 != 0);
                let mut code = instruction(&form("xrstor", 0xae, 5, false), true, 7, AREA_IN_AT + AREA);
                code.extend(instruction(restore, wide, load, AREA_IN_AT));
                code.extend(instruction(save, wide_store, store, AREA_OUT_AT));
                let mut frame = Frame::new(clean_image(), [0; MEMORY], 0, 0);
                frame.area_in = random.area(restore.compacted);
                frame.area_out = random.area(false);
                let mut ours = Guest::new(&code).run(code.len(), &frame);
                host.prepare(&code);
                let before = frame.area_out;
                let mut theirs = before;
                // A task switch in between leaves components "in use" that are not; then once more.
                for _ in 0..3 {
                    frame.area_out = before;
                    host.run(&mut frame);
                    theirs = frame.area_out;
                    if theirs[28..32] == [0xff, 0xff, 2, 0] {
                        // This processor has one more bit in MXCSR: misaligned SSE.
                        theirs[30] = ours[30];
                    }
                    // SDM vol. 1, 8.1.8: processors that deprecate FCS and FDS save them as 0; calque's does not.
                    if !amd && !wide_store && SELECTORS.iter().all(|r| theirs[r.clone()] == [0, 0]) {
                        SELECTORS.iter().for_each(|r| ours[r.clone()].fill(0));
                    }
                    if theirs == ours {
                        break;
                    }
                }
                if theirs != ours {
                    let at: Vec<_> = (0..AREA).filter(|&i| theirs[i] != ours[i]).collect();
                    panic!(
                        "{} {load} then {} {store}, case {case}: bytes {at:?}\nhost {:02x?}\nours {:02x?}\nin bv {:x} comp {:x}",
                        restore.name,
                        save.name,
                        at.iter().map(|&i| theirs[i]).collect::<Vec<_>>(),
                        at.iter().map(|&i| ours[i]).collect::<Vec<_>>(),
                        frame.area_in[XSTATE_BV],
                        frame.area_in[XCOMP_BV],
                    );
                }
            }
        }
    }
}

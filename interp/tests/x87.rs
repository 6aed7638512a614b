//! The x87's surroundings, which no host test reaches: #MF and #NM, memory faults, the forms of the environment, and
//! the checks of FXRSTOR and XRSTOR.

mod machine;

use emu_core::softfloat::F80;
use emu_core::state::bits::{cr0, cr4, xcr0};
use emu_core::state::gpr::{RAX, RDI, RDX};
use machine::{CODE, DATA, Machine, READ_ONLY};

const HLT: u8 = 0xf4;
const NM: u64 = 7;
const UD: u64 = 6;
const GP: u64 = 13;
const PF: u64 = 14;
const MF: u64 = 16;

const FLD1: [u8; 2] = [0xd9, 0xe8];
const FLDZ: [u8; 2] = [0xd9, 0xee];
/// ST(1) = ST(1) / ST(0), pop.
const FDIVP: [u8; 2] = [0xde, 0xf9];
const FNSTSW_AX: [u8; 2] = [0xdf, 0xe0];
const FWAIT: [u8; 1] = [0x9b];

fn code(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = parts.concat();
    all.push(HLT);
    all
}

/// A machine for `parts` whose x87 is as after FNINIT, with `fcw`.
fn long(fcw: u16, parts: &[&[u8]]) -> Machine {
    let mut m = Machine::long(&code(parts));
    m.cpu.state.fpu.fcw = fcw;
    m.cpu.state.fpu.ftw = 0;
    m.set(RDI, DATA);
    m
}

#[test]
fn an_unmasked_exception_waits_for_the_next_waiting_instruction() {
    // ZE unmasked: the division is held back, FNSTSW does not wait, FWAIT does.
    let mut m = long(0x37b, &[&FLD1, &FLDZ, &FDIVP, &FNSTSW_AX, &FWAIT]);
    assert_eq!(m.fault(), MF);
    assert_eq!(m.reg(RAX) & 0xffff, 0x8080 | 4 | 6 << 11);
    let f = &m.cpu.state.fpu;
    assert_eq!((f.st[6], f.st[7], f.ftw), (F80::ZERO, F80::ONE, 0xc0));
    assert_eq!((f.fip, f.fop), (CODE + 4, 0x6f9));
}

#[test]
fn instructions_that_do_not_wait_clear_a_pending_exception() {
    for clearing in [[0xdb, 0xe2], [0xdb, 0xe3]] {
        let mut m = long(0x37b, &[&FLD1, &FLDZ, &FDIVP, &clearing, &FWAIT, &FLD1]);
        m.run();
        assert_eq!(m.cpu.state.fpu.fsw & 0x80ff, 0);
    }
}

#[test]
fn unmasking_makes_a_pending_exception_of_an_old_flag() {
    // The masked division sets ZE; FLDCW [rdi] then unmasks it.
    let mut m = long(0x37f, &[&FLD1, &FLDZ, &FDIVP, &[0xd9, 0x2f], &FLD1]);
    m.poke(DATA, 2, 0x37b);
    assert_eq!(m.fault(), MF);
}

#[test]
fn stack_faults_tell_overflow_from_underflow() {
    let nine: Vec<u8> = FLD1.repeat(9);
    let mut m = long(0x37f, &[&nine]);
    m.run();
    let f = m.cpu.state.fpu;
    assert_eq!(f.fsw, 0x241 | 7 << 11);
    assert_eq!(f.st[7], F80::INDEFINITE);
    // FABS of an empty register.
    let mut m = long(0x37f, &[&[0xd9, 0xe1]]);
    m.run();
    let f = m.cpu.state.fpu;
    assert_eq!((f.fsw, f.st[0], f.ftw), (0x41, F80::INDEFINITE, 1));
}

#[test]
fn task_switched_and_emulation_raise_nm() {
    let fxsave: &[u8] = &[0x0f, 0xae, 0x07];
    let cases: [(u64, &[u8], bool); 8] = [
        (cr0::TS, &FLD1, true),
        (cr0::EM, &FLD1, true),
        (cr0::TS, fxsave, true),
        (cr0::EM, fxsave, true),
        (cr0::TS, &FWAIT, false),
        (cr0::MP, &FLD1, false),
        (cr0::TS | cr0::MP, &FWAIT, true),
        (cr0::EM, &FWAIT, false),
    ];
    for (bits, ins, raises) in cases {
        let mut m = long(0x37f, &[ins]);
        m.cpu.state.cr0 |= bits;
        m.cpu.mode_changed();
        if raises {
            assert_eq!(m.fault(), NM, "{bits:#x} {ins:02x?}");
        } else {
            m.run();
            assert_eq!(m.cpu.state.rip, CODE + ins.len() as u64 + 1);
        }
    }
}

#[test]
fn a_store_that_faults_does_not_pop() {
    // FLD1; FSTP of ten bytes, across into the read-only page.
    let mut m = long(0x37f, &[&FLD1, &[0xdb, 0x3f]]);
    m.set(RDI, READ_ONLY - 5);
    m.poke(READ_ONLY - 5, 4, 0x5555_5555);
    assert_eq!(m.fault(), PF);
    let f = m.cpu.state.fpu;
    assert_eq!((f.fsw, f.ftw, f.fip), (7 << 11, 0x80, CODE));
    assert_eq!(m.peek(READ_ONLY - 5, 4), 0x5555_5555);
}

#[test]
fn environments_by_mode_and_size() {
    // Code and data at DATA >> 4 : 0, so that linear addresses differ from offsets.
    let environment = |m: &mut Machine, n: u64, size: usize| -> Vec<u64> {
        (0..n).map(|i| m.peek(DATA + i * size as u64, size)).collect()
    };
    let prepare = |m: &mut Machine| {
        let f = &mut m.cpu.state.fpu;
        (f.fcw, f.fsw, f.ftw) = (0x37f, 0x3800, 0xc0);
        (f.st[6], f.st[7]) = (F80::ONE, F80::INFINITY);
        (f.fip, f.fcs, f.fop) = (0x1234, 0x2000, 0x1e8);
        (f.fdp, f.fds) = (0x4321, 0x3000);
    };
    // FNSTENV [bx] in real mode, with and without an operand-size prefix.
    for (bytes, size) in [(&[0xd9u8, 0x37][..], 2), (&[0x66, 0xd9, 0x37][..], 4)] {
        let mut m = Machine::real(&code(&[bytes]));
        prepare(&mut m);
        m.cpu.state.seg[3].base = DATA;
        m.set(3, 0);
        m.run();
        let ones = if size == 4 { 0xffff_0000 } else { 0 };
        let want = [0x37f, 0x3800, 0x8fff, 0x1234, 0x21e8, 0x4321, 0x3000].map(|v: u64| v);
        let got = environment(&mut m, 7, size);
        assert_eq!(got[..3], [want[0] | ones, want[1] | ones, want[2] | ones]);
        assert_eq!(got[3..], want[3..]);
    }
    // FNSTENV [edi] in protected mode.
    for (bytes, size) in [(&[0xd9u8, 0x37][..], 4), (&[0x66, 0xd9, 0x37][..], 2)] {
        let mut m = Machine::prot(&code(&[bytes]));
        prepare(&mut m);
        m.set(RDI, DATA);
        m.run();
        let got = environment(&mut m, 7, size);
        let want = match size {
            4 => [0xffff_037f, 0xffff_3800, 0xffff_8fff, 0x1234, 0x01e8_2000, 0x4321, 0xffff_3000],
            _ => [0x37f, 0x3800, 0x8fff, 0x1234, 0x2000, 0x4321, 0x3000],
        };
        assert_eq!(got, want);
    }
}

#[test]
fn fsave_and_frstor_are_inverse() {
    // FNSAVE [rdi]; FRSTOR [rdi].
    let mut m = long(0x123f, &[&FLD1, &FLDZ, &[0xdd, 0x37], &[0xdd, 0x27]]);
    m.cpu.state.fpu.fsw = 0x4700;
    m.run();
    let f = m.cpu.state.fpu;
    assert_eq!((f.fcw, f.fsw, f.ftw), (0x127f, 0x4500 | 6 << 11, 0xc0));
    assert_eq!((f.st[6], f.st[7], f.fip), (F80::ZERO, F80::ONE, CODE + 2));
}

#[test]
fn fxsave_is_all_or_nothing() {
    let mut m = long(0x37f, &[&[0x0f, 0xae, 0x07]]);
    m.set(RDI, DATA + 8);
    assert_eq!(m.fault(), GP);
    let mut m = long(0x37f, &[&[0x0f, 0xae, 0x07]]);
    m.set(RDI, READ_ONLY - 0x100);
    m.poke(READ_ONLY - 0x100, 8, 0x1122_3344_5566_7788);
    assert_eq!(m.fault(), PF);
    assert_eq!(m.peek(READ_ONLY - 0x100, 8), 0x1122_3344_5566_7788);
    assert_eq!(m.cpu.state.cr2, READ_ONLY);
}

#[test]
fn fxrstor_refuses_unknown_mxcsr_bits() {
    let mut m = long(0x37f, &[&[0x0f, 0xae, 0x0f]]);
    m.poke(DATA, 2, 0x27f).poke(DATA + 24, 4, 0x1_1f80);
    assert_eq!(m.fault(), GP);
    assert_eq!((m.cpu.state.fpu.fcw, m.cpu.state.mxcsr), (0x37f, 0x1f80));
}

/// A machine that executes one instruction on [rdi], with XSAVE enabled and every component requested.
fn xsave(ins: &[u8]) -> Machine {
    let mut m = long(0x37f, &[ins]);
    m.cpu.state.cr4 |= cr4::OSXSAVE;
    m.cpu.state.xcr0 = xcr0::X87 | xcr0::SSE | xcr0::AVX | xcr0::PKRU;
    m.cpu.mode_changed();
    m.set(RAX, 0xffff_ffff).set(RDX, 0xffff_ffff);
    m
}

const XSAVE: [u8; 3] = [0x0f, 0xae, 0x27];
const XSAVEC: [u8; 3] = [0x0f, 0xc7, 0x27];
const XSAVES: [u8; 3] = [0x0f, 0xc7, 0x2f];
const XRSTOR: [u8; 3] = [0x0f, 0xae, 0x2f];
const XRSTORS: [u8; 3] = [0x0f, 0xc7, 0x1f];
const XSTATE_BV: u64 = DATA + 512;
const XCOMP_BV: u64 = DATA + 520;
const COMPACTED: u64 = 1 << 63;

#[test]
fn xsave_needs_osxsave_alignment_and_no_task_switch() {
    for ins in [XSAVE, XRSTOR, XSAVEC, XSAVES, XRSTORS] {
        let mut m = xsave(&ins);
        m.cpu.state.cr4 &= !cr4::OSXSAVE;
        assert_eq!(m.fault(), UD);
        let mut m = xsave(&ins);
        m.set(RDI, DATA + 16);
        assert_eq!(m.fault(), GP);
        let mut m = xsave(&ins);
        m.cpu.state.cr0 |= cr0::TS;
        m.cpu.mode_changed();
        assert_eq!(m.fault(), NM);
    }
}

#[test]
fn xrstor_checks_the_header() {
    let bad: [(&[u8], u64, u64, u64); 8] = [
        // A component that XCR0 does not enable.
        (&XRSTOR, 1 << 5, 0, 0),
        // XCOMP_BV in the standard format, and the eight bytes after it.
        (&XRSTOR, 1, 1, 0),
        (&XRSTOR, 1, 0, 1),
        // Compacted: a component that is not in the layout, or not enabled; reserved bytes.
        (&XRSTOR, 3, COMPACTED | 1, 0),
        (&XRSTOR, 1, COMPACTED | 1 << 6, 0),
        (&XRSTOR, 1, COMPACTED | 1, 1),
        // XRSTORS takes nothing but compacted areas.
        (&XRSTORS, 1, 0, 0),
        (&XRSTORS, 1 << 5, COMPACTED | 1, 0),
    ];
    for (ins, bv, comp, rest) in bad {
        let mut m = xsave(ins);
        m.poke(DATA + 24, 4, 0x1f80);
        m.poke(XSTATE_BV, 8, bv).poke(XCOMP_BV, 8, comp).poke(XCOMP_BV + 8, 8, rest);
        assert_eq!(m.fault(), GP, "{ins:02x?} {bv:x} {comp:x} {rest:x}");
    }
}

#[test]
fn compacted_areas_hold_what_is_requested_in_order() {
    for ins in [XSAVEC, XSAVES] {
        let mut m = xsave(&ins);
        m.set(RAX, xcr0::SSE | xcr0::AVX | xcr0::PKRU);
        m.cpu.state.vec[3].0 = [0, 0, 5, 6, 0, 0, 0, 0];
        m.cpu.state.pkru = 0x55;
        m.poke(DATA + 160, 8, 0x77);
        m.run();
        // SSE is in its initial configuration and is not written.
        assert_eq!(m.peek(XSTATE_BV, 8), xcr0::AVX | xcr0::PKRU);
        assert_eq!(m.peek(XCOMP_BV, 8), COMPACTED | xcr0::SSE | xcr0::AVX | xcr0::PKRU);
        assert_eq!((m.peek(DATA + 160, 8), m.peek(DATA + 24, 8)), (0x77, 0));
        assert_eq!((m.peek(DATA + 576 + 48, 8), m.peek(DATA + 576 + 56, 8)), (5, 6));
        assert_eq!(m.peek(DATA + 576 + 256, 8), 0x55);
    }
}

#[test]
fn xrstor_initialises_what_is_absent() {
    let mut m = xsave(&XRSTOR);
    m.set(RAX, xcr0::X87 | xcr0::AVX | xcr0::PKRU);
    m.cpu.state.vec[15].0 = [1, 2, 3, 4, 0, 0, 0, 0];
    m.cpu.state.pkru = 0x55;
    m.cpu.state.fpu.fsw = 0x4700;
    m.cpu.state.fpu.st[0] = F80::ONE;
    // MXCSR goes with AVX in the standard format, present or not.
    m.poke(DATA + 24, 4, 0x1fa0);
    m.run();
    let s = &m.cpu.state;
    assert_eq!(s.vec[15].0[..4], [1, 2, 0, 0]);
    assert_eq!((s.pkru, s.fpu.fsw, s.fpu.fcw, s.fpu.st[0]), (0, 0, 0x37f, F80::ZERO));
    assert_eq!(s.mxcsr, 0x1fa0);
}

#[test]
fn outside_64_bit_code_the_upper_registers_stay() {
    // FXSAVE [edi]; FXRSTOR [edi + 512].
    let mut m = Machine::prot(&code(&[&[0x0f, 0xae, 0x07], &[0x0f, 0xae, 0x8f, 0, 2, 0, 0]]));
    m.set(RDI, DATA);
    m.poke(DATA + 512 + 24, 4, 0x1f80).poke(DATA + 512 + 160, 8, 9);
    for v in &mut m.cpu.state.vec {
        v.0[0] = 7;
    }
    m.poke(DATA + 160 + 128, 8, 0x33);
    m.run();
    assert_eq!((m.peek(DATA + 160 + 112, 8), m.peek(DATA + 160 + 128, 8)), (7, 0x33));
    assert_eq!([0, 1, 8].map(|i| m.cpu.state.vec[i].0[0]), [9, 0, 7]);
}

//! Far transfers within and between privilege levels, gates, and returns.

use super::*;
use crate::system::testbed::*;
use emu_core::state::bits::rflags;
use emu_core::state::gpr;

const NEXT: u64 = CODE + 7;

fn err(vector: Vector, sel: u16) -> Result<(), Exception> {
    Err(Exception::with_error(vector, u32::from(sel & !3)))
}

#[test]
fn real_mode_call_and_ret() {
    let mut b = Bed::real();
    call(&mut b.cpu, 0x1234, 0x10, 2, NEXT).unwrap();
    assert_eq!((b.sel(Seg::CS), b.cpu.state.rip), (0x1234, 0x10));
    assert_eq!(b.cpu.state.seg[Seg::CS as usize].base, 0x1_2340);
    ret(&mut b.cpu, 2, 6).unwrap();
    assert_eq!((b.sel(Seg::CS), b.cpu.state.rip, b.rsp()), (0, NEXT, 0x7006));
    assert_eq!(jmp(&mut b.cpu, 0, 0x1_0000, 4, NEXT), Err(Exception::gp0()));
}

#[test]
fn direct_transfers_check_privilege() {
    let mut b = Bed::protected();
    jmp(&mut b.cpu, CODE32, 0x1_2345, 4, NEXT).unwrap();
    assert_eq!(b.cpu.state.rip, 0x1_2345);
    assert_eq!(jmp(&mut b.cpu, 0, 0, 4, NEXT), Err(Exception::gp0()));
    assert_eq!(jmp(&mut b.cpu, DATA, 0, 4, NEXT), err(Vector::GP, DATA));
    assert_eq!(jmp(&mut b.cpu, USER_CODE32, 0, 4, NEXT), err(Vector::GP, USER_CODE32));
    assert_eq!(jmp(&mut b.cpu, ABSENT_CODE, 0, 4, NEXT), err(Vector::NP, ABSENT_CODE));
    assert_eq!(jmp(&mut b.cpu, 0xff8, 0, 4, NEXT), err(Vector::GP, 0xff8));
    assert_eq!(jmp(&mut b.cpu, CODE16, 0x1_0000, 4, NEXT), Err(Exception::gp0()));

    // A conforming segment is entered at the caller's level.
    let mut b = Bed::protected().user(USER_CODE32);
    call(&mut b.cpu, CONFORMING, HANDLER, 4, NEXT).unwrap();
    assert_eq!((b.sel(Seg::CS), b.cpu.state.cpl()), (CONFORMING | 3, 3));
    assert_eq!(b.stack(4, 2), [NEXT, USER_CODE32.into()]);
    ret(&mut b.cpu, 4, 0).unwrap();
    assert_eq!((b.cpu.state.rip, b.rsp()), (NEXT, STACK));
}

#[test]
fn call_gate_copies_parameters_and_far_ret_releases_them() {
    let mut b = Bed::protected().user(USER_CODE32);
    b.describe(GATE, HANDLER | u64::from(CODE32) << 16 | 0xec02 << 32);
    b.push(4, &[0xaaaa, 0xbbbb]);
    call(&mut b.cpu, GATE | 3, 0xdead, 4, NEXT).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip), (0, HANDLER));
    assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS)), (CODE32, DATA));
    let frame = [NEXT, USER_CODE32.into(), 0xbbbb, 0xaaaa, STACK - 8, USER_DATA.into()];
    assert_eq!(b.stack(4, 6), frame);
    b.set(Seg::DS, DATA);
    ret(&mut b.cpu, 4, 8).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, NEXT, STACK));
    // DS of ring 0 does not leak out; ES of ring 3 stays.
    assert_eq!((b.sel(Seg::DS), b.sel(Seg::ES)), (0, USER_DATA));
}

#[test]
fn sixteen_bit_call_gate() {
    let mut b = Bed::protected().user(USER_CODE32);
    b.describe(GATE, 0x9000 | u64::from(CODE16) << 16 | 0xe400 << 32);
    call(&mut b.cpu, GATE | 3, 0, 4, NEXT).unwrap();
    assert_eq!(b.stack(2, 4), [NEXT, USER_CODE32.into(), 0, USER_DATA.into()]);
    assert_eq!(b.rsp(), RING0_STACK - 8);
}

#[test]
fn gate_privilege_and_presence() {
    let mut b = Bed::protected().user(USER_CODE32);
    b.describe(GATE, HANDLER | u64::from(CODE32) << 16 | 0x8c00 << 32);
    assert_eq!(call(&mut b.cpu, GATE | 3, 0, 4, NEXT), err(Vector::GP, GATE));
    b.describe(GATE, HANDLER | u64::from(CODE32) << 16 | 0x6c00 << 32);
    assert_eq!(call(&mut b.cpu, GATE | 3, 0, 4, NEXT), err(Vector::NP, GATE));
    b.describe(GATE, HANDLER | u64::from(CODE32) << 16 | 0xec00 << 32);
    // JMP cannot go inwards.
    assert_eq!(jmp(&mut b.cpu, GATE | 3, 0, 4, NEXT), err(Vector::GP, CODE32));
    let before = b.essence();
    b.poke(TSS + 8, 2, ABSENT_DATA.into());
    assert_eq!(call(&mut b.cpu, GATE | 3, 0, 4, NEXT), err(Vector::SS, ABSENT_DATA));
    assert_eq!(b.essence(), before);
}

#[test]
fn long_mode_call_gate() {
    let mut b = Bed::long().user(USER_CODE64);
    b.describe(GATE, 0x9000 | u64::from(CODE64) << 16 | 0xec00 << 32);
    b.describe(GATE + 8, 0xffff_8000);
    call(&mut b.cpu, GATE | 3, 0, 8, NEXT).unwrap();
    assert_eq!(b.cpu.state.rip, 0xffff_8000_0000_9000);
    assert_eq!((b.cpu.state.cpl(), b.sel(Seg::SS)), (0, 0));
    assert_eq!(b.stack(8, 4), [NEXT, USER_CODE64.into(), STACK, USER_DATA.into()]);
    ret(&mut b.cpu, 8, 0).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, NEXT, STACK));
    b.describe(GATE, 0x9000 | u64::from(CODE32) << 16 | 0xec00 << 32);
    assert_eq!(call(&mut b.cpu, GATE | 3, 0, 8, NEXT), err(Vector::GP, CODE32));
    assert_eq!(call(&mut b.cpu, TSS_SEL, 0, 8, NEXT), err(Vector::GP, TSS_SEL));
}

#[test]
fn between_compatibility_and_64_bit_code() {
    let mut b = Bed::long();
    jmp(&mut b.cpu, CODE32, HANDLER, 4, NEXT).unwrap();
    assert!(!b.cpu.state.is_long64() && b.cpu.state.long_mode());
    jmp(&mut b.cpu, CODE64, HANDLER, 4, NEXT).unwrap();
    assert!(b.cpu.state.is_long64());
    b.push(8, &[CODE32.into(), 0x4000]);
    ret(&mut b.cpu, 8, 0).unwrap();
    assert_eq!((b.sel(Seg::CS), b.cpu.state.rip, b.rsp()), (CODE32, 0x4000, STACK));
}

#[test]
fn iretq_to_user_keeps_the_bases_of_null_segments() {
    let mut b = Bed::long();
    for s in [Seg::FS, Seg::DS, Seg::ES] {
        b.cpu.state.seg[s as usize] = SegReg::null(0);
    }
    b.cpu.state.seg[Seg::FS as usize].base = 0x7f00_0000_1000;
    let image = 2 | rflags::IF | rflags::IOPL | rflags::AC;
    b.push(8, &[USER_DATA.into(), 0x5000, image, USER_CODE64.into(), 0x4000]);
    iret(&mut b.cpu, 8, NEXT).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, 0x4000, 0x5000));
    assert_eq!(b.cpu.state.rflags, image);
    assert_eq!(b.cpu.state.seg[Seg::FS as usize].base, 0x7f00_0000_1000);
    assert_eq!(b.sel(Seg::GS), 0);
}

#[test]
fn iretq_within_ring_0_with_a_null_stack() {
    let mut b = Bed::long();
    b.push(8, &[0, 0x5000, 2, CODE64.into(), 0x4000]);
    iret(&mut b.cpu, 8, NEXT).unwrap();
    assert_eq!((b.sel(Seg::SS), b.rsp(), b.cpu.state.cpl()), (0, 0x5000, 0));
}

#[test]
fn iret_refusals_change_nothing() {
    let check = |frame: &[u64], want: Result<(), Exception>| {
        let mut b = Bed::long();
        b.push(8, frame);
        let before = b.essence();
        assert_eq!(iret(&mut b.cpu, 8, NEXT), want);
        assert_eq!(b.essence(), before);
    };
    let (cs, ss) = (u64::from(USER_CODE64), u64::from(USER_DATA));
    check(&[ss, 0, 2, 0, 0], Err(Exception::gp0()));
    check(&[ss, 0, 2, cs, 0x8000_0000_0000_0000], Err(Exception::gp0()));
    check(&[0, 0, 2, cs, 0], Err(Exception::gp0()));
    check(&[DATA.into(), 0, 2, cs, 0], err(Vector::GP, DATA));
    check(&[ss, 0, 2, u64::from(CODE64 | 3), 0], err(Vector::GP, CODE64));
    check(&[ss, 0, 2, ABSENT_CODE.into(), 0], err(Vector::NP, ABSENT_CODE));
    let mut b = Bed::long();
    b.cpu.state.rflags |= rflags::NT;
    assert_eq!(iret(&mut b.cpu, 8, NEXT), Err(Exception::gp0()));
}

#[test]
fn user_iret_cannot_raise_its_rights() {
    let mut b = Bed::protected().user(USER_CODE32);
    b.cpu.state.rflags = 2 | rflags::IF;
    b.push(4, &[2 | rflags::IOPL | rflags::VM | rflags::CF, USER_CODE32.into(), 0x4000]);
    iret(&mut b.cpu, 4, NEXT).unwrap();
    assert_eq!(b.cpu.state.rflags, 2 | rflags::IF | rflags::CF);
}

#[test]
fn outer_16_bit_stack_keeps_the_upper_half() {
    let mut b = Bed::protected();
    b.describe(EXPAND_DOWN, 0x0000_f300_0000_ffff);
    b.push(4, &[u64::from(EXPAND_DOWN | 3), 0x9_1234, 2, USER_CODE32.into(), 0x4000]);
    iret(&mut b.cpu, 4, NEXT).unwrap();
    assert_eq!(b.rsp(), (STACK - 20) & 0xffff_0000 | 0x1234);
}

#[test]
fn ret_underflow_is_a_stack_fault() {
    let mut b = Bed::protected();
    b.set(Seg::SS, DATA16);
    b.cpu.state.gpr[gpr::RSP] = 0xfffe;
    assert_eq!(ret(&mut b.cpu, 4, 0), Err(Exception::ss0()));
    assert_eq!(b.rsp(), 0xfffe);
}

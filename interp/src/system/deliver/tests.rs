//! Every way of delivery, error codes, double and triple faults, and the service of requests.

use super::*;
use crate::system::testbed::*;
use crate::system::{far, flags, misc};
use emu_core::addr::PhysAddr;
use emu_core::bus::Dma;
use emu_core::signals::request;
use emu_core::state::bits::{cr4, shadow};
use emu_core::state::{Seg, gpr};
use std::sync::atomic::Ordering;

const INT32: u64 = 0x8e;
const TRAP32: u64 = 0x8f;

#[test]
fn real_mode_pushes_three_words() {
    let mut b = Bed::real();
    b.cpu.state.rflags = 2 | rflags::IF | rflags::CF;
    exception(&mut b.cpu, Exception::gp0()).unwrap();
    assert_eq!(b.cpu.state.rip, HANDLER + 13);
    assert_eq!(b.rsp(), 0x7000 - 6);
    assert_eq!(b.stack(2, 3), [CODE, 0, 2 | rflags::IF | rflags::CF]);
    assert_eq!(b.cpu.state.rflags, 2 | rflags::CF);
    far::iret(&mut b.cpu, 2, 0).unwrap();
    assert_eq!((b.cpu.state.rip, b.rsp()), (CODE, 0x7000));
    assert_eq!(b.cpu.state.rflags, 2 | rflags::IF | rflags::CF);
}

#[test]
fn a_short_vector_table_is_a_triple_fault_in_the_end() {
    let mut b = Bed::real();
    b.cpu.state.idtr.limit = 3;
    let before = b.essence();
    assert_eq!(exception(&mut b.cpu, Exception::ud()), Err(Shutdown));
    assert_eq!(b.essence(), before);
    assert_eq!(b.cpu.state.activity, Activity::Shutdown);
}

#[test]
fn protected_same_level_with_error_code() {
    let mut b = Bed::protected();
    b.gate32(14, CODE32, 0x12_3456, TRAP32);
    b.cpu.state.rflags = 2 | rflags::IF | rflags::TF | rflags::NT;
    exception(&mut b.cpu, Exception::page_fault(0xdead_b000, 7)).unwrap();
    assert_eq!(b.cpu.state.cr2, 0xdead_b000);
    assert_eq!(b.cpu.state.rip, 0x12_3456);
    let image = 2 | rflags::IF | rflags::TF | rflags::NT | rflags::RF;
    assert_eq!(b.stack(4, 4), [7, CODE, CODE32.into(), image]);
    // A trap gate leaves IF alone.
    assert_eq!(b.cpu.state.rflags, 2 | rflags::IF);
}

#[test]
fn protected_from_user_switches_stacks() {
    let mut b = Bed::protected().user(USER_CODE32);
    b.gate32(0x80, CODE32, HANDLER, INT32 | 3 << 5);
    b.cpu.state.rflags = 2 | rflags::IF;
    misc::int_n(&mut b.cpu, 0x80, CODE + 2).unwrap();
    assert_eq!(b.cpu.state.cpl(), 0);
    assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS)), (CODE32, DATA));
    assert_eq!(b.rsp(), RING0_STACK - 20);
    assert_eq!(b.stack(4, 5), [CODE + 2, USER_CODE32.into(), 2 | rflags::IF, STACK, USER_DATA.into()]);
    assert_eq!(b.cpu.state.rflags & rflags::IF, 0);
    far::iret(&mut b.cpu, 4, 0).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, CODE + 2, STACK));
}

#[test]
fn sixteen_bit_gate_pushes_words() {
    let mut b = Bed::protected();
    b.gate32(13, CODE16, 0x1_9000, 0x86);
    exception(&mut b.cpu, Exception::with_error(Vector::GP, 0x18)).unwrap();
    assert_eq!(b.cpu.state.rip, 0x9000);
    assert_eq!(b.stack(2, 4), [0x18, CODE, CODE32.into(), 2]);
}

#[test]
fn gate_errors() {
    let int = |b: &mut Bed| misc::int_n(&mut b.cpu, 0x40, CODE + 2);
    let check = |setup: &dyn Fn(&mut Bed), want: Exception| {
        let mut b = Bed::protected().user(USER_CODE32);
        b.gate32(0x40, CODE32, HANDLER, INT32 | 3 << 5);
        setup(&mut b);
        let before = b.essence();
        assert_eq!(int(&mut b), Err(want));
        assert_eq!(b.essence(), before);
    };
    let err = Exception::with_error;
    let gate = 0x40 * 8 + 2;
    check(&|b| b.cpu.state.idtr.limit = 0x1ff, err(Vector::GP, gate));
    check(&|b| b.gate32(0x40, CODE32, HANDLER, INT32), err(Vector::GP, gate));
    check(&|b| b.gate32(0x40, CODE32, HANDLER, 0xec), err(Vector::GP, gate));
    check(&|b| b.gate32(0x40, CODE32, HANDLER, 0x6e), err(Vector::NP, gate));
    check(&|b| b.gate32(0x40, 0, HANDLER, 0xee), err(Vector::GP, 0));
    check(&|b| b.gate32(0x40, DATA, HANDLER, 0xee), err(Vector::GP, DATA.into()));
    check(&|b| b.gate32(0x40, 0xf00, HANDLER, 0xee), err(Vector::GP, 0xf00));
    check(&|b| b.gate32(0x40, ABSENT_CODE, HANDLER, 0xee), err(Vector::NP, ABSENT_CODE.into()));
    check(&|b| b.poke(TSS + 8, 2, 0), err(Vector::TS, 0));
    check(&|b| b.poke(TSS + 8, 2, USER_DATA.into()), err(Vector::TS, u32::from(USER_DATA & !3)));
    check(&|b| b.poke(TSS + 8, 2, ABSENT_DATA.into()), err(Vector::SS, ABSENT_DATA.into()));
    check(&|b| b.cpu.state.tr.limit = 5, err(Vector::TS, TSS_SEL.into()));
}

#[test]
fn external_events_set_ext() {
    let mut b = Bed::protected();
    let e = interrupt(&mut b.cpu, 0x40, Kind::External).unwrap_err();
    assert_eq!(e, Exception::with_error(Vector::GP, 0x40 * 8 + 3));
    let e = interrupt(&mut b.cpu, 1, Kind::Int1 { next_rip: 0 }).unwrap_err();
    assert_eq!(e.error, 8 + 3);
}

#[test]
fn double_and_triple_faults() {
    let mut b = Bed::protected();
    b.gate32(8, CODE32, HANDLER, INT32);
    // No gate for #GP: contributory upon contributory.
    exception(&mut b.cpu, Exception::gp0()).unwrap();
    assert_eq!(b.cpu.state.rip, HANDLER);
    assert_eq!(b.stack(4, 2), [0, CODE]);
    assert_eq!(b.stack(4, 4)[3] & rflags::RF, 0);

    let mut b = Bed::protected();
    let before = b.essence();
    assert_eq!(exception(&mut b.cpu, Exception::gp0()), Err(Shutdown));
    assert_eq!(b.essence(), before);
}

#[test]
fn benign_then_contributory_is_delivered_as_the_second() {
    let mut b = Bed::protected();
    b.gate32(13, CODE32, HANDLER, INT32);
    exception(&mut b.cpu, Exception::ud()).unwrap();
    assert_eq!(b.stack(4, 2), [6 * 8 + 3, CODE]);
}

#[test]
fn v86_goes_to_ring_0_with_all_segments() {
    let mut b = Bed::v86(0);
    b.gate32(13, CODE32, HANDLER, INT32);
    for (i, s) in [Seg::ES, Seg::DS, Seg::FS, Seg::GS].into_iter().enumerate() {
        b.cpu.state.seg[s as usize].sel = 0x100 + i as u16;
    }
    let flags = b.cpu.state.rflags | rflags::RF;
    exception(&mut b.cpu, Exception::gp0()).unwrap();
    assert!(!b.cpu.state.v86());
    assert_eq!(b.stack(4, 10), [0, CODE, 0, flags, 0x7000, 0, 0x100, 0x101, 0x102, 0x103]);
    assert!(!b.cpu.state.seg[Seg::DS as usize].present());
    b.cpu.state.gpr[gpr::RSP] += 4;
    far::iret(&mut b.cpu, 4, 0).unwrap();
    assert!(b.cpu.state.v86());
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, CODE, 0x7000));
    assert_eq!(b.cpu.state.seg[Seg::GS as usize].base, 0x1030);
}

#[test]
fn v86_software_interrupts() {
    let mut b = Bed::v86(0);
    assert_eq!(misc::int_n(&mut b.cpu, 0x21, CODE + 2), Err(Exception::gp0()));

    // VME with a clear bit in the redirection bitmap: the 8086-style handler, with VIF for IF.
    let mut b = Bed::v86(0);
    b.cpu.state.cr4 |= cr4::VME;
    b.poke(TSS + 0x66, 2, 0x88);
    b.cpu.state.rflags |= rflags::VIF;
    misc::int_n(&mut b.cpu, 0x21, CODE + 2).unwrap();
    assert_eq!(b.cpu.state.rip, HANDLER + 0x21);
    assert_eq!(b.stack(2, 3), [CODE + 2, 0, 2 | rflags::IF | rflags::IOPL]);
    assert_eq!(b.cpu.state.rflags & rflags::VIF, 0);
    far::iret(&mut b.cpu, 2, 0).unwrap();
    assert_eq!(b.cpu.state.rip, CODE + 2);
    assert_ne!(b.cpu.state.rflags & rflags::VIF, 0);
    assert_eq!(b.cpu.state.rflags & (rflags::IF | rflags::IOPL), 0);
}

#[test]
fn long_mode_from_user_aligns_and_nulls_ss() {
    let mut b = Bed::long().user(USER_CODE64);
    b.gate64(14, CODE64, 0xffff_8000_0000_9000, INT32, 0);
    b.cpu.state.gpr[gpr::RSP] = STACK - 3;
    b.cpu.state.rflags = 2 | rflags::IF;
    exception(&mut b.cpu, Exception::page_fault(0x1234, 4)).unwrap();
    assert_eq!(b.cpu.state.rip, 0xffff_8000_0000_9000);
    assert_eq!((b.sel(Seg::CS), b.sel(Seg::SS), b.cpu.state.cpl()), (CODE64, 0, 0));
    assert_eq!(b.rsp(), RING0_STACK - 48);
    let image = 2 | rflags::IF | rflags::RF;
    assert_eq!(b.stack(8, 6), [4, CODE, USER_CODE64.into(), image, STACK - 3, USER_DATA.into()]);
    b.cpu.state.gpr[gpr::RSP] += 8;
    far::iret(&mut b.cpu, 8, 0).unwrap();
    assert_eq!((b.cpu.state.cpl(), b.cpu.state.rip, b.rsp()), (3, CODE, STACK - 3));
    // No breakpoint is enabled, so RF is of no use to anyone.
    assert_eq!(b.cpu.state.rflags, 2 | rflags::IF);
}

#[test]
fn long_mode_same_level_and_ist() {
    let mut b = Bed::long();
    b.gate64(6, CODE64, HANDLER, INT32, 0);
    b.gate64(2, CODE64, HANDLER, INT32, 1);
    b.cpu.state.gpr[gpr::RSP] = STACK - 8;
    exception(&mut b.cpu, Exception::ud()).unwrap();
    assert_eq!(b.rsp(), STACK - 16 - 40);
    assert_eq!(b.stack(8, 5)[3..], [STACK - 8, DATA.into()]);
    assert_eq!(b.sel(Seg::SS), DATA);
    asynchronous(&mut b.cpu, 2, Kind::Nmi).unwrap();
    assert_eq!(b.rsp(), IST_STACK - 40);
    assert!(b.cpu.state.nmi_blocked);
    b.cpu.signals.raise(request::NMI);
    assert_eq!(service(&mut b.cpu), Service::Nothing);
    assert_eq!(b.cpu.signals.peek(), 0);
    far::iret(&mut b.cpu, 8, 0).unwrap();
    assert!(!b.cpu.state.nmi_blocked);
    assert_eq!(b.cpu.signals.peek(), request::NMI);
}

#[test]
fn long_mode_bad_targets() {
    let mut b = Bed::long();
    b.gate64(6, CODE32, HANDLER, INT32, 0);
    let e = raise(&mut b.cpu, Exception::ud()).unwrap_err();
    assert_eq!(e, Exception::with_error(Vector::GP, u32::from(CODE32) | 1));
    b.gate64(6, CODE64, 0x8000_0000_0000_0000, INT32, 0);
    assert_eq!(raise(&mut b.cpu, Exception::ud()), Err(Exception::with_error(Vector::GP, 1)));
    b.gate64(6, CODE64, HANDLER, INT32, 0);
    b.cpu.state.gpr[gpr::RSP] = 0x8000_0000_0000_0000;
    assert_eq!(raise(&mut b.cpu, Exception::ud()), Err(Exception::with_error(Vector::SS, 1)));
}

#[test]
fn a_page_fault_on_the_new_stack_becomes_a_double_fault_on_its_own() {
    let mut b = Bed::long().user(USER_CODE64);
    b.gate64(14, CODE64, HANDLER, INT32, 0);
    b.gate64(8, CODE64, HANDLER + 8, INT32, 1);
    b.unmap(RING0_STACK - 8);
    exception(&mut b.cpu, Exception::page_fault(0x1234, 4)).unwrap();
    assert_eq!(b.cpu.state.rip, HANDLER + 8);
    assert_eq!(b.cpu.state.cr2, RING0_STACK - 8);
    assert_eq!(b.stack(8, 2), [0, CODE]);
}

#[test]
fn debug_exceptions_set_dr6() {
    let mut b = Bed::long();
    b.gate64(1, CODE64, HANDLER, INT32, 0);
    b.cpu.state.dr[7] |= 1 << 13;
    exception(&mut b.cpu, debug(1 << 14, false)).unwrap();
    assert_eq!(b.cpu.state.dr[6], 0xffff_4ff0);
    assert_eq!(b.cpu.state.dr[7], 0x400);
    assert_eq!(b.stack(8, 3)[2], 2);
    exception(&mut b.cpu, debug(1, true)).unwrap();
    assert_eq!(b.stack(8, 3)[2], 2 | rflags::RF);
}

#[test]
fn masked_interrupts_are_signalled_again_by_sti() {
    let mut b = Bed::long();
    b.gate64(0x40, CODE64, HANDLER, INT32, 0);
    b.irq.vector.store(0x40, Ordering::Relaxed);
    b.irq.waiting.store(true, Ordering::Relaxed);
    b.cpu.signals.raise(request::INTR);
    assert_eq!(service(&mut b.cpu), Service::Nothing);
    assert_eq!(b.cpu.signals.peek(), 0);
    flags::sti(&mut b.cpu).unwrap();
    assert_eq!(b.cpu.signals.peek(), request::INTR);
    assert_eq!(b.cpu.state.shadow, shadow::STI);
    assert_eq!(service(&mut b.cpu), Service::Nothing);
    misc::hlt(&mut b.cpu).unwrap();
    assert_eq!(service(&mut b.cpu), Service::Taken);
    assert_eq!((b.cpu.state.rip, b.cpu.state.activity), (HANDLER, Activity::Active));
    assert_eq!(b.cpu.signals.peek(), 0);
}

#[test]
fn halted_until_something_comes() {
    let mut b = Bed::long();
    misc::hlt(&mut b.cpu).unwrap();
    assert_eq!(service(&mut b.cpu), Service::Halted);
    b.cpu.signals.raise(request::STOP);
    assert_eq!(service(&mut b.cpu), Service::Exit(request::STOP));
    assert_eq!(b.cpu.signals.peek(), request::STOP);
}

#[test]
fn mail_reports_writes_to_code() {
    let mut b = Bed::long();
    b.cpu.mark_code(8, 1 << 2);
    assert!(b.cpu.mem.dma_write(PhysAddr(CODE + 0x90), &[0x90; 4]));
    assert_eq!(service(&mut b.cpu), Service::Nothing);
    assert_eq!(b.cpu.code_hits.len(), 1);
    assert_eq!(b.cpu.code_hits[0].chunks, 1 << 2);
}

#[test]
fn system_management_mode_and_back() {
    let mut b = Bed::long();
    let before = b.essence();
    b.cpu.signals.raise(request::SMI);
    assert_eq!(service(&mut b.cpu), Service::Taken);
    assert!(b.cpu.state.smm && b.cpu.state.real_mode());
    assert_eq!(b.cpu.state.rip, 0x8000);
    assert_eq!(b.cpu.state.seg[Seg::CS as usize].base, 0x3_0000);
    b.cpu.signals.raise(request::SMI);
    assert_eq!(service(&mut b.cpu), Service::Nothing);
    misc::rsm(&mut b.cpu).unwrap();
    assert_eq!(b.essence(), before);
    assert!(b.cpu.state.is_long64() && !b.cpu.state.nmi_blocked);
    assert_eq!(b.cpu.signals.peek(), request::SMI);
    assert_eq!(misc::rsm(&mut b.cpu), Err(Exception::ud()));
}

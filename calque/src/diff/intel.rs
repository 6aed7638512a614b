//! Where Intel's processors do what their manual leaves open, and others or its pseudo-code do not; calque's guest sees
//! the pseudo-code. As in [`super::makers`], a reason names the instruction, the place, and what may differ. None of these has
//! been seen of AMD's processors, of which they excuse nothing.

use super::decoding::repeats;
use super::host::{quad, word};
use super::leg::{Ran, Step};
use super::makers::{Place, address, compares, spans, vector};
use super::native::{Maker, Seen, maker};
use super::reasons::Reason;
use emu_core::addr::is_canonical;
use emu_core::state::gpr::{RCX, RDI, RSI};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic as M, OpAccess, OpKind, Register};

/// Bits of a linear address in cases for the host.
const BITS: u32 = 48;

/// Differences at the instruction at which both ended.
pub(super) fn both_stopped(
    place: &Place<'_>,
    s: &Step,
    i: &Instruction,
    all: &[(&Step, Instruction)],
) -> Option<Reason> {
    if !place.same || maker() == Maker::Amd {
        return None;
    }
    let agreed = place.ours == place.seen.vector;
    let mmx = i.op_kind(0) == OpKind::Memory && i.op1_register().is_mm();
    if mmx && only_top(place, all) {
        if agreed && place.only(&["fsw", "st("]) {
            return Some(Reason::MmxBeforeFault);
        }
        if before_refusal(place, s, i) && place.only(&["vector", "fsw", "st("]) {
            return Some(Reason::SameClass);
        }
    }
    let long = matches!(i.mnemonic(), M::Fstp | M::Fbstp) && i.memory_size().size() == 10;
    let half = |at, size| over_a_page(at, size) && place.only_memory(at, at + size);
    if agreed && long && spans(s, i, half) {
        return Some(Reason::PartialStore);
    }
    if agreed && narrow_string(s, i) && only_upper_halves(place) {
        return Some(Reason::StringUpper);
    }
    if other_first(place, s, i) {
        return Some(Reason::SameClass);
    }
    conversion(place, i, agreed).or_else(|| masked(place, s, i, agreed))
}

/// Whether the host has checked the alignment of an operand that is not canonical from end to end.
fn before_refusal(place: &Place<'_>, s: &Step, i: &Instruction) -> bool {
    let refused = matches!(place.ours, vector::GP | vector::SS);
    s.bits == 64 && refused && place.seen.vector == vector::AC && spans(s, i, over_the_hole)
}

/// Whether both found something at the same operand, and each another thing.
fn other_first(place: &Place<'_>, s: &Step, i: &Instruction) -> bool {
    let (ours, host) = (place.ours, place.seen.vector);
    let refused = matches!(ours, vector::GP | vector::SS);
    if i.mnemonic() == M::Vcvtps2ph && i.op_kind(0) == OpKind::Memory && host == vector::XM {
        let store = refused || ours == vector::PF;
        return store && place.only(&["vector", "mxcsr"]) && only_more_flags(place);
    }
    if !place.only(&["vector"]) {
        return false;
    }
    match host {
        vector::AC => before_refusal(place, s, i),
        vector::GP | vector::SS => ours == vector::PF && masked_move(i) && lane_over_the_hole(place, s, i),
        vector::BR => ours == vector::PF && i.mnemonic() == M::Bound && spans(s, i, over_a_page),
        _ => false,
    }
}

/// VCVTPS2PH's flags beside an exception.
fn conversion(place: &Place<'_>, i: &Instruction, agreed: bool) -> Option<Reason> {
    if i.mnemonic() != M::Vcvtps2ph || !agreed || !place.only(&["mxcsr"]) {
        return None;
    }
    if place.ours == vector::XM {
        return more_precise(place).then_some(Reason::HalfInexact);
    }
    let store = i.op_kind(0) == OpKind::Memory;
    (store && only_more_flags(place)).then_some(Reason::FlagsBeforeFault)
}

/// The address that a masked move faults at.
fn masked(place: &Place<'_>, s: &Step, i: &Instruction, agreed: bool) -> Option<Reason> {
    let (here, there) = (place.ran.caught.map_or(0, |c| c.cr2), place.seen.cr2);
    let in_page = |at: u64, size: u64| here >> 12 == there >> 12 && there.wrapping_sub(at) < size;
    let other = masked_move(i) && agreed && place.only(&["cr2"]) && spans(s, i, in_page);
    other.then_some(Reason::MaskedAddress)
}

/// Differences that an instruction leaves which both completed.
pub(super) fn left(place: &Place<'_>, all: &[(&Step, Instruction)]) -> Option<Reason> {
    if maker() == Maker::Amd {
        return None;
    }
    upper_halves_left(place, all).or_else(|| nans_left(all))
}

/// A repeated string instruction with 32-bit addresses and no element to do.
fn upper_halves_left(place: &Place<'_>, all: &[(&Step, Instruction)]) -> Option<Reason> {
    let upper = |s: &Step| [RCX, RSI, RDI].iter().any(|r| s.gpr[*r] >> 32 != 0);
    let at = all.iter().position(|(s, i)| narrow_string(s, i) && s.gpr[RCX] as u32 == 0 && upper(s))?;
    let registers = [Register::RCX, Register::RSI, Register::RDI];
    let used = read(&all[at + 1..], |r| registers.contains(&r.full_register()));
    (used || only_upper_halves(place)).then_some(Reason::StringUpper)
}

fn is_dot(i: &Instruction) -> bool {
    matches!(i.mnemonic(), M::Dpps | M::Dppd | M::Vdpps | M::Vdppd)
}

/// Whether a line is about the result of DPPS or DPPD, where both have NaNs. Such do not spread: what differs besides wants a
/// reason of its own.
pub(super) fn is_nan_of_dot(all: &[(&Step, Instruction)], ran: &Ran, seen: &Seen, line: &str) -> bool {
    let dots = || all.iter().map(|(_, i)| i).filter(|i| is_dot(i));
    maker() != Maker::Amd
        && dots().any(|i| {
            let n = i.op0_register().number();
            let double = matches!(i.mnemonic(), M::Dppd | M::Vdppd);
            line.starts_with(&format!("vector register {n}:")) && only_nans(ran, seen, n, double)
        })
}

/// DPPS or DPPD, whose result somebody has read.
fn nans_left(all: &[(&Step, Instruction)]) -> Option<Reason> {
    let number = |r: Register| r.is_vector_register().then(|| r.number());
    let spread = |(at, i): (usize, &Instruction)| {
        let result = number(i.op0_register());
        is_dot(i) && read(&all[at + 1..], |r| number(r) == result)
    };
    all.iter().map(|(_, i)| i).enumerate().any(spread).then_some(Reason::DotNan)
}

/// Whether all lanes of vector register `n` that differ hold NaNs on both sides.
fn only_nans(ran: &Ran, seen: &Seen, n: usize, double: bool) -> bool {
    (0..4).all(|q| {
        let (a, b) = (ran.state.vec[n].0[q], seen.vector_word(n, q));
        if double {
            return a == b || f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan();
        }
        [0, 32].iter().all(|lane| {
            let (a, b) = ((a >> lane) as u32, (b >> lane) as u32);
            a == b || f32::from_bits(a).is_nan() && f32::from_bits(b).is_nan()
        })
    })
}

/// Whether one of these reads a register for which `of` holds.
fn read(all: &[(&Step, Instruction)], of: impl Fn(Register) -> bool) -> bool {
    let mut factory = InstructionInfoFactory::new();
    all.iter().any(|(_, i)| {
        let info = factory.info(i);
        let reads = |a: OpAccess| !matches!(a, OpAccess::None | OpAccess::Write | OpAccess::CondWrite);
        info.used_registers().iter().any(|u| reads(u.access()) && of(u.register()))
            || info.used_memory().iter().any(|m| of(m.base()) || of(m.index()))
    })
}

/// The host's MXCSR; its upper half is zero.
fn mxcsr(seen: &Seen) -> u32 {
    word(&seen.fxsave[..], 24).into()
}

/// Whether the host has, beside our flags in MXCSR, more of them.
fn only_more_flags(place: &Place<'_>) -> bool {
    const FLAGS: u32 = 0x3f;
    let (host, ours) = (mxcsr(place.seen), place.ran.state.mxcsr);
    (host ^ ours) & !FLAGS == 0 && ours & !host == 0
}

/// Whether the host has PE beside UE, which is unmasked.
fn more_precise(place: &Place<'_>) -> bool {
    const UE: u32 = 1 << 4;
    const PE: u32 = 1 << 5;
    const UM: u32 = 1 << 11;
    let ours = place.ran.state.mxcsr;
    ours & (UE | PE | UM) == UE && mxcsr(place.seen) == ours | PE
}

/// Whether the x87's state differs in TOP alone, which is 0 on the host, and so in which register is which.
///
/// C1 may differ, too, after FCOMI.
fn only_top(place: &Place<'_>, all: &[(&Step, Instruction)]) -> bool {
    const TOP: u16 = 7 << 11;
    let c1 = if all.iter().any(|(_, i)| compares(i)) { 1 << 9 } else { 0 };
    let f = &place.seen.fxsave[..];
    let (host, fpu) = (word(f, 2), &place.ran.state.fpu);
    let registers =
        || (0..8).all(|n| (fpu.st[n].mant, fpu.st[n].se) == (quad(f, 32 + 16 * n), word(f, 40 + 16 * n)));
    (host ^ fpu.fsw) & !(TOP | c1) == 0 && host & TOP == 0 && registers()
}

/// Whether only RCX, RSI and RDI differ, and on the host are ours with their upper halves clear.
fn only_upper_halves(place: &Place<'_>) -> bool {
    let cut = |r: usize| {
        let (ours, host) = (place.ran.state.gpr[r], place.seen.gpr[r]);
        ours == host || ours & 0xffff_ffff == host
    };
    place.only(&["rcx", "rsi", "rdi"]) && [RCX, RSI, RDI].into_iter().all(cut)
}

/// A repeated string instruction of 64-bit code with 32-bit addresses.
fn narrow_string(s: &Step, i: &Instruction) -> bool {
    let narrow =
        |n| matches!(i.op_kind(n), OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI);
    s.bits == 64 && i.is_string_instruction() && repeats(s) && (0..i.op_count()).any(narrow)
}

/// Loads and stores of lanes that a mask chooses.
fn masked_move(i: &Instruction) -> bool {
    matches!(i.mnemonic(), M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq)
}

/// Whether it is one whose operand goes over the end of what its address size reaches: processors that cut the address of
/// each lane find its upper ones at 0.
pub(super) fn cuts_lanes(s: &Step, i: &Instruction) -> bool {
    let end = match i.memory_base().size() {
        2 => 1 << 16,
        4 => 1 << 32,
        _ => return false,
    };
    let over = |a: u64| a < end && a + i.memory_size().size() as u64 > end;
    masked_move(i) && address(s, i).is_some_and(over)
}

/// Whether a lane that the mask chooses does not end at a canonical address.
fn lane_over_the_hole(place: &Place<'_>, s: &Step, i: &Instruction) -> bool {
    let double = matches!(i.mnemonic(), M::Vmaskmovpd | M::Vpmaskmovq);
    let bits = if double { 64 } else { 32 };
    let mask = place.ran.state.vec[i.op1_register().number() & 15].0;
    let chosen = |lane: usize| mask[lane * bits / 64] >> (lane * bits % 64 + bits - 1) & 1 != 0;
    let last = |lane: usize, at: u64| at.wrapping_add(((lane + 1) * bits / 8 - 1) as u64);
    let lanes = i.memory_size().size() * 8 / bits;
    address(s, i).is_some_and(|at| (0..lanes).any(|n| chosen(n) && !is_canonical(last(n, at), BITS)))
}

/// Whether an operand is in two pages.
fn over_a_page(at: u64, size: u64) -> bool {
    at >> 12 != at.wrapping_add(size - 1) >> 12
}

/// Whether just one end of an operand is canonical.
fn over_the_hole(at: u64, size: u64) -> bool {
    is_canonical(at, BITS) != is_canonical(at.wrapping_add(size - 1), BITS)
}

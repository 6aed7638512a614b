//! Where processors of different makers differ by their own manuals; calque's guest sees Intel's.
//!
//! Each reason demands the one instruction that it is about, at the place where the two part: what had come before
//! cannot be compared any more when one side went on.

use super::explain::Reason;
use super::leg::{Ran, Step};
use super::native::Seen;
use super::scene::Scene;
use emu_core::state::bits::rflags;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

/// Vectors that are told apart here.
mod vector {
    pub const UD: u8 = 6;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const AC: u8 = 17;
}

/// Which of these reasons a difference has, if it has one.
pub(super) fn differ(
    scene: &Scene,
    all: &[(&Step, Instruction)],
    ran: &Ran,
    seen: &Seen,
    list: &[String],
) -> Option<Reason> {
    let ours = ran.caught.map_or(0, |c| c.vector);
    let here = ran.state.rip;
    let last = all.last().filter(|(s, _)| s.rip == here);
    // The host stopped at an instruction that the interpreter came by.
    let stopped = all.iter().rev().find(|(s, _)| s.rip == seen.rip);
    if seen.vector == vector::AC && seen.rflags & rflags::AC != 0 && (ours, here) != (vector::AC, seen.rip) {
        if stopped.is_some_and(|(s, i)| wide(i) && misaligned(s, i, 16)) {
            return Some(Reason::VectorAlignment);
        }
        return (ours == vector::PF && here == seen.rip).then_some(Reason::SameClass);
    }
    if let Some((s, i)) = stopped {
        let form = format!("{:?}", i.code());
        if seen.vector == vector::UD && form.ends_with("0F0D") && i.op_kind(0) == OpKind::Register {
            return Some(Reason::PrefetchRegister);
        }
        let masked =
            matches!(i.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu);
        if masked && seen.vector == vector::PF {
            return Some(Reason::MaskedStore);
        }
        let both = (ours, seen.vector) == (vector::PF, vector::GP) && seen.rip == here;
        if both && scene.bits == 64 && leaves_half(s, i) {
            return Some(Reason::SameClass);
        }
    }
    if let Some((s, i)) = last {
        let sha = format!("{:?}", i.mnemonic()).starts_with("Sha");
        if ours == vector::GP && sha && misaligned(s, i, 16) {
            return Some(Reason::ShaAlignment);
        }
        let refused = matches!(seen.vector, vector::GP | vector::SS) && seen.rip == here;
        if scene.bits == 32 && ours == vector::PF && refused && wraps(s, i) {
            return Some(Reason::SegmentWrap);
        }
        if i.is_vsib() && ours == seen.vector && seen.rip == here && only_mask(i, ran, seen, list) {
            return Some(Reason::GatherMask);
        }
        if ours == vector::GP && seen.vector == vector::GP && wild(i) {
            // The interpreter refuses the jump, the host what it finds there.
            let places = ["rip", "rsp", "rcx", "memory"];
            return list.iter().all(|l| places.iter().any(|p| l.starts_with(p))).then_some(Reason::WildJump);
        }
    }
    (scene.bits == 64 && all.iter().any(|(s, _)| narrow_branch(s))).then_some(Reason::BranchSize)
}

/// Whether it reads or writes 16 bytes or more at once.
fn wide(i: &Instruction) -> bool {
    i.memory_size().size() >= 16
}

/// The linear address of its memory operand, where that has no segment base.
fn address(s: &Step, i: &Instruction) -> Option<u64> {
    let n = (0..i.op_count()).find(|n| i.op_kind(*n) == OpKind::Memory)?;
    i.virtual_address(n, 0, |r, _, _| {
        if r.is_segment_register() {
            return Some(0);
        }
        let full = *s.gpr.get(r.full_register().number())?;
        (r.is_gpr()).then_some(match r.size() {
            2 => full & 0xffff,
            4 => full & 0xffff_ffff,
            _ => full,
        })
    })
}

fn misaligned(s: &Step, i: &Instruction, to: u64) -> bool {
    address(s, i).is_some_and(|a| a % to != 0)
}

/// Whether an access wraps around 4 GiB.
fn wraps(s: &Step, i: &Instruction) -> bool {
    let size = i.memory_size().size() as u64;
    address(s, i).is_some_and(|a| (a & 0xffff_ffff) + size > 1 << 32)
}

/// Whether an access begins in the lower canonical half and ends behind it.
fn leaves_half(s: &Step, i: &Instruction) -> bool {
    const END: u64 = 1 << 47;
    address(s, i).is_some_and(|a| a < END && a + i.memory_size().size() as u64 > END)
}

/// Whether only the mask of a gather differs, and in no sign bit of an element that counts.
fn only_mask(i: &Instruction, ran: &Ran, seen: &Seen, list: &[String]) -> bool {
    let mask = i.op_register(2);
    if !mask.is_vector_register() {
        return false;
    }
    let n = mask.number();
    let name = format!("vector register {n}:");
    let bytes = i.memory_size().size().max(4);
    // The mask beyond the elements is cleared.
    let indices = i.memory_index().size() / if i.is_vsib64() { 8 } else { 4 };
    let count = indices.min(i.op_register(0).size() / bytes);
    let host = |at: usize| {
        let low = seen.fxsave.get(160 + 16 * n + 8 * at..160 + 16 * n + 8 * at + 8);
        match at {
            0 | 1 => low.and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes),
            _ => seen.upper[n][at - 2],
        }
    };
    let element = |word: &dyn Fn(usize) -> u64, e: usize| {
        let at = e * bytes;
        word(at / 8) << (64 - 8 * bytes - 8 * (at % 8)) >> (64 - 8 * bytes)
    };
    let ours = |at: usize| ran.state.vec[n].0[at];
    let sign = 1 << (8 * bytes - 1);
    list.iter().all(|l| l.starts_with(&name))
        && (0..32 / bytes).all(|e| {
            let (a, b) = (element(&ours, e), element(&host, e));
            if e < count { (a ^ b) & sign == 0 } else { a == 0 }
        })
}

/// A jump whose target comes from a register or memory.
fn wild(i: &Instruction) -> bool {
    matches!(i.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return)
}

/// A near branch that AMD's processors take with 16 bits.
fn narrow_branch(s: &Step) -> bool {
    let read = |options| Decoder::with_ip(64, &s.bytes, s.rip, options).decode();
    let (intel, amd) = (read(DecoderOptions::NONE), read(DecoderOptions::AMD));
    intel.code() != amd.code() && amd.flow_control() != FlowControl::Next
}

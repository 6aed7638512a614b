//! Gathers that fault: the manual lets them end half-way, and processors differ in how far they were.

use super::leg::Ran;
use super::makers::{Place, vector};
use super::native::{Maker, Seen, maker};
use super::reasons::Reason;
use emu_core::state::bits::rflags;
use iced_x86::Instruction;

/// Differences at a gather at which the interpreter ended; `agreed`: the host did, too, and in the same way.
pub(super) fn differ(place: &Place<'_>, i: &Instruction, agreed: bool) -> Option<Reason> {
    if !i.is_vsib() {
        return None;
    }
    if agreed {
        let upper = |l: &&String| maker() == Maker::Amd || !only_upper_cleared(i, place.ran, place.seen, l);
        let rest: Vec<String> = place.list.iter().filter(upper).cloned().collect();
        if only_mask(i, place.ran, place.seen, &rest) {
            let upper_too = rest.len() < place.list.len();
            return Some(if upper_too { Reason::GatherUpper } else { Reason::GatherMask });
        }
    }
    let trapped = place.same && place.seen.vector == vector::DB && place.seen.rflags & rflags::TF != 0;
    (place.ours == vector::PF && trapped && place.only(&["vector"])).then_some(Reason::GatherTrap)
}

/// Whether a line is about the destination of a gather into 128 bits, whose upper half the host has cleared; the lower is the
/// same.
fn only_upper_cleared(i: &Instruction, ran: &Ran, seen: &Seen, line: &str) -> bool {
    let d = i.op0_register();
    let n = d.number();
    let low = (0..2).all(|q| ran.state.vec[n].0[q] == seen.vector_word(n, q));
    d.is_xmm() && line.starts_with(&format!("vector register {n}:")) && low && seen.upper[n] == [0; 2]
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
    let host = |at: usize| seen.vector_word(n, at);
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

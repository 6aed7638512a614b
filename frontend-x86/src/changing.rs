//! Code that keeps changing: which of its bytes the guest has stored to again and again, so that an immediate or
//! displacement made of them is lifted as data ([`Op::CodeWord`]) and the next store need not drop the block.

use emu_core::addr::{AddrMap, PAGE_SIZE, PhysAddr};
use emu_core::cpu::CodeHit;
use emu_core::ir::{Op, Type, Value};
use iced_x86::{ConstantOffsets, Instruction, Mnemonic as M};

use crate::operand::Cx;

/// The most 64-byte chunks that are kept in mind; beyond that all are forgotten.
const MOST: usize = 4096;

/// So often the code of a chunk is translated before it has stayed what it is for long, if it has words: each time its
/// bytes that change may be found to be more.
const EARLY: u8 = 8;

/// Bytes of a chunk, by bit, that were stored to while something had been decoded from it.
#[derive(Clone, Copy, Debug, Default)]
struct Stores {
    once: u64,
    again: u64,
    /// Runs of blocks that begin in it since they were last translated early.
    runs: u32,
    early: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Changing(AddrMap<u64, Stores>);

impl Changing {
    /// Whether it knows of no stores.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes stores to decoded bytes.
    pub fn note(&mut self, hits: &[CodeHit]) {
        for hit in hits {
            let first = hit.page.0 >> 6;
            if hit.bytes == !0 {
                // Other code altogether, or none.
                if !self.0.is_empty() {
                    (0..64)
                        .filter(|n| hit.chunks >> n & 1 != 0)
                        .for_each(|n| _ = self.0.remove(&(first | n)));
                }
                continue;
            }
            if self.0.len() >= MOST {
                self.0.clear();
            }
            let s = self.0.entry(first | u64::from(hit.chunks.trailing_zeros() & 63)).or_default();
            s.again |= s.once & hit.bytes;
            s.once |= hit.bytes;
        }
    }

    /// Whether the block at `at`, which is about to run, should be translated although it has not run `hot` times since it
    /// changed: so often the code there has run in all, and an immediate changed each time.
    pub(crate) fn is_hot(&mut self, at: PhysAddr, hot: u32) -> bool {
        let Some(s) = self.0.get_mut(&(at.0 >> 6)).filter(|s| s.again != 0 && s.early < EARLY) else {
            return false;
        };
        s.runs += 1;
        let is_hot = s.runs > hot;
        if is_hot {
            s.runs = 0;
            s.early += 1;
        }
        is_hot
    }

    /// The block at `at` was lifted and has no words: it will not outlive a store, so it is not translated early again.
    pub(crate) fn has_none(&mut self, at: PhysAddr) {
        if let Some(s) = self.0.get_mut(&(at.0 >> 6)) {
            s.early = EARLY;
        }
    }

    /// Which of the `len` bytes at `at`, at most 64, were stored to more than once, by bit.
    fn among(&self, at: PhysAddr, len: usize) -> u64 {
        let again = |chunk: u64| self.0.get(&chunk).map_or(0, |s| s.again);
        let (first, shift) = (at.0 >> 6, at.0 % 64);
        let next = if shift + len as u64 > 64 { again(first + 1) << (64 - shift) } else { 0 };
        (again(first) >> shift | next) & (!0 >> (64 - len))
    }

    /// The part of the instruction `i`, which begins at `at`, `rel` bytes behind its block's start, that is to be lifted
    /// as data: if the bytes that change are all in one immediate or displacement.
    pub(crate) fn word(
        &self,
        i: &Instruction,
        parts: impl Fn() -> ConstantOffsets,
        at: PhysAddr,
        rel: i64,
    ) -> Option<Word> {
        let changing = self.among(at, i.len());
        if changing == 0 || at.offset() + i.len() as u64 > PAGE_SIZE || !allows(i.mnemonic()) {
            return None;
        }
        let parts = parts();
        let fields = [
            (Part::Immediate, parts.immediate_offset(), parts.immediate_size()),
            (Part::Displacement, parts.displacement_offset(), parts.displacement_size()),
        ];
        let (part, first, size) = fields.into_iter().find(|&(_, first, size)| {
            matches!(size, 1 | 2 | 4 | 8) && changing & !((!0 >> (64 - size)) << first) == 0
        })?;
        Some(Word { part, rel: rel + first as i64, ty: Type::int(size as u32), used: false })
    }
}

/// Instructions whose immediates and displacements are lifted by [`Cx::read`], [`Cx::offset`] and `branch`, and nowhere else.
fn allows(m: M) -> bool {
    matches!(
        m,
        M::Mov
            | M::Lea
            | M::Add
            | M::Sub
            | M::Adc
            | M::Sbb
            | M::And
            | M::Or
            | M::Xor
            | M::Cmp
            | M::Test
            | M::Imul
            | M::Push
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Inc
            | M::Dec
            | M::Jmp
            | M::Call
    )
}

/// A part of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Of a jump, its distance.
    Immediate,
    Displacement,
}

/// A part of the instruction in hand that is lifted as data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    part: Part,
    /// Its place behind the block's start, in bytes.
    pub rel: i64,
    /// Its size.
    pub ty: Type,
    /// It has been lifted so.
    pub used: bool,
}

impl Cx<'_, '_> {
    /// The sign-extended `part` of the instruction in hand as a value of type `ty`, if it is to be lifted as data.
    pub fn word(&mut self, part: Part, ty: Type) -> Option<Value> {
        let word = self.word.as_mut().filter(|w| w.part == part && w.ty.bits() <= ty.bits())?;
        word.used = true;
        let (from, rel) = (word.ty, word.rel);
        let v = self.b.op_imm(Op::CodeWord, from, &[], rel, 0);
        Some(if from == ty { v } else { self.op(Op::SExt, ty, &[v]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(at: u64, bytes: usize) -> CodeHit {
        CodeHit::of_store(PhysAddr(at), bytes, 1, 1 << (at >> 6 & 63))
    }

    #[test]
    fn bytes_change_when_they_were_stored_to_twice() {
        let mut c = Changing::default();
        c.note(&[store(0x1042, 4)]);
        assert_eq!(c.among(PhysAddr(0x1040), 7), 0);
        c.note(&[store(0x1042, 4)]);
        assert_eq!(c.among(PhysAddr(0x1040), 7), 0b11_1100);
        assert_eq!(c.among(PhysAddr(0x103e), 15), 0b1111_0000);
        c.note(&[store(0x107f, 1), store(0x107f, 1), store(0x1080, 1), store(0x1080, 1)]);
        assert_eq!(c.among(PhysAddr(0x107d), 5), 0b1100);
        c.note(&[CodeHit::whole(PhysAddr(0x1000), 1, 2); 2]);
        assert_eq!(c.among(PhysAddr(0x1040), 15), 0);
        assert_eq!(c.among(PhysAddr(0x107d), 5), 0b1000);
    }
}

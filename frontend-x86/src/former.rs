//! Block forming: decodes instructions one after the other until something ends the block.
//!
//! A block ends at control flow, before an instruction that is not lifted, at the end of the page and at a bound on
//! the number of instructions. Only a block of a single instruction may reach into a second page.

use crate::lift;
use crate::operand::{Cx, Flow, NotLifted};
use crate::support::Support;
use emu_core::features::leaf7_ebx;
use emu_core::ir::{Block, BlockKey, Op, Type};
use emu_core::state::Mode;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic};

/// Whether a block is finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The terminator is written.
    Done,
    /// The bytes end within or before the next instruction.
    NeedBytes,
}

/// A block being formed.
#[derive(Debug)]
pub(crate) struct Former<'a> {
    pub block: Block,
    /// Bound on the number of instructions.
    pub limit: u32,
    pub support: &'a mut Support,
    pub cs_limit: u32,
    /// Leave PAUSE to the interpreter, which offers the host processor to other vCPUs.
    pub several: bool,
    /// The instruction that ended the block because it is not lifted.
    pub refused: Option<Mnemonic>,
}

impl<'a> Former<'a> {
    pub fn new(key: BlockKey, limit: u32, support: &'a mut Support, cs_limit: u32) -> Self {
        Self { block: Block::new(key), limit, support, cs_limit, several: false, refused: None }
    }

    fn options(&self) -> u32 {
        let f = self.support.features();
        // Without the features that gave them meaning, the prefixes and the 0F 18 to 0F 1F space do nothing.
        let mut o = DecoderOptions::FORCE_RESERVED_NOP | DecoderOptions::NO_WBNOINVD;
        if f.leaf7_ebx & leaf7_ebx::BMI1 == 0 {
            o |= DecoderOptions::NO_MPFX_0FBC;
        }
        if f.ext1_ecx & 1 << 5 == 0 {
            o |= DecoderOptions::NO_MPFX_0FBD;
        }
        o
    }

    /// Continues with the code in `bytes`, which begin at the block's first byte.
    pub fn run(&mut self, bytes: &[u8]) -> Step {
        let key = self.block.key;
        let at = self.block.guest_len as usize;
        let ip = key.rip.wrapping_add(at as u64);
        let mut decoder = Decoder::with_ip(key.mode.code_bits(), &bytes[at..], ip, self.options());
        let mut insn = Instruction::default();
        loop {
            if self.block.guest_insns == self.limit {
                self.finish();
                return Step::Done;
            }
            if !decoder.can_decode() {
                return Step::NeedBytes;
            }
            decoder.decode_out(&mut insn);
            if insn.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
                return Step::NeedBytes;
            }
            let end = at + decoder.position();
            match self.one(&insn, &bytes[end - insn.len()..end]) {
                Ok(Flow::Next) => {}
                Ok(Flow::End) => return Step::Done,
                Err(NotLifted) => {
                    self.refuse(insn.mnemonic());
                    return Step::Done;
                }
            }
        }
    }

    /// Lifts one instruction; on failure the block is as before.
    fn one(&mut self, insn: &Instruction, bytes: &[u8]) -> Result<Flow, NotLifted> {
        let mode = self.block.key.mode;
        let end = insn.next_ip();
        let top = match mode.code_bits() {
            64 => u64::MAX,
            32 => u64::from(u32::MAX),
            _ => 0xffff,
        };
        let top = if mode.contains(Mode::FLAT) { top } else { top.min(self.cs_limit.into()) };
        // An instruction that reaches or wraps at the end of the segment is rare enough not to be understood here.
        if insn.is_invalid()
            || end.wrapping_sub(1) >= top
            || !self.support.allows(insn)
            || self.several && insn.mnemonic() == Mnemonic::Pause
        {
            return Err(NotLifted);
        }
        let before = self.block.insts.len();
        let rel = i64::from(self.block.guest_len);
        self.block.op_imm(Op::Guest, Type::Void, &[], rel, insn.len() as u32);
        let features = *self.support.features();
        let cs_limit = self.cs_limit;
        let mut cx = Cx { b: &mut self.block, i: insn, bytes, mode, features: &features, cs_limit };
        match lift::lift(&mut cx) {
            Ok(flow) => {
                self.block.guest_len += insn.len() as u32;
                self.block.guest_insns += 1;
                Ok(flow)
            }
            Err(e) => {
                self.block.insts.truncate(before);
                Err(e)
            }
        }
    }

    /// Ends the block by going on at the next instruction.
    pub fn finish(&mut self) {
        let rel = i64::from(self.block.guest_len);
        self.block.op_imm(Op::Goto, Type::Void, &[], rel, 0);
    }

    /// Ends the block before an instruction that the interpreter has to execute.
    pub fn refuse(&mut self, m: Mnemonic) {
        let rel = i64::from(self.block.guest_len);
        self.block.op_imm(Op::Interpret, Type::Void, &[], rel, m as u32);
        self.refused = Some(m);
    }
}

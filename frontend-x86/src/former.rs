//! Block forming: decodes instructions one after the other until something ends the block.
//!
//! A block ends at control flow (unless `trace` has it go on), before an instruction that is not lifted, at the end of the page and at a bound on
//! the number of instructions. Only a block of a single instruction may reach into a second page.

use crate::Emits;
use crate::changing::{Changing, Word};
use crate::lift;
use crate::operand::{Cx, Flow, NotLifted};
use crate::path::Path;
use crate::support::Support;
use crate::trace::{Guide, Trace};
use emu_core::addr::PAGE_SIZE;
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
    /// LOCK in user mode need not be: see [`crate::Lifter::elide_locks`].
    pub alone: bool,
    /// What the emitter takes.
    pub emits: Emits,
    /// What keeps changing, of code in RAM.
    pub changing: Option<&'a Changing>,
    /// The RAM page that the block begins in.
    pub ram: Option<usize>,
    /// Relative RIP of the next instruction.
    pub pos: i64,
    /// Place of the block's first byte among those given to [`Former::run`]: in its page, but for tests.
    pub base: usize,
    trace: Trace<'a>,
    /// The instruction that ended the block because it is not lifted.
    pub refused: Option<Mnemonic>,
    /// Where STI begins, if it is the last instruction so far: IR, position, length and chunks before it.
    shadow: Option<(usize, i64, u32, u64)>,
}

impl<'a> Former<'a> {
    pub fn new(
        key: BlockKey,
        limit: u32,
        support: &'a mut Support,
        cs_limit: u32,
        guide: Option<Guide<'a>>,
        path: Option<&'a Path>,
    ) -> Self {
        let trace = Trace::new(key, limit, guide, path);
        Self {
            block: Block::new(key),
            limit: trace.limit(),
            support,
            cs_limit,
            several: false,
            alone: false,
            emits: |_, _| true,
            changing: None,
            ram: None,
            pos: 0,
            base: key.phys.offset() as usize,
            trace,
            refused: None,
            shadow: None,
        }
    }

    /// Place of the next instruction among the bytes given to [`Former::run`].
    pub fn offset(&self) -> usize {
        (self.base as i64 + self.pos) as usize
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

    /// Continues with the code in `bytes`, of which those from [`Former::offset`] on are good.
    pub fn run(&mut self, bytes: &[u8]) -> Step {
        let key = self.block.key;
        let ip = key.rip.wrapping_add(self.pos as u64);
        let code = &bytes[self.offset()..];
        let mut decoder = Decoder::with_ip(key.mode.code_bits(), code, ip, self.options());
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
            let repeated = insn.has_rep_prefix() || insn.has_repne_prefix();
            // A trace does not fall into its own course, and a repeated string instruction, which may be left
            // unfinished, begins a block.
            let ends = repeated && insn.is_string_instruction();
            if self.trace.visit(self.pos) || self.trace.joined() && ends {
                self.finish();
                return Step::Done;
            }
            let end = decoder.position();
            let parts = || decoder.get_constant_offsets(&insn);
            let at = key.phys.wrapping_add(self.pos as u64);
            let word = self.changing.and_then(|c| c.word(&insn, parts, at, self.pos));
            // A trace may come to bytes a second time as part of another instruction.
            if word.is_some() && self.trace.joined() {
                self.finish();
                return Step::Done;
            }
            match self.one(&insn, &code[end - insn.len()..end], word) {
                Ok(Flow::Next) => {}
                Ok(Flow::At(rel)) if rel == self.pos => {}
                Ok(Flow::At(rel)) => {
                    // The bytes there are perhaps not read yet.
                    self.pos = rel;
                    return Step::NeedBytes;
                }
                Ok(Flow::End) => return Step::Done,
                Err(NotLifted) => {
                    self.refuse(insn.mnemonic());
                    return Step::Done;
                }
            }
        }
    }

    /// Lifts one instruction; on failure the block is as before.
    fn one(&mut self, insn: &Instruction, bytes: &[u8], word: Option<Word>) -> Result<Flow, NotLifted> {
        let key = self.block.key;
        let mode = key.mode;
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
        let rel = self.pos;
        self.block.op_imm(Op::Guest, Type::Void, &[], rel, insn.len() as u32);
        let features = *self.support.features();
        let mut cx = Cx {
            b: &mut self.block,
            i: insn,
            bytes,
            mode,
            features: &features,
            cs_limit: self.cs_limit,
            trace: &mut self.trace,
            word,
            alone: self.alone,
        };
        if word.is_some() {
            cx.trace.end_here();
        }
        let lifted = lift::lift(&mut cx);
        let reads_itself = cx.word.is_some_and(|w| w.used);
        let emits = self.emits;
        match lifted {
            Ok(_) if !emits(&self.block.insts, before) => {
                self.block.insts.truncate(before);
                Err(NotLifted)
            }
            Ok(flow) => {
                let place = (before, self.pos, self.block.guest_len, self.block.chunks);
                if reads_itself {
                    self.block.ram = self.ram;
                }
                self.covers(insn.len());
                self.block.guest_insns += 1;
                self.shadow = (insn.mnemonic() == Mnemonic::Sti).then_some(place);
                Ok(flow)
            }
            Err(e) => {
                self.block.insts.truncate(before);
                Err(e)
            }
        }
    }

    /// No interrupt comes between STI and the instruction behind it, so they have to be in one block: an STI that would
    /// be the last is the interpreter's. True if that has ended the block.
    fn take_back_sti(&mut self) -> bool {
        let Some((insts, pos, len, chunks)) = self.shadow.take() else { return false };
        self.block.insts.truncate(insts);
        self.pos = pos;
        self.block.guest_len = len;
        self.block.chunks = chunks;
        self.block.guest_insns -= 1;
        self.refuse(Mnemonic::Sti);
        true
    }

    /// Notes the bytes of the next instruction, and goes on behind it.
    fn covers(&mut self, len: usize) {
        if self.pos == i64::from(self.block.guest_len) {
            self.block.guest_len += len as u32;
        } else {
            let first = self.offset();
            for byte in [first, first + len - 1] {
                self.block.chunks |= 1 << (byte.min(PAGE_SIZE as usize - 1) / crate::CHUNK);
            }
        }
        self.pos += len as i64;
    }

    /// Ends the block by going on at the next instruction.
    pub fn finish(&mut self) {
        if self.take_back_sti() {
            return;
        }
        let rel = self.pos;
        self.block.op_imm(Op::Goto, Type::Void, &[], rel, 0);
    }

    /// Ends the block before an instruction that the interpreter has to execute.
    pub fn refuse(&mut self, m: Mnemonic) {
        if self.take_back_sti() {
            return;
        }
        let rel = self.pos;
        self.block.op_imm(Op::Interpret, Type::Void, &[], rel, m as u32);
        self.refused = Some(m);
    }
}

//! The front end: x86 code to IR.
//!
//! [`Lifter`] fetches and decodes (iced-x86) the code at a processor's instruction pointer, forms a block
//! (`former`) and translates each instruction (`lift`, by groups, over the shared operand code in `operand`).
//! Instructions that are not translated are left to the interpreter one by one.
//!
//! Invariant: chunks of memory are marked as code before their bytes are read, so that no store to them is missed.

#![forbid(unsafe_code)]

mod changing;
mod cond;
mod former;
mod lift;
mod operand;
mod path;
mod support;
mod trace;

use changing::Changing;
use emu_core::addr::{PAGE_SIZE, PhysAddr};
use emu_core::cpu::{CodeHit, Cpu};
use emu_core::fault::Exception;
use emu_core::features::Features;
use emu_core::ir::{Block, BlockKey, Inst};
use emu_core::mem::Frame;
use emu_core::state::{Mode, Seg};
use former::{Former, Step};
pub use iced_x86::Mnemonic;
pub use path::{Leap, Path, Recorder};
use support::Support;
pub use trace::{Guide, TRANSLATED};

/// What became of the code at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifted {
    /// A block.
    Block(Block),
    /// Nothing: the interpreter has to execute the first instruction.
    Interpret {
        /// Which instruction it is, for statistics; [`Mnemonic::INVALID`] if it is the place or the mode that
        /// forbids translation.
        mnemonic: Mnemonic,
    },
}

/// Turns guest code into blocks.
#[derive(Debug)]
pub struct Lifter {
    max_insns: u32,
    support: Support,
    emits: Emits,
    elide_locks: bool,
    /// None: immediates are never lifted as data.
    changing: Option<Changing>,
    buf: Box<[u8]>,
}

/// Whether whoever takes the blocks takes each of these instructions, from the index on.
pub type Emits = fn(&[Inst], usize) -> bool;

/// Size of the chunks that [`Cpu::mark_code`] tells apart.
const CHUNK: usize = 64;

/// The longest instruction.
const MAX_LEN: usize = 15;

impl Lifter {
    /// Blocks of at most `max_insns` instructions.
    pub fn new(max_insns: u32) -> Self {
        Self {
            max_insns: max_insns.max(1),
            support: Support::new(Features::max()),
            emits: |_, _| true,
            elide_locks: false,
            changing: None,
            buf: vec![0; PAGE_SIZE as usize + MAX_LEN].into(),
        }
    }

    /// Changes the most instructions of blocks to come.
    pub fn set_max_insns(&mut self, max_insns: u32) {
        self.max_insns = max_insns.max(1);
    }

    /// Ends blocks to come before an instruction whose IR `emits` refuses; without this, every op is taken.
    pub fn set_emits(&mut self, emits: Emits) {
        self.emits = emits;
    }

    /// Lifts LOCK in user mode as if it were not there while there is one vCPU, which no other can come between (but devices, which
    /// memory of programs is not shared with), or never.
    pub fn elide_locks(&mut self, on: bool) {
        self.elide_locks = on;
    }

    /// Lifts immediates and displacements of code that keeps changing as data from now on ([`emu_core::ir::Op::CodeWord`]), or
    /// never.
    pub fn lift_words(&mut self, on: bool) {
        self.changing = on.then(Changing::default);
    }

    /// Notes stores to decoded bytes, from which it knows what keeps changing.
    pub fn note_stores(&mut self, hits: &[CodeHit]) {
        if let Some(changing) = &mut self.changing {
            changing.note(hits);
        }
    }

    /// Whether the block at `at`, which is about to run, should be translated although it has not run `hot` times since its
    /// bytes changed, because they keep changing: asked before each run of a block that has not.
    pub fn is_hot(&mut self, at: PhysAddr, hot: u32) -> bool {
        self.changing.as_mut().is_some_and(|c| c.is_hot(at, hot))
    }

    /// A block at `at` was lifted and has no words: it is not to be hot before it has run often.
    pub fn has_no_words(&mut self, at: PhysAddr) {
        if let Some(c) = &mut self.changing {
            c.has_none(at);
        }
    }

    /// Whether any code is known to keep changing.
    pub fn knows_changes(&self) -> bool {
        self.changing.as_ref().is_some_and(|c| !c.is_empty())
    }

    /// Lifts the block at the processor's CS:RIP in its current mode.
    ///
    /// # Errors
    /// The fault of fetching the first instruction.
    pub fn lift(&mut self, cpu: &mut Cpu) -> Result<Lifted, Exception> {
        self.lift_along(cpu, None, None)
    }

    /// Like [`Lifter::lift`], but lets the block go on past branches along `path`, or without one as far as `guide` finds it
    /// worth while.
    ///
    /// # Errors
    /// The fault of fetching the first instruction.
    pub fn lift_along(
        &mut self,
        cpu: &mut Cpu,
        guide: Option<Guide>,
        path: Option<&Path>,
    ) -> Result<Lifted, Exception> {
        let mode = cpu.state.mode;
        if mode.0 & (Mode::STEP | Mode::ALIGN) != 0 {
            return Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID });
        }
        self.support.set(cpu.features);
        let rip = cpu.state.rip;
        let cs = cpu.state.seg[Seg::CS as usize];
        let lin = if mode.contains(Mode::CODE64) {
            rip
        } else if rip > cs.limit.into() {
            return Err(Exception::gp0());
        } else {
            cs.base.wrapping_add(rip) & 0xffff_ffff
        };
        let phys = cpu.fetch_gpa(lin)?;
        let Some(ram) = code_page(cpu, phys) else {
            return Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID });
        };
        let key = BlockKey { phys, rip, mode };
        let mut former = Former::new(key, self.max_insns, &mut self.support, cs.limit, guide, path);
        former.several = !cpu.mem.single();
        former.alone = self.elide_locks && cpu.mem.single();
        former.emits = self.emits;
        former.ram = ram;
        // Where several store, each store to decoded bytes drops what was made from them.
        former.changing = self.changing.as_ref().filter(|_| ram.is_some() && cpu.mem.single());
        let start = phys.offset() as usize;
        let page = PhysAddr(phys.0 - start as u64);
        // Chunks that have been read.
        let mut have = 0u64;
        loop {
            let at = former.offset();
            if have_from(have, at) > 0 && former.run(&self.buf[..at + have_from(have, at)]) == Step::Done {
                return Ok(outcome(former));
            }
            // It may have jumped meanwhile.
            let at = former.offset();
            let next = (at + have_from(have, at)) / CHUNK;
            if next >= PAGE_SIZE as usize / CHUNK {
                break;
            }
            if let Some(index) = ram {
                cpu.mark_code(index, 1 << next);
            }
            let chunk = next * CHUNK..(next + 1) * CHUNK;
            if !cpu.mem.read(page.wrapping_add(chunk.start as u64), &mut self.buf[chunk]) {
                return Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID });
            }
            have |= 1 << next;
        }
        if former.block.guest_insns != 0 {
            former.finish();
            return Ok(outcome(former));
        }
        self.buf.copy_within(start..PAGE_SIZE as usize, 0);
        let room = PAGE_SIZE as usize - start;
        straddle(cpu, former, &mut self.buf, room, lin)
    }
}

/// Bytes of a page that are there from place `at` on, `have` being the chunks of it that are.
fn have_from(have: u64, at: usize) -> usize {
    if at >= PAGE_SIZE as usize {
        return 0;
    }
    ((have >> (at / CHUNK)).trailing_ones() as usize * CHUNK).saturating_sub(at % CHUNK)
}

/// The RAM page to mark for code at `phys`: None inside for ROM, None outside for MMIO.
fn code_page(cpu: &Cpu, phys: PhysAddr) -> Option<Option<usize>> {
    match cpu.mem.frame(phys) {
        Frame::Ram(_, i) => Some(Some(i)),
        Frame::Rom(_) => Some(None),
        Frame::Mmio => None,
    }
}

/// A single instruction that begins `room` bytes before the end of its page and reaches into the next.
fn straddle(
    cpu: &mut Cpu,
    mut former: Former,
    buf: &mut [u8],
    room: usize,
    lin: u64,
) -> Result<Lifted, Exception> {
    let next = cpu.advance(lin, room as u64);
    let phys = cpu.fetch_gpa(next)?;
    let Some(ram) = code_page(cpu, phys) else {
        return Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID });
    };
    if let Some(index) = ram {
        cpu.mark_code(index, 1);
    }
    let end = MAX_LEN.max(room);
    if !cpu.mem.read(phys, &mut buf[room..end]) {
        return Ok(Lifted::Interpret { mnemonic: Mnemonic::INVALID });
    }
    former.limit = 1;
    former.base = 0;
    former.changing = None;
    former.block.next_page = Some(phys);
    if former.run(&buf[..end]) == Step::NeedBytes {
        // Fifteen bytes always decide, if only that there is no such instruction.
        former.refuse(Mnemonic::INVALID);
    }
    Ok(outcome(former))
}

fn outcome(former: Former) -> Lifted {
    if cfg!(debug_assertions)
        && former.block.guest_insns != 0
        && let Err(e) = emu_core::ir::verify(&former.block)
    {
        panic!("lifted a bad block: {e}\n{}", former.block);
    }
    match former.refused {
        Some(mnemonic) if former.block.guest_insns == 0 => Lifted::Interpret { mnemonic },
        _ => Lifted::Block(former.block),
    }
}

/// Lifts `bytes` as code with the given key, without a processor: a block ends where the bytes do. CS has a limit of
/// 4 GiB.
pub fn lift_bytes(key: BlockKey, bytes: &[u8], features: Features, max_insns: u32) -> Lifted {
    let mut support = Support::new(features);
    let mut former = Former::new(key, max_insns.max(1), &mut support, u32::MAX, None, None);
    former.base = 0;
    if former.run(bytes) == Step::NeedBytes {
        if former.block.guest_insns == 0 {
            former.refuse(Mnemonic::INVALID);
        } else {
            former.finish();
        }
    }
    outcome(former)
}

/// The name of the mnemonic numbered `aux`, as an `Interpret` op carries it.
pub fn mnemonic_name(aux: u32) -> String {
    Mnemonic::values()
        .nth(aux as usize)
        .map_or_else(|| format!("mnemonic {aux}"), |m| format!("{m:?}").to_lowercase())
}

/// The number of the mnemonic of the instruction that begins with `code`, in code of `bits` bits; None if more bytes are needed
/// to tell.
pub fn mnemonic_of(code: &[u8], bits: u32) -> Option<u32> {
    use iced_x86::{Decoder, DecoderError, DecoderOptions};
    let mut decoder = Decoder::new(bits, code, DecoderOptions::NONE);
    let mnemonic = decoder.decode().mnemonic() as u32;
    (decoder.last_error() != DecoderError::NoMoreBytes).then_some(mnemonic)
}

/// Code as text, one instruction a line: address, bytes, and the instruction in the manual's syntax.
pub fn disassemble(code: &[u8], address: u64, bits: u32) -> String {
    use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
    let mut formatter = NasmFormatter::new();
    let mut text = String::new();
    for ins in &mut Decoder::with_ip(bits, code, address, DecoderOptions::NONE) {
        let at = ins.ip().wrapping_sub(address) as usize;
        let bytes: String = code[at..at + ins.len()].iter().map(|b| format!("{b:02x}")).collect();
        text += &format!("{:>18x}  {bytes:<30} ", ins.ip());
        formatter.format(&ins, &mut text);
        text.push('\n');
    }
    text
}

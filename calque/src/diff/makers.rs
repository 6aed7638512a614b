//! Where processors of different makers differ by their own manuals; calque's guest sees Intel's.
//!
//! Each reason demands the one instruction that it is about, at the place where the two part: what had come before
//! cannot be compared any more when one side went on.

use super::decoding::{
    as_amd, calls_hypervisor, narrow_branch, permutes_with_w, repeats, takes_w_as_ignored,
};
use super::explain::only_status_flags;
use super::leg::{Ran, Step};
use super::native::{self, Seen};
use super::reasons::Reason;
use super::scene::Scene;
use super::{gathers, generate, intel};
use emu_core::state::bits::rflags;
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

/// Vectors that are told apart here.
pub(super) mod vector {
    pub const DB: u8 = 1;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
}

/// Which of these reasons a difference has, if it has one.
pub(super) fn differ(
    scene: &Scene,
    all: &[(&Step, Instruction)],
    ran: &Ran,
    seen: &Seen,
    list: &[String],
) -> Option<Reason> {
    let here = ran.state.rip;
    let place =
        Place { scene, ran, seen, list, ours: ran.caught.map_or(0, |c| c.vector), same: seen.rip == here };
    // The host stopped at an instruction that the interpreter came by, or the interpreter did at its last.
    let stopped = all.iter().rev().find(|(s, _)| s.rip == seen.rip);
    let last = all.last().filter(|(s, _)| s.rip == here);
    stopped
        .and_then(|(s, i)| place.host_stopped(s, i))
        .or_else(|| last.and_then(|(s, i)| place.we_stopped(s, i)))
        .or_else(|| last.and_then(|(s, i)| place.other_operand(s, i)))
        .or_else(|| last.and_then(|(s, i)| intel::both_stopped(&place, s, i, all)))
        .or_else(|| unfetched(&place))
        .or_else(|| leaves_a_trace(all, list))
        .or_else(|| intel::left(&place, all))
        .or_else(|| {
            let other = native::maker() != native::Maker::Intel;
            let narrow = other && scene.bits == 64 && ran.steps.iter().any(narrow_branch);
            narrow.then_some(Reason::BranchSize)
        })
}

/// Where the two ended, and in what they differ.
pub(super) struct Place<'a> {
    scene: &'a Scene,
    /// The interpreter's end.
    pub(super) ran: &'a Ran,
    /// The host's.
    pub(super) seen: &'a Seen,
    /// What differs.
    pub(super) list: &'a [String],
    /// The interpreter's vector, 0 without an exception.
    pub(super) ours: u8,
    /// At the same instruction.
    pub(super) same: bool,
}

impl Place<'_> {
    /// Whether everything that differs begins with one of these words.
    pub(super) fn only(&self, words: &[&str]) -> bool {
        self.list.iter().all(|l| words.iter().any(|w| l.starts_with(w)))
    }

    /// Differences at the instruction at which the host ended.
    fn host_stopped(&self, s: &Step, i: &Instruction) -> Option<Reason> {
        let host = self.seen.vector;
        let refused = matches!(host, vector::PF | vector::GP | vector::SS | vector::AC);
        if host == vector::AC && self.seen.rflags & rflags::AC != 0 && !(self.same && self.ours == vector::AC)
        {
            if wide(i) && misaligned(s, i, 16) {
                return Some(Reason::VectorAlignment);
            }
            if self.ours == vector::PF && self.same {
                return Some(Reason::SameClass);
            }
        }
        if host == vector::AC && self.seen.rflags & rflags::AC != 0 {
            let halves = matches!(i.mnemonic(), Mnemonic::Vcvtph2ps | Mnemonic::Vcvtps2ph);
            if halves && i.memory_size().size() == 8 && misaligned(s, i, 8) {
                return Some(Reason::HalfAlignment);
            }
            if pushes_selector(i) && !s.gpr[4].wrapping_sub(4).is_multiple_of(4) {
                return Some(Reason::SelectorPush);
            }
        }
        if intel::cuts_lanes(s, i) && host == vector::PF && self.seen.cr2 < i.memory_size().size() as u64 {
            return Some(Reason::MaskedWrap);
        }
        if host == vector::UD && !(self.same && self.ours == host) && !native::this_host_has(i.code()) {
            return Some(Reason::Absent);
        }
        if self.same && (self.ours, host) == (vector::UD, vector::GP) && as_amd(s).mnemonic() == Mnemonic::Mov
        {
            return Some(Reason::Cr8ByLock);
        }
        if !(self.same && host == self.ours) && i.code() == Code::Movsxd_r16_rm16 {
            return Some(Reason::MovsxdSize);
        }
        if host == vector::UD && s.bits == 32 && takes_w_as_ignored(s, i) {
            return Some(Reason::ElementWidth);
        }
        if host == vector::UD && i.mnemonic() == Mnemonic::Clzero && repeats(s) {
            return Some(Reason::ClzeroPrefix);
        }
        let form = format!("{:?}", i.code());
        if host == vector::UD && form.ends_with("0F0D") && i.op_kind(0) == OpKind::Register {
            return Some(Reason::PrefetchRegister);
        }
        let masked =
            matches!(i.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu);
        // Which byte it was that faulted, and in which order they are tried, is open too.
        let elsewhere = self.only(&["cr2", "error code", "fsw", "ftw", "st("]);
        if masked && refused && (elsewhere || !(self.same && self.ours == host)) {
            return Some(Reason::MaskedStore);
        }
        None
    }

    /// Differences at the instruction at which the interpreter ended.
    fn we_stopped(&self, s: &Step, i: &Instruction) -> Option<Reason> {
        let (ours, host) = (self.ours, self.seen.vector);
        if ours == vector::UD && permutes_with_w(s) {
            return Some(Reason::PermuteWidth);
        }
        if ours == vector::UD && calls_hypervisor(s) {
            return Some(Reason::System);
        }
        let here = self.same && host == vector::UD;
        if ours == vector::UD && !here && i.code() != Code::INVALID && !generate::offered(i.code()) {
            return Some(Reason::Absent);
        }
        let sha = format!("{:?}", i.mnemonic()).starts_with("Sha");
        if ours == vector::GP && sha && misaligned(s, i, 16) {
            return Some(Reason::ShaAlignment);
        }
        let refused = matches!(host, vector::GP | vector::SS) && self.same;
        if self.scene.bits == 32 && matches!(ours, vector::PF | vector::AC) && refused && self.wraps(s, i) {
            return Some(Reason::SegmentWrap);
        }
        let loads_mxcsr = matches!(i.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr);
        if loads_mxcsr && ours == vector::GP && !self.same && self.seen.fxsave[26] & 2 != 0 {
            return Some(Reason::MisalignedMode);
        }
        let agreed = self.same && ours == host;
        if i.mnemonic() == Mnemonic::Maskmovq && agreed && self.only(&["fsw", "ftw", "st("]) {
            return Some(Reason::MmxBeforeFault);
        }
        let pops = matches!(i.mnemonic(), Mnemonic::Popa | Mnemonic::Popad);
        if pops && agreed && self.only(&["rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi"]) {
            return Some(Reason::PartialPop);
        }
        if matches!(i.mnemonic(), Mnemonic::Pusha | Mnemonic::Pushad) && agreed && self.in_frame(s, i) {
            return Some(Reason::PartialPush);
        }
        let flags = self.only(&["rflags"]) && only_status_flags(self.ran, self.seen);
        if agreed && repeats(s) && compares_strings(i) && flags {
            return Some(Reason::StringFlags);
        }
        if let Some(why) = gathers::differ(self, i, agreed) {
            return Some(why);
        }
        if ours == vector::GP && wild(i) {
            // The interpreter refuses the jump, the host what it finds there, or first the stack.
            if host == vector::GP && self.only(&["rip", "rsp", "rcx", "memory"]) {
                return Some(Reason::WildJump);
            }
            if self.same && matches!(host, vector::PF | vector::SS | vector::AC) {
                return Some(Reason::SameClass);
            }
        }
        None
    }

    /// CMPS that the host refuses for the element at RSI and the interpreter for that at RDI, which it reads first.
    fn other_operand(&self, s: &Step, i: &Instruction) -> Option<Reason> {
        let refused = |v| matches!(v, vector::PF | vector::GP | vector::SS | vector::AC);
        if !self.same || !refused(self.ours) || !refused(self.seen.vector) || !compares_two_strings(i) {
            return None;
        }
        // Registers as they are at this element; operand 0 is the one at RSI.
        let place = |n| i.virtual_address(n, 0, |r, _, _| value(&self.ran.state.gpr, r));
        let size = i.memory_size().size() as u64;
        let at = |n, cr2: u64| place(n).is_some_and(|from| cr2.wrapping_sub(from) < size);
        let ours = self.ran.caught.map_or(0, |c| c.cr2);
        let apart = (self.seen.vector != vector::PF || at(0, self.seen.cr2))
            && (self.ours != vector::PF || at(1, ours));
        let flags = repeats(s) && only_status_flags(self.ran, self.seen);
        let words = ["cr2", "vector", "error code", "rflags"];
        (apart && self.only(&words[..if flags { 4 } else { 3 }])).then_some(Reason::SameClass)
    }

    /// Whether memory alone differs, as far as the host has changed it where `i` pushes.
    fn in_frame(&self, s: &Step, i: &Instruction) -> bool {
        let top = s.gpr[4] & 0xffff_ffff;
        self.only_memory(top.saturating_sub(i.stack_pointer_increment().unsigned_abs().into()), top)
    }

    /// Whether memory alone differs, and only from one address up to another; the report names one place only.
    pub(super) fn only_memory(&self, from: u64, to: u64) -> bool {
        let place = |l: &String| {
            let hex = l.strip_prefix("memory at 0x")?.split(':').next()?;
            u64::from_str_radix(hex, 16).ok()
        };
        // Places are eight bytes each, aligned.
        let inside = |at: u64| at + 8 > from && at < to;
        self.list.iter().all(|l| place(l).is_some_and(inside))
    }

    /// Whether one of its accesses, the stack's among them, wraps around 4 GiB.
    fn wraps(&self, s: &Step, i: &Instruction) -> bool {
        let ends_behind = |at: u64, size: usize| (at & 0xffff_ffff) + size as u64 > 1 << 32;
        if i.is_vsib() {
            // Which lane it was the fault tells.
            return self.ran.caught.is_some_and(|c| ends_behind(c.cr2, i.memory_size().size().max(4)));
        }
        let mut factory = InstructionInfoFactory::new();
        let behind = bits_behind(s, i);
        factory.info(i).used_memory().iter().any(|m| {
            // Of repeated string instructions the decoder does not say how much they access.
            let size = m.memory_size().size().max(i.memory_size().size());
            let at = m.virtual_address(0, |r, _, _| register(s, r));
            at.is_some_and(|at| ends_behind(at.wrapping_add(behind), size))
        })
    }
}

/// An opcode that does not exist, at the end of a page: one side wanted to fetch more of it.
fn unfetched(place: &Place) -> Option<Reason> {
    const FETCH: u32 = 0x10;
    let behind = |cr2: u64, error: u32| cr2.wrapping_sub(place.seen.rip) < 15 && error & FETCH != 0;
    let host = place.seen.vector == vector::PF && behind(place.seen.cr2, place.seen.error);
    let here =
        place.ran.caught.is_some_and(|c| c.vector == vector::PF && behind(c.cr2, c.error.unwrap_or(0)));
    let one = place.ours == vector::UD && host || here && place.seen.vector == vector::UD;
    (place.same && one).then_some(Reason::InvalidLength)
}

/// Whether the status words differ in C1 alone, after FCOMI or one of its kin.
pub(super) fn only_c1(all: &[(&Step, Instruction)], ran: &Ran, seen: &Seen) -> bool {
    let host = u16::from_le_bytes([seen.fxsave[2], seen.fxsave[3]]);
    ran.state.fpu.fsw ^ host == 1 << 9 && all.iter().any(|(_, i)| compares(i))
}

pub(super) fn compares(i: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(i.mnemonic(), M::Fcomi | M::Fcomip | M::Fucomi | M::Fucomip)
}

/// Differences that somebody has read since they arose: C1 after FCOMI, the upper half of a pushed selector.
fn leaves_a_trace(all: &[(&Step, Instruction)], list: &[String]) -> Option<Reason> {
    use Mnemonic as M;
    if let Some(at) = all.iter().position(|(_, i)| compares(i))
        && all[at..].iter().any(|(_, i)| matches!(i.mnemonic(), M::Fnstsw | M::Fstsw))
    {
        return Some(Reason::CompareC1);
    }
    // LOOP with a repeat prefix, which goes by rCX twice.
    let loops = |i: &Instruction| matches!(i.mnemonic(), M::Loop | M::Loope | M::Loopne);
    if all.iter().any(|(s, i)| loops(i) && repeats(s)) {
        return Some(Reason::RepeatedLoop);
    }
    let at = all.iter().position(|(_, i)| pushes_selector(i))?;
    let read = at + 1 < all.len();
    (read || list.iter().all(|l| l.starts_with("memory"))).then_some(Reason::SelectorPush)
}

/// PUSH of a segment register with 32 bits.
fn pushes_selector(i: &Instruction) -> bool {
    let segment = i.op_kind(0) == OpKind::Register && i.op_register(0).is_segment_register();
    i.mnemonic() == Mnemonic::Push && segment && i.stack_pointer_increment() == -4
}

/// How far behind its memory operand BT and its kin access, by the bit's number in a register.
fn bits_behind(s: &Step, i: &Instruction) -> u64 {
    use Mnemonic as M;
    let strings = matches!(i.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc) && i.op_kind(0) == OpKind::Memory;
    if !strings || i.op_kind(1) != OpKind::Register {
        return 0;
    }
    let size = i.memory_size().size() as u32;
    let unused = 64 - 8 * size;
    let bit = register(s, i.op_register(1)).map_or(0, |b| (b << unused) as i64 >> unused);
    (bit >> (8 * size).ilog2()).wrapping_mul(size.into()) as u64
}

/// Whether it reads or writes 16 bytes or more at once.
fn wide(i: &Instruction) -> bool {
    i.memory_size().size() >= 16
}

/// The linear address of its memory operand, where that has no segment base.
pub(super) fn address(s: &Step, i: &Instruction) -> Option<u64> {
    let memory = |n: &u32| {
        matches!(
            i.op_kind(*n),
            OpKind::Memory | OpKind::MemorySegRDI | OpKind::MemorySegEDI | OpKind::MemorySegDI
        )
    };
    let n = (0..i.op_count()).find(memory)?;
    i.virtual_address(n, 0, |r, _, _| register(s, r))
}

/// Whether `holds` is true of the place and the size of one of its accesses, the stack's among them.
pub(super) fn spans(s: &Step, i: &Instruction, holds: impl Fn(u64, u64) -> bool) -> bool {
    InstructionInfoFactory::new().info(i).used_memory().iter().any(|m| {
        let size = m.memory_size().size().max(i.memory_size().size()).max(1);
        m.virtual_address(0, |r, _, _| register(s, r)).is_some_and(|at| holds(at, size as u64))
    })
}

/// A register's part of an address; segments have no base.
fn register(s: &Step, r: Register) -> Option<u64> {
    value(&s.gpr, r)
}

fn value(gpr: &[u64; 16], r: Register) -> Option<u64> {
    if r.is_segment_register() {
        return Some(0);
    }
    let full = *gpr.get(r.full_register().number())?;
    (r.is_gpr()).then_some(match r.size() {
        2 => full & 0xffff,
        4 => full & 0xffff_ffff,
        _ => full,
    })
}

fn misaligned(s: &Step, i: &Instruction, to: u64) -> bool {
    address(s, i).is_some_and(|a| a % to != 0)
}

/// CMPS or SCAS.
fn compares_strings(i: &Instruction) -> bool {
    use Mnemonic as M;
    compares_two_strings(i) || matches!(i.mnemonic(), M::Scasb | M::Scasw | M::Scasd | M::Scasq)
}

/// CMPS.
fn compares_two_strings(i: &Instruction) -> bool {
    use Mnemonic as M;
    // CMPSD is the name of one of SSE2's, too.
    matches!(i.mnemonic(), M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq) && i.is_string_instruction()
}

/// A jump whose target comes from a register or memory.
fn wild(i: &Instruction) -> bool {
    matches!(i.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall | FlowControl::Return)
}

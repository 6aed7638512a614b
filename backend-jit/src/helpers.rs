//! The slow paths: what translated code has Rust do.
//!
//! A helper gets the processor and finds its arguments in scratch slots (`layout::ARG`), leaves its result in
//! `layout::RESULT`, and returns 0 or the [`Kind`] with which translated code has to be left. It never unwinds: a
//! panic (a bug) is kept until translated code has been left, and goes on from there.
//!
//! Invariant: a helper that says "leave" has changed nothing that the guest can see, so the instruction can begin
//! again; `Leave::Elsewhere` alone says that it is over.

mod string;
mod transfer;
mod x87;

use crate::exit::Kind;
use crate::layout;
use emu_core::addr::{PAGE_MASK, PAGE_SIZE};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::ir::{Inst, Type, VecOp, eval_fp, mem_flags};
use emu_core::mem::{Frame, page};
use emu_core::mmu::{Access, Priv, tlb};
use emu_core::state::Mode;
use emu_core::state::bits::cr4;
use emu_core::state::segment::attr;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// A slow path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Helper {
    /// Load of up to 8 bytes.
    Load,
    /// Read of a read-modify-write: gives the entry's addend.
    LoadW,
    /// Store of up to 8 bytes.
    Store,
    /// Load of 16 or 32 bytes.
    LoadVec,
    /// Store of 16 or 32 bytes.
    StoreVec,
    /// Like `LoadW`, for atomic operations.
    Atomic,
    /// Division that the host might trap on.
    Div,
    /// Segment check.
    SegAddr,
    /// #GP(0) for a misaligned operand.
    Misaligned,
    /// REP MOVS and REP STOS.
    RepString,
    /// What REPcc CMPS and SCAS may pass over.
    RepSkip,
    /// SYSCALL, SYSRET and IRETQ.
    Transfer,
    /// The time-stamp counter.
    ReadTsc,
    /// Image of the x87, for the host's to load.
    X87Load,
    /// A floating-point operation that the host does not do as the guest would: see [`fp_order`].
    Fp,
    /// An x87 instruction between registers, where the host has none.
    X87,
    /// One with a memory operand.
    X87Mem,
}

impl Helper {
    /// All, in order.
    pub const ALL: [Helper; 17] = [
        Helper::Load,
        Helper::LoadW,
        Helper::Store,
        Helper::LoadVec,
        Helper::StoreVec,
        Helper::Atomic,
        Helper::Div,
        Helper::SegAddr,
        Helper::Misaligned,
        Helper::RepString,
        Helper::RepSkip,
        Helper::Transfer,
        Helper::ReadTsc,
        Helper::X87Load,
        Helper::Fp,
        Helper::X87,
        Helper::X87Mem,
    ];
}

/// Why a helper does not come back.
enum Leave {
    Fault(Exception),
    Interpret,
    /// The instruction has completed, and translated code does not know where to go on.
    Elsewhere,
}

impl From<Exception> for Leave {
    fn from(e: Exception) -> Self {
        Self::Fault(e)
    }
}

type Done = Result<(), Leave>;

thread_local! {
    static PANIC: Cell<Option<Box<dyn Any + Send>>> = const { Cell::new(None) };
}

/// Goes on with a panic that a helper has kept.
pub fn resume_panic() {
    if let Some(payload) = PANIC.take() {
        std::panic::resume_unwind(payload);
    }
}

fn run(cpu: *mut Cpu, f: impl FnOnce(&mut Cpu) -> Done) -> u64 {
    // SAFETY: translated code passes the processor it was entered with, which `Jit::run` holds exclusively and does
    // not touch until translated code returns.
    let cpu = unsafe { &mut *cpu };
    let done = catch_unwind(AssertUnwindSafe(|| f(cpu)));
    // Translations may be others now: see `hold`.
    let none = cpu.state.scratch[layout::NO_ADDEND];
    for slot in layout::HOLDS {
        cpu.state.scratch[slot] = none;
    }
    crate::host::close_window(&mut cpu.state.scratch);
    match done {
        Ok(Ok(())) => 0,
        Ok(Err(Leave::Interpret)) => Kind::Interpret as u64,
        Ok(Err(Leave::Elsewhere)) => Kind::Indirect as u64,
        Ok(Err(Leave::Fault(e))) => {
            cpu.state.scratch[layout::EXC] = e.vector as u64 | u64::from(e.error) << 32;
            cpu.state.scratch[layout::EXC_ADDR] = e.cr2;
            Kind::Fault as u64
        }
        Err(payload) => {
            PANIC.set(Some(payload));
            Kind::Panic as u64
        }
    }
}

/// The exception that a helper left in scratch.
pub fn exception(cpu: &Cpu) -> Exception {
    use Vector::*;
    const ALL: [Vector; 19] = [DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS, NP, SS, GP, PF, MF, AC, MC, XM, CP];
    let word = cpu.state.scratch[layout::EXC];
    let vector = ALL.into_iter().find(|v| *v as u8 == word as u8).unwrap_or(Vector::GP);
    Exception { vector, error: (word >> 32) as u32, cr2: cpu.state.scratch[layout::EXC_ADDR] }
}

macro_rules! helper {
    ($($name:ident = $body:path;)*) => {
        $(extern "C" fn $name(cpu: *mut Cpu) -> u64 {
            run(cpu, $body)
        })*
    };
}

helper! {
    load_w = do_load_w;
    div = do_div;
    seg_addr = do_seg_addr;
    misaligned = do_misaligned;
    rep_string = string::do_rep_string;
    rep_skip = string::do_rep_skip;
    transfer = transfer::do_transfer;
    read_tsc = do_read_tsc;
    x87_load = do_x87_load;
    fp = do_fp;
    x87 = x87::do_x87;
    x87_mem = x87::do_x87_mem;
}

/// The helpers of plain accesses first try what the translation cache can do by itself, which leaves everything else as it is.
macro_rules! access_helper {
    ($($name:ident = $quick:path, $body:path;)*) => {
        $(extern "C" fn $name(cpu: *mut Cpu) -> u64 {
            // SAFETY: as in `run`.
            if $quick(unsafe { &mut *cpu }) {
                return 0;
            }
            run(cpu, $body)
        })*
    };
}

access_helper! {
    load = load_cached, do_load;
    store = store_cached, do_store;
    load_vec = load_vec_cached, do_load_vec;
    store_vec = store_vec_cached, do_store_vec;
}

fn load_cached(cpu: &mut Cpu) -> bool {
    let (lin, size, _) = access(cpu);
    let Some(words) = cpu.read_cached(lin, size) else { return false };
    cpu.state.scratch[layout::RESULT] = words[0];
    true
}

fn store_cached(cpu: &mut Cpu) -> bool {
    let (lin, size, _) = access(cpu);
    let value = cpu.state.scratch[layout::ARG + 1];
    cpu.write_cached(lin, size, [value, 0, 0, 0])
}

fn load_vec_cached(cpu: &mut Cpu) -> bool {
    let (lin, size, _) = access(cpu);
    let Some(words) = cpu.read_cached(lin, size) else { return false };
    let n = size.div_ceil(8).min(4);
    cpu.state.scratch[layout::RESULT..layout::RESULT + n].copy_from_slice(&words[..n]);
    true
}

fn store_vec_cached(cpu: &mut Cpu) -> bool {
    let (lin, size, _) = access(cpu);
    let words = core::array::from_fn(|i| cpu.state.scratch[layout::RESULT + i]);
    cpu.write_cached(lin, size, words)
}

/// Address of a helper's code.
pub fn address(h: Helper) -> usize {
    let f: extern "C" fn(*mut Cpu) -> u64 = match h {
        Helper::Load => load,
        Helper::LoadW | Helper::Atomic => load_w,
        Helper::Store => store,
        Helper::LoadVec => load_vec,
        Helper::StoreVec => store_vec,
        Helper::Div => div,
        Helper::SegAddr => seg_addr,
        Helper::Misaligned => misaligned,
        Helper::RepString => rep_string,
        Helper::RepSkip => rep_skip,
        Helper::Transfer => transfer,
        Helper::ReadTsc => read_tsc,
        Helper::X87Load => x87_load,
        Helper::Fp => fp,
        Helper::X87 => x87,
        Helper::X87Mem => x87_mem,
    };
    f as usize
}

/// Linear address, size in bytes and whether it is a stack access.
fn access(cpu: &Cpu) -> (u64, usize, bool) {
    let s = &cpu.state.scratch;
    let aux = s[layout::ARG + 2] as u32;
    (s[layout::ARG], (aux & 0xff) as usize, aux & 0x100 != 0)
}

fn do_load(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    cpu.state.scratch[layout::RESULT] = cpu.load_slow(lin, size, Priv::Current, stack)?;
    Ok(())
}

/// Checks a write of `size` bytes that stays in one page. Interpreted if it would hit decoded code.
fn check_write(cpu: &mut Cpu, lin: u64, size: usize, stack: bool) -> Result<(), Leave> {
    let t = cpu.translate(lin, Access::Write, Priv::Current, stack)?;
    let Frame::Ram(_, index) = t.frame else { return Ok(()) };
    let code = cpu.mem.attrs(index).load(Ordering::Relaxed) & page::CODE != 0;
    if code && cpu.decoded_chunks(t.gpa, size, index) != 0 {
        return Err(Leave::Interpret);
    }
    Ok(())
}

/// Checks a write of any size up to a page, page by page.
fn check_writes(cpu: &mut Cpu, lin: u64, size: usize, stack: bool) -> Result<(), Leave> {
    cpu.within_half(lin, size, stack)?;
    let room = (PAGE_SIZE - (lin & PAGE_MASK)) as usize;
    check_write(cpu, lin, size.min(room), stack)?;
    if size > room {
        check_write(cpu, lin.wrapping_add(room as u64), size - room, stack)?;
    }
    Ok(())
}

fn do_store(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    let value = cpu.state.scratch[layout::ARG + 1];
    check_writes(cpu, lin, size, stack)?;
    cpu.store_slow(lin, size, value, Priv::Current, stack)?;
    Ok(())
}

/// Gives what to add to the linear address for a read-modify-write in place: that of the cache, or of RAM whose
/// stores are watched for code or recorded. What cannot be had so (devices, page crossings, guest page tables,
/// decoded bytes) is interpreted.
fn do_load_w(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    check_writes(cpu, lin, size, stack)?;
    // SAFETY: `tlb` points at one of this processor's own sets.
    let entry = unsafe { (*cpu.state.tlb).write[tlb::index(lin)] };
    if entry.hit(lin, size as u64).is_some() {
        cpu.state.scratch[layout::RESULT] = entry.addend;
        return Ok(());
    }
    let t = cpu.translate(lin, Access::Write, Priv::Current, stack)?;
    let at = t.gpa.offset();
    let Frame::Ram(p, index) = t.frame else { return Err(Leave::Interpret) };
    let attrs = cpu.mem.attrs(index).fetch_or(page::DIRTY, Ordering::Relaxed);
    if at + size as u64 > PAGE_SIZE || attrs & page::TABLE != 0 {
        return Err(Leave::Interpret);
    }
    if attrs & page::CODE != 0 && !cpu.mem.single() {
        // Another vCPU may be about to decode these bytes.
        return Err(Leave::Interpret);
    }
    cpu.journal_ahead(t.gpa, size);
    cpu.state.scratch[layout::RESULT] = (p as u64).wrapping_add(at).wrapping_sub(lin);
    Ok(())
}

fn do_x87_load(cpu: &mut Cpu) -> Done {
    if crate::x87::unmasked(&cpu.state) {
        return Err(Leave::Interpret);
    }
    crate::x87::pack(&mut cpu.state);
    Ok(())
}

/// The first argument of [`Helper::Fp`] for an `Fp` on 128 bits: operation, immediate, and whether the result is an
/// integer of 64 bits. Its operands are in `layout::RESULT`, 16 bytes each, a third in `layout::FP_THIRD`; its result comes
/// to `layout::RESULT`; flags are a word.
pub fn fp_order(inst: &Inst) -> u64 {
    u64::from(inst.aux) | (inst.imm as u64 & 0xff) << 32 | u64::from(inst.ty == Type::I64) << 40
}

/// By the rules of the IR, in integers. Modes and flags are those of `layout::MX_GUEST`.
fn do_fp(cpu: &mut Cpu) -> Done {
    use VecOp::*;
    let s = &mut cpu.state.scratch;
    let (order, mxcsr) = (s[layout::ARG], s[layout::MX_GUEST] as u32);
    let (aux, imm) = (order as u32, (order >> 32 & 0xff) as i64);
    let ty = match VecOp::from_number(aux) {
        Some(Comiss | Comisd | Ucomiss | Ucomisd) => Type::Flags,
        Some(Cvtss2si | Cvtsd2si | Cvttss2si | Cvttsd2si) => {
            Type::int(if order >> 40 & 1 != 0 { 8 } else { 4 })
        }
        _ => Type::V128,
    };
    let operand = |at: usize| [s[at], s[at + 1], 0, 0];
    let operands = [layout::RESULT, layout::RESULT + 2, layout::FP_THIRD].map(operand);
    let (mut r, flags) = eval_fp::fp(aux, ty, Type::I64, imm, operands, mxcsr);
    if ty == Type::Flags {
        r[0] = crate::host::to_word(r[0]);
    }
    s[layout::RESULT..layout::RESULT + 2].copy_from_slice(&r[..2]);
    s[layout::MX_GUEST] |= u64::from(flags);
    Ok(())
}

fn do_load_vec(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    // Half of an operand whose other half is loaded next.
    let all = size << (cpu.state.scratch[layout::ARG + 2] >> 9 & 1);
    cpu.within_half(lin, all, stack)?;
    // Ten bytes are an operand of the x87.
    for at in (0..size).step_by(8) {
        let (lin, len) = (lin.wrapping_add(at as u64), (size - at).min(8));
        let v = match len {
            8 => cpu.load::<8>(lin, stack)?,
            _ => cpu.load_slow(lin, len, Priv::Current, stack)?,
        };
        cpu.state.scratch[layout::RESULT + at / 8] = v;
    }
    Ok(())
}

fn do_store_vec(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    check_writes(cpu, lin, size, stack)?;
    for i in 0..size / 8 {
        let v = cpu.state.scratch[layout::RESULT + i];
        cpu.store::<8>(lin.wrapping_add(8 * i as u64), v, stack)?;
    }
    Ok(())
}

fn do_div(cpu: &mut Cpu) -> Done {
    let s = &cpu.state.scratch;
    let (hi, lo, by, aux) =
        (s[layout::ARG], s[layout::ARG + 1], s[layout::ARG + 2], s[layout::RESULT] as u32);
    let bits = (aux & 0xff) * 8;
    let mask = u64::MAX >> (64 - bits);
    let dividend = u128::from(hi & mask) << bits | u128::from(lo & mask);
    let divide = Leave::Fault(Exception::new(Vector::DE));
    let (q, r) = if aux & 0x100 == 0 {
        let by = u128::from(by & mask);
        if by == 0 || dividend / by > u128::from(mask) {
            return Err(divide);
        }
        ((dividend / by) as u64, (dividend % by) as u64)
    } else {
        let sx = |v: u128, b: u32| (v << (128 - b)) as i128 >> (128 - b);
        let (n, d) = (sx(dividend, 2 * bits), sx(u128::from(by), bits));
        if d == 0 {
            return Err(divide);
        }
        let (q, r) = (n.wrapping_div(d), n.wrapping_rem(d));
        if sx(q as u128, bits) != q || (n == i128::MIN && d == -1) {
            return Err(divide);
        }
        (q as u64, r as u64)
    };
    let s = &mut cpu.state.scratch;
    if bits == 8 {
        s[layout::RESULT] = q & 0xff | (r & 0xff) << 8;
    } else {
        s[layout::RESULT] = q & mask;
        s[layout::RESULT + 1] = r & mask;
    }
    Ok(())
}

/// SDM vol. 3A, 5.3 and 5.5: limit, type and null checks.
fn do_seg_addr(cpu: &mut Cpu) -> Done {
    let offset = cpu.state.scratch[layout::ARG];
    let aux = cpu.state.scratch[layout::ARG + 2] as u32;
    let seg = cpu.state.seg[(aux >> mem_flags::SEG_SHIFT & 7) as usize % 6];
    let size = u64::from(aux >> mem_flags::SIZE_SHIFT).max(1);
    let fault =
        || Leave::Fault(if aux & mem_flags::STACK != 0 { Exception::ss0() } else { Exception::gp0() });
    let prot = cpu.state.mode.contains(Mode::PROT);
    let code = seg.attr & attr::CODE != 0;
    if prot {
        let writable = !code && seg.attr & attr::RW != 0;
        let readable = !code || seg.attr & attr::RW != 0;
        let allowed = if aux & mem_flags::WRITE != 0 { writable } else { readable };
        if !seg.present() || !allowed {
            return Err(fault());
        }
    }
    let last = offset + (size - 1);
    let limit = u64::from(seg.limit);
    let inside = if !code && seg.attr & attr::EC != 0 {
        let top = if seg.attr & attr::DB != 0 { 0xffff_ffff } else { 0xffff };
        offset > limit && last <= top
    } else {
        // A 4 GiB segment wraps.
        last <= limit || seg.limit == u32::MAX
    };
    if !inside {
        return Err(fault());
    }
    cpu.state.scratch[layout::RESULT] = offset.wrapping_add(seg.base) & 0xffff_ffff;
    Ok(())
}

fn do_misaligned(_: &mut Cpu) -> Done {
    Err(Leave::Fault(Exception::gp0()))
}

/// SDM vol. 2B, RDTSC.
fn do_read_tsc(cpu: &mut Cpu) -> Done {
    if cpu.state.cpl() != 0 && cpu.state.cr4 & cr4::TSD != 0 {
        return Err(Leave::Fault(Exception::gp0()));
    }
    cpu.state.scratch[layout::RESULT] = cpu.tsc();
    Ok(())
}

//! The slow paths: what translated code has Rust do.
//!
//! A helper gets the processor and finds its arguments in scratch slots (`layout::ARG`), leaves its result in
//! `layout::RESULT`, and returns 0 or the [`Kind`] with which translated code has to be left. It never unwinds: a
//! panic (a bug) is kept until translated code has been left, and goes on from there.
//!
//! Invariant: a helper that says "leave" has changed nothing that the guest can see, so the instruction can begin
//! again.

use crate::exit::Kind;
use crate::layout;
use emu_core::addr::{PAGE_MASK, PAGE_SIZE};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::ir::{RepKind, mem_flags};
use emu_core::mem::{Frame, page};
use emu_core::mmu::{Access, JournalEntry, Priv, tlb};
use emu_core::state::bits::{cr4, rflags};
use emu_core::state::segment::attr;
use emu_core::state::{Mode, gpr};
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
    /// The time-stamp counter.
    ReadTsc,
    /// Image of the x87, for the host's to load.
    X87Load,
}

impl Helper {
    /// All, in order.
    pub const ALL: [Helper; 12] = [
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
        Helper::ReadTsc,
        Helper::X87Load,
    ];
}

/// Why a helper does not come back.
enum Leave {
    Fault(Exception),
    Interpret,
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
    cpu.state.scratch[layout::HOLD..layout::HOLD + layout::HOLDS].fill(none);
    match done {
        Ok(Ok(())) => 0,
        Ok(Err(Leave::Interpret)) => Kind::Interpret as u64,
        Ok(Err(Leave::Fault(e))) => {
            cpu.state.scratch[layout::EXC] = e.vector as u64 | u64::from(e.error) << 32;
            cpu.state.scratch[layout::EXC_ADDR] = e.cr2;
            Kind::Fault as u64
        }
        Err(payload) => {
            PANIC.set(Some(payload));
            Kind::Interpret as u64
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
    load = do_load;
    load_w = do_load_w;
    store = do_store;
    load_vec = do_load_vec;
    store_vec = do_store_vec;
    div = do_div;
    seg_addr = do_seg_addr;
    misaligned = do_misaligned;
    rep_string = do_rep_string;
    read_tsc = do_read_tsc;
    x87_load = do_x87_load;
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
        Helper::ReadTsc => read_tsc,
        Helper::X87Load => x87_load,
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
    if cpu.mem.attrs(index).load(Ordering::Relaxed) & page::CODE != 0 {
        let first = t.gpa.offset() >> 6;
        let last = (t.gpa.offset() + size as u64 - 1).min(PAGE_MASK) >> 6;
        let mask = (!0u64 << first) & (!0u64 >> (63 - last));
        if cpu.mem.code_chunks(index).load(Ordering::Relaxed) & mask != 0 {
            return Err(Leave::Interpret);
        }
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
    if cpu.mmu.journal.is_some() {
        for from in (0..size).step_by(8) {
            let (addr, len) = (t.gpa.wrapping_add(from as u64), (size - from).min(8));
            let old = cpu.phys_read(addr, len);
            let entry = JournalEntry { addr, old, new: old, len: len as u8 };
            cpu.mmu.journal.get_or_insert_default().push(entry);
        }
    }
    cpu.state.scratch[layout::RESULT] = (p as u64).wrapping_add(at).wrapping_sub(lin);
    Ok(())
}

/// Completes the journal after translated code has been left: entries of read-modify-writes in place do not know
/// yet what was written. Giving each entry what its bytes are now keeps the last value of every byte right.
pub fn complete_journal(cpu: &mut Cpu) {
    let Some(mut journal) = cpu.mmu.journal.take() else { return };
    for e in &mut journal {
        e.new = cpu.phys_read(e.addr, e.len.into());
    }
    cpu.mmu.journal = Some(journal);
}

fn do_x87_load(cpu: &mut Cpu) -> Done {
    if crate::x87::unmasked(&cpu.state) {
        return Err(Leave::Interpret);
    }
    crate::x87::pack(&mut cpu.state);
    Ok(())
}

fn do_load_vec(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    cpu.within_half(lin, size, stack)?;
    // Ten bytes are an operand of the x87.
    for at in (0..size).step_by(8) {
        let v = cpu.load_slow(lin.wrapping_add(at as u64), (size - at).min(8), Priv::Current, stack)?;
        cpu.state.scratch[layout::RESULT + at / 8] = v;
    }
    Ok(())
}

fn do_store_vec(cpu: &mut Cpu) -> Done {
    let (lin, size, stack) = access(cpu);
    check_writes(cpu, lin, size, stack)?;
    for i in 0..size / 8 {
        let v = cpu.state.scratch[layout::RESULT + i];
        cpu.store_slow(lin.wrapping_add(8 * i as u64), 8, v, Priv::Current, stack)?;
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

/// Bytes done before control goes back to translated code, so that signals are seen in time.
const REP_BYTES: u64 = 256 << 10;

/// As much of a REP MOVS or STOS as can be done in one go, upwards and within one page on either side; 0 bytes where
/// it has to go element by element.
fn rep_run(cpu: &mut Cpu, dst: u64, src: Option<u64>, len: usize, size: usize) -> usize {
    let room = PAGE_SIZE - (dst & PAGE_MASK).max(src.unwrap_or(0) & PAGE_MASK);
    let len = len.min(room as usize) / size * size;
    if len < 2 * size || cpu.mmu.journal.is_some() || cpu.state.mode.contains(Mode::ALIGN) {
        return 0;
    }
    // The source comes first: where it faults, nothing must have been noted of the destination.
    if let Some(src) = src {
        // SAFETY: `tlb` points at one of this processor's own sets.
        let hit = unsafe { (*cpu.state.tlb).read[tlb::index(src)].hit(src, 1) };
        if hit.is_none() && cpu.translate(src, Access::Read, Priv::Current, false).is_err() {
            return 0;
        }
    }
    // SAFETY: `tlb` points at one of this processor's own sets.
    let hit = unsafe { (*cpu.state.tlb).write[tlb::index(dst)].hit(dst, 1) };
    if hit.is_none() && check_write(cpu, dst, len, false).is_err() {
        return 0;
    }
    match src {
        Some(src) => cpu.copy_run(dst, src, len, size),
        None => cpu.fill_run(dst, cpu.state.gpr[gpr::RAX], len, size),
    }
}

fn do_rep_string(cpu: &mut Cpu) -> Done {
    let aux = cpu.state.scratch[layout::ARG + 2] as u32;
    let (src_base, dst_base) = (cpu.state.scratch[layout::ARG], cpu.state.scratch[layout::ARG + 1]);
    let movs = aux & 0xff == RepKind::Movs as u32;
    let size = (aux >> 8 & 0xff) as usize;
    let bits = aux >> 16 & 0xff;
    let mask = u64::MAX >> (64 - bits.clamp(1, 64));
    let wrap = if cpu.state.mode.contains(Mode::CODE64) { u64::MAX } else { 0xffff_ffff };
    let step = if cpu.state.rflags & rflags::DF != 0 { (size as u64).wrapping_neg() } else { size as u64 };
    // A 32-bit result clears the upper half; a 16-bit one keeps the rest.
    let merge = move |old: u64, new: u64| match bits {
        64 => new,
        32 => new & mask,
        _ => old & !mask | new & mask,
    };
    let mut begun = false;
    let mut left = REP_BYTES;
    while left != 0 {
        let g = cpu.state.gpr;
        let count = g[gpr::RCX] & mask;
        if count == 0 {
            break;
        }
        left = left.saturating_sub(size as u64);
        let dst = dst_base.wrapping_add(g[gpr::RDI] & mask) & wrap;
        if step == size as u64 {
            let src = movs.then(|| src_base.wrapping_add(g[gpr::RSI] & mask) & wrap);
            // Where an index would wrap in the middle, element by element.
            let room = |r: usize| mask - (g[r] & mask);
            let most = count.saturating_mul(step).min(room(gpr::RDI)).min(left);
            let most = if movs { most.min(room(gpr::RSI)) } else { most };
            let done = rep_run(cpu, dst, src, most as usize, size) as u64;
            if done != 0 {
                begun = true;
                left -= done;
                let g = &mut cpu.state.gpr;
                if movs {
                    g[gpr::RSI] = merge(g[gpr::RSI], g[gpr::RSI].wrapping_add(done));
                }
                g[gpr::RDI] = merge(g[gpr::RDI], g[gpr::RDI].wrapping_add(done));
                g[gpr::RCX] = merge(g[gpr::RCX], g[gpr::RCX].wrapping_sub(done / step));
                continue;
            }
        }
        let value = if movs {
            let src = src_base.wrapping_add(g[gpr::RSI] & mask) & wrap;
            cpu.load_slow_or_hit(src, size)?
        } else {
            g[gpr::RAX]
        };
        match cpu.store_checked(dst, size, value) {
            Ok(()) => {}
            Err(Leave::Interpret) if begun => break,
            Err(e) => return Err(e),
        }
        begun = true;
        let g = &mut cpu.state.gpr;
        if movs {
            g[gpr::RSI] = merge(g[gpr::RSI], g[gpr::RSI].wrapping_add(step));
        }
        g[gpr::RDI] = merge(g[gpr::RDI], g[gpr::RDI].wrapping_add(step));
        g[gpr::RCX] = merge(g[gpr::RCX], g[gpr::RCX].wrapping_sub(1));
    }
    cpu.state.scratch[layout::RESULT] = u64::from(cpu.state.gpr[gpr::RCX] & mask == 0);
    Ok(())
}

/// Accesses that look into the translation cache first.
trait Cached {
    fn load_slow_or_hit(&mut self, lin: u64, size: usize) -> Result<u64, Leave>;
    fn store_checked(&mut self, lin: u64, size: usize, value: u64) -> Result<(), Leave>;
}

impl Cached for Cpu {
    fn load_slow_or_hit(&mut self, lin: u64, size: usize) -> Result<u64, Leave> {
        Ok(match size {
            1 => self.load::<1>(lin, false)?,
            2 => self.load::<2>(lin, false)?,
            4 => self.load::<4>(lin, false)?,
            _ => self.load::<8>(lin, false)?,
        })
    }

    fn store_checked(&mut self, lin: u64, size: usize, value: u64) -> Result<(), Leave> {
        // SAFETY: `tlb` points at one of this processor's own sets.
        let hit = unsafe { (*self.state.tlb).write[tlb::index(lin)].hit(lin, size as u64) };
        if hit.is_none() {
            check_writes(self, lin, size, false)?;
        }
        match size {
            1 => self.store::<1>(lin, value, false)?,
            2 => self.store::<2>(lin, value, false)?,
            4 => self.store::<4>(lin, value, false)?,
            _ => self.store::<8>(lin, value, false)?,
        }
        Ok(())
    }
}

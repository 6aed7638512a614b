//! Runs of elements for the REP string instructions.
//!
//! Nothing here faults: a run that cannot be done in bulk is 0 bytes long, and the caller goes element by element,
//! which raises the fault exactly where it belongs. That is also how alignment is checked, and how stores into decoded
//! code of the page that the instruction itself is in are done: a run ends before them, since the element after may be
//! another instruction's by then.
//!
//! While a journal is kept, whoever calls completes it ([`Cpu::complete_journal`]).

use super::wide::{self, Other};
use super::{Access, Priv, tlb};
use crate::addr::{PAGE_MASK, PAGE_SIZE, PhysAddr};
use crate::cpu::Cpu;
use crate::mem::{Frame, page};
use crate::state::Mode;
use std::sync::atomic::Ordering;

/// Host memory of a run in one page; for RAM that is watched, what to tell afterwards.
struct Run {
    host: *mut u8,
    watched: Option<(PhysAddr, usize)>,
}

/// The low `unit` bytes of `value` as often as a word holds them.
fn repeated(value: u64, unit: usize) -> u64 {
    match unit {
        1 => (value & 0xff) * 0x0101_0101_0101_0101,
        2 => (value & 0xffff) * 0x0001_0001_0001_0001,
        4 => (value & 0xffff_ffff) * 0x0000_0001_0000_0001,
        _ => value,
    }
}

/// A comparison of elements with memory or a value, one after the other, for [`Cpu::skip_run`].
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// Linear address of the first element.
    pub at: u64,
    /// Linear address of the first element of the other side; None: `value` is the other side.
    pub with: Option<u64>,
    /// What the elements are compared with if not with memory.
    pub value: u64,
    /// Most elements to look at.
    pub count: u64,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub unit: usize,
    /// Equal elements let it go on; otherwise those that differ.
    pub equal: bool,
    /// Towards lower addresses.
    pub down: bool,
}

impl Cpu {
    /// How many elements a repeated comparison may pass over: of those that lie in the first one's page on either side,
    /// the ones before the first that ends it, and never the last that was looked at.
    pub fn skip_run(&mut self, s: &Scan) -> u64 {
        let unit = s.unit as u64;
        let room = |lin: u64| match (lin & PAGE_MASK, s.down) {
            (at, _) if at + unit > PAGE_SIZE => 0,
            (at, true) => at / unit + 1,
            (at, false) => (PAGE_SIZE - at) / unit,
        };
        let count = s.count.min(room(s.at)).min(s.with.map_or(u64::MAX, room));
        if count < 2 || self.mmu.trace.is_some() || self.state.mode.contains(Mode::ALIGN) {
            return 0;
        }
        let Some(a) = self.readable(s.at) else { return 0 };
        let b = match s.with {
            None => Other::Value(repeated(s.value, s.unit)),
            Some(lin) => match self.readable(lin) {
                Some(p) => Other::Memory(p),
                None => return 0,
            },
        };
        let len = count as usize * s.unit;
        let find = if s.down { wide::first_stop_down } else { wide::first_stop };
        // SAFETY: both runs stay within pages that were translated for reading, by `room`.
        let stop = unsafe { find(a, b, len, s.unit, s.equal) };
        ((stop / s.unit) as u64).min(count - 1)
    }

    /// Copies as ascending `unit`-byte moves would, at most `len` bytes, as far as both pages reach; gives the bytes
    /// copied, a multiple of `unit`. `own` is where the instruction lies; without it the run ends before any decoded bytes.
    pub fn copy_run(&mut self, dst: u64, src: u64, len: usize, unit: usize, own: Option<PhysAddr>) -> usize {
        let room = PAGE_SIZE - (dst & PAGE_MASK).max(src & PAGE_MASK);
        let len = len.min(room as usize) / unit * unit;
        if len == 0 || self.by_element() {
            return 0;
        }
        let Some(from) = self.readable(src) else { return 0 };
        let Some(to) = self.writable(dst) else { return 0 };
        let len = self.before_code(&to, len, own) / unit * unit;
        // Writing the destination may have evicted nothing that `from` needs: it is a host address.
        // A destination ahead of the source repeats what it overlaps: only up to there is it a plain copy.
        let gap = (to.host as usize).wrapping_sub(from as usize);
        let len = if gap < len { gap / unit * unit } else { len };
        self.ahead(&to, len);
        // SAFETY: both runs stay within pages that were translated for this access.
        unsafe { wide::copy(to.host, from, len) };
        self.told(to, len);
        len
    }

    /// Stores the low `unit` bytes of `value` again and again, at most `len` bytes, as far as the page reaches; gives
    /// the bytes written, a multiple of `unit`. `own` as for [`Cpu::copy_run`].
    pub fn fill_run(
        &mut self,
        dst: u64,
        value: u64,
        len: usize,
        unit: usize,
        own: Option<PhysAddr>,
    ) -> usize {
        let len = len.min((PAGE_SIZE - (dst & PAGE_MASK)) as usize) / unit * unit;
        if len == 0 || self.by_element() {
            return 0;
        }
        let Some(to) = self.writable(dst) else { return 0 };
        let len = self.before_code(&to, len, own) / unit * unit;
        let value = repeated(value, unit);
        self.ahead(&to, len);
        // SAFETY: the run stays within a page that was translated for writing.
        unsafe { wide::fill(to.host, value, len, unit) };
        self.told(to, len);
        len
    }

    /// Whether somebody wants to see each element.
    fn by_element(&self) -> bool {
        self.mmu.trace.is_some() || self.state.mode.contains(Mode::ALIGN)
    }

    /// How many of the next `len` bytes of a run come before anything decoded that ends it.
    fn before_code(&self, run: &Run, len: usize, own: Option<PhysAddr>) -> usize {
        let Some((gpa, index)) = run.watched else { return len };
        if own.is_some_and(|own| own.page() != gpa.page()) {
            return len;
        }
        if self.mem.attrs(index).load(Ordering::Relaxed) & page::CODE == 0 {
            return len;
        }
        let at = gpa.offset() as usize;
        let ahead = self.mem.code_chunks(index).load(Ordering::Relaxed) & (!0 << (at >> 6));
        let first = (ahead.trailing_zeros() as usize) << 6;
        len.min(first.saturating_sub(at))
    }

    fn readable(&mut self, lin: u64) -> Option<*const u8> {
        // SAFETY: `tlb` points at one of this vCPU's own sets (`select_tlb`).
        let entry = unsafe { &(*self.state.tlb).read[tlb::index(lin)] };
        if let Some(host) = entry.hit(lin, 1) {
            return Some(host.cast_const());
        }
        let t = self.translate(lin, Access::Read, Priv::Current, false).ok()?;
        let at = t.gpa.offset() as usize;
        match t.frame {
            Frame::Ram(p, _) => Some(p.wrapping_add(at).cast_const()),
            Frame::Rom(p) => Some(p.wrapping_add(at)),
            Frame::Mmio => None,
        }
    }

    fn writable(&mut self, lin: u64) -> Option<Run> {
        // SAFETY: as in `readable`.
        let entry = unsafe { &(*self.state.tlb).write[tlb::index(lin)] };
        // A journal wants the guest-physical address.
        if let Some(host) = entry.hit(lin, 1)
            && self.mmu.journal.is_none()
        {
            return Some(Run { host, watched: None });
        }
        let t = self.translate(lin, Access::Write, Priv::Current, false).ok()?;
        let Frame::Ram(p, index) = t.frame else { return None };
        if self.mem.attrs(index).load(Ordering::Relaxed) & page::TABLE != 0 {
            return None;
        }
        // Another vCPU may have decoded bytes of it: such stores go one by one.
        if !self.mem.single() && self.is_marked(index) {
            return None;
        }
        Some(Run { host: p.wrapping_add(t.gpa.offset() as usize), watched: Some((t.gpa, index)) })
    }

    fn ahead(&mut self, run: &Run, len: usize) {
        if let Some((gpa, _)) = run.watched {
            self.journal_ahead(gpa, len);
        }
    }

    fn told(&mut self, run: Run, len: usize) {
        if let Some((gpa, index)) = run.watched
            && len != 0
        {
            self.written(gpa, len, index);
        }
    }
}

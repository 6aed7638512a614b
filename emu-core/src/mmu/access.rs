//! Linear-address accesses: the interpreter's loads and stores, and the slow path of translated code.

use super::phys::{ram_read, ram_write};
use super::{Access, Priv, Touch, tlb};
use crate::addr::{PAGE_MASK, PAGE_SIZE, PhysAddr};
use crate::cpu::Cpu;
use crate::fault::{Exception, Vector};
use crate::mem::Frame;

/// The bytes of an instruction as fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// Bytes from the instruction pointer on.
    pub bytes: [u8; 15],
    /// How many of them are valid: 15, or fewer when the next page cannot be fetched.
    pub len: usize,
    /// Guest-physical address of the first byte.
    pub gpa: PhysAddr,
    /// RAM page of the first byte, if it is RAM (and may be marked as code).
    pub ram: Option<usize>,
    /// The following page, if the 15 bytes reach into it: where it is and its RAM page, or the fault of fetching it.
    pub next: Option<Result<(PhysAddr, Option<usize>), Exception>>,
}

impl Cpu {
    /// Reads `SIZE` (1, 2, 4 or 8) bytes at `lin` with the rights of `privilege`. `stack` chooses #SS over #GP for
    /// a non-canonical address.
    ///
    /// # Errors
    /// #PF, #GP(0) or #SS(0).
    #[inline(always)]
    pub fn load<const SIZE: usize>(&mut self, lin: u64, stack: bool) -> Result<u64, Exception> {
        // SAFETY: `tlb` points at one of this vCPU's own sets (`select_tlb`).
        let entry = unsafe { &(*self.state.tlb).read[tlb::index(lin)] };
        match entry.hit(lin, SIZE as u64) {
            // SAFETY: a hit names host memory of a guest page that covers the whole access.
            Some(host) => Ok(unsafe { ram_read(host, SIZE) }),
            None => self.load_slow(lin, SIZE, Priv::Current, stack),
        }
    }

    /// Writes the low `SIZE` (1, 2, 4 or 8) bytes of `value` at `lin`.
    ///
    /// # Errors
    /// #PF, #GP(0) or #SS(0); nothing has been written then.
    #[inline(always)]
    pub fn store<const SIZE: usize>(&mut self, lin: u64, value: u64, stack: bool) -> Result<(), Exception> {
        // SAFETY: as in `load`.
        let entry = unsafe { &(*self.state.tlb).write[tlb::index(lin)] };
        match entry.hit(lin, SIZE as u64) {
            Some(host) => {
                // SAFETY: a write hit names host memory of a RAM page that covers the whole access.
                unsafe { ram_write(host, SIZE, value) };
                Ok(())
            }
            None => self.store_slow(lin, SIZE, value, Priv::Current, stack),
        }
    }

    /// [`Cpu::load`] without the probe, for any size from 1 to 8, also across pages.
    ///
    /// # Errors
    /// As for [`Cpu::load`].
    #[inline(never)]
    pub fn load_slow(
        &mut self,
        lin: u64,
        size: usize,
        privilege: Priv,
        stack: bool,
    ) -> Result<u64, Exception> {
        if privilege == Priv::System {
            // SAFETY: `tlb_super` names this vCPU's own sets (`select_super`).
            let entry = unsafe { &(*self.state.tlb_super[0]).read[tlb::index(lin)] };
            if let Some(host) = entry.hit(lin, size as u64) {
                // SAFETY: as in `load`.
                return Ok(unsafe { ram_read(host, size) });
            }
        }
        let value = self.load_untraced(lin, size, privilege, stack)?;
        if let Some(trace) = &mut self.mmu.trace {
            trace.push(Touch { addr: lin, len: size as u8, value, write: false });
        }
        Ok(value)
    }

    #[inline(always)]
    fn load_untraced(
        &mut self,
        lin: u64,
        size: usize,
        privilege: Priv,
        stack: bool,
    ) -> Result<u64, Exception> {
        let room = (PAGE_SIZE - (lin & PAGE_MASK)) as usize;
        if size <= room {
            let t = self.translate(lin, Access::Read, privilege, stack)?;
            return Ok(self.read_at(t.gpa, t.frame, size));
        }
        self.within_half(lin, size, stack)?;
        let first = self.translate(lin, Access::Read, privilege, stack)?;
        let second = self.translate(self.advance(lin, room as u64), Access::Read, privilege, stack)?;
        let low = self.read_at(first.gpa, first.frame, room);
        let high = self.read_at(second.gpa, second.frame, size - room);
        Ok(low | high << (8 * room))
    }

    /// [`Cpu::store`] without the probe, for any size from 1 to 8, also across pages; both pages are checked before
    /// the first byte is written.
    ///
    /// # Errors
    /// As for [`Cpu::store`].
    #[inline(never)]
    pub fn store_slow(
        &mut self,
        lin: u64,
        size: usize,
        value: u64,
        privilege: Priv,
        stack: bool,
    ) -> Result<(), Exception> {
        if privilege == Priv::System {
            // SAFETY: as in `load_slow`.
            let entry = unsafe { &(*self.state.tlb_super[0]).write[tlb::index(lin)] };
            if let Some(host) = entry.hit(lin, size as u64) {
                // SAFETY: as in `store`.
                unsafe { ram_write(host, size, value) };
                return Ok(());
            }
        }
        let room = (PAGE_SIZE - (lin & PAGE_MASK)) as usize;
        self.within_half(lin, size, stack)?;
        let first = self.translate(lin, Access::Write, privilege, stack)?;
        if size <= room {
            self.traced_write(lin, size, value);
            self.phys_write(first.gpa, size, value);
            return Ok(());
        }
        let second = self.translate(self.advance(lin, room as u64), Access::Write, privilege, stack)?;
        self.traced_write(lin, size, value);
        self.phys_write(first.gpa, room, value & (u64::MAX >> (64 - 8 * room)));
        self.phys_write(second.gpa, size - room, value >> (8 * room));
        Ok(())
    }

    #[inline(always)]
    fn traced_write(&mut self, addr: u64, size: usize, value: u64) {
        if let Some(trace) = &mut self.mmu.trace {
            let value = value & (u64::MAX >> (64 - 8 * size));
            trace.push(Touch { addr, len: size as u8, value, write: true });
        }
    }

    /// Checks that `len` (up to 4096) bytes at `lin` can be written, so that a later store cannot fault.
    ///
    /// # Errors
    /// As for [`Cpu::store`].
    pub fn probe_write(
        &mut self,
        lin: u64,
        len: usize,
        privilege: Priv,
        stack: bool,
    ) -> Result<(), Exception> {
        let set = match privilege {
            Priv::Current => self.state.tlb,
            Priv::System => self.state.tlb_super[0],
        };
        // SAFETY: both name this vCPU's own sets (`select_tlb`, `select_super`).
        let entry = unsafe { &(*set).write[tlb::index(lin)] };
        if len <= PAGE_SIZE as usize && entry.hit(lin, len as u64).is_some() {
            return Ok(());
        }
        self.within_half(lin, len, stack)?;
        self.translate(lin, Access::Write, privilege, stack)?;
        let room = (PAGE_SIZE - (lin & PAGE_MASK)) as usize;
        if len > room {
            self.translate(self.advance(lin, room as u64), Access::Write, privilege, stack)?;
        }
        Ok(())
    }

    /// Refuses an operand of `len` bytes that begins at a canonical address and ends at one that is not: the whole
    /// operand is looked at before the first page is. Ten bytes, an operand of the x87, are eight and then two.
    ///
    /// # Errors
    /// #GP(0), or for the stack #SS(0).
    #[inline]
    pub fn within_half(&self, lin: u64, len: usize, stack: bool) -> Result<(), Exception> {
        let room = (PAGE_SIZE - (lin & PAGE_MASK)) as usize;
        let len = if len == 10 { 8 } else { len };
        if len > room && self.state.long_mode() && !self.state.is_canonical(lin.wrapping_add(room as u64)) {
            return Err(Exception::new(if stack { Vector::SS } else { Vector::GP }));
        }
        Ok(())
    }

    fn read_at(&mut self, gpa: PhysAddr, frame: Frame, size: usize) -> u64 {
        match frame {
            // SAFETY: the callers stay within the page.
            Frame::Ram(p, _) => unsafe { ram_read(p.add(gpa.offset() as usize), size) },
            // SAFETY: as above.
            Frame::Rom(p) => unsafe { ram_read(p.add(gpa.offset() as usize), size) },
            Frame::Mmio => self.phys_read(gpa, size),
        }
    }

    /// Fetches up to 15 bytes at `lin`.
    ///
    /// # Errors
    /// #PF or #GP(0) of the first byte's page; a fault of the second page is kept in [`Fetched::next`], to be
    /// raised only if the instruction really reaches into it.
    pub fn fetch(&mut self, lin: u64) -> Result<Fetched, Exception> {
        let mut f = self.fetch_in_page(lin)?;
        self.fetch_beyond(lin, &mut f);
        Ok(f)
    }

    /// Fetches up to 15 bytes at `lin` that lie in its page. Unlike [`Cpu::fetch`] it never marks the next page's table entry as
    /// accessed, which shows where the instruction does not reach that far.
    ///
    /// # Errors
    /// #PF or #GP(0).
    pub fn fetch_in_page(&mut self, lin: u64) -> Result<Fetched, Exception> {
        let (gpa, host, ram) = self.fetch_page(lin)?;
        let len = (PAGE_SIZE - (lin & PAGE_MASK)).min(15) as usize;
        let mut f = Fetched { bytes: [0; 15], len, gpa, ram, next: None };
        self.copy_code(gpa, host, &mut f.bytes[..len]);
        Ok(f)
    }

    /// Adds to what [`Cpu::fetch_in_page`] fetched at `lin` the bytes of the next page, as [`Cpu::fetch`] does.
    pub fn fetch_beyond(&mut self, lin: u64, f: &mut Fetched) {
        let room = f.len;
        if room == 15 || f.next.is_some() {
            return;
        }
        f.next = Some(self.fetch_page(self.advance(lin, room as u64)).map(|(gpa, host, ram)| {
            self.copy_code(gpa, host, &mut f.bytes[room..]);
            f.len = 15;
            (gpa, ram)
        }));
    }

    /// The guest-physical address behind an instruction fetch at `lin`.
    ///
    /// # Errors
    /// #PF or #GP(0).
    #[inline]
    pub fn fetch_gpa(&mut self, lin: u64) -> Result<PhysAddr, Exception> {
        // SAFETY: as in `load`.
        let entry = unsafe { &(*self.state.tlb).exec[tlb::exec_index(lin)] };
        if lin.wrapping_sub(entry.tag) < PAGE_SIZE {
            return Ok(PhysAddr(entry.gpa | lin & PAGE_MASK));
        }
        Ok(self.translate(lin, Access::Exec, Priv::Current, false)?.gpa)
    }

    /// The number of the fetch translation in force for `lin` (see [`super::execid`]); 0 if the inline cache has none.
    #[inline]
    pub fn exec_id(&self, lin: u64) -> u32 {
        // SAFETY: as in `load`.
        let entry = unsafe { &(*self.state.tlb).exec[tlb::exec_index(lin)] };
        if lin.wrapping_sub(entry.tag) < PAGE_SIZE { entry.id as u32 } else { 0 }
    }

    /// (address, host address of that byte or null for MMIO, RAM page).
    fn fetch_page(&mut self, lin: u64) -> Result<(PhysAddr, *const u8, Option<usize>), Exception> {
        let gpa = self.fetch_gpa(lin)?;
        let at = gpa.offset() as usize;
        Ok(match self.mem.frame(gpa) {
            Frame::Ram(p, i) => (gpa, p.wrapping_add(at).cast_const(), Some(i)),
            Frame::Rom(p) => (gpa, p.wrapping_add(at), None),
            Frame::Mmio => (gpa, std::ptr::null(), None),
        })
    }

    fn copy_code(&mut self, gpa: PhysAddr, host: *const u8, buf: &mut [u8]) {
        for (i, b) in buf.iter_mut().enumerate() {
            *b = if host.is_null() {
                self.phys_read(gpa.wrapping_add(i as u64), 1) as u8
            } else {
                // SAFETY: `fetch_page` gave a byte of a whole page, and callers stay within it.
                unsafe { host.add(i).read_volatile() }
            };
        }
    }
}

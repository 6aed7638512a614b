//! Linear memory for those who do not want to write page tables: pages with rights, and the tables behind them.
//!
//! Pages and tables are taken from guest-physical memory as they are needed. The tables are those of long mode (four
//! levels) or PAE, whose entries are alike; accessed and dirty bits are set from the start, so nothing writes to them.

use super::error::VmError;
use emu_core::addr::{PAGE_SIZE, PhysAddr, is_canonical};
use emu_core::mem::PhysMem;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Rights of a page. Writable and executable pages are readable, as on the processor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Perms(u8);

impl Perms {
    /// No access at all.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const R: Self = Self(1);
    /// Read and write.
    pub const RW: Self = Self(3);
    /// Read and execute.
    pub const RX: Self = Self(5);
    /// Everything.
    pub const RWX: Self = Self(7);

    /// From text such as `rw` or `r-x`; None if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        let mut rest = "rwx";
        for c in text.chars() {
            if c == '-' {
                continue;
            }
            // Each letter once, in order.
            let at = rest.find(c)?;
            rest = &rest[at + 1..];
            bits |= match c {
                'r' => 1,
                'w' => 2,
                _ => 4,
            };
        }
        (text.len() <= 3).then_some(Self(bits))
    }

    /// Whether it may be written.
    pub const fn writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether it may be executed.
    pub const fn executable(self) -> bool {
        self.0 & 4 != 0
    }
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, c) in [(1, 'r'), (2, 'w'), (4, 'x')] {
            write!(f, "{}", if self.0 & bit != 0 { c } else { '-' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where addresses lead.
#[derive(Debug)]
pub(super) enum Space {
    /// To guest-physical memory directly.
    Physical,
    /// Through tables that are kept here.
    Tables(Tables),
}

#[derive(Debug)]
pub(super) struct Tables {
    /// Levels: 4 in long mode, 3 for PAE.
    levels: u32,
    /// Physical address of the root.
    pub root: u64,
    /// The next physical page that was never used, and those given back.
    next: u64,
    free: Vec<u64>,
    /// Physical page and rights of each linear page.
    pages: BTreeMap<u64, (u64, Perms)>,
    /// Physical address of each table below the root, by level and the linear page number it starts at.
    tables: HashMap<(u32, u64), u64>,
    /// Pages are for user code.
    user: bool,
}

impl Tables {
    /// An empty space. `long`: of long mode, otherwise PAE.
    pub fn new(long: bool, user: bool) -> Self {
        Self {
            levels: if long { 4 } else { 3 },
            root: 0,
            next: 1,
            free: Vec::new(),
            pages: BTreeMap::new(),
            tables: HashMap::new(),
            user,
        }
    }

    /// Physical pages that may have been used, as a bound.
    pub fn used(&self) -> u64 {
        self.next
    }

    fn take(&mut self, mem: &PhysMem) -> Result<u64, VmError> {
        if let Some(page) = self.free.pop() {
            return Ok(page);
        }
        if self.next >= mem.size() / PAGE_SIZE {
            return Err(VmError::Full(mem.size()));
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Checks a range and gives its page numbers (as the tables see them).
    fn range(&self, addr: u64, len: u64) -> Result<std::ops::Range<u64>, VmError> {
        let wrong = VmError::OutOfRange { addr, len };
        let Some(last) = addr.checked_add(len.max(1) - 1) else { return Err(wrong) };
        let fits = if self.levels == 4 {
            is_canonical(addr, 48) && is_canonical(last, 48) && (addr ^ last) >> 63 == 0
        } else {
            last <= u64::from(u32::MAX)
        };
        if !fits {
            return Err(wrong);
        }
        Ok(addr >> 12..(last >> 12) + 1)
    }

    fn aligned(&self, addr: u64, len: u64) -> Result<std::ops::Range<u64>, VmError> {
        if len == 0 || !(addr | len).is_multiple_of(PAGE_SIZE) {
            return Err(VmError::Unaligned { addr, len });
        }
        self.range(addr, len)
    }

    /// Maps pages; those that are mapped already keep their bytes and get new rights.
    pub fn map(&mut self, mem: &PhysMem, addr: u64, len: u64, perms: Perms) -> Result<(), VmError> {
        let range = self.aligned(addr, len)?;
        if range.end - range.start > mem.size() / PAGE_SIZE {
            return Err(VmError::Full(mem.size()));
        }
        for page in range {
            let phys = match self.pages.get(&page) {
                Some((phys, _)) => *phys,
                None => self.take(mem)?,
            };
            self.pages.insert(page, (phys, perms));
            self.set_entry(mem, page, phys, perms)?;
        }
        Ok(())
    }

    /// Unmaps pages, whose bytes are lost; pages that are not mapped are left out.
    pub fn unmap(&mut self, mem: &PhysMem, addr: u64, len: u64) -> Result<Vec<u64>, VmError> {
        let mut gone = Vec::new();
        let list: Vec<u64> = self.pages.range(self.aligned(addr, len)?).map(|(page, _)| *page).collect();
        for page in list {
            let Some((phys, _)) = self.pages.remove(&page) else { continue };
            self.set_entry(mem, page, 0, Perms::NONE)?;
            put(mem, phys << 12, &[0; PAGE_SIZE as usize]);
            self.free.push(phys);
            gone.push(phys);
        }
        Ok(gone)
    }

    /// Writes the entry of the last level, making the tables above it.
    fn set_entry(&mut self, mem: &PhysMem, page: u64, phys: u64, perms: Perms) -> Result<(), VmError> {
        if self.root == 0 {
            self.root = self.take(mem)? << 12;
        }
        let mut table = self.root;
        for level in (1..self.levels).rev() {
            let shift = 9 * level;
            let key = (level, page >> shift);
            let below = match self.tables.get(&key) {
                Some(below) => *below,
                None => {
                    let below = self.take(mem)? << 12;
                    self.tables.insert(key, below);
                    // The entries of PAE's first level hold no rights.
                    let rights = if self.levels == 3 && level == 2 { 1 } else { 0x67 };
                    put(mem, table + 8 * (page >> shift & 511), &(below | rights).to_le_bytes());
                    below
                }
            };
            table = below;
        }
        let mut entry = 0;
        if perms != Perms::NONE {
            entry = phys << 12 | 0x61;
            entry |= if perms.writable() { 2 } else { 0 };
            entry |= if self.user { 4 } else { 0 };
            entry |= if perms.executable() { 0 } else { 1 << 63 };
        }
        put(mem, table + 8 * (page & 511), &entry.to_le_bytes());
        Ok(())
    }

    /// Calls `each(physical address, range of the buffer)` for the pieces of a range.
    pub fn pieces(
        &self,
        addr: u64,
        len: usize,
        mut each: impl FnMut(PhysAddr, std::ops::Range<usize>),
    ) -> Result<(), VmError> {
        if len == 0 {
            return Ok(());
        }
        self.range(addr, len as u64)?;
        let mut done = 0;
        // Everything is looked up before anything is done.
        for pass in 0..2 {
            done = 0;
            while done < len {
                let a = addr + done as u64;
                let Some((phys, _)) = self.pages.get(&(a >> 12)) else {
                    return Err(VmError::NotMapped { addr: a });
                };
                let at = a & (PAGE_SIZE - 1);
                let n = (len - done).min((PAGE_SIZE - at) as usize);
                if pass == 1 {
                    each(PhysAddr(phys << 12 | at), done..done + n);
                }
                done += n;
            }
        }
        debug_assert_eq!(done, len);
        Ok(())
    }

    /// The pages mapped, as (address, rights).
    pub fn mapped(&self) -> impl Iterator<Item = (u64, Perms)> + '_ {
        self.pages.iter().map(|(page, (_, perms))| (page << 12, *perms))
    }
}

fn put(mem: &PhysMem, at: u64, bytes: &[u8]) {
    let written = mem.write(PhysAddr(at), bytes);
    debug_assert!(written, "pages are taken from RAM");
}

//! The software MMU: from linear addresses to host memory.
//!
//! Every access probes the inline cache ([`tlb`]) first; a miss goes to [`Cpu::translate`], which asks the shadow
//! tables ([`shadow`]), then walks the guest's own ([`walk`]), and fills both, or raises #PF as a value. Each address
//! space keeps its inline caches ([`space`]) while others run.

pub mod access;
mod across;
pub mod bulk;
pub mod execid;
mod journal;
mod keys;
pub mod phys;
pub mod rmw;
pub mod shadow;
mod share;
#[cfg(test)]
mod share_tests;
pub mod space;
#[cfg(test)]
mod tests;
pub mod tlb;
pub mod walk;
mod wide;

use crate::addr::{PAGE_MASK, PAGE_SHIFT, PhysAddr};
use crate::cpu::Cpu;
use crate::events::Event;
use crate::fault::{Exception, Vector};
use crate::mem::Frame;
use crate::state::bits::{cr0, cr4, efer, rflags};
pub use journal::{Journal, JournalEntry};
use shadow::{Dropped, Found, Shadow, Shape};
use space::{Selected, Spaces};
use tlb::Used;
use walk::{Intent, Leaf, Path};

/// The kind of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write (or the read of a read-modify-write).
    Write,
    /// An instruction fetch.
    Exec,
}

/// On whose behalf memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priv {
    /// At the current privilege level.
    Current,
    /// As an implicit supervisor access: descriptor tables, TSS, stacks of a privilege change.
    System,
}

/// Counters of the MMU, for `--stats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MmuStats {
    /// Misses of the inline cache that went to [`Cpu::translate`].
    pub misses: u64,
    /// Walks of the guest's own tables.
    pub walks: u64,
    /// Times every translation cache was emptied.
    pub flushes: u64,
    /// CR3 loads.
    pub cr3_loads: u64,
    /// CR3 loads that found their address space still there.
    pub cr3_kept: u64,
    /// Single-page invalidations.
    pub invlpgs: u64,
}

/// The translation caches and shadow tables of one vCPU.
#[derive(Debug, Default)]
pub struct Mmu {
    /// Address spaces with translation caches.
    pub(crate) spaces: Spaces,
    /// Shadow tables.
    pub shadow: Shadow,
    /// Guest page tables that wait for other vCPUs.
    pub(crate) pending: share::Pending,
    /// Counters.
    pub stats: MmuStats,
    /// While set, no write entry is ever cached, so that every store passes [`Cpu::translate`] (lockstep).
    pub trap_writes: bool,
    /// Every write to RAM since it was last taken; None: not recorded (lockstep).
    pub journal: Option<Journal>,
    /// Every data access since it was last taken, oldest first; None: not recorded. While it is recorded no read or
    /// write entry is cached (set it with [`Cpu::trace_accesses`], which drops those that are).
    pub trace: Option<Vec<Touch>>,
    /// Pages with protection keys in the caches.
    keyed: keys::Keyed,
    /// Numbers of fetch translations.
    exec_ids: execid::ExecIds,
}

/// One recorded data access of an instruction or of an implicit access to tables and stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Linear address of the first byte.
    pub addr: u64,
    /// Length in bytes, 1 to 8: wider operands are several accesses.
    pub len: u8,
    /// Bytes read or written, in the low `len` bytes.
    pub value: u64,
    /// A write.
    pub write: bool,
}

/// A translated page.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// Guest-physical address of the byte asked for.
    pub gpa: PhysAddr,
    /// What lies there.
    pub frame: Frame,
}

impl Cpu {
    /// Which of a space's sets serves accesses at the current privilege.
    fn set_index(&self) -> usize {
        if self.state.cpl() == 3 {
            space::USER
        } else if self.state.rflags & rflags::AC != 0 {
            space::SUPER_AC
        } else {
            space::SUPER
        }
    }

    /// To be called after any change of CPL, EFLAGS.AC, CR0, CR3, CR4 or EFER: derives the mode bits and points
    /// [`crate::state::CpuState::tlb`] at the right cache.
    pub fn mode_changed(&mut self) {
        self.state.update_mode();
        self.select_tlb();
    }

    /// Points [`crate::state::CpuState::tlb`] at the cache of the current privilege; enough after EFLAGS.AC alone.
    #[inline]
    pub fn select_tlb(&mut self) {
        let i = self.set_index();
        self.state.tlb = self.mmu.spaces.current().set(i);
        if self.state.tlb_super[0].is_null() {
            self.select_super();
        }
    }

    fn select_super(&mut self) {
        let space = self.mmu.spaces.current();
        self.state.tlb_super = [space.set(space::SUPER), space.set(space::SUPER_AC)];
    }

    fn shape(&self) -> Shape {
        let s = &self.state;
        if s.cr0 & cr0::PG == 0 {
            return Shape::default();
        }
        let levels = match (s.cr4 & cr4::PAE != 0, s.long_mode()) {
            (false, _) => 2,
            (true, false) => 3,
            (true, true) => 4 + u8::from(s.cr4 & cr4::LA57 != 0),
        };
        Shape { levels, nxe: s.efer & efer::NXE != 0, pse: s.cr4 & cr4::PSE != 0, pge: s.cr4 & cr4::PGE != 0 }
    }

    /// Translates `lin` for an access that stays within its page, filling the inline cache where that is allowed.
    ///
    /// # Errors
    /// #PF, or #GP(0) (`stack`: #SS(0)) when the address is not canonical.
    pub fn translate(
        &mut self,
        lin: u64,
        access: Access,
        privilege: Priv,
        stack: bool,
    ) -> Result<Translation, Exception> {
        self.mmu.stats.misses += 1;
        let lin = if self.state.long_mode() {
            if !self.state.is_canonical(lin) {
                return Err(Exception::new(if stack { Vector::SS } else { Vector::GP }));
            }
            lin
        } else {
            lin & 0xffff_ffff
        };
        let (intent, set) = match privilege {
            Priv::Current => (self.intent(access), self.set_index()),
            Priv::System => (Intent { access, user: false, ac: false }, space::SUPER),
        };
        let (leaf, cacheable) = match self.shadow_leaf(lin, intent) {
            Some(leaf) => (leaf, true),
            None => {
                self.mmu.stats.walks += 1;
                let (mut leaf, mut path) = self.walk(lin, intent)?;
                let mut tracked = self.mem.single() || self.is_tracked(&path);
                if !tracked && self.track_path(&path) {
                    // Others could write the tables until now.
                    (leaf, path) = self.walk(lin, intent)?;
                    tracked = self.is_tracked(&path);
                }
                (leaf, tracked && self.enter(lin, &leaf, &path, access))
            }
        };
        let frame = self.mem.frame(leaf.gpa);
        if cacheable {
            self.mmu.keyed.note(lin, &leaf, access);
            self.fill(set, lin, leaf.gpa, frame, access);
        } else if access == Access::Write
            && let Frame::Ram(_, index) = frame
        {
            self.mem.pages().claim(index, self.me());
        }
        Ok(Translation { gpa: leaf.gpa, frame })
    }

    /// What the shadow tables say, if that settles the access.
    fn shadow_leaf(&mut self, lin: u64, intent: Intent) -> Option<Leaf> {
        let space = self.mmu.spaces.current();
        let (root, shape, number) = (space.root?, space.shape, self.mmu.spaces.current_number());
        let fetch = intent.access == Access::Exec;
        let leaf = self.mmu.shadow.lookup(root, shape, lin, number, fetch)?;
        let settled =
            (intent.access != Access::Write || leaf.dirty) && self.violation(&leaf, intent).is_none();
        self.mmu.shadow.stats.hits += u64::from(settled);
        settled.then_some(leaf)
    }

    /// Enters a walk's result in the shadow tables and tracks the guest's tables that it passed. False when that
    /// cannot be: then the translation must not be cached either.
    fn enter(&mut self, lin: u64, leaf: &Leaf, path: &Path, access: Access) -> bool {
        if path.len == 0 {
            return true;
        }
        if path.tables[..path.len].iter().any(|&t| !matches!(self.mem.frame(PhysAddr(t)), Frame::Ram(..))) {
            return false;
        }
        let mut track = Vec::new();
        for attempt in 0..2 {
            let (root, page) = match self.mmu.root() {
                Some(found) => found,
                None => {
                    self.drop_shadow();
                    continue;
                }
            };
            track.extend(page);
            let (shape, number) = (self.mmu.spaces.current().shape, self.mmu.spaces.current_number());
            let found = Found { leaf, path, fetch: access == Access::Exec };
            if self.mmu.shadow.insert(root, shape, lin, number, found, &mut track) {
                for page in track {
                    self.track(page);
                }
                return true;
            }
            if attempt == 0 {
                track.clear();
                self.drop_shadow();
            }
        }
        false
    }

    /// Gives up every shadow table, for lack of room or because what lies behind addresses has changed.
    fn drop_shadow(&mut self) {
        for page in self.mmu.shadow.drop_all() {
            if let Frame::Ram(_, index) = self.mem.frame(page) {
                self.mem.pages().unmark_table(index, self.me());
            }
        }
        self.mmu.spaces.forget_roots();
        self.flush_caches();
    }

    /// A store to a page that holds shadowed page tables.
    pub(crate) fn table_written(&mut self, addr: PhysAddr, size: usize) {
        let mut dropped = Vec::new();
        if self.mmu.shadow.entry_written(addr, size as u64, &mut dropped) {
            if let Frame::Ram(_, index) = self.mem.frame(addr) {
                self.mem.pages().unmark_table(index, self.me());
            }
            self.mmu.spaces.forget_roots();
        }
        for d in dropped {
            self.forget(d);
        }
    }

    pub(crate) fn forget(&mut self, d: Dropped) {
        self.mmu.spaces.forget(d);
    }

    fn fill(&mut self, set: usize, lin: u64, gpa: PhysAddr, frame: Frame, access: Access) {
        let host = match frame {
            Frame::Ram(p, _) => p.cast_const(),
            Frame::Rom(p) => p,
            Frame::Mmio => return,
        };
        if self.mmu.trace.is_some() && access != Access::Exec {
            return;
        }
        let tag = lin & !PAGE_MASK;
        let addend = (host as u64).wrapping_sub(tag);
        let i = tlb::index(lin);
        match access {
            Access::Read => {
                self.mmu.spaces.filled(set, Used::data_at(i)).read[i] = tlb::TlbEntry { tag, addend };
            }
            Access::Exec => {
                let gpa = gpa.0 & !PAGE_MASK;
                let Some(id) = self.mmu.exec_ids.id(tag, gpa) else { return };
                let i = tlb::exec_index(lin);
                let entry = tlb::ExecEntry { tag, addend, gpa, id: id.into() };
                self.mmu.spaces.filled(set, Used::exec_at(i)).exec[i] = entry;
            }
            Access::Write => {
                let Frame::Ram(_, index) = frame else { return };
                self.mem.pages().note_dirty(index);
                if self.mmu.trap_writes || !self.mem.pages().claim(index, self.me()) {
                    return;
                }
                self.mmu.spaces.filled(set, Used::data_at(i)).write[i] = tlb::TlbEntry { tag, addend };
                self.mmu.spaces.note_writer(set, i, host as u64, index);
            }
        }
    }

    /// Starts or stops recording data accesses in [`Mmu::trace`].
    pub fn trace_accesses(&mut self, on: bool) {
        if on != self.mmu.trace.is_some() {
            self.mmu.trace = on.then(Vec::new);
            self.flush_caches();
        }
    }

    fn flush_caches(&mut self) {
        self.mmu.stats.flushes += 1;
        self.mmu.spaces.flush();
    }

    /// Forgets every cached translation and shadow table.
    pub fn flush_all(&mut self) {
        self.tell(Event::Flush);
        self.drop_shadow();
        self.select_space();
    }

    /// What a serialising instruction is to other vCPUs' stores (SDM vol. 3A, 9.3): everything before it is visible,
    /// and everything told by now is applied. Costs nothing to speak of where there is no other vCPU.
    #[inline]
    pub fn serialize(&mut self) {
        if !self.mem.single() {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        self.serve_news();
    }

    /// INVLPG: forgets the page of `lin` in the current address space. Shadow entries follow the guest's tables by
    /// themselves; this serves guests that rely on it for pages whose tables lie outside RAM.
    pub fn invlpg(&mut self, lin: u64) {
        self.tell(Event::Invlpg(lin));
        self.mmu.stats.invlpgs += 1;
        self.serialize();
        let space = self.mmu.spaces.current();
        let (root, shape) = (space.root, space.shape);
        if let Some(d) = root.and_then(|root| self.mmu.shadow.clear(root, shape, lin)) {
            self.forget(d);
        }
    }

    /// INVPCID of each type (SDM vol. 2A): 0 one address, 1 one context, 2 all with globals, 3 all but globals.
    /// The operands have been checked. Only a single address has any work to do: see [`shadow`].
    pub fn invpcid(&mut self, kind: u64, _pcid: u16, lin: u64) {
        self.serialize();
        if kind == 0 {
            self.invlpg(lin);
        }
    }

    /// Loads CR3 (already checked, bit 63 meaning "keep this PCID's translations").
    pub fn load_cr3(&mut self, value: u64) {
        self.tell(Event::LoadCr3(value));
        self.mmu.stats.cr3_loads += 1;
        self.serialize();
        self.state.cr3 = value & !(1 << 63);
        self.select_space();
    }

    /// Finds or makes the address space that CR3 and the paging mode name.
    fn select_space(&mut self) {
        let shape = self.shape();
        let table = match shape.levels {
            0 => 0,
            2 => self.state.cr3 & 0xffff_f000,
            3 => self.state.cr3 & 0xffff_ffe0,
            _ => self.state.cr3 & walk::ADDR,
        };
        let space = self.mmu.spaces.current();
        let (old_table, old_shape) = (space.table, space.shape);
        let before = (self.mmu.spaces.current_number(), old_table);
        match self.mmu.spaces.select(table, shape) {
            Selected::Same => {}
            Selected::Kept => self.mmu.stats.cr3_kept += 1,
            Selected::New(number) => self.mmu.shadow.retire_space(number),
        }
        // The root may be known already; if there is no room for one, the first miss deals with that. Where other
        // vCPUs may write the table, it does too.
        if shape.levels != 0
            && self.mem.single()
            && let Some((root, Some(page))) = self.mmu.root()
        {
            self.track(page);
            if shape == old_shape {
                self.adopt(root, before);
            }
        }
        self.select_super();
        self.select_tlb();
    }

    /// Takes over for the current space, whose root table `root` has just been made, what the space of `before` (number
    /// and guest root table) knows of the guest's kernel: the upper half of their root tables, where it is the same.
    fn adopt(&mut self, root: shadow::TableId, before: (u32, u64)) {
        let (number, space) = (self.mmu.spaces.current_number(), self.mmu.spaces.current());
        let (table, shape) = (space.table, space.shape);
        if shape.levels < 4 || number == before.0 {
            return;
        }
        let Some(from) = self.mmu.shadow.root_of(before.1, shape) else { return };
        let mut shadow = std::mem::take(&mut self.mmu.shadow);
        let shared = shadow.adopt(root, from, (number, before.0), |i| {
            let mut entry = |table: u64| self.phys_read(PhysAddr(table + 8 * i as u64), 8);
            entry(table) == entry(before.1)
        });
        self.mmu.shadow = shadow;
        let shared = |lin: u64| {
            let i = shape.index(lin, shape.levels);
            lin >> 63 != 0 && shared[(i / 64) & 3] & 1 << (i % 64) != 0
        };
        let ram = self.mem.host_page(0) as u64;
        self.mmu
            .spaces
            .adopt(before.0 as usize, shared, |host| (host.wrapping_sub(ram) >> PAGE_SHIFT) as usize);
    }

    /// To be called after CR0, CR4 or EFER changed: drops what the change may have made stale.
    pub fn paging_changed(&mut self, old_cr0: u64, old_cr4: u64, old_efer: u64) {
        self.serialize();
        let rights = (old_cr0 ^ self.state.cr0) & (cr0::WP | cr0::PE | cr0::PG) != 0
            || (old_cr4 ^ self.state.cr4) & (cr4::SMEP | cr4::SMAP | cr4::PKE) != 0
            || (old_efer ^ self.state.efer) & efer::NXE != 0;
        if rights {
            self.tell(Event::Flush);
            self.flush_caches();
        }
        self.state.update_mode();
        self.select_space();
    }
}

impl Mmu {
    /// The current space's shadow root, made if there is none, and the page to track with it.
    fn root(&mut self) -> Option<(shadow::TableId, Option<PhysAddr>)> {
        let space = self.spaces.current();
        if let Some(root) = space.root {
            return Some((root, None));
        }
        let (root, page) =
            self.shadow.table_for(space.table, space.shape.levels, space.shape, 0, shadow::ALL_RIGHTS)?;
        self.spaces.set_root(root);
        Some((root, page))
    }
}

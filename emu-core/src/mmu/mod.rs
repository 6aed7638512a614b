//! The software MMU: from linear addresses to host memory.
//!
//! Every access probes the inline cache ([`tlb`]) first; a miss goes to [`Cpu::translate`], which walks the
//! guest's tables ([`walk`]) and fills the cache, or raises #PF as a value.

pub mod access;
pub mod bulk;
pub mod phys;
pub mod rmw;
pub mod tlb;
pub mod walk;

use crate::addr::{PAGE_MASK, PhysAddr, is_canonical};
use crate::cpu::Cpu;
use crate::fault::{Exception, Vector};
use crate::mem::{Frame, page};
use crate::state::bits::{cr0, cr4, rflags};
use std::sync::atomic::Ordering;
use tlb::TlbSet;
use walk::Intent;

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
    /// Whole-cache flushes.
    pub flushes: u64,
    /// CR3 loads.
    pub cr3_loads: u64,
    /// Single-page invalidations.
    pub invlpgs: u64,
}

/// Indices into [`Mmu::sets`].
const SUPER: usize = 0;
const SUPER_AC: usize = 1;
const USER: usize = 2;

/// The translation caches of one vCPU.
#[derive(Debug)]
pub struct Mmu {
    sets: [Box<TlbSet>; 3],
    /// Counters.
    pub stats: MmuStats,
    /// While set, no write entry is ever cached, so that every store passes [`Cpu::translate`] (lockstep).
    pub trap_writes: bool,
    /// Old bytes of every write to RAM since it was last taken, newest last; None: not recorded (lockstep).
    pub journal: Option<Vec<JournalEntry>>,
    /// Grows whenever a fetch translation that was handed out may have become stale.
    pub exec_generation: u64,
}

/// One recorded write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Guest-physical address of the first byte.
    pub addr: PhysAddr,
    /// Bytes before the write, in the low `len` bytes.
    pub old: u64,
    /// Bytes written, in the low `len` bytes.
    pub new: u64,
    /// Length in bytes, 1 to 8.
    pub len: u8,
}

impl Default for Mmu {
    fn default() -> Self {
        Self {
            sets: std::array::from_fn(|_| TlbSet::new()),
            stats: MmuStats::default(),
            trap_writes: false,
            journal: None,
            exec_generation: 0,
        }
    }
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
    /// Which of the sets serves accesses at the current privilege.
    fn set_index(&self) -> usize {
        if self.state.cpl() == 3 {
            USER
        } else if self.state.rflags & rflags::AC != 0 {
            SUPER_AC
        } else {
            SUPER
        }
    }

    /// To be called after any change of CPL, EFLAGS.AC, CR0, CR3, CR4 or EFER: derives the mode bits and points
    /// [`crate::state::CpuState::tlb`] at the right cache.
    pub fn mode_changed(&mut self) {
        self.state.update_mode();
        self.select_tlb();
    }

    /// Points [`crate::state::CpuState::tlb`] at the cache of the current privilege; enough after EFLAGS.AC alone.
    pub fn select_tlb(&mut self) {
        let i = self.set_index();
        self.state.tlb = &raw mut *self.mmu.sets[i];
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
            let bits = if self.state.cr4 & cr4::LA57 != 0 { 57 } else { 48 };
            if !is_canonical(lin, bits) {
                return Err(Exception::new(if stack { Vector::SS } else { Vector::GP }));
            }
            lin
        } else {
            lin & 0xffff_ffff
        };
        let (intent, set) = match privilege {
            Priv::Current => (self.intent(access), self.set_index()),
            Priv::System => (Intent { access, user: false, ac: false }, SUPER),
        };
        self.mmu.stats.walks += 1;
        let leaf = self.walk(lin, intent)?;
        let frame = self.mem.frame(leaf.gpa);
        self.fill(set, lin, leaf.gpa, frame, access, leaf.dirty);
        Ok(Translation { gpa: leaf.gpa, frame })
    }

    fn fill(&mut self, set: usize, lin: u64, gpa: PhysAddr, frame: Frame, access: Access, _dirty: bool) {
        let host = match frame {
            Frame::Ram(p, _) => p.cast_const(),
            Frame::Rom(p) => p,
            Frame::Mmio => return,
        };
        let tag = lin & !PAGE_MASK;
        let addend = (host as u64).wrapping_sub(tag);
        let i = tlb::index(lin);
        let set = &mut self.mmu.sets[set];
        match access {
            Access::Read => set.read[i] = tlb::TlbEntry { tag, addend },
            Access::Exec => {
                set.exec[i] = tlb::ExecEntry { tag, addend, gpa: gpa.0 & !PAGE_MASK, unused: 0 };
            }
            Access::Write => {
                let Frame::Ram(_, index) = frame else { return };
                let attrs = self.mem.attrs(index);
                attrs.fetch_or(page::DIRTY, Ordering::Relaxed);
                if self.mmu.trap_writes || attrs.load(Ordering::Relaxed) & (page::CODE | page::TABLE) != 0 {
                    return;
                }
                attrs.fetch_or(page::WRITABLE, Ordering::Relaxed);
                set.write[i] = tlb::TlbEntry { tag, addend };
            }
        }
    }

    /// Forgets every cached translation.
    pub fn flush_all(&mut self) {
        self.mmu.stats.flushes += 1;
        self.mmu.exec_generation += 1;
        for set in &mut self.mmu.sets {
            set.flush();
        }
    }

    /// INVLPG: forgets the page of `lin` in the current address space.
    pub fn invlpg(&mut self, lin: u64) {
        self.mmu.stats.invlpgs += 1;
        self.mmu.exec_generation += 1;
        for set in &mut self.mmu.sets {
            set.forget(lin);
        }
    }

    /// INVPCID of each type (SDM vol. 2A): 0 one address, 1 one context, 2 all with globals, 3 all but globals.
    /// The operands have been checked.
    pub fn invpcid(&mut self, kind: u64, _pcid: u16, lin: u64) {
        match kind {
            0 => self.invlpg(lin),
            _ => self.flush_all(),
        }
    }

    /// Loads CR3 (already checked, bit 63 meaning "keep this PCID's translations").
    pub fn load_cr3(&mut self, value: u64) {
        self.mmu.stats.cr3_loads += 1;
        self.state.cr3 = value & !(1 << 63);
        self.flush_all();
        self.select_tlb();
    }

    /// To be called after CR0, CR4 or EFER changed: drops what the change may have made stale.
    pub fn paging_changed(&mut self, old_cr0: u64, old_cr4: u64, old_efer: u64) {
        let cr0_bits = cr0::PG | cr0::WP | cr0::PE;
        let cr4_bits =
            cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::LA57 | cr4::PKE;
        if (old_cr0 ^ self.state.cr0) & cr0_bits != 0
            || (old_cr4 ^ self.state.cr4) & cr4_bits != 0
            || old_efer != self.state.efer
        {
            self.flush_all();
        }
        self.mode_changed();
    }

    /// To be called before code bytes of RAM page `index` are decoded: from now on every store to the page passes
    /// the slow path. `chunks` is the mask of 64-byte chunks that will have been decoded.
    pub fn mark_code(&mut self, index: usize, chunks: u64) {
        self.mem.code_chunks(index).fetch_or(chunks, Ordering::Relaxed);
        let old = self.mem.attrs(index).fetch_or(page::CODE, Ordering::AcqRel);
        if old & page::CODE == 0 && old & page::WRITABLE != 0 {
            self.mem.attrs(index).fetch_and(!page::WRITABLE, Ordering::AcqRel);
            for set in &mut self.mmu.sets {
                set.flush_writes();
            }
        }
    }
}

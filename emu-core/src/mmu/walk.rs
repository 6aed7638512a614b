//! The walk of the guest's own page tables (SDM vol. 3A, chapter 4): 32-bit, PAE, 4-level and 5-level.

use super::Access;
use crate::addr::PhysAddr;
use crate::cpu::Cpu;
use crate::fault::{Exception, pf};
use crate::state::bits::{cr0, cr4, efer, rflags};

/// A translation as the guest's tables give it, with the rights combined over all levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Guest-physical address of the byte asked for.
    pub gpa: PhysAddr,
    /// log2 of the page size in bytes: 12, 21, 22 or 30.
    pub shift: u32,
    /// U/S of every level: user accesses allowed.
    pub user: bool,
    /// R/W of every level.
    pub writable: bool,
    /// No level has XD set (always true without NXE).
    pub executable: bool,
    /// Global bit of the leaf (with CR4.PGE).
    pub global: bool,
    /// The leaf's dirty bit, after this access.
    pub dirty: bool,
    /// Protection key of the leaf (0 without it).
    pub key: u8,
}

/// The paging structures that a walk passed, from the root on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path {
    /// Guest-physical address of each structure's first entry.
    pub tables: [u64; 5],
    /// The rights that the entries before it leave: bit 0 user, bit 1 write, bit 2 execute.
    pub rights: [u8; 5],
    /// How many.
    pub len: usize,
}

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const XD: u64 = 1 << 63;
/// Implemented physical-address bits, as CPUID leaf 8000_0008h reports them.
pub const PHYS_BITS: u32 = 40;
pub(super) const ADDR: u64 = ((1 << PHYS_BITS) - 1) & !0xfff;
/// Address bits above the implemented ones, reserved in PAE and long-mode entries.
const HIGH_RSVD: u64 = ((1 << 52) - 1) & !((1 << PHYS_BITS) - 1);

/// Who makes the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Read, write or fetch.
    pub access: Access,
    /// A user-mode access (CPL 3 and not an implicit supervisor access).
    pub user: bool,
    /// EFLAGS.AC counts: an explicit supervisor access with AC set may touch user pages under SMAP.
    pub ac: bool,
}

impl Cpu {
    /// Walks the guest's tables for `lin`, checks the rights and sets accessed and dirty bits.
    ///
    /// # Errors
    /// #PF with the architectural error code. Canonicality is the caller's business.
    pub fn walk(&mut self, lin: u64, intent: Intent) -> Result<(Leaf, Path), Exception> {
        let mut path = Path::default();
        let s = &self.state;
        if s.cr0 & cr0::PG == 0 {
            let leaf = Leaf {
                gpa: PhysAddr(lin & 0xffff_ffff),
                shift: 12,
                user: true,
                writable: true,
                executable: true,
                global: false,
                dirty: true,
                key: 0,
            };
            return Ok((leaf, path));
        }
        let nxe = s.efer & efer::NXE != 0;
        let mut code = 0;
        if intent.access == Access::Write {
            code |= pf::W;
        }
        if intent.user {
            code |= pf::U;
        }
        if intent.access == Access::Exec && (nxe || s.cr4 & cr4::SMEP != 0) {
            code |= pf::I;
        }
        let pae = s.cr4 & cr4::PAE != 0;
        let lma = s.long_mode();
        let levels = match (pae, lma) {
            (false, _) => 2,
            (true, false) => 3,
            (true, true) => 4 + u32::from(s.cr4 & cr4::LA57 != 0),
        };
        let width = if pae { 9 } else { 10 };
        let (cr3, cr4v) = (s.cr3, s.cr4);
        let mut table = if !pae {
            cr3 & 0xffff_f000
        } else if !lma {
            cr3 & 0xffff_ffe0
        } else {
            cr3 & ADDR
        };
        let (mut user, mut writable, mut exec) = (true, true, true);
        let mut level = levels;
        loop {
            path.tables[path.len] = table;
            path.rights[path.len] = u8::from(user) | u8::from(writable) << 1 | u8::from(exec) << 2;
            path.len += 1;
            let shift = 12 + width * (level - 1);
            let index = lin >> shift & ((1 << width) - 1);
            let pdpte = pae && !lma && level == 3;
            let index = if pdpte { lin >> 30 & 3 } else { index };
            let at = PhysAddr(table + index * if pae { 8 } else { 4 });
            let entry = self.table_read(at, pae);
            if entry & P == 0 {
                return Err(Exception::page_fault(lin, code));
            }
            let large = match level {
                1 => true,
                2 if !pae => entry & PS != 0 && cr4v & cr4::PSE != 0,
                2 => entry & PS != 0,
                3 if !pdpte => entry & PS != 0,
                _ => false,
            };
            let reserved = if !pae {
                if large && level == 2 {
                    1 << 21 | (entry >> 13 & 0xff & !((1 << (PHYS_BITS - 32)) - 1)) << 13
                } else {
                    0
                }
            } else {
                let mut r = HIGH_RSVD | if nxe { 0 } else { XD };
                if pdpte {
                    r |= 0x1e6 | 0xfff0_0000_0000_0000 & !XD | XD;
                } else if level >= 4 && entry & PS != 0
                    || large && level == 3 && !self.features.gigabyte_pages()
                {
                    r |= PS;
                } else if large && level > 1 {
                    r |= ((1u64 << shift) - 1) & !0x1fff;
                }
                if !lma {
                    r |= 0x7ff0_0000_0000_0000;
                }
                r
            };
            if entry & reserved != 0 {
                return Err(Exception::page_fault(lin, code | pf::P | pf::RSVD));
            }
            if !pdpte {
                user &= entry & US != 0;
                writable &= entry & RW != 0;
                exec &= !nxe || !pae || entry & XD == 0;
            }
            if !large {
                if !pdpte && entry & A == 0 && !self.table_set(at, A, entry, pae) {
                    return self.walk(lin, intent);
                }
                table = if pae { entry & ADDR } else { entry & 0xffff_f000 };
                level -= 1;
                continue;
            }
            let key = if lma { (entry >> 59 & 15) as u8 } else { 0 };
            let mut leaf = Leaf {
                gpa: PhysAddr(0),
                shift,
                user,
                writable,
                executable: exec,
                global: entry & G != 0 && cr4v & cr4::PGE != 0,
                dirty: true,
                key,
            };
            if let Some(extra) = self.violation(&leaf, intent) {
                return Err(Exception::page_fault(lin, code | pf::P | extra));
            }
            let mut want = A;
            if intent.access == Access::Write {
                want |= D;
            }
            if entry & want != want && !self.table_set(at, want, entry, pae) {
                return self.walk(lin, intent);
            }
            leaf.dirty = (entry | want) & D != 0;
            let base = if !pae && level == 2 {
                entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32
            } else if pae {
                entry & ADDR & !((1 << shift) - 1)
            } else {
                entry & 0xffff_f000
            };
            leaf.gpa = PhysAddr(base | lin & ((1 << shift) - 1));
            return Ok((leaf, path));
        }
    }

    /// Whether the rights of `leaf` forbid the access: None if allowed, else extra error-code bits.
    pub(super) fn violation(&self, leaf: &Leaf, intent: Intent) -> Option<u32> {
        let s = &self.state;
        let wp = s.cr0 & cr0::WP != 0;
        let bad = match (intent.access, intent.user) {
            (Access::Read, true) => !leaf.user,
            (Access::Write, true) => !leaf.user || !leaf.writable,
            (Access::Exec, true) => !leaf.user || !leaf.executable,
            (Access::Exec, false) => !leaf.executable || leaf.user && s.cr4 & cr4::SMEP != 0,
            (access, false) => {
                leaf.user && s.cr4 & cr4::SMAP != 0 && !intent.ac
                    || access == Access::Write && wp && !leaf.writable
            }
        };
        if bad {
            return Some(0);
        }
        if s.cr4 & cr4::PKE != 0 && leaf.user && s.long_mode() && intent.access != Access::Exec {
            let rights = s.pkru >> (2 * u32::from(leaf.key));
            let write_denied = rights & 2 != 0 && intent.access == Access::Write && (intent.user || wp);
            if rights & 1 != 0 || write_denied {
                return Some(pf::PK);
            }
        }
        None
    }

    fn table_read(&mut self, at: PhysAddr, wide: bool) -> u64 {
        self.phys_read(at, if wide { 8 } else { 4 })
    }

    /// Sets accessed/dirty bits in an entry as a locked read-modify-write would; false if it has changed meanwhile and
    /// the walk must begin again.
    fn table_set(&mut self, at: PhysAddr, bits: u64, old: u64, wide: bool) -> bool {
        // Setting A or D changes no translation that a shadow could hold, so this bypasses write tracking.
        self.phys_set_bits(at, bits, old, wide)
    }

    /// The intent of an access at the current privilege.
    #[inline]
    pub fn intent(&self, access: Access) -> Intent {
        Intent { access, user: self.state.cpl() == 3, ac: self.state.rflags & rflags::AC != 0 }
    }
}

//! Shadow tables against plain walks, under random edits of the guest's tables.

use super::{Access, Priv};
use crate::addr::PhysAddr;
use crate::cpu::{Cpu, Wiring};
use crate::cpu_box::CpuBox;
use crate::fault::Exception;
use crate::features::Features;
use crate::mem::PhysMem;
use crate::state::Seg;
use crate::state::bits::{cr0, cr4, efer};

struct Rng(u64);
impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

const PAGES: u64 = 64;

/// A bare processor with 64 pages of RAM in 4-level paging; pages 0-15 serve as tables at random.
fn long_mode() -> CpuBox {
    let mem = PhysMem::new(PAGES << 12).expect("memory");
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    into_long_mode(&mut cpu);
    cpu
}

/// 4-level paging, CR3 still zero.
pub(super) fn into_long_mode(cpu: &mut Cpu) {
    let old = (cpu.state.cr0, cpu.state.cr4, cpu.state.efer);
    cpu.state.cr0 = cr0::PE | cr0::PG | cr0::WP;
    cpu.state.cr4 = cr4::PAE | cr4::PGE;
    cpu.state.efer = efer::LME | efer::LMA | efer::NXE;
    cpu.paging_changed(old.0, old.1, old.2);
}

fn random_entry(rng: &mut Rng) -> u64 {
    let page = rng.below(PAGES + 4) << 12;
    let bits = [0x67, 0x27, 0x63, 0x61, 0x21, 0, 0xe7, 0x167][rng.below(8) as usize];
    let nx = if rng.below(6) == 0 { 1 << 63 } else { 0 };
    if bits & 0x80 != 0 { bits | nx } else { page | bits | nx }
}

/// Linear addresses that random tables have a chance to map.
fn random_lin(rng: &mut Rng) -> u64 {
    let i = |rng: &mut Rng, shift: u32| rng.below(3) << shift;
    let low = i(rng, 12) | i(rng, 21) | i(rng, 30) | i(rng, 39) | rng.below(4096);
    if rng.below(2) == 0 { low } else { low | 0xffff_8000_0000_0000 }
}

fn agree(cpu: &mut Cpu, lin: u64, access: Access) {
    let by_walk = {
        let intent = cpu.intent(access);
        cpu.walk(lin, intent).map(|(leaf, _)| leaf.gpa)
    };
    cached_agrees(cpu, lin, access, by_walk);
    let by_shadow = cpu.translate(lin, access, Priv::Current, false).map(|t| t.gpa);
    assert_eq!(by_walk, by_shadow, "{lin:#x} {access:?}");
    cached_agrees(cpu, lin, access, by_walk);
}

/// Whatever the caches hold for `lin` says the same as a walk does.
fn cached_agrees(cpu: &mut Cpu, lin: u64, access: Access, by_walk: Result<PhysAddr, Exception>) {
    let set = cpu.mmu.spaces.current().set(if cpu.state.cpl() == 3 { 2 } else { 0 });
    // SAFETY: the set belongs to this processor, and nothing else uses it meanwhile.
    let set = unsafe { &*set };
    let i = super::tlb::index(lin);
    let host = match access {
        Access::Read => set.read[i].hit(lin, 1),
        Access::Write => set.write[i].hit(lin, 1),
        Access::Exec => {
            let e = &set.exec[super::tlb::exec_index(lin)];
            if lin.wrapping_sub(e.tag) < 4096 {
                assert_eq!(Ok(PhysAddr(e.gpa | lin & 4095)), by_walk, "{lin:#x} fetch");
            }
            return;
        }
    };
    if let (Some(host), Ok(gpa)) = (host, by_walk) {
        let crate::mem::Frame::Ram(page, _) = cpu.mem.frame(gpa) else { panic!("cached, but not RAM") };
        assert_eq!(host as u64, page as u64 + gpa.offset(), "{lin:#x} {access:?}");
    } else {
        assert!(by_walk.is_ok() || host.is_none(), "{lin:#x} {access:?}: cached, but faults");
    }
}

#[test]
fn shadow_agrees_with_walks() {
    let mut rng = Rng(0x1234_5678_9abc_def1);
    for _ in 0..60 {
        let mut cpu = long_mode();
        for page in 0..16u64 {
            for slot in [0, 1, 2, 256, 257, 258] {
                let e = random_entry(&mut rng) & !(if page < 8 { 0x80 } else { 0 });
                assert!(cpu.mem.write(PhysAddr((page << 12) | (slot * 8)), &e.to_le_bytes()));
            }
        }
        for _ in 0..3000 {
            match rng.below(12) {
                0 => {
                    let slot = [0, 1, 2, 256, 257, 258][rng.below(6) as usize];
                    let at = PhysAddr((rng.below(16) << 12) | (slot * 8));
                    let e = random_entry(&mut rng);
                    cpu.phys_write(at, 8, e);
                }
                1 => cpu.load_cr3(rng.below(20) << 12),
                2 => cpu.invlpg(random_lin(&mut rng)),
                3 => {
                    cpu.state.seg[2].attr ^= 0x60;
                    cpu.mode_changed();
                }
                4 => {
                    let old = cpu.state.cr4;
                    cpu.state.cr4 ^= [cr4::SMAP, cr4::SMEP, cr4::PGE][rng.below(3) as usize];
                    let (cr0, efer) = (cpu.state.cr0, cpu.state.efer);
                    cpu.paging_changed(cr0, old, efer);
                }
                5 => {
                    let lin = random_lin(&mut rng);
                    let _ = cpu.store::<8>(lin, 0, false);
                }
                n => {
                    let lin = random_lin(&mut rng);
                    agree(&mut cpu, lin, [Access::Read, Access::Write, Access::Exec][n as usize % 3]);
                }
            }
        }
    }
}

/// A new root table whose upper half is the last one's: what was cached of that is there at once, and goes with it.
#[test]
fn a_new_space_takes_over_the_kernels_half() {
    const LIN: u64 = 0xffff_8000_0000_5000;
    let mut cpu = long_mode();
    let put = |at: u64, e: u64| assert!(cpu.mem.write(PhysAddr(at), &e.to_le_bytes()));
    // Roots 0x1000 and 0x6000; the kernel's tables 0x2000 to 0x4000, the user's 0x7000 to 0x9000, only below 0x6000.
    for (at, e) in [(0x1800, 0x2063), (0x2000, 0x3063), (0x3000, 0x4063), (0x4028, 0x1_0063)] {
        put(at, e);
    }
    for (at, e) in
        [(0x6800, 0x2063), (0x6000, 0x7067), (0x7000, 0x8067), (0x8000, 0x9067), (0x9028, 0x1_1067)]
    {
        put(at, e);
    }
    cpu.load_cr3(0x1000);
    for access in [Access::Read, Access::Write] {
        cpu.translate(LIN, access, Priv::Current, false).expect("mapped");
    }
    cpu.load_cr3(0x6000);
    let misses = cpu.mmu.stats.misses;
    cpu.store::<8>(LIN, 77, false).expect("mapped");
    assert_eq!(cpu.load::<8>(LIN, false), Ok(77));
    assert_eq!(cpu.mmu.stats.misses, misses, "taken over");
    assert_eq!(cpu.load::<8>(0x5000, false), Ok(0));
    // It is another page now, in both.
    cpu.phys_write(PhysAddr(0x4028), 8, 0x1_2063);
    assert_eq!(cpu.load::<8>(LIN, false), Ok(0));
    cpu.load_cr3(0x1000);
    assert_eq!(cpu.load::<8>(LIN, false), Ok(0));
    cpu.load_cr3(0x6000);
    // The page becomes one of tables: nobody may keep a write entry.
    cpu.store::<8>(LIN, 5, false).expect("mapped");
    cpu.phys_write(PhysAddr(0x7000), 8, 0x1_2067);
    assert!(cpu.load::<8>(0x5000, false).is_err());
    cpu.store::<8>(LIN, 0x1_3067, false).expect("mapped");
    assert_eq!(cpu.load::<8>(0x5000, false).map_err(|e| e.vector), Err(crate::fault::Vector::PF));
    cpu.phys_write(PhysAddr(0x1_3028), 8, 0x1_4067);
    assert_eq!(cpu.load::<8>(0x5000, false), Ok(0));
    // The whole half goes.
    cpu.phys_write(PhysAddr(0x6800), 8, 0);
    assert!(cpu.load::<8>(LIN, false).is_err());
    cpu.load_cr3(0x1000);
    assert!(cpu.load::<8>(LIN, false).is_ok());
}

#[test]
fn tracked_pages_that_turn_into_data_are_let_go() {
    let mut cpu = long_mode();
    // 0x1000 -> 0x2000 -> 0x3000 -> 0x4000 -> page 0x10.
    for (at, e) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x1_0003)] {
        assert!(cpu.mem.write(PhysAddr(at), &e.to_le_bytes()));
    }
    cpu.load_cr3(0x1000);
    assert!(cpu.load::<8>(0, false).is_ok());
    for i in 1..200u64 {
        cpu.phys_write(PhysAddr(0x4000 + i % 512 * 8), 8, i << 32);
    }
    assert_eq!(cpu.mmu.shadow.stats.floods, 1);
    assert!(cpu.load::<8>(0, false).is_ok());
    cpu.phys_write(PhysAddr(0x4000), 8, 0);
    assert!(cpu.load::<8>(0, false).is_err(), "tracked again after the reload");
}

/// Page tables with keys in them under a PKRU that changes, as user code and as a supervisor's, in several address spaces.
#[test]
fn caches_follow_protection_keys() {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut kept) = (0, 0);
    for _ in 0..40 {
        let mut cpu = long_mode();
        let old = (cpu.state.cr0, cpu.state.cr4, cpu.state.efer);
        cpu.state.cr4 |= cr4::PKE;
        cpu.paging_changed(old.0, old.1, old.2);
        // Two roots over the same tables: pages of 4 KiB, all for users, with keys 0 to 3.
        for (at, entry) in [(0, 0x2067), (0x1000, 0x2067), (0x2000, 0x3067), (0x3000, 0x4067)] {
            assert!(cpu.mem.write(PhysAddr(at), &u64::to_le_bytes(entry)));
        }
        for slot in 0..64u64 {
            let entry = rng.below(PAGES) << 12 | 0x67 | rng.below(4) << 59;
            assert!(cpu.mem.write(PhysAddr(0x4000 + 8 * slot), &entry.to_le_bytes()));
        }
        let before = cpu.mmu.stats.flushes;
        for _ in 0..3000 {
            match rng.below(20) {
                0 => {
                    let old = cpu.state.pkru;
                    cpu.state.pkru = (rng.next() as u32 & 0xff) & if rng.below(20) == 0 { !0 } else { !3 };
                    cpu.keys_changed(old);
                }
                1 => {
                    cpu.load_cr3(rng.below(2) << 12);
                }
                2 => {
                    let attr = &mut cpu.state.seg[Seg::SS as usize].attr;
                    *attr = *attr & !(3 << 5) | [0, 3][rng.below(2) as usize] << 5;
                    cpu.mode_changed();
                }
                _ => {
                    let lin = rng.below(64) << 12 | rng.below(4096);
                    let access = [Access::Read, Access::Write, Access::Exec][rng.below(3) as usize];
                    agree(&mut cpu, lin, access);
                    let intent = cpu.intent(access);
                    refused += u32::from(cpu.walk(lin, intent).is_err());
                }
            }
        }
        kept += u32::from(cpu.mmu.stats.flushes - before < 100);
    }
    assert!(refused > 1000 && kept > 30, "{refused} {kept}");
}

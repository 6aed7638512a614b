//! Memory-type range registers (SDM vol. 3A, 12.11): validated and kept, without effect, since memory is coherent.

use emu_core::cpu::Cpu;
use emu_core::mmu::walk::PHYS_BITS;

/// Eight variable ranges, fixed ranges, write-combining.
const CAP: u64 = 8 | 1 << 8 | 1 << 10;
const PHYS: u64 = (1 << PHYS_BITS) - 1;

/// Whether `t` is a memory type: UC, WC, WT, WP or WB.
fn is_type(t: u8) -> bool {
    matches!(t, 0 | 1 | 4 | 5 | 6)
}

/// The place of a fixed-range register among the eleven.
fn fixed(index: u32) -> Option<usize> {
    Some(match index {
        0x250 => 0,
        0x258 | 0x259 => index as usize - 0x258 + 1,
        0x268..=0x26f => index as usize - 0x268 + 3,
        _ => return None,
    })
}

/// RDMSR; None means #GP(0).
pub(super) fn read(cpu: &Cpu, index: u32) -> Option<u64> {
    let m = &cpu.state.msr;
    Some(match index {
        0xfe => CAP,
        0x200..=0x20f => {
            let i = (index & 0xf) as usize / 2;
            if index & 1 == 0 { m.mtrr_base[i] } else { m.mtrr_mask[i] }
        }
        0x2ff => m.mtrr_def_type,
        _ => m.mtrr_fixed[fixed(index)?],
    })
}

/// WRMSR; None means #GP(0), with nothing changed.
pub(super) fn write(cpu: &mut Cpu, index: u32, value: u64) -> Option<()> {
    let m = &mut cpu.state.msr;
    let (ok, place) = match index {
        0x200..=0x20f => {
            let i = (index & 0xf) as usize / 2;
            if index & 1 == 0 {
                (value & !(PHYS & !0xf00) == 0 && is_type(value as u8), &mut m.mtrr_base[i])
            } else {
                (value & !(PHYS & !0x7ff) == 0, &mut m.mtrr_mask[i])
            }
        }
        0x2ff => (value & !0xcff == 0 && is_type(value as u8), &mut m.mtrr_def_type),
        _ => (value.to_le_bytes().into_iter().all(is_type), &mut m.mtrr_fixed[fixed(index)?]),
    };
    ok.then(|| *place = value)
}

//! CPUID (SDM vol. 2A; the hypervisor leaves from 4000_0000h on are KVM's).
//!
//! What is offered comes from [`emu_core::features::Features`]; this file adds what follows from the state and
//! the machine. The vendor is Intel and the model (`Features::signature`) one that Linux knows to be free of
//! speculation, so that it applies no mitigation at all; IA32_ARCH_CAPABILITIES says the same to everyone else.

use super::cr::xcr0_allowed;
use emu_core::clock::TSC_HZ;
use emu_core::cpu::Cpu;
use emu_core::features::{leaf1_ecx, leaf1_edx, leaf7_ecx, xsave_eax};
use emu_core::mmu::walk::PHYS_BITS;
use emu_core::state::bits::{cr4, xcr0};
use emu_core::state::gpr;

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

const MAX_HYPERVISOR: u32 = 0x4000_0010;

/// KVM features of leaf 4000_0001h: both clock MSR sets, no I/O delay needed, poll control, stable clock.
const KVM_FEATURES: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 12 | 1 << 24;
/// ARAT: the APIC timer never stops.
const LEAF6_EAX: u32 = 1 << 2;

/// XSAVE components beyond x87 and SSE: (XCR0 bit number, size, offset in the standard format).
pub const XSAVE_COMPONENTS: [(u32, u32, u32); 5] =
    [(2, 256, 576), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664), (9, 8, 2688)];
/// The legacy area and the header.
const XSAVE_BASE: u32 = 576;

/// Size of an XSAVE area in the standard format for the components of `mask`.
pub fn xsave_size(mask: u64) -> u32 {
    let ends = XSAVE_COMPONENTS.iter().filter(|c| mask >> c.0 & 1 != 0).map(|c| c.1 + c.2);
    ends.fold(XSAVE_BASE, u32::max)
}

/// Size of an XSAVE area in the compacted format for the components of `mask`.
pub fn xsave_size_compacted(mask: u64) -> u32 {
    XSAVE_COMPONENTS.iter().filter(|c| mask >> c.0 & 1 != 0).fold(XSAVE_BASE, |n, c| n + c.1)
}

/// CPUID: EAX, EBX, ECX, EDX from EAX and ECX.
pub fn cpuid(cpu: &mut Cpu) {
    let (eax, ecx) = (cpu.state.gpr[gpr::RAX] as u32, cpu.state.gpr[gpr::RCX] as u32);
    let [a, b, c, d] = leaf(cpu, eax, ecx);
    cpu.state.gpr[gpr::RAX] = a.into();
    cpu.state.gpr[gpr::RBX] = b.into();
    cpu.state.gpr[gpr::RCX] = c.into();
    cpu.state.gpr[gpr::RDX] = d.into();
}

/// One leaf. A leaf beyond the highest reads as the highest basic one, as on Intel processors.
pub fn leaf(cpu: &Cpu, eax: u32, ecx: u32) -> Leaf {
    let hypervisor = cpu.features.leaf1_ecx & leaf1_ecx::HYPERVISOR != 0;
    let (max_basic, max_extended) = (cpu.features.max_basic, cpu.features.max_extended);
    match eax {
        0x4000_0000..=MAX_HYPERVISOR if hypervisor => hypervisor_leaf(eax),
        0x8000_0000.. if eax <= max_extended => extended(cpu, eax),
        _ => basic(cpu, eax.min(max_basic), ecx),
    }
}

fn word(text: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |v, i| v | u32::from(text.get(at + i).copied().unwrap_or(0)) << (8 * i))
}

fn basic(cpu: &Cpu, eax: u32, ecx: u32) -> Leaf {
    let f = &cpu.features;
    let vendor = b"GenuineIntel";
    match eax {
        0 => [f.max_basic, word(vendor, 0), word(vendor, 8), word(vendor, 4)],
        1 => {
            let osxsave = if cpu.state.cr4 & cr4::OSXSAVE != 0 { 1 << 27 } else { 0 };
            let apic = if cpu.irq.apic_base() & 1 << 11 != 0 { leaf1_edx::APIC } else { 0 };
            let ebx = 1 << (16 + core_bits(cpu)) | 8 << 8 | (cpu.index & 0xff) << 24;
            // HTT: more than one logical processor in the package.
            let htt = if cpu.vcpus() > 1 { 1 << 28 } else { 0 };
            let edx = f.leaf1_edx & !(leaf1_edx::APIC & !apic) | htt;
            [f.signature(), ebx, f.leaf1_ecx & !(1 << 27) | osxsave, edx]
        }
        // No descriptors here: the caches are in leaf 4.
        2 => [0x00ff_0001, 0, 0, 0],
        4 => cache(cpu, ecx),
        6 => [LEAF6_EAX, 0, 0, 0],
        7 if ecx == 0 => {
            let ospke = if cpu.state.cr4 & cr4::PKE != 0 { 1 << 4 } else { 0 };
            [0, f.leaf7_ebx, f.leaf7_ecx & !(1 << 4) | ospke, f.leaf7_edx]
        }
        // One package, in which every processor is a core with one thread.
        0xb => match ecx {
            0 => [0, 1, 1 << 8, cpu.index],
            1 => [core_bits(cpu), cpu.vcpus(), 2 << 8 | 1, cpu.index],
            n => [0, 0, n & 0xff, cpu.index],
        },
        0xd => xsave(cpu, ecx),
        // The crystal runs at the rate of the TSC, and so does the APIC timer.
        0x15 => [1, 1, TSC_HZ as u32, 0],
        0x16 => [(TSC_HZ / 1_000_000) as u32, (TSC_HZ / 1_000_000) as u32, 100, 0],
        _ => [0; 4],
    }
}

/// Bits of the APIC ID that tell the cores of the package apart.
fn core_bits(cpu: &Cpu) -> u32 {
    cpu.vcpus().next_power_of_two().trailing_zeros()
}

/// Leaf 4: 32 KiB of L1 data and code and 1 MiB of L2 for each core, 16 MiB of L3 for all, with lines of 64 bytes.
fn cache(cpu: &Cpu, index: u32) -> Leaf {
    let (kind, level, ways, sets) = match index {
        0 => (1, 1, 8, 64),
        1 => (2, 1, 8, 64),
        2 => (3, 2, 16, 1024),
        3 => (3, 3, 16, 16384),
        _ => return [0; 4],
    };
    let cores = (1 << core_bits(cpu)) - 1;
    let sharing = if level == 3 { cores } else { 0 };
    [kind | level << 5 | 1 << 8 | sharing << 14 | (cores & 63) << 26, 63 | (ways - 1) << 22, sets - 1, 0]
}

fn xsave(cpu: &Cpu, index: u32) -> Leaf {
    if cpu.features.leaf1_ecx & leaf1_ecx::XSAVE == 0 {
        return [0; 4];
    }
    let all = xcr0_allowed(cpu);
    match index {
        0 => [all as u32, xsave_size(cpu.state.xcr0), xsave_size(all), (all >> 32) as u32],
        1 => {
            let eax = cpu.features.xsave_eax;
            let size = match eax & (xsave_eax::XSAVEC | xsave_eax::XSAVES) {
                0 => 0,
                _ => xsave_size_compacted(cpu.state.xcr0 | cpu.state.msr.xss),
            };
            [eax, size, 0, 0]
        }
        _ => match XSAVE_COMPONENTS.iter().find(|c| c.0 == index) {
            Some(&(bit, size, offset)) if all & !(xcr0::X87 | xcr0::SSE) & 1 << bit != 0 => {
                [size, offset, 0, 0]
            }
            _ => [0; 4],
        },
    }
}

fn hypervisor_leaf(eax: u32) -> Leaf {
    let signature = b"KVMKVMKVM";
    let khz = (TSC_HZ / 1000) as u32;
    match eax {
        0x4000_0000 => [MAX_HYPERVISOR, word(signature, 0), word(signature, 4), word(signature, 8)],
        0x4000_0001 => [KVM_FEATURES, 0, 0, 0],
        // TSC and APIC timer frequency in kHz (the generic timing leaf).
        0x4000_0010 => [khz, khz, 0, 0],
        _ => [0; 4],
    }
}

fn extended(cpu: &Cpu, eax: u32) -> Leaf {
    let f = &cpu.features;
    match eax {
        0x8000_0000 => [f.max_extended, 0, 0, 0],
        0x8000_0001 => [0, 0, f.ext1_ecx, f.ext1_edx],
        0x8000_0002..=0x8000_0004 => {
            let at = 16 * (eax - 0x8000_0002) as usize;
            let brand = b"calque virtual CPU";
            std::array::from_fn(|i| word(brand, at + 4 * i))
        }
        // L2: 1 MiB, 16-way, lines of 64 bytes.
        0x8000_0006 => [0, 0, 1024 << 16 | 8 << 12 | 64, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => {
            let linear = if f.leaf7_ecx & leaf7_ecx::LA57 != 0 { 57 } else { 48 };
            [PHYS_BITS | linear << 8, f.ext8_ebx, 0, 0]
        }
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::Bed;
    use emu_core::features::Features;

    fn text(words: &[u32]) -> String {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn names() {
        let b = Bed::long();
        let [max, x, z, y] = leaf(&b.cpu, 0, 0);
        assert_eq!((max, text(&[x, y, z])), (0x16, "GenuineIntel".into()));
        let [_, x, y, z] = leaf(&b.cpu, 0x4000_0000, 0);
        assert_eq!(text(&[x, y, z]), "KVMKVMKVM");
        let brand: Vec<u32> = (2..5).flat_map(|i| leaf(&b.cpu, 0x8000_0000 + i, 0)).collect();
        assert_eq!(text(&brand), "calque virtual CPU");
    }

    #[test]
    fn beyond_the_highest_leaf_comes_the_highest_basic_one() {
        let b = Bed::long();
        let f = b.cpu.features;
        let last = leaf(&b.cpu, f.max_basic, 0);
        for eax in [f.max_basic + 1, 0x3fff_ffff, MAX_HYPERVISOR + 1, f.max_extended + 1, u32::MAX] {
            assert_eq!(leaf(&b.cpu, eax, 0), last);
        }
    }

    /// An old processor has the leaves it had, and nothing of a hypervisor's.
    #[test]
    fn old_models() {
        let mut b = Bed::long();
        b.cpu.features = Features::parse("486").unwrap();
        assert_eq!(leaf(&b.cpu, 0, 0)[0], 1);
        let [signature, _, ecx, edx] = leaf(&b.cpu, 1, 0);
        assert_eq!((signature, ecx, edx), (0x480, 0, 0xb));
        for eax in [7, 0xd, 0x4000_0000, 0x8000_0000, 0x8000_0001] {
            assert_eq!(leaf(&b.cpu, eax, 0)[0], signature, "{eax:#x}");
        }
    }

    #[test]
    fn state_shows_in_the_feature_bits() {
        let mut b = Bed::long();
        assert_eq!(leaf(&b.cpu, 1, 0)[2] & 1 << 27, 0);
        b.cpu.state.cr4 |= cr4::OSXSAVE;
        assert_ne!(leaf(&b.cpu, 1, 0)[2] & 1 << 27, 0);
        assert_ne!(leaf(&b.cpu, 1, 0)[3] & 1 << 9, 0);
    }

    #[test]
    fn xsave_areas() {
        let mut b = Bed::long();
        b.cpu.features = Features::parse("max,-avx,-pku").unwrap();
        assert_eq!(leaf(&b.cpu, 0xd, 0), [3, 576, 576, 0]);
        assert_eq!(leaf(&b.cpu, 0xd, 2), [0; 4]);
        b.cpu.features.leaf1_ecx |= leaf1_ecx::AVX;
        assert_eq!(leaf(&b.cpu, 0xd, 0), [7, 576, 832, 0]);
        b.cpu.state.xcr0 = 7;
        assert_eq!(leaf(&b.cpu, 0xd, 0)[1], 832);
        assert_eq!(leaf(&b.cpu, 0xd, 1)[..2], [0xf, 832]);
        assert_eq!(leaf(&b.cpu, 0xd, 2), [256, 576, 0, 0]);
    }

    #[test]
    fn the_instruction_clears_the_upper_halves() {
        let mut b = Bed::long();
        b.cpu.state.gpr[gpr::RAX] = 0xffff_ffff_0000_0001;
        b.cpu.state.gpr[gpr::RBX] = u64::MAX;
        cpuid(&mut b.cpu);
        assert_eq!(b.cpu.state.gpr[gpr::RAX], u64::from(b.cpu.features.signature()));
        assert_eq!(b.cpu.state.gpr[gpr::RBX] >> 32, 0);
    }
}

//! A small machine for the tests of this module: tables, stacks and a processor in the mode asked for.

use emu_core::addr::PhysAddr;
use emu_core::bus::CpuInterrupts;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer, rflags};
use emu_core::state::{DescTable, Seg, SegReg, gpr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

pub const GDT: u64 = 0x1000;
pub const IDT: u64 = 0x2000;
pub const TSS: u64 = 0x3000;
/// A second TSS, for task switches.
pub const TSS2: u64 = 0x3800;
pub const CODE: u64 = 0x8000;
pub const HANDLER: u64 = 0x9000;
pub const STACK: u64 = 0x2_0000;
pub const RING0_STACK: u64 = 0x3_0000;
pub const IST_STACK: u64 = 0x3_8000;
/// The page table behind the first 2 MiB.
pub const PT: u64 = 0x1_3000;

pub const CODE32: u16 = 0x08;
pub const DATA: u16 = 0x10;
pub const USER_CODE32: u16 = 0x1b;
pub const USER_DATA: u16 = 0x23;
pub const CODE64: u16 = 0x28;
pub const USER_CODE64: u16 = 0x33;
pub const CODE16: u16 = 0x38;
pub const DATA16: u16 = 0x40;
pub const CONFORMING: u16 = 0x48;
pub const TSS_SEL: u16 = 0x50;
/// Room for a gate (16 bytes).
pub const GATE: u16 = 0x60;
pub const TSS2_SEL: u16 = 0x70;
pub const TASK_GATE: u16 = 0x78;
pub const ABSENT_DATA: u16 = 0x80;
pub const ABSENT_CODE: u16 = 0x88;
pub const READ_ONLY: u16 = 0x90;
/// Data, expand-down, limit 0xfff, 16-bit.
pub const EXPAND_DOWN: u16 = 0x98;
pub const LDT_SEL: u16 = 0xa0;
pub const GDT_LIMIT: u16 = 0xaf;

/// Interrupt controller with one vector waiting.
#[derive(Debug, Default)]
pub struct OneVector {
    pub vector: AtomicU8,
    pub waiting: AtomicBool,
}

impl CpuInterrupts for OneVector {
    fn has_interrupt(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
    fn acknowledge(&self) -> Option<u8> {
        self.waiting.swap(false, Ordering::Relaxed).then(|| self.vector.load(Ordering::Relaxed))
    }
    fn cr8(&self) -> u8 {
        0
    }
    fn set_cr8(&self, _value: u8) {}
    fn apic_base(&self) -> u64 {
        0xfee0_0900
    }
    fn set_apic_base(&self, _value: u64) -> bool {
        true
    }
    fn x2apic_read(&self, _msr: u32) -> Option<u64> {
        None
    }
    fn x2apic_write(&self, _msr: u32, _value: u64) -> bool {
        false
    }
    fn tsc_deadline(&self) -> u64 {
        0
    }
    fn set_tsc_deadline(&self, _tsc: u64) {}
    fn apic_mmio_read(&self, _offset: u64) -> u32 {
        0
    }
    fn apic_mmio_write(&self, _offset: u64, _value: u32) {}
}

pub struct Bed {
    pub cpu: CpuBox,
    pub irq: Arc<OneVector>,
}

impl Bed {
    /// Real mode at 0:CODE with a vector table at 0 whose handlers lie at 0:HANDLER + vector.
    pub fn real() -> Self {
        let mem = PhysMem::new(2 << 20).unwrap();
        let irq = Arc::new(OneVector::default());
        let wiring = Wiring { irq: irq.clone(), ..Wiring::bare(mem) };
        let mut bed = Self { cpu: Cpu::new(wiring, Features::max(), 0), irq };
        bed.cpu.state.idtr = DescTable { base: 0, limit: 0x3ff };
        for vector in 0..256 {
            bed.poke(vector * 4, 4, HANDLER + vector);
        }
        let cs = &mut bed.cpu.state.seg[Seg::CS as usize];
        (cs.sel, cs.base) = (0, 0);
        bed.cpu.state.rip = CODE;
        bed.cpu.state.gpr[gpr::RSP] = 0x7000;
        bed.cpu.mode_changed();
        bed
    }

    /// 32-bit protected mode at CPL 0, paging off.
    pub fn protected() -> Self {
        let mut bed = Self::real();
        bed.tables();
        bed.cpu.state.cr0 |= cr0::PE;
        bed.poke(TSS + 4, 4, RING0_STACK);
        bed.poke(TSS + 8, 2, DATA.into());
        bed.enter(CODE32, DATA);
        bed
    }

    /// 64-bit code at CPL 0 with the first 2 MiB mapped for everyone.
    pub fn long() -> Self {
        let mut bed = Self::real();
        bed.tables();
        bed.poke(0x1_0000, 8, 0x1_1007);
        bed.poke(0x1_1000, 8, 0x1_2007);
        bed.poke(0x1_2000, 8, PT + 7);
        for page in 0..512 {
            bed.poke(PT + page * 8, 8, page << 12 | 7);
        }
        bed.poke(TSS + 4, 8, RING0_STACK);
        bed.poke(TSS + 0x24, 8, IST_STACK);
        let s = &mut bed.cpu.state;
        s.cr3 = 0x1_0000;
        s.cr4 |= cr4::PAE;
        s.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        let old0 = s.cr0;
        s.cr0 |= cr0::PE | cr0::PG | cr0::WP;
        bed.cpu.paging_changed(old0, 0, 0);
        bed.enter(CODE64, DATA);
        bed
    }

    /// Goes to CPL 3 with the given code segment.
    pub fn user(mut self, cs: u16) -> Self {
        self.enter(cs, USER_DATA);
        self
    }

    /// Virtual-8086 mode at 0:CODE.
    pub fn v86(iopl: u64) -> Self {
        let mut bed = Self::protected();
        for r in &mut bed.cpu.state.seg {
            *r = SegReg { sel: 0, attr: 0xf3, limit: 0xffff, base: 0 };
        }
        bed.cpu.state.rflags = 2 | rflags::VM | iopl << 12;
        bed.cpu.state.gpr[gpr::RSP] = 0x7000;
        bed.cpu.mode_changed();
        bed
    }

    fn tables(&mut self) {
        let gdt: [u64; 22] = [
            0,
            0x00cf_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_9b00_0000_ffff,
            0x00af_fb00_0000_ffff,
            0x0000_9b00_0000_ffff,
            0x0000_9300_0000_ffff,
            0x00cf_9f00_0000_ffff,
            0x0000_8b00_3000_0000 | 0xff,
            0,
            0,
            0,
            0x0000_8900_3800_0067,
            u64::from(TSS2_SEL) << 16 | 0xe500 << 32,
            0x00cf_1300_0000_ffff,
            0x00cf_1b00_0000_ffff,
            0x00cf_9100_0000_ffff,
            0x0000_9700_0000_0fff,
            0x0000_8200_5000_000f,
            0,
        ];
        for (i, d) in gdt.into_iter().enumerate() {
            self.poke(GDT + 8 * i as u64, 8, d);
        }
        // No I/O bitmap.
        self.poke(TSS + 0x66, 2, 0xffff);
        let s = &mut self.cpu.state;
        s.gdtr = DescTable { base: GDT, limit: GDT_LIMIT };
        s.idtr = DescTable { base: IDT, limit: 0xfff };
        s.tr = SegReg { sel: TSS_SEL, attr: 0x8b, limit: 0xff, base: TSS };
    }

    /// Loads all segment registers without checks, and goes to CODE with an empty stack.
    pub fn enter(&mut self, cs: u16, data: u16) {
        for seg in [Seg::ES, Seg::SS, Seg::DS, Seg::FS, Seg::GS] {
            self.set(seg, data);
        }
        self.set(Seg::CS, cs);
        self.cpu.state.rip = CODE;
        self.cpu.state.gpr[gpr::RSP] = STACK;
    }

    pub fn set(&mut self, seg: Seg, sel: u16) {
        let raw = self.peek(GDT + u64::from(sel & !7), 8);
        self.cpu.state.seg[seg as usize] = SegReg::from_descriptor(sel, raw);
        self.cpu.mode_changed();
    }

    pub fn sel(&self, seg: Seg) -> u16 {
        self.cpu.state.seg[seg as usize].sel
    }

    pub fn rsp(&self) -> u64 {
        self.cpu.state.gpr[gpr::RSP]
    }

    pub fn peek(&mut self, addr: u64, size: usize) -> u64 {
        self.cpu.phys_read(PhysAddr(addr), size)
    }

    pub fn poke(&mut self, addr: u64, size: usize, value: u64) {
        self.cpu.phys_write(PhysAddr(addr), size, value);
    }

    /// Writes a descriptor.
    pub fn describe(&mut self, sel: u16, raw: u64) {
        self.poke(GDT + u64::from(sel & !7), 8, raw);
    }

    /// An 8-byte gate in the IDT of protected mode; `attr` is P, DPL and type.
    pub fn gate32(&mut self, vector: u64, sel: u16, offset: u64, attr: u64) {
        let raw = offset & 0xffff | u64::from(sel) << 16 | attr << 40 | (offset >> 16) << 48;
        self.poke(IDT + 8 * vector, 8, raw);
    }

    /// A 16-byte gate in the IDT of long mode.
    pub fn gate64(&mut self, vector: u64, sel: u16, offset: u64, attr: u64, ist: u64) {
        let low =
            offset & 0xffff | u64::from(sel) << 16 | ist << 32 | attr << 40 | (offset >> 16 & 0xffff) << 48;
        self.poke(IDT + 16 * vector, 8, low);
        self.poke(IDT + 16 * vector + 8, 8, offset >> 32);
    }

    /// `count` values of `size` bytes from the top of the (flat) stack.
    pub fn stack(&mut self, size: usize, count: u64) -> Vec<u64> {
        let rsp = self.rsp();
        (0..count).map(|i| self.peek(rsp + i * size as u64, size)).collect()
    }

    /// Pushes values of `size` bytes, the first one deepest.
    pub fn push(&mut self, size: usize, values: &[u64]) {
        for &v in values {
            let rsp = self.rsp() - size as u64;
            self.cpu.state.gpr[gpr::RSP] = rsp;
            self.poke(rsp, size, v);
        }
    }

    /// Makes the page of `addr` absent in long mode.
    pub fn unmap(&mut self, addr: u64) {
        self.poke(PT + (addr >> 12) * 8, 8, 0);
        self.cpu.flush_all();
    }

    /// What must not change when an operation fails.
    pub fn essence(&self) -> ([u64; 16], u64, u64, [SegReg; 6], u64) {
        let s = &self.cpu.state;
        (s.gpr, s.rip, s.rflags, s.seg, s.cr0)
    }
}

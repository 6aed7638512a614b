//! A bare processor for tests: memory, tables, and gates whose handlers halt, so that the vector taken can be seen.
#![allow(dead_code, reason = "each test uses its part")]

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::engine::{Engine, Exit};
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::state::bits::{cr0, cr4, efer};
use emu_core::state::{Activity, DescTable, Mode, SegReg, gpr};
use interp::Interp;

/// Where the code goes, two pages of it.
pub const CODE: u64 = 0x8000;
/// Sixteen pages of data; the last but one is read-only, the last is not present (64-bit machines).
pub const DATA: u64 = 0x2_0000;
/// The read-only page.
pub const READ_ONLY: u64 = DATA + 0xe000;
/// The page that is not present.
pub const ABSENT: u64 = DATA + 0xf000;
/// Top of the stack.
pub const STACK: u64 = 0x7000;
/// Handler of vector v: a HLT at `HANDLERS + 16 * v`.
pub const HANDLERS: u64 = 0x5000;

const IDT: u64 = 0x4000;
const GDT: u64 = 0x3000;

pub struct Machine {
    pub cpu: CpuBox,
    pub interp: Interp,
}

impl Machine {
    fn bare(code: &[u8]) -> Self {
        let mem = PhysMem::new(4 << 20).expect("guest memory");
        assert!(mem.write(PhysAddr(CODE), code));
        for v in 0..32 {
            assert!(mem.write(PhysAddr(HANDLERS + 16 * v), &[0xf4]));
        }
        let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
        cpu.state.gpr = [0; 16];
        cpu.state.gpr[gpr::RSP] = STACK;
        cpu.state.rip = CODE;
        Self { cpu, interp: Interp::new() }
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        assert!(self.cpu.mem.write(PhysAddr(at), bytes));
    }

    /// 64-bit code at CPL 0 under 4-level paging.
    pub fn long(code: &[u8]) -> Self {
        let mut m = Self::bare(code);
        let entries = [(0x1000u64, 0x2003u64), (0x2000, 0x10_0003), (0x10_0000, 0x10_1003)];
        for (at, e) in entries {
            m.put(at, &e.to_le_bytes());
        }
        for page in 0..256u64 {
            let bits = match page << 12 {
                READ_ONLY => 1,
                ABSENT => 0,
                _ => 3,
            };
            m.put(0x10_1000 + 8 * page, &(page << 12 | bits).to_le_bytes());
        }
        for (i, d) in [0u64, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff].iter().enumerate() {
            m.put(GDT + 8 * i as u64, &d.to_le_bytes());
        }
        for v in 0..32u64 {
            let h = HANDLERS + 16 * v;
            let low = h & 0xffff | 8 << 16 | 0x8e00 << 32 | (h >> 16 & 0xffff) << 48;
            m.put(IDT + 16 * v, &low.to_le_bytes());
            m.put(IDT + 16 * v + 8, &(h >> 32).to_le_bytes());
        }
        let s = &mut m.cpu.state;
        s.gdtr = DescTable { base: GDT, limit: 23 };
        s.idtr = DescTable { base: IDT, limit: 0x1ff };
        s.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::WP;
        s.cr4 = cr4::PAE | cr4::OSFXSR;
        s.efer = efer::LME | efer::LMA;
        s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
        s.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
        m.cpu.load_cr3(0x1000);
        m.cpu.mode_changed();
        m
    }

    /// 32-bit flat protected mode, no paging.
    pub fn prot(code: &[u8]) -> Self {
        let mut m = Self::bare(code);
        for (i, d) in [0u64, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff].iter().enumerate() {
            m.put(GDT + 8 * i as u64, &d.to_le_bytes());
        }
        for v in 0..32u64 {
            let h = HANDLERS + 16 * v;
            m.put(IDT + 8 * v, &(h & 0xffff | 8 << 16 | 0x8e00 << 32 | (h >> 16) << 48).to_le_bytes());
        }
        let s = &mut m.cpu.state;
        s.gdtr = DescTable { base: GDT, limit: 23 };
        s.idtr = DescTable { base: IDT, limit: 0xff };
        s.cr0 = cr0::PE | cr0::ET;
        s.seg = [SegReg { sel: 0x10, attr: 0xc093, limit: u32::MAX, base: 0 }; 6];
        s.seg[1] = SegReg { sel: 8, attr: 0xc09b, limit: u32::MAX, base: 0 };
        m.cpu.mode_changed();
        assert!(m.cpu.state.mode.contains(Mode::FLAT));
        m
    }

    /// Real mode with all segments at 0.
    pub fn real(code: &[u8]) -> Self {
        let mut m = Self::bare(code);
        for v in 0..32u64 {
            m.put(4 * v, &(HANDLERS + 16 * v).to_le_bytes()[..4]);
        }
        m.cpu.state.seg = [SegReg { sel: 0, attr: 0x93, limit: 0xffff, base: 0 }; 6];
        m.cpu.mode_changed();
        m
    }

    /// Runs until HLT.
    pub fn run(&mut self) -> &mut Self {
        let exit = self.interp.run(&mut self.cpu, 10_000_000);
        assert_eq!(exit, Exit::Halted, "rip {:#x}", self.cpu.state.rip);
        self
    }

    /// Runs until a handler halts and gives its vector.
    pub fn fault(&mut self) -> u64 {
        self.run();
        let at = self.cpu.state.rip.wrapping_sub(HANDLERS + 1);
        assert!(
            at < 512 && at.is_multiple_of(16),
            "halted outside the handlers, at {:#x}",
            self.cpu.state.rip
        );
        at / 16
    }

    /// Register `n`.
    pub fn reg(&self, n: usize) -> u64 {
        self.cpu.state.gpr[n]
    }

    /// Sets register `n`.
    pub fn set(&mut self, n: usize, v: u64) -> &mut Self {
        self.cpu.state.gpr[n] = v;
        self
    }

    /// Reads `size` bytes of physical memory.
    pub fn peek(&mut self, at: u64, size: usize) -> u64 {
        self.cpu.phys_read(PhysAddr(at), size)
    }

    /// Writes `size` bytes of physical memory.
    pub fn poke(&mut self, at: u64, size: usize, v: u64) -> &mut Self {
        self.cpu.phys_write(PhysAddr(at), size, v);
        self
    }

    /// Whether it halted.
    pub fn halted(&self) -> bool {
        self.cpu.state.activity == Activity::Halted
    }
}

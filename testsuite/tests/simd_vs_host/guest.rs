//! One instruction on the interpreter: a bare processor in 64-bit code, handed the decoded instruction.

use crate::case::{Case, MEMORY};
use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::cpu_box::CpuBox;
use emu_core::features::Features;
use emu_core::mem::PhysMem;
use emu_core::softfloat::F80;
use emu_core::state::bits::{cr0, cr4, efer, rflags, xcr0};
use emu_core::state::segment::attr;
use emu_core::state::{Mode, Seg, gpr};
use interp::decode::{Decoded, decode};

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DATA: u64 = 0x4000;
const GPR: [usize; 4] = [gpr::RAX, gpr::RCX, gpr::RDX, 8];

pub struct Guest {
    cpu: CpuBox,
    decoded: Option<Decoded>,
}

impl Guest {
    pub fn new() -> Self {
        let mut cpu =
            Cpu::new(Wiring::bare(PhysMem::new(1 << 20).expect("guest memory")), Features::max(), 0);
        // Identity-mapped by one page of 1 GiB.
        cpu.phys_write(PhysAddr(PML4), 8, PDPT | 7);
        cpu.phys_write(PhysAddr(PDPT), 8, 0x87);
        let s = &mut cpu.state;
        s.cr3 = PML4;
        s.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
        s.xcr0 = xcr0::X87 | xcr0::SSE | xcr0::AVX;
        s.efer = efer::LME | efer::LMA;
        s.cr0 = cr0::PE | cr0::PG | cr0::NE | cr0::ET | cr0::MP;
        s.seg[Seg::CS as usize].attr |= attr::L;
        cpu.paging_changed(0x6000_0010, 0, 0);
        assert!(cpu.state.mode.contains(Mode::CODE64));
        Self { cpu, decoded: None }
    }

    /// Decodes the instruction to [`Guest::run`].
    pub fn prepare(&mut self, bytes: &[u8]) {
        self.decoded = decode(bytes, 0, self.cpu.state.mode, &self.cpu);
        assert!(self.decoded.is_some(), "{bytes:02x?}");
    }

    pub fn run(&mut self, case: &Case) -> Case {
        self.load(case);
        let op = &self.decoded.as_ref().expect("prepared").op;
        let fault = (op.run)(&mut self.cpu, op).err();
        self.state(case, fault.map(|e| e.vector as u8))
    }

    pub fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    /// Puts the processor into the state of `case`.
    pub fn load(&mut self, case: &Case) {
        let cpu = &mut *self.cpu;
        for (i, &b) in case.memory.iter().enumerate() {
            cpu.phys_write(PhysAddr(DATA + i as u64), 1, b.into());
        }
        let s = &mut cpu.state;
        for (i, v) in s.vec.iter_mut().enumerate().take(16) {
            v.set_xmm(case.xmm[i]);
            (v.0[2], v.0[3]) = (case.high[i] as u64, (case.high[i] >> 64) as u64);
        }
        for (st, &(mant, se)) in s.fpu.st.iter_mut().zip(&case.st) {
            *st = F80 { mant, se };
        }
        (s.fpu.fcw, s.fpu.fsw, s.fpu.ftw) = (case.fcw, case.fsw, case.ftw);
        s.mxcsr = case.mxcsr;
        for (&n, &v) in GPR.iter().zip(&case.gpr) {
            s.gpr[n] = v;
        }
        s.gpr[gpr::RDI] = DATA + case.offset as u64;
        s.rflags = 2 | case.flags;
        s.update_mode();
    }

    /// What the processor's state has become.
    pub fn state(&mut self, case: &Case, fault: Option<u8>) -> Case {
        let cpu = &mut *self.cpu;
        let s = &cpu.state;
        let mut after = Case {
            xmm: std::array::from_fn(|i| s.vec[i].xmm()),
            high: std::array::from_fn(|i| u128::from(s.vec[i].0[2]) | u128::from(s.vec[i].0[3]) << 64),
            st: std::array::from_fn(|i| (s.fpu.st[i].mant, s.fpu.st[i].se)),
            fcw: s.fpu.fcw,
            fsw: s.fpu.fsw,
            ftw: s.fpu.ftw,
            mxcsr: s.mxcsr,
            gpr: GPR.map(|n| s.gpr[n]),
            flags: s.rflags & rflags::STATUS,
            memory: [0; MEMORY],
            offset: case.offset,
            fault,
        };
        assert_eq!(s.gpr[gpr::RDI], DATA + case.offset as u64);
        for (i, b) in after.memory.iter_mut().enumerate() {
            *b = cpu.phys_read(PhysAddr(DATA + i as u64), 1) as u8;
        }
        after
    }
}

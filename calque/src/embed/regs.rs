//! Registers by name, with the checks that keep the processor in a state it can be in.

use super::error::VmError;
use super::vm::Vm;
use emu_core::cpu::Cpu;
use emu_core::softfloat::F80;
use emu_core::state::bits::{cr0, cr4, efer, rflags, xcr0};
pub use emu_core::state::{DescTable as Table, Seg, SegReg as Segment};
use interp::system::{cr, msr};

/// A register of up to 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reg {
    /// General register, numbered as instructions encode them.
    Gpr(u8),
    /// Instruction pointer: an offset in CS.
    Rip,
    /// Flags.
    Rflags,
    /// Control register 0, 2, 3, 4 or 8.
    Cr(u8),
    /// Debug register 0-3, 6 or 7.
    Dr(u8),
    /// XCR0.
    Xcr0,
    /// Protection-key rights.
    Pkru,
    /// SSE control and status.
    Mxcsr,
    /// x87 control word.
    Fcw,
    /// x87 status word.
    Fsw,
    /// x87 tags, abridged as FXSAVE stores them: bit n is set when physical register n is in use.
    Ftw,
    /// Model-specific register.
    Msr(u32),
}

const GPR: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// MSRs that have a name of their own.
pub(crate) const MSRS: [(&str, u32); 14] = [
    ("efer", 0xc000_0080),
    ("star", 0xc000_0081),
    ("lstar", 0xc000_0082),
    ("cstar", 0xc000_0083),
    ("fmask", 0xc000_0084),
    ("fs_base", 0xc000_0100),
    ("gs_base", 0xc000_0101),
    ("kernel_gs_base", 0xc000_0102),
    ("tsc_aux", 0xc000_0103),
    ("sysenter_cs", 0x174),
    ("sysenter_esp", 0x175),
    ("sysenter_eip", 0x176),
    ("pat", 0x277),
    ("debugctl", 0x1d9),
];

impl Reg {
    /// General register `n`, 0-15.
    pub const fn gpr(n: u8) -> Self {
        Reg::Gpr(n & 15)
    }

    /// By name: `rax`, `rip`, `rflags`, `cr0`, `dr7`, `mxcsr`, `efer` and so on.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(n) = GPR.iter().position(|g| *g == name) {
            return Some(Reg::Gpr(n as u8));
        }
        if let Some((_, n)) = MSRS.iter().find(|m| m.0 == name) {
            return Some(Reg::Msr(*n));
        }
        Some(match name {
            "rip" => Reg::Rip,
            "rflags" => Reg::Rflags,
            "cr0" => Reg::Cr(0),
            "cr2" => Reg::Cr(2),
            "cr3" => Reg::Cr(3),
            "cr4" => Reg::Cr(4),
            "cr8" => Reg::Cr(8),
            "dr0" => Reg::Dr(0),
            "dr1" => Reg::Dr(1),
            "dr2" => Reg::Dr(2),
            "dr3" => Reg::Dr(3),
            "dr6" => Reg::Dr(6),
            "dr7" => Reg::Dr(7),
            "xcr0" => Reg::Xcr0,
            "pkru" => Reg::Pkru,
            "mxcsr" => Reg::Mxcsr,
            "fcw" => Reg::Fcw,
            "fsw" => Reg::Fsw,
            "ftw" => Reg::Ftw,
            _ => return None,
        })
    }

    /// Its name; `msr 0x...` for those without.
    pub fn name(self) -> String {
        match self {
            Reg::Gpr(n) => GPR[usize::from(n & 15)].to_owned(),
            Reg::Rip => "rip".into(),
            Reg::Rflags => "rflags".into(),
            Reg::Cr(n) => format!("cr{n}"),
            Reg::Dr(n) => format!("dr{n}"),
            Reg::Xcr0 => "xcr0".into(),
            Reg::Pkru => "pkru".into(),
            Reg::Mxcsr => "mxcsr".into(),
            Reg::Fcw => "fcw".into(),
            Reg::Fsw => "fsw".into(),
            Reg::Ftw => "ftw".into(),
            Reg::Msr(n) => {
                MSRS.iter().find(|m| m.1 == n).map_or_else(|| format!("msr {n:#x}"), |m| m.0.to_owned())
            }
        }
    }
}

/// Why `value` is not possible, if it is not.
fn refused(cpu: &Cpu, reg: Reg, value: u64) -> Option<&'static str> {
    let s = &cpu.state;
    let long = s.efer & efer::LMA != 0;
    match reg {
        Reg::Gpr(16..) | Reg::Cr(1 | 5..=7 | 9..) | Reg::Dr(4..=5 | 8..) => Some("there is no such register"),
        Reg::Rip if !(long && s.seg[1].attr & 0x2000 != 0) && value >> 32 != 0 => {
            Some("outside 64-bit code it has 32 bits")
        }
        Reg::Rflags if value & !(rflags::ALL | 2) != 0 => Some("reserved bits are set"),
        Reg::Rflags if (value ^ s.rflags) & rflags::VM != 0 => Some("VM is for the mode to say"),
        Reg::Cr(0) => {
            let known = 0xe005_003f;
            if value & !known != 0 {
                Some("reserved bits are set")
            } else if value & cr0::PG != 0 && value & cr0::PE == 0 {
                Some("PG needs PE")
            } else if (value ^ s.cr0) & cr0::PE != 0 {
                Some("PE is for the mode to say")
            } else if long && value & cr0::PG == 0 {
                Some("long mode needs PG")
            } else {
                None
            }
        }
        Reg::Cr(3) if value >> 52 != 0 => Some("physical addresses have 52 bits"),
        // PAE is there for the tables that calque keeps, whatever the processor.
        Reg::Cr(4) if value & !(cr::cr4_allowed(cpu) | cr4::PAE) != 0 => {
            Some("it has bits that the processor has not got")
        }
        Reg::Cr(4) if long && value & cr4::PAE == 0 => Some("long mode needs PAE"),
        Reg::Cr(4) if (value ^ s.cr4) & cr4::LA57 != 0 => Some("LA57 is not for this interface"),
        Reg::Cr(8) if value > 15 => Some("it has 4 bits"),
        Reg::Dr(6 | 7) if value >> 32 != 0 => Some("it has 32 bits"),
        Reg::Xcr0 => {
            let allowed = cr::xcr0_allowed(cpu);
            let wrong = value & !allowed != 0
                || value & xcr0::X87 == 0
                || value & xcr0::AVX != 0 && value & xcr0::SSE == 0;
            wrong.then_some("the processor has no such combination of components")
        }
        Reg::Pkru if value >> 32 != 0 => Some("it has 32 bits"),
        Reg::Mxcsr if value & !0xffff != 0 => Some("reserved bits are set"),
        Reg::Fcw | Reg::Fsw if value >> 16 != 0 => Some("it has 16 bits"),
        Reg::Ftw if value >> 8 != 0 => Some("it has 8 bits, one for each register in use"),
        Reg::Msr(0xc000_0080) if value & !0xd01 != 0 => Some("reserved bits are set"),
        Reg::Msr(0xc000_0080) if (value ^ s.efer) & (efer::LMA | efer::LME) != 0 => {
            Some("LME and LMA are for the mode to say")
        }
        _ => None,
    }
}

impl Vm {
    /// Reads a register; those that do not exist are 0.
    pub fn get(&self, reg: Reg) -> u64 {
        let s = &self.cpu.state;
        match reg {
            Reg::Gpr(n) => s.gpr[usize::from(n & 15)],
            Reg::Rip => s.rip,
            Reg::Rflags => s.rflags,
            Reg::Cr(0) => s.cr0,
            Reg::Cr(2) => s.cr2,
            Reg::Cr(3) => s.cr3,
            Reg::Cr(4) => s.cr4,
            Reg::Cr(8) => self.cpu.irq.cr8().into(),
            Reg::Dr(n) => s.dr[usize::from(n & 7)],
            Reg::Xcr0 => s.xcr0,
            Reg::Pkru => s.pkru.into(),
            Reg::Mxcsr => s.mxcsr.into(),
            Reg::Fcw => s.fpu.fcw.into(),
            Reg::Fsw => s.fpu.fsw.into(),
            Reg::Ftw => s.fpu.ftw.into(),
            Reg::Msr(n) => self.get_msr(n),
            Reg::Cr(_) => 0,
        }
    }

    fn get_msr(&self, n: u32) -> u64 {
        let s = &self.cpu.state;
        match n {
            0xc000_0080 => s.efer,
            0xc000_0081 => s.msr.star,
            0xc000_0082 => s.msr.lstar,
            0xc000_0083 => s.msr.cstar,
            0xc000_0084 => s.msr.fmask,
            0xc000_0100 => s.seg[4].base,
            0xc000_0101 => s.seg[5].base,
            0xc000_0102 => s.msr.kernel_gs_base,
            0xc000_0103 => s.msr.tsc_aux,
            0x174 => s.msr.sysenter_cs,
            0x175 => s.msr.sysenter_esp,
            0x176 => s.msr.sysenter_eip,
            0x277 => s.msr.pat,
            0x1d9 => s.msr.debugctl,
            _ => 0,
        }
    }

    /// Writes a register. MSRs as WRMSR would, other registers with their whole value.
    ///
    /// # Errors
    /// [`VmError::BadValue`] for a value that the processor cannot hold.
    pub fn set(&mut self, reg: Reg, value: u64) -> Result<(), VmError> {
        let bad = |why| VmError::BadValue { name: reg.name(), value, why };
        if let Some(why) = refused(&self.cpu, reg, value) {
            return Err(bad(why));
        }
        let s = &mut self.cpu.state;
        match reg {
            Reg::Gpr(n) => s.gpr[usize::from(n)] = value,
            Reg::Rip => s.rip = value,
            Reg::Rflags => s.rflags = value | 2,
            Reg::Cr(0) => s.cr0 = value | cr0::ET,
            Reg::Cr(2) => s.cr2 = value,
            Reg::Cr(3) => s.cr3 = value,
            Reg::Cr(4) => s.cr4 = value,
            Reg::Cr(_) => self.cpu.irq.set_cr8(value as u8),
            // With their fixed bits (SDM vol. 3B, 18.2).
            Reg::Dr(6) => s.dr[6] = value & 0xe00f | 0xffff_0ff0,
            Reg::Dr(7) => s.dr[7] = value & 0xffff_23ff | 0x400,
            Reg::Dr(n) => s.dr[usize::from(n)] = value,
            Reg::Xcr0 => s.xcr0 = value,
            Reg::Pkru => s.pkru = value as u32,
            Reg::Mxcsr => s.mxcsr = value as u32,
            Reg::Fcw => s.fpu.fcw = value as u16 & 0x1f7f | 0x40,
            Reg::Fsw => s.fpu.fsw = value as u16,
            Reg::Ftw => s.fpu.ftw = value as u8,
            Reg::Msr(0xc000_0080) => s.efer = value,
            Reg::Msr(n) => msr::write(&mut self.cpu, n, value).ok_or_else(|| bad("WRMSR would raise #GP"))?,
        }
        self.stale |= !matches!(reg, Reg::Gpr(_) | Reg::Rip);
        Ok(())
    }

    /// A segment register with its hidden part.
    pub fn segment(&self, seg: Seg) -> Segment {
        self.cpu.state.seg[seg as usize]
    }

    /// Sets a segment register with its hidden part, as if from a descriptor. SS carries the privilege level, and so
    /// it can be raised and lowered here.
    ///
    /// # Errors
    /// [`VmError::BadValue`] when CS does not agree with the mode.
    pub fn set_segment(&mut self, seg: Seg, value: Segment) -> Result<(), VmError> {
        let bad = |why| VmError::BadValue { name: format!("{seg:?}.attr"), value: value.attr.into(), why };
        if value.attr & 0x0f00 != 0 {
            return Err(bad("bits 8 to 11 hold nothing"));
        }
        let s = &mut self.cpu.state;
        let code_in_long = seg == Seg::CS && value.attr & 0x2000 != 0;
        if code_in_long && s.efer & efer::LMA == 0 {
            return Err(bad("64-bit code needs long mode"));
        }
        if code_in_long && value.attr & 0x4000 != 0 {
            return Err(bad("L and D are not both set"));
        }
        if s.efer & efer::LMA == 0 && value.base >> 32 != 0 {
            return Err(VmError::BadValue {
                name: format!("{seg:?}.base"),
                value: value.base,
                why: "outside long mode it has 32 bits",
            });
        }
        s.seg[seg as usize] = value;
        self.stale = true;
        Ok(())
    }

    /// LDTR.
    pub fn ldtr(&self) -> Segment {
        self.cpu.state.ldtr
    }

    /// Sets LDTR with its hidden part.
    pub fn set_ldtr(&mut self, value: Segment) {
        self.cpu.state.ldtr = value;
    }

    /// TR.
    pub fn tr(&self) -> Segment {
        self.cpu.state.tr
    }

    /// Sets TR with its hidden part.
    pub fn set_tr(&mut self, value: Segment) {
        self.cpu.state.tr = value;
    }

    /// GDTR.
    pub fn gdtr(&self) -> Table {
        self.cpu.state.gdtr
    }

    /// Sets GDTR.
    pub fn set_gdtr(&mut self, value: Table) {
        self.cpu.state.gdtr = value;
    }

    /// IDTR.
    pub fn idtr(&self) -> Table {
        self.cpu.state.idtr
    }

    /// Sets IDTR. See [`Vm::deliver_exceptions`].
    pub fn set_idtr(&mut self, value: Table) {
        self.cpu.state.idtr = value;
    }

    /// YMM register `n` (0-15) as four quadwords, the lowest first; XMM is the first two.
    pub fn vector(&self, n: usize) -> [u64; 4] {
        let v = self.cpu.state.vec[n & 15].0;
        [v[0], v[1], v[2], v[3]]
    }

    /// Sets YMM register `n` (0-15).
    pub fn set_vector(&mut self, n: usize, value: [u64; 4]) {
        self.cpu.state.vec[n & 15].0[..4].copy_from_slice(&value);
    }

    /// ST(`n`): significand, sign and exponent.
    pub fn st(&self, n: usize) -> (u64, u16) {
        let f = &self.cpu.state.fpu;
        let r = f.st[(usize::from(f.fsw >> 11) + n) & 7];
        (r.mant, r.se)
    }

    /// Sets ST(`n`), counted from the present top of stack. Tags are not changed: see [`Reg::Ftw`].
    pub fn set_st(&mut self, n: usize, (mant, se): (u64, u16)) {
        let f = &mut self.cpu.state.fpu;
        let top = usize::from(f.fsw >> 11);
        f.st[(top + n) & 7] = F80 { mant, se };
    }
}

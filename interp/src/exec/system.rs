//! Far transfers, software interrupts, port I/O, and the system instructions: operands are fetched here, the meaning
//! is in [`crate::system`].

use super::mov::far_pointer;
use crate::decode::{Chosen, Handler, Kind, Op, Shape, raise};
use crate::flags;
use crate::operand::{
    Dst, Mem, R0, R1, Src, W8, W16, W32, W64, Width, effective, linear_at, load, load_128, reg, segment,
    set_reg, store,
};
use crate::system::{self, cpl0, cpuid, cr, desc, far, io, misc, msr, syscall};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::bits::rflags::{AC, ZF};
use emu_core::state::bits::{cr0, cr4};
use emu_core::state::gpr::{RAX, RCX, RDX};
use emu_core::state::{DescTable, Mode, Seg};
use iced_x86::{Code, Mnemonic, OpKind};

/// Puts `rip` back on the instruction itself and gives the next one's: what far transfers expect.
fn rewind(cpu: &mut Cpu, op: &Op) -> u64 {
    let next = cpu.state.rip;
    cpu.state.rip = next.wrapping_sub(op.len.into());
    next
}

fn far_direct<const CALL: bool, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    let (sel, offset) = ((op.imm >> 32) as u16, op.imm & 0xffff_ffff);
    if CALL {
        far::call(cpu, sel, offset, W::BYTES, next)
    } else {
        far::jmp(cpu, sel, offset, W::BYTES, next)
    }
}

fn far_indirect<const CALL: bool, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let pointer = far_pointer::<W>(cpu, op);
    let next = rewind(cpu, op);
    let (offset, sel) = pointer?;
    if CALL {
        far::call(cpu, sel, offset, W::BYTES, next)
    } else {
        far::jmp(cpu, sel, offset, W::BYTES, next)
    }
}

fn retf<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rewind(cpu, op);
    far::ret(cpu, W::BYTES, op.imm as u16)
}

fn iret<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    far::iret(cpu, W::BYTES, next)
}

fn int_n(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    misc::int_n(cpu, op.imm as u8, next)
}

fn int3(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    misc::int3(cpu, next)
}

fn int1(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    misc::int1(cpu, next)
}

fn into(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    if !misc::into(cpu, next)? {
        cpu.state.rip = next;
    }
    Ok(())
}

fn syscall_(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let next = rewind(cpu, op);
    syscall::syscall(cpu, next)
}

fn sysret<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rewind(cpu, op);
    syscall::sysret(cpu, W::BYTES)
}

fn sysenter(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rewind(cpu, op);
    syscall::sysenter(cpu)
}

fn sysexit<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rewind(cpu, op);
    syscall::sysexit(cpu, W::BYTES)
}

fn rsm(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    rewind(cpu, op);
    misc::rsm(cpu)
}

/// The port: DX, or the immediate.
fn port<const BY_DX: bool>(cpu: &Cpu, op: &Op) -> u16 {
    if BY_DX { cpu.state.gpr[RDX] as u16 } else { op.imm as u16 & 0xff }
}

fn input<const BY_DX: bool, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = io::port_in(cpu, port::<BY_DX>(cpu, op), W::BYTES)?;
    set_reg::<W>(&mut cpu.state, 0, v.into());
    Ok(())
}

fn output<const BY_DX: bool, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = reg::<W>(&cpu.state, 0) as u32;
    io::port_out(cpu, port::<BY_DX>(cpu, op), W::BYTES, v)
}

/// Moves to and from control and debug registers are 64 bits wide in 64-bit code and 32 elsewhere.
fn native(cpu: &Cpu, v: u64) -> u64 {
    if cpu.state.is_long64() { v } else { v & 0xffff_ffff }
}

fn read_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = cr::read(cpu, op.src)?;
    cpu.state.gpr[usize::from(op.dst) & 15] = native(cpu, v);
    Ok(())
}

fn write_cr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = native(cpu, cpu.state.gpr[usize::from(op.src) & 15]);
    cr::write(cpu, op.dst, v)
}

fn read_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = cr::read_dr(cpu, op.src)?;
    cpu.state.gpr[usize::from(op.dst) & 15] = native(cpu, v);
    Ok(())
}

fn write_dr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = native(cpu, cpu.state.gpr[usize::from(op.src) & 15]);
    cr::write_dr(cpu, op.dst, v)
}

/// #UD in real and virtual-8086 mode, before the operand is looked at.
fn protected(cpu: &Cpu) -> Result<(), Exception> {
    if cpu.state.mode.contains(Mode::PROT) { Ok(()) } else { Err(Exception::ud()) }
}

/// Width of the base in GDTR and IDTR operands.
fn table_base_bytes(cpu: &Cpu) -> u64 {
    if cpu.state.is_long64() { 8 } else { 4 }
}

fn store_table(cpu: &mut Cpu, op: &Op, t: DescTable) -> Result<(), Exception> {
    let base = table_base_bytes(cpu);
    let off = effective(&cpu.state, op);
    let at = linear_at(cpu, segment(op.seg), off, 2, true)?;
    let rest = linear_at(cpu, segment(op.seg), off.wrapping_add(2) & op.addr_mask(), base, true)?;
    cpu.probe_write(rest, base as usize, Priv::Current, op.stack())?;
    store::<W16>(cpu, at, t.limit.into(), op.stack())?;
    if base == 8 {
        store::<W64>(cpu, rest, t.base, op.stack())
    } else {
        store::<W32>(cpu, rest, t.base, op.stack())
    }
}

/// A limit and a base; with a 16-bit operand the base has 24 bits.
fn load_table<const SHORT: bool>(cpu: &mut Cpu, op: &Op) -> Result<(u64, u16), Exception> {
    cpl0(cpu)?;
    let bytes = table_base_bytes(cpu);
    let off = effective(&cpu.state, op);
    let at = linear_at(cpu, segment(op.seg), off, 2, false)?;
    let limit = load::<W16>(cpu, at, op.stack())?;
    let at = linear_at(cpu, segment(op.seg), off.wrapping_add(2) & op.addr_mask(), bytes, false)?;
    let base = if bytes == 8 { load::<W64>(cpu, at, op.stack())? } else { load::<W32>(cpu, at, op.stack())? };
    Ok((if SHORT { base & 0xff_ffff } else { base }, limit as u16))
}

fn sgdt(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let t = desc::sgdt(cpu)?;
    store_table(cpu, op, t)
}

fn sidt(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let t = desc::sidt(cpu)?;
    store_table(cpu, op, t)
}

fn lgdt<const SHORT: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (base, limit) = load_table::<SHORT>(cpu, op)?;
    desc::lgdt(cpu, base, limit)
}

fn lidt<const SHORT: bool>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let (base, limit) = load_table::<SHORT>(cpu, op)?;
    desc::lidt(cpu, base, limit)
}

fn sldt<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = desc::sldt(cpu)?;
    D::put::<W>(cpu, op, v.into())
}

fn str<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = desc::str(cpu)?;
    D::put::<W>(cpu, op, v.into())
}

fn smsw<D: Dst, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = misc::smsw(cpu)?;
    D::put::<W>(cpu, op, v)
}

fn lmsw<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpl0(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    misc::lmsw(cpu, v as u16)
}

fn lldt<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    cpl0(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    desc::lldt(cpu, v as u16)
}

fn ltr<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    cpl0(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    desc::ltr(cpu, v as u16)
}

fn verr<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    desc::verr(cpu, v as u16)
}

fn verw<S: Src>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    desc::verw(cpu, v as u16)
}

fn lar<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    if let Some(v) = desc::lar(cpu, v as u16)? {
        set_reg::<W>(&mut cpu.state, op.dst, v.into());
    }
    Ok(())
}

fn lsl<S: Src, W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    let v = S::get::<W16>(cpu, op)?;
    if let Some(v) = desc::lsl(cpu, v as u16)? {
        set_reg::<W>(&mut cpu.state, op.dst, v.into());
    }
    Ok(())
}

fn arpl<D: Dst>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    protected(cpu)?;
    let dst = D::get::<W16>(cpu, op)? as u16;
    let new = desc::arpl(cpu, dst, reg::<W16>(&cpu.state, op.src) as u16)?;
    if let Some(v) = new {
        D::put::<W16>(cpu, op, v.into())?;
    }
    flags::set_some(&mut cpu.state, ZF, flags::when(new.is_some(), ZF));
    Ok(())
}

fn rdmsr(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = msr::rdmsr(cpu, cpu.state.gpr[RCX] as u32)?;
    cpu.state.gpr[RAX] = v & 0xffff_ffff;
    cpu.state.gpr[RDX] = v >> 32;
    Ok(())
}

fn wrmsr(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let v = cpu.state.gpr[RDX] << 32 | cpu.state.gpr[RAX] & 0xffff_ffff;
    msr::wrmsr(cpu, cpu.state.gpr[RCX] as u32, v)
}

fn invlpg(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let off = effective(&cpu.state, op);
    let base = match segment(op.seg) {
        seg @ (Seg::FS | Seg::GS) => cpu.state.seg[seg as usize].base,
        _ if cpu.state.is_long64() => 0,
        seg => cpu.state.seg[seg as usize].base,
    };
    let lin = native(cpu, base.wrapping_add(off));
    misc::invlpg(cpu, lin)
}

fn invpcid(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpl0(cpu)?;
    let d = load_128(cpu, op)?;
    let kind = native(cpu, cpu.state.gpr[usize::from(op.dst) & 15]);
    misc::invpcid(cpu, kind, d)
}

/// STAC (`SET`) and CLAC.
fn access_check<const SET: bool>(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    if cpu.state.cpl() != 0 {
        return Err(Exception::ud());
    }
    cpu.state.rflags = cpu.state.rflags & !AC | if SET { AC } else { 0 };
    cpu.select_tlb();
    Ok(())
}

/// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE.
fn segment_base<const SEG: usize, const WRITE: bool, W: Width>(
    cpu: &mut Cpu,
    op: &Op,
) -> Result<(), Exception> {
    if !cpu.state.is_long64() || cpu.state.cr4 & cr4::FSGSBASE == 0 {
        return Err(Exception::ud());
    }
    if !WRITE {
        let v = cpu.state.seg[SEG].base;
        set_reg::<W>(&mut cpu.state, op.dst, v);
        return Ok(());
    }
    let v = reg::<W>(&cpu.state, op.dst);
    if !cpu.state.is_canonical(v) {
        return Err(Exception::gp0());
    }
    cpu.state.seg[SEG].base = v;
    Ok(())
}

fn rdpid(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let v = misc::rdpid(cpu)?;
    cpu.state.gpr[usize::from(op.dst) & 15] = native(cpu, v);
    Ok(())
}

fn cpuid_(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.serialize();
    cpuid::cpuid(cpu);
    Ok(())
}

/// WAIT: #NM if both CR0.MP and CR0.TS are set; #MF if an unmasked x87 exception is pending.
fn wait(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let both = cr0::MP | cr0::TS;
    if cpu.state.cr0 & both == both {
        return Err(Exception::new(Vector::NM));
    }
    if cpu.state.fpu.fsw & 0x80 != 0 {
        return Err(Exception::new(Vector::MF));
    }
    Ok(())
}

macro_rules! calls {
    ($($name:ident = $f:path;)*) => {$(
        fn $name(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
            $f(cpu)
        }
    )*};
}
calls! {
    cli = system::flags::cli;
    sti = system::flags::sti;
    hlt = misc::hlt;
    wbinvd = misc::wbinvd;
    clts = misc::clts;
    swapgs = misc::swapgs;
    rdtsc = misc::rdtsc;
    rdtscp = misc::rdtscp;
    rdpmc = misc::rdpmc;
    monitor = misc::monitor;
    mwait = misc::mwait;
    xgetbv = misc::xgetbv;
    xsetbv = misc::xsetbv;
}

macro_rules! source {
    ($s:ident, $f:ident) => {
        if $s.kinds[0] == Kind::Reg { $f::<R0> as Handler } else { $f::<Mem> }
    };
}
/// To a register of any width, or to 16 bits of memory.
macro_rules! word_to {
    ($s:ident, $f:ident) => {
        match ($s.kinds[0] == Kind::Reg, $s.bytes) {
            (false, _) => $f::<Mem, W16> as Handler,
            (true, 2) => $f::<R0, W16>,
            (true, 4) => $f::<R0, W32>,
            (true, _) => $f::<R0, W64>,
        }
    };
}
macro_rules! rights {
    ($s:ident, $f:ident) => {
        match ($s.kinds[1] == Kind::Reg, $s.bytes) {
            (false, 2) => $f::<Mem, W16> as Handler,
            (false, 4) => $f::<Mem, W32>,
            (false, _) => $f::<Mem, W64>,
            (true, 2) => $f::<R1, W16>,
            (true, 4) => $f::<R1, W32>,
            (true, _) => $f::<R1, W64>,
        }
    };
}
macro_rules! base_of {
    ($s:ident, $seg:ident, $write:literal) => {
        if $s.bytes == 4 {
            segment_base::<{ Seg::$seg as usize }, $write, W32> as Handler
        } else {
            segment_base::<{ Seg::$seg as usize }, $write, W64>
        }
    };
}

/// Far transfers and the like, which own `rip`.
fn transfer(s: &Shape) -> Option<Handler> {
    use Code::*;
    Some(match s.ins.code() {
        Jmp_ptr1616 => far_direct::<false, W16>,
        Jmp_ptr1632 => far_direct::<false, W32>,
        Call_ptr1616 => far_direct::<true, W16>,
        Call_ptr1632 => far_direct::<true, W32>,
        Jmp_m1616 => far_indirect::<false, W16>,
        Jmp_m1632 => far_indirect::<false, W32>,
        Jmp_m1664 => far_indirect::<false, W64>,
        Call_m1616 => far_indirect::<true, W16>,
        Call_m1632 => far_indirect::<true, W32>,
        Call_m1664 => far_indirect::<true, W64>,
        Retfw | Retfw_imm16 => retf::<W16>,
        Retfd | Retfd_imm16 => retf::<W32>,
        Retfq | Retfq_imm16 => retf::<W64>,
        Iretw => iret::<W16>,
        Iretd => iret::<W32>,
        Iretq => iret::<W64>,
        Int_imm8 => int_n,
        Int3 => int3,
        Int1 => int1,
        Into => into,
        Syscall => syscall_,
        Sysretd => sysret::<W32>,
        Sysretq => sysret::<W64>,
        Sysenter => sysenter,
        Sysexitd => sysexit::<W32>,
        Sysexitq => sysexit::<W64>,
        Rsm => rsm,
        _ => return None,
    })
}

fn ports(s: &Shape) -> Option<Handler> {
    let (value, which) = if s.mnemonic() == Mnemonic::In { (0, 1) } else { (1, 0) };
    let bytes = s.ins.op_register(value).size();
    let dx = s.ins.op_kind(which) == OpKind::Register;
    Some(match (s.mnemonic(), dx, bytes) {
        (Mnemonic::In, true, 1) => input::<true, W8>,
        (Mnemonic::In, true, 2) => input::<true, W16>,
        (Mnemonic::In, true, _) => input::<true, W32>,
        (Mnemonic::In, false, 1) => input::<false, W8>,
        (Mnemonic::In, false, 2) => input::<false, W16>,
        (Mnemonic::In, false, _) => input::<false, W32>,
        (_, true, 1) => output::<true, W8>,
        (_, true, 2) => output::<true, W16>,
        (_, true, _) => output::<true, W32>,
        (_, false, 1) => output::<false, W8>,
        (_, false, 2) => output::<false, W16>,
        (_, false, _) => output::<false, W32>,
    })
}

fn plain(s: &Shape) -> Option<Handler> {
    use Mnemonic::*;
    let (r0, r1) = (s.ins.op0_register(), s.ins.op1_register());
    Some(match s.mnemonic() {
        In | Out => return ports(s),
        Mov if r0.is_cr() => write_cr,
        Mov if r1.is_cr() => read_cr,
        Mov if r0.is_dr() => write_dr,
        Mov if r1.is_dr() => read_dr,
        Sgdt => sgdt,
        Sidt => sidt,
        Lgdt if s.ins.code() == Code::Lgdt_m1632_16 => lgdt::<true>,
        Lgdt => lgdt::<false>,
        Lidt if s.ins.code() == Code::Lidt_m1632_16 => lidt::<true>,
        Lidt => lidt::<false>,
        Sldt => word_to!(s, sldt),
        Str => word_to!(s, str),
        Smsw => word_to!(s, smsw),
        Lmsw => source!(s, lmsw),
        Lldt => source!(s, lldt),
        Ltr => source!(s, ltr),
        Verr => source!(s, verr),
        Verw => source!(s, verw),
        Lar => rights!(s, lar),
        Lsl => rights!(s, lsl),
        Arpl => source!(s, arpl),
        Rdmsr => rdmsr,
        Wrmsr => wrmsr,
        Invlpg => invlpg,
        Invpcid => invpcid,
        Stac => access_check::<true>,
        Clac => access_check::<false>,
        Rdfsbase => base_of!(s, FS, false),
        Rdgsbase => base_of!(s, GS, false),
        Wrfsbase => base_of!(s, FS, true),
        Wrgsbase => base_of!(s, GS, true),
        Rdpid => rdpid,
        Cpuid => cpuid_,
        Ud0 | Ud1 | Ud2 => raise(Vector::UD),
        Wait => wait,
        Cli => cli,
        Sti => sti,
        Hlt => hlt,
        Invd | Wbinvd | Wbnoinvd => wbinvd,
        Clts => clts,
        Swapgs => swapgs,
        Rdtsc => rdtsc,
        Rdtscp => rdtscp,
        Rdpmc => rdpmc,
        Monitor => monitor,
        Mwait => mwait,
        Xgetbv => xgetbv,
        Xsetbv => xsetbv,
        _ => return None,
    })
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Chosen> {
    if let Some(run) = transfer(s) {
        return Some(Chosen { run, whole: false, owns_rip: true });
    }
    plain(s).map(Chosen::from)
}

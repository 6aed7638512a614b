//! Task switches through 16- and 32-bit TSSs (SDM vol. 3A, 7.3).
//!
//! Up to the commit point every fault leaves the outgoing task as it was. Beyond it the state is the new task's,
//! and a fault is raised before its first instruction.

use super::stack::Frame;
use super::{cr, flags, seg};
use emu_core::cpu::Cpu;
use emu_core::fault::{Exception, Vector};
use emu_core::mmu::Priv;
use emu_core::state::bits::{cr0, cr4, rflags};
use emu_core::state::segment::attr;
use emu_core::state::{Seg, SegReg, gpr};

/// What switches tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Jump,
    Call,
    Iret,
    /// An exception or interrupt through a task gate: RFLAGS to save, and the error code to push, if any.
    Gate {
        error: Option<u32>,
        flags: u64,
    },
}

const BUSY: u16 = 2;
/// The order of the segment registers in a TSS is that of their numbers.
const SEGS: [Seg; 6] = [Seg::ES, Seg::CS, Seg::SS, Seg::DS, Seg::FS, Seg::GS];

/// Offsets within a TSS of either width.
struct Layout {
    word: usize,
    ip: u64,
    flags: u64,
    gprs: u64,
    segs: u64,
    /// Distance between segment selectors.
    seg_step: u64,
    seg_count: usize,
    ldt: u64,
    /// The least limit.
    min: u32,
}

const TSS16: Layout = Layout {
    word: 2,
    ip: 0xe,
    flags: 0x10,
    gprs: 0x12,
    segs: 0x22,
    seg_step: 2,
    seg_count: 4,
    ldt: 0x2a,
    min: 0x2b,
};
const TSS32: Layout = Layout {
    word: 4,
    ip: 0x20,
    flags: 0x24,
    gprs: 0x28,
    segs: 0x48,
    seg_step: 4,
    seg_count: 6,
    ldt: 0x60,
    min: 0x67,
};

const fn layout(system_type: u16) -> &'static Layout {
    if system_type & 8 != 0 { &TSS32 } else { &TSS16 }
}

/// What the incoming TSS holds.
struct Incoming {
    cr3: u64,
    ip: u64,
    flags: u64,
    gprs: [u64; 8],
    segs: [u16; 6],
    ldt: u16,
    trap: bool,
}

/// Switches to the task of `tss`, whose type and presence the caller has checked. The outgoing task resumes at
/// `resume`.
///
/// # Errors
/// Before the commit point, #TS with the TSS's selector and page faults; after it, faults of the new task.
pub(super) fn switch(cpu: &mut Cpu, tss: &seg::Desc, reason: Reason, resume: u64) -> Result<(), Exception> {
    let new = layout(tss.reg.attr);
    if tss.reg.limit < new.min {
        return Err(seg::fault(Vector::TS, tss.sel));
    }
    let incoming = read_tss(cpu, tss.reg.base, new)?;
    let old = cpu.state.tr;
    cpu.probe_write(old.base, layout(old.attr).min as usize + 1, Priv::System, false)?;
    if matches!(reason, Reason::Call | Reason::Gate { .. }) {
        cpu.probe_write(tss.reg.base, 2, Priv::System, false)?;
    }

    if matches!(reason, Reason::Jump | Reason::Iret) {
        set_busy(cpu, old.sel, false)?;
    }
    let saved_flags = match reason {
        Reason::Iret => cpu.state.rflags & !rflags::NT,
        Reason::Gate { flags, .. } => flags,
        _ => cpu.state.rflags,
    };
    save(cpu, &old, saved_flags, resume)?;
    let mut new_flags = incoming.flags;
    if matches!(reason, Reason::Call | Reason::Gate { .. }) {
        cpu.store_slow(tss.reg.base, 2, old.sel.into(), Priv::System, false)?;
        new_flags |= rflags::NT;
    }
    if reason != Reason::Iret {
        tss.set_type_bits(cpu, BUSY, 0)?;
    }
    // Commit point.
    cpu.state.tr = SegReg { sel: tss.sel, attr: tss.reg.attr | BUSY, ..tss.reg };
    cpu.state.cr0 |= cr0::TS;
    cpu.state.dr[7] &= !0x155;
    for (i, v) in incoming.gprs.into_iter().enumerate() {
        cpu.state.gpr[i] = v;
    }
    cpu.state.rip = incoming.ip;
    let wide = new.word == 4;
    if wide && cpu.state.cr0 & cr0::PG != 0 {
        cr::check_pdptes(cpu, incoming.cr3, cpu.state.cr4)?;
        cpu.load_cr3(incoming.cr3);
    }
    enter(cpu, &incoming, new_flags)?;
    if let Reason::Gate { error: Some(error), .. } = reason {
        let mut frame = Frame::current(cpu, new.word);
        frame.push(error.into());
        cpu.state.gpr[gpr::RSP] = frame.commit(cpu)?;
    }
    if cpu.state.rip > cpu.state.seg[Seg::CS as usize].limit.into() {
        return Err(Exception::gp0());
    }
    if incoming.trap {
        return Err(super::deliver::debug(1 << 15, false));
    }
    Ok(())
}

fn read_tss(cpu: &mut Cpu, base: u64, l: &Layout) -> Result<Incoming, Exception> {
    let mut at = |offset: u64, size: usize| seg::read(cpu, base.wrapping_add(offset), size);
    let wide = l.word == 4;
    let mut gprs = [0; 8];
    for (i, g) in gprs.iter_mut().enumerate() {
        // A 16-bit TSS leaves ones in the upper halves, as processors do.
        *g = at(l.gprs + (i * l.word) as u64, l.word)? | if wide { 0 } else { 0xffff_0000 };
    }
    let mut segs = [0; 6];
    for (i, s) in segs.iter_mut().take(l.seg_count).enumerate() {
        *s = at(l.segs + i as u64 * l.seg_step, 2)? as u16;
    }
    Ok(Incoming {
        cr3: if wide { at(0x1c, 4)? } else { 0 },
        ip: at(l.ip, l.word)?,
        flags: at(l.flags, l.word)?,
        gprs,
        segs,
        ldt: at(l.ldt, 2)? as u16,
        trap: wide && at(0x64, 2)? & 1 != 0,
    })
}

/// Writes the outgoing task's registers into its TSS, which has been probed.
fn save(cpu: &mut Cpu, tr: &SegReg, saved_flags: u64, resume: u64) -> Result<(), Exception> {
    let l = layout(tr.attr);
    let put = |cpu: &mut Cpu, offset: u64, size: usize, value: u64| {
        cpu.store_slow(tr.base.wrapping_add(offset), size, value, Priv::System, false)
    };
    put(cpu, l.ip, l.word, resume)?;
    put(cpu, l.flags, l.word, saved_flags)?;
    for i in 0..8 {
        let value = cpu.state.gpr[i];
        put(cpu, l.gprs + (i * l.word) as u64, l.word, value)?;
    }
    for (i, s) in SEGS.into_iter().take(l.seg_count).enumerate() {
        let sel = cpu.state.seg[s as usize].sel;
        put(cpu, l.segs + i as u64 * l.seg_step, 2, sel.into())?;
    }
    Ok(())
}

fn set_busy(cpu: &mut Cpu, sel: u16, busy: bool) -> Result<(), Exception> {
    match seg::fetch(cpu, sel & !7)? {
        Some(d) if busy => d.set_type_bits(cpu, BUSY, 0),
        Some(d) => d.set_type_bits(cpu, 0, BUSY),
        None => Ok(()),
    }
}

/// Loads flags, LDTR and the segment registers of the new task.
fn enter(cpu: &mut Cpu, t: &Incoming, new_flags: u64) -> Result<(), Exception> {
    // Selectors are visible and unusable until each is checked; the CPL (in SS.DPL) is CS.RPL from the start.
    let cpl = seg::rpl(t.segs[Seg::CS as usize]);
    cpu.state.ldtr = SegReg::null(t.ldt);
    for s in SEGS {
        cpu.state.seg[s as usize] = SegReg::null(t.segs[s as usize]);
    }
    if new_flags & rflags::VM != 0 {
        for s in SEGS {
            cpu.state.seg[s as usize] = seg::v86(t.segs[s as usize]);
        }
        flags::replace(cpu, new_flags);
        return load_ldt(cpu, t.ldt);
    }
    cpu.state.seg[Seg::SS as usize] = seg::null_ss(t.segs[Seg::SS as usize], cpl);
    flags::replace(cpu, new_flags);
    load_ldt(cpu, t.ldt)?;

    let sel = t.segs[Seg::CS as usize];
    let bad = seg::fault(Vector::TS, sel);
    if sel & !3 == 0 {
        return Err(bad);
    }
    let cs = seg::fetch(cpu, sel)?.ok_or(bad)?;
    let dpl_ok = if cs.is_conforming() { cs.dpl() <= cpl } else { cs.dpl() == cpl };
    if !cs.is_code() || !dpl_ok {
        return Err(bad);
    }
    cs.check_present(Vector::NP)?;
    cpu.state.seg[Seg::CS as usize] = cs.accessed(cpu)?;
    cpu.mode_changed();

    for s in [Seg::SS, Seg::DS, Seg::ES, Seg::FS, Seg::GS] {
        // The checks are those of MOV, with #TS in the place of #GP.
        seg::load(cpu, s, t.segs[s as usize]).map_err(|e| match e.vector {
            Vector::GP => seg::fault(Vector::TS, t.segs[s as usize]),
            _ => e,
        })?;
    }
    Ok(())
}

fn load_ldt(cpu: &mut Cpu, sel: u16) -> Result<(), Exception> {
    if sel & !3 == 0 {
        return Ok(());
    }
    let bad = seg::fault(Vector::TS, sel);
    if sel & 4 != 0 {
        return Err(bad);
    }
    let d = seg::fetch(cpu, sel)?.ok_or(bad)?;
    if d.system_type() != Some(2) || d.reg.attr & attr::P == 0 {
        return Err(bad);
    }
    cpu.state.ldtr = d.reg;
    Ok(())
}

/// Whether PAE paging is in use outside long mode, where loading CR3 also loads the four PDPTEs.
pub(super) fn pae_paging(cr0v: u64, cr4v: u64, lma: bool) -> bool {
    cr0v & cr0::PG != 0 && cr4v & cr4::PAE != 0 && !lma
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::testbed::*;
    use crate::system::{deliver, far, misc};

    const NEXT: u64 = CODE + 7;

    /// A second task at HANDLER with its own registers.
    fn bed(flags: u64) -> Bed {
        let mut b = Bed::protected();
        b.poke(TSS2 + 0x20, 4, HANDLER);
        b.poke(TSS2 + 0x24, 4, flags);
        for i in 0..8 {
            b.poke(TSS2 + 0x28 + 4 * i, 4, 0x100 + i);
        }
        b.poke(TSS2 + 0x38, 4, 0x4_0000);
        for (i, s) in [DATA, CODE32, DATA, DATA, 0, 0].into_iter().enumerate() {
            b.poke(TSS2 + 0x48 + 4 * i as u64, 2, s.into());
        }
        b
    }

    fn busy(b: &mut Bed, sel: u16) -> bool {
        b.peek(GDT + u64::from(sel) + 5, 1) & 2 != 0
    }

    #[test]
    fn call_through_a_task_gate_and_iret_back() {
        let mut b = bed(2);
        b.cpu.state.gpr[gpr::RBX] = 0x1234_5678;
        far::call(&mut b.cpu, TASK_GATE | 3, 0, 4, NEXT).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp(), b.cpu.state.gpr[gpr::RBX]), (HANDLER, 0x4_0000, 0x103));
        assert_eq!((b.cpu.state.tr.sel, b.peek(TSS2, 2)), (TSS2_SEL, TSS_SEL.into()));
        assert!(busy(&mut b, TSS_SEL) && busy(&mut b, TSS2_SEL));
        assert_ne!(b.cpu.state.cr0 & cr0::TS, 0);
        assert_ne!(b.cpu.state.rflags & rflags::NT, 0);
        assert_eq!(b.peek(TSS + 0x20, 4), NEXT);

        far::iret(&mut b.cpu, 4, HANDLER + 1).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp(), b.cpu.state.gpr[gpr::RBX]), (NEXT, STACK, 0x1234_5678));
        assert!(busy(&mut b, TSS_SEL) && !busy(&mut b, TSS2_SEL));
        assert_eq!(b.cpu.state.rflags & rflags::NT, 0);
        assert_eq!(b.peek(TSS2 + 0x20, 4), HANDLER + 1);
        assert_eq!(b.peek(TSS2 + 0x24, 4) & rflags::NT, 0);
    }

    #[test]
    fn jump_to_a_tss_moves_the_busy_bit() {
        let mut b = bed(2);
        far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT).unwrap();
        assert!(!busy(&mut b, TSS_SEL) && busy(&mut b, TSS2_SEL));
        assert_eq!(b.cpu.state.rflags, 2);
        let busy_error = Exception::with_error(Vector::GP, TSS2_SEL.into());
        assert_eq!(far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT), Err(busy_error));
    }

    #[test]
    fn a_double_fault_task_gets_its_error_code() {
        let mut b = bed(2);
        b.gate32(8, TSS2_SEL, 0, 0x85);
        deliver::exception(&mut b.cpu, Exception::gp0()).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp()), (HANDLER, 0x4_0000 - 4));
        assert_eq!(b.stack(4, 1), [0]);
        assert_eq!(b.peek(TSS + 0x20, 4), CODE);
    }

    #[test]
    fn faults_before_and_after_the_commit_point() {
        let mut b = bed(2);
        b.describe(TSS2_SEL, 0x0000_8900_3800_0066);
        let before = b.essence();
        let e = far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT).unwrap_err();
        assert_eq!(e, Exception::with_error(Vector::TS, TSS2_SEL.into()));
        assert_eq!(b.essence(), before);

        // A bad data segment is the new task's trouble, at its first instruction.
        let mut b = bed(2);
        b.poke(TSS2 + 0x54, 2, 0xf0);
        let e = far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT).unwrap_err();
        assert_eq!(e, Exception::with_error(Vector::TS, 0xf0));
        assert_eq!((b.cpu.state.rip, b.cpu.state.tr.sel), (HANDLER, TSS2_SEL));
    }

    #[test]
    fn the_trap_bit_raises_a_debug_exception() {
        let mut b = bed(2);
        b.poke(TSS2 + 0x64, 2, 1);
        assert_eq!(far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT), Err(deliver::debug(1 << 15, false)));
    }

    #[test]
    fn into_a_virtual_8086_task() {
        let mut b = bed(2 | rflags::VM);
        far::jmp(&mut b.cpu, TSS2_SEL, 0, 4, NEXT).unwrap();
        assert!(b.cpu.state.v86());
        assert_eq!(b.cpu.state.seg[Seg::CS as usize].base, u64::from(CODE32) << 4);
    }

    #[test]
    fn sixteen_bit_tss() {
        let mut b = Bed::protected();
        b.describe(TSS2_SEL, 0x0000_8100_3800_002b);
        b.poke(TSS2 + 0xe, 2, 0x9000);
        b.poke(TSS2 + 0x10, 2, 2);
        b.poke(TSS2 + 0x1a, 2, 0x6000);
        for (i, s) in [DATA16, CODE16, DATA16, DATA16].into_iter().enumerate() {
            b.poke(TSS2 + 0x22 + 2 * i as u64, 2, s.into());
        }
        b.gate32(0x30, TSS2_SEL, 0, 0x85);
        misc::int_n(&mut b.cpu, 0x30, NEXT).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp() & 0xffff), (0x9000, 0x6000));
        assert_eq!(b.sel(Seg::CS), CODE16);
        far::iret(&mut b.cpu, 2, 0x9001).unwrap();
        assert_eq!((b.cpu.state.rip, b.rsp(), b.sel(Seg::CS)), (NEXT, STACK, CODE32));
        assert_eq!(b.peek(TSS2 + 0xe, 2), 0x9001);
    }
}

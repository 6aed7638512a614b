//! System-management mode: SMI entry and RSM, with the 64-bit state-save map that firmware for emulators expects
//! (AMD64 APM vol. 2, table 10-1; the processor's identity does not matter to it, the revision number does).

use super::cr;
use super::far::unblock_nmi;
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::signals::request;
use emu_core::state::bits::{cr0, efer, rflags};
use emu_core::state::{Activity, DescTable, Seg, SegReg};

/// Map revision: bit 17 says that SMBASE can be relocated.
const REVISION: u64 = 0x0002_0064;
const SEGS: [Seg; 6] = [Seg::ES, Seg::CS, Seg::SS, Seg::DS, Seg::FS, Seg::GS];
const LDTR: u64 = 0x7e70;
const TR: u64 = 0x7e90;

/// The save area: byte offsets from SMBASE + 8000h.
struct Map<'a> {
    cpu: &'a mut Cpu,
    base: u64,
}

impl Map<'_> {
    fn at(&self, offset: u64) -> PhysAddr {
        PhysAddr(self.base + 0x8000 + offset)
    }

    fn put(&mut self, offset: u64, size: usize, value: u64) {
        let at = self.at(offset);
        self.cpu.phys_write(at, size, value);
    }

    fn get(&mut self, offset: u64, size: usize) -> u64 {
        let at = self.at(offset);
        self.cpu.phys_read(at, size)
    }

    fn put_seg(&mut self, offset: u64, r: SegReg) {
        self.put(offset, 2, r.sel.into());
        self.put(offset + 2, 2, r.attr.into());
        self.put(offset + 4, 4, r.limit.into());
        self.put(offset + 8, 8, r.base);
    }

    fn get_seg(&mut self, offset: u64) -> SegReg {
        SegReg {
            sel: self.get(offset, 2) as u16,
            attr: self.get(offset + 2, 2) as u16 & 0xf0ff,
            limit: self.get(offset + 4, 4) as u32,
            base: self.get(offset + 8, 8),
        }
    }

    fn get_table(&mut self, offset: u64) -> DescTable {
        DescTable { limit: self.get(offset + 4, 2) as u16, base: self.get(offset + 8, 8) }
    }
}

/// Enters system-management mode between two instructions (SDM vol. 3C, 32.4 and 32.5).
pub(super) fn enter(cpu: &mut Cpu) {
    let s = cpu.state.clone();
    let mut m = Map { base: s.msr.smbase, cpu };
    for (i, seg) in SEGS.into_iter().enumerate() {
        m.put_seg(0x7e00 + 16 * i as u64, s.seg[seg as usize]);
    }
    m.put_seg(LDTR, s.ldtr);
    m.put_seg(TR, s.tr);
    for (offset, t) in [(0x7e60, s.gdtr), (0x7e80, s.idtr)] {
        m.put(offset + 4, 4, t.limit.into());
        m.put(offset + 8, 8, t.base);
    }
    m.put(0x7ec9, 1, (s.activity == Activity::Halted).into());
    m.put(0x7eca, 1, s.nmi_blocked.into());
    m.put(0x7efc, 4, REVISION);
    m.put(0x7f00, 4, s.msr.smbase);
    let words = [
        (0x7ed0, s.efer),
        (0x7f48, s.cr4),
        (0x7f50, s.cr3),
        (0x7f58, s.cr0),
        (0x7f60, s.dr[7]),
        (0x7f68, s.dr[6]),
        (0x7f70, s.rflags),
        (0x7f78, s.rip),
    ];
    for (offset, value) in words {
        m.put(offset, 8, value);
    }
    for (i, value) in s.gpr.into_iter().enumerate() {
        m.put(0x7ff8 - 8 * i as u64, 8, value);
    }

    let (old0, old4, old_efer) = (s.cr0, s.cr4, s.efer);
    let n = &mut cpu.state;
    n.activity = Activity::Active;
    n.smm = true;
    n.nmi_blocked = true;
    n.shadow = 0;
    n.cr0 &= !(cr0::PE | cr0::EM | cr0::TS | cr0::PG);
    n.cr4 = 0;
    n.efer = 0;
    n.dr[7] = 0x400;
    n.rflags = rflags::FIXED1;
    n.rip = 0x8000;
    for seg in SEGS {
        n.seg[seg as usize] = SegReg { sel: 0, attr: 0x8093, limit: u32::MAX, base: 0 };
    }
    let smbase = n.msr.smbase;
    n.seg[Seg::CS as usize] =
        SegReg { sel: (smbase >> 4) as u16, attr: 0x809b, limit: u32::MAX, base: smbase };
    cpu.paging_changed(old0, old4, old_efer);
}

/// RSM: takes the state back from the save map. A map with control registers that could not be loaded shuts the
/// processor down (SDM vol. 3C, 32.3.2).
pub(super) fn leave(cpu: &mut Cpu) -> Result<(), Exception> {
    if !cpu.state.smm {
        return Err(Exception::ud());
    }
    let (old0, old4, old_efer) = (cpu.state.cr0, cpu.state.cr4, cpu.state.efer);
    let mut m = Map { base: cpu.state.msr.smbase, cpu };
    let (new0, new4, new_efer) = (m.get(0x7f58, 8), m.get(0x7f48, 8), m.get(0x7ed0, 8));
    if !cr::consistent(m.cpu, new0, new4, new_efer) {
        m.cpu.state.activity = Activity::Shutdown;
        return Ok(());
    }
    let segs: [SegReg; 6] = std::array::from_fn(|i| m.get_seg(0x7e00 + 16 * i as u64));
    let (ldtr, tr) = (m.get_seg(LDTR), m.get_seg(TR));
    let (gdtr, idtr) = (m.get_table(0x7e60), m.get_table(0x7e80));
    let gprs: [u64; 16] = std::array::from_fn(|i| m.get(0x7ff8 - 8 * i as u64, 8));
    let cr3 = m.get(0x7f50, 8);
    let (dr7, dr6) = (m.get(0x7f60, 8), m.get(0x7f68, 8));
    let (flags, rip) = (m.get(0x7f70, 8), m.get(0x7f78, 8));
    let (halted, nmi_blocked) = (m.get(0x7ec9, 1) & 1 != 0, m.get(0x7eca, 1) & 1 != 0);
    let smbase = m.get(0x7f00, 4);

    let s = &mut cpu.state;
    for (seg, reg) in SEGS.into_iter().zip(segs) {
        s.seg[seg as usize] = reg;
    }
    (s.ldtr, s.tr, s.gdtr, s.idtr) = (ldtr, tr, gdtr, idtr);
    s.gpr = gprs;
    (s.cr0, s.cr4, s.efer) = (new0, new4, new_efer);
    s.dr[6] = dr6 & 0xe00f | 0xffff_0ff0;
    s.dr[7] = dr7 & 0xffff_23ff | 0x400;
    s.rip = if new_efer & efer::LMA != 0 { rip } else { rip & 0xffff_ffff };
    s.rflags = flags & rflags::ALL | rflags::FIXED1;
    s.msr.smbase = smbase;
    s.smm = false;
    s.activity = if halted { Activity::Halted } else { Activity::Active };
    cpu.load_cr3(cr3);
    cpu.paging_changed(old0, old4, old_efer);
    if nmi_blocked {
        cpu.state.nmi_blocked = true;
    } else {
        unblock_nmi(cpu);
    }
    if std::mem::take(&mut cpu.state.smi_latched) {
        cpu.signals.raise(request::SMI);
    }
    super::deliver::interrupts_enabled(cpu);
    Ok(())
}

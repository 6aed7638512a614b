//! The memory image that FXSAVE and XSAVE write and FXRSTOR and XRSTOR read (SDM vol. 1, 10.5.1 and 13.4).
//!
//! Instructions build or take apart a whole [`Area`]; it alone touches guest memory. Invariant: everything that an
//! instruction writes is checked before the first byte goes out, and everything that it reads is read before any
//! state changes, so that a page fault leaves both sides as they were.

use emu_core::addr::PAGE_MASK;
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::softfloat::F80;
use emu_core::state::{CpuState, FpuState};

/// Size of the largest area: the standard format with PKRU at its end.
pub const AREA_SIZE: usize = 2696;
/// Size of the FXSAVE area, which is also XSAVE's legacy region.
pub const LEGACY_SIZE: usize = 512;
const WORDS: usize = AREA_SIZE / 8;

/// The bits of MXCSR that exist.
pub const MXCSR_MASK: u32 = 0xffff;
/// MXCSR in its initial configuration.
pub const MXCSR_INIT: u32 = 0x1f80;

/// Offset of MXCSR, which MXCSR_MASK follows.
const MXCSR_AT: usize = 24;
const ST_AT: usize = 32;
/// Offset of the XMM registers.
pub const XMM_AT: usize = 160;
/// Their size.
pub const XMM_SIZE: usize = 256;

/// An image, by eight-byte words; only those that were set are written.
#[derive(Debug)]
pub struct Area {
    words: [u64; WORDS],
    touched: [u64; WORDS.div_ceil(64)],
}

impl Area {
    /// Nothing set.
    pub fn empty() -> Self {
        Self { words: [0; WORDS], touched: [0; WORDS.div_ceil(64)] }
    }

    /// The word at byte offset `at`.
    pub fn get(&self, at: usize) -> u64 {
        self.words[at / 8]
    }

    /// Sets the word at byte offset `at`.
    pub fn set(&mut self, at: usize, value: u64) {
        self.words[at / 8] = value;
        self.touched[at / 512] |= 1 << (at / 8 % 64);
    }

    /// Writes what was set to the area at `lin`.
    ///
    /// # Errors
    /// The fault of the first page that cannot be written; then nothing was.
    pub fn write(&self, cpu: &mut Cpu, lin: u64, stack: bool) -> Result<(), Exception> {
        let mut page = None;
        for at in self.offsets() {
            let to = address(cpu, lin, at);
            if page != Some(to & !PAGE_MASK) {
                cpu.probe_write(to, 8, Priv::Current, stack)?;
                page = Some(to & !PAGE_MASK);
            }
        }
        for at in self.offsets() {
            cpu.store::<8>(address(cpu, lin, at), self.get(at), stack)?;
        }
        Ok(())
    }

    /// Reads bytes `at` to `at + len` of the area at `lin`.
    ///
    /// # Errors
    /// As for `Cpu::load`.
    pub fn read(
        &mut self,
        cpu: &mut Cpu,
        lin: u64,
        stack: bool,
        at: usize,
        len: usize,
    ) -> Result<(), Exception> {
        for at in (at..at + len).step_by(8) {
            self.words[at / 8] = cpu.load::<8>(address(cpu, lin, at), stack)?;
        }
        Ok(())
    }

    fn offsets(&self) -> impl Iterator<Item = usize> {
        (0..WORDS).filter(|w| self.touched[w / 64] >> (w % 64) & 1 != 0).map(|w| w * 8)
    }

    /// The x87 part of the legacy region; `wide` is the form with 64-bit pointers and no selectors (REX.W).
    pub fn set_x87(&mut self, f: &FpuState, wide: bool) {
        self.set(
            0,
            u64::from(f.fcw) | u64::from(f.fsw) << 16 | u64::from(f.ftw) << 32 | u64::from(f.fop) << 48,
        );
        let pointer = |offset: u64, sel: u16| match wide {
            true => offset,
            false => offset & 0xffff_ffff | u64::from(sel) << 32,
        };
        self.set(8, pointer(f.fip, f.fcs));
        self.set(16, pointer(f.fdp, f.fds));
        for i in 0..8 {
            let r = f.st[physical(f.fsw, i)];
            self.set(ST_AT + 16 * i, r.mant);
            self.set(ST_AT + 16 * i + 8, r.se.into());
        }
    }

    /// The x87 state of the legacy region. Bits that do not exist are dropped, and ES and B follow from the rest.
    pub fn x87(&self, wide: bool) -> FpuState {
        let head = self.get(0);
        let fcw = control_word(head as u16);
        let fsw = status_word(fcw, (head >> 16) as u16);
        let pointer = |word: u64| match wide {
            true => (word, 0),
            false => (word & 0xffff_ffff, (word >> 32) as u16),
        };
        let ((fip, fcs), (fdp, fds)) = (pointer(self.get(8)), pointer(self.get(16)));
        let fop = (head >> 48) as u16 & 0x7ff;
        let mut st = [F80::default(); 8];
        for i in 0..8 {
            let (mant, se) = (self.get(ST_AT + 16 * i), self.get(ST_AT + 16 * i + 8) as u16);
            st[physical(fsw, i)] = F80 { mant, se };
        }
        FpuState { st, fcw, fsw, ftw: (head >> 32) as u8, fop, fip, fcs, fdp, fds }
    }

    /// MXCSR and the mask of its bits.
    pub fn set_mxcsr(&mut self, mxcsr: u32) {
        self.set(MXCSR_AT, u64::from(mxcsr) | u64::from(MXCSR_MASK) << 32);
    }

    /// MXCSR.
    ///
    /// # Errors
    /// #GP(0) if it sets a bit that does not exist.
    pub fn mxcsr(&self) -> Result<u32, Exception> {
        let v = self.get(MXCSR_AT) as u32;
        if v & !MXCSR_MASK == 0 { Ok(v) } else { Err(Exception::gp0()) }
    }

    /// The XMM registers that the mode can reach.
    pub fn set_xmm(&mut self, s: &CpuState) {
        for i in 0..reachable(s) {
            self.set(XMM_AT + 16 * i, s.vec[i].0[0]);
            self.set(XMM_AT + 16 * i + 8, s.vec[i].0[1]);
        }
    }

    /// Loads the XMM registers that the mode can reach.
    pub fn load_xmm(&self, s: &mut CpuState) {
        for i in 0..reachable(s) {
            s.vec[i].0[0] = self.get(XMM_AT + 16 * i);
            s.vec[i].0[1] = self.get(XMM_AT + 16 * i + 8);
        }
    }
}

/// The linear address `at` bytes beyond `lin`.
pub fn address(cpu: &Cpu, lin: u64, at: usize) -> u64 {
    cpu.advance(lin, at as u64)
}

/// Vector registers that the mode can reach: 16 in 64-bit code, else 8.
pub fn reachable(s: &CpuState) -> usize {
    if s.is_long64() { 16 } else { 8 }
}

/// The number of the physical register that is ST(`i`).
pub fn physical(fsw: u16, i: usize) -> usize {
    (usize::from(fsw >> 11) + i) & 7
}

/// A control word as the processor keeps it: bit 6 is always set, bits 7 and 13 to 15 never.
pub fn control_word(value: u16) -> u16 {
    value & 0x1f3f | 0x40
}

/// A status word under control word `fcw`: ES and B (bits 7 and 15) say whether an unmasked exception is pending.
pub fn status_word(fcw: u16, fsw: u16) -> u16 {
    let pending = fsw & !fcw & 0x3f != 0;
    fsw & 0x7f7f | if pending { 0x8080 } else { 0 }
}

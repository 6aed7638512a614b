//! The guest's x87 between [`FpuState`] and the image that the host's FNSAVE and FRSTOR know. Host-neutral: it is done
//! in Rust at the border of translated code.
//!
//! Inside translated code the host's x87 *is* the guest's from the first x87 instruction on until translated code is
//! left (`layout::LIVE`), so an x87 instruction of the guest is the same instruction of the host, with its stack,
//! tags, condition codes and sticky exceptions. Rust code in between (helpers) does not use the x87.
//!
//! The image (SDM vol. 1, figure 8-9): FCW, FSW, full tag word and the pointers in 4 bytes each, then ST(0) to ST(7).

use crate::layout;
use crate::sidetable::Last;
use emu_core::softfloat::F80;
use emu_core::state::{CpuState, FpuState, Seg};

/// Bytes before the registers.
const HEAD: usize = 28;
/// All of it, rounded up to words.
const WORDS: usize = 14;

/// Whether an exception is unmasked: only the interpreter can raise it.
pub fn unmasked(s: &CpuState) -> bool {
    s.fpu.fcw & 0x3f != 0x3f
}

/// Physical number of ST(i).
fn physical(f: &FpuState, i: usize) -> usize {
    (usize::from(f.fsw >> 11) + i) & 7
}

/// Writes the image from the state.
pub fn pack(s: &mut CpuState) {
    let f = &s.fpu;
    let tags = (0..8).fold(0u16, |t, i| t | if f.ftw >> i & 1 != 0 { 0 } else { 3 << (2 * i) });
    let mut image = [0u8; WORDS * 8];
    for (n, word) in [f.fcw, f.fsw, tags].into_iter().enumerate() {
        image[4 * n..4 * n + 2].copy_from_slice(&word.to_le_bytes());
    }
    for (i, to) in image[HEAD..HEAD + 80].chunks_exact_mut(10).enumerate() {
        to.copy_from_slice(&f.st[physical(f, i)].to_bytes());
    }
    for (n, word) in image.chunks_exact(8).enumerate() {
        let word = word.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b));
        s.scratch[layout::X87_IMAGE + n] = word;
    }
}

/// Reads the state back from the image, if the host's x87 was in use. The pointers are [`note`]'s.
pub fn unpack(s: &mut CpuState) {
    if s.scratch[layout::LIVE] as u8 == 0 {
        return;
    }
    let mut image = [0u8; WORDS * 8];
    for (n, word) in image.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&s.scratch[layout::X87_IMAGE + n].to_le_bytes());
    }
    let word = |n: usize| u16::from_le_bytes([image[4 * n], image[4 * n + 1]]);
    let f = &mut s.fpu;
    f.fcw = word(0);
    f.fsw = word(1);
    f.ftw = (0..8).fold(0, |t, i| t | if word(2) >> (2 * i) & 3 != 3 { 1 << i } else { 0 });
    for (i, from) in image[HEAD..HEAD + 80].chunks_exact(10).enumerate() {
        let mant = from[..8].iter().rev().fold(0, |m, &b| m << 8 | u64::from(b));
        f.st[physical(f, i)] = F80 { mant, se: u16::from_le_bytes([from[8], from[9]]) };
    }
}

/// Points FIP, FOP and the selectors at an instruction of the present code segment.
pub fn note(s: &mut CpuState, last: &Last) {
    let selector = |seg: u8| if last.long { 0 } else { s.seg[usize::from(seg) % 6].sel };
    let (fcs, fds) = (selector(Seg::CS as u8), last.seg.map(selector));
    let f = &mut s.fpu;
    (f.fip, f.fop, f.fcs) = (last.rip, last.fop, fcs);
    if let Some(fds) = fds {
        f.fds = fds;
    }
}

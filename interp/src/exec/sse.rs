//! MMX and SSE: which file an instruction is in, and whether its unit is enabled.
//!
//! MMX instructions need CR0.EM and TS clear; those that touch an XMM register or MXCSR need CR4.OSFXSR too.

use super::simd::{MMX_DISABLED, SSE_DISABLED, uses};
use super::{aes, sha, sse_cvt, sse_fp, sse_int, sse_mov, sse_shuffle, sse_str, sse4a};
use crate::decode::{Handler, Op, Shape};
use emu_core::state::Mode;
use iced_x86::{EncodingKind, Mnemonic, Register};

/// The handler, if the instruction is one of MMX or SSE.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    if s.ins.encoding() != EncodingKind::Legacy {
        return None;
    }
    let run = sse_mov::choose(s, op)
        .or_else(|| sse_int::choose(s))
        .or_else(|| sse_shuffle::choose(s))
        .or_else(|| sse_fp::choose(s))
        .or_else(|| sse_cvt::choose(s))
        .or_else(|| sse_str::choose(s))
        .or_else(|| aes::choose(s))
        .or_else(|| sha::choose(s))
        .or_else(|| sse4a::choose(s))?;
    let mmx = s.mnemonic() == Mnemonic::Emms || uses(s, Register::is_mm) && !uses(s, Register::is_xmm);
    Some(match mmx {
        true if s.mode.contains(Mode::NO_FPU) => MMX_DISABLED,
        false if s.mode.contains(Mode::NO_SSE) => SSE_DISABLED,
        _ => run,
    })
}

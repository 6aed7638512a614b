//! The gathers of AVX2 (SDM vol. 2C, VGATHERDPD to VPGATHERQQ).
//!
//! Lanes are loaded from the lowest up, those whose mask lane has its top bit set. Each one done is written and its
//! mask lane cleared at once, so that a fault leaves the lanes below it done and the instruction can be begun again;
//! the rest of both registers beyond the instruction's length becomes zero at the end.

use super::lanes::{Lane, replace};
use super::simd::{Form, Outcome, Vex, set_vector, vector};
use crate::decode::{Encoding, Handler, Op, Shape};
use crate::operand::{linear_unaligned, segment};
use emu_core::cpu::Cpu;
use iced_x86::Mnemonic;

/// `T` are the lanes, `I` the indices; `F` is the form of the longer of the two. The mask is operand 2 and in
/// [`Op::src`]; [`Op::index`] is the vector of indices.
fn gather<F: Form, T: Lane, I: Lane + Into<i64>>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let indices = vector::<Vex<2>>(cpu, op.index);
    let longest = T::BYTES.max(I::BYTES);
    let lanes = F::HALVES * 16 / longest;
    // Mask lanes become all ones or zero first.
    let old = vector::<Vex<2>>(cpu, op.src);
    let mut mask = [0; 2];
    for i in 0..lanes {
        let (half, at) = (i * T::BYTES / 16, i & (16 / T::BYTES - 1));
        if old[half] >> (8 * T::BYTES * (at + 1) - 1) & 1 != 0 {
            mask[half] |= (u128::MAX >> (128 - 8 * T::BYTES)) << (8 * T::BYTES * at);
        }
    }
    set_vector::<2>(cpu, op.src, mask);
    for i in 0..lanes {
        let (half, at) = (i * T::BYTES / 16, i & (16 / T::BYTES - 1));
        if mask[half] >> (8 * T::BYTES * at) & 1 != 0 {
            let per_half = 16 / I::BYTES;
            let index: i64 = I::get(indices[i / per_half], i & (per_half - 1)).into();
            let v = load_lane::<T>(cpu, op, index)?;
            let mut r = vector::<Vex<2>>(cpu, op.dst);
            r[half] = match T::BYTES {
                4 => replace(r[half], at, v as u32),
                _ => replace(r[half], at, v),
            };
            set_vector::<2>(cpu, op.dst, r);
        }
        mask[half] = match T::BYTES {
            4 => replace(mask[half], at, 0u32),
            _ => replace(mask[half], at, 0u64),
        };
        set_vector::<2>(cpu, op.src, mask);
    }
    let bytes = lanes * T::BYTES;
    let mut r = vector::<Vex<2>>(cpu, op.dst);
    if bytes <= 8 {
        r[0] &= u128::from(u64::MAX);
    }
    match bytes {
        32 => set_vector::<2>(cpu, op.dst, r),
        _ => set_vector::<1>(cpu, op.dst, r),
    }
    set_vector::<1>(cpu, op.src, [0; 2]);
    Ok(())
}

fn load_lane<T: Lane>(cpu: &mut Cpu, op: &Op, index: i64) -> Result<u64, emu_core::fault::Exception> {
    let base = cpu.state.gpr[usize::from(op.base) & 15] & i64::from(op.base_mask) as u64;
    let scaled = (index as u64).wrapping_mul(op.scale.into());
    let off = base.wrapping_add(scaled).wrapping_add(i64::from(op.disp) as u64) & op.addr_mask();
    // SDM vol. 2, VGATHERDPS: "does not perform AC checks, and so will never deliver an AC fault".
    let lin = linear_unaligned(cpu, segment(op.seg), off, T::BYTES as u64, false)?;
    match T::BYTES {
        4 => cpu.load::<4>(lin, op.stack()),
        _ => cpu.load::<8>(lin, op.stack()),
    }
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape, op: &mut Op) -> Option<Handler> {
    use Mnemonic as M;
    // The longer of destination and index.
    let wide = s.encoding == Encoding::Vex256 || s.ins.memory_index().is_ymm();
    macro_rules! by_length {
        ($lane:ty, $index:ty) => {
            if wide { gather::<Vex<2>, $lane, $index> as Handler } else { gather::<Vex<1>, $lane, $index> }
        };
    }
    let run = match s.mnemonic() {
        M::Vgatherdps | M::Vpgatherdd => by_length!(u32, i32),
        M::Vgatherdpd | M::Vpgatherdq => by_length!(u64, i32),
        M::Vgatherqps | M::Vpgatherqd => by_length!(u32, i64),
        M::Vgatherqpd | M::Vpgatherqq => by_length!(u64, i64),
        _ => return None,
    };
    op.index = s.ins.memory_index().number() as u8;
    op.scale = s.ins.memory_index_scale() as u8;
    Some(run)
}

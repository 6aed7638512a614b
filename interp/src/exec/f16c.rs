//! F16C: VCVTPH2PS and VCVTPS2PH (SDM vol. 1, 14.4).
//!
//! The half-precision side knows neither DAZ nor FTZ: denormal halves are numbers and raise nothing, and tiny results
//! are denormal halves. On the single-precision side DAZ counts. Their operands in memory are never checked for alignment
//! (vol. 2, 2.4.9: exceptions of type 11, "No AC").

use super::simd::{Form, HalfVector, Halves, Outcome, Source, Vector, Vex, halves, set_vector, vector};
use super::sse_fp::{commit, lane, with_lane};
use crate::decode::{Encoding, Handler, Kind, Op, Shape};
use crate::operand::{self, W64, linear_unchecked};
use emu_core::cpu::Cpu;
use emu_core::fault::Exception;
use emu_core::mmu::Priv;
use emu_core::softfloat::Rounding;
use emu_core::softfloat::ieee::{Env, Half, Single};
use iced_x86::Mnemonic;

/// Four halves in memory.
#[derive(Debug)]
struct FourHalves;

impl Source for FourHalves {
    #[inline(always)]
    fn wide<F: Form>(cpu: &mut Cpu, op: &Op) -> Result<Halves, Exception> {
        let lin = linear_unchecked(cpu, op, 8, false)?;
        Ok([operand::load::<W64>(cpu, lin, op.stack())?.into(), 0])
    }
}

fn half(v: u128, i: usize) -> u64 {
    (v >> (16 * i)) as u64 & 0xffff
}

fn from_halves<F: Form, S: Source>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let [v, _] = S::wide::<F>(cpu, op)?;
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let r =
        halves::<F>(|h| (0..4).fold(0, |r, i| with_lane::<Single>(r, i, env.widen_half(half(v, 4 * h + i)))));
    commit(cpu, &env)?;
    F::put(cpu, op, r);
    Ok(())
}

/// The rounding is MXCSR's if bit 2 of the immediate is set, else its bits 1-0.
fn to_halves<F: Form, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = vector::<F>(cpu, op.src);
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    env.ftz = false;
    match op.imm & 7 {
        0 => env.rounding = Rounding::Nearest,
        1 => env.rounding = Rounding::Down,
        2 => env.rounding = Rounding::Up,
        3 => env.rounding = Rounding::Zero,
        _ => {}
    }
    let [low, high] = halves::<F>(|h| {
        let narrow = |r, i| {
            let lane = env.convert::<Single, Half>(lane::<Single>(v[h], i));
            r | u128::from(lane) << (16 * (4 * h + i))
        };
        (0..4).fold(0, narrow)
    });
    let r = low | high;
    if !MEMORY {
        commit(cpu, &env)?;
        set_vector::<1>(cpu, op.dst, [r, 0]);
        return Ok(());
    }
    to_memory::<F>(cpu, op, &env, r)
}

/// A store that would fault leaves MXCSR alone. The manual leaves open which comes first, #PF or #XM (vol. 3A, table 6-2 has
/// them in one class): here the page is looked at first, as AMD's processors do; Intel's raise #XM.
fn to_memory<F: Form>(cpu: &mut Cpu, op: &Op, env: &Env, r: u128) -> Outcome {
    let bytes = 8 * F::HALVES;
    let lin = linear_unchecked(cpu, op, bytes as u64, true)?;
    if env.outcome().is_err() {
        cpu.probe_write(lin, bytes, Priv::Current, op.stack())?;
        return commit(cpu, env);
    }
    match F::HALVES {
        1 => operand::store::<W64>(cpu, lin, r as u64, op.stack())?,
        _ => cpu.store_128(lin, r, op.stack())?,
    }
    commit(cpu, env)
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    let wide = s.encoding == Encoding::Vex256;
    Some(match (s.mnemonic(), wide, s.from_memory()) {
        (Mnemonic::Vcvtph2ps, false, true) => from_halves::<Vex<1>, FourHalves>,
        (Mnemonic::Vcvtph2ps, false, _) => from_halves::<Vex<1>, Vector>,
        (Mnemonic::Vcvtph2ps, true, true) => from_halves::<Vex<2>, HalfVector>,
        (Mnemonic::Vcvtph2ps, true, _) => from_halves::<Vex<2>, Vector>,
        (Mnemonic::Vcvtps2ph, _, _) => match (wide, s.kinds[0] == Kind::Mem) {
            (false, false) => to_halves::<Vex<1>, false>,
            (false, true) => to_halves::<Vex<1>, true>,
            (true, false) => to_halves::<Vex<2>, false>,
            (true, true) => to_halves::<Vex<2>, true>,
        },
        _ => return None,
    })
}

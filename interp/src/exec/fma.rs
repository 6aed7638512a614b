//! FMA (SDM vol. 1, 14.5; vol. 2, VFMADD132PD to VFNMSUB231SS).
//!
//! The digits in a name say which operands are multiplied and which is added: 132 is operand 1 times 3 plus 2. Which
//! operand is which decides which NaN wins, too.

use super::simd::{
    Aligned, Bytes, Form, Halves, Outcome, Source, by_source, by_source_128, first, halves, vector,
};
use super::sse_fp::{commit, lane, with_lane};
use crate::decode::{Handler, Op, Shape};
use emu_core::cpu::Cpu;
use emu_core::softfloat::ieee::{Arithmetic, Double, Env, Signs, Single};
use iced_x86::Mnemonic;

/// What becomes of the signs of product and addend, in even and in odd lanes.
#[derive(Clone, Copy)]
struct Kind {
    even: Signs,
    odd: Signs,
}

const fn signs(product: bool, addend: bool) -> Signs {
    Signs { product, addend }
}
const MADD: Kind = Kind { even: signs(false, false), odd: signs(false, false) };
const MSUB: Kind = Kind { even: signs(false, true), odd: signs(false, true) };
const NMADD: Kind = Kind { even: signs(true, false), odd: signs(true, false) };
const NMSUB: Kind = Kind { even: signs(true, true), odd: signs(true, true) };
const MADDSUB: Kind = Kind { even: signs(false, true), odd: signs(false, false) };
const MSUBADD: Kind = Kind { even: signs(false, false), odd: signs(false, true) };

/// Operands 1, 2 and 3 by the order's digits.
#[derive(Clone, Copy)]
enum Order {
    O132,
    O213,
    O231,
}

/// All lanes, or lane 0 alone.
#[inline(always)]
fn fused<F: Form, S: Source, N: Arithmetic>(
    cpu: &mut Cpu,
    op: &Op,
    (order, kind, scalar): (Order, Kind, bool),
) -> Outcome {
    let x3: Halves = S::wide::<F>(cpu, op)?;
    let x2 = vector::<F>(cpu, first(op));
    let x1 = vector::<F>(cpu, op.dst);
    let (a, b, c) = match order {
        Order::O132 => (x1, x3, x2),
        Order::O213 => (x2, x1, x3),
        Order::O231 => (x2, x3, x1),
    };
    let mut env = Env::from_mxcsr(cpu.state.mxcsr);
    let lanes = if scalar { 1 } else { 128 / N::BITS as usize };
    let r = halves::<F>(|h| {
        (0..lanes).fold(x1[h], |r, i| {
            let signs = if i % 2 == 0 { kind.even } else { kind.odd };
            let [a, b, c] = [a, b, c].map(|v| lane::<N>(v[h], i));
            with_lane::<N>(r, i, env.fused::<N>(a, b, c, signs))
        })
    });
    commit(cpu, &env)?;
    F::put(cpu, op, r);
    Ok(())
}

fn single<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, what: (Order, Kind, bool)) -> Outcome {
    fused::<F, S, Single>(cpu, op, what)
}

fn double<F: Form, S: Source>(cpu: &mut Cpu, op: &Op, what: (Order, Kind, bool)) -> Outcome {
    fused::<F, S, Double>(cpu, op, what)
}

/// The mnemonics of one kind: packed and scalar, of both formats, in three orders.
macro_rules! kinds {
    ($s:ident: $($kind:ident $order:ident $ps:ident $pd:ident $($ss:ident $sd:ident)?;)*) => {
        match $s.mnemonic() {
            $(
                Mnemonic::$ps => by_source!($s, Aligned, single, (Order::$order, $kind, false)),
                Mnemonic::$pd => by_source!($s, Aligned, double, (Order::$order, $kind, false)),
                $(
                    Mnemonic::$ss => by_source_128!($s, Bytes<4>, single, (Order::$order, $kind, true)),
                    Mnemonic::$sd => by_source_128!($s, Bytes<8>, double, (Order::$order, $kind, true)),
                )?
            )*
            _ => return None,
        }
    };
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    Some(kinds! { s:
        MADD O132 Vfmadd132ps Vfmadd132pd Vfmadd132ss Vfmadd132sd;
        MADD O213 Vfmadd213ps Vfmadd213pd Vfmadd213ss Vfmadd213sd;
        MADD O231 Vfmadd231ps Vfmadd231pd Vfmadd231ss Vfmadd231sd;
        MSUB O132 Vfmsub132ps Vfmsub132pd Vfmsub132ss Vfmsub132sd;
        MSUB O213 Vfmsub213ps Vfmsub213pd Vfmsub213ss Vfmsub213sd;
        MSUB O231 Vfmsub231ps Vfmsub231pd Vfmsub231ss Vfmsub231sd;
        NMADD O132 Vfnmadd132ps Vfnmadd132pd Vfnmadd132ss Vfnmadd132sd;
        NMADD O213 Vfnmadd213ps Vfnmadd213pd Vfnmadd213ss Vfnmadd213sd;
        NMADD O231 Vfnmadd231ps Vfnmadd231pd Vfnmadd231ss Vfnmadd231sd;
        NMSUB O132 Vfnmsub132ps Vfnmsub132pd Vfnmsub132ss Vfnmsub132sd;
        NMSUB O213 Vfnmsub213ps Vfnmsub213pd Vfnmsub213ss Vfnmsub213sd;
        NMSUB O231 Vfnmsub231ps Vfnmsub231pd Vfnmsub231ss Vfnmsub231sd;
        MADDSUB O132 Vfmaddsub132ps Vfmaddsub132pd;
        MADDSUB O213 Vfmaddsub213ps Vfmaddsub213pd;
        MADDSUB O231 Vfmaddsub231ps Vfmaddsub231pd;
        MSUBADD O132 Vfmsubadd132ps Vfmsubadd132pd;
        MSUBADD O213 Vfmsubadd213ps Vfmsubadd213pd;
        MSUBADD O231 Vfmsubadd231ps Vfmsubadd231pd;
    })
}

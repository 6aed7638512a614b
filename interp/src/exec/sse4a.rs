//! SSE4a (AMD64 APM vol. 4: EXTRQ, INSERTQ, MOVNTSD, MOVNTSS).
//!
//! The manual leaves the upper quadword of the destination undefined; processors clear it. So it does a field that
//! reaches beyond bit 63; processors cut it off there.

use super::lanes::Lane;
use super::simd::{Outcome, set_xmm, store, xmm};
use crate::decode::{Handler, Kind, Op, Shape};
use emu_core::cpu::Cpu;
use iced_x86::Mnemonic;

/// A field's mask, right-aligned, and where it starts: lengths and numbers have six bits, length 0 is 64.
fn field(length: u8, index: u8) -> (u64, u32) {
    let length = u32::from(length & 63);
    (if length == 0 { u64::MAX } else { (1 << length) - 1 }, u32::from(index & 63))
}

fn extract(cpu: &mut Cpu, n: u8, (mask, index): (u64, u32)) -> Outcome {
    let v = xmm(cpu, n) as u64 >> index & mask;
    set_xmm(cpu, n, v.into());
    Ok(())
}

fn insert(cpu: &mut Cpu, op: &Op, (mask, index): (u64, u32)) -> Outcome {
    let (old, new) = (xmm(cpu, op.dst) as u64, xmm(cpu, op.src) as u64);
    let v = old & !(mask << index) | (new & mask) << index;
    set_xmm(cpu, op.dst, v.into());
    Ok(())
}

/// The two immediates: length and index.
fn immediates(op: &Op) -> (u64, u32) {
    field(op.imm as u8, (op.imm >> 32) as u8)
}

fn extract_by_register(cpu: &mut Cpu, op: &Op) -> Outcome {
    let control = xmm(cpu, op.src);
    extract(cpu, op.dst, field(u8::get(control, 0), u8::get(control, 1)))
}

fn insert_by_register(cpu: &mut Cpu, op: &Op) -> Outcome {
    let control = xmm(cpu, op.src);
    insert(cpu, op, field(u8::get(control, 8), u8::get(control, 9)))
}

fn store_low<const N: usize>(cpu: &mut Cpu, op: &Op) -> Outcome {
    let v = xmm(cpu, op.src);
    store(cpu, op, N, v)
}

/// The handler, if the instruction is of this group.
pub fn choose(s: &Shape) -> Option<Handler> {
    use Mnemonic as M;
    Some(match s.mnemonic() {
        M::Extrq if s.kinds[1] == Kind::Imm => |cpu, op| extract(cpu, op.dst, immediates(op)),
        M::Extrq => extract_by_register,
        M::Insertq if s.kinds[2] == Kind::Imm => |cpu, op| insert(cpu, op, immediates(op)),
        M::Insertq => insert_by_register,
        M::Movntss => store_low::<4>,
        M::Movntsd => store_low::<8>,
        _ => return None,
    })
}

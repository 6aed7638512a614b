//! Each form of memory and string operation, in blocks made for it, against the evaluator.

use crate::r#gen::Rng;
use crate::random::check;
use backend_jit::{Jit, JitConfig};
use emu_core::addr::PhysAddr;
use emu_core::ir::{Block, BlockKey, Cc, Inst, Op, Optimizer, PassSet, RepKind, StateField, Type, Value};
use emu_core::state::Mode;
use emu_core::state::bits::rflags;

const INTS: [Type; 4] = [Type::I8, Type::I16, Type::I32, Type::I64];

fn start() -> Block {
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode: Mode(0) });
    b.op_imm(Op::Guest, Type::Void, &[], 0, 4);
    b.guest_insns = 1;
    b.guest_len = 4;
    b
}

/// Begins guest instruction `n`.
fn next(b: &mut Block, n: i64) {
    b.op_imm(Op::Guest, Type::Void, &[], 4 * n, 4);
    b.guest_insns += 1;
    b.guest_len = 4 * b.guest_insns;
}

fn end(mut b: Block) -> Block {
    let c = b.iconst(Type::Bool, 1);
    b.op_imm(Op::Branch, Type::Void, &[c], 0x40, 0x80);
    b
}

/// A linear address within the first 16 KiB, from register `reg`, that is not near the end of a page: a
/// read-modify-write across pages is left to the interpreter.
fn address(b: &mut Block, reg: usize) -> Value {
    let x = b.get_reg(Type::I64, reg);
    let m = b.iconst(Type::I64, 0x3feb);
    b.op(Op::And, Type::I64, &[x, m])
}

/// A value of type `ty` from a pinned register, a register in memory, or a constant.
fn operand(b: &mut Block, ty: Type, kind: u64) -> Value {
    match kind % 4 {
        0 => b.get_reg(ty, 3),
        1 => b.get_reg(ty, 10),
        2 => b.iconst(ty, 1),
        _ => b.iconst(ty, ty.truncate(0x8000_0000_dead_beef)),
    }
}

fn run_all(each: impl Fn(u64, &mut Rng) -> Option<Block>, n: u64) {
    for baseline in [false, true] {
        let mut jit = Jit::new(JitConfig { single_block: true, baseline, ..JitConfig::default() }).unwrap();
        for seed in 1..=n {
            if let Some(b) = each(seed, &mut Rng(seed)) {
                emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
                match check(&mut jit, &b, seed) {
                    Ok(translated) => assert!(translated, "not translated:\n{b}"),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
}

/// Pushes and pops that share a look, and all that may want RSP between them, which stays behind where nobody sees it.
#[test]
fn the_stack_pointer_between_pushes_and_pops() {
    const RSP: usize = 4;
    run_all(
        |_, r| {
            let mut b = start();
            let at = address(&mut b, RSP);
            b.set_reg(Type::I64, RSP, at);
            let mut sp = at;
            let moved = |b: &mut Block, from: Value, imm: i64| {
                b.push(Inst {
                    op: Op::Lea,
                    ty: Type::I64,
                    aux: 0,
                    args: [from, Value::NONE, Value::NONE],
                    imm,
                })
            };
            for n in 1..8 {
                next(&mut b, n);
                let (any, disp) = ((r.next() >> 60) as usize, (r.next() >> 59) as i64 * 8 - 128);
                match r.next() >> 60 {
                    0..4 => {
                        let x = if any == 0 { sp } else { b.get_reg(Type::I64, any) };
                        let to = moved(&mut b, sp, -8);
                        b.op(Op::Store, Type::I64, &[to, x]);
                        b.set_reg(Type::I64, RSP, to);
                        sp = to;
                    }
                    4..8 => {
                        let x = b.op(Op::Load, Type::I64, &[sp]);
                        let to = moved(&mut b, sp, 8);
                        b.set_reg(Type::I64, RSP, to);
                        sp = to;
                        if any != RSP {
                            b.set_reg(Type::I64, any, x);
                        }
                    }
                    8..11 => {
                        let from = moved(&mut b, sp, disp);
                        let x = b.op(Op::Load, Type::I64, &[from]);
                        // As likely as not straight into RSP; then the next is found by it.
                        let to = if any < 3 { RSP } else { any };
                        b.set_reg(Type::I64, to, x);
                        if to == RSP {
                            return Some(end(b));
                        }
                    }
                    11 => {
                        sp = moved(&mut b, sp, disp);
                        b.set_reg(Type::I64, RSP, sp);
                    }
                    12 => {
                        // As LEAVE.
                        sp = address(&mut b, 5);
                        b.set_reg(Type::I64, RSP, sp);
                    }
                    13 => {
                        let by = b.iconst(Type::I64, 16);
                        sp = b.op(Op::Add, Type::I64, &[sp, by]);
                        let f = b.op_imm(Op::FlagsOf, Type::Flags, &[sp], rflags::STATUS as i64, 0);
                        b.set_reg(Type::I64, RSP, sp);
                        b.op(Op::SetFlags, Type::Void, &[f]);
                    }
                    14 => {
                        let c = b.iconst(Type::I64, disp as u64);
                        let c = b.op(Op::CmpEq, Type::Bool, &[sp, c]);
                        b.op_imm(Op::ExitIf, Type::Void, &[c], 0x40, 0);
                    }
                    _ => b.set_reg(Type::I64, any, sp),
                }
                if any == RSP {
                    sp = b.get_reg(Type::I64, RSP);
                }
            }
            Some(end(b))
        },
        1500,
    );
}

/// Fields of a structure in an array: they share a look into the translation cache, and only stubs want their addresses.
#[test]
fn addresses_with_an_index() {
    run_all(
        |_, r| {
            let mut b = start();
            let (base, index) = (address(&mut b, 3), b.get_reg(Type::I64, 1));
            let few = b.iconst(Type::I64, 7);
            let index = b.op(Op::And, Type::I64, &[index, few]);
            // In registers of the guest, or not.
            for (reg, v) in [(3, base), (1, index)] {
                if r.next() >> 63 == 0 {
                    b.set_reg(Type::I64, reg, v);
                }
            }
            let scale = (r.next() >> 62) as u32;
            for n in 1..6 {
                next(&mut b, n);
                let ty = INTS[(r.next() >> 62) as usize];
                let disp = (r.next() >> 57) as i64 - 64;
                let args = [base, index, Value::NONE];
                let a = b.push(Inst { op: Op::Lea, ty: Type::I64, aux: scale, args, imm: disp });
                let to = [0, 1, 3, 5][(r.next() >> 62) as usize];
                match r.next() >> 62 {
                    0 => {
                        let x = operand(&mut b, ty, r.next() >> 40);
                        b.op(Op::Store, ty, &[a, x]);
                    }
                    1 | 2 => {
                        let v = b.op(Op::Load, ty, &[a]);
                        b.set_reg(ty, to, v);
                    }
                    _ => {
                        // The address is wanted as a value, too.
                        let v = b.op(Op::Load, ty, &[a]);
                        b.set_reg(Type::I64, to, a);
                        b.set_reg(ty, 6, v);
                    }
                }
            }
            Some(end(b))
        },
        3000,
    );
}

/// Loads from tables by a byte, which share a look on some hosts; other accesses and exits between, and no memory behind one of
/// the tables.
#[test]
fn tables_by_a_byte() {
    run_all(
        |_, r| {
            let mut b = start();
            let base = address(&mut b, 3);
            let tables = [0x1100, 0x1800, 0x2c40, 0xe_0100];
            let scale = (r.next() >> 62) as u32;
            for n in 1..12 {
                next(&mut b, n);
                let ty =
                    if r.next() >> 63 == 0 { INTS[scale as usize] } else { INTS[(r.next() >> 62) as usize] };
                let to = [0, 1, 3, 10][(r.next() >> 62) as usize];
                let lea = |b: &mut Block, args, aux, imm| {
                    b.push(Inst { op: Op::Lea, ty: Type::I64, aux, args, imm })
                };
                match r.next() >> 61 {
                    0 => {
                        let a = lea(&mut b, [base, Value::NONE, Value::NONE], 0, 8 * n);
                        let v = b.get_reg(ty, to);
                        b.op(Op::Store, ty, &[a, v]);
                    }
                    1 => {
                        let a = lea(&mut b, [base, Value::NONE, Value::NONE], 0, 8 * n);
                        let v = b.op(Op::Load, ty, &[a]);
                        b.set_reg(ty, to, v);
                    }
                    2 => {
                        let (v, on) = (b.get_reg(Type::I64, to), b.op_imm(Op::Pc, Type::I64, &[], 4 * n, 0));
                        let d = b.op(Op::Sub, Type::I64, &[v, on]);
                        let f = b.flags_of(d);
                        b.set_flags(f);
                        let c = b.op(
                            if r.next() >> 63 == 0 { Op::CmpNe } else { Op::CmpEq },
                            Type::Bool,
                            &[v, on],
                        );
                        b.op(Op::ExitIf, Type::Void, &[c, v]);
                    }
                    _ => {
                        let byte = b.get_reg(Type::I8, to);
                        let index = b.op(Op::ZExt, Type::I64, &[byte]);
                        let imm = tables[if r.next() >> 60 == 0 { 3 } else { (r.next() >> 32) as usize % 3 }];
                        let args = match r.next() >> 62 {
                            0 => [b.iconst(Type::I64, 0x100), index, Value::NONE],
                            _ => [Value::NONE, index, Value::NONE],
                        };
                        let a = lea(&mut b, args, scale, imm);
                        let v = b.op(Op::Load, ty, &[a]);
                        if r.next() >> 61 == 0 {
                            // The address is wanted as a value, too.
                            b.set_reg(Type::I64, 6, a);
                        }
                        b.set_reg(ty, [to, 1, 5, 5][(r.next() >> 62) as usize], v);
                    }
                }
            }
            let mut b = end(b);
            if r.next() >> 63 == 0 {
                Optimizer::new(PassSet::ALL).run(&mut b);
            }
            Some(b)
        },
        3000,
    );
}

/// Sums whose flags go on from one to the next, with accesses between them that share a look into the translation cache:
/// in the body those leave the flags alone, and where the span crosses a page they call a helper.
#[test]
fn flags_across_accesses() {
    let sums = [Op::Adcx, Op::Adox, Op::Adc, Op::Sbb, Op::Add, Op::Sub];
    run_all(
        |_, r| {
            let mut b = start();
            let x = b.get_reg(Type::I64, 3);
            // Anywhere, or at the end of a page.
            let (mask, at) = if r.next() >> 63 == 0 { (0x2fff, 0) } else { (0x101f, 0xfc0) };
            let (mask, at) = (b.iconst(Type::I64, mask), b.iconst(Type::I64, at));
            let x = b.op(Op::And, Type::I64, &[x, mask]);
            let base = b.op(Op::Or, Type::I64, &[x, at]);
            if r.next() >> 63 == 0 {
                b.set_reg(Type::I64, 5, base);
            }
            let mut holds = None;
            for n in 1..14 {
                next(&mut b, n);
                let ty = INTS[2 + (r.next() >> 63) as usize];
                let imm = (r.next() >> 57) as i64 & !7;
                let near = [base, Value::NONE, Value::NONE];
                let a = b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 0, args: near, imm });
                let to = [0, 1, 6, 10][(r.next() >> 62) as usize];
                match r.next() >> 61 {
                    0 => {
                        let v = b.get_reg(ty, to);
                        b.op(Op::Store, ty, &[a, v]);
                    }
                    1 => {
                        let f = b.get_flags();
                        holds = Some(b.test_cc(Cc::ALL[(r.next() >> 60) as usize], f));
                    }
                    2 => {
                        let Some(c) = holds else { continue };
                        let c = b.op(Op::ZExt, Type::I32, &[c]);
                        b.set_reg(Type::I32, to, c);
                    }
                    3 => {
                        let v = b.op(Op::Load, ty, &[a]);
                        b.set_reg(ty, to, v);
                    }
                    4 => {
                        // MULX.
                        let (m, k) = (b.op(Op::Load, ty, &[a]), b.get_reg(ty, 2));
                        let (low, high) = (b.op(Op::Mul, ty, &[k, m]), b.op(Op::MulHiU, ty, &[k, m]));
                        b.set_reg(ty, to, low);
                        b.set_reg(ty, 7, high);
                    }
                    _ => {
                        let m = b.op(Op::Load, ty, &[a]);
                        let (f, y) = (b.get_flags(), b.get_reg(ty, to));
                        let op = sums[(r.next() >> 40) as usize % sums.len()];
                        let v = match op {
                            Op::Add | Op::Sub => b.op(op, ty, &[y, m]),
                            _ => b.op(op, ty, &[y, m, f]),
                        };
                        b.set_reg(ty, to, v);
                        let f = b.flags_of(v);
                        b.set_flags(f);
                    }
                }
            }
            let mut b = end(b);
            // As translated code has it: flags that are replaced unseen are not made.
            if r.next() >> 63 == 0 {
                Optimizer::new(PassSet::ALL).run(&mut b);
            }
            Some(b)
        },
        1500,
    );
}

#[test]
fn read_modify_write() {
    let ops = [Op::Add, Op::Sub, Op::And, Op::Or, Op::Xor, Op::Adc, Op::Shl, Op::Neg, Op::Not];
    run_all(
        |seed, r| {
            let mut b = start();
            let ty = INTS[(seed / 9) as usize % 4];
            let op = ops[seed as usize % 9];
            let a = address(&mut b, 0);
            let m = b.op(Op::LoadW, ty, &[a]);
            let x = operand(&mut b, if op == Op::Shl { Type::I8 } else { ty }, r.next() >> 40);
            let v = match op {
                Op::Adc | Op::Shl => {
                    let f = b.get_flags();
                    b.op(op, ty, &[m, x, f])
                }
                Op::Neg | Op::Not => b.op(op, ty, &[m]),
                _ if r.next() >> 62 == 0 && op != Op::Sub => b.op(op, ty, &[x, m]),
                _ => b.op(op, ty, &[m, x]),
            };
            b.op(Op::StoreW, ty, &[m, v]);
            if op != Op::Not {
                let mut f = b.flags_of(v);
                if r.next() >> 62 == 1 {
                    let g = b.get_flags();
                    let mask = (rflags::STATUS & !rflags::CF) as i64;
                    f = b.op_imm(Op::MergeFlags, Type::Flags, &[f, g], mask, 0);
                }
                b.set_flags(f);
            }
            if r.next() >> 62 == 1 {
                b.set_reg(ty, 1, v);
            }
            if r.next() >> 62 == 2 {
                b.set_reg(ty, 2, m);
            }
            Some(end(b))
        },
        3000,
    );
}

#[test]
fn atomics() {
    let ops = [Op::AtomicAdd, Op::AtomicAnd, Op::AtomicOr, Op::AtomicXor, Op::AtomicXchg, Op::AtomicCas];
    run_all(
        |seed, r| {
            let mut b = start();
            let ty = INTS[(seed / 6) as usize % 4];
            let op = ops[seed as usize % 6];
            let mut a = address(&mut b, 0);
            if cfg!(target_arch = "aarch64") {
                // There the interpreter does what is not aligned.
                let mask = b.iconst(Type::I64, !7);
                a = b.op(Op::And, Type::I64, &[a, mask]);
            }
            let x = operand(&mut b, ty, r.next() >> 40);
            let v = if op == Op::AtomicCas {
                let y = operand(&mut b, ty, r.next() >> 40);
                let x = if r.next() >> 63 == 0 { b.op(Op::Load, ty, &[a]) } else { x };
                b.op(op, ty, &[a, x, y])
            } else {
                b.op(op, ty, &[a, x])
            };
            if r.next() >> 63 == 0 {
                let s = b.op(Op::Add, ty, &[v, x]);
                let f = b.flags_of(s);
                b.set_reg(ty, 2, v);
                b.set_flags(f);
            }
            Some(end(b))
        },
        3000,
    );
}

#[test]
fn steps_keep_the_carry() {
    run_all(
        |seed, r| {
            let mut b = start();
            let ty = INTS[seed as usize % 4];
            let a = operand(&mut b, ty, seed / 4 % 2);
            let one = b.iconst(ty, if r.next() >> 63 == 0 { 1 } else { ty.truncate(u64::MAX) });
            let v = b.op(if seed / 8 % 2 == 0 { Op::Add } else { Op::Sub }, ty, &[a, one]);
            let f = b.flags_of(v);
            let g = b.get_flags();
            let mask = (rflags::STATUS & !rflags::CF) as i64;
            let m = b.op_imm(Op::MergeFlags, Type::Flags, &[f, g], mask, 0);
            b.set_reg(ty, if r.next() >> 63 == 0 { 3 } else { 10 }, v);
            b.set_flags(m);
            let t = b.test_cc(Cc::ALL[r.next() as usize % 16], m);
            b.op_imm(Op::Branch, Type::Void, &[t], 0x40, 0x80);
            Some(b)
        },
        2000,
    );
}

#[test]
fn products_and_quotients_in_pairs() {
    let pairs = [
        (Op::Mul, Op::MulHiU),
        (Op::Mul, Op::MulHiS),
        (Op::DivU, Op::RemU),
        (Op::DivS, Op::RemS),
        (Op::RemS, Op::DivS),
    ];
    run_all(
        |seed, r| {
            let mut b = start();
            let ty = INTS[(seed / 5) as usize % 4];
            let (p, q) = pairs[seed as usize % 5];
            let lo = operand(&mut b, ty, r.next() >> 40);
            let by = operand(&mut b, ty, r.next() >> 40);
            let args = if p == Op::Mul {
                vec![lo, by]
            } else if r.next() >> 62 == 0 {
                let hi = operand(&mut b, ty, r.next() >> 40);
                vec![hi, lo, by]
            } else {
                let n = b.iconst(Type::I8, u64::from(ty.bits()) - 1);
                let hi = if p == Op::DivU {
                    b.iconst(ty, 0)
                } else {
                    let f = b.get_flags();
                    b.op(Op::Sar, ty, &[lo, n, f])
                };
                vec![hi, lo, by]
            };
            let x = b.op(p, ty, &args);
            let y = b.op(q, ty, &args);
            let f = (p == Op::Mul).then(|| b.flags_of(if r.next() >> 63 == 0 { x } else { y }));
            b.set_reg(ty, 0, x);
            b.set_reg(ty, 2, y);
            if let Some(f) = f {
                b.set_flags(f);
            }
            Some(end(b))
        },
        3000,
    );
}

#[test]
fn strings() {
    run_all(
        |seed, r| {
            let mut b = start();
            let kind = if seed % 2 == 0 { RepKind::Movs } else { RepKind::Stos };
            let size = 1u32 << (seed / 2 % 4);
            let bits = if seed / 8 % 2 == 0 { 64 } else { 32 };
            let zero = b.iconst(Type::I64, 0);
            for (reg, mask) in [(1, 0x1f), (6, 0x3fff), (7, 0x3fff)] {
                let x = b.get_reg(Type::I64, reg);
                let m = b.iconst(Type::I64, mask);
                let v = b.op(Op::And, Type::I64, &[x, m]);
                b.set_reg(Type::I64, reg, v);
            }
            b.op_imm(Op::Guest, Type::Void, &[], 4, 2);
            b.guest_insns = 2;
            let old = b.get_reg(Type::I64, 7);
            let aux = kind as u32 | size << 8 | bits << 16;
            let done = b.op_imm(Op::RepString, Type::Bool, &[zero, zero], 0, aux);
            if r.next() >> 63 == 0 {
                b.set_reg(Type::I64, 3, old);
            }
            b.op_imm(Op::Branch, Type::Void, &[done], 0x40, 0);
            Some(b)
        },
        300,
    );
}

/// What a repeated comparison passes over: either direction, to the page's end and over it, from equal or other places.
#[test]
fn skipped_elements() {
    run_all(
        |seed, r| {
            let mut b = start();
            let kind = if seed % 2 == 0 { RepKind::Cmps } else { RepKind::Scas };
            let size = 1u32 << (seed / 2 % 4);
            let bits = if seed / 8 % 2 == 0 { 64 } else { 32 };
            let differing = seed / 16 % 2 == 0;
            let masks = [(1, if r.next() >> 63 == 0 { 7 } else { 0xfff }), (6, 0x3fff), (7, 0x3fff)];
            for (reg, mask) in masks {
                let x = b.get_reg(Type::I64, reg);
                let m = b.iconst(Type::I64, mask);
                let v = b.op(Op::And, Type::I64, &[x, m]);
                b.set_reg(Type::I64, reg, v);
            }
            if !differing && r.next() >> 62 != 0 {
                let v = b.get_reg(Type::I64, 7);
                b.set_reg(Type::I64, 6, v);
            }
            let df = b.iconst(Type::I64, if r.next() >> 63 == 0 { rflags::DF } else { 0 });
            let others = b.iconst(Type::I64, !rflags::DF);
            let f = b.get_state(StateField::RflagsSystem);
            let f = b.op(Op::And, Type::I64, &[f, others]);
            let f = b.op(Op::Or, Type::I64, &[f, df]);
            b.op_imm(Op::SetState, Type::I64, &[f], StateField::RflagsSystem as i64, 0);
            let zero = b.iconst(Type::I64, 0);
            let old = b.get_reg(Type::I64, 7);
            let aux = kind as u32 | size << 8 | bits << 16 | u32::from(differing) << 24;
            b.op_imm(Op::RepSkip, Type::Void, &[zero, zero], 0, aux);
            if r.next() >> 63 == 0 {
                b.set_reg(Type::I64, 3, old);
            }
            Some(end(b))
        },
        2000,
    );
}

#[test]
fn state_fields() {
    run_all(
        |seed, _| {
            let mut b = start();
            let fields = [
                StateField::FsBase,
                StateField::CsSel,
                StateField::Mxcsr,
                StateField::Cr0,
                StateField::Cr2,
                StateField::RflagsSystem,
            ];
            let f = fields[seed as usize % 6];
            let v = b.get_state(f);
            let ty = f.place().1;
            // The status bits of RFLAGS are unspecified.
            let v = if f == StateField::RflagsSystem {
                let m = b.iconst(ty, !rflags::STATUS);
                b.op(Op::And, ty, &[v, m])
            } else {
                v
            };
            b.set_reg(ty, 3, v);
            let x = b.get_reg(Type::I64, 2);
            b.op_imm(Op::SetState, Type::I64, &[x], StateField::GsBase as i64, 0);
            let y = b.get_state(StateField::GsBase);
            b.set_reg(Type::I64, 11, y);
            Some(end(b))
        },
        12,
    );
}

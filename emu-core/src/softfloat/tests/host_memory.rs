//! Loads, stores and memory operands against the host.

use super::super::{Ctx, F80, Flags, Operand};
use super::host::{self, Instruction, UNTOUCHED};
use super::operands::Random;

const CASES: u32 = 250_000;

/// Checks a store that pops: the bytes, the flags, and that nothing happens if an exception stops it.
fn check_store<const N: usize>(name: &str, instruction: Instruction, ours: fn(&mut Ctx, F80) -> [u8; N]) {
    let mut random = Random::named(name);
    for _ in 0..CASES {
        let cw = random.control_word();
        let mut a = random.f80();
        if random.below(3) == 0 {
            // Near the limits of the integer and decimal formats.
            let limit = [0x7fff, 0x7fff_ffff, i64::MAX, 999_999_999_999_999_999, 3][random.below(5) as usize];
            let near = F80::from(limit.wrapping_add(i64::from(random.range(-2, 2))));
            a = F80 { mant: near.mant ^ random.below(4) << random.below(62), se: near.se };
            a.se |= (random.next() as u16) & 0x8000;
        }
        let theirs = host::run(instruction, cw, a, F80::ONE, [UNTOUCHED; 10]);
        let mut ctx = Ctx::from_control_word(cw);
        let stored = ours(&mut ctx, a);
        let mut memory = [UNTOUCHED; 10];
        let mut depth = 2;
        if ctx.writes_memory() {
            memory[..N].copy_from_slice(&stored);
            depth = 1;
        }
        assert_eq!(
            (theirs.memory, theirs.depth(), Flags(theirs.status & 0x23f)),
            (memory, depth, ctx.flags),
            "{name} cw {cw:04x} {a:?} (host, ours)"
        );
    }
}

/// Checks an instruction that reads `[u8; 10]` of memory and replaces or pushes ST(0).
fn check_read(
    name: &str,
    instruction: Instruction,
    pushes: bool,
    shape: fn(&mut Random) -> u64,
    ours: fn(&mut Ctx, F80, u64) -> Option<F80>,
) {
    let mut random = Random::named(name);
    for _ in 0..CASES {
        let cw = random.control_word();
        let a = random.f80();
        let value = shape(&mut random);
        let mut memory = [UNTOUCHED; 10];
        memory[..8].copy_from_slice(&value.to_le_bytes());
        let theirs = host::run(instruction, cw, a, F80::ONE, memory);
        let mut ctx = Ctx::from_control_word(cw);
        let result = ours(&mut ctx, a, value);
        let (st0, depth) = match result {
            Some(r) if pushes && ctx.writes_load() => (r, 3),
            Some(r) if !pushes && ctx.writes_register() => (r, 2),
            _ => (a, 2),
        };
        assert_eq!(
            (theirs.st0, theirs.depth(), Flags(theirs.status) & (Flags::EXCEPTIONS | Flags::CONDITIONS)),
            (st0, depth, ctx.flags),
            "{name} cw {cw:04x} {a:?} memory {value:016x} (host, ours)"
        );
    }
}

fn single(random: &mut Random) -> u64 {
    let exponent = [0, 0xff, random.below(256), 0x7f][random.below(4) as usize];
    random.below(2) << 31 | exponent << 23 | (random.significand() >> 40 & random.next() & 0x7f_ffff)
}

fn double(random: &mut Random) -> u64 {
    let exponent = [0, 0x7ff, random.below(2048), 0x3ff][random.below(4) as usize];
    random.below(2) << 63 | exponent << 52 | (random.significand() >> 11 & random.next() & ((1 << 52) - 1))
}

fn integer(random: &mut Random) -> u64 {
    ((random.next() as i64) >> random.below(64)) as u64
}

#[test]
fn store_float() {
    check_store("fst m32", host::fst_m32, |c, a| c.to_f32(a).to_le_bytes());
    check_store("fst m64", host::fst_m64, |c, a| c.to_f64(a).to_le_bytes());
}

#[test]
fn store_integer() {
    check_store("fist m16", host::fist_m16, |c, a| c.to_i16(a).to_le_bytes());
    check_store("fist m32", host::fist_m32, |c, a| c.to_i32(a).to_le_bytes());
    check_store("fist m64", host::fist_m64, |c, a| c.to_i64(a).to_le_bytes());
}

#[test]
fn store_truncated() {
    check_store("fisttp m16", host::fisttp_m16, |c, a| c.truncate_to_i16(a).to_le_bytes());
    check_store("fisttp m32", host::fisttp_m32, |c, a| c.truncate_to_i32(a).to_le_bytes());
    check_store("fisttp m64", host::fisttp_m64, |c, a| c.truncate_to_i64(a).to_le_bytes());
}

#[test]
fn store_decimal() {
    check_store("fbstp", host::fbstp, |c, a| c.to_bcd(a));
}

#[test]
fn load_decimal() {
    let mut random = Random::named("fbld");
    for _ in 0..CASES {
        let mut memory: [u8; 10] = std::array::from_fn(|_| (random.below(10) << 4 | random.below(10)) as u8);
        memory[9] = random.next() as u8;
        let theirs = host::run(host::fbld, 0x37f, F80::ONE, F80::ONE, memory);
        assert_eq!((theirs.st0, theirs.status & 0x23f), (F80::from_bcd(memory), 0), "{memory:02x?}");
    }
}

#[test]
fn loads() {
    check_read("fld m32", host::fld_m32, true, single, |c, _, m| Some(c.load(Operand::f32(m as u32))));
    check_read("fld m64", host::fld_m64, true, double, |c, _, m| Some(c.load(Operand::f64(m))));
    check_read("fild m64", host::fild_m64, true, integer, |_, _, m| Some(F80::from(m as i64)));
}

#[test]
fn float_operands() {
    check_read("fadd m32", host::fadd_m32, false, single, |c, a, m| Some(c.add(a, Operand::f32(m as u32))));
    check_read("fsub m64", host::fsub_m64, false, double, |c, a, m| Some(c.sub(a, Operand::f64(m))));
    check_read("fmul m64", host::fmul_m64, false, double, |c, a, m| Some(c.mul(a, Operand::f64(m))));
    check_read("fdivr m32", host::fdivr_m32, false, single, |c, a, m| Some(c.div(Operand::f32(m as u32), a)));
}

#[test]
fn integer_operands() {
    check_read("fidiv m16", host::fidiv_m16, false, integer, |c, a, m| Some(c.div(a, m as i16)));
    check_read("fisub m32", host::fisub_m32, false, integer, |c, a, m| Some(c.sub(a, m as i32)));
}

#[test]
fn compare_operands() {
    fn flag(c: &mut Ctx, a: F80, m: impl Into<Operand>) -> Option<F80> {
        let relation = c.compare(a, m);
        c.flags |= relation.conditions();
        None
    }
    check_read("fcom m32", host::fcom_m32, false, single, |c, a, m| flag(c, a, Operand::f32(m as u32)));
    check_read("fcom m64", host::fcom_m64, false, double, |c, a, m| flag(c, a, Operand::f64(m)));
    check_read("ficom m16", host::ficom_m16, false, integer, |c, a, m| flag(c, a, m as i16));
}

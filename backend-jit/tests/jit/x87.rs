//! The x87: random sequences on random states, translated code against the evaluator, whose arithmetic is in integers. On
//! an x86 host this holds the evaluator against the processor.

use crate::r#gen::{Rng, cpu, snapshot};
use crate::{agree, disassemble, joined};
use backend_jit::{Jit, JitConfig, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::Cpu;
use emu_core::cpu_box::CpuBox;
use emu_core::ir::x87::{self, Access, POINTERS};
use emu_core::ir::{Block, BlockKey, Cc, End, Op, Type, eval, mem_flags};
use emu_core::softfloat::F80;
use emu_core::state::{Mode, Seg};

fn below(r: &mut Rng, n: u64) -> u64 {
    (r.next() >> 33) % n
}

/// A register's contents, likely a corner.
fn extended(r: &mut Rng) -> F80 {
    let k = below(r, 16);
    let exponent = match k {
        0 => 0,
        1 => 0x7fff,
        2 => 1 + below(r, 3),
        3 => 0x7ffd + below(r, 2),
        // Where numbers of the narrower formats end, and integers.
        4 => 0x3c00 + below(r, 4),
        5 => 0x43fd + below(r, 4),
        6 => 0x3f80 + below(r, 4),
        7 => 0x403c + below(r, 4),
        8 => below(r, 0x8000),
        _ => 0x3fff + below(r, 20) - 10,
    };
    let integer = if exponent == 0 || below(r, 40) == 0 { below(r, 2) } else { 1 };
    let low = match below(r, 6) {
        0 => 0,
        1 => r.next() << below(r, 64),
        2 => !(r.next() >> below(r, 64)),
        // A double's or a single's.
        3 => r.next() & !0x7ff,
        4 => r.next() & !0xff_ffff_ffff,
        _ => r.next(),
    };
    F80 { mant: integer << 63 | low & (u64::MAX >> 1), se: (exponent | below(r, 2) << 15) as u16 }
}

/// Eight bytes of memory: a number of some format.
fn word(r: &mut Rng) -> u64 {
    match below(r, 6) {
        0 => r.next(),
        1 => (below(r, 2000) as f64 / 8.0 - 100.0).to_bits(),
        2 => u64::from((below(r, 2000) as f32 / 8.0 - 100.0).to_bits()) * (1 << 32 | 1),
        3 => r.number(),
        4 => (below(r, 2) << 63) | [0, 1, 0x7fe, 0x7ff][below(r, 4) as usize] << 52 | r.next() >> 12,
        _ => (below(r, 4) << 62) | [0, 1, 0x7f, 0xff][below(r, 4) as usize] << 55 | r.next() >> 9,
    }
}

/// An instruction between registers that is lifted.
fn register_op(r: &mut Rng) -> u32 {
    let i = below(r, 8) as u32;
    let of = |list: &[u32], r: &mut Rng| list[below(r, list.len() as u64) as usize];
    let (escape, modrm) = match below(r, 10) {
        0 | 1 => (0, 0xc0 + below(r, 64) as u32),
        2 => (1, 0xc0 + below(r, 16) as u32),
        3 => (1, of(&[0xe0, 0xe1, 0xe4, 0xe5, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee], r)),
        4 => (1, of(&[0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xfa, 0xfc, 0xfd, 0xd0], r)),
        5 => (2 + below(r, 2) as u32, 0xc0 + below(r, 32) as u32),
        6 => of(&[0x2e9, 0x3e2, 0x6d9, 0x7e0], r).into_parts(),
        7 => (of(&[4, 6], r), of(&[0xc0, 0xc8, 0xe0, 0xe8, 0xf0, 0xf8], r) + i),
        8 => (5, of(&[0xc0, 0xd0, 0xd8, 0xe0, 0xe8], r) + i),
        _ => (of(&[3, 7], r), of(&[0xe8, 0xf0], r) + i),
    };
    escape << 8 | modrm
}

trait Parts {
    fn into_parts(self) -> (u32, u32);
}

impl Parts for u32 {
    fn into_parts(self) -> (u32, u32) {
        (self >> 8, self & 0xff)
    }
}

/// The instruction `aux` at its place in a block.
fn add(b: &mut Block, r: &mut Rng, aux: u32, at: i64) {
    b.op_imm(Op::Guest, Type::Void, &[], at, 2);
    b.guest_insns += 1;
    let (escape, modrm) = (x87::escape(aux), x87::modrm(aux));
    if !x87::memory(aux) {
        let moves =
            if matches!((escape, modrm), (0xd9, 0xd0) | (0xdb, 0xe2) | (0xdf, 0xe0)) { 0 } else { POINTERS };
        match (escape, modrm) {
            (0xda | 0xdb, 0xc0..=0xdf) => {
                let (p, q) = (b.get_reg(Type::I32, 1), b.get_reg(Type::I32, 2));
                let d = b.op(Op::Sub, Type::I32, &[p, q]);
                let f = b.flags_of(d);
                let t = b.test_cc([Cc::B, Cc::E, Cc::BE, Cc::P][(modrm >> 3 & 3) as usize], f);
                b.op_imm(Op::X87, Type::Void, &[t], 0, aux | moves);
            }
            (0xdb | 0xdf, 0xe8..=0xf7) => {
                let f = b.op_imm(Op::X87, Type::Flags, &[], 0, aux | moves);
                b.set_flags(f);
                let t = b.test_cc([Cc::A, Cc::B, Cc::E, Cc::P, Cc::AE, Cc::BE][below(r, 6) as usize], f);
                let i = b.op(Op::ZExt, Type::I64, &[t]);
                b.set_reg(Type::I64, 5, i);
            }
            (0xdf, 0xe0) => {
                let v = b.op_imm(Op::X87, Type::I16, &[], 0, aux);
                b.set_reg(Type::I16, 0, v);
            }
            _ => {
                b.op_imm(Op::X87, Type::Void, &[], 0, aux | moves);
            }
        }
        return;
    }
    let (Access::Read(bytes) | Access::Write(bytes)) = x87::access(aux) else { unreachable!("{aux:#x}") };
    let lin = match below(r, 40) {
        0 => 1 << 60,
        1 => 0x1ffc,
        n => 0x1000 + 8 * (n % 8),
    };
    let a = b.iconst(Type::I64, lin);
    let offset = b.iconst(Type::I64, lin ^ 0x40_0000);
    let control = matches!((escape, x87::digit(aux)), (0xd9, 5 | 7) | (0xdd, 7));
    let aux = if control { aux } else { aux | POINTERS };
    let imm = (Seg::DS as u32) << mem_flags::SEG_SHIFT | bytes << mem_flags::SIZE_SHIFT;
    b.op_imm(Op::X87Mem, Type::Void, &[a, offset], imm.into(), aux);
}

/// An operation on memory.
fn memory_op(r: &mut Rng) -> u32 {
    loop {
        let aux = (below(r, 8) << 8 | below(r, 8) << 3 | 5) as u32;
        // FLDCW is rare, as it is in programs.
        if x87::access(aux) != Access::Other && (!x87::loads_control(aux) || below(r, 4) == 0) {
            return aux;
        }
    }
}

/// Operations that programs are made of: FLD, FST and FSTP of doubles and singles, FADD to FDIV, FXCH, FILD.
fn common_op(r: &mut Rng) -> u32 {
    let i = below(r, 3) as u32;
    let digit = |r: &mut Rng| [0, 1, 4, 5, 6, 7][below(r, 6) as usize];
    match below(r, 12) {
        0..=2 => [0x505, 0x105][below(r, 2) as usize],
        3 => [0x515, 0x51d, 0x115, 0x11d][below(r, 4) as usize],
        4 => [0x305, 0x705, 0x72d][below(r, 3) as usize],
        5 => (digit(r) << 3) | 5 | [0, 0x400][below(r, 2) as usize],
        6 => 0xc0 | digit(r) << 3 | i,
        7 | 8 => 0x600 | 0xc0 | digit(r) << 3 | 1,
        9 => 0x400 | 0xc0 | digit(r) << 3 | i,
        10 => [0x1c0, 0x1c8, 0x5d8, 0x5d0][below(r, 4) as usize] + i,
        _ => [0x1e0, 0x1e1, 0x1ee, 0x1e8, 0x7e9, 0x3f1][below(r, 6) as usize],
    }
}

fn block(r: &mut Rng, common: bool) -> Block {
    let mode = Mode(Mode::CODE64 | Mode::STACK32 | Mode::PROT | Mode::LMA | Mode::FLAT);
    let mut b = Block::new(BlockKey { phys: PhysAddr(0x5000), rip: 0x5000, mode });
    let n = 1 + below(r, 10);
    for k in 0..n {
        let aux = match below(r, 3) {
            _ if common => common_op(r),
            0 => memory_op(r),
            _ => register_op(r),
        };
        add(&mut b, r, aux, 2 * k as i64);
    }
    b.guest_len = 2 * n as u32;
    b.op_imm(Op::Goto, Type::Void, &[], 2 * n as i64, 0);
    b
}

fn prepare(seed: u64, common: bool) -> CpuBox {
    let r = &mut Rng(seed ^ 0x5bd1_e995_0000_0001);
    let mut c = cpu(r);
    let f = &mut c.state.fpu;
    for st in &mut f.st {
        *st = extended(r);
    }
    // Any rounding and precision, mostly those that programs run under.
    f.fcw = if below(r, 2) == 0 {
        0x37f
    } else {
        0x7f | [0, 2, 3][below(r, 3) as usize] << 8 | (below(r, 4) << 10) as u16
    };
    f.fsw = (r.next() & 0x7f7f & !0x40) as u16;
    f.ftw = [0xff, 0, 0x0f, r.next() as u8][below(r, 4) as usize];
    if common {
        // Three values on the stack, of numbers that are nothing special.
        (f.fsw, f.ftw) = (5 << 11, 0xe0);
        for st in &mut f.st {
            let v = below(r, 1 << 20) as i64 - (1 << 19);
            *st = F80::from(v);
            if v != 0 && below(r, 2) == 0 {
                st.mant |= r.next() >> 20;
                st.se = st.se.wrapping_sub(below(r, 40) as u16);
            }
        }
    }
    if below(r, 50) == 0 {
        f.fcw &= !(1 << below(r, 6));
    }
    (f.fip, f.fdp, f.fop, f.fcs, f.fds) = (r.next(), r.next(), 0x123, 8, 16);
    for n in 0..9 {
        let v = if common && below(r, 8) != 0 {
            [1.5f64.to_bits() + (r.next() >> 40), 0x3fc0_0000_3fa0_0001, below(r, 1000)][below(r, 3) as usize]
        } else {
            word(r)
        };
        c.store::<8>(0x1000 + 8 * n, v, false).unwrap();
    }
    // Sometimes a control word.
    if below(r, 4) == 0 {
        c.store::<2>(0x1000 + 8 * below(r, 8), 0x7f | (below(r, 16) << 8), false).unwrap();
    }
    c
}

fn compare(common: bool) {
    let cases: u64 = std::env::var("CALQUE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4000);
    let mut jit = Jit::new(JitConfig { single_block: true, ..JitConfig::default() }).unwrap();
    let mut left = 0;
    for seed in 1..=cases {
        let b = block(&mut Rng(seed << 20 | 1), common);
        emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
        let id = jit.compile(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
        let start = || prepare(seed, common);
        let (mut want, mut got) = (start(), start());
        let end = eval(&b, &mut want);
        let exit = jit.run(&mut got, id);
        // An x86's stores convert as they store, which is done in place or not at all.
        if cfg!(target_arch = "x86_64") && exit == RunExit::Interpret && end != End::Interpret {
            left += 1;
            continue;
        }
        let all = |c: &Cpu| format!("{} {:x?}", snapshot(c), c.state.fpu);
        assert!(
            agree(end, exit, &got) && all(&want) == all(&got),
            "{b}\n{}\nseed {seed}: {end:?} against {exit:?}\nbefore {}\nwant   {}\ngot    {}",
            disassemble(&joined(&jit, id)),
            all(&start()),
            all(&want),
            all(&got)
        );
    }
    assert!(left * 4 < cases, "{left} of {cases}");
}

#[test]
fn every_instruction_on_any_state() {
    compare(false);
}

#[test]
fn what_programs_do() {
    compare(true);
}

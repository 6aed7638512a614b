//! Several blocks: links, doors, signals, budget, invalidation, faults and stores to code.

use crate::r#gen::{Rng, cpu};
use crate::to_user;
use backend_jit::{Jit, JitConfig, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::CodeHit;
use emu_core::cpu_box::CpuBox;
use emu_core::fault::{Exception, Vector};
use emu_core::ir::{Block, BlockKey, BrKind, Cc, Inst, Op, Type, Value};
use emu_core::signals::request;
use emu_core::state::bits::rflags;
use emu_core::state::gpr::{RAX, RCX, RDX, RSP};
use std::collections::HashMap;

/// Blocks by RIP; linear addresses are physical ones.
pub struct Guest {
    blocks: HashMap<u64, Block>,
    pub jit: Jit,
    pub cpu: CpuBox,
    needed: u32,
}

impl Guest {
    pub fn new(cfg: JitConfig) -> Self {
        let mut cpu = cpu(&mut Rng(5));
        cpu.state.icount = 0;
        // Flat, as 64-bit code is.
        to_user(&mut cpu);
        Self { blocks: HashMap::new(), jit: Jit::new(cfg).unwrap(), cpu, needed: 0 }
    }

    fn key(&self, rip: u64) -> BlockKey {
        BlockKey { phys: PhysAddr(rip), rip, mode: self.cpu.state.mode }
    }

    pub fn add(&mut self, rip: u64, insns: u32, build: impl FnOnce(&mut Block)) {
        let mut b = Block::new(self.key(rip));
        b.op_imm(Op::Guest, Type::Void, &[], 0, 4);
        build(&mut b);
        b.guest_insns = insns;
        b.guest_len = 4 * insns;
        emu_core::ir::verify(&b).unwrap_or_else(|e| panic!("{e}\n{b}"));
        self.blocks.insert(rip, b);
    }

    /// Runs from `rip` until there is no such block or translated code comes back for another reason.
    pub fn run(&mut self, rip: u64) -> RunExit {
        self.cpu.state.rip = rip;
        loop {
            let rip = self.cpu.state.rip;
            let key = self.key(rip);
            let id = match self.jit.lookup(&key) {
                Some(id) => id,
                None => match self.blocks.get(&rip) {
                    Some(b) => self.jit.compile(b).unwrap(),
                    None => return RunExit::NeedBlock,
                },
            };
            self.needed += 1;
            match self.jit.run(&mut self.cpu, id) {
                RunExit::NeedBlock => {}
                exit => return exit,
            }
        }
    }

    /// A loop at 0x5000 that adds RCX to RAX and counts RCX down, then goes to 0x5100.
    fn add_loop(&mut self) {
        self.add(0x5000, 3, |b| {
            let (a, c) = (b.get_reg(Type::I64, RAX), b.get_reg(Type::I64, RCX));
            let s = b.op(Op::Add, Type::I64, &[a, c]);
            b.set_reg(Type::I64, RAX, s);
            b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
            let one = b.iconst(Type::I64, 1);
            let d = b.op(Op::Sub, Type::I64, &[c, one]);
            let f = b.flags_of(d);
            b.set_reg(Type::I64, RCX, d);
            b.set_flags(f);
            b.op_imm(Op::Guest, Type::Void, &[], 8, 4);
            let t = b.test_cc(Cc::NE, f);
            b.op_imm(Op::Branch, Type::Void, &[t], 0, 0x100);
        });
    }
}

#[test]
fn a_loop_is_linked_and_counted() {
    let mut g = Guest::new(JitConfig::default());
    g.add_loop();
    g.cpu.state.gpr[RAX] = 0;
    g.cpu.state.gpr[RCX] = 100_000;
    assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    assert_eq!(g.cpu.state.gpr[RAX], 100_000 * 100_001 / 2);
    assert_eq!(g.cpu.state.rip, 0x5100);
    assert_eq!(g.cpu.state.icount, 300_000);
    assert_eq!(g.cpu.state.rflags & rflags::STATUS, rflags::ZF | rflags::PF);
    assert!(g.needed < 4, "entered {} times", g.needed);
}

#[test]
fn a_signal_and_a_budget_end_a_loop() {
    let mut g = Guest::new(JitConfig::default());
    g.add_loop();
    g.cpu.state.gpr[RCX] = 0;
    g.jit.set_budget(&g.cpu, 30_000);
    assert_eq!(g.run(0x5000), RunExit::Budget);
    let n = g.cpu.state.icount;
    assert!((30_000..30_100).contains(&n), "{n}");
    assert_eq!(g.cpu.state.gpr[RCX], 0u64.wrapping_sub(n / 3));
    g.jit.set_budget(&g.cpu, u64::MAX);
    let signals = g.cpu.signals.clone();
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        signals.raise(request::STOP);
    });
    assert_eq!(g.run(0x5000), RunExit::Signal);
    other.join().unwrap();
    assert_eq!(g.cpu.state.rip, 0x5000);
    assert_eq!(g.cpu.state.gpr[RCX], 0u64.wrapping_sub(g.cpu.state.icount / 3));
}

#[test]
fn one_block_at_a_time_when_asked() {
    let mut g = Guest::new(JitConfig { single_block: true, ..JitConfig::default() });
    g.add_loop();
    g.cpu.state.gpr[RCX] = 50;
    assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    assert_eq!(g.needed, 50);
}

/// Two blocks in different pages that jump to one another through a register, RDX rounds.
fn ping_pong(g: &mut Guest) {
    for (at, to) in [(0x2000u64, 0x3000u64), (0x3000, 0x2000)] {
        g.add(at, 2, |b| {
            let d = b.get_reg(Type::I64, RDX);
            let one = b.iconst(Type::I64, 1);
            let n = b.op(Op::Sub, Type::I64, &[d, one]);
            let f = b.flags_of(n);
            b.set_reg(Type::I64, RDX, n);
            let z = b.test_cc(Cc::E, f);
            b.op_imm(Op::ExitIf, Type::Void, &[z], 0x800, 0);
            b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
            let t = b.iconst(Type::I64, to);
            b.op_imm(Op::GotoReg, Type::Void, &[t], 0, 0);
        });
    }
}

#[test]
fn a_signal_ends_computed_jumps_from_door_to_door() {
    let mut g = Guest::new(JitConfig { count_insns: false, ..JitConfig::default() });
    ping_pong(&mut g);
    for sleep in [0, 1, 20, 0, 5] {
        // So many rounds that it is not over before.
        g.cpu.state.gpr[RDX] = 0;
        let signals = g.cpu.signals.clone();
        let other = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(sleep));
            signals.raise(request::STOP);
        });
        assert_eq!(g.run(0x2000), RunExit::Signal);
        other.join().unwrap();
        let (left, rip) = (g.cpu.state.gpr[RDX], g.cpu.state.rip);
        assert_eq!(rip, if left & 1 == 0 { 0x2000 } else { 0x3000 });
        // One that is there already when translated code is entered ends it at the first jump.
        assert_eq!((g.run(rip), g.cpu.state.gpr[RDX]), (RunExit::Signal, left.wrapping_sub(1)));
        g.cpu.signals.take(request::STOP);
    }
    g.cpu.state.gpr[RDX] = 1000;
    assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x3800));
}

#[test]
fn indirect_jumps_find_each_other() {
    let mut g = Guest::new(JitConfig::default());
    ping_pong(&mut g);
    g.cpu.state.gpr[RDX] = 1000;
    assert_eq!(g.run(0x2000), RunExit::NeedBlock);
    assert_eq!(g.cpu.state.rip, 0x3800);
    assert_eq!(g.cpu.state.icount, 1999);
    assert!(g.needed < 6, "entered {} times", g.needed);
    // Without fetch translations every entry waits until its page has one again; then it is as good as before.
    let before = g.jit.counters().entries;
    g.cpu.flush_all();
    g.cpu.state.gpr[RDX] = 1000;
    assert_eq!(g.run(0x2000), RunExit::NeedBlock);
    assert_eq!(g.jit.counters().entries - before, 2);
}

/// A loop over three pages, RDX rounds: 0x2000 calls 0x3000, which returns to 0x2004, which goes on at 0x4000 and back.
fn call_loop(g: &mut Guest) {
    g.add(0x2000, 1, |b| {
        b.op_imm(Op::Goto, Type::Void, &[], 0x1000, BrKind::Call as u32);
    });
    g.add(0x3000, 1, |b| {
        let back = b.iconst(Type::I64, 0x2004);
        b.op_imm(Op::GotoReg, Type::Void, &[back], 0, BrKind::Ret as u32);
    });
    g.add(0x2004, 1, |b| {
        b.op_imm(Op::Goto, Type::Void, &[], 0x4000 - 0x2004, 0);
    });
    g.add(0x4000, 1, |b| {
        let d = b.get_reg(Type::I64, RDX);
        let one = b.iconst(Type::I64, 1);
        let n = b.op(Op::Sub, Type::I64, &[d, one]);
        let f = b.flags_of(n);
        b.set_reg(Type::I64, RDX, n);
        b.set_flags(f);
        let t = b.test_cc(Cc::NE, f);
        b.op_imm(Op::Branch, Type::Void, &[t], -0x2000, 0x1000);
    });
}

#[test]
fn calls_and_links_cross_pages() {
    for (link_pages, predict_returns) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut g = Guest::new(JitConfig { link_pages, predict_returns, ..JitConfig::default() });
        call_loop(&mut g);
        for _ in 0..2 {
            g.cpu.state.gpr[RDX] = 1000;
            g.cpu.state.icount = 0;
            assert_eq!(g.run(0x2000), RunExit::NeedBlock);
            assert_eq!((g.cpu.state.rip, g.cpu.state.icount), (0x5000, 4000));
            let entries = g.jit.counters().entries;
            assert!(entries < 24, "{entries} entries with {link_pages}, {predict_returns}");
            // Every guard fails until its page has a translation again, and is right then as it stands.
            g.cpu.flush_all();
        }
        // What predicted returns and the links lead to has gone.
        g.jit.invalidate(&[CodeHit::whole(PhysAddr(0x2000), 2, 1)]);
        g.add(0x2004, 1, |b| {
            b.op_imm(Op::Goto, Type::Void, &[], 0x5100 - 0x2004, 0);
        });
        assert_eq!(g.run(0x3000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.rip, 0x5100);
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.rip, 0x5100);
    }
}

/// The flags that a block leaves are those that the next one finds.
#[test]
fn flags_cross_blocks() {
    use emu_core::ir::Value;
    let mut rng = Rng(77);
    for op in [Op::Add, Op::Sub, Op::And, Op::Or, Op::Xor, Op::Mul] {
        for ty in [Type::I8, Type::I16, Type::I32, Type::I64] {
            if (op, ty) == (Op::Mul, Type::I8) {
                continue;
            }
            for constant in [None, Some(0), Some(1), Some(-1), Some(-512), Some(511), Some(0x1234_5678)] {
                let mut g = Guest::new(JitConfig::default());
                let flags_of = |b: &mut Block, keep: bool| {
                    let x = b.get_reg(ty, RAX);
                    let y = match constant {
                        Some(c) => b.iconst(ty, ty.truncate(c as u64)),
                        None => b.get_reg(ty, RCX),
                    };
                    let v = b.op(op, ty, &[x, y]);
                    if keep {
                        b.set_reg(ty, RAX, v);
                    }
                    let f = b.op_imm(Op::FlagsOf, Type::Flags, &[v], rflags::STATUS as i64, 0);
                    b.op(Op::SetFlags, Type::Void, &[f]);
                };
                let pack = |b: &mut Block| {
                    let f: Value = b.op(Op::GetFlags, Type::Flags, &[]);
                    let v = b.op(Op::PackFlags, Type::I32, &[f]);
                    b.set_reg(Type::I32, RDX, v);
                };
                for (at, keep) in [(0x2000, false), (0x2100, true)] {
                    g.add(at, 1, |b| {
                        flags_of(b, keep);
                        b.op_imm(Op::Goto, Type::Void, &[], 0x3000 - at as i64, 0);
                    });
                }
                g.add(0x3000, 1, |b| {
                    pack(b);
                    b.op_imm(Op::Goto, Type::Void, &[], 0x5000 - 0x3000, 0);
                });
                for at in [0x2000, 0x2100, 0x2000, 0x2100] {
                    for corner in [false, true] {
                        let r = &mut g.cpu.state.gpr;
                        (r[RAX], r[RCX]) = (rng.next(), if corner { u64::MAX } else { rng.next() });
                        let (a, c) = (r[RAX], constant.map_or(r[RCX], |c| c as u64));
                        assert_eq!(g.run(at), RunExit::NeedBlock);
                        let want = status_by_hand(op, ty, a, c);
                        let got = g.cpu.state.gpr[RDX] & rflags::STATUS;
                        assert_eq!(got, want, "{op:?} {ty:?} {constant:?} {a:x} {c:x}: in translated code");
                        assert_eq!(g.cpu.state.rflags & rflags::STATUS, want, "{op:?} {ty:?} outside");
                    }
                }
            }
        }
    }
}

/// Intel SDM volume 1, 3.4.3.1; AF of a logical operation, which is undefined there, is clear, and what is of a product is as of
/// a logical operation with that result.
pub fn status_by_hand(op: Op, ty: Type, a: u64, b: u64) -> u64 {
    let mask = ty.truncate(u64::MAX);
    let (a, b, top) = (a & mask, b & mask, ty.bits() - 1);
    let (r, carry, overflow, aux) = match op {
        Op::Add => {
            let r = a.wrapping_add(b) & mask;
            (r, r < a, (a ^ r) & (b ^ r), a ^ b ^ r)
        }
        Op::Sub => {
            let r = a.wrapping_sub(b) & mask;
            (r, a < b, (a ^ b) & (a ^ r), a ^ b ^ r)
        }
        Op::And => (a & b, false, 0, 0),
        Op::Or => (a | b, false, 0, 0),
        Op::Mul => {
            let up = 64 - ty.bits();
            let wide = |v: u64| i128::from((v << up) as i64 >> up);
            let product = wide(a) * wide(b);
            let over = product != wide(product as u64 & mask);
            (product as u64 & mask, over, u64::from(over) << top, 0)
        }
        _ => (a ^ b, false, 0, 0),
    };
    let bit = |on: bool, flag: u64| if on { flag } else { 0 };
    bit(carry, rflags::CF)
        | bit((r as u8).count_ones().is_multiple_of(2), rflags::PF)
        | bit(aux & 16 != 0, rflags::AF)
        | bit(r == 0, rflags::ZF)
        | bit(r >> top & 1 != 0, rflags::SF)
        | bit(overflow >> top & 1 != 0, rflags::OF)
}

/// An empty ring predicts a return to 0, which leaves for 0 wherever the block has the RIP.
#[test]
fn a_return_to_nowhere_is_one_to_zero() {
    for register in [RAX, RCX, RDX] {
        let mut g = Guest::new(JitConfig::default());
        g.add(0x2000, 1, |b| {
            let to = b.get_reg(Type::I64, register);
            b.op_imm(Op::GotoReg, Type::Void, &[to], 0, BrKind::Ret as u32);
        });
        g.cpu.state.gpr[register] = 0;
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.rip, 0);
    }
}

#[test]
fn removed_blocks_are_unlinked() {
    let mut g = Guest::new(JitConfig::default());
    for (at, to) in [(0x5000u64, 0x5100u64), (0x5100, 0x5200), (0x5200, 0x5300)] {
        g.add(at, 1, |b| {
            b.op_imm(Op::Goto, Type::Void, &[], (to - at) as i64, 0);
        });
    }
    for _ in 0..2 {
        assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    }
    assert_eq!(g.cpu.state.rip, 0x5300);
    assert_eq!(g.jit.counters().links, 2);
    let id = g.jit.lookup(&g.key(0x5000)).unwrap();
    // Bytes 0x5100 to 0x513f have changed; others of the page have not.
    let in_use = |g: &Guest| {
        (0..64).filter(|&c| g.jit.bytes_in_use(PhysAddr(0x5000), c).is_some()).collect::<Vec<u32>>()
    };
    assert_eq!(in_use(&g), [0, 4, 8]);
    g.jit.invalidate(&[CodeHit::whole(PhysAddr(0x5000), 5, 1 << 4)]);
    assert!(g.jit.lookup(&g.key(0x5100)).is_none());
    assert_eq!(in_use(&g), [0, 8]);
    g.cpu.state.rip = 0x5000;
    assert_eq!(g.jit.run(&mut g.cpu, id), RunExit::NeedBlock);
    assert_eq!(g.cpu.state.rip, 0x5100);
    // The same block again, and the links come back.
    assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    g.cpu.state.rip = 0x5000;
    assert_eq!(g.jit.run(&mut g.cpu, id), RunExit::NeedBlock);
    assert_eq!(g.cpu.state.rip, 0x5300);
}

#[test]
fn a_full_cache_is_flushed() {
    let mut g = Guest::new(JitConfig { cache_bytes: 1 << 16, ..JitConfig::default() });
    g.add_loop();
    ping_pong(&mut g);
    for round in 0..3000 {
        let rip = 0x100_0000 + round * 16;
        g.add(rip, 1, |b| {
            b.op_imm(Op::Goto, Type::Void, &[], 0x2000, 0);
        });
        g.run(rip);
        g.cpu.state.gpr[RCX] = 5;
        assert_eq!(g.run(0x5000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.rip, 0x5100);
    }
    assert!(g.jit.counters().flushes > 0);
}

#[test]
fn a_fault_in_the_middle_leaves_the_state_of_its_instruction() {
    let mut g = Guest::new(JitConfig::default());
    g.add(0x5000, 3, |b| {
        let a = b.get_reg(Type::I64, RAX);
        let s = b.op(Op::Add, Type::I64, &[a, a]);
        let f = b.flags_of(s);
        b.set_reg(Type::I64, RAX, s);
        b.set_flags(f);
        b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
        let c = b.get_reg(Type::I64, RCX);
        let v = b.op(Op::Load, Type::I64, &[c]);
        let n = b.op(Op::Add, Type::I64, &[v, s]);
        b.set_reg(Type::I64, RAX, n);
        b.op_imm(Op::Guest, Type::Void, &[], 8, 4);
        b.op_imm(Op::Goto, Type::Void, &[], 12, 0);
    });
    g.cpu.state.gpr[RAX] = 1 << 63;
    g.cpu.state.gpr[RCX] = 1 << 60;
    assert_eq!(g.run(0x5000), RunExit::Fault);
    assert_eq!(backend_jit::fault(&g.cpu), Exception::new(Vector::GP));
    assert_eq!(g.cpu.state.rip, 0x5004);
    assert_eq!(g.cpu.state.icount, 1);
    assert_eq!(g.cpu.state.gpr[RAX], 0);
    assert_eq!(g.cpu.state.rflags & rflags::STATUS, rflags::CF | rflags::OF | rflags::ZF | rflags::PF);
}

#[test]
fn a_store_to_decoded_bytes_is_left_to_the_interpreter() {
    let mut g = Guest::new(JitConfig::default());
    g.cpu.mark_code(5, 1);
    g.add(0x5000, 2, |b| {
        b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
        let (c, a) = (b.get_reg(Type::I64, RCX), b.get_reg(Type::I32, RAX));
        b.op(Op::Store, Type::I32, &[c, a]);
        b.op_imm(Op::Goto, Type::Void, &[], 8, 0);
    });
    g.cpu.state.gpr[RCX] = 0x5010;
    assert_eq!(g.run(0x5000), RunExit::Interpret);
    assert_eq!((g.cpu.state.rip, g.cpu.state.icount), (0x5004, 1));
    assert!(g.cpu.code_hits.is_empty());
    // Data beside the code is stored, across a chunk's edge too.
    g.cpu.state.gpr[RCX] = 0x507e;
    g.cpu.state.gpr[RAX] = 0x1234_5678;
    assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    let mut bytes = [0; 4];
    assert!(g.cpu.mem.read(PhysAddr(0x507e), &mut bytes));
    assert_eq!(u32::from_le_bytes(bytes), 0x1234_5678);
}

#[test]
fn accesses_across_pages_and_to_nothing() {
    let mut g = Guest::new(JitConfig::default());
    g.add(0x5000, 2, |b| {
        let (c, a) = (b.get_reg(Type::I64, RCX), b.get_reg(Type::I64, RAX));
        b.op(Op::Store, Type::I64, &[c, a]);
        b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
        let v = b.op(Op::Load, Type::I64, &[c]);
        b.set_reg(Type::I64, RDX, v);
        b.op_imm(Op::Goto, Type::Void, &[], 8, 0);
    });
    for at in [0x0ffd, 0x1000, 0x1ff8, 0x2ff9] {
        g.cpu.state.gpr[RCX] = at;
        g.cpu.state.gpr[RAX] = 0x1122_3344_5566_7788 ^ at;
        assert_eq!(g.run(0x5000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.gpr[RDX], 0x1122_3344_5566_7788 ^ at);
    }
    g.cpu.state.gpr[RCX] = 0xc000_0000;
    assert_eq!(g.run(0x5000), RunExit::NeedBlock);
    assert_eq!(g.cpu.state.gpr[RDX], u64::MAX, "nobody answers there");
}

#[test]
fn tables_and_frames_are_read_where_they_are() {
    let mut g = Guest::new(JitConfig { count_insns: false, ..JitConfig::default() });
    let lea = |b: &mut Block, base: Value, index: Value, imm: i64| {
        b.push(Inst { op: Op::Lea, ty: Type::I64, aux: 3, args: [base, index, Value::NONE], imm })
    };
    // Two tables of which pages are kept at one place, and one beside them.
    let tables = [0x1003, 0x5000, 0x2000u64];
    for (n, at) in tables.into_iter().enumerate() {
        g.add(0x2000 + 0x100 * n as u64, 3, |b| {
            let (c, sp) = (b.get_reg(Type::I64, RCX), b.get_reg(Type::I64, RSP));
            let from = lea(b, Value::NONE, c, at as i64);
            let v = b.op(Op::Load, Type::I64, &[from]);
            b.set_reg(Type::I64, RAX, v);
            b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
            let (to, d) = (lea(b, sp, c, 8), b.get_reg(Type::I64, RDX));
            b.op(Op::Store, Type::I64, &[to, d]);
            b.op_imm(Op::Guest, Type::Void, &[], 8, 4);
            let from = lea(b, sp, d, -16);
            let v = b.op(Op::Load, Type::I32, &[from]);
            b.set_reg(Type::I32, RDX, v);
            b.op_imm(Op::Goto, Type::Void, &[], 0x1000, 0);
        });
    }
    let mut rng = Rng(17);
    let mut stack = 0x3800;
    for round in 0..4000 {
        let near = rng.next() & 3 != 0;
        let c = if near { rng.next() & 0x7f } else { rng.next() & 0x3ff };
        if rng.next() & 7 == 0 {
            stack = 0x3000 + (rng.next() & 0xff8);
        }
        let (n, d) = (rng.next() as usize % 3, rng.next() & 0xff);
        let r = &mut g.cpu.state.gpr;
        (r[RCX], r[RDX], r[RSP]) = (c, d, stack);
        let read = |g: &Guest, at: u64| {
            let mut bytes = [0; 8];
            assert!(g.cpu.mem.read(PhysAddr(at), &mut bytes));
            u64::from_le_bytes(bytes)
        };
        let want = read(&g, tables[n] + 8 * c);
        assert_eq!(g.run(0x2000 + 0x100 * n as u64), RunExit::NeedBlock);
        let (a, b) = (g.cpu.state.gpr[RAX], g.cpu.state.gpr[RDX]);
        assert_eq!(read(&g, stack + 8 * c + 8), d, "round {round}");
        assert_eq!((a, b), (want, read(&g, stack + 8 * d - 16) & 0xffff_ffff), "round {round}");
    }
}

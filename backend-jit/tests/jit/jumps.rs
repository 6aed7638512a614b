//! Jumps to computed places, by doors, and calls and returns.

use crate::chain::{Guest, status_by_hand};
use crate::r#gen::Rng;
use backend_jit::{JitConfig, RunExit};
use emu_core::addr::PhysAddr;
use emu_core::cpu::CodeHit;
use emu_core::ir::{Block, BrKind, Cc, Op, Type, Value};
use emu_core::signals::request;
use emu_core::state::bits::rflags;
use emu_core::state::gpr::{RAX, RBX, RCX, RDX};

/// A block of one instruction that calls `to`.
fn call(g: &mut Guest, at: u64, to: u64) {
    g.add(at, 1, |b| {
        b.op_imm(Op::Goto, Type::Void, &[], to.wrapping_sub(at) as i64, BrKind::Call as u32);
    });
}

/// A block of one instruction that returns to `to`.
fn ret(g: &mut Guest, at: u64, to: u64) {
    g.add(at, 1, |b| {
        let to = b.iconst(Type::I64, to);
        b.op_imm(Op::GotoReg, Type::Void, &[to], 0, BrKind::Ret as u32);
    });
}

/// A block of one instruction that adds `n` to `reg` and branches on whether the sum is not 0.
fn step(g: &mut Guest, at: u64, reg: usize, n: u64, ways: [u64; 2]) {
    g.add(at, 1, |b| {
        let (old, n) = (b.get_reg(Type::I64, reg), b.iconst(Type::I64, n));
        let new = b.op(Op::Add, Type::I64, &[old, n]);
        let f = b.flags_of(new);
        b.set_reg(Type::I64, reg, new);
        b.set_flags(f);
        let t = b.test_cc(Cc::NE, f);
        let [yes, no] = ways.map(|to| to.wrapping_sub(at) as i64);
        b.op_imm(Op::Branch, Type::Void, &[t], yes, no as u32);
    });
}

/// A block of one instruction that jumps to where RCX says.
fn jump_to_rcx(g: &mut Guest, at: u64) {
    g.add(at, 1, |b| {
        let to = b.get_reg(Type::I64, RCX);
        b.op_imm(Op::GotoReg, Type::Void, &[to], 0, 0);
    });
}

#[test]
fn computed_jumps_to_places_whose_doors_stand_at_one() {
    let mut g = Guest::new(JitConfig::default());
    jump_to_rcx(&mut g, 0x2000);
    // Both go on at the other's, so the one door that is in the table is the wrong one each time.
    step(&mut g, 0x3000, RCX, 2, [0x3100, 0x3100]);
    step(&mut g, 0x3002, RCX, !1, [0x3100, 0x3100]);
    step(&mut g, 0x3100, RDX, !0, [0x2000, 0x4000]);
    (g.cpu.state.gpr[RDX], g.cpu.state.gpr[RCX]) = (1001, 0x3000);
    assert_eq!(g.run(0x2000), RunExit::NeedBlock);
    assert_eq!((g.cpu.state.rip, g.cpu.state.gpr[RCX], g.cpu.state.icount), (0x4000, 0x3002, 3003));
}

#[test]
fn a_door_goes_with_its_block() {
    // A block to which a computed jump comes first begins with its door, any other gets one apart.
    for known in [false, true] {
        let mut g = Guest::new(JitConfig::default());
        jump_to_rcx(&mut g, 0x2000);
        step(&mut g, 0x3000, RDX, 1, [0x3100, 0x3100]);
        g.cpu.state.gpr[RCX] = 0x3000;
        if known {
            assert_eq!(g.run(0x3000), RunExit::NeedBlock);
        }
        for _ in 0..3 {
            assert_eq!(g.run(0x2000), RunExit::NeedBlock);
            assert_eq!(g.cpu.state.rip, 0x3100);
        }
        assert_eq!(g.jit.counters().doors, u64::from(known));
        g.jit.invalidate(&[CodeHit::whole(PhysAddr(0x3000), 3, 1)]);
        step(&mut g, 0x3000, RDX, 1, [0x3200, 0x3200]);
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        assert_eq!(g.cpu.state.rip, 0x3200);
    }
}

#[test]
fn where_there_is_no_room_for_a_door_everything_goes() {
    let mut g = Guest::new(JitConfig { cache_bytes: 1 << 16, ..JitConfig::default() });
    jump_to_rcx(&mut g, 0x2000);
    assert_eq!(g.run(0x2000), RunExit::NeedBlock);
    let mut blocks = Vec::new();
    while g.jit.counters().cache_used < (1 << 16) - 1000 {
        let at = 0x3000 + 16 * blocks.len() as u64;
        step(&mut g, at, RDX, 1, [0x2800, 0x2800]);
        blocks.push(at);
        assert_eq!(g.run(at), RunExit::NeedBlock);
    }
    assert_eq!(g.jit.counters().flushes, 0);
    for at in blocks {
        (g.cpu.state.gpr[RCX], g.cpu.state.gpr[RDX]) = (at, 7);
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        assert_eq!((g.cpu.state.rip, g.cpu.state.gpr[RDX]), (0x2800, 8));
    }
    assert!(g.jit.counters().flushes > 0);
}

#[test]
fn a_full_cache_gives_up_its_oldest_part() {
    /// Blocks of a chain.
    const LENGTH: u64 = 50;
    const CHAINS: u64 = 1200;
    let mut g = Guest::new(JitConfig { cache_bytes: 1 << 20, ..JitConfig::default() });
    let end = 0x2800;
    let at = |chain: u64, n: u64| 0x10_0000 + chain * 0x1000 + n * 16;
    for chain in 0..CHAINS {
        // Each begins with a call, behind which it goes on.
        call(&mut g, at(chain, 0), at(chain, LENGTH));
        ret(&mut g, at(chain, LENGTH), at(chain, 0) + 4);
        step(&mut g, at(chain, 0) + 4, RDX, 1, [at(chain, 1); 2]);
        for n in 1..LENGTH {
            let to = if n + 1 == LENGTH { end } else { at(chain, n + 1) };
            step(&mut g, at(chain, n), RDX, 1, [to; 2]);
        }
    }
    jump_to_rcx(&mut g, 0x2000);
    let mut random = 1u64;
    let mut lives = Vec::new();
    for round in 0..12_000 {
        random = random.wrapping_mul(0xd129_42f0_75e6_91b3).wrapping_add(1);
        // Mostly one of the newest chains, now and then any.
        let chain = if random >> 60 == 0 { (random >> 33) % CHAINS } else { round / 10 };
        (g.cpu.state.gpr[RCX], g.cpu.state.gpr[RDX]) = (at(chain, 0), 1);
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        assert_eq!((g.cpu.state.rip, g.cpu.state.gpr[RDX]), (end, 1 + LENGTH), "round {round}");
        lives.push(g.jit.counters().live_blocks);
    }
    let c = g.jit.counters();
    assert_eq!(c.flushes, 0);
    assert!(c.evictions > 8, "{} evictions", c.evictions);
    assert!(c.cache_used <= 1 << 20);
    // What goes is a part: there is never little left once the cache has been full.
    let full = lives.iter().position(|&n| Some(&n) == lives.iter().max()).expect("a round");
    let least = lives[full..].iter().min().expect("a round");
    assert!(2 * least > lives[full], "{least} of {}", lives[full]);
}

#[test]
fn calls_go_deeper_than_can_be_predicted() {
    // f: if (--rdx) { rcx++; f() }; return, to where rcx says.
    let mut g = Guest::new(JitConfig::default());
    call(&mut g, 0x2000, 0x3000);
    step(&mut g, 0x3000, RDX, !0, [0x3100, 0x3200]);
    step(&mut g, 0x3100, RCX, 1, [0x3110, 0x3110]);
    call(&mut g, 0x3110, 0x3000);
    step(&mut g, 0x3114, RCX, !0, [0x3200, 0x3200]);
    step(&mut g, 0x3200, RCX, 0, [0x3210, 0x3220]);
    ret(&mut g, 0x3210, 0x3114);
    ret(&mut g, 0x3220, 0x2004);
    const DEEP: u64 = 40_000;
    for _ in 0..2 {
        (g.cpu.state.gpr[RDX], g.cpu.state.gpr[RCX], g.cpu.state.icount) = (DEEP, 0, 0);
        assert_eq!(g.run(0x2000), RunExit::NeedBlock);
        let s = &g.cpu.state;
        assert_eq!((s.rip, s.gpr[RDX], s.gpr[RCX]), (0x2004, 0, 0));
        // The first call and the last return; then three on the way in and three on the way out of each.
        assert_eq!(s.icount, 1 + 1 + 2 + 6 * (DEEP - 1));
    }
}

#[test]
fn a_call_that_never_returns_does_not_spoil_the_others() {
    // rdx times: call a function that begins with `call next; pop`.
    let mut g = Guest::new(JitConfig::default());
    call(&mut g, 0x2000, 0x3000);
    call(&mut g, 0x3000, 0x3004);
    ret(&mut g, 0x3004, 0x2004);
    step(&mut g, 0x2004, RDX, !0, [0x2000, 0x2100]);
    g.cpu.state.gpr[RDX] = 10_000;
    assert_eq!(g.run(0x2000), RunExit::NeedBlock);
    assert_eq!((g.cpu.state.rip, g.cpu.state.icount), (0x2100, 40_000));
    assert!(g.jit.counters().entries < 24, "{}", g.jit.counters().entries);
}

#[test]
fn a_return_that_nobody_called_for_can_be_stopped() {
    let mut g = Guest::new(JitConfig::default());
    call(&mut g, 0x2000, 0x3000);
    ret(&mut g, 0x3000, 0x3000);
    let signals = g.cpu.signals.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        signals.raise(request::STOP);
    });
    assert_eq!(g.run(0x2000), RunExit::Signal);
    stopper.join().unwrap();
    assert_eq!(g.cpu.state.rip, 0x3000);
}

/// Where translated code does not count, a block's jump to its own beginning may leave flags out that are replaced there.
#[test]
fn a_loop_that_is_left_has_its_last_flags() {
    let cfg = || JitConfig { count_insns: false, ..JitConfig::default() };
    let ops = [Op::Add, Op::Sub, Op::And, Op::Or, Op::Xor, Op::Mul];
    let mut rng = Rng(91);
    for op in ops {
        for ty in [Type::I16, Type::I32, Type::I64] {
            for (keep, branch, stop) in (0..8).map(|n| (n & 1 != 0, n & 2 != 0, n & 4 != 0)) {
                let mut g = Guest::new(cfg());
                let set = |b: &mut Block, v: Value| {
                    let f = b.op_imm(Op::FlagsOf, Type::Flags, &[v], rflags::STATUS as i64, 0);
                    b.op(Op::SetFlags, Type::Void, &[f]);
                    f
                };
                g.add(0x5000, 3, |b| {
                    let (c, one) = (b.get_reg(Type::I64, RCX), b.iconst(Type::I64, 1));
                    let d = b.op(Op::Sub, Type::I64, &[c, one]);
                    b.set_reg(Type::I64, RCX, d);
                    let f = set(b, d);
                    b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
                    let t = b.test_cc(Cc::E, f);
                    b.op_imm(Op::ExitIf, Type::Void, &[t], 0x100, 0);
                    b.op_imm(Op::Guest, Type::Void, &[], 8, 4);
                    let (x, y) = (b.get_reg(ty, RAX), b.get_reg(ty, RBX));
                    let v = b.op(op, ty, &[x, y]);
                    if keep {
                        b.set_reg(ty, RDX, v);
                    }
                    let f = set(b, v);
                    match branch {
                        true => {
                            let t = b.test_cc(Cc::O, f);
                            b.op_imm(Op::Branch, Type::Void, &[t], 0x200, 0);
                        }
                        false => {
                            b.op_imm(Op::Goto, Type::Void, &[], 0, 0);
                        }
                    }
                });
                for turn in 0..8 {
                    let r = &mut g.cpu.state.gpr;
                    (r[RAX], r[RBX], r[RCX]) = (rng.next(), rng.next() >> (8 * turn), 1 + turn);
                    let last = status_by_hand(op, ty, r[RAX], r[RBX]);
                    let over = branch && last & rflags::OF != 0;
                    let (want, rip) = match (turn == 0, over, stop) {
                        (false, true, _) => (last, 0x5200),
                        (false, _, true) => (last, 0x5000),
                        _ => (rflags::ZF | rflags::PF, 0x5100),
                    };
                    let exit = if stop { RunExit::Signal } else { RunExit::NeedBlock };
                    // Every jump back looks for requests.
                    if stop {
                        g.cpu.signals.raise(request::STOP);
                    }
                    let got = g.run(0x5000);
                    let what = format!("{op:?} {ty:?} keep {keep} branch {branch} stop {stop} turn {turn}");
                    assert_eq!((got, g.cpu.state.rip), (exit, rip), "{what}");
                    assert_eq!(g.cpu.state.rflags & rflags::STATUS, want, "{what}");
                    g.cpu.signals.take(request::STOP);
                }
            }
        }
    }
}

/// A trace of two instructions from 0x2000 on past a jump to where RCX says, which goes on at 0x2100 and adds RCX to RAX, whose
/// flags are the guest's; it ends at 0x3000.
fn past_a_jump(g: &mut Guest, trace: bool) {
    g.add(0x2000, 2 + u32::from(trace), |b| {
        let (x, d) = (b.get_reg(Type::I64, RBX), b.get_reg(Type::I64, RDX));
        let v = b.op(Op::Sub, Type::I64, &[x, d]);
        let f = b.flags_of(v);
        b.set_flags(f);
        b.op_imm(Op::Guest, Type::Void, &[], 4, 4);
        let to = b.get_reg(Type::I64, RCX);
        if !trace {
            b.op(Op::GotoReg, Type::Void, &[to]);
            return;
        }
        let on = b.op_imm(Op::Pc, Type::I64, &[], 0x100, 0);
        let c = b.op(Op::CmpNe, Type::Bool, &[to, on]);
        b.op(Op::ExitIf, Type::Void, &[c, to]);
        b.op_imm(Op::Guest, Type::Void, &[], 0x100, 4);
        let a = b.get_reg(Type::I64, RAX);
        let v = b.op(Op::Add, Type::I64, &[a, to]);
        let f = b.flags_of(v);
        b.set_reg(Type::I64, RAX, v);
        b.set_flags(f);
        b.op_imm(Op::Goto, Type::Void, &[], 0x1000, 0);
    });
}

#[test]
fn a_trace_goes_past_a_computed_jump_or_to_where_that_goes() {
    for count_insns in [true, false] {
        let mut g = Guest::new(JitConfig { count_insns, ..JitConfig::default() });
        past_a_jump(&mut g, true);
        step(&mut g, 0x2200, RDX, 1, [0x3100, 0x3100]);
        step(&mut g, 0x4200, RDX, 1, [0x3200, 0x3200]);
        let ways =
            [(0x2100, 0x3000, 3), (0x2200, 0x3100, 3), (0x4200, 0x3200, 3), (0x6000, 0x6000, 2), (0, 0, 2)];
        for turn in 0..20 {
            let (to, end, insns) = ways[turn % ways.len()];
            let r = &mut g.cpu.state.gpr;
            (r[RAX], r[RBX], r[RCX], r[RDX]) = (5, turn as u64, to, 3);
            let compared = status_by_hand(Op::Sub, Type::I64, turn as u64, 3);
            g.cpu.state.icount = 0;
            assert_eq!(g.run(0x2000), RunExit::NeedBlock);
            let s = &g.cpu.state;
            assert_eq!((s.rip, s.gpr[RAX]), (end, if to == 0x2100 { 5 + to } else { 5 }));
            let flags = match insns {
                2 => compared,
                _ if to == 0x2100 => status_by_hand(Op::Add, Type::I64, 5, to),
                _ => status_by_hand(Op::Add, Type::I64, 3, 1),
            };
            assert_eq!(s.rflags & rflags::STATUS, flags, "to {to:#x}");
            assert!(!count_insns || s.icount == insns, "{} instructions to {to:#x}", s.icount);
        }
    }
}

#[test]
fn what_a_trace_leaves_for_past_a_computed_jump_may_have_changed() {
    let mut g = Guest::new(JitConfig::default());
    past_a_jump(&mut g, true);
    step(&mut g, 0x4200, RDX, 1, [0x3100, 0x3100]);
    g.cpu.state.gpr[RCX] = 0x4200;
    for _ in 0..3 {
        assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x3100));
    }
    // Its bytes.
    g.jit.invalidate(&[CodeHit::whole(PhysAddr(0x4200), 4, 1 << 8)]);
    step(&mut g, 0x4200, RDX, 1, [0x3200, 0x3200]);
    for _ in 0..3 {
        assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x3200));
    }
    // And where its page is: nothing is gone on to before that is known again.
    let entries = g.jit.counters().entries;
    g.cpu.flush_all();
    assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x3200));
    assert_eq!(g.jit.counters().entries - entries, 2);
    // Of the trace itself.
    g.jit.invalidate(&[CodeHit::whole(PhysAddr(0x2000), 2, 1)]);
    past_a_jump(&mut g, false);
    assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x3200));
    g.cpu.state.gpr[RCX] = 0x2100;
    assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::NeedBlock, 0x2100));
}

#[test]
fn a_request_ends_a_trace_that_leaves_at_a_computed_jump() {
    for count_insns in [true, false] {
        let mut g = Guest::new(JitConfig { count_insns, ..JitConfig::default() });
        past_a_jump(&mut g, true);
        g.cpu.state.gpr[RCX] = 0x2000;
        let signals = g.cpu.signals.clone();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            signals.raise(request::STOP);
        });
        assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::Signal, 0x2000));
        stopper.join().unwrap();
        if count_insns {
            g.cpu.signals.take(request::STOP);
            g.jit.set_budget(&g.cpu, 1000);
            let before = g.cpu.state.icount;
            assert_eq!((g.run(0x2000), g.cpu.state.rip), (RunExit::Budget, 0x2000));
            assert!((1000..1010).contains(&(g.cpu.state.icount - before)));
        }
    }
}

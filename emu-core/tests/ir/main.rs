//! Passes keep the meaning of random blocks, on every exit including faults; text round-trips.

mod r#gen;

use emu_core::ir::{Block, End, Optimizer, PassSet, eval, verify};
use r#gen::{Rng, block, cpu, snapshot};

#[test]
fn passes_keep_the_meaning_of_random_blocks() {
    let sets = [
        PassSet::FORWARD,
        PassSet::FOLD,
        PassSet::DEADFLAGS,
        PassSet::DCE,
        PassSet::ALL,
        PassSet::ALL.without(PassSet::FORWARD),
        PassSet::ALL.without(PassSet::FOLD),
    ];
    let mut optimizers: Vec<_> = sets.iter().map(|&s| Optimizer::new(s)).collect();
    let mut faults = 0;
    for seed in 1..=1500u64 {
        let block = block(&mut Rng(seed));
        verify(&block).unwrap_or_else(|e| panic!("generator: {e}\n{block}"));
        assert_eq!(block.to_string().parse::<Block>().unwrap(), block);
        let start = || cpu(&mut Rng(seed ^ 0x9e37_79b9_7f4a_7c15));
        let mut first = start();
        let end = eval(&block, &mut first);
        faults += u32::from(matches!(end, End::Fault(_)));
        let want = snapshot(&first);
        for (o, set) in optimizers.iter_mut().zip(sets) {
            let mut b = block.clone();
            o.run(&mut b);
            let mut c = start();
            let got = eval(&b, &mut c);
            assert_eq!(got, end, "{set:?} seed {seed}\n{block}\nbecame\n{b}");
            assert_eq!(snapshot(&c), want, "{set:?} seed {seed}\n{block}\nbecame\n{b}");
        }
    }
    assert!((200..1300).contains(&faults), "{faults}");
}

fn optimized(lines: &[&str]) -> String {
    let text = format!("block phys=0x1000 rip=0x1000 mode=0x0 len=4 insns=1\n{}", lines.join("\n"));
    let mut b: Block = text.parse().unwrap();
    verify(&b).unwrap();
    Optimizer::new(PassSet::ALL).run(&mut b);
    let text = b.to_string();
    text.lines().skip(1).map(|l| l.split(';').next().unwrap().trim().to_string() + "\n").collect()
}

#[test]
fn overwritten_flags_and_registers_go() {
    let got = optimized(&[
        "guest.void",
        "v1 = getreg.i64",
        "v2 = add.i64 v1, v1",
        "v3 = flagsof.flags v2 imm=0x8d5",
        "setflags.void v3",
        "setreg.i64 v2",
        "v6 = sub.i64 v2, v1",
        "v7 = flagsof.flags v6 imm=0x8d5",
        "setflags.void v7",
        "setreg.i64 v6",
        "goto.void imm=0x4",
    ]);
    assert_eq!(
        got,
        "guest.void\nv1 = getreg.i64\nv2 = add.i64 v1, v1\nv3 = sub.i64 v2, v1\n\
         v4 = flagsof.flags v3 imm=0x8d5\nsetflags.void v4\nsetreg.i64 v3\ngoto.void imm=0x4\n"
    );
}

#[test]
fn flags_for_faults_alone_become_lazy() {
    let got = optimized(&[
        "guest.void",
        "v1 = getreg.i64",
        "v2 = add.i64 v1, v1",
        "v3 = flagsof.flags v2 imm=0x8d5",
        "setflags.void v3",
        "guest.void imm=0x2",
        "v6 = load.i64 v1",
        "v7 = sub.i64 v6, v1",
        "v8 = flagsof.flags v7 imm=0x8d5",
        "setflags.void v8",
        "goto.void imm=0x4",
    ]);
    assert!(got.contains("setflags.void v3 aux=0x1\n"), "{got}");
    assert!(got.contains("setflags.void v8\n"), "{got}");
}

#[test]
fn flags_are_narrowed_to_their_readers() {
    // cmp; jz over a later instruction that replaces the flags.
    let got = optimized(&[
        "guest.void",
        "v1 = getreg.i32",
        "v2 = sub.i32 v1, v1",
        "v3 = flagsof.flags v2 imm=0x8d5",
        "setflags.void v3",
        "v5 = getflags.flags",
        "v6 = testcc.bool v5 imm=0x4",
        "v7 = and.i32 v1, v1",
        "v8 = flagsof.flags v7 imm=0x8d5",
        "setflags.void v8",
        "branch.void v6 imm=0x4 aux=0x8",
    ]);
    assert!(got.contains("flagsof.flags v2 imm=0x40\n"), "{got}");
    assert!(!got.contains("getflags"), "{got}");
}

//! What lifting and each pass cost per guest instruction, on the code of an ELF file; and what is not lifted.
//!
//! `cargo run --release -p frontend-x86 --example cost -- /bin/bash`

#![allow(clippy::print_stdout, reason = "it is a report")]

use emu_core::addr::PhysAddr;
use emu_core::cpu::{Cpu, Wiring};
use emu_core::features::Features;
use emu_core::ir::{Block, Op, Optimizer, PassSet};
use emu_core::mem::PhysMem;
use emu_core::state::SegReg;
use emu_core::state::bits::{cr0, cr4, efer};
use frontend_x86::{Lifted, Lifter};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn main() {
    let path = std::env::args().nth(1).expect("the path of an ELF file");
    let bytes = std::fs::read(&path).expect("cannot read the file");
    let elf = goblin::elf::Elf::parse(&bytes).expect("not an ELF file");
    let text = elf.section_headers.iter().find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".text"));
    let text = &bytes[text.expect("no .text").file_range().expect("an empty .text")];
    let text = &text[..text.len().min(1 << 20)];

    let mem = PhysMem::new(4 << 20).expect("no memory");
    assert!(mem.write(PhysAddr(0x1000), text));
    let mut cpu = Cpu::new(Wiring::bare(mem), Features::max(), 0);
    cpu.state.cr0 |= cr0::PE;
    cpu.state.cr4 |= cr4::OSFXSR;
    cpu.state.efer = efer::LMA | efer::LME;
    cpu.state.seg[1] = SegReg { sel: 8, attr: 0xa09b, limit: u32::MAX, base: 0 };
    cpu.mode_changed();

    let mut missing = BTreeMap::<String, u32>::new();
    let mut before = Duration::ZERO;
    let mut kept: Vec<Block> = Vec::new();
    let steps = std::iter::once(("lift", PassSet::NONE)).chain(PassSet::NAMES);
    let mut set = PassSet::NONE;
    for (name, pass) in steps {
        set = PassSet(set.0 | pass.0);
        let mut lifter = Lifter::new(64);
        let mut optimizer = Optimizer::new(set);
        let mut best = Duration::MAX;
        let (mut insns, mut ops, mut blocks) = (0u64, 0, 0);
        for round in 0..7 {
            (insns, ops, blocks) = (0, 0, 0);
            missing.clear();
            let start = Instant::now();
            let end = 0x1000 + text.len() as u64;
            cpu.state.rip = 0x1000;
            while cpu.state.rip < end {
                match lifter.lift(&mut cpu) {
                    Ok(Lifted::Block(mut b)) => {
                        cpu.state.rip += u64::from(b.guest_len);
                        optimizer.run(&mut b);
                        blocks += 1;
                        insns += u64::from(b.guest_insns);
                        ops += b.insts.len();
                        if round == 6 && set == PassSet::ALL {
                            kept.push(b);
                        }
                    }
                    // Not worth a decoder here: this finds an instruction again after a few.
                    Ok(Lifted::Interpret { mnemonic }) => {
                        cpu.state.rip += 1;
                        *missing.entry(format!("{mnemonic:?}")).or_default() += 1;
                    }
                    Err(e) => panic!("{e:?}"),
                }
            }
            best = best.min(start.elapsed());
        }
        let per = |d: Duration| d.as_nanos() as f64 / insns as f64;
        let ops = ops as f64 / insns as f64;
        let more = per(best.saturating_sub(before));
        println!("{name}: {more:.0} ns an instruction, then {ops:.1} ops each ({insns} in {blocks} blocks)");
        before = best;
    }
    let (mut full, mut lazy) = (0, 0);
    for i in kept.iter().flat_map(|b| &b.insts).filter(|i| i.op == Op::SetFlags) {
        *if i.aux == 0 { &mut full } else { &mut lazy } += 1;
    }
    println!("flags written: {full} always, {lazy} on faults alone");
    let mut list: Vec<_> = missing.into_iter().collect();
    list.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    println!(
        "not lifted: {}",
        list.iter().take(40).map(|(m, n)| format!("{m} {n}")).collect::<Vec<_>>().join(", ")
    );
}

//! A block copied to another RIP is, byte for byte and fact for fact, what the emitter makes of it there.

use super::*;
use crate::{Jit, JitConfig};
use emu_core::ir::Block;

#[path = "../../emu-core/tests/ir/gen.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod r#gen;

/// Exits and sites, with RIPs.
fn facts(jit: &Jit, id: BlockId) -> String {
    let b = &jit.cache.blocks[id.0];
    let range = |(first, count): (u32, u32)| first..first + count;
    let exits: Vec<_> = range(b.exits).map(|n| jit.cache.exits[n].desc).collect();
    let sites: Vec<_> = range(b.sites).map(|n| jit.cache.sites.get(n)).collect();
    format!("{:?} {:?} {exits:?} {sites:?}", b.pages, b.key)
}

/// Both ways to have `b` at `rip` as well: true if a copy could be made.
fn compare(b: &Block, rip: u64) -> bool {
    let other = BlockKey { rip, ..b.key };
    let cfg = JitConfig { cache_bytes: 1 << 20, large_pages: false, ..JitConfig::default() };
    let [mut copied, mut made] = [0; 2].map(|_| Jit::new(cfg).unwrap());
    if copied.compile(b).is_err() {
        return false;
    }
    let mut cpu = r#gen::cpu(&mut r#gen::Rng(1));
    let Some(copy) = copied.copy(&mut cpu, &other) else { return false };
    made.compile(b).unwrap();
    let mut anew = b.clone();
    anew.key = other;
    let anew = made.compile(&anew).unwrap();
    assert_eq!(facts(&copied, copy), facts(&made, anew), "{b}");
    let code = |jit: &Jit, id| jit.host_code(id).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
    assert_eq!(code(&copied, copy), code(&made, anew), "{b}");
    true
}

#[test]
fn a_copy_is_what_the_emitter_would_make() {
    let user = Mode(Mode::CODE64 | Mode::LMA | Mode::PROT | Mode::FLAT | Mode::CPL);
    let mut copies = 0;
    for seed in 0..1500 {
        let mut b = r#gen::block(&mut r#gen::Rng(seed));
        b.key.mode = user;
        for (from, to) in
            [(0x5555_5500_0000, 0x7fff_f7ab_c000), (0x40_0000, 0x1234_5000), (!0xffff, !0xf_ffff)]
        {
            b.key.rip = from | b.key.phys.offset();
            copies += u32::from(compare(&b, to | b.key.phys.offset()));
        }
    }
    assert!(copies > 2000, "{copies} copies");
}

#[test]
fn what_the_kernel_runs_is_not_copied() {
    let mut b = r#gen::block(&mut r#gen::Rng(3));
    b.key.mode = Mode(Mode::CODE64 | Mode::LMA | Mode::PROT | Mode::FLAT);
    assert!(!compare(&b, b.key.rip + 0x1000));
}

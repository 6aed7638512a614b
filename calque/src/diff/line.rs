//! A case as a line for `run-case`, so that a failure can be tried by hand.

use super::case::Case;
use super::scene::{CODE, DATA, Paging, SCENES, STACK, Scene};
use crate::embed::CpuMode;
use emu_core::state::CpuState;
use serde_json::{Map, Value, json};

fn hex(value: u64) -> Value {
    Value::String(format!("{value:#x}"))
}

fn bytes(of: &[u8]) -> String {
    of.iter().map(|b| format!("{b:02x}")).collect()
}

fn mode(scene: &Scene) -> CpuMode {
    match (scene.v86, scene.paging, scene.bits) {
        (true, ..) => CpuMode::V86,
        (_, Paging::None, _) => CpuMode::Real16,
        (_, Paging::Long, 64) => CpuMode::Long64,
        (_, Paging::Long, _) => CpuMode::Compat32,
        (_, _, 16) => CpuMode::Prot16,
        _ => CpuMode::Prot32,
    }
}

/// The case for `engine`, in one line. Everything is in it: tables and handlers of its scene, too, so that it runs the
/// same way as here.
pub fn run_case(case: &Case, engine: &str) -> String {
    let scene = &SCENES[case.scene];
    let image = scene.image(case.layout);
    let state = scene.state(case.layout, &image);
    let mut regs = registers(case, scene, &state);
    let mut mem = Vec::new();
    let mut image = image;
    let code = (CODE + case.at, case.bytes());
    for (at, b) in case.patches.iter().chain([&code]) {
        for (i, b) in b.iter().enumerate() {
            if let Some(slot) = image.get_mut(*at as usize + i) {
                *slot = *b;
            }
        }
    }
    for (n, page) in image.chunks(0x1000).enumerate().filter(|(_, p)| p.iter().any(|b| *b != 0)) {
        // Without the zeros at the end.
        let len = page.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        mem.push(json!([hex((n * 0x1000) as u64), bytes(&page[..len])]));
    }
    if scene.paging != Paging::None {
        regs.insert("cr3".into(), hex(state.cr3));
        regs.insert("cr0".into(), hex(state.cr0));
        regs.insert("cr4".into(), hex(state.cr4));
    }
    if !scene.native {
        regs.insert("idtr".into(), json!({ "base": hex(state.idtr.base), "limit": state.idtr.limit }));
    }
    regs.insert("gdtr".into(), json!({ "base": hex(state.gdtr.base), "limit": state.gdtr.limit }));
    let (from, len) = (DATA, STACK + 0x2000 - DATA);
    json!({
        "id": format!("{}-{:x}", scene.name, case.layout),
        "mode": mode(scene).name(),
        "cpl": scene.cpl,
        "regs": regs,
        "mem": mem,
        "stop": { "hlt": true, "max_insns": 300 },
        "want_mem": [[hex(from), len]],
        "engine": engine,
    })
    .to_string()
}

fn registers(case: &Case, scene: &Scene, state: &CpuState) -> Map<String, Value> {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    let mut regs = Map::new();
    for (name, value) in NAMES.iter().zip(case.gpr) {
        regs.insert((*name).into(), hex(value));
    }
    let base = if scene.bits == 64 { 0 } else { state.seg[1].base };
    regs.insert("rip".into(), hex((CODE + case.at).wrapping_sub(base)));
    regs.insert("rflags".into(), hex(case.rflags | 2));
    for (name, s) in ["es", "cs", "ss", "ds", "fs", "gs"].iter().zip(&state.seg) {
        let value =
            json!({ "sel": s.sel, "base": hex(s.base), "limit": hex(s.limit.into()), "attr": s.attr });
        regs.insert((*name).into(), value);
    }
    let s = &state.tr;
    let tr = json!({ "sel": s.sel, "base": hex(s.base), "limit": hex(s.limit.into()), "attr": s.attr });
    regs.insert("tr".into(), tr);
    let m = &state.msr;
    let msrs = json!({
        "efer": hex(state.efer), "star": hex(m.star), "lstar": hex(m.lstar), "cstar": hex(m.cstar),
        "fmask": hex(m.fmask), "kernel_gs_base": hex(m.kernel_gs_base), "sysenter_cs": hex(m.sysenter_cs),
        "sysenter_esp": hex(m.sysenter_esp), "sysenter_eip": hex(m.sysenter_eip),
    });
    regs.insert("msrs".into(), msrs);
    regs.insert("mxcsr".into(), hex((case.mxcsr & 0xffff).into()));
    for (name, v) in ["fcw", "fsw", "ftw"].iter().zip(case.fpu) {
        regs.insert((*name).into(), hex(v.into()));
    }
    let top = usize::from(case.fpu[1] >> 11 & 7);
    let st = (0..8).map(|n| {
        let (mant, se) = case.st[(top + n) & 7];
        format!("{se:04x}{mant:016x}")
    });
    regs.insert("st".into(), st.collect());
    let ymm = case.xmm.iter().zip(&case.upper);
    let ymm = ymm.map(|(x, u)| format!("{:016x}{:016x}{:016x}{:016x}", u[1], u[0], x[1], x[0]));
    regs.insert("ymm".into(), ymm.collect());
    regs
}

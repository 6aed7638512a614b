//! The host code of a few blocks, so that a change in cost shows in review. `CALQUE_BLESS=1` writes it anew.
//!
//! The x86 code is that of a host with AVX, LZCNT and BMI1. The Arm code is emitted on every host.

use backend_jit::JitConfig;
use backend_jit::aarch64::{Codegen, Place};
use emu_core::ir::Block;
use std::fmt::Write;
use std::path::Path;

/// (what it is, IR).
const CASES: &[(&str, &str)] = &[
    (
        "add rax, rbx; cmp rcx, 10; jne back",
        "guest.void aux=0x3
  v1 = getreg.i64
  v2 = getreg.i64 imm=0x3
  v3 = add.i64 v1, v2
  setreg.i64 v3
guest.void imm=0x3 aux=0x4
  v6 = getreg.i64 imm=0x1
  v7 = const.i64 imm=0xa
  v8 = sub.i64 v6, v7
  v9 = flagsof.flags v8 imm=0x8d5
  setflags.void v9
guest.void imm=0x7 aux=0x2
  v12 = testcc.bool v9 imm=0x5
  branch.void v12 aux=0x9",
    ),
    (
        "mov eax, [rbx+8]",
        "guest.void aux=0x3
  v1 = getreg.i64 imm=0x3
  v2 = lea.i64 v1 imm=0x8
  v3 = load.i32 v2
  setreg.i32 v3
  goto.void imm=0x3",
    ),
    (
        "mov eax, [rbx+8]; mov ecx, [rbx+16]; mov [rbx+24], ecx",
        "guest.void aux=0x3
  v1 = getreg.i64 imm=0x3
  v2 = lea.i64 v1 imm=0x8
  v3 = load.i32 v2
  setreg.i32 v3
guest.void imm=0x3 aux=0x3
  v6 = lea.i64 v1 imm=0x10
  v7 = load.i32 v6
  setreg.i32 v7 imm=0x1
guest.void imm=0x6 aux=0x3
  v10 = lea.i64 v1 imm=0x18
  store.i32 v10, v7
  goto.void imm=0x9",
    ),
    (
        "add [rbx+8], eax",
        "guest.void aux=0x3
  v1 = getreg.i64 imm=0x3
  v2 = lea.i64 v1 imm=0x8
  v3 = loadw.i32 v2
  v4 = getreg.i32
  v5 = add.i32 v3, v4
  storew.i32 v3, v5
  v7 = flagsof.flags v5 imm=0x8d5
  setflags.void v7
  goto.void imm=0x3",
    ),
    (
        "push rbp; mov rbp, rsp",
        "guest.void aux=0x1
  v1 = getreg.i64 imm=0x4
  v2 = lea.i64 v1 imm=0xfffffffffffffff8
  v3 = getreg.i64 imm=0x5
  store.i64 v2, v3 aux=0x1
  setreg.i64 v2 imm=0x4
guest.void imm=0x1 aux=0x3
  setreg.i64 v2 imm=0x5
  goto.void imm=0x4",
    ),
    (
        "push edi; push esi; mov esi, eax (32 bits)",
        "guest.void aux=0x1
  v1 = getreg.i32 imm=0x7
  v2 = getreg.i32 imm=0x4
  v3 = lea.i32 v2 imm=0xfffffffffffffffc
  v4 = zext.i64 v3
  store.i32 v4, v1 aux=0x1
  setreg.i32 v3 imm=0x4
guest.void imm=0x1 aux=0x1
  v8 = getreg.i32 imm=0x6
  v9 = lea.i32 v3 imm=0xfffffffffffffffc
  v10 = zext.i64 v9
  store.i32 v10, v8 aux=0x1
  setreg.i32 v9 imm=0x4
guest.void imm=0x2 aux=0x2
  v14 = getreg.i32
  setreg.i32 v14 imm=0x6
  goto.void imm=0x4",
    ),
    (
        "ret",
        "guest.void aux=0x1
  v1 = getreg.i64 imm=0x4
  v2 = load.i64 v1 aux=0x1
  v3 = lea.i64 v1 imm=0x8
  setreg.i64 v3 imm=0x4
  gotoreg.void v2 aux=0x2",
    ),
    (
        "inc rcx; shl eax, 4; xor edx, edx",
        "guest.void aux=0x3
  v1 = getreg.i64 imm=0x1
  v2 = const.i64 imm=0x1
  v3 = add.i64 v1, v2
  v4 = flagsof.flags v3 imm=0x8d4
  v5 = getflags.flags
  v6 = mergeflags.flags v4, v5 imm=0x8d4
  setreg.i64 v3 imm=0x1
  setflags.void v6
guest.void imm=0x3 aux=0x3
  v10 = getreg.i32
  v11 = const.i8 imm=0x4
  v12 = shl.i32 v10, v11
  setreg.i32 v12
guest.void imm=0x6 aux=0x2
  v15 = const.i32
  setreg.i32 v15 imm=0x2
  goto.void imm=0x8",
    ),
    (
        "add rax, rbx; mov rcx, [rsi]; adc rdx, 0",
        "guest.void aux=0x3
  v1 = getreg.i64
  v2 = getreg.i64 imm=0x3
  v3 = add.i64 v1, v2
  setreg.i64 v3
  v5 = flagsof.flags v3 imm=0x8d5
  setflags.void v5 aux=0x1
guest.void imm=0x3 aux=0x3
  v8 = getreg.i64 imm=0x6
  v9 = load.i64 v8
  setreg.i64 v9 imm=0x1
guest.void imm=0x6 aux=0x4
  v12 = getreg.i64 imm=0x2
  v13 = const.i64
  v14 = adc.i64 v12, v13, v5
  setreg.i64 v14 imm=0x2
  v16 = flagsof.flags v14 imm=0x8d5
  setflags.void v16
  goto.void imm=0xa",
    ),
    (
        "imul rax, rbx; mov [rsi], rax; cmp rax, 10; jne back",
        "guest.void aux=0x4
  v1 = getreg.i64
  v2 = getreg.i64 imm=0x3
  v3 = mul.i64 v1, v2
  setreg.i64 v3
  v5 = flagsof.flags v3 imm=0x8d5
  setflags.void v5 aux=0x1
guest.void imm=0x4 aux=0x3
  v8 = getreg.i64 imm=0x6
  store.i64 v8, v3
guest.void imm=0x7 aux=0x4
  v11 = const.i64 imm=0xa
  v12 = sub.i64 v3, v11
  v13 = flagsof.flags v12 imm=0x8d5
  setflags.void v13
guest.void imm=0xb aux=0x2
  v16 = testcc.bool v13 imm=0x5
  branch.void v16 aux=0xd",
    ),
    (
        "addsd xmm0, xmm1",
        "guest.void aux=0x4
  v1 = getvec.v128
  v2 = getvec.v128 imm=0x1
  v3 = fp.v128:addsd v1, v2
  setvec.v128 v3
  goto.void imm=0x4",
    ),
    (
        "movsd xmm1, [rdi+rcx*8]; mulsd xmm1, [rsi+rcx*8]; addsd xmm0, xmm1; inc rcx; cmp rcx, rdx; jne back",
        "guest.void aux=0x5
  v1 = getreg.i64 imm=0x7
  v2 = getreg.i64 imm=0x1
  v3 = lea.i64 v1, v2 aux=0x3
  v4 = load.i64 v3
  v5 = vec1.v128:fromint v4
  setvec.v128 v5 imm=0x1
guest.void imm=0x5 aux=0x5
  v8 = getreg.i64 imm=0x6
  v9 = lea.i64 v8, v2 aux=0x3
  v10 = load.i64 v9
  v11 = vec1.v128:fromint v10
  v12 = fp.v128:mulsd v5, v11
  setvec.v128 v12 imm=0x1
guest.void imm=0xa aux=0x4
  v15 = getvec.v128
  v16 = fp.v128:addsd v15, v12
  setvec.v128 v16
guest.void imm=0xe aux=0x3
  v19 = const.i64 imm=0x1
  v20 = add.i64 v2, v19
  setreg.i64 v20 imm=0x1
guest.void imm=0x11 aux=0x3
  v23 = getreg.i64 imm=0x2
  v24 = sub.i64 v20, v23
  v25 = flagsof.flags v24 imm=0x8d5
  setflags.void v25
guest.void imm=0x14 aux=0x2
  v28 = testcc.bool v25 imm=0x5
  branch.void v28 aux=0x16",
    ),
    (
        "movapd xmm4, xmm0; mulsd xmm4, xmm0; movapd xmm5, xmm1; mulsd xmm5, xmm1; mulsd xmm1, xmm0; subsd xmm4, xmm5; \
         addsd xmm1, xmm1; addsd xmm4, xmm2; addsd xmm1, xmm3; movapd xmm0, xmm4",
        "guest.void aux=0x4
  v1 = getvec.v128
  setvec.v128 v1 imm=0x4
guest.void imm=0x4 aux=0x4
  v4 = fp.v128:mulsd v1, v1
  setvec.v128 v4 imm=0x4
guest.void imm=0x8 aux=0x4
  v7 = getvec.v128 imm=0x1
  setvec.v128 v7 imm=0x5
guest.void imm=0xc aux=0x4
  v10 = fp.v128:mulsd v7, v7
  setvec.v128 v10 imm=0x5
guest.void imm=0x10 aux=0x4
  v13 = fp.v128:mulsd v7, v1
  setvec.v128 v13 imm=0x1
guest.void imm=0x14 aux=0x4
  v16 = fp.v128:subsd v4, v10
  setvec.v128 v16 imm=0x4
guest.void imm=0x18 aux=0x4
  v19 = fp.v128:addsd v13, v13
  setvec.v128 v19 imm=0x1
guest.void imm=0x1c aux=0x4
  v22 = getvec.v128 imm=0x2
  v23 = fp.v128:addsd v16, v22
  setvec.v128 v23 imm=0x4
guest.void imm=0x20 aux=0x4
  v26 = getvec.v128 imm=0x3
  v27 = fp.v128:addsd v19, v26
  setvec.v128 v27 imm=0x1
guest.void imm=0x24 aux=0x4
  setvec.v128 v23
  goto.void imm=0x28",
    ),
    (
        "ucomisd xmm0, xmm1; ja back",
        "guest.void aux=0x4
  v1 = getvec.v128
  v2 = getvec.v128 imm=0x1
  v3 = fp.flags:ucomisd v1, v2
  setflags.void v3
guest.void imm=0x4 aux=0x2
  v6 = testcc.bool v3 imm=0x7
  branch.void v6 aux=0x6",
    ),
    (
        "paddd xmm0, [rbx]",
        "guest.void aux=0x4
  v1 = getreg.i64 imm=0x3
  checkalign.void v1 imm=0x10
  v3 = load.v128 v1
  v4 = getvec.v128
  v5 = vec2.v128:paddd v4, v3
  setvec.v128 v5
  goto.void imm=0x4",
    ),
];

fn parse(name: &str, ir: &str) -> Block {
    let insns = ir.matches("guest.void").count();
    let block = format!("block phys=0x1000 rip=0x1000 mode=0x1b7 len=9 insns={insns}\n{ir}\n");
    let block: Block = block.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
    emu_core::ir::verify(&block).unwrap_or_else(|e| panic!("{name}: {e}"));
    block
}

fn compare(text: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jit").join(file);
    if std::env::var_os("CALQUE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == want, "host code changed (CALQUE_BLESS=1 records it):\n{text}");
}

/// Number of instructions from a block's start to the jump that ends it, conditional branches not taken.
fn usual_way(code: &[u8]) -> usize {
    let ends = |w: &[u8]| w[3] >> 2 == 5 || w[3] == 0xd6;
    code.chunks(4).position(ends).unwrap_or(0) + 1
}

/// Puts the table of what the usual way through each block costs into `docs/arm-code.md`, or compares.
fn compare_table(rows: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/arm-code.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- blocks -->\n", "<!-- end of blocks -->\n");
    let (from, to) = (page.find(begin).unwrap() + begin.len(), page.find(end).unwrap());
    let heading = "| guest code | instructions | of the Arm host's | for each |\n|---|---|---|---|\n";
    let want = format!("{}{heading}{rows}{}", &page[..from], &page[to..]);
    if std::env::var_os("CALQUE_BLESS").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page == want, "docs/arm-code.md is out of date (CALQUE_BLESS=1 writes it):\n{rows}");
}

/// Instruction words, as `aarch64-linux-gnu-objdump -D -b binary -m aarch64` takes them after `xxd -r -p`; branches out of
/// the block lead where this build has its trampolines, and are not told.
#[test]
fn arm_code_is_as_recorded() {
    let cfg = JitConfig { count_insns: false, ..JitConfig::default() };
    let mut codegen = Codegen::new(&cfg).unwrap();
    codegen.prologue();
    let (mut text, mut rows) = (String::new(), String::new());
    for (name, ir) in CASES {
        let place = Place { base: 0x10000, cold_end: None, first_exit: 0, first_site: 0, door: false };
        codegen.compile(&parse(name, ir), place).unwrap();
        let code = codegen.code();
        let (arm, guest) = (usual_way(code), ir.matches("guest.void").count());
        let _ = writeln!(text, "; {name}: {arm}");
        let _ = writeln!(rows, "| `{name}` | {guest} | {arm} | {:.1} |", arm as f64 / guest as f64);
        for (i, w) in code.chunks(4).enumerate() {
            let word = u32::from_le_bytes(w.try_into().unwrap());
            let to = i as i64 + i64::from((word << 6) as i32 >> 6);
            let leaves = word & 0x7c00_0000 == 0x1400_0000 && !(0..code.len() as i64 / 4).contains(&to);
            let _ = match leaves {
                true => writeln!(text, "{}", if word >> 31 != 0 { "bl out" } else { "b out" }),
                false => writeln!(text, "{:08x}", word.swap_bytes()),
            };
        }
        text.push('\n');
    }
    compare(&text, "golden_arm.txt");
    compare_table(&rows);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn host_code_is_as_recorded() {
    use crate::{disassemble, joined};
    use backend_jit::Jit;
    let known = std::is_x86_feature_detected!("avx")
        && std::is_x86_feature_detected!("lzcnt")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2");
    // The code is that of hosts which let programs change the base of GS.
    if !known || !cfg!(target_os = "linux") || rustix::param::linux_hwcap().1 & 2 == 0 {
        return;
    }
    let mut text = String::new();
    for (name, ir) in CASES {
        let cfg = JitConfig { count_insns: false, stubs_apart: false, ..JitConfig::default() };
        let mut jit = Jit::new(cfg).unwrap();
        let id = jit.compile(&parse(name, ir)).unwrap();
        let code = disassemble(&joined(&jit, id));
        let _ = writeln!(text, "; {name}\n{code}");
    }
    compare(&text, "golden.txt");
}

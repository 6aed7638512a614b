//! Programs that keep changing an immediate of their own code, on every engine: the results are the interpreter's, and
//! translated code stays while only what it reads as data changes.

use calque::embed::{CpuMode, End, Kind, Perms, Reg, Stop, Vm, VmConfig};
use calque::engines::switches::Off;

const CODE: u64 = 0x1000;
const DATA: u64 = 0x8000;

/// A machine in 64-bit mode with `code` at [`CODE`], which may be written.
fn machine(kind: Kind, code: &[u8]) -> Vm {
    let mut vm = Vm::new(VmConfig::new(CpuMode::Long64).engine(kind)).expect("a processor");
    vm.map(CODE, 0x1000, Perms::RWX).expect("code");
    vm.map(DATA, 0x2000, Perms::RW).expect("data");
    vm.write(CODE, code).expect("code");
    vm.set(Reg::gpr(4), DATA + 0x1ff0).expect("RSP");
    vm.set(Reg::Rip, CODE).expect("RIP");
    vm
}

/// Whether it came to the UD2 at the end.
fn ended(end: End) -> bool {
    matches!(end, End::Exception(e) if e.vector == 6)
}

/// How it ended, registers, and the code as it is then.
fn outcome(vm: &mut Vm) -> (End, Vec<u64>, Vec<u8>) {
    let run = vm.run(Stop { rip: None, max_insns: 100_000 });
    let regs = (0..16).map(Reg::gpr).chain([Reg::Rip, Reg::Rflags]).map(|r| vm.get(r)).collect();
    let mut code = vec![0; 0x200];
    vm.read(CODE, &mut code).expect("code");
    (run.end, regs, code)
}

/// RCX rounds of: a store of a new value (EDX) to `patch` bytes behind the start of the code, `body`, a step of EDX. The
/// loop's tail is apart, in a chunk of its own, so that the body is a block by itself.
fn program(rounds: u32, patch: u32, store: &[u8], body: &[u8]) -> Vec<u8> {
    let mut code = vec![0x90; 0x180];
    let mut put = |at: usize, bytes: &[u8]| code[at..at + bytes.len()].copy_from_slice(bytes);
    let jump = |from: usize, to: usize| [&[0xe9][..], &(to as i32 - from as i32 - 5).to_le_bytes()].concat();
    // mov ecx, rounds; mov edx, 0x1234567; jmp loop
    put(0, &[&[0xb9][..], &rounds.to_le_bytes(), &[0xba, 0x67, 0x45, 0x23, 0x01]].concat());
    put(10, &jump(10, 0x40));
    // loop: store to [rip + …]; jmp body
    let end = 0x40 + store.len() + 4;
    put(0x40, store);
    put(0x40 + store.len(), &(patch as i32 - end as i32).to_le_bytes());
    put(end, &jump(end, 0x80));
    put(0x80, body);
    put(0x80 + body.len(), &jump(0x80 + body.len(), 0x100));
    // imul edx, edx, 0x19660d; dec ecx; jnz loop; ud2
    put(0x100, b"\x69\xd2\x0d\x66\x19\x00\xff\xc9\x0f\x85");
    put(0x10a, &(0x40i32 - 0x10e).to_le_bytes());
    put(0x10e, b"\x0f\x0b");
    code
}

fn engines() -> Vec<Kind> {
    let words_off = Kind::JitWithout(Off::named(&["words"]).expect("a switch"));
    Kind::ALL.into_iter().chain([words_off]).collect()
}

/// Of how many instructions in a hundred the translator took care.
fn translated(vm: &Vm) -> u64 {
    let (translated, interpreted) = vm.counts();
    100 * translated / (translated + interpreted)
}

#[test]
fn engines_agree_on_changing_immediates() {
    let (dword, byte): (&[u8], &[u8]) = (b"\x89\x15", b"\x88\x15");
    // (patched byte, the store, the body)
    let cases: [(u32, &[u8], &[u8]); 7] = [
        // add esi, imm32
        (0x82, dword, b"\x81\xc6\x01\x02\x03\x04"),
        // lea edi, [rsi+disp32]; xor esi, edi
        (0x82, dword, b"\x8d\xbe\x01\x02\x03\x04\x31\xfe"),
        // mov al, imm8; add esi, eax
        (0x81, byte, b"\xb0\x01\x01\xc6"),
        // The store is in the block that it changes: mov [rip+2], edx; add esi, imm32
        (0x100, dword, b"\x89\x15\x02\x00\x00\x00\x81\xc6\x01\x02\x03\x04"),
        // A part of the immediate: one byte in the middle. mov [rip+3], dl; add esi, imm32; add edi, esi
        (0x100, dword, b"\x88\x15\x03\x00\x00\x00\x81\xc6\x01\x02\x03\x04\x01\xf7"),
        // Two in one chunk, one changed by the block before and one by the block itself.
        (0x82, dword, b"\x81\xc6\x01\x02\x03\x04\x88\x15\x01\x00\x00\x00\xb0\x05\x01\xc6"),
        // Data in the chunk: mov [rip+8], edx; add esi, [rip+2]; jmp +4; data
        (0x100, dword, b"\x89\x15\x08\x00\x00\x00\x03\x35\x02\x00\x00\x00\xeb\x04\x01\x02\x03\x04"),
    ];
    for (n, (patch, store, body)) in cases.into_iter().enumerate() {
        // A store elsewhere than in the body goes to the data behind the code.
        let patch = if patch == 0x100 { 0x140 } else { patch };
        let code = program(300, patch, store, body);
        let want = outcome(&mut machine(Kind::Interp, &code));
        assert!(ended(want.0), "case {n}: {:?}", want.0);
        for kind in engines() {
            let mut vm = machine(kind, &code);
            assert_eq!(outcome(&mut vm), want, "case {n}, {}", kind.name());
            if kind == Kind::Jit {
                assert!(translated(&vm) >= 90, "case {n}: {} in a hundred translated", translated(&vm));
            }
        }
    }
}

#[test]
fn engines_agree_when_opcodes_change_as_well() {
    // In turn the immediate of `add esi, imm32` and its opcode: the byte between the two is 0xc6 (add) or 0xf6 (xor esi).
    let body = b"\x81\xc6\x01\x02\x03\x04\x80\x35\xf4\xff\xff\xff\x30";
    let code = program(300, 0x82, b"\x89\x15", body);
    let want = outcome(&mut machine(Kind::Interp, &code));
    assert!(ended(want.0), "{:?}", want.0);
    for kind in engines() {
        assert_eq!(outcome(&mut machine(kind, &code)), want, "{}", kind.name());
    }
}

#[test]
fn a_store_from_outside_is_seen() {
    // mov eax, imm32; add esi, eax, in a block that has words by then.
    let code = program(50, 0x81, b"\x89\x15", b"\xb8\x01\x02\x03\x04\x01\xc6");
    for kind in engines() {
        let mut vm = machine(kind, &code);
        assert!(ended(outcome(&mut vm).0));
        // The store itself becomes nothing, and the immediate another; then the opcode: sub esi, eax.
        for (at, bytes, want) in
            [(0x40, &b"\x0f\x1f\x44\x00\x00\x90"[..], 0x10), (0x85, b"\x29", (-16i32) as u32)]
        {
            vm.write(CODE + at, bytes).expect("code");
            vm.write(CODE + 0x81, &1u32.to_le_bytes()).expect("code");
            for (reg, value) in [(Reg::gpr(6), 0), (Reg::gpr(1), 16), (Reg::Rip, CODE + 0x40)] {
                vm.set(reg, value).expect("a register");
            }
            assert!(ended(outcome(&mut vm).0));
            assert_eq!(vm.get(Reg::gpr(6)) as u32, want, "{}", kind.name());
        }
    }
}

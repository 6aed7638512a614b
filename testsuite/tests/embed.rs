//! The library as its users see it: hooks change nothing, misuse is an error, a thousand instances fit, examples run.

use calque::embed::{Action, CpuMode, End, Kind, MemoryKind, Perms, Reg, Stop, Vm, VmConfig, VmError};
use std::sync::{Arc, Mutex};

#[path = "../../calque/examples/embed-basic.rs"]
mod basic;
#[path = "../../calque/examples/embed-hooks.rs"]
mod hooks;

#[test]
fn the_examples_run() {
    basic::main().expect("embed-basic");
    hooks::main().expect("embed-hooks");
}

/// A loop with memory, a call, string instructions and a fault at its end.
const PROGRAM: &[u8] =
    b"\xb9\x05\0\0\0\x01\xc8\x89\x06\x83\xc6\x04\xe8\x02\0\0\0\xeb\x05\x93\x8b\x1e\xc3\x90\
\xe2\xeb\xb9\x09\0\0\0\xf3\xaa\x0f\x0b";

fn machine(kind: Kind) -> Vm {
    let mut vm = Vm::new(VmConfig::new(CpuMode::Prot32).engine(kind)).expect("a processor");
    vm.map(0x1000, 0x1000, Perms::RX).expect("code");
    vm.map(0x8000, 0x2000, Perms::RW).expect("data");
    vm.write(0x1000, PROGRAM).expect("code");
    for (reg, value) in [(6, 0x8000), (7, 0x8800), (4, 0x9ff0)] {
        vm.set(Reg::gpr(reg), value).expect("a register");
    }
    vm.set(Reg::Rip, 0x1000).expect("RIP");
    vm
}

/// Everything that can be seen at the end, but the count, which engines take differently for REP.
fn outcome(vm: &mut Vm) -> (End, Vec<u64>, Vec<u8>) {
    let run = vm.run(Stop { rip: None, max_insns: 1000 });
    let mut memory = vec![0; 0x2000];
    vm.read(0x8000, &mut memory).expect("data");
    let regs = (0..8).map(Reg::gpr).chain([Reg::Rip, Reg::Rflags]).map(|r| vm.get(r)).collect();
    (run.end, regs, memory)
}

#[test]
fn results_are_the_same_with_and_without_hooks_on_every_engine() {
    let want = outcome(&mut machine(Kind::Interp));
    assert!(matches!(want.0, End::Exception(e) if e.vector == 6), "{:?}", want.0);
    for kind in [Kind::Interp, Kind::Eval, Kind::Jit] {
        assert_eq!(outcome(&mut machine(kind)), want, "{}", kind.name());
        let mut vm = machine(kind);
        let seen = Arc::new(Mutex::new([0u32; 5]));
        let count = |n: usize| {
            let seen = seen.clone();
            move || seen.lock().expect("no panic")[n] += 1
        };
        let (code, block, reads, writes, irq) = (count(0), count(1), count(2), count(3), count(4));
        vm.on_code(move |_, c| {
            assert_ne!(c.len, 0);
            code();
            Action::Continue
        });
        vm.on_block(move |_, _| {
            block();
            Action::Continue
        });
        vm.on_memory(move |_, m| {
            match m.kind {
                MemoryKind::Read => reads(),
                MemoryKind::Write => writes(),
                MemoryKind::Fetch => {}
            }
            Action::Continue
        });
        vm.on_interrupt(move |_, i| {
            assert_eq!((i.vector, i.software), (6, false));
            irq();
            Action::Continue
        });
        vm.on_syscall(|_, _| Action::Stop);
        assert_eq!(outcome(&mut vm), want, "{} with hooks", kind.name());
        let [code, block, reads, writes, irq] = *seen.lock().expect("no panic");
        // Five rounds: a store, a call, a load and a return; then nine bytes.
        assert_eq!((reads, writes, irq), (10, 19, 1));
        assert!(code >= 49 && block > 15, "{code} {block}");
    }
}

#[test]
fn limits_and_stops_are_exact_on_every_engine() {
    for kind in [Kind::Interp, Kind::Eval, Kind::Jit] {
        for n in [0, 1, 3, 7] {
            let mut vm = machine(kind);
            let run = vm.run(Stop { rip: None, max_insns: n });
            assert_eq!((run.end, run.insns), (End::Limit, n), "{}", kind.name());
        }
        let mut vm = machine(kind);
        let run = vm.run(Stop { rip: Some(0x1007), max_insns: 1000 });
        assert_eq!((run.end, run.insns, vm.get(Reg::Rip)), (End::Rip, 2, 0x1007), "{}", kind.name());
    }
}

#[test]
fn a_missing_page_can_be_brought_and_its_instruction_goes_on() {
    let mut vm = machine(Kind::Jit);
    vm.set(Reg::gpr(6), 0x2_0000).expect("a register");
    vm.on_fault(|vm, f| {
        assert_eq!((f.addr, f.kind), (0x2_0000, MemoryKind::Write));
        vm.map(0x2_0000, 0x1000, Perms::RW).expect("a page");
        Action::Handled
    });
    let run = vm.run(Stop { rip: None, max_insns: 1000 });
    assert!(matches!(run.end, End::Exception(e) if e.vector == 6), "{run:?}");
}

#[test]
fn misuse_is_an_error_that_says_what() {
    let mut vm = machine(Kind::Interp);
    assert!(matches!(vm.map(0x10, 0x1000, Perms::RW), Err(VmError::Unaligned { .. })));
    assert!(matches!(vm.map(1 << 40, 0x1000, Perms::RW), Err(VmError::OutOfRange { .. })));
    assert!(matches!(vm.map(0, 1 << 31, Perms::RW), Err(VmError::Full(_))));
    assert!(matches!(vm.write(0x9fff, &[1, 2]), Err(VmError::NotMapped { addr: 0xa000 })));
    assert!(matches!(vm.set(Reg::Cr(0), 0), Err(VmError::BadValue { .. })));
    assert!(matches!(vm.reset(CpuMode::V86, 0), Err(VmError::BadValue { .. })));
}

#[test]
fn a_thousand_instances_fit_in_one_process() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
    };
    let before = resident();
    let mut all: Vec<Vm> = (0..1000).map(|_| machine(Kind::Interp)).collect();
    let want = outcome(&mut machine(Kind::Interp));
    for vm in &mut all {
        assert_eq!(outcome(vm), want);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = (after - before) / 1000;
        eprintln!("{each} bytes for each instance");
        assert!(each < 512 << 10, "{each} bytes for each instance");
    }
}

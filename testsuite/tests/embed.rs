//! The library as its users see it: hooks change nothing, misuse is an error, a thousand instances fit, examples run.

use calque::embed::{Action, CpuMode, End, Kind, MemoryKind, Perms, Reg, Stop, Vm, VmConfig, VmError};
use emu_core::features::Features;
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
    assert!(matches!(vm.set(Reg::Dr(7), 1 << 32), Err(VmError::BadValue { .. })));
    let pentium =
        VmConfig { features: Features::parse("pentium").expect("a model"), ..VmConfig::new(CpuMode::Long64) };
    assert!(matches!(Vm::new(pentium), Err(VmError::NoLongMode("long64"))));
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

/// IN, OUT, a read, a write, INT3 and SYSCALL, whose handler returns: code and state for long mode.
fn with_system(kind: Kind) -> Vm {
    let mut vm = Vm::new(VmConfig::new(CpuMode::Long64).engine(kind)).expect("a processor");
    vm.map(0x1000, 0x2000, Perms::RX).expect("code");
    vm.map(0x8000, 0x1000, Perms::RW).expect("data");
    // in al,0x80; out 0x81,al; add [rsi],eax; mov ebx,[rsi]; syscall; inc ebx; int3; and sysretq at the handler.
    vm.write(0x1000, b"\xe4\x80\xe6\x81\x01\x06\x8b\x1e\x0f\x05\xff\xc3\xcc").expect("code");
    vm.write(0x2000, b"\xff\xc0\x48\x0f\x07").expect("code");
    for (reg, value) in [
        (Reg::gpr(6), 0x8000),
        (Reg::gpr(4), 0x8ff0),
        (Reg::Rip, 0x1000),
        (Reg::Rflags, 0x3202),
        (Reg::Msr(0xc000_0081), 0x0023_0010_0000_0000),
        (Reg::Msr(0xc000_0082), 0x2000),
        (Reg::Msr(0xc000_0084), 0x200),
    ] {
        vm.set(reg, value).expect("a register");
    }
    vm
}

fn seen(vm: &mut Vm) -> (End, u64, Vec<u64>, [u8; 16]) {
    let run = vm.run(Stop { rip: None, max_insns: 100 });
    let mut memory = [0; 16];
    vm.read(0x8000, &mut memory).expect("data");
    let regs = (0..16).map(Reg::gpr).chain([Reg::Rip, Reg::Rflags, Reg::Cr(2)]);
    (run.end, run.insns, regs.map(|r| vm.get(r)).collect(), memory)
}

#[test]
fn every_kind_of_hook_sees_the_run_that_there_is_without_it() {
    let want = seen(&mut with_system(Kind::Interp));
    assert!(matches!(want.0, End::Exception(e) if e.vector == 3), "{want:?}");
    for kind in [Kind::Interp, Kind::Eval, Kind::Jit] {
        assert_eq!(seen(&mut with_system(kind)), want, "{}", kind.name());
        // One hook alone, and then all together.
        for which in 0..=7 {
            let mut vm = with_system(kind);
            let log = Arc::new(Mutex::new(Vec::new()));
            let note = |what: &'static str| {
                let log = log.clone();
                move || log.lock().expect("no panic").push(what)
            };
            let on = |n: usize| which == n || which == 7;
            if on(0) {
                let note = note("code");
                vm.on_code(move |_, _| {
                    note();
                    Action::Continue
                });
            }
            if on(1) {
                let note = note("block");
                vm.on_block(move |_, _| {
                    note();
                    Action::Continue
                });
            }
            if on(2) {
                let notes = [note("read"), note("write"), note("fetch")];
                vm.on_memory(move |_, m| {
                    let [read, write, fetch] = &notes;
                    match m.kind {
                        MemoryKind::Read => read(),
                        MemoryKind::Write => write(),
                        MemoryKind::Fetch => fetch(),
                    }
                    Action::Continue
                });
            }
            if on(3) {
                vm.on_fault(|_, f| panic!("{f:?}"));
            }
            if on(4) {
                let note = note("interrupt");
                vm.on_interrupt(move |_, i| {
                    assert_eq!((i.vector, i.software), (3, true));
                    note();
                    Action::Continue
                });
            }
            if on(5) {
                let notes = [note("in"), note("out")];
                vm.on_io(move |a| {
                    assert_eq!((a.port, a.size), (0x80 + u16::from(a.write), 1));
                    notes[usize::from(a.write)]();
                    a.value
                });
            }
            if on(6) {
                let note = note("syscall");
                vm.on_syscall(move |_, s| {
                    assert_eq!((s.addr, s.sysenter), (0x1008, false));
                    note();
                    Action::Continue
                });
            }
            assert_eq!(seen(&mut vm), want, "{} with hook {which}", kind.name());
            let log = log.lock().expect("no panic");
            let times = |what| log.iter().filter(|w| **w == what).count();
            let alone = |n: usize, count: usize| if on(n) { count } else { 0 };
            for (what, n, count) in [
                ("code", 0, 9),
                ("block", 1, 3),
                ("fetch", 2, 9),
                ("read", 2, 2),
                ("write", 2, 1),
                ("interrupt", 4, 1),
                ("in", 5, 1),
                ("out", 5, 1),
                ("syscall", 6, 1),
            ] {
                assert_eq!(times(what), alone(n, count), "{what} with hook {which}: {log:?}");
            }
        }
    }
}

#[test]
fn contexts_are_saved_and_restored() {
    for kind in [Kind::Interp, Kind::Eval, Kind::Jit] {
        let mut vm = machine(kind);
        vm.set_vector(5, [1, 2, 3, 4]);
        assert_eq!(vm.run(Stop { rip: None, max_insns: 7 }).end, End::Limit);
        let context = vm.save();
        let mut memory = vec![0; 0x2000];
        vm.read(0x8000, &mut memory).expect("data");
        let want = outcome(&mut vm);
        // Memory is not part of a context.
        for _ in 0..2 {
            vm.write(0x8000, &memory).expect("data");
            vm.set_vector(5, [9; 4]);
            vm.restore(&context);
            assert_eq!(vm.vector(5), [1, 2, 3, 4]);
            assert_eq!(outcome(&mut vm), want, "{}", kind.name());
        }
        // In another processor, too, of another engine.
        let mut other = machine(Kind::Interp);
        other.write(0x8000, &memory).expect("data");
        other.restore(&context);
        assert_eq!(outcome(&mut other), want, "{}", kind.name());
    }
}

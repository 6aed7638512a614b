//! A bare processor with hooks: a program that asks its embedder for output, one page at a time.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

use calque::embed::{Action, CpuMode, End, Perms, Reg, Stop, Vm, VmConfig, VmError};
use std::sync::atomic::{AtomicU64, Ordering};

static WRITTEN: AtomicU64 = AtomicU64::new(0);

pub fn main() -> Result<(), VmError> {
    let mut vm = Vm::new(VmConfig::new(CpuMode::Long64))?;
    vm.map(0x40_0000, 0x1000, Perms::RX)?;
    // mov byte [rsi],'h'; mov byte [rsi+1],'i'; syscall; hlt
    vm.write(0x40_0000, b"\xc6\x06h\xc6\x46\x01i\x0f\x05\xf4")?;
    vm.set(Reg::Rip, 0x40_0000)?;
    vm.set(Reg::gpr(6), 0x50_0000)?;
    // Memory appears as it is touched.
    vm.on_fault(|vm, fault| match vm.map(fault.addr & !0xfff, 0x1000, Perms::RW) {
        Ok(()) => Action::Handled,
        Err(_) => Action::Continue,
    });
    vm.on_syscall(|vm, _| {
        let mut text = [0; 2];
        if vm.read(vm.get(Reg::gpr(6)), &mut text).is_err() {
            return Action::Stop;
        }
        println!("the guest says {}", String::from_utf8_lossy(&text));
        WRITTEN.fetch_add(text.len() as u64, Ordering::Relaxed);
        Action::Handled
    });
    let run = vm.run(Stop::default());
    // HLT is for the system alone, so a program ends with #GP there.
    assert!(matches!(run.end, End::Exception(e) if e.vector == 13), "{run:?}");
    assert_eq!((run.insns, WRITTEN.load(Ordering::Relaxed)), (3, 2));
    Ok(())
}

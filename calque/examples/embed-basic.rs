//! A bare processor: a function called with arguments in registers, on each engine, from a saved context.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

use calque::embed::{CpuMode, End, Kind, Perms, Reg, Stop, Vm, VmConfig, VmError};

/// lea eax,[rdi+rdi*4]; add eax,esi; ret
const FUNCTION: &[u8] = b"\x8d\x04\xbf\x01\xf0\xc3";
const BACK: u64 = 0x1000;

pub fn main() -> Result<(), VmError> {
    for engine in [Kind::Interp, Kind::Eval, Kind::Jit] {
        let mut vm = Vm::new(VmConfig::new(CpuMode::Long64).engine(engine))?;
        vm.map(0x40_0000, 0x1000, Perms::RX)?;
        vm.map(0x50_0000, 0x1000, Perms::RW)?;
        vm.write(0x40_0000, FUNCTION)?;
        vm.write(0x50_0ff0, &BACK.to_le_bytes())?;
        vm.set(Reg::gpr(4), 0x50_0ff0)?;
        vm.set(Reg::Rip, 0x40_0000)?;
        let context = vm.save();
        for (a, b) in [(3, 4), (100, 1)] {
            vm.restore(&context);
            vm.set(Reg::gpr(7), a)?;
            vm.set(Reg::gpr(6), b)?;
            let run = vm.run(Stop { rip: Some(BACK), max_insns: 100 });
            assert_eq!((run.end, run.insns), (End::Rip, 3));
            assert_eq!(vm.get(Reg::gpr(0)), 5 * a + b);
            println!("{}: 5*{a}+{b} = {}", engine.name(), vm.get(Reg::gpr(0)));
        }
    }
    Ok(())
}

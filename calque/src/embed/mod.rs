//! The library: a bare processor with memory, for programs that want to run x86 code.
//!
//! [`Vm`] is one processor with its own memory and engine. Map memory, write code, set registers, run to a HLT, an
//! address or a number of instructions; an exception of the guest is an [`End`], and misuse a [`VmError`]. Nothing here
//! ends the process or prints. Instances share nothing, and a thousand fit in one process.
//!
//! ```
//! use calque::embed::{CpuMode, End, Perms, Reg, Stop, Vm, VmConfig};
//!
//! let mut vm = Vm::new(VmConfig::new(CpuMode::Long64))?;
//! vm.map(0x40_0000, 0x1000, Perms::RX)?;
//! vm.write(0x40_0000, &[0x48, 0x01, 0xd8, 0xf4])?; // add rax,rbx; hlt
//! vm.set(Reg::gpr(0), 40)?;
//! vm.set(Reg::gpr(3), 2)?;
//! vm.set(Reg::Rip, 0x40_0000)?;
//! let run = vm.run(Stop::default());
//! assert_eq!((run.end, vm.get(Reg::gpr(0))), (End::Halted, 42));
//! # Ok::<(), calque::embed::VmError>(())
//! ```
//!
//! **Memory.** In every mode but real mode, unless CR3 is set by hand, addresses are linear and calque keeps the page
//! tables, with the rights given to [`Vm::map`]. They lie where no address leads. In [`CpuMode::Real16`], and after
//! [`Vm::own_tables`], addresses are physical and everything up to the size of memory is RAM.
//!
//! **Exceptions** end a run as [`End::Exception`] before anything is pushed, so no handlers are needed, unless
//! [`Vm::deliver_exceptions`] sends them through the guest's IDT.
//!
//! **Hooks** see the same run that there would be without them: with any hook that needs single instructions the
//! interpreter runs, whose results are those of every other engine.

mod error;
mod hooks;
mod modes;
mod regs;
mod run;
mod space;
mod vm;

pub use crate::engines::driver::Kind;
pub use error::VmError;
pub use hooks::{Action, Block, Code, Interrupt, IoAccess, Memory, MemoryKind, PageFault, Syscall};
pub use modes::CpuMode;
pub(crate) use regs::MSRS;
pub use regs::{Reg, Seg, Segment, Table};
pub use run::{End, ExceptionInfo, Run, Stop};
pub use space::Perms;
pub use vm::{Context, Vm, VmConfig};

//! Hooks: what an embedder may watch, and where it may step in.
//!
//! A hook is a closure that gets the [`Vm`] and an event. It may read and write registers and memory. With no hook that
//! changes anything, a run is the same as without hooks: the tests compare.

use super::vm::Vm;

/// What is to happen after a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// What would happen without the hook.
    Continue,
    /// End the run here, as [`super::End::Hook`]: before the instruction, for those called before it.
    Stop,
    /// The hook has dealt with it: an interrupt is not delivered, a page fault's instruction is tried again, SYSCALL
    /// counts as done. Elsewhere the same as `Continue`.
    Handled,
}

/// An instruction that is about to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// Its linear address.
    pub addr: u64,
    /// Its length in bytes, 0 when it cannot be fetched or decoded.
    pub len: u8,
}

/// The first instruction of a basic block, about to run: where a run starts, and after every branch, call, return,
/// interrupt, taken or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its linear address.
    pub addr: u64,
}

/// How memory was accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryKind {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Fetched as an instruction.
    Fetch,
}

/// An access that an instruction has made. Operands wider than 8 bytes are several accesses; a fetch is told with the
/// whole instruction, before it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// How.
    pub kind: MemoryKind,
    /// Linear address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u8,
    /// What was read or written (0 for fetches).
    pub value: u64,
}

/// A page fault that is about to be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The linear address.
    pub addr: u64,
    /// How memory was to be accessed.
    pub kind: MemoryKind,
    /// The error code.
    pub error: u32,
}

/// An exception or a software interrupt that is about to end the run or to be delivered. RIP stands at the instruction
/// that faulted, or behind the one that trapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// Its vector.
    pub vector: u8,
    /// Its error code.
    pub error: Option<u32>,
    /// It comes from INT n, INT3, INT1 or INTO.
    pub software: bool,
}

/// An access to an I/O port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoAccess {
    /// OUT rather than IN.
    pub write: bool,
    /// The port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// What OUT writes; what IN has read.
    pub value: u32,
}

/// A SYSCALL or SYSENTER instruction that is about to run. With [`Action::Handled`] it is skipped: RIP stands behind it,
/// and the hook has put into registers whatever the system would.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syscall {
    /// Its linear address.
    pub addr: u64,
    /// It is SYSENTER.
    pub sysenter: bool,
}

type Hook<E> = Box<dyn FnMut(&mut Vm, E) -> Action + Send>;

/// Every hook of a processor.
#[derive(Default)]
pub(super) struct Hooks {
    pub code: Vec<Hook<Code>>,
    pub block: Vec<Hook<Block>>,
    pub memory: Vec<Hook<Memory>>,
    pub fault: Vec<Hook<PageFault>>,
    pub interrupt: Vec<Hook<Interrupt>>,
    pub syscall: Vec<Hook<Syscall>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = [
            self.code.len(),
            self.block.len(),
            self.memory.len(),
            self.fault.len(),
            self.interrupt.len(),
            self.syscall.len(),
        ];
        write!(f, "Hooks({n:?})")
    }
}

impl Hooks {
    /// Whether single instructions have to be seen.
    pub fn stepping(&self) -> bool {
        !(self.code.is_empty() && self.block.is_empty() && self.memory.is_empty() && self.syscall.is_empty())
    }
}

macro_rules! hooks {
    ($($add:ident $call:ident $field:ident $event:ty, $what:literal;)*) => {
        impl Vm {
            $(
                #[doc = $what]
                pub fn $add(&mut self, hook: impl FnMut(&mut Vm, $event) -> Action + Send + 'static) {
                    self.hooks.$field.push(Box::new(hook));
                }

                /// Calls the hooks in the order they were added, up to the first that does not say `Continue`.
                pub(super) fn $call(&mut self, event: $event) -> Action {
                    // Taken out meanwhile, so that a hook can have the processor.
                    let mut list = std::mem::take(&mut self.hooks.$field);
                    let mut action = Action::Continue;
                    for hook in &mut list {
                        action = hook(self, event);
                        if action != Action::Continue {
                            break;
                        }
                    }
                    // Those that hooks have added come last.
                    list.append(&mut self.hooks.$field);
                    self.hooks.$field = list;
                    action
                }
            )*
        }
    };
}

hooks! {
    on_code code_hooks code Code, "Calls `hook` before each instruction.";
    on_block block_hooks block Block, "Calls `hook` before the first instruction of each basic block.";
    on_memory memory_hooks memory Memory,
        "Calls `hook` for each instruction fetched, and after each instruction for its reads and writes.";
    on_fault fault_hooks fault PageFault,
        "Calls `hook` when a page fault is about to be raised; map the page and say `Handled` to try again.";
    on_interrupt interrupt_hooks interrupt Interrupt,
        "Calls `hook` when an exception or software interrupt is about to end the run or to be delivered.";
    on_syscall syscall_hooks syscall Syscall, "Calls `hook` before each SYSCALL and SYSENTER.";
}

impl Vm {
    /// Removes every hook.
    pub fn clear_hooks(&mut self) {
        self.hooks = Hooks::default();
    }
}

//! Small guests, assembled when a test needs them: 32-bit programs that start without paging at [`ADDRESS`].

pub mod smp;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where they are loaded and start.
pub const ADDRESS: u64 = 0x10_0000;
/// The same for a command line.
pub const ADDRESS_TEXT: &str = "0x100000";

const COM1: u32 = 0x3f8;

/// A program, still without an address.
pub struct Guest {
    code: CodeAssembler,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.code.instructions().iter().map(ToString::to_string)).finish()
    }
}

impl Guest {
    fn new(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Self {
        let mut code = CodeAssembler::new(32).expect("32-bit code");
        build(&mut code).expect("instructions that exist");
        Self { code }
    }

    /// As bytes without a header, for `--load-address`.
    pub fn flat(mut self) -> Vec<u8> {
        self.code.assemble(ADDRESS).expect("labels in reach")
    }

    /// As a multiboot kernel whose header gives the addresses (Multiboot 0.6.96, 3.1.3).
    pub fn multiboot(mut self) -> Vec<u8> {
        const MAGIC: u32 = 0x1bad_b002;
        const ADDRESSES: u32 = 1 << 16;
        const HEADER: u32 = 32;
        let base = ADDRESS as u32;
        let code = self.code.assemble(ADDRESS + u64::from(HEADER)).expect("labels in reach");
        let sum = 0u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES);
        let words = [MAGIC, ADDRESSES, sum, base, base, 0, 0, base + HEADER];
        words.iter().flat_map(|word| word.to_le_bytes()).chain(code).collect()
    }
}

fn out8(a: &mut CodeAssembler, port: u32, value: u32) -> Result<(), IcedError> {
    a.mov(dx, port)?;
    a.mov(eax, value)?;
    a.out(dx, al)
}

fn print(a: &mut CodeAssembler, text: &str) -> Result<(), IcedError> {
    text.bytes().try_for_each(|byte| out8(a, COM1, byte.into()))
}

/// Ends the program: interrupts are off, so this is for good.
fn halt(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut here = a.create_label();
    a.set_label(&mut here)?;
    a.hlt()?;
    a.jmp(here)
}

/// Powers off through ACPI's PM1 control register.
pub fn power_off() -> Guest {
    Guest::new(|a| {
        a.mov(dx, 0x604u32)?;
        a.mov(ax, 0x2000u32)?;
        a.out(dx, ax)?;
        halt(a)
    })
}

/// The ways to reset a PC.
#[derive(Debug, Clone, Copy)]
pub enum ResetBy {
    /// The keyboard controller's output line.
    Keyboard,
    /// Port 92h.
    Port92,
    /// ACPI's reset register.
    Acpi,
}

/// Prints "hello" and a line feed, then resets.
pub fn reset(by: ResetBy) -> Guest {
    Guest::new(|a| {
        print(a, "hello\n")?;
        match by {
            ResetBy::Keyboard => out8(a, 0x64, 0xfe)?,
            ResetBy::Port92 => out8(a, 0x92, 3)?,
            ResetBy::Acpi => out8(a, 0x60c, 1)?,
        }
        halt(a)
    })
}

/// Writes `value` to the `isa-debug-exit` device at `port`.
pub fn debug_exit(port: u16, value: u32) -> Guest {
    Guest::new(|a| {
        a.mov(dx, u32::from(port))?;
        a.mov(eax, value)?;
        a.out(dx, eax)?;
        halt(a)
    })
}

/// Tells pvpanic that it panicked.
pub fn panic() -> Guest {
    Guest::new(|a| {
        out8(a, 0x505, 1)?;
        halt(a)
    })
}

/// Executes an undefined instruction without an interrupt table.
pub fn undefined_without_idt() -> Guest {
    Guest::new(|a| {
        no_idt(a)?;
        a.ud2()
    })
}

/// Turns paging on with an empty page directory.
pub fn page_fault_without_idt() -> Guest {
    Guest::new(|a| {
        no_idt(a)?;
        a.mov(eax, 0x20_0000u32)?;
        a.mov(cr3, eax)?;
        a.mov(eax, cr0)?;
        a.or(eax, 0x8000_0000u32)?;
        a.mov(cr0, eax)?;
        a.nop()
    })
}

fn no_idt(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.push(0)?;
    a.push(0)?;
    a.lidt(ptr(esp))
}

/// Prints "ready" and a line feed, then computes for ever.
pub fn spin() -> Guest {
    Guest::new(|a| {
        print(a, "ready\n")?;
        let mut here = a.create_label();
        a.set_label(&mut here)?;
        a.inc(eax)?;
        a.jmp(here)
    })
}

/// Prints "ready" and a line feed, then halts with interrupts off.
pub fn halted() -> Guest {
    Guest::new(|a| {
        print(a, "ready\n")?;
        halt(a)
    })
}

/// Prints "ready" and a line feed, then sends every byte it receives back, one higher, until one is Ctrl-D.
pub fn echo() -> Guest {
    Guest::new(|a| {
        print(a, "ready\n")?;
        let mut next = a.create_label();
        let mut off = a.create_label();
        a.set_label(&mut next)?;
        a.mov(dx, COM1 + 5)?;
        a.in_(al, dx)?;
        a.test(al, 1)?;
        a.jz(next)?;
        a.mov(dx, COM1)?;
        a.in_(al, dx)?;
        a.cmp(al, 4)?;
        a.je(off)?;
        a.inc(al)?;
        a.out(dx, al)?;
        a.jmp(next)?;
        a.set_label(&mut off)?;
        a.mov(dx, 0x604u32)?;
        a.mov(ax, 0x2000u32)?;
        a.out(dx, ax)?;
        halt(a)
    })
}

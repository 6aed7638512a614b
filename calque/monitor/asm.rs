//! The notation of the monitor's code: [`asm!`] over iced-x86's assembler.

use iced_x86::code_asm::{CodeAssembler, CodeLabel, get_gpr64, rsi};
use iced_x86::{BlockEncoderOptions, Register};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Whatever goes wrong while assembling. It ends the build.
pub type Error = Box<dyn std::error::Error>;

/// Code and its data in the making, with labels known by name.
pub struct Program {
    /// The assembler, for what the macro has no notation for.
    pub a: CodeAssembler,
    labels: RefCell<Labels>,
    /// Texts and tables, which come after the code.
    data: Vec<(CodeLabel, Vec<u8>)>,
}

#[derive(Default)]
struct Labels {
    named: BTreeMap<String, CodeLabel>,
    /// Labels without a name yet.
    spare: Vec<CodeLabel>,
}

/// A finished program.
pub struct Assembled {
    /// Its code and data.
    pub bytes: Vec<u8>,
    labels: BTreeMap<String, u64>,
}

impl Assembled {
    /// The address of a label.
    pub fn address(&self, name: &str) -> Result<u64, Error> {
        self.labels.get(name).copied().ok_or_else(|| format!("there is no label '{name}'").into())
    }
}

impl Program {
    /// An empty program of 32-bit or 64-bit code.
    pub fn new(bits: u32) -> Result<Self, Error> {
        let mut a = CodeAssembler::new(bits)?;
        let spare = (0..1000).map(|_| a.create_label()).collect();
        Ok(Self { a, labels: RefCell::new(Labels { named: BTreeMap::new(), spare }), data: Vec::new() })
    }

    /// The label of that name, which may be defined later.
    pub fn at(&self, name: &str) -> Result<CodeLabel, Error> {
        let labels = &mut *self.labels.borrow_mut();
        if let Some(label) = labels.named.get(name) {
            return Ok(*label);
        }
        let label = labels.spare.pop().ok_or("too many labels")?;
        labels.named.insert(name.to_owned(), label);
        Ok(label)
    }

    /// Puts the label of that name here.
    pub fn define(&mut self, name: &str) -> Result<(), Error> {
        let mut label = self.at(name)?;
        self.a.set_label(&mut label)?;
        // iced-x86 allows one label per instruction: this one is empty.
        self.a.zero_bytes()?;
        self.labels.borrow_mut().named.insert(name.to_owned(), label);
        Ok(())
    }

    /// Adds data after the code and returns its label.
    pub fn data(&mut self, bytes: Vec<u8>) -> CodeLabel {
        let label = self.a.create_label();
        self.data.push((label, bytes));
        label
    }

    /// Adds a text that ends with a zero.
    pub fn text(&mut self, text: &str) -> CodeLabel {
        self.data([text.as_bytes(), b"\0"].concat())
    }

    /// Code that prints a text. It changes no register: every program has a `puts` that preserves them.
    pub fn say(&mut self, text: &str) -> Result<(), Error> {
        let text = self.text(text);
        let puts = self.at("puts")?;
        self.a.push(rsi)?;
        self.a.lea(rsi, iced_x86::code_asm::ptr(text))?;
        self.a.call(puts)?;
        self.a.pop(rsi)?;
        Ok(())
    }

    /// A table that gives bits their names, for the kernel's `flags`: a bit's number, its name, a zero, and so on,
    /// up to 255.
    pub fn bit_names(&mut self, names: &[(u8, &str)]) -> CodeLabel {
        let mut table = Vec::new();
        for (bit, name) in names {
            table.push(*bit);
            table.extend_from_slice(name.as_bytes());
            table.push(0);
        }
        table.push(255);
        self.data(table)
    }

    /// Turns it into bytes for that address.
    pub fn assemble(mut self, address: u64) -> Result<Assembled, Error> {
        for (label, bytes) in &mut self.data {
            self.a.set_label(label)?;
            self.a.db(bytes)?;
        }
        // A label at the very end needs something to stand on.
        self.a.nop()?;
        let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let result = self.a.assemble_options(address, options)?;
        let labels = self.labels.into_inner().named;
        let labels = labels.into_iter().map(|(name, label)| match result.label_ip(&label) {
            Ok(ip) => Ok((name, ip)),
            Err(e) => Err(format!("label '{name}': {e}")),
        });
        let labels = labels.collect::<Result<_, _>>()?;
        Ok(Assembled { bytes: result.inner.code_buffer, labels })
    }
}

/// Every general register of 64 bits in the order of their numbers: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8...
pub fn general(number: usize) -> Result<iced_x86::code_asm::AsmRegister64, Error> {
    let register = Register::values().nth(Register::RAX as usize + number);
    register.and_then(get_gpr64).ok_or_else(|| "there are 16 general registers".into())
}

/// Adds code to a [`Program`], in a notation that is close to Intel's:
///
/// ```text
/// asm! { k;
///     @name:                      // a label
///     mov rax, qword_ptr(rdi + 8);
///     jz @name;                   // a jump or call to a label
///     lea rsi, @name;             // the address of a label
///     say "text\n";               // print a text, changing nothing
///     rep movsb;                  // a repeated string instruction
/// }
/// ```
///
/// Operands are Rust expressions, so constants come from `layout`. Names that are Rust's own get an underscore:
/// `in_`, `loop_`.
macro_rules! asm {
    ($p:ident;) => {};
    ($p:ident; @ $label:ident : $($rest:tt)*) => {
        $p.define(stringify!($label))?;
        asm! { $p; $($rest)* }
    };
    ($p:ident; say $text:literal; $($rest:tt)*) => {
        $p.say($text)?;
        asm! { $p; $($rest)* }
    };
    ($p:ident; rep $op:ident; $($rest:tt)*) => {
        $p.a.rep().$op()?;
        asm! { $p; $($rest)* }
    };
    ($p:ident; $op:ident @ $label:ident; $($rest:tt)*) => {
        let label = $p.at(stringify!($label))?;
        $p.a.$op(label)?;
        asm! { $p; $($rest)* }
    };
    ($p:ident; lea $to:ident, @ $label:ident; $($rest:tt)*) => {
        let label = $p.at(stringify!($label))?;
        $p.a.lea($to, ptr(label))?;
        asm! { $p; $($rest)* }
    };
    ($p:ident; $op:ident $($operand:expr),*; $($rest:tt)*) => {
        $p.a.$op($($operand),*).map_err(|e| format!("{e}: {}", stringify!($op $($operand),*)))?;
        asm! { $p; $($rest)* }
    };
}
pub(super) use asm;

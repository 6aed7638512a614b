//! Gates: routines at the start of the code cache that out-of-line paths of blocks call, so that those are short.
//!
//! There is one for each register, size and kind; what else a path has to say lies behind its call, in an instruction
//! without effect, where the gate reads it by its return address. A gate changes its register and the flags alone.

use super::Codegen;
use super::asm::{Alu, Mem, RAX, RCX, RSP, Reg, Rm, state};
use super::mem::{READ, WRITE};
use super::vals::TEMPS;
use crate::helpers::Helper;
use crate::layout;
use crate::moves::Field;
use dynasmrt::{DynasmApi, dynasm};
use emu_core::ir::Type;

/// How many helpers have gates: the first in order, which do accesses.
const HELPERS: usize = Helper::Atomic as usize + 1;
/// Sizes of accesses; 0 for all others, whose paths say the size themselves.
const SIZES: [u32; 8] = [0, 1, 2, 4, 8, 10, 16, 32];

/// Arena offsets of the gates.
#[derive(Debug, Default)]
pub struct Gates {
    /// By helper, size, whether it is the stack, and register.
    access: Vec<usize>,
    /// By table, size and register.
    look: Vec<usize>,
    /// By whether it reads, and register.
    window: Vec<usize>,
}

fn size(bytes: u32) -> usize {
    SIZES.iter().position(|&s| s == bytes).unwrap_or(0)
}

/// Argument `n` of a helper.
pub fn arg(n: usize) -> Mem {
    state(layout::slot(layout::ARG + n))
}

impl Codegen {
    /// Writes the gates, behind the thunks.
    pub fn gates(&mut self) {
        let mut gates = Gates::default();
        for h in Helper::ALL.into_iter().take(HELPERS) {
            for bytes in SIZES {
                for stack in [false, true] {
                    for t in TEMPS {
                        gates.access.push(self.here());
                        self.access_gate(h, bytes, stack, t);
                    }
                }
            }
        }
        for table in [READ, WRITE] {
            for bytes in SIZES {
                for t in TEMPS {
                    gates.look.push(self.here());
                    self.look_gate(table, bytes as i32, t);
                }
            }
        }
        for routine in [self.entry.window_write, self.entry.window_read] {
            for t in TEMPS {
                gates.window.push(self.here());
                self.window_gate(routine, t);
            }
        }
        self.gates = gates;
    }

    /// From the linear address in `t` to the addend that the access goes on with; the site is behind the call.
    fn access_gate(&mut self, h: Helper, bytes: u32, stack: bool, t: Reg) {
        self.asm.store(Type::I64, arg(0), t);
        if bytes != 0 {
            self.asm.store_imm(Type::I32, arg(2), Self::access_aux(bytes, stack));
        }
        self.asm.load(Type::I64, t, Mem { base: RSP, index: None, scale: 0, disp: 0 });
        self.asm.load(Type::I32, t, Mem { base: t, index: None, scale: 0, disp: 1 });
        self.asm.store(Type::I32, state(layout::slot(layout::SITE)), t);
        // The thunk expects the stack as blocks have it.
        dynasm!(self.asm; .arch x64; push rbp);
        self.asm.call_abs(self.thunks[h as usize]);
        dynasm!(self.asm; .arch x64; lea rsp, [rsp + 8]);
        let result = state(layout::slot(layout::RESULT));
        match h {
            // In place, wherever that is.
            Helper::LoadW | Helper::Atomic => self.asm.load(Type::I64, t, result),
            _ => {
                self.asm.lea(Type::I64, t, result);
                self.asm.alu(Type::I64, Alu::Sub, t, Rm::M(arg(0)));
            }
        }
        dynasm!(self.asm; .arch x64; ret);
    }

    fn access_aux(bytes: u32, stack: bool) -> i32 {
        (bytes | u32::from(stack) << 8) as i32
    }

    /// Has `h` do the access of `bytes` at the address in `t`, which then has the addend. Flags are lost.
    pub fn call_access(&mut self, h: Helper, bytes: u32, stack: bool, t: Reg, site: u32) {
        let n = size(bytes);
        if n == 0 {
            self.asm.store_imm(Type::I32, arg(2), Self::access_aux(bytes, stack));
        }
        let at = ((h as usize * SIZES.len() + n) * 2 + usize::from(stack)) * TEMPS.len() + usize::from(t.0);
        let Some(&gate) = self.gates.access.get(at) else { return self.frame.fail("no gate for an access") };
        self.asm.call_abs(gate);
        // test eax, imm32.
        self.asm.buf.push(0xa9);
        self.asm.buf.extend_from_slice(&site.to_le_bytes());
        self.note(Field::Site);
    }

    /// From the linear address in `t` to its entry's addend, with "above" if the entry does not cover the access.
    fn look_gate(&mut self, table: i32, bytes: i32, t: Reg) {
        let u = if t == RAX { RCX } else { RAX };
        let save = state(layout::slot(layout::SAVE0));
        let at = |disp| Mem { base: t, index: None, scale: 0, disp: table + disp };
        self.asm.store(Type::I64, save, u);
        self.asm.mov(Type::I64, u, t);
        self.entry_of(t, u);
        self.asm.alu(Type::I64, Alu::Sub, u, Rm::M(at(0)));
        self.asm.alu_imm(Type::I64, Alu::Cmp, Rm::R(u), 4096 - bytes);
        self.asm.load(Type::I64, u, save);
        self.asm.load(Type::I64, t, at(8));
        dynasm!(self.asm; .arch x64; ret);
    }

    /// Looks in `table` for an access of `bytes` at the address in `t`, which then has the addend unless the condition is
    /// "above".
    pub fn call_look(&mut self, table: i32, bytes: u32, t: Reg) {
        let n = size(bytes);
        let at = (usize::from(table == WRITE) * SIZES.len() + n) * TEMPS.len() + usize::from(t.0);
        match self.gates.look.get(at) {
            Some(&gate) if n != 0 => self.asm.call_abs(gate),
            _ => self.frame.fail("no gate for a look-up"),
        }
    }

    /// As the routine at `routine` of the window, with the address and then the addend in `t`; the span is behind the call.
    fn window_gate(&mut self, routine: usize, t: Reg) {
        self.asm.store(Type::I64, arg(0), t);
        self.asm.load(Type::I64, t, Mem { base: RSP, index: None, scale: 0, disp: 0 });
        self.asm.load(Type::I8, t, Mem { base: t, index: None, scale: 0, disp: 3 });
        self.asm.store(Type::I32, arg(1), t);
        self.asm.call_abs(routine);
        self.asm.load(Type::I64, t, state(layout::slot(layout::RESULT)));
        dynasm!(self.asm; .arch x64; ret);
    }

    /// Looks for `span` bytes from the address in `t` on, moving the window: "not equal" if they are not at hand.
    pub fn call_window(&mut self, read: bool, span: u8, t: Reg) {
        let at = usize::from(read) * TEMPS.len() + usize::from(t.0);
        let Some(&gate) = self.gates.window.get(at) else { return self.frame.fail("no gate for the window") };
        self.asm.call_abs(gate);
        // A no-op with a displacement of a byte.
        self.asm.buf.extend_from_slice(&[0x0f, 0x1f, 0x40, span]);
    }
}

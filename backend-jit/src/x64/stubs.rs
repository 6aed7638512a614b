//! The out-of-line paths of a block, written after its body.

use super::Codegen;
use super::asm::{Opc, RAX, RDX, Reg, Rm, state};
use super::gates::arg;
use super::mem::{At, Look, Stored, Stub, StubKind};
use crate::helpers::Helper;
use crate::hold::Hold;
use crate::layout;
use dynasmrt::DynamicLabel;
use emu_core::ir::{Cc, Type};

impl Codegen {
    /// Emits the stubs that have come together.
    pub fn emit_stubs(&mut self) {
        let stubs = std::mem::take(&mut self.stubs);
        for s in &stubs {
            self.asm.bind(s.label);
            match s.kind {
                StubKind::Access { helper, addr, addend, bytes, stack, value } => {
                    self.access_stub(s, helper, addr, addend, bytes, stack, value);
                }
                StubKind::Alone { hold, look, bytes, slow } => self.alone_stub(hold, look, bytes, slow),
                StubKind::Outside(o) => self.outside_window(o),
                StubKind::Div { signed, ty, by } => self.div_stub(s, signed, ty, by),
                StubKind::X87 => self.x87_stub(s),
                StubKind::Vec => {
                    let at = self.entry.vec_load;
                    self.asm.call_abs(at);
                }
                StubKind::Leave => {
                    self.leave_at(s.site);
                    continue;
                }
            }
            self.asm.jmp(s.resume);
        }
        self.stubs = stubs;
        self.stubs.clear();
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one stub")]
    fn access_stub(
        &mut self,
        s: &Stub,
        helper: Helper,
        addr: At,
        addend: Reg,
        bytes: u32,
        stack: bool,
        value: Option<Stored>,
    ) {
        match value {
            None => {}
            Some(Stored::Imm(i)) => self.asm.store_imm(Type::I64, arg(1), i),
            Some(Stored::Reg(r)) => self.asm.store(Type::I64, arg(1), r),
            Some(Stored::State(disp)) => {
                self.asm.load(Type::I64, addend, state(disp));
                self.asm.store(Type::I64, arg(1), addend);
            }
            Some(Stored::Xmm(x)) if bytes > 8 => {
                self.vec_mem(bytes == 32, true, x, state(layout::slot(layout::RESULT)));
            }
            // MOVLPS and MOVHPS.
            Some(Stored::Xmm(x)) => self.vec_one(false, Opc(0, 1, 0x13), x, Rm::M(arg(1))),
            Some(Stored::XmmHigh(x)) => self.vec_one(false, Opc(0, 1, 0x17), x, Rm::M(arg(1))),
        }
        self.save_live_xmm(s.live_xmm, true);
        self.lea_at(Type::I64, addend, addr, 0);
        self.call_access(helper, bytes, stack, addend, s.site);
        self.save_live_xmm(s.live_xmm, false);
    }

    fn div_stub(&mut self, s: &Stub, signed: bool, ty: Type, by: Reg) {
        self.asm.store(Type::I64, arg(0), RDX);
        self.asm.store(Type::I64, arg(1), RAX);
        self.asm.store(Type::I64, arg(2), by);
        self.asm.store_imm(
            Type::I32,
            state(layout::slot(layout::RESULT)),
            (ty.bytes() | u32::from(signed) << 8) as i32,
        );
        self.save_live_xmm(s.live_xmm, true);
        self.say_site(s.site);
        self.asm.call_abs(self.thunks[Helper::Div as usize]);
        self.save_live_xmm(s.live_xmm, false);
        self.asm.load(Type::I64, RAX, state(layout::slot(layout::RESULT)));
        self.asm.load(Type::I64, RDX, state(layout::slot(layout::RESULT + 1)));
    }

    /// An access of a group that has to look for itself.
    fn alone_stub(&mut self, hold: Hold, look: Look, bytes: u32, slow: DynamicLabel) {
        if hold.first {
            // Without the group.
            let u = look.aside.unwrap_or(look.entry);
            self.asm.load(Type::I64, u, state(layout::slot(layout::NO_ADDEND)));
            self.asm.store(Type::I64, state(layout::slot(hold.slot.into())), u);
        }
        self.lea_at(Type::I64, look.entry, look.addr, 0);
        self.call_look(look.table, bytes, look.entry);
        self.asm.jcc(Cc::A as u8, slow);
    }
}

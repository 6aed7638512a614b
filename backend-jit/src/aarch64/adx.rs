//! ADCX and ADOX: NZCV has one carry, so theirs goes through the flags word.

use super::Codegen;
use super::asm::{Cond, ZR};
use super::vals::S0;
use emu_core::ir::{Inst, Op, Type, Value};

impl Codegen {
    /// Adcx and Adox.
    pub fn add_through(&mut self, me: Value, inst: &Inst) {
        let [a, b, c] = inst.args;
        let bit = if inst.op == Op::Adcx { 29 } else { 28 };
        let old = self.word(c);
        let d = self.flags_dest(me, false);
        let (ra, rb) = (self.reg(a), self.reg(b));
        self.save_flags();
        self.asm.ubfx(false, S0, old, bit, 1);
        match inst.op {
            // The word has the opposite of CF: 0 - 1 borrows, 0 - 0 does not.
            Op::Adcx => self.asm.arith(false, true, true, ZR, ZR, S0, 0),
            _ => self.asm.arith_imm(false, true, true, ZR, S0, 1),
        }
        self.asm.carry(inst.ty == Type::I64, false, d.reg, ra, rb);
        self.finish_wanted(me, d, true);
        let fact = self.an.facts[me.index()];
        if fact.mask == 0 {
            return;
        }
        self.asm.cset(S0, if inst.op == Op::Adcx { Cond::Cc } else { Cond::Cs });
        let f = Value(fact.flags);
        let to = self.word_dest(f);
        if to != old {
            self.asm.mov(false, to, old);
        }
        self.asm.bfi(false, to, S0, bit, 1);
        self.set_word(f, to);
    }
}

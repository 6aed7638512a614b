//! DPPS and DPPD, written out as products and sums.
//!
//! Which of several NaNs comes out of the host's own DPPS is its maker's: SDM vol. 1, table 4-7, gives a rule for two operands
//! and the page of DPPS none for eight, and Intel's processors choose others than AMD's. The rule for MULPS and ADDPS is the
//! same on each, so that this gives what the interpreter does, the first NaN by lane, on all of them; and it costs no more
//! operations than the instruction has inside.

use super::Codegen;
use super::asm::{Opc, Reg, Rm};
use super::vecenc::Coding;
use emu_core::ir::{Inst, Value};

/// Host instructions for one width of lanes.
struct Forms {
    mul: Opc,
    add: Opc,
    shuffle: Opc,
    blend: Opc,
    /// Immediates of the shuffle that bring together what is added, one sum after the other.
    pairs: &'static [u8],
    /// Bits of a mask of lanes in 128 bits.
    lanes: u8,
}

const SINGLE: Forms = Forms {
    mul: Opc(0, 1, 0x59),
    add: Opc(0, 1, 0x58),
    shuffle: Opc(0, 1, 0xc6),
    blend: Opc(0x66, 3, 0x0c),
    // Lanes 0 and 1, 2 and 3; then both sums.
    pairs: &[0b10_11_00_01, 0b01_00_11_10],
    lanes: 0xf,
};
const DOUBLE: Forms = Forms {
    mul: Opc(0x66, 1, 0x59),
    add: Opc(0x66, 1, 0x58),
    shuffle: Opc(0x66, 1, 0xc6),
    blend: Opc(0x66, 3, 0x0d),
    pairs: &[0b01],
    lanes: 0x3,
};

/// Whether `c` is DPPS or DPPD.
pub fn is_dot(c: &Coding) -> bool {
    matches!(c.opc, Opc(0x66, 3, 0x40 | 0x41))
}

impl Codegen {
    /// The immediate's upper half names the lanes that are multiplied, the lower those that get the sum; all others are zero,
    /// in each 128 bits alike. Zeros in their place raise nothing, and lanes other than 0 add the same numbers as that, so that
    /// MXCSR gets the flags that DPPS has.
    pub fn dot(&mut self, me: Value, inst: &Inst, c: Coding, a: Value, b: Value) {
        let f = if c.opc.2 == 0x41 { DOUBLE } else { SINGLE };
        let (multiplied, given) = ((inst.imm >> 4) as u8 & f.lanes, inst.imm as u8 & f.lanes);
        let rm = self.xrm(b);
        let x = self.xreg(a);
        let (t, u) = (self.grab_x(), self.grab_x());
        let op = |g: &mut Self, opc: Opc, d: u8, x: u8, rm: Rm| g.vex(false, c.l, opc, d, x, rm);
        let with_imm = |g: &mut Self, opc: Opc, d: u8, x: u8, rm: Rm, imm: u8| {
            g.vex(false, c.l, opc, d, x, rm);
            g.asm.buf.push(imm);
        };
        let reg = |x: u8| Rm::R(Reg(x));
        let zero = |g: &mut Self, d: u8| g.vex(false, c.l, Opc(0, 1, 0x57), d, d, reg(d));
        // 256-bit forms are of singles and have a bit for each of eight lanes.
        let both = |mask: u8| if c.l { mask | mask << 4 } else { mask };
        if multiplied == f.lanes {
            op(self, f.mul, t, x, rm);
        } else {
            zero(self, t);
            with_imm(self, f.blend, t, t, reg(x), both(multiplied));
            zero(self, u);
            with_imm(self, f.blend, u, u, rm, both(multiplied));
            op(self, f.mul, t, t, reg(u));
        }
        for &pairs in f.pairs {
            with_imm(self, f.shuffle, u, t, reg(t), pairs);
            op(self, f.add, t, t, reg(u));
        }
        with_imm(self, f.shuffle, t, t, reg(t), 0);
        if given != f.lanes {
            zero(self, u);
            with_imm(self, f.blend, t, u, reg(t), both(given));
        }
        match self.bound(me) {
            Some((r, true)) => {
                self.legacy_copy(r, t);
                self.made_in(me, r);
            }
            Some((r, false)) => {
                self.vec_copy(c.l, r, t);
                self.made_in(me, r);
            }
            None => self.set_x(me, t),
        }
    }
}

//! Vector operations that are named by their x86 encoding rather than by a [`super::VecOp`]: the long tail of SSE, and what
//! AVX, AVX2, FMA, F16C, AES, PCLMUL and their 256-bit forms add.
//!
//! The `aux` of a `Vec1`, `Vec2`, `Vec3` or `Fp` with [`ENCODED`] set is such a name. Its meaning is the manual's page of
//! the instruction with that prefix, opcode map, opcode, W and L, on the arguments in the order of [`Shape`]; `imm` is
//! its immediate byte. The evaluator does not know them; a host that has not got the instruction leaves the block to the
//! interpreter.

/// The bit that tells an encoding from the number of a [`super::VecOp`].
pub const ENCODED: u32 = 1 << 31;

/// Which operands there are, and where the encoding has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Shape {
    /// From r/m: a.
    Rm,
    /// From VEX.vvvv and r/m: a, b. As legacy SSE, a is the destination's old value.
    VRm,
    /// From the destination's old value, VEX.vvvv and r/m: a, b, c.
    DVRm,
    /// From VEX.vvvv, r/m and the register in the immediate: a, b, c.
    VRmI,
    /// From r/m into VEX.vvvv, the reg field being part of the opcode: a.
    Group,
    /// From reg into r/m: a.
    Store,
    /// From r/m to a general register: a.
    ToInt,
    /// Flags of comparing reg with r/m: a, b.
    Flags,
    /// From reg and r/m into ECX: a, b. Flags, too, are another op's, with the shape for them.
    Index,
}

impl Shape {
    const ALL: [Shape; 9] = {
        use Shape::*;
        [Rm, VRm, DVRm, VRmI, Group, Store, ToInt, Flags, Index]
    };
}

/// What the host must have for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are CPUID's")]
pub enum Needs {
    Avx,
    Avx2,
    Fma,
    F16c,
    Aes,
    Pclmul,
    Vaes,
    Vpclmul,
}

impl Needs {
    const ALL: [Needs; 8] = {
        use Needs::*;
        [Avx, Avx2, Fma, F16c, Aes, Pclmul, Vaes, Vpclmul]
    };
}

/// An encoding, all of it but registers and memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// Mandatory prefix: 0, 66, F3 or F2.
    pub prefix: u8,
    /// Opcode map: 1 is 0F, 2 is 0F38, 3 is 0F3A.
    pub map: u8,
    /// The opcode.
    pub opcode: u8,
    /// VEX.W.
    pub w: bool,
    /// VEX.L: 256 bits.
    pub l: bool,
    /// The reg field of a group.
    pub digit: u8,
    /// Whether there is an immediate byte.
    pub imm: bool,
    /// Operands.
    pub shape: Shape,
    /// What the host must have.
    pub needs: Needs,
}

const PREFIXES: [u8; 4] = [0, 0x66, 0xf3, 0xf2];

impl Encoded {
    /// The `aux` that names it.
    pub fn aux(self) -> u32 {
        let prefix = PREFIXES.iter().position(|&p| p == self.prefix).unwrap_or(0) as u32;
        ENCODED
            | u32::from(self.opcode)
            | prefix << 8
            | u32::from(self.map) << 10
            | u32::from(self.w) << 12
            | u32::from(self.l) << 13
            | u32::from(self.digit) << 14
            | u32::from(self.imm) << 17
            | (self.shape as u32) << 18
            | (self.needs as u32) << 22
    }

    /// What `aux` names, if it is an encoding.
    pub fn from_aux(aux: u32) -> Option<Self> {
        if aux & ENCODED == 0 || aux & 0x7e00_0000 != 0 {
            return None;
        }
        Some(Self {
            prefix: PREFIXES[(aux >> 8 & 3) as usize],
            map: (aux >> 10 & 3) as u8,
            opcode: aux as u8,
            w: aux >> 12 & 1 != 0,
            l: aux >> 13 & 1 != 0,
            digit: (aux >> 14 & 7) as u8,
            imm: aux >> 17 & 1 != 0,
            shape: *Shape::ALL.get((aux >> 18 & 15) as usize)?,
            needs: Needs::ALL[(aux >> 22 & 7) as usize],
        })
    }
}

//! Vector operations that are several instructions here: shifts and permutations by the lanes of a vector, MPSADBW,
//! PHMINPOSUW, AESKEYGENASSIST.

use super::Codegen;
use super::asm::Reg;
use super::vecregs::{PAIR, V0, V1, V2};
use super::words::{AESE, AND, BIC, DUP_HIGH, DUP_LOW, EOR, TBL, TBL2};

const ORN: u32 = 0x4ee0_1c00;
/// USHL on bytes; SSHL has bit 29 clear.
const USHL: u32 = 0x6e20_4400;
const NEG: u32 = 0x6e20_b800;
/// On doublewords.
const UMIN: u32 = 0x6ea0_6c00;
const MUL: u32 = 0x4ea0_9c00;
const ADD: u32 = 0x4ea0_8400;
/// On quadwords.
const CMHI: u32 = 0x6ee0_3400;
/// On words.
const CMEQ: u32 = 0x6e60_8c00;
const UMINV: u32 = 0x6e71_a800;
const DUP_WORD: u32 = 0x4e02_0400;
/// Word 0 into word 1.
const INS_WORD: u32 = 0x6e06_0400;
/// Sums of absolute differences of bytes, as words, and added to what is there.
const UABDL: u32 = 0x2e20_7000;
const UABAL: u32 = 0x2e20_5000;

impl Codegen {
    /// The same 64 bits twice.
    fn splat(&mut self, d: Reg, v: u64) {
        self.vconst(d, v, v);
    }

    /// VPSLLVD and its kin. The host takes the low byte of a count, signed.
    pub fn shift_lanes(&mut self, log: u32, left: bool, signed: bool, d: Reg, a: Reg, by: Reg) {
        let size = log << 22;
        let shift = (USHL & !(u32::from(signed) << 29)) | size;
        if log == 2 {
            self.splat(V0, 0x20_0000_0020);
            self.v3(UMIN, V0, by, V0);
            if !left {
                self.v2(NEG | size, V0, V0);
            }
            return self.v3(shift, d, a, V0);
        }
        self.splat(V0, 63);
        self.v3(CMHI, V1, by, V0);
        let count = if left {
            by
        } else {
            self.v2(NEG | size, V0, by);
            V0
        };
        self.v3(shift, V0, a, count);
        self.v3(BIC, d, V0, V1);
    }

    /// Doublewords of `from`, or of a pair, by the low bits (`mask`) of those of `index`.
    pub fn permute_doublewords(&mut self, d: Reg, from: (Reg, Option<Reg>), index: Reg, mask: u64) {
        self.splat(V0, mask << 32 | mask);
        self.v3(AND, V0, V0, index);
        // A doubleword's number becomes those of its bytes.
        self.splat(V1, 0x0404_0404_0404_0404);
        self.v3(MUL, V0, V0, V1);
        self.splat(V1, 0x0302_0100_0302_0100);
        self.v3(ADD, V0, V0, V1);
        match from {
            (low, None) => self.v3(TBL, d, low, V0),
            (low, Some(high)) => {
                self.vmov(PAIR, low);
                self.vmov(PAIR + 1, high);
                self.v3(TBL2, d, PAIR, V0);
            }
        }
    }

    /// VPERMILPD by the second bits of `index`.
    pub fn permute_doubles(&mut self, d: Reg, a: Reg, index: Reg) {
        // Up by 62, then down by 63, signed.
        self.v2(0x4f7e_5400, V0, index);
        self.v2(0x4f41_0400, V0, V0);
        self.v2(DUP_LOW, V1, a);
        self.v2(DUP_HIGH, V2, a);
        self.choose_bits(d, V2, V1);
    }

    /// MPSADBW: eight places of a, each against one doubleword of b.
    pub fn differences(&mut self, d: Reg, a: Reg, b: Reg, imm: u32) {
        let (from, with) = (imm >> 2 & 1, imm & 3);
        for i in 0..4 {
            self.v2(0x4e01_0400 | (4 * with + i) << 17, V1, b);
            let at = 4 * from + i;
            let place = if at == 0 {
                a
            } else {
                self.v3(0x6e00_0000 | at << 11, V2, a, a);
                V2
            };
            self.v3(if i == 0 { UABDL } else { UABAL }, V0, place, V1);
        }
        self.vmov(d, V0);
    }

    /// PHMINPOSUW.
    pub fn least(&mut self, d: Reg, a: Reg) {
        self.v2(UMINV, V0, a);
        self.v2(DUP_WORD, V1, V0);
        self.v3(CMEQ, V1, a, V1);
        // The numbers of those that are it, and all ones.
        self.vconst(V2, 0x0003_0002_0001_0000, 0x0007_0006_0005_0004);
        self.v3(ORN, V1, V2, V1);
        self.v2(UMINV, V1, V1);
        self.v2(INS_WORD, V0, V1);
        self.vmov(d, V0);
    }

    /// AESKEYGENASSIST, by a round with a key of zeros, which moves bytes between columns: they are put where they come
    /// from first.
    pub fn key_assist(&mut self, d: Reg, a: Reg, constant: u32) {
        let mut table = [0; 16];
        for (column, source, turn) in [(0, 4, 0), (1, 4, 1), (2, 12, 0), (3, 12, 1)] {
            for row in 0..4u8 {
                table[usize::from(row + 4 * ((column + row) & 3))] = source + (row + turn) % 4;
            }
        }
        self.table(V1, a, a, table);
        self.asm.vzero(V0);
        self.v2(AESE, V1, V0);
        let constant = u64::from(constant & 0xff) << 32;
        self.splat(V0, constant);
        self.v3(EOR, d, V1, V0);
    }
}

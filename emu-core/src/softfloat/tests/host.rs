//! Runs one x87 instruction on the host and takes its whole state afterwards.
//!
//! FNSAVE does not wait, so an unmasked exception is seen in the saved status word and never delivered.

use super::super::F80;
use std::sync::OnceLock;

/// What the instruction works on. The assembly knows the offsets.
#[repr(C, align(16))]
pub struct Frame {
    a: [u8; 16],
    b: [u8; 16],
    control: u16,
    pad: [u16; 7],
    memory: [u8; 16],
    saved: [u8; 112],
}

/// Whether the processor is one of AMD's, as Linux names its maker: makers part where the manual leaves something open.
pub fn is_amd() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        text.lines().any(|l| l.starts_with("vendor_id") && l.ends_with("AuthenticAMD"))
    })
}

/// The byte that fills memory which the instruction may write.
pub const UNTOUCHED: u8 = 0xcc;

/// The state after the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub status: u16,
    pub st0: F80,
    pub st1: F80,
    pub memory: [u8; 10],
}

impl State {
    /// Registers on the stack, given that two were loaded: the instruction pushed, popped, or neither.
    pub fn depth(&self) -> u16 {
        (8 - (self.status >> 11 & 7)) & 7
    }
}

/// An instruction ready to run on a [`Frame`].
pub type Instruction = fn(&mut Frame);

/// Runs `instruction` with `a` in ST(0), `b` in ST(1) and `memory` as the memory operand.
pub fn run(instruction: Instruction, control: u16, a: F80, b: F80, memory: [u8; 10]) -> State {
    let pad16 = |bytes: [u8; 10]| {
        let mut out = [UNTOUCHED; 16];
        out[..10].copy_from_slice(&bytes);
        out
    };
    let mut frame = Frame {
        a: pad16(a.to_bytes()),
        b: pad16(b.to_bytes()),
        control,
        pad: [0; 7],
        memory: pad16(memory),
        saved: [0; 112],
    };
    instruction(&mut frame);
    let ten = |bytes: &[u8], at: usize| std::array::from_fn(|i| bytes[at + i]);
    State {
        status: u16::from_le_bytes([frame.saved[4], frame.saved[5]]),
        st0: F80::from_bytes(ten(&frame.saved, 28)),
        st1: F80::from_bytes(ten(&frame.saved, 38)),
        memory: ten(&frame.memory, 0),
    }
}

/// Defines a function that runs one instruction; its memory operand is `[rdi + 48]`.
macro_rules! host_instruction {
    ($name:ident, $text:literal) => {
        pub fn $name(frame: &mut Frame) {
            // SAFETY: every address is inside `*frame` (the offsets are those of the `repr(C)` fields, FNSAVE
            // writes 108 of the 112 bytes of `saved`); all registers the calling convention lets a callee
            // change are declared changed; FNSAVE leaves the x87 as FNINIT does, the state Rust expects.
            unsafe {
                std::arch::asm!(
                    "fninit",
                    "fld tbyte ptr [rdi + 16]",
                    "fld tbyte ptr [rdi]",
                    "fnclex",
                    "fldcw word ptr [rdi + 32]",
                    $text,
                    "fnsave [rdi + 64]",
                    inout("rdi") frame => _,
                    clobber_abi("sysv64"),
                );
            }
        }
    };
}

host_instruction!(fadd, "fadd st(0), st(1)");
host_instruction!(fsub, "fsub st(0), st(1)");
host_instruction!(fsubr, "fsubr st(0), st(1)");
host_instruction!(fmul, "fmul st(0), st(1)");
host_instruction!(fdiv, "fdiv st(0), st(1)");
host_instruction!(fdivr, "fdivr st(0), st(1)");
host_instruction!(fsqrt, "fsqrt");
host_instruction!(fprem, "fprem");
host_instruction!(fprem1, "fprem1");
host_instruction!(frndint, "frndint");
host_instruction!(fscale, "fscale");
host_instruction!(fxtract, "fxtract");
host_instruction!(fabs, "fabs");
host_instruction!(fchs, "fchs");
host_instruction!(fxam, "fxam");
host_instruction!(fcom, "fcom st(1)");
host_instruction!(fucom, "fucom st(1)");
host_instruction!(ftst, "ftst");
host_instruction!(fldl2t, "fldl2t");
host_instruction!(fldl2e, "fldl2e");
host_instruction!(fldpi, "fldpi");
host_instruction!(fldlg2, "fldlg2");
host_instruction!(fldln2, "fldln2");
host_instruction!(f2xm1, "f2xm1");
host_instruction!(fyl2x, "fyl2x");
host_instruction!(fyl2xp1, "fyl2xp1");
host_instruction!(fptan, "fptan");
host_instruction!(fpatan, "fpatan");
host_instruction!(fsin, "fsin");
host_instruction!(fcos, "fcos");
host_instruction!(fsincos, "fsincos");
host_instruction!(fst_m32, "fstp dword ptr [rdi + 48]");
host_instruction!(fst_m64, "fstp qword ptr [rdi + 48]");
host_instruction!(fist_m16, "fistp word ptr [rdi + 48]");
host_instruction!(fist_m32, "fistp dword ptr [rdi + 48]");
host_instruction!(fist_m64, "fistp qword ptr [rdi + 48]");
host_instruction!(fisttp_m16, "fisttp word ptr [rdi + 48]");
host_instruction!(fisttp_m32, "fisttp dword ptr [rdi + 48]");
host_instruction!(fisttp_m64, "fisttp qword ptr [rdi + 48]");
host_instruction!(fbstp, "fbstp tbyte ptr [rdi + 48]");
host_instruction!(fbld, "fbld tbyte ptr [rdi + 48]");
host_instruction!(fld_m32, "fld dword ptr [rdi + 48]");
host_instruction!(fld_m64, "fld qword ptr [rdi + 48]");
host_instruction!(fild_m64, "fild qword ptr [rdi + 48]");
host_instruction!(fadd_m32, "fadd dword ptr [rdi + 48]");
host_instruction!(fsub_m64, "fsub qword ptr [rdi + 48]");
host_instruction!(fmul_m64, "fmul qword ptr [rdi + 48]");
host_instruction!(fdivr_m32, "fdivr dword ptr [rdi + 48]");
host_instruction!(fidiv_m16, "fidiv word ptr [rdi + 48]");
host_instruction!(fisub_m32, "fisub dword ptr [rdi + 48]");
host_instruction!(fcom_m32, "fcom dword ptr [rdi + 48]");
host_instruction!(fcom_m64, "fcom qword ptr [rdi + 48]");
host_instruction!(ficom_m16, "ficom word ptr [rdi + 48]");

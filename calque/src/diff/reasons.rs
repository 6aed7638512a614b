//! Differences that are known, with the manual's words.

use std::fmt;

/// Why two legs may differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// After an indirect jump or return to an address that is not canonical, the interpreter raises #GP at the jump and
    /// translated code at its target, as different makers' processors do.
    WildJump,
    /// The instruction leaves these flags undefined.
    UndefinedFlags,
    /// The instruction leaves its result undefined for these operands.
    UndefinedResult,
    /// An approximation, for which the manual gives a bound and not a value.
    Approximate,
    /// It reads what belongs to the machine and not to the case: time, random numbers, CPUID, tables, the x87's
    /// pointers.
    Machine,
    /// It was the system that answered: a system call, or one of the hypervisor.
    System,
    /// Code that changed itself where it was already running; processors differ in when they see it.
    SelfModified,
    /// #AC of operands of 16 bytes and more under alignment checks.
    VectorAlignment,
    /// #PF or #AC first, where both are due.
    SameClass,
    /// SHA instructions whose operand is not aligned.
    ShaAlignment,
    /// An access that wraps around the end of a 4-GByte segment.
    SegmentWrap,
    /// Near branches in 64-bit code with an operand-size prefix.
    BranchSize,
    /// The mask of a gather that faulted.
    GatherMask,
    /// A gather under single step that faulted after its first elements.
    GatherTrap,
    /// 0F 0D with a register operand.
    PrefetchRegister,
    /// Byte-masked stores whose first or only bytes are masked away.
    MaskedStore,
    /// An MMX store that faulted had left the x87's stack already.
    MmxBeforeFault,
    /// LOCK before MOV from or to CR0.
    Cr8ByLock,
    /// MOVSXD with 16 bits.
    MovsxdSize,
    /// MXCSR's bit 17.
    MisalignedMode,
    /// POPA that faults half-way.
    PartialPop,
    /// PUSHA that faults half-way.
    PartialPush,
    /// An opcode that does not exist, whose last bytes cannot be fetched.
    InvalidLength,
    /// LOOP with a repeat prefix.
    RepeatedLoop,
    /// C1 after FCOMI and its kin.
    CompareC1,
    /// The upper half of a selector pushed with 32 bits.
    SelectorPush,
    /// VPERMQ and VPERMPD with VEX.W clear.
    PermuteWidth,
    /// VPEXTRD and VPINSRD with VEX.W set in 32-bit code.
    ElementWidth,
    /// The address that a fault of a masked move reports.
    MaskedAddress,
    /// An x87 store of 10 bytes that faults half-way.
    PartialStore,
    /// Lanes of a masked move behind what its address size reaches.
    MaskedWrap,
    /// The destination's upper half after a gather into its lower that faulted.
    GatherUpper,
    /// MXCSR's flags after a VCVTPS2PH whose store faulted.
    FlagsBeforeFault,
    /// PE beside an unmasked underflow of VCVTPS2PH.
    HalfInexact,
    /// #AC of VCVTPH2PS and VCVTPS2PH.
    HalfAlignment,
    /// Flags after a repeated comparison of strings that faulted.
    StringFlags,
    /// Upper halves of registers of a repeated string instruction with 32-bit addresses that does nothing.
    StringUpper,
    /// Which NaN DPPS and DPPD give of several.
    DotNan,
    /// CLZERO with a repeat prefix.
    ClzeroPrefix,
    /// An instruction that one of the two has not got.
    Absent,
}

impl Reason {
    /// The manual's words.
    pub const fn words(self) -> &'static str {
        match self {
            Reason::WildJump => {
                "AMD64 manual vol. 2, 4.5.1 and SDM vol. 1, 3.3.7.1: an address that is not canonical raises #GP; whether \
                 the branch or the fetch raises it is each maker's own"
            }
            Reason::UndefinedFlags => "SDM vol. 1, appendix A: \"undefined\" in the table of flags",
            Reason::UndefinedResult => {
                "SDM vol. 2, SHLD and SHRD: \"If the count is greater than the operand size, the result is undefined\"; \
                 BSWAP: \"When the BSWAP instruction references a 16-bit register, the result is undefined\""
            }
            Reason::Approximate => {
                "SDM vol. 2, RCPPS and RSQRTPS: \"relative error <= 1.5 * 2^-12\"; vol. 1, 8.3.10: transcendental \
                 instructions have an error bound of 1 ulp; FPREM: \"reduces the exponent of ST(0) by an amount between \
                 32 and 63\""
            }
            Reason::Machine => {
                "reads time, entropy, CPUID, descriptor tables, processor numbers or saved pointers"
            }
            Reason::System => "enters the operating system, or the hypervisor below it",
            Reason::SelfModified => {
                "SDM vol. 3A, 8.1.3: self-modifying code has to jump or serialise before the new code runs"
            }
            Reason::VectorAlignment => {
                "SDM vol. 2, 2.4.4, type 4 has no #AC, and of MOVUPS \"treatment of #AC varies\"; AMD64 manual vol. 4, \
                 class 4 has one for operands of 16 bytes that are not aligned, when alignment checking is enabled; Intel's \
                 processors have one for MASKMOVDQU"
            }
            Reason::SameClass => {
                "SDM vol. 3A, 6.9: \"exceptions within each class are implementation-dependent and may vary from processor to \
                 processor\""
            }
            Reason::ShaAlignment => {
                "SDM vol. 2, SHA1MSG2 and the others are of type 4: #GP if a legacy SSE operand is not aligned; AMD's \
                 processors read it"
            }
            Reason::ClzeroPrefix => {
                "SDM vol. 2, 2.1.1: repeat prefixes with instructions other than those for strings are reserved, and \
                 \"such use may cause unpredictable behavior\": AMD's family 1Ah raises #UD for CLZERO with one, families \
                 before it do not look at it"
            }
            Reason::SegmentWrap => {
                "SDM vol. 3A, 5.3: where the effective limit is FFFFFFFFH, \"these accesses may or may not cause the indicated \
                 exceptions. Behavior is implementation-specific\""
            }
            Reason::BranchSize => {
                "SDM vol. 2, Jcc: \"in 64-bit mode the operand size is fixed at 64 bits\"; AMD64 manual vol. 3: with the \
                 operand-size prefix RIP is truncated to 16 bits"
            }
            Reason::PrefetchRegister => {
                "SDM vol. 2, appendix A: 0F 0D is NOP Ev; AMD64 manual vol. 3, PREFETCHW: a register operand is #UD"
            }
            Reason::MaskedStore => {
                "SDM vol. 2, MASKMOVDQU: with a mask of zeros, \"exceptions associated with addressing memory and page faults may \
                 still be signaled (implementation dependent)\""
            }
            Reason::GatherTrap => {
                "SDM vol. 2, VPGATHERDD: \"If any traps or interrupts are pending from already gathered elements, they will be \
                 delivered in lieu of the exception\"; AMD's processors count a single step among those"
            }
            Reason::MmxBeforeFault => {
                "SDM vol. 1, 9.5.1: after an MMX instruction TOP is 0 and every tag is valid; AMD's processors do that \
                 before the store of MASKMOVQ faults, Intel's clear TOP before any store faults"
            }
            Reason::Cr8ByLock => {
                "SDM vol. 2, LOCK: before any other instruction it is #UD; AMD64 manual vol. 3, MOV CRn: LOCK MOV CR0 is CR8, and \
                 privileged"
            }
            Reason::MovsxdSize => {
                "SDM vol. 2, MOVSXD: with 16 bits it reads r/m16; AMD64 manual vol. 3, MOVSXD: reg/mem32"
            }
            Reason::MisalignedMode => {
                "SDM vol. 1, 10.2.3: MXCSR's bits 16 to 31 are reserved, setting one is #GP; AMD64 manual vol. 1, 4.2.2: bit 17 is \
                 the misaligned exception mask"
            }
            Reason::PartialPop => {
                "SDM vol. 2, POPA pops register by register and says nothing of a fault between two; processors of both \
                 makers keep what was popped before it, except the stack pointer"
            }
            Reason::PartialPush => {
                "SDM vol. 2, PUSHA pushes register by register and says nothing of a fault between two; AMD's processors leave in \
                 memory what was pushed before it"
            }
            Reason::InvalidLength => {
                "SDM vol. 3A, table 6-2: faults from fetching come before those from decoding; how many bytes an opcode has that does \
                 not exist is nowhere said"
            }
            Reason::RepeatedLoop => {
                "SDM vol. 2, 2.1.1: \"use of repeat prefixes and/or undefined opcodes with other Intel 64 or IA-32 instructions is \
                 reserved; such use may cause unpredictable behavior\""
            }
            Reason::CompareC1 => {
                "SDM vol. 2, FCOMI/FCOMIP/FUCOMI/FUCOMIP: \"C1: Set to 0\"; processors of both makers leave it as it was"
            }
            Reason::SelectorPush => {
                "SDM vol. 2, PUSH: with 32 bits \"either a zero-extended value is pushed on the stack or the segment selector is \
                 written on the stack using a 16-bit move\"; Intel's do the latter, AMD's the former"
            }
            Reason::PermuteWidth => {
                "SDM vol. 2, VPERMQ and VPERMPD: the opcode has VEX.W1, and so is another, undefined one with VEX.W0; AMD's \
                 processors do not look at VEX.W there"
            }
            Reason::ElementWidth => {
                "SDM vol. 2, VPEXTRQ and VPINSRQ: \"VEX.W/EVEX.W in non-64 bit is ignored; the instructions behaves as if the W0 \
                 version is used\"; AMD's processors raise #UD"
            }
            Reason::MaskedAddress => {
                "SDM vol. 3A, 6.15, #PF: CR2 has \"the linear address that generated the exception\", of an access of \
                 several bytes any; Intel's processors report the last byte of the last lane in the page, AMD's the first"
            }
            Reason::PartialStore => {
                "SDM vol. 3A, 8.1.1: an x87 instruction with an operand larger than a quadword may store by several \
                 accesses, of which \"some of the accesses may complete (writing to memory) while another causes the \
                 operation to fault\""
            }
            Reason::MaskedWrap => {
                "SDM vol. 1, 3.7.5.1: it is the operand's effective address that is cut to the address size, and lanes \
                 behind it may lie beyond 64 KiB or 4 GiB; AMD's processors cut the address of each"
            }
            Reason::GatherUpper => {
                "SDM vol. 2, VGATHERDPS: the pseudo-code clears DEST[MAXVL-1:128] behind the last element, and a fault \
                 \"exits the instruction\"; Intel's processors have done it before"
            }
            Reason::FlagsBeforeFault => {
                "Intel's specification updates have it among the errata that VCVTPS2PH to memory may set MXCSR's flags \
                 though its store faults; the SDM says nothing of it"
            }
            Reason::HalfInexact => {
                "SDM vol. 1, 4.9.1.5: an unmasked underflow is of the result with an unbounded exponent; Intel's processors \
                 add PE where only the denormal half would be inexact"
            }
            Reason::HalfAlignment => {
                "SDM vol. 2, 2.4.9: VCVTPH2PS and VCVTPS2PH are of type 11, \"No AC\"; AMD's processors check operands of 8 \
                 bytes"
            }
            Reason::StringFlags => {
                "SDM vol. 2, REP: \"When a fault occurs during the execution of a CMPS or SCAS instruction that is prefixed \
                 with REPE or REPNE, the EFLAGS value is restored to the state prior to the execution of the instruction\"; \
                 AMD's processors leave those of the last comparison"
            }
            Reason::StringUpper => {
                "SDM vol. 2, REP: without an element done nothing is written; Intel's processors have the upper halves of \
                 RCX, RSI and RDI cleared by then, as a write of 32 bits does"
            }
            Reason::DotNan => {
                "SDM vol. 1, table 4-7, says which of two NaNs an operation gives, and vol. 2, DPPS, nothing of several \
                 products; makers differ"
            }
            Reason::Absent => {
                "SDM vol. 2: #UD if the instruction's CPUID flag is 0; either the host or calque's processor has not got it"
            }
            Reason::GatherMask => {
                "SDM vol. 2, VGATHERDPS widens the mask's sign bits before the first access; AMD's processors leave elements that \
                 are still to do as they were"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Every reason with its words, for the end of a report.
pub fn all() -> Vec<(Reason, &'static str)> {
    [
        Reason::WildJump,
        Reason::UndefinedFlags,
        Reason::UndefinedResult,
        Reason::Approximate,
        Reason::Machine,
        Reason::System,
        Reason::SelfModified,
        Reason::VectorAlignment,
        Reason::SameClass,
        Reason::ShaAlignment,
        Reason::SegmentWrap,
        Reason::BranchSize,
        Reason::GatherMask,
        Reason::PrefetchRegister,
        Reason::ClzeroPrefix,
        Reason::MaskedStore,
        Reason::GatherTrap,
        Reason::MmxBeforeFault,
        Reason::Cr8ByLock,
        Reason::MovsxdSize,
        Reason::MisalignedMode,
        Reason::PartialPop,
        Reason::PartialPush,
        Reason::InvalidLength,
        Reason::RepeatedLoop,
        Reason::CompareC1,
        Reason::SelectorPush,
        Reason::PermuteWidth,
        Reason::ElementWidth,
        Reason::MaskedAddress,
        Reason::PartialStore,
        Reason::MaskedWrap,
        Reason::GatherUpper,
        Reason::FlagsBeforeFault,
        Reason::HalfInexact,
        Reason::HalfAlignment,
        Reason::StringFlags,
        Reason::StringUpper,
        Reason::DotNan,
        Reason::Absent,
    ]
    .map(|r| (r, r.words()))
    .into()
}

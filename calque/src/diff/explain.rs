//! Differences that are known, with the manual's words. Everything else is a failure.
//!
//! A difference is explained only by what the case really executed and only where the reason reaches: undefined flags
//! explain a difference in exactly those flags, and so on. `docs/diff.md` has the list for people.

use super::case::Case;
use super::leg::Ran;
use super::native::Seen;
use super::scene::{CODE, Scene};
use emu_core::state::bits::rflags;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic as M, OpKind, RflagsBits};
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
    /// It was the system that answered: a system call.
    System,
    /// Code that changed itself where it was already running; processors differ in when they see it.
    SelfModified,
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
            Reason::System => "enters the operating system",
            Reason::SelfModified => {
                "SDM vol. 3A, 8.1.3: self-modifying code has to jump or serialise before the new code runs"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Whether an instruction reads what belongs to the machine, or changes it: such are not generated for the host.
pub fn of_the_machine(m: M) -> Option<Reason> {
    Some(match m {
        M::Rdtsc | M::Rdtscp | M::Rdpmc | M::Rdrand | M::Rdseed | M::Rdpid | M::Cpuid | M::Xgetbv => {
            Reason::Machine
        }
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw | M::Lar | M::Lsl | M::Verr | M::Verw => {
            Reason::Machine
        }
        // The image of the x87's pointers: AMD's processors keep them only beside a pending exception.
        M::Fnstenv | M::Fnsave | M::Fstenv | M::Fsave | M::Fxsave | M::Fxsave64 | M::Fldenv | M::Frstor => {
            Reason::Machine
        }
        M::Fxrstor | M::Fxrstor64 => Reason::Machine,
        m if format!("{m:?}").starts_with("Xsave") || format!("{m:?}").starts_with("Xrstor") => {
            Reason::Machine
        }
        // Segment registers belong to the system's tables.
        M::Lds | M::Les | M::Lfs | M::Lgs | M::Lss | M::Iret | M::Iretd | M::Iretq | M::Retf => {
            Reason::System
        }
        M::Syscall | M::Sysenter | M::Int | M::Int1 | M::Int3 | M::Into | M::Sysexit | M::Sysret => {
            Reason::System
        }
        M::Sysexitq | M::Sysretq | M::Monitor | M::Mwait | M::Rdfsbase | M::Rdgsbase => Reason::System,
        M::Wrfsbase | M::Wrgsbase | M::Wrpkru | M::Rdpkru | M::Swapgs | M::Arpl => Reason::System,
        M::Umonitor | M::Umwait | M::Tpause | M::Monitorx | M::Mwaitx | M::Vmmcall | M::Vmcall => {
            Reason::System
        }
        _ => return None,
    })
}

/// Whether an instruction's result has a bound and no value.
pub fn approximate(m: M) -> bool {
    matches!(
        m,
        M::Rcpps
            | M::Rcpss
            | M::Rsqrtps
            | M::Rsqrtss
            | M::Vrcpps
            | M::Vrcpss
            | M::Vrsqrtps
            | M::Vrsqrtss
            | M::F2xm1
            | M::Fyl2x
            | M::Fyl2xp1
            | M::Fptan
            | M::Fpatan
            | M::Fsin
            | M::Fcos
            | M::Fsincos
            | M::Fprem
            | M::Fprem1
    )
}

/// Moves to or from a segment register, and far transfers.
pub fn loads_segment(i: &Instruction) -> bool {
    use iced_x86::FlowControl as F;
    let segment =
        (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Register && i.op_register(n).is_segment_register());
    let far = i.is_jmp_far() || i.is_call_far() || i.is_jmp_far_indirect() || i.is_call_far_indirect();
    far || segment && matches!(i.mnemonic(), M::Mov | M::Pop) && i.flow_control() == F::Next
}

/// Whether an instruction is left out of cases for the host.
pub fn kept_from_host(i: &Instruction) -> Option<Reason> {
    if let Some(why) = of_the_machine(i.mnemonic()) {
        return Some(why);
    }
    loads_segment(i).then_some(Reason::System)
}

/// Flags that `i` leaves undefined when it finds `gpr` (see `docs/undefined-flags.md`).
pub fn undefined_flags(i: &Instruction, cl: u64) -> u64 {
    let bits = i.rflags_undefined();
    let table = [
        (RflagsBits::OF, rflags::OF),
        (RflagsBits::SF, rflags::SF),
        (RflagsBits::ZF, rflags::ZF),
        (RflagsBits::AF, rflags::AF),
        (RflagsBits::CF, rflags::CF),
        (RflagsBits::PF, rflags::PF),
    ];
    let mask = table.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |m, (_, flag)| m | flag);
    let m = i.mnemonic();
    let through = matches!(m, M::Rol | M::Ror | M::Rcl | M::Rcr);
    if !through && !matches!(m, M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd) {
        return mask;
    }
    let width = match i.op_kind(0) {
        OpKind::Register => 8 * i.op_register(0).size() as u64,
        _ => 8 * i.memory_size().size() as u64,
    };
    let last = i.op_count().saturating_sub(1);
    let count = match i.op_kind(last) {
        OpKind::Register => cl & 0xff,
        _ => i.immediate(last),
    } & if width == 64 { 63 } else { 31 };
    match count {
        0 => 0,
        1 if through => 0,
        1 => rflags::AF,
        _ if through => rflags::OF,
        n if n >= width && m != M::Sar => rflags::AF | rflags::OF | rflags::CF,
        _ => rflags::AF | rflags::OF,
    }
}

/// Whether the result of `i` is undefined when CL is `cl`.
fn undefined_result(i: &Instruction, cl: u64) -> bool {
    match i.mnemonic() {
        M::Shld | M::Shrd => {
            let last = i.op_count() - 1;
            let n = if i.op_kind(last) == OpKind::Register { cl } else { i.immediate(last) } & 31;
            let size = match i.op_kind(0) {
                OpKind::Register => i.op_register(0).size(),
                _ => i.memory_size().size(),
            };
            size == 2 && n > 16
        }
        M::Bswap => i.op_register(0).size() == 2,
        _ => false,
    }
}

/// The instructions that ran, as far as straight decoding of the case tells. A jump into the middle of one shows others.
fn decoded(case: &Case, scene: &Scene) -> Vec<Instruction> {
    let code = case.bytes();
    let mut list: Vec<Instruction> = Vec::new();
    for start in 0..code.len() {
        // From every byte, since a branch may lead anywhere.
        let at = CODE + case.at + start as u64;
        let i = Decoder::with_ip(scene.bits, &code[start..], at, DecoderOptions::NONE).decode();
        if !i.is_invalid() {
            list.push(i);
        }
    }
    list
}

/// Why the host may differ in `list`, if it may.
pub(super) fn host(case: &Case, scene: &Scene, ran: &Ran, seen: &Seen, list: &[String]) -> Option<Reason> {
    if seen.signal == 31 {
        return Some(Reason::System);
    }
    let single = case.code.len() == 1;
    let boundaries = {
        let (mut at, mut set) = (0, vec![0]);
        for c in &case.code {
            at += c.len();
            set.push(at);
        }
        set
    };
    let all = decoded(case, scene);
    let meant = |i: &Instruction| boundaries.contains(&((i.ip() - CODE - case.at) as usize));
    let linear: Vec<&Instruction> = all.iter().filter(|i| meant(i)).collect();
    // What the case really executed: the instructions meant, or in a case with branches perhaps others.
    let branches = linear.iter().any(|i| i.flow_control() != iced_x86::FlowControl::Next);
    let ran_list: Vec<&Instruction> = if branches { all.iter().collect() } else { linear };
    let wild = ran.caught.is_some_and(|c| c.vector == 13) && branches && seen.vector == 13;
    if wild
        && list
            .iter()
            .all(|l| ["rip", "rsp", "rcx"].iter().any(|n| l.starts_with(n)) || l.starts_with("memory"))
    {
        return Some(Reason::WildJump);
    }
    if let Some(why) = ran_list.iter().find_map(|i| kept_from_host(i)) {
        return Some(why);
    }
    if ran_list.iter().any(|i| approximate(i.mnemonic())) {
        return Some(Reason::Approximate);
    }
    let cl = case.gpr[1];
    if ran_list.iter().any(|i| undefined_result(i, cl))
        || !single && ran_list.iter().any(|i| undefined_any(i))
    {
        return Some(Reason::UndefinedResult);
    }
    let touches_code = ran.journal.iter().any(|e| (CODE..CODE + 0x4000).contains(&e.addr.0));
    if touches_code && (branches || case.code.len() > 1) {
        return Some(Reason::SelfModified);
    }
    // Flags: only if nothing but they differ, and only those that are undefined.
    let only_flags = list.iter().all(|l| l.starts_with("rflags"));
    let undefined = ran_list.iter().fold(0, |m, i| m | undefined_flags(i, cl));
    let differing = (ran.state.rflags ^ seen.rflags) & rflags::STATUS;
    (only_flags && differing & !undefined == 0).then_some(Reason::UndefinedFlags)
}

/// A shift of 16-bit registers whose count comes from a register that an earlier instruction may have set.
fn undefined_any(i: &Instruction) -> bool {
    (17..32).any(|cl| undefined_result(i, cl))
}

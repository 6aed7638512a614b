//! Differences that are known, with the manual's words. Everything else is a failure.
//!
//! A difference is explained only by what the case really executed, as the interpreter's own trail of the case tells
//! ([`Step`]), and only where the reason reaches: undefined flags explain a difference in exactly those flags, and so
//! on. Where makers' processors differ is in [`super::makers`].

use super::intel;
use super::leg::{Ran, Step};
use super::makers;
use super::native::Seen;
use super::reasons::Reason;
use super::scene::Scene;
use emu_core::state::bits::rflags;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic as M, OpKind, RflagsBits};

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
        M::Umonitor
        | M::Umwait
        | M::Tpause
        | M::Monitorx
        | M::Mwaitx
        | M::Vmmcall
        | M::Vmcall
        | M::Vmload
        | M::Vmsave
        | M::Vmrun
        | M::Stgi
        | M::Clgi
        | M::Skinit
        | M::Invlpga => Reason::System,
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

/// The decoder's bits as the processor's.
fn flags_of(bits: u32) -> u64 {
    let table = [
        (RflagsBits::OF, rflags::OF),
        (RflagsBits::SF, rflags::SF),
        (RflagsBits::ZF, rflags::ZF),
        (RflagsBits::AF, rflags::AF),
        (RflagsBits::CF, rflags::CF),
        (RflagsBits::PF, rflags::PF),
    ];
    table.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |m, (_, flag)| m | flag)
}

/// Flags that `i` leaves undefined when it finds `gpr` (see `docs/undefined-flags.md`).
pub fn undefined_flags(i: &Instruction, cl: u64) -> u64 {
    let mask = flags_of(i.rflags_undefined());
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

/// Why the host may differ in `list`, if it may.
pub(super) fn host(scene: &Scene, ran: &Ran, seen: &Seen, list: &[String]) -> Option<Reason> {
    if seen.signal == 31 {
        return Some(Reason::System);
    }
    let all = executed(scene, ran);
    if let Some(why) = all.iter().find_map(|(_, i)| kept_from_host(i)) {
        return Some(why);
    }
    // C1, undefined flags and NaNs do not spread: what differs besides wants a reason of its own.
    let undefined = undefined_at_end(&all, ran);
    let differing = (ran.state.rflags ^ seen.rflags) & rflags::STATUS;
    let flags_too = differing != 0 && undefined.is_some_and(|u| differing & !u == 0);
    let c1_too = makers::only_c1(&all, ran, seen);
    let others = |l: &&String| {
        !(c1_too && l.starts_with("fsw")
            || flags_too && l.starts_with("rflags")
            || intel::is_nan_of_dot(&all, ran, seen, l))
    };
    let rest: Vec<String> = list.iter().filter(others).cloned().collect();
    let list = &rest[..];
    if list.is_empty() {
        return Some(match (c1_too, flags_too) {
            (true, _) => Reason::CompareC1,
            (_, true) => Reason::UndefinedFlags,
            _ => Reason::DotNan,
        });
    }
    if let Some(why) = makers::differ(scene, &all, ran, seen, list) {
        return Some(why);
    }
    if all.iter().any(|(_, i)| approximate(i.mnemonic())) {
        return Some(Reason::Approximate);
    }
    if all.iter().any(|(s, i)| undefined_result(i, s.gpr[1])) {
        return Some(Reason::UndefinedResult);
    }
    let written = |at: u64| ran.journal.entries.iter().any(|e| at.wrapping_sub(e.addr.0) < u64::from(e.len));
    if all.iter().any(|(s, i)| (0..i.len() as u64).any(|n| written(s.rip + n))) {
        return Some(Reason::SelfModified);
    }
    undefined.is_none().then_some(Reason::UndefinedFlags)
}

/// What was executed; what could not be fetched was not.
fn executed<'a>(scene: &Scene, ran: &'a Ran) -> Vec<(&'a Step, Instruction)> {
    let unfetched = |s: &Step| {
        ran.caught.is_some_and(|c| c.vector == 14 && c.cr2.wrapping_sub(s.rip) < 15 && s.rip == ran.state.rip)
            && ran.caught.and_then(|c| c.error).is_some_and(|e| e & 0x10 != 0)
    };
    ran.steps.iter().filter(|s| !unfetched(s)).map(|s| (s, decode(s, scene.bits))).collect()
}

/// Whether only status flags differ.
pub(super) fn only_status_flags(ran: &Ran, seen: &Seen) -> bool {
    (ran.state.rflags ^ seen.rflags) & super::host::FLAGS & !rflags::STATUS == 0
}

/// The flags that are undefined at the end of a case. None if somebody went by one.
pub(super) fn undefined(scene: &Scene, ran: &Ran) -> Option<u64> {
    undefined_at_end(&executed(scene, ran), ran)
}

/// The flags that are undefined at the end of a trail and have not been defined since. None if somebody went by one: then
/// anything may differ.
fn undefined_at_end(all: &[(&Step, Instruction)], ran: &Ran) -> Option<u64> {
    let mut undefined = 0;
    for (n, (s, i)) in all.iter().enumerate() {
        // The one that faulted; an earlier turn of a loop may have come by there.
        if ran.caught.is_some() && n + 1 == all.len() && s.rip == ran.state.rip {
            break;
        }
        if flags_of(i.rflags_read()) & undefined != 0 {
            return None;
        }
        undefined = undefined & !defined_flags(i) | undefined_flags(i, s.gpr[1]);
    }
    Some(undefined)
}

fn decode(step: &Step, bits: u32) -> Instruction {
    Decoder::with_ip(bits, &step.bytes, step.rip, DecoderOptions::NONE).decode()
}

/// Flags that `i` always writes: what was undefined in them before no longer is.
fn defined_flags(i: &Instruction) -> u64 {
    let m = i.mnemonic();
    let perhaps = matches!(
        m,
        M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shl | M::Sal | M::Shr | M::Sar | M::Shld | M::Shrd
    );
    if perhaps || i.has_rep_prefix() || i.has_repne_prefix() {
        return 0;
    }
    flags_of(i.rflags_written() | i.rflags_cleared() | i.rflags_set())
}

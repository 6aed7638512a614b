//! Every instruction of MMX, SSE, AVX, AVX2, FMA, F16C, AES, SHA, BMI, LZCNT and ADX, on the interpreter and on the host's processor.
//!
//! [`forms`] makes the instructions out of the decoder's own tables, so none can be forgotten; [`case`] makes
//! registers, memory and modes that look for trouble; [`host`] runs one instruction on the processor with all of
//! that loaded, exceptions included; [`guest`] does the same on the interpreter. Everything an instruction may
//! change is compared. `CALQUE_CASES` sets how many states each of an instruction's encodings meets.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod case;
mod forms;
mod guest;
mod host;
mod translated;

use calque::diff::native::{Maker, maker};
use case::{Case, Random};
use iced_x86::{Code, CpuidFeature};

/// Encodings of one form: registers, immediates.
const ENCODINGS: usize = 24;

/// Why an instruction is not compared.
fn skipped(code: Code) -> Option<&'static str> {
    match code {
        Code::Rcpps_xmm_xmmm128
        | Code::Rcpss_xmm_xmmm32
        | Code::Rsqrtps_xmm_xmmm128
        | Code::Rsqrtss_xmm_xmmm32
        | Code::VEX_Vrcpps_xmm_xmmm128
        | Code::VEX_Vrcpps_ymm_ymmm256
        | Code::VEX_Vrcpss_xmm_xmm_xmmm32
        | Code::VEX_Vrsqrtps_xmm_xmmm128
        | Code::VEX_Vrsqrtps_ymm_ymmm256
        | Code::VEX_Vrsqrtss_xmm_xmm_xmmm32 => {
            Some("approximations differ between processors; emu-core bounds their error")
        }
        _ => None,
    }
}

/// Where hosts differ from each other: AMD's MXCSR has the bit for misaligned operands, calque's has not.
/// And AMD's SHA instructions take misaligned memory, for which the manuals want #GP.
fn known_difference(code: Code, before: &Case, ours: &Case) -> bool {
    let sha = code.cpuid_features() == [CpuidFeature::SHA];
    sha && ours.fault == Some(13) && !before.offset.is_multiple_of(16)
        || matches!(code, Code::Ldmxcsr_m32 | Code::VEX_Vldmxcsr_m32)
            && before.memory[before.offset + 2] & 2 != 0
}

/// What Intel's processors do where the manual leaves it open: DPPS and DPPD choose another of several NaNs, and VCVTPS2PH sets
/// PE beside an unmasked underflow that is exact with an unbounded exponent.
fn settle(code: Code, theirs: &mut Case, ours: &Case) {
    let name = format!("{:?}", code.mnemonic());
    if name == "Vcvtps2ph" {
        let (ue, pe, um) = (1 << 4, 1 << 5, 1 << 11);
        if ours.mxcsr & (ue | pe | um) == ue && theirs.mxcsr == ours.mxcsr | pe && ours.fault.is_some() {
            theirs.mxcsr = ours.mxcsr;
        }
    }
    let lane: u32 = match &*name {
        "Dpps" | "Vdpps" => 32,
        "Dppd" | "Vdppd" => 64,
        _ => return,
    };
    let mask = u128::MAX >> (128 - lane);
    let nan = |v: u128| match lane {
        32 => f32::from_bits(v as u32).is_nan(),
        _ => f64::from_bits(v as u64).is_nan(),
    };
    for (a, b) in theirs.xmm.iter_mut().chain(&mut theirs.high).zip(ours.xmm.iter().chain(&ours.high)) {
        for at in (0..128).step_by(lane as usize) {
            if nan(*a >> at & mask) && nan(b >> at & mask) {
                *a = *a & !(mask << at) | b & mask << at;
            }
        }
    }
}

#[test]
fn every_instruction() {
    let cases = std::env::var("CALQUE_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(60);
    let only = std::env::var("CALQUE_ONLY").ok();
    let amd = maker() == Maker::Amd;
    let mut host = host::Host::new();
    let mut guest = guest::Guest::new();
    let (mut forms, mut failures, mut faults) = (0, Vec::new(), 0u64);
    let mut missing = Vec::new();
    for code in Code::values().filter(|&c| forms::wanted(c) && skipped(c).is_none()) {
        if !forms::offered(code) {
            missing.push(code);
            continue;
        }
        if only.as_ref().is_some_and(|o| !format!("{code:?}").contains(o.as_str())) {
            continue;
        }
        let mut random = Random::named(&format!("{code:?}"));
        for memory in forms::variants(code) {
            forms += 1;
            let mut wrong = 0;
            for _ in 0..ENCODINGS {
                let bytes = forms::encode(code, memory, &mut random);
                let undefined = forms::undefined_flags(&bytes);
                let indices = forms::indices(code, &bytes);
                host.prepare(&bytes);
                guest.prepare(&bytes);
                for _ in 0..cases {
                    let mut before = Case::new(&mut random);
                    if let Some((n, bits)) = indices {
                        before.indices(n, bits, &mut random);
                    }
                    let mut theirs = host.run(&before);
                    let mut ours = guest.run(&before);
                    faults += u64::from(theirs.fault.is_some());
                    if known_difference(code, &before, &ours) {
                        continue;
                    }
                    // BMI and the bit counts leave flags undefined.
                    if !amd {
                        settle(code, &mut theirs, &ours);
                    }
                    theirs.flags &= !undefined;
                    ours.flags &= !undefined;
                    if theirs != ours && wrong < 2 {
                        wrong += 1;
                        let what = theirs.difference(&ours);
                        failures.push(format!("{code:?} {bytes:02x?}\n  before {before:x?}\n  {what}"));
                    }
                }
            }
        }
    }
    eprintln!("{} instructions skipped that this host lacks: {missing:?}", missing.len());
    eprintln!("{forms} forms, {} states each, {faults} faults", ENCODINGS * cases);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The same instructions as host code against the interpreter, with guest registers in host registers and without.
#[test]
fn every_translated_instruction() {
    let cases = std::env::var("CALQUE_CASES").ok().and_then(|v| v.parse().ok()).unwrap_or(12);
    let only = std::env::var("CALQUE_ONLY").ok();
    let mut guest = guest::Guest::new();
    let mut engines = [true, false].map(translated::Translated::new);
    let (mut run, mut left, mut failures) = (0u64, Vec::new(), Vec::new());
    for code in Code::values().filter(|&c| forms::wanted(c) && forms::offered(c)) {
        if only.as_ref().is_some_and(|o| !format!("{code:?}").contains(o.as_str())) {
            continue;
        }
        let mut random = Random::named(&format!("{code:?}"));
        let (before_code, mut wrong) = (run, 0);
        for memory in forms::variants(code) {
            for _ in 0..ENCODINGS {
                let bytes = forms::encode(code, memory, &mut random);
                guest.prepare(&bytes);
                for engine in &mut engines {
                    let mut prepared = engine.prepare(&bytes);
                    for _ in 0..cases {
                        let before = Case::new(&mut random);
                        let Some(ours) = engine.run(&mut prepared, &before) else { continue };
                        run += 1;
                        let theirs = guest.run(&before);
                        if theirs != ours && wrong < 2 {
                            wrong += 1;
                            let what = theirs.difference(&ours);
                            failures.push(format!("{code:?} {bytes:02x?}\n  before {before:x?}\n  {what}"));
                        }
                    }
                }
            }
        }
        if run == before_code {
            left.push(code);
        }
    }
    eprintln!("{run} states; {} instructions left to the interpreter: {left:?}", left.len());
    assert!(
        failures.is_empty(),
        "{} failures (host is the interpreter):\n{}",
        failures.len(),
        failures.join("\n")
    );
}

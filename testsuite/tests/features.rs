//! `--cpu`: what a model does not advertise raises #UD, on every engine, and CPUID and XCR0 say the same.

use calque::diff::Kind;
use calque::embed::{CpuMode, End, Perms, Reg, Stop, Vm, VmConfig};
use emu_core::features::{FEATURES, Features};
use emu_core::ir::PassSet;
use iced_x86::{Code, Decoder, DecoderOptions};
use interp::features::code_offered;
use testsuite::instructions::encode;

const UD: u8 = 6;
const CODE: u64 = 0x1000;
const DATA: u64 = 0x3000;

/// Every feature that issue 3 names, by the name that `--cpu` has for it.
const NAMED: &[&str] = &[
    "fpu",
    "vme",
    "de",
    "pse",
    "tsc",
    "msr",
    "pae",
    "cx8",
    "apic",
    "sep",
    "pge",
    "cmov",
    "pat",
    "clflush",
    "mmx",
    "fxsr",
    "sse",
    "sse2",
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "cx16",
    "pcid",
    "pclmulqdq",
    "aes",
    "movbe",
    "xsave",
    "avx",
    "f16c",
    "fma",
    "rdrand",
    "x2apic",
    "tsc-deadline",
    "fsgsbase",
    "bmi1",
    "bmi2",
    "avx2",
    "smep",
    "smap",
    "invpcid",
    "rdseed",
    "adx",
    "clflushopt",
    "clwb",
    "sha",
    "umip",
    "pku",
    "vaes",
    "vpclmulqdq",
    "la57",
    "rdpid",
    "lahf-lm",
    "lzcnt",
    "sse4a",
    "syscall",
    "nx",
    "pdpe1gb",
    "rdtscp",
    "lm",
    "clzero",
    "xsaveopt",
    "xsavec",
    "xgetbv1",
    "xsaves",
];

/// The mode in which to run a form: its first in this order, with its bytes.
fn place(code: Code) -> Option<(CpuMode, Vec<u8>)> {
    [(64, CpuMode::Long64), (32, CpuMode::Prot32), (16, CpuMode::Prot16)].into_iter().find_map(
        |(bits, mode)| {
            let bytes = encode(code, bits).pop()?;
            let read = Decoder::new(bits, &bytes, DecoderOptions::NONE).decode();
            (read.code() == code).then_some((mode, bytes))
        },
    )
}

/// The vector of the exception that a machine with `features` ends the instruction with.
fn vector(features: Features, kind: Kind, mode: CpuMode, bytes: &[u8]) -> Option<u8> {
    let mut vm =
        Vm::new(VmConfig { cpl: 0, features, ..VmConfig::new(mode).engine(kind) }).expect("a machine");
    vm.map(CODE, 0x1000, Perms::parse("rwx").expect("rights")).expect("room");
    vm.map(DATA, 0x1000, Perms::parse("rwx").expect("rights")).expect("room");
    let mut code = bytes.to_vec();
    code.push(0xf4);
    vm.write(CODE, &code).expect("mapped");
    for name in ["rbx", "rsi", "rdi", "rax", "rdx", "rcx"] {
        vm.set(Reg::named(name).expect("a register"), DATA).expect("a value");
    }
    vm.set(Reg::named("rsp").expect("a register"), DATA + 0x800).expect("a value");
    vm.set(Reg::named("rip").expect("a register"), CODE).expect("a value");
    match vm.run(Stop { rip: None, max_insns: 2 }).end {
        End::Exception(e) | End::Shutdown(Some(e)) => Some(e.vector),
        _ => None,
    }
}

/// The bits that CPUID shows of each word of the features, in the order of [`words`].
fn cpuid(features: Features) -> [u32; 9] {
    let mut vm = Vm::new(VmConfig { features, ..VmConfig::new(CpuMode::Prot32) }).expect("a machine");
    vm.map(CODE, 0x1000, Perms::parse("rwx").expect("rights")).expect("room");
    vm.write(CODE, &[0x0f, 0xa2, 0xf4]).expect("mapped");
    let mut leaf = |eax: u64, ecx: u64| {
        let r = |name: &str| Reg::named(name).expect("a register");
        for (name, value) in [("rax", eax), ("rcx", ecx), ("rip", CODE)] {
            vm.set(r(name), value).expect("a value");
        }
        assert_eq!(vm.run(Stop { rip: None, max_insns: 1 }).end, End::Limit);
        ["rax", "rbx", "rcx", "rdx"].map(|n| vm.get(r(n)) as u32)
    };
    let (basic, extended) = (leaf(0, 0)[0], leaf(0x8000_0000, 0)[0]);
    let none = [0; 4];
    let one = leaf(1, 0);
    let seven = if basic >= 7 { leaf(7, 0) } else { none };
    let xsave = if basic >= 13 { leaf(13, 1) } else { none };
    let ext1 = if extended >= 0x8000_0001 { leaf(0x8000_0001, 0) } else { none };
    let ext8 = if extended >= 0x8000_0008 { leaf(0x8000_0008, 0) } else { none };
    [one[2], one[3], seven[1], seven[2], seven[3], ext1[2], ext1[3], ext8[1], xsave[0]]
}

fn words(f: &Features) -> [u32; 9] {
    [
        f.leaf1_ecx,
        f.leaf1_edx,
        f.leaf7_ebx,
        f.leaf7_ecx,
        f.leaf7_edx,
        f.ext1_ecx,
        f.ext1_edx,
        f.ext8_ebx,
        f.xsave_eax,
    ]
}

fn offered_by_max() -> impl Iterator<Item = Code> {
    let max = Features::max();
    Code::values().filter(move |c| c.op_code().is_instruction() && code_offered(&max, *c))
}

#[test]
fn max_has_what_is_promised() {
    for name in NAMED {
        let without = Features::parse(&format!("max,-{name}")).expect("a feature");
        assert_ne!(without, Features::max(), "{name} is not in `max`");
    }
    // Not in `max`, since MWAIT ends at once, but it can be had.
    Features::parse("max,+monitor").expect("a feature");
}

#[test]
fn what_is_not_advertised_is_ud() {
    let max = Features::max();
    let mut checked = 0;
    for named in FEATURES {
        let name = named.names[0];
        let without = Features::parse(&format!("max,-{name}")).expect("a feature");
        for code in offered_by_max().filter(|c| !code_offered(&without, *c)) {
            let Some((mode, bytes)) = place(code) else { continue };
            if mode == CpuMode::Long64 && !without.long_mode() {
                continue;
            }
            for kind in [Kind::Interp, Kind::Optimized(PassSet::ALL.0), Kind::Jit] {
                if kind == Kind::Jit && !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                    continue;
                }
                let got = vector(without, kind, mode, &bytes);
                // Without LZCNT and BMI1 these are BSR and BSF, and without MPX and the like NOPs.
                let other = matches!(name, "lzcnt" | "bmi1") && is_scan(code);
                if other {
                    assert_ne!(got, Some(UD), "{code:?} without {name} on {}", kind.name());
                } else {
                    assert_eq!(got, Some(UD), "{code:?} without {name} on {}", kind.name());
                }
                checked += 1;
            }
            // That it is #UD for want of the feature: with it, it is another thing.
            if !always_ud(code) {
                assert_ne!(vector(max, Kind::Interp, mode, &bytes), Some(UD), "{code:?} with everything");
            }
        }
    }
    assert!(checked > 3000, "{checked}");
}

fn is_scan(code: Code) -> bool {
    let name = format!("{code:?}");
    name.starts_with("Lzcnt") || name.starts_with("Tzcnt")
}

/// What is #UD in the states of this test though it is offered: it wants another mode or a bit of CR4.
fn always_ud(code: Code) -> bool {
    use iced_x86::Mnemonic as M;
    let m = code.mnemonic();
    let name = format!("{m:?}");
    // CR4.OSXSAVE, XCR0, CR4.PKE, CR4.FSGSBASE, EFER.SCE, SMM.
    let system = matches!(
        m,
        M::Xgetbv | M::Xsetbv | M::Rdpkru | M::Wrpkru | M::Syscall | M::Sysret | M::Sysretq | M::Rsm
    );
    system
        || name.starts_with("Xsave")
        || name.starts_with("Xrstor")
        || name.ends_with("fsbase")
        || name.ends_with("gsbase")
        || code.op_code().encoding() == iced_x86::EncodingKind::VEX
}

#[test]
fn cpuid_and_xcr0_say_what_the_model_has() {
    let all = ["486", "pentium", "pentium3", "x86-64-v1", "x86-64-v2", "x86-64-v3", "max", "default"];
    let mut models: Vec<String> = all.iter().map(|m| (*m).to_owned()).collect();
    models.extend(FEATURES.iter().map(|f| format!("max,-{}", f.names[0])));
    for model in models {
        let features = Features::parse(&model).expect("a model");
        // OSXSAVE and OSPKE follow CR4; the APIC bit is the machine's, which has none here.
        let (mut shown, mut want) = (cpuid(features), words(&features));
        for w in [&mut shown, &mut want] {
            w[0] &= !(1 << 27);
            w[1] &= !(1 << 9);
            w[3] &= !(1 << 4);
        }
        if features.max_basic < 7 {
            want[2..5].fill(0);
        }
        if features.max_basic < 13 || features.leaf1_ecx & emu_core::features::leaf1_ecx::XSAVE == 0 {
            want[8] = 0;
        }
        assert_eq!(shown, want, "{model}");
        // Every component that XCR0 may have, and no other.
        let avx = features.leaf1_ecx & emu_core::features::leaf1_ecx::AVX != 0;
        let pku = features.leaf7_ecx & emu_core::features::leaf7_ecx::PKU != 0;
        let xsave = features.leaf1_ecx & emu_core::features::leaf1_ecx::XSAVE != 0;
        let allowed = 3 | if avx { 4 } else { 0 } | if pku { 0x200 } else { 0 };
        for (value, good) in
            [(3, true), (7, avx), (0x203, pku), (allowed, true), (1 << 5 | 3, false), (0x1b, false)]
        {
            assert_eq!(xsetbv(features, value), xsave && good, "{model}: XCR0 = {value:#x}");
        }
    }
}

/// Whether XCR0 can be set to `value`.
fn xsetbv(features: Features, value: u64) -> bool {
    let mode = if features.long_mode() { CpuMode::Long64 } else { CpuMode::Prot32 };
    let mut vm = Vm::new(VmConfig { cpl: 0, features, ..VmConfig::new(mode) }).expect("a machine");
    vm.map(CODE, 0x1000, Perms::parse("rwx").expect("rights")).expect("room");
    // mov eax, VALUE; xsetbv; hlt. CR4.OSXSAVE is set from the start where it exists.
    let mut code = vec![0xb8];
    code.extend((value as u32).to_le_bytes());
    code.extend([0x0f, 0x01, 0xd1, 0xf4]);
    vm.write(CODE, &code).expect("mapped");
    let r = |name: &str| Reg::named(name).expect("a register");
    for (name, value) in [("rcx", 0), ("rdx", 0), ("rip", CODE)] {
        vm.set(r(name), value).expect("a value");
    }
    vm.run(Stop { rip: None, max_insns: 10 }).end == End::Halted
}

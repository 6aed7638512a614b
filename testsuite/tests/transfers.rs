//! SYSCALL, SYSRET and IRETQ of translated code against the interpreter: the common way, and every reason to refuse.

use calque::runcase::Runner;
use serde_json::{Value, json};

const KERNEL_CODE: u64 = 0x0020_9b00_0000_0000;
const DATA: u64 = 0x00cf_9300_0000_ffff;
const USER: u64 = 3 << 45;

/// The answers of both engines, which have to agree; the interpreter's.
fn both(runner: &mut Runner, mut case: Value) -> Value {
    let mut answers = ["interp", "jit"].map(|engine| {
        case["engine"] = json!(engine);
        let (line, ok) = runner.line(&case.to_string(), 1);
        assert!(ok, "{line}");
        serde_json::from_str::<Value>(&line).expect("JSON")
    });
    assert_eq!(answers[0], answers[1], "{case}");
    answers[0].take()
}

fn hex(words: &[u64]) -> String {
    words.iter().flat_map(|w| w.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
}

/// What one run is made of: the frame that IRETQ pops, MSRs, and the table of segments.
#[derive(Clone)]
struct Setting {
    frame: [u64; 5],
    rflags: u64,
    star: u64,
    lstar: u64,
    fmask: u64,
    efer: u64,
    gdt: [u64; 6],
    gdt_limit: u64,
}

impl Setting {
    /// To user code at 2000h, which calls the system at 3000h sixty-four times.
    fn common() -> Self {
        Self {
            frame: [0x2000, 0x2b, 0x2c7, 0x7800, 0x23],
            rflags: 2,
            star: 0x18 << 48 | 8 << 32,
            lstar: 0x3000,
            fmask: 0x4_7700,
            efer: 0xd01,
            gdt: [0, KERNEL_CODE, DATA, KERNEL_CODE, DATA | USER, KERNEL_CODE | USER],
            gdt_limit: 47,
        }
    }

    fn case(&self) -> Value {
        // iretq; the user's: inc ebx, syscall, cmp ebx,64, jb, ud2; the system's: mov r8,r11, add rdx,rcx, pushfq,
        // pop r9, sysretq.
        json!({
            "id": 1, "mode": "long64", "cpl": 0,
            "regs": {
                "rip": 0x1000, "rsp": 0x6000, "rdx": 5, "rflags": format!("{:#x}", self.rflags),
                "cs": { "sel": 8, "base": 0, "limit": u32::MAX, "attr": 0xa09b },
                "ss": { "sel": 16, "base": 0, "limit": u32::MAX, "attr": 0xc093 },
                "ds": { "sel": 0, "base": 0, "limit": 0, "attr": 0 },
                "es": { "sel": 0, "base": 0, "limit": 0, "attr": 0 },
                "fs": { "sel": 0, "base": 0, "limit": 0, "attr": 0 },
                "gs": { "sel": 0, "base": 0, "limit": 0, "attr": 0 },
                "cr3": "0x10000", "gdtr": { "base": 0x5000, "limit": self.gdt_limit },
                "msrs": {
                    "efer": format!("{:#x}", self.efer), "star": format!("{:#x}", self.star),
                    "lstar": format!("{:#x}", self.lstar), "fmask": format!("{:#x}", self.fmask),
                },
            },
            "mem": [
                // One large page for everybody.
                [0x10000, hex(&[0x11007])], [0x11000, hex(&[0x12007])], [0x12000, hex(&[0x87])],
                [0x1000, "48cf"],
                [0x2000, "ffc30f0581fb4000000072f40f0b"],
                [0x3000, "4d89d84801ca9c4159480f07"],
                [0x5000, hex(&self.gdt)],
                [0x6000, hex(&self.frame)],
            ],
            "stop": { "max_insns": 2000 },
            "want_mem": [[0x5000, 48]],
        })
    }
}

#[test]
fn out_and_back_many_times() {
    let got = both(&mut Runner::default(), Setting::common().case());
    assert_eq!((&got["end"], &got["exc"]["vec"]), (&json!("exception"), &json!(6)), "{got}");
    assert_eq!((&got["regs"]["rip"], &got["regs"]["rbx"]), (&json!("0x200c"), &json!("0x40")), "{got}");
}

#[test]
fn whatever_is_not_common_is_the_same() {
    let mut runner = Runner::default();
    let mut ends = std::collections::BTreeSet::new();
    let mut tried = |s: Setting| {
        let got = both(&mut runner, s.case());
        ends.insert(format!("{} {}", got["end"], got["exc"]));
    };
    let with = |change: &dyn Fn(&mut Setting)| {
        let mut s = Setting::common();
        change(&mut s);
        s
    };
    for bits in
        [0u64, 0x100, 0x200, 0x400, 0x3000, 0x4000, 0x1_0000, 0x2_0000, 0x4_0000, 0x18_0000, 0x20_0000, 0x8d5]
    {
        tried(with(&|s| s.frame[2] = bits | 2));
        tried(with(&|s| s.fmask = bits));
        tried(with(&|s| s.rflags = bits & !0x2_0000 | 2));
    }
    for cs in [0, 3, 8, 0x0b, 0x10, 0x18, 0x1b, 0x20, 0x23, 0x28, 0x29, 0x2b, 0x2c, 0x33, 0xffff] {
        tried(with(&|s| s.frame[1] = cs));
        tried(with(&|s| s.frame[4] = cs));
        // Back to the kernel, with and without a stack segment.
        for ss in [0u64, 1, 3, 0x10, 0x13, 8] {
            tried(with(&|s| (s.frame[1], s.frame[4]) = (cs, ss)));
        }
    }
    for rip in [0x3000, 0x9000, 1 << 47, !0, !0 << 47, 1 << 32] {
        tried(with(&|s| s.frame[0] = rip));
        // A processor refuses another in the MSR.
        if rip != 1 << 47 {
            tried(with(&|s| s.lstar = rip));
        }
        tried(with(&|s| s.frame[3] = rip));
    }
    for n in 1..6usize {
        for bit in 40..56 {
            tried(with(&|s| s.gdt[n] ^= 1 << bit));
        }
    }
    for limit in [0, 7, 39, 40, 46] {
        tried(with(&|s| s.gdt_limit = limit));
    }
    tried(with(&|s| s.efer &= !1));
    for star in [0, 3 << 32, 0x1b << 48 | 8 << 32, !0] {
        tried(with(&|s| s.star = star));
    }
    assert!(ends.len() > 8, "{ends:?}");
}

//! `run-case`: what comes back for what goes in, errors by line and field, and the schema beside it.

use calque::runcase::{Runner, run};
use serde_json::{Value, json};

fn answer(case: &Value) -> Value {
    let (line, _) = Runner::default().line(&case.to_string(), 7);
    serde_json::from_str(&line).expect("JSON")
}

#[test]
fn every_mode_and_engine_adds_two_numbers() {
    let mut runner = Runner::default();
    for mode in ["real16", "prot16", "prot32", "v86", "long64", "compat32"] {
        for engine in ["interp", "jit", "eval"] {
            // add ax,bx (or eax,ebx); out 0x80,al; then the stop.
            let case = json!({
                "id": [mode, engine], "mode": mode, "engine": engine, "cpl": if mode == "v86" { 3 } else { 0 },
                "regs": { "rip": 0x1000, "rax": 40, "rbx": "0x2", "rflags": if mode == "v86" { "0x3000" } else { "0" } },
                "map": [[0x1000, 4096, "rwx"], ["0x2000", 4096, "rwx"]],
                "mem": [[0x1000, "01d8a30020"]], "stop": { "rip": 0x1002, "max_insns": 10 },
                "want_mem": [[0x1000, 3]],
            });
            let (line, ok) = runner.line(&case.to_string(), 1);
            assert!(ok, "{line}");
            let got: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(got["id"], json!([mode, engine]));
            assert_eq!((&got["end"], &got["insns"]), (&json!("rip"), &json!(1)), "{line}");
            assert_eq!(got["regs"]["rax"], json!("0x2a"));
            assert_eq!(got["mem"], json!([["0x1000", "01d8a3"]]));
        }
    }
}

#[test]
fn exceptions_io_and_shutdown() {
    let code = |mode: &str, bytes: &str| json!({ "id": 1, "mode": mode, "cpl": 0, "regs": { "rip": 4096, "rdx": 0x3f8, "rax": 0x41 }, "mem": [[4096, bytes]] });
    let got = answer(&code("long64", "8b0425000000ff"));
    assert_eq!((&got["end"], &got["exc"]["vec"]), (&json!("exception"), &json!(14)), "{got}");
    assert_eq!(got["exc"]["cr2"], json!("0xffffffffff000000"));
    let got = answer(&code("prot32", "eeecf4"));
    assert_eq!(got["io"], json!([["out", 0x3f8, 1, 0x41], ["in", 0x3f8, 1, 0xff]]), "{got}");
    assert_eq!((&got["end"], &got["insns"]), (&json!("hlt"), &json!(3)));
    let mut case = code("prot32", "0f0b");
    case["regs"]["idtr"] = json!({ "base": 0, "limit": 0 });
    assert_eq!(answer(&case)["end"], json!("shutdown"));
    assert_eq!(answer(&code("real16", "ebfe"))["end"], json!("limit"));
}

/// `want` is part of `got`.
fn holds(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.iter().all(|(k, v)| got.get(k).is_some_and(|g| holds(v, g)))
        }
        _ => want == got,
    }
}

/// What the manual says of gates, tasks, breakpoints, paging and features that systems use, in `cases/system.jsonl`.
#[test]
fn system_features_on_every_engine() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/system.jsonl");
    let text = std::fs::read_to_string(path).expect("the cases");
    let mut runner = Runner::default();
    let mut count = 0;
    for line in text.lines() {
        let all: Value = serde_json::from_str(line).expect("JSON");
        let mut first = None;
        for engine in ["interp", "eval", "jit"] {
            let mut case = all["case"].clone();
            case["engine"] = json!(engine);
            let (answer, _) = runner.line(&case.to_string(), 1);
            let got: Value = serde_json::from_str(&answer).expect("JSON");
            let what = format!("{} on {engine}: {}", all["what"], all["asm"]);
            assert!(holds(&all["want"], &got), "{what}\nwanted {}\ngot {got}", all["want"]);
            assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{what}");
        }
        count += 1;
    }
    assert!(count > 70, "{count}");
}

#[test]
fn every_register_that_is_given_comes_back() {
    let vectors: Vec<String> = (0..16).map(|n| format!("{:032x}{:032x}", n + 1, 0x1111 * n + 1)).collect();
    let st: Vec<String> = (0..8).map(|n| format!("3fff{:016x}", (1u64 << 63) + n)).collect();
    let segment = |sel: u16| json!({ "sel": sel, "base": "0x2000", "limit": "0xffff", "attr": 0xc093 });
    let mut regs = json!({
        "rip": "0x1000", "rflags": "0x202", "cr0": "0x80010033", "cr2": "0x77", "cr4": "0x450620", "cr8": "0x3",
        "dr0": "0x10", "dr1": "0x20", "dr2": "0x30", "dr3": "0x40", "dr6": "0xffff0ff1", "dr7": "0x400",
        "xcr0": "0x207", "pkru": "0x55", "mxcsr": "0x1fa0", "fcw": "0x27f", "fsw": "0x1820", "ftw": "0xe0",
        "es": segment(0x10), "ds": segment(0x18), "fs": segment(0x20), "gs": segment(0x28),
        "tr": { "sel": 0x40, "base": "0x5000", "limit": "0x67", "attr": 0x8b },
        "ldtr": { "sel": 0x48, "base": "0x6000", "limit": "0xff", "attr": 0x82 },
        "gdtr": { "base": "0x7000", "limit": 0x7f }, "ymm": vectors, "st": st,
        "msrs": {
            "efer": "0xd01", "star": "0x23001000000000", "lstar": "0x1234", "cstar": "0x55", "fmask": "0x200",
            "kernel_gs_base": "0x99", "tsc_aux": "0x7", "sysenter_cs": "0x8", "sysenter_esp": "0x9",
            "sysenter_eip": "0xa", "pat": "0x7040600070406", "debugctl": "0x2",
        },
    });
    let names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r15"];
    for (n, name) in names.iter().enumerate() {
        regs[*name] = json!(format!("{:#x}", 0x8000_0000_0000_0001u64 + n as u64));
    }
    for engine in ["interp", "eval", "jit"] {
        let case = json!({
            "mode": "long64", "cpl": 0, "engine": engine, "regs": regs, "mem": [["0x1000", "90f4"]],
            "stop": { "rip": "0x1001" },
        });
        let got = answer(&case);
        let mut want = regs.clone();
        want["rip"] = json!("0x1001");
        assert_eq!(got["end"], json!("rip"), "{got}");
        for (name, value) in want.as_object().expect("registers") {
            assert!(holds(value, &got["regs"][name]), "{name}: {value} became {}", got["regs"][name]);
        }
    }
}

#[test]
fn a_case_chooses_its_processor() {
    let case = |cpu: &str, code: &str| json!({ "mode": "prot32", "cpu": cpu, "cpl": 0, "regs": { "rip": 4096 }, "mem": [[4096, code]] });
    // CMOVE, PADDQ on MMX registers, which came with SSE2, and RDTSC.
    for (code, first) in [("0f44c3f4", "pentium3"), ("0fd4c1f4", "x86-64-v1"), ("0f31f4", "pentium")] {
        let mut there = false;
        for cpu in ["486", "pentium", "pentium3", "x86-64-v1", "x86-64-v2", "x86-64-v3", "max"] {
            there |= cpu == first;
            let got = answer(&case(cpu, code));
            let want = if there { json!(null) } else { json!({ "vec": 6, "err": 0, "cr2": "0x0" }) };
            assert_eq!(got["exc"], want, "{code} on {cpu}: {got}");
        }
    }
}

#[test]
fn errors_name_the_line_and_the_field_and_stop_nothing() {
    for (case, field) in [
        (json!({ "id": 1 }), "mode"),
        (json!({ "mode": "long32" }), "mode"),
        (json!({ "mode": "v86", "cpl": 0 }), "cpl"),
        (json!({ "mode": "long64", "regs": { "rxx": 1 } }), "regs.rxx"),
        (json!({ "mode": "long64", "regs": { "rax": -1 } }), "regs.rax"),
        (json!({ "mode": "long64", "regs": { "cs": { "limit": 1u64 << 40 } } }), "regs.cs.limit"),
        (json!({ "mode": "long64", "regs": { "msrs": { "nope": 1 } } }), "regs.msrs.nope"),
        (json!({ "mode": "long64", "regs": { "xmm": ["xyz"] } }), "regs.xmm[0]"),
        (json!({ "mode": "long64", "map": [[0, 4096, "rwx"], [1, 4096, "rwx"]] }), "map[1]"),
        (json!({ "mode": "long64", "map": [[0, 4096, "wr"]] }), "map[0][2]"),
        (json!({ "mode": "real16", "map": [[0, 4096, "r"]] }), "map[0]"),
        (json!({ "mode": "long64", "map": [[0, 4096, "r"]], "mem": [[4095, "0000"]] }), "mem[0]"),
        (json!({ "mode": "long64", "mem": [[0, "123"]] }), "mem[0][1]"),
        (json!({ "mode": "long64", "stop": { "max": 1 } }), "stop.max"),
        (json!({ "mode": "long64", "want_mem": [[0, 4096]] }), "want_mem[0]"),
        (json!({ "mode": "long64", "engine": "kvm" }), "engine"),
        (json!({ "mode": "long64", "what": 1 }), "what"),
        (json!({ "mode": "long64", "map": [[4096, 4096, "r"], [0, 8192, "rw"]] }), "map[1]"),
        (json!({ "mode": "long64", "regs": { "cs": { "attr": 0xffff } } }), "regs.cs.attr"),
        (json!({ "mode": "prot32", "regs": { "ds": { "base": 1u64 << 32 } } }), "regs.ds.base"),
        (json!({ "mode": "long64", "regs": { "dr7": 1u64 << 32 } }), "regs.dr7"),
        (json!({ "mode": "long64", "regs": { "cr4": "0x800020" } }), "regs.cr4"),
        (json!({ "mode": "long64", "cpu": "z80" }), "cpu"),
        (json!({ "mode": "long64", "cpu": "max,+avx512f" }), "cpu"),
        (json!({ "mode": "long64", "cpu": "pentium" }), "cpu"),
        (json!({ "mode": "long64", "map": [[0, 1u64 << 62, "r"]] }), "map[0]"),
        (json!({ "mode": "long64", "want_mem": [[0, 1u64 << 63]] }), "want_mem[0]"),
        (json!({ "mode": "long64", "stop": { "max_insns": u64::MAX } }), "stop.max_insns"),
    ] {
        let got = answer(&case);
        assert_eq!((&got["line"], &got["field"]), (&json!(7), &json!(field)), "{case}: {got}");
    }
    let (answer, ok) = Runner::default().line(r#"{"mode":"long64","regs":{"rax":1,"rbx":2,"rax":3}}"#, 7);
    assert!(!ok && answer.contains("\"regs.rax\"") && answer.contains("twice"), "{answer}");
    let deep = format!("{{\"id\":{}", "[".repeat(100_000));
    for bad in ["{", "[]", "null", "\u{feff}{}", &deep] {
        let got: Value = serde_json::from_str(&Runner::default().line(bad, 7).0).expect("JSON");
        assert_eq!((&got["line"], &got["field"]), (&json!(7), &json!("")), "{got}");
    }
    let input = b"{\"id\":1,\"mode\":\"real16\",\"mem\":[[0,\"f4\"]]}\nnon\xffsense\n\n{\"id\":3,\"mode\":\"real16\",\"mem\":[[0,\"f4\"]]}";
    let mut out = Vec::new();
    assert_eq!(run(&mut &input[..], &mut out).expect("memory"), (2, 1));
    let lines: Vec<Value> = out
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!((&lines[0]["id"], &lines[1]["line"], &lines[2]["id"]), (&json!(1), &json!(2), &json!(3)));
}

#[test]
fn the_schema_knows_every_field() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/run-case.schema.json");
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the schema")).expect("JSON");
    let known = |what: &str| schema["$defs"][what]["properties"].as_object().expect("properties").clone();
    for key in ["id", "mode", "cpl", "regs", "cpu", "map", "mem", "stop", "want_mem", "engine"] {
        assert!(known("case").contains_key(key), "{key}");
    }
    let got = answer(&json!({ "mode": "real16", "mem": [[0, "f4"]] }));
    for key in got.as_object().expect("a result").keys() {
        assert!(known("result").contains_key(key), "{key}");
    }
}

/// Gives one line at a time, and asks for the next only when the last has been answered.
struct Conversation<'a> {
    lines: Vec<&'static [u8]>,
    answers: &'a std::cell::RefCell<Vec<u8>>,
    asked: usize,
}

impl std::io::Read for Conversation<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let answered = self.answers.borrow().iter().filter(|b| **b == b'\n').count();
        assert_eq!(answered, self.asked, "waits for a line, and has not answered the last");
        let Some(line) = self.lines.pop() else { return Ok(0) };
        self.asked += 1;
        buf[..line.len()].copy_from_slice(line);
        Ok(line.len())
    }
}

struct Answers<'a>(&'a std::cell::RefCell<Vec<u8>>);

impl std::io::Write for Answers<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_line_is_answered_before_the_next_is_waited_for() {
    let answers = std::cell::RefCell::default();
    let case: &[u8] = b"{\"mode\":\"real16\",\"mem\":[[0,\"f4\"]]}\n";
    let mut input = Conversation { lines: vec![case, b"nonsense\n", case], answers: &answers, asked: 0 };
    let mut output = std::io::BufWriter::with_capacity(1 << 20, Answers(&answers));
    assert_eq!(run(&mut input, &mut output).expect("memory"), (2, 1));
}

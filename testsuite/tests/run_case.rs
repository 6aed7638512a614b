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
    ] {
        let got = answer(&case);
        assert_eq!((&got["line"], &got["field"]), (&json!(7), &json!(field)), "{case}: {got}");
    }
    let input = b"{\"id\":1,\"mode\":\"real16\",\"mem\":[[0,\"f4\"]]}\nnonsense\n\n{\"id\":3,\"mode\":\"real16\",\"mem\":[[0,\"f4\"]]}";
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
    for key in ["id", "mode", "cpl", "regs", "map", "mem", "stop", "want_mem", "engine"] {
        assert!(known("case").contains_key(key), "{key}");
    }
    let got = answer(&json!({ "mode": "real16", "mem": [[0, "f4"]] }));
    for key in got.as_object().expect("a result").keys() {
        assert!(known("result").contains_key(key), "{key}");
    }
}

//! A result as a line of JSON, written by hand: it is most of the work of a small case.

use super::GENERAL;
use super::case::Case;
use super::field::FieldError;
use crate::embed::{End, ExceptionInfo, MSRS, Reg, Run, Seg, Vm};
use serde_json::Value;
use std::fmt::Write;

const SEGMENTS: [(&str, Seg); 6] =
    [("es", Seg::ES), ("cs", Seg::CS), ("ss", Seg::SS), ("ds", Seg::DS), ("fs", Seg::FS), ("gs", Seg::GS)];

/// Adds `value` in hexadecimal, in quotes.
fn hex(out: &mut String, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\"0x");
    let n = (64 - value.leading_zeros()).div_ceil(4).max(1);
    for i in (0..n).rev() {
        out.push(DIGITS[(value >> (4 * i) & 15) as usize] as char);
    }
    out.push('"');
}

fn member(out: &mut String, name: &str, value: u64) {
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    hex(out, value);
    out.push(',');
}

/// The result of a case.
///
/// # Errors
/// `want_mem` asks for what is not there.
pub(super) fn result(case: &Case, vm: &Vm, run: &Run, io: Vec<Value>) -> Result<String, FieldError> {
    let mut out = String::with_capacity(3072);
    let _ = write!(out, "{{\"id\":{},", case.id);
    let (end, exc) = match run.end {
        End::Halted => ("hlt", None),
        End::Exception(e) => ("exception", Some(e)),
        End::Rip => ("rip", None),
        End::Limit | End::Hook => ("limit", None),
        End::Shutdown(e) => ("shutdown", e),
    };
    let _ = write!(out, "\"end\":\"{end}\",\"exc\":");
    match exc {
        None => out.push_str("null"),
        Some(ExceptionInfo { vector, error, cr2 }) => {
            let _ = write!(out, "{{\"vec\":{vector},\"err\":{error},\"cr2\":");
            hex(&mut out, cr2);
            out.push('}');
        }
    }
    let _ = write!(out, ",\"insns\":{},\"regs\":{{", run.insns);
    registers(&mut out, vm);
    out.push_str("},\"mem\":[");
    let mut bytes = Vec::new();
    for (n, &(addr, len)) in case.want_mem.iter().enumerate() {
        bytes.clear();
        bytes.resize(len as usize, 0);
        vm.read(addr, &mut bytes).map_err(|e| FieldError::new(format!("want_mem[{n}]"), e.to_string()))?;
        out.push_str(if n == 0 { "[" } else { ",[" });
        hex(&mut out, addr);
        out.push_str(",\"");
        for b in &bytes {
            let _ = write!(out, "{b:02x}");
        }
        out.push_str("\"]");
    }
    out.push_str("],\"io\":");
    let _ = write!(out, "{}}}", Value::Array(io));
    Ok(out)
}

fn registers(out: &mut String, vm: &Vm) {
    for (n, reg) in GENERAL.into_iter().enumerate() {
        // Names without allocating.
        let name = match n {
            16 => "rip",
            17 => "rflags",
            n => NAMES[n],
        };
        member(out, name, vm.get(reg));
    }
    let segments = SEGMENTS.iter().map(|(name, seg)| (*name, vm.segment(*seg)));
    for (name, s) in segments.chain([("ldtr", vm.ldtr()), ("tr", vm.tr())]) {
        let _ = write!(out, "\"{name}\":{{\"sel\":{},", s.sel);
        member(out, "base", s.base);
        member(out, "limit", s.limit.into());
        let _ = write!(out, "\"attr\":{}}},", s.attr);
    }
    for (name, table) in [("gdtr", vm.gdtr()), ("idtr", vm.idtr())] {
        let _ = write!(out, "\"{name}\":{{");
        member(out, "base", table.base);
        let _ = write!(out, "\"limit\":{}}},", table.limit);
    }
    for (name, reg) in [
        ("cr0", Reg::Cr(0)),
        ("cr2", Reg::Cr(2)),
        ("cr3", Reg::Cr(3)),
        ("cr4", Reg::Cr(4)),
        ("cr8", Reg::Cr(8)),
        ("xcr0", Reg::Xcr0),
        ("pkru", Reg::Pkru),
        ("dr0", Reg::Dr(0)),
        ("dr1", Reg::Dr(1)),
        ("dr2", Reg::Dr(2)),
        ("dr3", Reg::Dr(3)),
        ("dr6", Reg::Dr(6)),
        ("dr7", Reg::Dr(7)),
        ("mxcsr", Reg::Mxcsr),
        ("fcw", Reg::Fcw),
        ("fsw", Reg::Fsw),
        ("ftw", Reg::Ftw),
    ] {
        member(out, name, vm.get(reg));
    }
    out.push_str("\"msrs\":{");
    for (name, number) in MSRS {
        member(out, name, vm.get(Reg::Msr(number)));
    }
    out.pop();
    out.push_str("},\"st\":[");
    for n in 0..8 {
        let (mant, se) = vm.st(n);
        let _ = write!(out, "{}\"{se:04x}{mant:016x}\"", if n == 0 { "" } else { "," });
    }
    let wide = (0..16).any(|n| vm.vector(n)[2..] != [0, 0]);
    out.push_str(if wide { "],\"ymm\":[" } else { "],\"xmm\":[" });
    for n in 0..16 {
        let v = vm.vector(n);
        out.push_str(if n == 0 { "\"" } else { ",\"" });
        if wide {
            let _ = write!(out, "{:016x}{:016x}", v[3], v[2]);
        }
        let _ = write!(out, "{:016x}{:016x}\"", v[1], v[0]);
    }
    out.push(']');
}

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

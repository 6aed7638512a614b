//! A case: read from JSON, and put into a processor.

use super::MEMORY;
use super::field::{Field, FieldError};
use crate::embed::{CpuMode, Kind, Perms, Reg, Seg, Segment, Table, Vm, VmError};
use emu_core::features::Features;
use emu_core::ir::PassSet;
use serde_json::Value;

/// Instructions after which a case ends if it does not say.
pub const MAX_INSNS: u64 = 1_000_000;
/// The most that it can ask for.
pub const MOST_INSNS: u64 = 1_000_000_000;

/// A register and what it is set to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Set {
    Reg(Reg, u64),
    Segment(SegmentName, PartialSegment),
    Table(bool, Table),
    Vector(usize, Vec<u8>),
    St(usize, (u64, u16)),
}

/// Which segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentName {
    Seg(Seg),
    Ldtr,
    Tr,
}

/// Parts of a segment register; the others follow from the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct PartialSegment {
    sel: Option<u16>,
    base: Option<u64>,
    limit: Option<u32>,
    attr: Option<u16>,
}

/// One case. See `docs/run-case.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Given back as it is.
    pub id: Value,
    /// Kind of code.
    pub mode: CpuMode,
    /// Privilege level.
    pub cpl: u8,
    /// Engine.
    pub engine: Kind,
    /// What the processor has.
    pub cpu: Features,
    /// Registers, in the order in which they are to be set, with their fields.
    pub(super) regs: Vec<(String, Set)>,
    /// CR3 or IDTR are the case's own.
    pub(super) own_tables: bool,
    pub(super) own_idt: bool,
    /// Mapped ranges.
    pub(super) map: Vec<(u64, u64, Perms)>,
    /// Bytes.
    pub(super) mem: Vec<(u64, Vec<u8>)>,
    /// HLT ends it.
    pub stop_hlt: bool,
    /// This RIP ends it.
    pub stop_rip: Option<u64>,
    /// So many instructions end it.
    pub max_insns: u64,
    /// What to give back.
    pub(super) want_mem: Vec<(u64, u64)>,
}

const SEGMENTS: [(&str, SegmentName); 8] = [
    ("es", SegmentName::Seg(Seg::ES)),
    ("cs", SegmentName::Seg(Seg::CS)),
    ("ss", SegmentName::Seg(Seg::SS)),
    ("ds", SegmentName::Seg(Seg::DS)),
    ("fs", SegmentName::Seg(Seg::FS)),
    ("gs", SegmentName::Seg(Seg::GS)),
    ("ldtr", SegmentName::Ldtr),
    ("tr", SegmentName::Tr),
];

impl Case {
    /// From a JSON value.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn parse(value: &Value) -> Result<Self, FieldError> {
        let root = Field::root(value);
        let Some(object) = value.as_object() else {
            return Err(FieldError::new("", "a case must be an object"));
        };
        let Some(mode) = object.get("mode") else {
            return Err(FieldError::new("mode", "is missing"));
        };
        let mode = parse_mode(&root.key("mode", mode))?;
        let mut case = Self {
            id: Value::Null,
            mode,
            cpl: mode.default_cpl(),
            engine: Kind::Interp,
            cpu: Features::max(),
            regs: Vec::new(),
            own_tables: false,
            own_idt: false,
            map: Vec::new(),
            mem: Vec::new(),
            stop_hlt: true,
            stop_rip: None,
            max_insns: MAX_INSNS,
            want_mem: Vec::new(),
        };
        for (key, value) in object {
            case.field(key, &root.key(key, value))?;
        }
        if !mode.has_cpl(case.cpl) {
            return Err(FieldError::new("cpl", format!("{} has no level {}", mode.name(), case.cpl)));
        }
        if mode.long() && !case.cpu.long_mode() {
            return Err(FieldError::new("cpu", format!("has no long mode, which {} needs", mode.name())));
        }
        case.distinct()?;
        // Segments first, since what RIP may be depends on CS; the top of the x87 stack before its registers.
        case.regs.sort_by_key(|(_, set)| match set {
            Set::Segment(..) => 0,
            Set::Reg(..) | Set::Table(..) => 1,
            _ => 2,
        });
        Ok(case)
    }

    fn field(&mut self, key: &str, f: &Field) -> Result<(), FieldError> {
        match key {
            "id" => self.id = f.value.clone(),
            "mode" => {}
            "cpl" => self.cpl = f.number_of(2)? as u8,
            "engine" => {
                self.engine = match f.string()? {
                    "interp" => Kind::Interp,
                    "jit" => Kind::Jit,
                    "eval" => Kind::Optimized(PassSet::ALL.0),
                    _ => return Err(f.error("must be \"interp\", \"jit\" or \"eval\"")),
                }
            }
            "cpu" => self.cpu = Features::parse(f.string()?).map_err(|e| f.error(e))?,
            "regs" => {
                for (name, value) in f.object()? {
                    self.register(name, &f.key(name, value))?;
                }
            }
            "map" => {
                for (n, value) in f.array()?.iter().enumerate() {
                    self.map_entry(&f.index(n, value))?;
                }
            }
            "mem" => {
                for (n, value) in f.array()?.iter().enumerate() {
                    let e = f.index(n, value);
                    let parts = e.array_of(2, "[address, \"hexadecimal bytes\"]")?;
                    let addr = e.index(0, &parts[0]).number()?;
                    let bytes = e.index(1, &parts[1]).bytes()?;
                    self.mem.push((addr, bytes));
                }
            }
            "stop" => {
                for (name, value) in f.object()? {
                    let s = f.key(name, value);
                    match name.as_str() {
                        "hlt" => self.stop_hlt = s.boolean()?,
                        "rip" if value.is_null() => self.stop_rip = None,
                        "rip" => self.stop_rip = Some(s.number()?),
                        "max_insns" => {
                            self.max_insns = s.number()?;
                            if self.max_insns > MOST_INSNS {
                                return Err(s.error(format!("must be at most {MOST_INSNS}")));
                            }
                        }
                        _ => return Err(s.error("is not known; there are hlt, rip and max_insns")),
                    }
                }
            }
            "want_mem" => {
                let mut total = 0u64;
                for (n, value) in f.array()?.iter().enumerate() {
                    let e = f.index(n, value);
                    let parts = e.array_of(2, "[address, length]")?;
                    let addr = e.index(0, &parts[0]).number()?;
                    let len = e.index(1, &parts[1]).number()?;
                    total = total.saturating_add(len);
                    if total > MEMORY {
                        return Err(e.error("asks for more than the 16 MiB that there are"));
                    }
                    self.want_mem.push((addr, len));
                }
            }
            _ => {
                return Err(f.error(
                    "is not known; there are id, mode, cpl, cpu, regs, map, mem, stop, want_mem and engine",
                ));
            }
        }
        Ok(())
    }

    /// No page is mapped twice.
    fn distinct(&self) -> Result<(), FieldError> {
        let mut order: Vec<usize> = (0..self.map.len()).collect();
        order.sort_by_key(|n| self.map[*n].0);
        for pair in order.windows(2) {
            let (below, above) = (&self.map[pair[0]], &self.map[pair[1]]);
            if below.0.saturating_add(below.1 - 1) >= above.0 {
                let (n, other) = (pair[0].max(pair[1]), pair[0].min(pair[1]));
                return Err(FieldError::new(format!("map[{n}]"), format!("overlaps map[{other}]")));
            }
        }
        Ok(())
    }

    fn map_entry(&mut self, e: &Field) -> Result<(), FieldError> {
        let parts = e.array_of(3, "[address, length, \"rwx\"]")?;
        let addr = e.index(0, &parts[0]).number()?;
        let len = e.index(1, &parts[1]).number()?;
        let rights = e.index(2, &parts[2]);
        let perms = Perms::parse(rights.string()?).ok_or_else(|| {
            rights.error("must be letters of \"rwx\" in this order, '-' for those that are not")
        })?;
        if addr % 4096 != 0 || len % 4096 != 0 || len == 0 {
            return Err(e.error("address and length must be multiples of 4096, and the length not 0"));
        }
        self.map.push((addr, len, perms));
        Ok(())
    }

    fn register(&mut self, name: &str, f: &Field) -> Result<(), FieldError> {
        let path = f.error("").field;
        if let Some((_, seg)) = SEGMENTS.iter().find(|s| s.0 == name) {
            let part = segment(f)?;
            self.regs.push((path, Set::Segment(*seg, part)));
            return Ok(());
        }
        match name {
            "gdtr" | "idtr" => {
                let mut table = Table::default();
                for (key, value) in f.object()? {
                    let p = f.key(key, value);
                    match key.as_str() {
                        "base" => table.base = p.number()?,
                        "limit" => table.limit = p.number_of(16)? as u16,
                        _ => return Err(p.error("is not known; there are base and limit")),
                    }
                }
                self.own_idt |= name == "idtr";
                self.regs.push((path, Set::Table(name == "idtr", table)));
            }
            "msrs" => {
                for (key, value) in f.object()? {
                    let p = f.key(key, value);
                    let number = match key.strip_prefix("0x") {
                        Some(hex) => u32::from_str_radix(hex, 16).ok(),
                        None => key.parse().ok(),
                    };
                    let reg = match (Reg::named(key), number) {
                        (Some(reg @ Reg::Msr(_)), _) => reg,
                        (None, Some(n)) => Reg::Msr(n),
                        _ => return Err(p.error("is not an MSR's name or number")),
                    };
                    self.regs.push((p.error("").field, Set::Reg(reg, p.number()?)));
                }
            }
            "xmm" | "ymm" => {
                let len = if name == "xmm" { 16 } else { 32 };
                let list = f.array()?;
                if list.len() > 16 {
                    return Err(f.error("has at most 16 registers"));
                }
                for (n, value) in list.iter().enumerate().filter(|(_, v)| !v.is_null()) {
                    let e = f.index(n, value);
                    self.regs.push((e.error("").field, Set::Vector(n, e.wide(len)?)));
                }
            }
            "st" => {
                let list = f.array()?;
                if list.len() > 8 {
                    return Err(f.error("has at most 8 registers"));
                }
                for (n, value) in list.iter().enumerate().filter(|(_, v)| !v.is_null()) {
                    let e = f.index(n, value);
                    let b = e.wide(10)?;
                    let mant = b[..8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
                    self.regs.push((e.error("").field, Set::St(n, (mant, u16::from_le_bytes([b[8], b[9]])))));
                }
            }
            _ => {
                let vector = |prefix| name.strip_prefix(prefix).and_then(|n: &str| n.parse::<usize>().ok());
                if let Some(n) = vector("xmm").filter(|n| *n < 16) {
                    self.regs.push((path, Set::Vector(n, f.wide(16)?)));
                } else if let Some(n) = vector("ymm").filter(|n| *n < 16) {
                    self.regs.push((path, Set::Vector(n, f.wide(32)?)));
                } else if let Some(n) = vector("st").filter(|n| *n < 8) {
                    let b = f.wide(10)?;
                    let mant = b[..8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
                    self.regs.push((path, Set::St(n, (mant, u16::from_le_bytes([b[8], b[9]])))));
                } else if let Some(reg) = Reg::named(name).filter(|r| !matches!(r, Reg::Msr(_))) {
                    self.own_tables |= reg == Reg::Cr(3);
                    self.regs.push((path, Set::Reg(reg, f.number()?)));
                } else {
                    return Err(f.error("is not a register"));
                }
            }
        }
        Ok(())
    }

    /// Puts the case into a processor.
    ///
    /// # Errors
    /// The field that cannot be.
    pub fn load(&self, vm: &mut Vm) -> Result<(), FieldError> {
        let of = |field: &str, e: VmError| FieldError::new(field, e.to_string());
        vm.reset(self.mode, self.cpl).map_err(|e| of("cpl", e))?;
        if self.own_tables {
            vm.own_tables();
        }
        vm.deliver_exceptions(self.own_idt);
        for (n, &(addr, len, perms)) in self.map.iter().enumerate() {
            vm.map(addr, len, perms).map_err(|e| of(&format!("map[{n}]"), e))?;
        }
        if self.map.is_empty() && vm.keeps_tables() {
            // Nothing said: what has bytes is mapped.
            for (n, (addr, bytes)) in self.mem.iter().enumerate().filter(|m| !m.1.1.is_empty()) {
                let wrong = |e| of(&format!("mem[{n}]"), e);
                let end = addr.checked_add(bytes.len() as u64).and_then(|e| e.checked_next_multiple_of(4096));
                let first = addr & !0xfff;
                let Some(end) = end else {
                    return Err(wrong(VmError::OutOfRange { addr: *addr, len: bytes.len() as u64 }));
                };
                vm.map(first, end - first, Perms::RWX).map_err(wrong)?;
            }
        }
        for (n, (addr, bytes)) in self.mem.iter().enumerate() {
            vm.write(*addr, bytes).map_err(|e| of(&format!("mem[{n}]"), e))?;
        }
        for (field, set) in &self.regs {
            self.set(vm, set).map_err(|e| match &e {
                // Which part of a segment register: "CS.attr".
                VmError::BadValue { name, .. } => match name.split_once('.') {
                    Some((_, part)) => of(&format!("{field}.{part}"), e),
                    None => of(field, e),
                },
                _ => of(field, e),
            })?;
        }
        // Whether the level still is what was asked for does not matter, but RIP must be possible under the last CS.
        Ok(())
    }

    fn set(&self, vm: &mut Vm, set: &Set) -> Result<(), VmError> {
        match set {
            Set::Reg(Reg::Rflags, value) => {
                let vm_flag = vm.get(Reg::Rflags) & 1 << 17;
                vm.set(Reg::Rflags, value | vm_flag)
            }
            Set::Reg(reg, value) => vm.set(*reg, *value),
            Set::Segment(name, part) => {
                let old = match name {
                    SegmentName::Seg(seg) => vm.segment(*seg),
                    SegmentName::Ldtr => vm.ldtr(),
                    SegmentName::Tr => vm.tr(),
                };
                let base = match (part.sel, self.mode.paragraphs()) {
                    (Some(sel), true) => u64::from(sel) << 4,
                    _ => old.base,
                };
                let new = Segment {
                    sel: part.sel.unwrap_or(old.sel),
                    base: part.base.unwrap_or(base),
                    limit: part.limit.unwrap_or(old.limit),
                    attr: part.attr.unwrap_or(old.attr),
                };
                match name {
                    SegmentName::Seg(seg) => vm.set_segment(*seg, new)?,
                    SegmentName::Ldtr => vm.set_ldtr(new),
                    SegmentName::Tr => vm.set_tr(new),
                }
                Ok(())
            }
            Set::Table(true, table) => {
                vm.set_idtr(*table);
                Ok(())
            }
            Set::Table(false, table) => {
                vm.set_gdtr(*table);
                Ok(())
            }
            Set::Vector(n, bytes) => {
                let mut value = vm.vector(*n);
                for (quad, b) in value.iter_mut().zip(bytes.chunks_exact(8)) {
                    *quad = u64::from_le_bytes(b.try_into().unwrap_or_default());
                }
                vm.set_vector(*n, value);
                Ok(())
            }
            Set::St(n, value) => {
                vm.set_st(*n, *value);
                Ok(())
            }
        }
    }
}

fn parse_mode(f: &Field) -> Result<CpuMode, FieldError> {
    CpuMode::named(f.string()?)
        .ok_or_else(|| f.error("must be real16, prot16, prot32, v86, long64 or compat32"))
}

fn segment(f: &Field) -> Result<PartialSegment, FieldError> {
    let mut part = PartialSegment::default();
    for (key, value) in f.object()? {
        let p = f.key(key, value);
        match key.as_str() {
            "sel" => part.sel = Some(p.number_of(16)? as u16),
            "base" => part.base = Some(p.number()?),
            "limit" => part.limit = Some(p.number_of(32)? as u32),
            "attr" => part.attr = Some(p.number_of(16)? as u16),
            _ => return Err(p.error("is not known; there are sel, base, limit and attr")),
        }
    }
    Ok(part)
}

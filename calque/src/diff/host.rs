//! The native leg beside the engines: which cases go there, and the comparison with the interpreter.

use super::case::Case;
use super::leg::Ran;
use super::native::{Native, Seen};
use super::scene::{CODE, Scene};
use emu_core::state::bits::rflags;

/// The child, started again when a case has killed it.
#[derive(Debug, Default)]
pub struct HostLeg {
    native: Option<Native>,
    /// Times that it had to be started again.
    pub restarts: u64,
}

impl HostLeg {
    /// Sends those of `cases` that ended under the interpreter; gives their numbers.
    pub(super) fn send(
        &mut self,
        scene: &Scene,
        image: &[u8],
        cases: &[Case],
        reference: &[Option<Ran>],
    ) -> Vec<usize> {
        if self.native.is_none() {
            self.native = Native::new().ok();
        }
        let Some(native) = &mut self.native else { return Vec::new() };
        let list: Vec<usize> =
            (0..cases.len()).filter(|n| reference[*n].is_some() && patchable(scene, &cases[*n])).collect();
        let chosen: Vec<&Case> = list.iter().map(|n| &cases[*n]).collect();
        match native.send(scene, image, &chosen) {
            Ok(()) => list,
            Err(_) => {
                self.lost();
                Vec::new()
            }
        }
    }

    /// What became of them; nothing if the child has died.
    pub(super) fn receive(&mut self, count: usize) -> Vec<Seen> {
        let got = self.native.as_mut().map(|n| n.receive(count));
        match got {
            Some(Ok(list)) => list,
            _ => {
                self.lost();
                Vec::new()
            }
        }
    }

    fn lost(&mut self) {
        self.native = None;
        self.restarts += 1;
    }
}

/// The first address that Linux gives no program: its `TASK_SIZE_MAX` with four levels of tables.
const BEHIND_PROGRAMS: u64 = 0x7fff_ffff_f000;

/// The flags that are compared: RF is set by the delivery of a fault, and the kernel's IF says nothing.
pub(super) const FLAGS: u64 = rflags::ALL & !(rflags::RF | rflags::IF | rflags::IOPL);

/// Bits of a page fault's error code that say nothing: Linux says "present" of every address behind those of programs,
/// so that nobody learns what it has there.
pub(super) fn hidden(cr2: u64) -> u32 {
    u32::from(cr2 >= BEHIND_PROGRAMS)
}

/// Whether the runner can write the case's code and patches: it writes with the rights that the case has.
fn patchable(scene: &Scene, case: &Case) -> bool {
    let code = (CODE + case.at, case.bytes().len());
    case.patches.iter().map(|(at, bytes)| (*at, bytes.len())).chain([code]).all(|(at, len)| {
        let last = at + (len as u64).max(1) - 1;
        [at, last].iter().all(|a| scene.host_rights(*a, case.layout) & 2 != 0)
    })
}

pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn quad(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// Every difference between the interpreter and the host's processor.
pub(super) fn compare(case: &Case, scene: &Scene, base: &[u8], ran: &Ran, seen: &Seen) -> Vec<String> {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    let s = &ran.state;
    if seen.vector == Seen::ENDLESS {
        return vec![format!("end: interpreter at rip {:#x}, host none, last at {:#x}", s.rip, seen.rip)];
    }
    let mut list = Vec::new();
    let mut check = |name: &str, ours: u64, host: u64| {
        if ours != host {
            list.push(format!("{name}: interpreter {ours:#x}, host {host:#x}"));
        }
    };
    let wide = scene.bits == 64;
    let count = if wide { 16 } else { 8 };
    let cut = |v: u64| if wide { v } else { v & 0xffff_ffff };
    for (name, (ours, host)) in NAMES.iter().zip(s.gpr.iter().zip(&seen.gpr)).take(count) {
        check(name, cut(*ours), cut(*host));
    }
    let (vector, error, cr2) = match &ran.caught {
        Some(c) => (u64::from(c.vector), c.error.unwrap_or(0), c.cr2),
        None => (u64::MAX, 0, 0),
    };
    check("vector", vector, seen.vector.into());
    check("rip", s.rip, seen.rip);
    check("rflags", s.rflags & FLAGS, seen.rflags & FLAGS);
    if vector == 14 && seen.vector == 14 {
        let hidden = hidden(seen.cr2);
        check("error code", u64::from(error | hidden), u64::from(seen.error | hidden));
        check("cr2", cr2, seen.cr2);
    } else if vector == u64::from(seen.vector) {
        check("error code", error.into(), seen.error.into());
    }
    let f = &seen.fxsave[..];
    check("fcw", s.fpu.fcw.into(), word(f, 0).into());
    check("fsw", s.fpu.fsw.into(), word(f, 2).into());
    check("ftw", s.fpu.ftw.into(), f[4].into());
    let top = usize::from(s.fpu.fsw >> 11 & 7);
    for n in 0..8 {
        let r = s.fpu.st[(top + n) & 7];
        let at = 32 + 16 * n;
        if (r.mant, r.se) != (quad(f, at), word(f, at + 8)) {
            let host = (word(f, at + 8), quad(f, at));
            list.push(format!(
                "st({n}): interpreter {:04x}_{:016x}, host {:04x}_{:016x}",
                r.se, r.mant, host.0, host.1
            ));
        }
    }
    let mxcsr = u64::from(word(f, 24));
    if u64::from(s.mxcsr) != mxcsr {
        list.push(format!("mxcsr: interpreter {:#x}, host {mxcsr:#x}", s.mxcsr));
    }
    for n in 0..16 {
        let v = s.vec[n].0;
        let at = 160 + 16 * n;
        let host = [quad(f, at), quad(f, at + 8), seen.upper[n][0], seen.upper[n][1]];
        let upper = s.xcr0 & 4 != 0;
        if v[..2] != host[..2] || upper && v[2..4] != host[2..] {
            list.push(format!(
                "vector register {n}: interpreter {:016x}_{:016x}_{:016x}_{:016x}, host {:016x}_{:016x}_{:016x}_{:016x}",
                v[3], v[2], v[1], v[0], host[3], host[2], host[1], host[0]
            ));
        }
    }
    list.extend(memory(case, base, ran, seen));
    list
}

/// The first difference in memory.
fn memory(case: &Case, base: &[u8], ran: &Ran, seen: &Seen) -> Option<String> {
    let theirs = seen.changes.iter().map(|c| c.0);
    left_behind(case, base, ran, theirs).into_iter().find_map(|Eight { at, untouched, ours }| {
        let host = seen.changes.binary_search_by_key(&at, |c| c.0).map_or(untouched, |n| seen.changes[n].1);
        (ours != host).then(|| format!("memory at {at:#x}: interpreter {ours:#018x}, host {host:#018x}"))
    })
}

/// Eight bytes of memory.
pub(super) struct Eight {
    /// Where; a multiple of eight.
    pub(super) at: u64,
    /// What the scene has there.
    pub(super) untouched: u64,
    /// What the interpreter left there.
    pub(super) ours: u64,
}

/// Every eight bytes that the interpreter or the loading of the case may have changed, and those at `also`, by address.
pub(super) fn left_behind(
    case: &Case,
    base: &[u8],
    ran: &Ran,
    also: impl Iterator<Item = u64>,
) -> Vec<Eight> {
    let written = ran.journal.last_bytes();
    let code = case.bytes();
    let patches = case.patches.iter().map(|(at, bytes)| (*at, &bytes[..]));
    let put: Vec<(u64, &[u8])> = patches.chain([(CODE + case.at, &code[..])]).collect();
    let mut places: Vec<u64> = written.keys().map(|at| at & !7).chain(also).collect();
    for (at, bytes) in &put {
        places.extend((at & !7..at + bytes.len() as u64).step_by(8));
    }
    places.sort_unstable();
    places.dedup();
    let eight = |place: u64| {
        let untouched = base.get(place as usize..place as usize + 8).map_or(0, |b| quad(b, 0));
        let mut ours = untouched.to_le_bytes();
        for (at, bytes) in put.iter().filter(|(at, bytes)| *at < place + 8 && place < at + bytes.len() as u64)
        {
            for (i, slot) in ours.iter_mut().enumerate() {
                if let Some(b) = (place + i as u64).checked_sub(*at).and_then(|o| bytes.get(o as usize)) {
                    *slot = *b;
                }
            }
        }
        for (at, byte) in written.range(place..place + 8) {
            ours[(at - place) as usize] = *byte;
        }
        Eight { at: place, untouched, ours: u64::from_le_bytes(ours) }
    };
    places.into_iter().map(eight).collect()
}

//! One instruction on the host's processor, with every register loaded and saved around it.
//!
//! The code is a trampoline written here with the instruction in its middle. A fault of the instruction (SIGFPE for
//! #XM and #MF, SIGSEGV for #GP) is recorded and skipped by a signal handler.

use crate::case::{Case, MEMORY};
use iced_x86::code_asm::*;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const PAGE: usize = 4096;

/// What the trampoline loads and stores.
#[repr(C, align(64))]
struct Context {
    /// An XSAVE area in the standard format up to the AVX component.
    area: [u8; 832],
    gpr: [u64; 4],
    flags: u64,
    rdi: u64,
    memory: Memory,
}

#[repr(C, align(64))]
struct Memory([u8; MEMORY]);

/// Where execution goes on after a fault.
static RESUME: AtomicUsize = AtomicUsize::new(0);
/// The instruction under test: other faults are bugs.
static SUBJECT: AtomicUsize = AtomicUsize::new(0);
/// Vector + 1 of the fault.
static FAULT: AtomicU64 = AtomicU64::new(0);

pub struct Host {
    page: *mut u8,
    context: Box<Context>,
}

/// glibc's and musl's `struct sigaction` on x86-64.
#[repr(C)]
struct SigAction {
    handler: extern "C" fn(i32, *mut u8, *mut u8),
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: i32, new: *const SigAction, old: *mut SigAction) -> i32;
}

/// Offsets in `ucontext_t`: the general registers RIP and TRAPNO.
const RIP: usize = 40 + 16 * 8;
const TRAPNO: usize = 40 + 20 * 8;

extern "C" fn on_fault(_signal: i32, _info: *mut u8, context: *mut u8) {
    // SAFETY: the kernel gave a `ucontext_t`; both fields are aligned 8-byte words in it.
    unsafe {
        let rip: *mut usize = context.add(RIP).cast();
        if *rip != SUBJECT.load(Ordering::Relaxed) {
            std::process::abort();
        }
        FAULT.store(*context.add(TRAPNO).cast::<u64>() + 1, Ordering::Relaxed);
        *rip = RESUME.load(Ordering::Relaxed);
    }
}

impl Host {
    pub fn new() -> Self {
        const SIGFPE: i32 = 8;
        const SIGSEGV: i32 = 11;
        const SA_SIGINFO: i32 = 4;
        let action = SigAction { handler: on_fault, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
        for signal in [SIGFPE, SIGSEGV] {
            // SAFETY: `action` is what the C library's function expects, and the handler touches only atomics and
            // the context it is given.
            assert_eq!(unsafe { sigaction(signal, &raw const action, std::ptr::null_mut()) }, 0);
        }
        // SAFETY: a fresh mapping that nothing else knows.
        let page = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let context = Context { area: [0; 832], gpr: [0; 4], flags: 0, rdi: 0, memory: Memory([0; MEMORY]) };
        Self { page: page.expect("a page for code").cast(), context: Box::new(context) }
    }

    /// Puts `bytes` into the trampoline.
    pub fn prepare(&mut self, bytes: &[u8]) {
        let base = self.page as u64;
        let (code, subject) = trampoline(bytes, base).expect("the trampoline assembles");
        assert!(code.len() <= PAGE);
        SUBJECT.store(self.page as usize + subject, Ordering::Relaxed);
        RESUME.store(self.page as usize + subject + bytes.len(), Ordering::Relaxed);
        // SAFETY: `page` is ours, PAGE bytes long, and no code runs on it now.
        unsafe {
            mprotect(self.page.cast(), PAGE, MprotectFlags::READ | MprotectFlags::WRITE).expect("writable");
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.page, code.len());
            mprotect(self.page.cast(), PAGE, MprotectFlags::READ | MprotectFlags::EXEC).expect("executable");
        }
    }

    pub fn run(&mut self, case: &Case) -> Case {
        let c = &mut *self.context;
        let top = usize::from(case.fsw >> 11 & 7);
        let put = |buf: &mut [u8], at: usize, bytes: &[u8]| buf[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut c.area, 0, &case.fcw.to_le_bytes());
        put(&mut c.area, 2, &case.fsw.to_le_bytes());
        put(&mut c.area, 4, &[case.ftw]);
        put(&mut c.area, 24, &case.mxcsr.to_le_bytes());
        for i in 0..8 {
            let (mant, se) = case.st[(top + i) & 7];
            put(&mut c.area, 32 + 16 * i, &mant.to_le_bytes());
            put(&mut c.area, 40 + 16 * i, &se.to_le_bytes());
        }
        for i in 0..16 {
            put(&mut c.area, 160 + 16 * i, &case.xmm[i].to_le_bytes());
            put(&mut c.area, 576 + 16 * i, &case.high[i].to_le_bytes());
        }
        // The header: x87, SSE and AVX are there, in the standard format.
        c.area[512..576].fill(0);
        c.area[512] = 7;
        c.gpr = case.gpr;
        c.flags = 0x202 | case.flags;
        c.memory.0 = case.memory;
        c.rdi = c.memory.0.as_ptr() as u64 + case.offset as u64;
        FAULT.store(0, Ordering::Relaxed);
        // SAFETY: the page holds a function of this signature that keeps what the ABI says must be kept; it reads
        // and writes `context`, and the instruction its `memory` (offsets are at most 63, sizes 32).
        unsafe {
            let run: extern "sysv64" fn(*mut Context) = std::mem::transmute(self.page);
            run(&raw mut *c);
        }
        let word = |at: usize| u16::from_le_bytes([c.area[at], c.area[at + 1]]);
        let quad = |at: usize| u64::from_le_bytes(c.area[at..at + 8].try_into().expect("8 bytes"));
        let wide = |at: usize| u128::from(quad(at)) | u128::from(quad(at + 8)) << 64;
        let fsw = word(2);
        let top = usize::from(fsw >> 11 & 7);
        let fault = FAULT.load(Ordering::Relaxed);
        Case {
            xmm: std::array::from_fn(|i| wide(160 + 16 * i)),
            high: std::array::from_fn(|i| wide(576 + 16 * i)),
            st: std::array::from_fn(|i| {
                let at = 32 + 16 * (i.wrapping_sub(top) & 7);
                (quad(at), word(at + 8))
            }),
            fcw: word(0),
            fsw,
            ftw: c.area[4],
            mxcsr: word(24).into(),
            gpr: c.gpr,
            flags: c.flags & 0x8d5,
            memory: c.memory.0,
            offset: case.offset,
            fault: fault.checked_sub(1).map(|v| v as u8),
        }
    }
}

/// The code, and where in it the instruction is.
fn trampoline(bytes: &[u8], base: u64) -> Result<(Vec<u8>, usize), iced_x86::IcedError> {
    let gpr = std::mem::offset_of!(Context, gpr) as i32;
    let flags = std::mem::offset_of!(Context, flags) as i32;
    let mut a = CodeAssembler::new(64)?;
    for r in [rbx, rbp, r12, r13, r14, r15] {
        a.push(r)?;
    }
    a.mov(r15, rdi)?;
    a.mov(eax, 7)?;
    a.xor(edx, edx)?;
    a.xrstor64(ptr(r15))?;
    a.mov(rdi, qword_ptr(r15 + std::mem::offset_of!(Context, rdi) as i32))?;
    for (i, r) in [rax, rcx, rdx, r8].into_iter().enumerate() {
        a.mov(r, qword_ptr(r15 + gpr + 8 * i as i32))?;
    }
    a.push(qword_ptr(r15 + flags))?;
    a.popfq()?;
    let head = a.assemble(base)?.len();
    a.db(bytes)?;
    a.pushfq()?;
    a.pop(qword_ptr(r15 + flags))?;
    for (i, r) in [rax, rcx, rdx, r8].into_iter().enumerate() {
        a.mov(qword_ptr(r15 + gpr + 8 * i as i32), r)?;
    }
    a.mov(eax, 7)?;
    a.xor(edx, edx)?;
    a.xsave64(ptr(r15))?;
    a.vzeroupper()?;
    a.fninit()?;
    a.push(0x1f80)?;
    a.ldmxcsr(dword_ptr(rsp))?;
    a.pop(rax)?;
    for r in [r15, r14, r13, r12, rbp, rbx] {
        a.pop(r)?;
    }
    a.ret()?;
    Ok((a.assemble(base)?, head))
}

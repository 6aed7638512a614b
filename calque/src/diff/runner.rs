//! The program that runs cases on the host's processor: a small static ELF, assembled here, started as a child.
//!
//! It lies alone at [`BASE`], far from every address that a case is likely to make, and reads batches from standard
//! input (see [`super::native`]). For each case it writes the patches, loads the whole state and enters the code with
//! IRET, in 64-bit or 32-bit code. Every case ends in a signal (HLT is privileged), whose handler stores what the
//! kernel saved of the processor, then what the case changed in memory, and puts memory back. Random code cannot call
//! the system: a seccomp filter lets only the runner itself do so. A case that goes on for ever is ended by a timer, which
//! counts the runner's own time: two of its signals in one case are the end of that.
//!
//! Register use: the handler and the loops keep the address of the variables in R12 and the result in R13.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Where the runner lies.
pub const BASE: u64 = 0x5a5a_0000_0000;
const VARS: u64 = BASE + 0x1_0000;
const MASTER: u64 = BASE + 0x2_0000;
const STACK_TOP: u64 = BASE + 0x5_0000;
const ALT_STACK: u64 = BASE + 0x6_0000;
const ALT_SIZE: u64 = 0x1_0000;
const INPUT: u64 = BASE + 0x10_0000;
/// Most bytes of a batch.
pub const INPUT_SIZE: u64 = 0x40_0000;
const OUTPUT: u64 = INPUT + INPUT_SIZE;
const OUTPUT_SIZE: u64 = 0x200_0000;
const END: u64 = OUTPUT + OUTPUT_SIZE;

/// Offsets in a case as it is sent. The general registers come first, as instructions number them.
pub mod input {
    /// RIP.
    pub const RIP: usize = 128;
    /// RFLAGS.
    pub const RFLAGS: usize = 136;
    /// CS.
    pub const CS: usize = 144;
    /// DS and ES.
    pub const DS: usize = 152;
    /// Number of patches.
    pub const PATCHES: usize = 160;
    /// Bytes of the whole case.
    pub const TOTAL: usize = 168;
    /// An XSAVE area in the standard format.
    pub const XSAVE: usize = 192;
    /// Patches: address, length, bytes filled up to a multiple of 8.
    pub const PATCH: usize = 1024;
}

/// Offsets in a result.
pub mod output {
    /// The kernel's general registers: R8-R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFLAGS, segments, error
    /// code, vector, mask, CR2.
    pub const GREGS: usize = 0;
    /// The signal.
    pub const SIGNAL: usize = 184;
    /// FXSAVE area.
    pub const FXSAVE: usize = 192;
    /// Upper halves of YMM.
    pub const YMM: usize = 704;
    /// Bytes of the whole result.
    pub const TOTAL: usize = 960;
    /// What changed in memory: address, eight bytes.
    pub const CHANGES: usize = 968;
}

/// Where Linux puts a program's stack, its vDSO and what is mapped without an address.
const KERNELS: u64 = 0x7000_0000_0000;
const KERNELS_END: u64 = 0x7fff_ffff_f000;

// Variables.
const V_IN: i32 = 0;
const V_OUT: i32 = 8;
const V_LEFT: i32 = 16;
/// Cases that were begun, and how many had been when the timer last came by.
const V_BEGUN: i32 = 24;
const V_TIMED: i32 = 56;
const V_HEADER: i32 = 32;
/// Pages: live address, protection.
const V_PAGES: i32 = 64;
const V_ACTION: i32 = 0x800;
const V_ALT: i32 = 0x900;
const V_FILTER: i32 = 0xa00;
const V_TIMER: i32 = 0xb00;

/// The timer's signal (SIGVTALRM), in which a case ends that goes on for ever.
pub const TIMER: u64 = 26;
/// Microseconds between two of them. A case takes a few.
const TICK: u64 = 200_000;

const READ: u64 = 0;
const WRITE: u64 = 1;
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const SIGACTION: u64 = 13;
const SIGRETURN: u32 = 15;
const SETITIMER: u64 = 38;
const PRCTL: u64 = 157;
const SIGALTSTACK: u64 = 131;
const EXIT: u64 = 60;

/// Sets up a system call's number and arguments.
fn call(a: &mut CodeAssembler, number: u64, args: &[u64]) -> Result<(), IcedError> {
    for (r, v) in [rdi, rsi, rdx, r10, r8, r9].into_iter().zip(args) {
        a.mov(r, *v)?;
    }
    a.mov(rax, number)?;
    a.syscall()
}

/// Stores constants among the variables.
fn store(a: &mut CodeAssembler, at: i32, words: &[u64]) -> Result<(), IcedError> {
    for (i, w) in words.iter().enumerate() {
        a.mov(rax, *w)?;
        a.mov(qword_ptr(r12 + at + 8 * i as i32), rax)?;
    }
    Ok(())
}

/// The code. `pages` are the addresses of the case's pages; `mask` are the XSAVE components to load.
fn code(pages: &[u64], mask: u32) -> Result<Vec<u8>, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    let (mut handler, mut batch, mut die) = (a.create_label(), a.create_label(), a.create_label());
    let (mut cases, mut next, mut exact) = (a.create_label(), a.create_label(), a.create_label());
    let (mut filter, mut timer) = (a.create_label(), a.create_label());
    a.mov(rsp, STACK_TOP)?;
    a.mov(r12, VARS)?;
    // The stack that the kernel made, and its own pages beside it: cases may read there by chance, and must not find
    // anything. A kernel that seals its pages refuses; then that chance stays.
    call(&mut a, MUNMAP, &[KERNELS, KERNELS_END - KERNELS])?;
    // Where cases live: one by one, since what lies between is not theirs.
    for (i, page) in pages.iter().enumerate() {
        // PROT_READ|WRITE, MAP_PRIVATE|ANONYMOUS|FIXED_NOREPLACE.
        call(&mut a, MMAP, &[*page, 0x1000, 3, 0x10_0022, u64::MAX, 0])?;
        a.mov(rcx, *page)?;
        a.cmp(rax, rcx)?;
        a.jne(die)?;
        store(&mut a, V_PAGES + 16 * i as i32, &[*page, 3])?;
    }
    store(&mut a, V_ALT, &[ALT_STACK, 0, ALT_SIZE])?;
    call(&mut a, SIGALTSTACK, &[VARS + V_ALT as u64, 0])?;
    // SA_SIGINFO, SA_RESTORER (which the kernel demands), SA_ONSTACK, SA_NODEFER.
    a.lea(rax, ptr(handler))?;
    a.mov(qword_ptr(r12 + V_ACTION), rax)?;
    a.mov(qword_ptr(r12 + V_ACTION + 16), rax)?;
    store(&mut a, V_ACTION + 8, &[0x4c00_0004])?;
    store(&mut a, V_ACTION + 24, &[0])?;
    for signal in [4u64, 5, 7, 8, 11, 31] {
        call(&mut a, SIGACTION, &[signal, VARS + V_ACTION as u64, 0, 8])?;
        a.test(rax, rax)?;
        a.jne(die)?;
    }
    // The same for the timer, and SA_RESTART, since it also comes while the runner reads.
    a.lea(rax, ptr(timer))?;
    a.mov(qword_ptr(r12 + V_ACTION), rax)?;
    store(&mut a, V_ACTION + 8, &[0x5c00_0004])?;
    call(&mut a, SIGACTION, &[TIMER, VARS + V_ACTION as u64, 0, 8])?;
    a.test(rax, rax)?;
    a.jne(die)?;
    store(&mut a, V_TIMER, &[0, TICK, 0, TICK])?;
    // ITIMER_VIRTUAL: time spent in user code, so that a busy machine ends no case.
    call(&mut a, SETITIMER, &[1, VARS + V_TIMER as u64, 0])?;
    a.test(rax, rax)?;
    a.jne(die)?;
    // PR_SET_NO_NEW_PRIVS, then a filter by the address of the system call.
    call(&mut a, PRCTL, &[38, 1, 0, 0, 0])?;
    a.lea(rax, ptr(filter))?;
    a.mov(qword_ptr(r12 + V_FILTER + 8), rax)?;
    store(&mut a, V_FILTER, &[4])?;
    call(&mut a, PRCTL, &[22, 2, VARS + V_FILTER as u64, 0, 0])?;
    a.test(rax, rax)?;
    a.jne(die)?;

    a.set_label(&mut batch)?;
    // Header: kind, number of cases, bytes that follow.
    a.mov(rsi, VARS + V_HEADER as u64)?;
    a.mov(rbx, 24u64)?;
    a.call(exact)?;
    a.mov(rsi, INPUT)?;
    a.mov(rbx, qword_ptr(r12 + V_HEADER + 16))?;
    a.mov(rax, INPUT_SIZE)?;
    a.cmp(rbx, rax)?;
    a.ja(die)?;
    a.call(exact)?;
    a.cmp(qword_ptr(r12 + V_HEADER), 1)?;
    a.je(cases)?;

    // New contents and rights of the pages.
    let mut each = a.create_label();
    a.xor(ebx, ebx)?;
    a.set_label(&mut each)?;
    let entry = |a: &mut CodeAssembler| -> Result<(), IcedError> {
        a.mov(rbp, rbx)?;
        a.shl(rbp, 4)?;
        a.lea(rbp, ptr(r12 + rbp + V_PAGES))
    };
    entry(&mut a)?;
    a.mov(rdi, qword_ptr(rbp))?;
    a.mov(esi, 0x1000)?;
    a.mov(edx, 3)?;
    a.mov(eax, MPROTECT as u32)?;
    a.syscall()?;
    a.mov(r14, INPUT)?;
    a.mov(rax, qword_ptr(r14 + rbx * 8))?;
    a.mov(qword_ptr(rbp + 8), rax)?;
    a.mov(rax, rbx)?;
    a.shl(rax, 12)?;
    a.lea(r15, ptr(r14 + rax + (8 * pages.len()) as i32))?;
    a.mov(r14, MASTER)?;
    a.add(r14, rax)?;
    for to in [14, 0] {
        a.mov(rsi, r15)?;
        if to == 14 {
            a.mov(rdi, r14)?;
        } else {
            a.mov(rdi, qword_ptr(rbp))?;
        }
        a.mov(ecx, 512)?;
        a.rep().movsq()?;
    }
    a.mov(rdi, qword_ptr(rbp))?;
    a.mov(esi, 0x1000)?;
    a.mov(rdx, qword_ptr(rbp + 8))?;
    a.mov(eax, MPROTECT as u32)?;
    a.syscall()?;
    a.inc(rbx)?;
    a.cmp(rbx, pages.len() as i32)?;
    a.jb(each)?;
    a.jmp(batch)?;

    a.set_label(&mut cases)?;
    store(&mut a, V_IN, &[INPUT])?;
    store(&mut a, V_OUT, &[OUTPUT])?;
    a.mov(rax, qword_ptr(r12 + V_HEADER + 8))?;
    a.mov(qword_ptr(r12 + V_LEFT), rax)?;

    a.set_label(&mut next)?;
    a.cmp(qword_ptr(r12 + V_LEFT), 0)?;
    let mut more = a.create_label();
    a.jne(more)?;
    // Everything out at once.
    let mut out = a.create_label();
    a.mov(rsi, OUTPUT)?;
    a.mov(rbx, qword_ptr(r12 + V_OUT))?;
    a.sub(rbx, rsi)?;
    a.set_label(&mut out)?;
    a.test(rbx, rbx)?;
    a.je(batch)?;
    a.mov(edi, 1)?;
    a.mov(rdx, rbx)?;
    a.mov(eax, WRITE as u32)?;
    a.syscall()?;
    a.test(rax, rax)?;
    a.jle(die)?;
    a.add(rsi, rax)?;
    a.sub(rbx, rax)?;
    a.jmp(out)?;

    a.set_label(&mut more)?;
    a.dec(qword_ptr(r12 + V_LEFT))?;
    a.inc(qword_ptr(r12 + V_BEGUN))?;
    a.mov(rbx, qword_ptr(r12 + V_IN))?;
    a.mov(rax, qword_ptr(rbx + input::TOTAL))?;
    a.add(qword_ptr(r12 + V_IN), rax)?;
    // Patches.
    let (mut patch, mut patched) = (a.create_label(), a.create_label());
    a.mov(r14, qword_ptr(rbx + input::PATCHES))?;
    a.lea(rsi, ptr(rbx + input::PATCH as i32))?;
    a.set_label(&mut patch)?;
    a.test(r14, r14)?;
    a.je(patched)?;
    a.mov(rdi, qword_ptr(rsi))?;
    a.mov(rcx, qword_ptr(rsi + 8))?;
    a.add(rsi, 16)?;
    a.mov(rax, rcx)?;
    a.neg(rax)?;
    a.and(rax, 7)?;
    a.rep().movsb()?;
    a.add(rsi, rax)?;
    a.dec(r14)?;
    a.jmp(patch)?;
    a.set_label(&mut patched)?;
    // The state.
    a.mov(eax, mask)?;
    a.xor(edx, edx)?;
    a.xrstor64(ptr(rbx + input::XSAVE as i32))?;
    a.xor(eax, eax)?;
    a.mov(fs, eax)?;
    a.mov(gs, eax)?;
    a.wrfsbase(rax)?;
    a.wrgsbase(rax)?;
    a.mov(eax, dword_ptr(rbx + input::DS as i32))?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.mov(rsp, STACK_TOP)?;
    a.push(0x2b)?;
    a.push(qword_ptr(rbx + 32))?;
    a.push(qword_ptr(rbx + input::RFLAGS as i32))?;
    a.push(qword_ptr(rbx + input::CS as i32))?;
    a.push(qword_ptr(rbx + input::RIP as i32))?;
    let all = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    for (i, r) in all.into_iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4)) {
        a.mov(r, qword_ptr(rbx + 8 * i as i32))?;
    }
    a.mov(rbx, qword_ptr(rbx + 24))?;
    a.iretq()?;

    // The end of a case: RDI signal, RDX the kernel's record.
    a.set_label(&mut handler)?;
    a.mov(r12, VARS)?;
    a.mov(r13, qword_ptr(r12 + V_OUT))?;
    a.mov(r14, rdi)?;
    a.lea(rsi, ptr(rdx + 40))?;
    a.mov(rdi, r13)?;
    a.mov(ecx, 23)?;
    a.rep().movsq()?;
    a.mov(qword_ptr(r13 + output::SIGNAL as i32), r14)?;
    a.mov(r15, qword_ptr(rdx + 224))?;
    a.mov(rsi, r15)?;
    a.lea(rdi, ptr(r13 + output::FXSAVE as i32))?;
    a.mov(ecx, 64)?;
    a.rep().movsq()?;
    a.lea(rsi, ptr(r15 + 576))?;
    a.mov(ecx, 32)?;
    a.rep().movsq()?;
    a.mov(rsp, STACK_TOP)?;
    // AC may be set, and must not bite here; with NT, the next IRET would fault.
    a.pushfq()?;
    a.and(dword_ptr(rsp), !(1 << 18 | 1 << 14))?;
    a.popfq()?;
    // Memory: 64 bytes at a time, quadword by quadword where they differ.
    a.lea(rdi, ptr(r13 + output::CHANGES as i32))?;
    a.xor(ebx, ebx)?;
    let (mut page, mut line, mut same, mut skip) =
        (a.create_label(), a.create_label(), a.create_label(), a.create_label());
    a.set_label(&mut page)?;
    entry(&mut a)?;
    a.test(qword_ptr(rbp + 8), 2)?;
    a.je(skip)?;
    a.mov(r8, qword_ptr(rbp))?;
    a.mov(r9, rbx)?;
    a.shl(r9, 12)?;
    a.mov(rax, MASTER)?;
    a.add(r9, rax)?;
    a.mov(r10d, 64)?;
    a.set_label(&mut line)?;
    for (i, x) in [xmm0, xmm1, xmm2, xmm3].into_iter().enumerate() {
        a.movdqa(x, xmmword_ptr(r8 + 16 * i as i32))?;
        a.pcmpeqb(x, xmmword_ptr(r9 + 16 * i as i32))?;
    }
    a.pand(xmm0, xmm1)?;
    a.pand(xmm2, xmm3)?;
    a.pand(xmm0, xmm2)?;
    a.pmovmskb(eax, xmm0)?;
    a.cmp(eax, 0xffff)?;
    a.je(same)?;
    for i in 0..8 {
        let mut equal = a.create_label();
        a.mov(rax, qword_ptr(r8 + 8 * i))?;
        a.mov(rcx, qword_ptr(r9 + 8 * i))?;
        a.cmp(rax, rcx)?;
        a.je(equal)?;
        a.lea(rsi, ptr(r8 + 8 * i))?;
        a.mov(qword_ptr(rdi), rsi)?;
        a.mov(qword_ptr(rdi + 8), rax)?;
        a.add(rdi, 16)?;
        a.mov(qword_ptr(r8 + 8 * i), rcx)?;
        a.set_label(&mut equal)?;
    }
    // One place has one label.
    a.nop()?;
    a.set_label(&mut same)?;
    a.add(r8, 64)?;
    a.add(r9, 64)?;
    a.dec(r10d)?;
    a.jne(line)?;
    a.set_label(&mut skip)?;
    a.inc(rbx)?;
    a.cmp(rbx, pages.len() as i32)?;
    a.jb(page)?;
    a.mov(rax, rdi)?;
    a.sub(rax, r13)?;
    a.mov(qword_ptr(r13 + output::TOTAL as i32), rax)?;
    a.mov(qword_ptr(r12 + V_OUT), rdi)?;
    a.jmp(next)?;

    // The timer: RDX the kernel's record. The second within one case ends it as any other signal does.
    let mut back = a.create_label();
    a.set_label(&mut timer)?;
    a.mov(r12, VARS)?;
    a.mov(rax, qword_ptr(rdx + 40 + 8 * 16))?;
    a.shr(rax, 32)?;
    a.cmp(eax, (BASE >> 32) as u32)?;
    a.je(back)?;
    a.mov(rax, qword_ptr(r12 + V_BEGUN))?;
    a.cmp(rax, qword_ptr(r12 + V_TIMED))?;
    a.je(handler)?;
    a.mov(qword_ptr(r12 + V_TIMED), rax)?;
    // As a return to the restorer would have it.
    a.set_label(&mut back)?;
    a.add(rsp, 8)?;
    a.mov(eax, SIGRETURN)?;
    a.syscall()?;

    // Reads RBX bytes to RSI.
    a.set_label(&mut exact)?;
    a.nop()?;
    let (mut some, mut done) = (a.create_label(), a.create_label());
    a.set_label(&mut some)?;
    a.test(rbx, rbx)?;
    a.je(done)?;
    a.xor(edi, edi)?;
    a.mov(rdx, rbx)?;
    a.mov(eax, READ as u32)?;
    a.syscall()?;
    a.test(rax, rax)?;
    a.jle(die)?;
    a.add(rsi, rax)?;
    a.sub(rbx, rax)?;
    a.jmp(some)?;
    a.set_label(&mut done)?;
    a.ret()?;

    a.set_label(&mut die)?;
    call(&mut a, EXIT, &[1])?;

    // The filter: load the upper half of the address; the runner's may go on, others raise SIGSYS.
    a.set_label(&mut filter)?;
    let program: [(u16, u8, u8, u32); 4] = [
        (0x20, 0, 0, 12),
        (0x15, 0, 1, (BASE >> 32) as u32),
        (0x06, 0, 0, 0x7fff_0000),
        (0x06, 0, 0, 0x0003_0000),
    ];
    let mut bytes = Vec::new();
    for (op, yes, no, k) in program {
        bytes.extend(op.to_le_bytes());
        bytes.extend([yes, no]);
        bytes.extend(k.to_le_bytes());
    }
    a.db(&bytes)?;
    a.assemble(BASE + 0x1000)
}

/// The ELF file.
///
/// # Errors
/// When the assembler refuses something, which is a bug.
pub fn elf(pages: &[u64], mask: u32) -> Result<Vec<u8>, IcedError> {
    let code = code(pages, mask)?;
    let mut f = Vec::new();
    f.extend(b"\x7fELF\x02\x01\x01");
    f.resize(16, 0);
    f.extend(2u16.to_le_bytes());
    f.extend(62u16.to_le_bytes());
    f.extend(1u32.to_le_bytes());
    f.extend((BASE + 0x1000).to_le_bytes());
    f.extend(64u64.to_le_bytes());
    f.extend(0u64.to_le_bytes());
    f.extend(0u32.to_le_bytes());
    for v in [64u16, 56, 2, 0, 0, 0] {
        f.extend(v.to_le_bytes());
    }
    // Code, then everything that is written.
    let segments = [
        (5u32, 0u64, BASE, 0x1000 + code.len() as u64, 0x1000 + code.len() as u64),
        (6, 0, VARS, 0, END - VARS),
    ];
    for (flags, offset, addr, size, room) in segments {
        f.extend(1u32.to_le_bytes());
        f.extend(flags.to_le_bytes());
        for v in [offset, addr, addr, size, room, 0x1000] {
            f.extend(v.to_le_bytes());
        }
    }
    f.resize(0x1000, 0);
    f.extend(code);
    Ok(f)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_assembles() {
        let file = super::elf(&super::super::native::pages(), 7).expect("the runner assembles");
        assert!(file.len() < 0x1_0000, "the code runs into the variables");
    }
}

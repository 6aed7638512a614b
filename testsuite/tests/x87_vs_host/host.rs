//! Runs one x87 instruction on the host between FXRSTOR and FXSAVE.
//!
//! FXSAVE and FNINIT do not wait, so an exception that the instruction leaves pending is seen and never delivered.
#![allow(dead_code, reason = "each test uses its part")]

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
use std::ffi::c_void;

/// Bytes of an FXSAVE image.
pub const IMAGE: usize = 512;
/// Bytes of memory operand, enough for FNSAVE.
pub const MEMORY: usize = 112;
/// Where it lies in a [`Frame`].
pub const MEMORY_AT: usize = 2 * IMAGE;
/// Bytes of an XSAVE area of x87, SSE and AVX.
pub const AREA: usize = 832;
/// Where the area to restore lies in a [`Frame`]; one that restores the initial configuration follows.
pub const AREA_IN_AT: usize = 1216;
/// Where the saved area lies.
pub const AREA_OUT_AT: usize = AREA_IN_AT + 2 * AREA;
const FLAGS_AT: u32 = (MEMORY_AT + MEMORY) as u32;
const PAGE: usize = 4096;

/// What the instruction works on; the code knows the offsets. RDI points here.
#[repr(C, align(64))]
pub struct Frame {
    before: [u8; IMAGE],
    pub after: [u8; IMAGE],
    pub memory: [u8; MEMORY],
    flags_in: u64,
    pub flags_out: u64,
    ax_in: u64,
    pub ax_out: u64,
    room: [u64; 6],
    pub area_in: [u8; AREA],
    pub clean: [u8; AREA],
    pub area_out: [u8; AREA],
}

impl Frame {
    pub fn new(before: [u8; IMAGE], memory: [u8; MEMORY], flags: u64, ax: u64) -> Self {
        let mut clean = [0; AREA];
        clean[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        Self {
            before,
            after: [0; IMAGE],
            memory,
            flags_in: flags | 0x202,
            flags_out: 0,
            ax_in: ax,
            ax_out: 0,
            room: [0; 6],
            area_in: [0; AREA],
            clean,
            area_out: [0; AREA],
        }
    }
}

/// A page of code.
pub struct Host {
    page: *mut c_void,
}

impl Host {
    pub fn new() -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        Self { page: page.expect("a page") }
    }

    /// Puts the instruction in place and gives its address.
    pub fn prepare(&self, ins: &[u8]) -> u64 {
        let mut code = Vec::new();
        let with_offset = |code: &mut Vec<u8>, opcode: &[u8], offset: u32| {
            code.extend(opcode);
            code.extend(offset.to_le_bytes());
        };
        with_offset(&mut code, &[0x48, 0x0f, 0xae, 0x8f], 0); // fxrstor64 [rdi]
        with_offset(&mut code, &[0x48, 0x8b, 0x87], FLAGS_AT + 16); // mov rax, [rdi + ax_in]
        with_offset(&mut code, &[0xff, 0xb7], FLAGS_AT); // push [rdi + flags_in]
        code.push(0x9d); // popfq
        let at = code.len();
        code.extend(ins);
        with_offset(&mut code, &[0x48, 0x0f, 0xae, 0x87], IMAGE as u32); // fxsave64 [rdi + after]
        with_offset(&mut code, &[0x48, 0x89, 0x87], FLAGS_AT + 24); // mov [rdi + ax_out], rax
        code.push(0x9c); // pushfq
        with_offset(&mut code, &[0x8f, 0x87], FLAGS_AT + 8); // pop [rdi + flags_out]
        code.extend([0xdb, 0xe3, 0xc3]); // fninit; ret
        assert!(code.len() <= PAGE);
        // SAFETY: the page is ours, as long as it lives, and nobody executes it while it is writable.
        unsafe {
            mprotect(self.page, PAGE, rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE)
                .expect("writable");
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.page.cast(), code.len());
            mprotect(self.page, PAGE, rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::EXEC)
                .expect("executable");
        }
        self.page as u64 + at as u64
    }

    /// Runs it on `frame` and gives the address of the memory operand.
    pub fn run(&self, frame: &mut Frame) -> u64 {
        // SAFETY: `prepare` made this a function of the C calling convention with one argument. It touches nothing
        // but `*frame` and its own stack (RAX, flags, x87 and XMM are the callee's to change), and it leaves the x87
        // as FNINIT does, the state Rust expects, and MXCSR at its default, which the image holds.
        unsafe {
            let run: extern "sysv64" fn(*mut Frame) = std::mem::transmute(self.page);
            run(frame);
        }
        (&raw const frame.memory) as u64
    }
}

//! From the boot loader to long mode.
//!
//! A multiboot 1 loader (*Multiboot Specification* 0.6.96, section 3.2) leaves the processor in 32-bit protected
//! mode without paging, interrupts off, all segments flat, EAX holding a magic number and EBX pointing to what the
//! loader knows about the machine.

use super::asm::{Assembled, Error, Program, asm};
use super::layout::*;
use super::tables;
use iced_x86::code_asm::*;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u32 = 0x2bad_b002;
/// Header: tell how much memory there is; the load addresses follow.
const WANT_MEMORY: u32 = 1 << 1;
const HAVE_ADDRESSES: u32 = 1 << 16;

/// CPUID 8000_0001h, EDX: long mode, and the no-execute bit in page tables.
const LONG_MODE: u32 = 1 << 29;
const NO_EXECUTE: u32 = 1 << 20;

/// The model-specific register that turns long mode on (SDM vol. 3A, 2.2.1).
const EFER: u32 = 0xc000_0080;
const EFER_SCE: u32 = 1 << 0;
const EFER_LME: u32 = 1 << 8;
const EFER_NXE: u32 = 1 << 11;

const CR4_PAE: u32 = 1 << 5;
/// Protected mode; MP, ET and NE for a modern x87; WP, so that the kernel too respects read-only pages; paging.
const CR0: u32 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;

/// The page at [`IMAGE`].
pub fn boot() -> Result<Assembled, Error> {
    let mut p = Program::new(32)?;
    header(&mut p)?;
    check(&mut p)?;
    page_tables(&mut p)?;
    switch(&mut p)?;
    p.assemble(IMAGE.into())
}

/// The multiboot header, which a loader looks for in the first 8 KiB of the file. The entry point is right behind.
fn header(p: &mut Program) -> Result<(), Error> {
    const FLAGS: u32 = WANT_MEMORY | HAVE_ADDRESSES;
    const SIZE: u32 = 8 * 4;
    p.a.dd(&[HEADER_MAGIC, FLAGS, 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(FLAGS)])?;
    // Where the header is, where the file's start goes, where it ends, up to where to zero, where to begin.
    p.a.dd(&[IMAGE, IMAGE, IMAGE_END, MEMORY_END, IMAGE + SIZE])?;
    Ok(())
}

/// Keeps what the loader says and makes sure that the processor can do what is needed.
fn check(p: &mut Program) -> Result<(), Error> {
    asm! { p;
        cli;                                    // no interrupt table yet: an interrupt would be a triple fault
        cld;                                    // string instructions go up
        mov esp, MAIN_STACK_TOP;                // the loader promises no stack

        cmp eax, LOADER_MAGIC;
        jne @memory_unknown;
        test dword_ptr(ebx), 1;                 // flag 0: the memory sizes are there
        jz @memory_unknown;
        mov eax, dword_ptr(ebx + 8);            // mem_upper: KiB from 1 MiB up to the first hole
        mov dword_ptr(MEMORY_KIB), eax;
    @memory_unknown:

        mov eax, 0x8000_0000u32;                // CPUID: the highest extended leaf
        cpuid;
        cmp eax, 0x8000_0001u32;
        jb @unfit;
        mov eax, 0x8000_0001u32;                // CPUID: extended features
        cpuid;
        and edx, LONG_MODE | NO_EXECUTE;
        cmp edx, LONG_MODE | NO_EXECUTE;
        je @fit;
    @unfit:                                     // no console yet: bytes go to the serial port one by one
        mov edx, 0x3f8;
        call @unfit_print;                      // pushes the address of what follows, which is the text
        db b"This processor has no 64-bit mode.\r\n\0";
    @unfit_print:
        pop esi;
    @unfit_next:
        lodsb;
        test al, al;
        jz @unfit_halt;
        out dx, al;
        jmp @unfit_next;
    @unfit_halt:
        hlt;
        jmp @unfit_halt;
    @fit:
    }
    Ok(())
}

/// Builds the page tables (SDM vol. 3A, 4.5). Level 4 has one entry, level 3 one for the kernel's GiB and one for
/// the user's; the rest follows [`RUNS`].
fn page_tables(p: &mut Program) -> Result<(), Error> {
    asm! { p;
        mov edi, PML4;                          // all entries zero: not present
        xor eax, eax;
        mov ecx, PAGE_TABLES * PAGE / 4;
        rep stosd;

        // An access from ring 3 needs U at every level, a write needs W at every level. So upper levels allow
        // much, and the last one decides.
        mov dword_ptr(PML4), PDPT | P | W | U;
        mov dword_ptr(PDPT), PD_KERNEL | P | W;
        mov dword_ptr(PDPT + 8), PD_USER | P | W | U;
        mov dword_ptr(PD_KERNEL), PT_KERNEL | P | W;
        mov dword_ptr(PD_USER), PT_USER | P | W | U;

        // Above the first 2 MiB, pages of 2 MiB: their level 2 entries are the last level.
        mov edi, PD_KERNEL + 8;
        mov eax, 0x20_0000 | P | W | PS;
        mov ecx, LARGE_PAGES;
    @large:
        mov dword_ptr(edi), eax;
        mov dword_ptr(edi + 4), NX_HIGH;
        add eax, 0x20_0000;
        add edi, 8;
        dec ecx;
        jnz @large;
    }
    for Run { entry, frame, count, low, high } in RUNS {
        asm! { p;
            mov edi, entry;
            mov eax, frame | low;
            mov edx, high;
            mov ecx, count;
            call @fill;
        }
    }
    for guard in GUARDS {
        asm! { p;
            mov dword_ptr(PT_KERNEL + guard / PAGE * 8), 0;
        }
    }
    asm! { p;
        jmp @tables_done;

        // Fills ECX entries from EDI on with EDX:EAX, each one page further.
    @fill:
        mov dword_ptr(edi), eax;
        mov dword_ptr(edi + 4), edx;
        add eax, PAGE;
        add edi, 8;
        dec ecx;
        jnz @fill;
        ret;
    @tables_done:
    }
    Ok(())
}

/// Switches to long mode, in the order of SDM vol. 3A, 10.8.5: PAE, CR3, EFER.LME, and then CR0.PG makes it real.
fn switch(p: &mut Program) -> Result<(), Error> {
    asm! { p;
        mov eax, CR4_PAE;
        mov cr4, eax;
        mov eax, PML4;
        mov cr3, eax;
        mov ecx, EFER;
        rdmsr;
        or eax, EFER_LME | EFER_NXE | EFER_SCE; // 64-bit mode, the no-execute bit, SYSCALL
        wrmsr;
        mov eax, CR0;
        mov cr0, eax;                           // paging, and with it long mode: now in its 32-bit half

        lgdt ptr(tables::GDT_POINTER);
        jmp_far tables::KERNEL_CODE, KERNEL;    // a code segment with the L bit: from here on 64-bit code
    }
    Ok(())
}

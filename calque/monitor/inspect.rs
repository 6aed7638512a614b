//! Commands that show the processor's state: page tables and registers.

use super::asm::{Error, Program, asm};
use super::layout::*;
use super::report::RFLAGS;
use iced_x86::code_asm::*;

const CR0: &[(u8, &str)] = &[
    (0, "PE"),
    (1, "MP"),
    (2, "EM"),
    (3, "TS"),
    (4, "ET"),
    (5, "NE"),
    (16, "WP"),
    (18, "AM"),
    (29, "NW"),
    (30, "CD"),
    (31, "PG"),
];
const CR4: &[(u8, &str)] = &[
    (0, "VME"),
    (2, "TSD"),
    (3, "DE"),
    (4, "PSE"),
    (5, "PAE"),
    (6, "MCE"),
    (7, "PGE"),
    (9, "OSFXSR"),
    (10, "OSXMMEXCPT"),
    (12, "LA57"),
    (16, "FSGSBASE"),
    (17, "PCIDE"),
    (18, "OSXSAVE"),
    (20, "SMEP"),
    (21, "SMAP"),
];
const EFER: &[(u8, &str)] = &[(0, "SCE"), (8, "LME"), (10, "LMA"), (11, "NXE")];
/// Page-table entries: present, writable, user, write-through, cache-disable, accessed, dirty, page size, global,
/// no-execute.
const ENTRY: &[(u8, &str)] = &[
    (0, "P"),
    (1, "W"),
    (2, "U"),
    (3, "PWT"),
    (4, "PCD"),
    (5, "A"),
    (6, "D"),
    (7, "PS"),
    (8, "G"),
    (63, "NX"),
];

/// The bits of an entry, or of CR3, that hold a physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Each level's table: name, lowest bit of its index in the address, how to call a page that ends there.
const LEVELS: [(&str, i32, Option<&str>); 4] = [
    ("   PML4[", 39, None),
    ("   PDPT[", 30, Some("1 GiB")),
    ("   PD[", 21, Some("2 MiB")),
    ("   PT[", 12, Some("4 KiB")),
];

/// Every command of this module.
pub fn inspect(k: &mut Program) -> Result<(), Error> {
    memory(k)?;
    registers(k)?;
    cpuid(k)
}

/// What the processor does at every access that its TLB does not know (SDM vol. 3A, 4.5.4), done by hand.
fn memory(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_mem:
        cmp byte_ptr(rsi), 0;
        je @mem_usage;
        call @parse_hex;
        jc @mem_bad;
        mov rbx, rax;
        mov rcx, rax;                           // bits 63 to 48 must be copies of bit 47
        shl rcx, 16;
        sar rcx, 16;
        cmp rcx, rbx;
        jne @mem_not_canonical;
        mov rdx, cr3;                           // RDX: the table, and soon its entry
        mov r8, ADDRESS;
    }
    let names = k.bit_names(ENTRY);
    for (name, shift, page) in LEVELS {
        asm! { k;
            and rdx, r8;
            mov rcx, rbx;
            shr rcx, shift;
            and ecx, 511;
            lea rdi, ptr(rdx + rcx * 8);
            mov rdx, qword_ptr(rdi);            // all tables lie where physical and virtual addresses are the same
        }
        k.say(name)?;
        asm! { k;
            mov rax, rcx;
            call @dec;
            say "] at ";
            mov rax, rdi;
            call @hex;
            say ": ";
            mov rax, rdx;
            call @hex;
            lea rsi, ptr(names);
            call @flags;
            call @newline;
            test dl, 1;
            jz @mem_absent;
        }
        if let Some(size) = page {
            let size = k.text(size);
            let mut next = k.a.create_label();
            if shift > 12 {
                asm! { k;
                    test dl, PS as i32;         // a page, or one more table?
                    jz next;
                }
            }
            asm! { k;
                lea rsi, ptr(size);
                mov ecx, shift;
                jmp @mem_found;
                set_label &mut next;
                zero_bytes;
            }
        }
    }
    asm! { k;
        // RDX: the last entry. RCX: how many bits of the address lie within the page. RSI: what to call it.
    @mem_found:
        and rdx, r8;
        shr rdx, cl;                            // the page's address is what is above these bits
        shl rdx, cl;
        mov eax, 1;
        shl rax, cl;
        dec rax;
        and rax, rbx;
        or rax, rdx;
        say "   -> physical ";
        call @hex;
        say ", in a ";
        call @puts;
        say " page; its bytes there:\n   ";
        mov rsi, rbx;
        and rsi, -16;
        mov ecx, 16;
    @mem_bytes:
        lodsb;
        call @hex_2;
        say " ";
        dec ecx;
        jnz @mem_bytes;
        jmp @newline;
    @mem_absent:
        say "   -> not present: an access to ";
        mov rax, rbx;
        call @hex;
        say " is a page fault\n";
        ret;

    @mem_not_canonical:
        say "   not canonical: bits 63 to 48 must equal bit 47. An access is #GP, without any walk.\n";
        ret;
    @mem_usage:
        say "   Give an address: 'mem 0x104000' is kernel code, 'mem 0x40000000' user code,\n";
        say "   'mem 0x40008000' the page that 'fault' maps, 'mem 0x200000' a 2 MiB page, 'mem 0' nothing.\n";
        ret;
    @mem_bad:
        say "   That is not an address: write up to 16 hexadecimal digits, like 'mem 0x40000000'.\n";
        ret;
    }
    Ok(())
}

fn registers(k: &mut Program) -> Result<(), Error> {
    let [cr0_names, cr4_names, efer_names, rflags_names] =
        [CR0, CR4, EFER, RFLAGS].map(|names| k.bit_names(names));
    asm! { k;
    @command_regs:
        say "   CR0    ";
        mov rax, cr0;
        call @hex;
        lea rsi, ptr(cr0_names);
        call @flags;
        say "\n   CR2    ";
        mov rax, cr2;
        call @hex;
        say " (the last page fault's address)\n   CR3    ";
        mov rax, cr3;
        call @hex;
        say " (the level 4 page table)\n   CR4    ";
        mov rax, cr4;
        call @hex;
        lea rsi, ptr(cr4_names);
        call @flags;
        say "\n   EFER   ";
        mov ecx, 0xc000_0080u32;
        rdmsr;
        shl rdx, 32;
        or rax, rdx;
        call @hex;
        lea rsi, ptr(efer_names);
        call @flags;
        say "\n   RFLAGS ";
        pushfq;
        pop rax;
        call @hex;
        lea rsi, ptr(rflags_names);
        call @flags;
        say "\n   CS     ";
        mov eax, cs;
        call @hex;
        say ", SS ";
        mov eax, ss;
        call @hex;
        say ", TR ";
        str eax;
        call @hex;
        say "\n   GDTR   ";
        sgdt ptr(SCRATCH);
        call @table_register;
        say "   IDTR   ";
        sidt ptr(SCRATCH);
        call @table_register;
        jmp @show_cpuid;

        // Prints what SGDT or SIDT stored.
    @table_register:
        mov rax, qword_ptr(SCRATCH + 2);
        call @hex;
        say ", limit ";
        movzx eax, word_ptr(SCRATCH);
        call @hex;
        jmp @newline;
    }
    Ok(())
}

/// CPUID (SDM vol. 2A): texts come as four letters a register.
fn cpuid(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @show_cpuid:
        say "   CPUID  vendor ";
        xor eax, eax;
        cpuid;
        mov dword_ptr(SCRATCH), ebx;            // the odd order is history: EBX, EDX, ECX
        mov dword_ptr(SCRATCH + 4), edx;
        mov dword_ptr(SCRATCH + 8), ecx;
        call @scratch_12;
        say ", brand ";
        mov eax, 0x8000_0000u32;
        cpuid;
        cmp eax, 0x8000_0004u32;
        jae @cpuid_brand;
        say "(none)";
        jmp @cpuid_hypervisor;
    }
    k.define("cpuid_brand")?;
    for part in 0..3u32 {
        asm! { k;
            mov eax, 0x8000_0002 + part;
            cpuid;
            mov dword_ptr(SCRATCH + part * 16), eax;
            mov dword_ptr(SCRATCH + part * 16 + 4), ebx;
            mov dword_ptr(SCRATCH + part * 16 + 8), ecx;
            mov dword_ptr(SCRATCH + part * 16 + 12), edx;
        }
    }
    asm! { k;
        mov byte_ptr(SCRATCH + 48), 0;
        mov esi, SCRATCH;
        call @skip_spaces;                      // some are padded on the left
        call @puts;
    @cpuid_hypervisor:
        say "\n          hypervisor ";
        mov eax, 1;
        cpuid;
        bt ecx, 31;                             // a bit that real processors leave at 0
        jc @cpuid_guest;
        say "(none is announced)\n";
        ret;
    @cpuid_guest:
        mov eax, 0x4000_0000;
        cpuid;
        mov dword_ptr(SCRATCH), ebx;            // here in the usual order
        mov dword_ptr(SCRATCH + 4), ecx;
        mov dword_ptr(SCRATCH + 8), edx;
        call @scratch_12;
        jmp @newline;

        // Prints the twelve letters in SCRATCH.
    @scratch_12:
        mov byte_ptr(SCRATCH + 12), 0;
        mov esi, SCRATCH;
        jmp @puts;
    }
    Ok(())
}

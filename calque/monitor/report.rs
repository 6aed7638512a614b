//! Telling about an exception.

use super::asm::{Error, Program, asm};
use super::traps::{CS, ERROR, FLAGS, RIP, RSP, VECTOR, WITH_ERROR_CODE, register};
use iced_x86::code_asm::*;

/// The processor's exceptions by vector.
const NAMES: [&str; 32] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM no x87",
    "#DF double fault",
    "vector 9",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "vector 15",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
    "#VE virtualization",
    "#CP control protection",
    "vector 22",
    "vector 23",
    "vector 24",
    "vector 25",
    "vector 26",
    "vector 27",
    "#HV hypervisor injection",
    "#VC VMM communication",
    "#SX security",
    "vector 31",
];

/// RFLAGS (SDM vol. 1, 3.4.3).
pub const RFLAGS: &[(u8, &str)] = &[
    (0, "CF"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (14, "NT"),
    (16, "RF"),
    (18, "AC"),
    (21, "ID"),
];

/// The error code of a page fault: present (else absent), write, user, reserved bit, instruction fetch.
const ERROR_CODE: &[(u8, &str)] = &[(0, "P"), (1, "W"), (2, "U"), (3, "RSVD"), (4, "I")];

/// The printing routines. RBP points to the saved state, as `traps` lays it out.
pub fn report(k: &mut Program) -> Result<(), Error> {
    let names = NAMES.join("\0");
    let names = k.text(&names);
    let flag_names = k.bit_names(RFLAGS);
    let error_names = k.bit_names(ERROR_CODE);
    let error_codes = WITH_ERROR_CODE.iter().fold(0u32, |set, vector| set | 1 << vector);
    asm! { k;
        // Prints what happened, in one line.
    @show_exception:
        push rax;
        push rcx;
        push rsi;
        say "   ";
        mov rax, qword_ptr(rbp + VECTOR);
        lea rsi, ptr(names);
        call @puts_nth;
        say " in ring ";
        mov rax, qword_ptr(rbp + CS);
        and eax, 3;
        call @dec;
        mov eax, dword_ptr(rbp + VECTOR);
        cmp eax, 14;
        je @show_page_fault;
        mov ecx, error_codes;
        bt ecx, eax;
        jnc @show_exception_end;
        say ", error code ";
        mov rax, qword_ptr(rbp + ERROR);
        call @hex;
        jmp @show_exception_end;

        // The error code of a page fault says what was tried (SDM vol. 3A, 4.7); CR2 says where.
    @show_page_fault:
        say ": CR2=";
        mov rax, cr2;
        call @hex;
        say "\n   error code ";
        mov rax, qword_ptr(rbp + ERROR);
        call @hex;
        lea rsi, ptr(error_names);
        call @flags;
        test al, 16;
        jnz @show_fetch;
        test al, 2;
        jnz @show_write;
        say ": a read by ";
        jmp @show_who;
    @show_fetch:
        say ": an instruction fetch by ";
        jmp @show_who;
    @show_write:
        say ": a write by ";
    @show_who:
        test al, 4;
        jnz @show_user;
        say "the kernel, ";
        jmp @show_presence;
    @show_user:
        say "the user, ";
    @show_presence:
        test al, 8;
        jnz @show_reserved;
        test al, 1;
        jnz @show_forbidden;
        say "of a page that is not present";
        jmp @show_exception_end;
    @show_forbidden:
        say "which the page forbids";
        jmp @show_exception_end;
    @show_reserved:
        say "through an entry with a reserved bit set";
    @show_exception_end:
        call @newline;
        pop rsi;
        pop rcx;
        pop rax;
        ret;

        // Prints the saved RFLAGS, with names.
    @show_flags:
        push rax;
        push rsi;
        mov rax, qword_ptr(rbp + FLAGS);
        call @hex;
        lea rsi, ptr(flag_names);
        call @flags;
        pop rsi;
        pop rax;
        ret;

        // Prints the saved registers.
    @show_registers:
        push rax;
        say "   RIP=";
        mov rax, qword_ptr(rbp + RIP);
        call @hex;
        say " RSP=";
        mov rax, qword_ptr(rbp + RSP);
        call @hex;
        say " CS=";
        mov rax, qword_ptr(rbp + CS);
        call @hex;
        say " RFLAGS=";
        call @show_flags;
    }
    for (text, number) in
        [("\n   RAX=", 0), (" RBX=", 3), (" RCX=", 1), ("\n   RDX=", 2), (" RSI=", 6), (" RDI=", 7)]
    {
        k.say(text)?;
        asm! { k;
            mov rax, qword_ptr(rbp + register(number));
            call @hex_16;
        }
    }
    asm! { k;
        call @newline;
        pop rax;
        ret;
    }
    Ok(())
}

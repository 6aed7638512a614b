//! What runs in ring 3. These programs are not part of the kernel: they can only ask it, by system call.

use super::asm::{Assembled, Error, Program, asm};
use super::layout::*;
use super::user::{EXIT, PRINT, PRINT_HEX};
use iced_x86::code_asm::*;

/// The trap flag and the interrupt flag of RFLAGS.
const TF: i32 = 1 << 8;
const IF: i32 = 1 << 9;

/// All programs, for [`USER_CODE`].
pub fn programs() -> Result<Assembled, Error> {
    let mut u = Program::new(64)?;
    hello(&mut u)?;
    fault(&mut u)?;
    trap(&mut u)?;
    library(&mut u)?;
    u.assemble(USER_CODE.into())
}

/// `user`: says where it is, through both doors.
fn hello(u: &mut Program) -> Result<(), Error> {
    let text = u.text("   and this line came by INT 80h, as in the old days.\n");
    asm! { u;
    @hello:
        say "   Hello from ring 3, by SYSCALL: CS=";
        mov edi, cs;                            // its two lowest bits are the privilege level
        call @print_hex;
        say ", RSP=";
        mov rdi, rsp;
        call @print_hex;
        say "\n";
        lea rsi, ptr(text);
        mov eax, PRINT;
        int 0x80;
        jmp @exit;
    }
    Ok(())
}

/// `fault`: four page faults. R12 is where to go on after one that the kernel does not mend.
fn fault(u: &mut Program) -> Result<(), Error> {
    asm! { u;
    @fault:
        say "1. A program in ring 3 reads a page that is not there:\n";
        mov ebx, DEMAND + 8;
        mov rdi, qword_ptr(rbx);                // #PF, mapped, and run again
        say "   It read ";
        call @print_hex;
        say " and never noticed.\n2. It writes there:\n";
        mov dword_ptr(rbx), 0x1234;             // #PF, made writable, and run again
        mov rdi, qword_ptr(rbx);
        say "   It wrote, and reads back ";
        call @print_hex;
        say ".\n3. It reads the kernel's memory:\n";
        lea r12, @fault_4;
        mov eax, dword_ptr(KERNEL);             // #PF: the U bit is not set
    @fault_4:
        say "4. It jumps into a page that holds data:\n";
        lea r12, @fault_end;
        jmp rbx;                                // #PF: the NX bit is set
    @fault_end:
        jmp @exit;
    }
    Ok(())
}

/// `trap`: exceptions one asks for, and one that never comes.
fn trap(u: &mut Program) -> Result<(), Error> {
    asm! { u;
    @trap:
        say "1. INT3, a breakpoint:\n";
        int3;
        say "2. A division by zero:\n";
        lea r12, @trap_ud;
        xor edx, edx;
        mov eax, 42;
        xor ecx, ecx;
        div ecx;
    @trap_ud:
        say "3. UD2, an instruction that is defined to be undefined:\n";
        lea r12, @trap_step;
        ud2;
    @trap_step:
        say "4. Single-stepping over MOV EAX,2; ADD EAX,5; IMUL EAX,EAX:\n";
        pushfq;
        or dword_ptr(rsp), TF;
        popfq;                                  // takes effect after the next instruction
        mov eax, 2;
        add eax, 5;
        imul_2 eax, eax;
        say "5. CLI, which ring 3 may not use:\n";
        lea r12, @trap_popf;
        cli;                                    // #GP, since the I/O privilege level is 0
    @trap_popf:
        say "6. POPF with the interrupt flag cleared, which would come to the same as CLI:\n";
        say "   before: RFLAGS=";
        pushfq;
        mov rdi, qword_ptr(rsp);
        call @print_hex;
        and dword_ptr(rsp), !IF;
        popfq;                                  // no exception: the flag is just not changed
        pushfq;
        pop rdi;
        say ", after: RFLAGS=";
        call @print_hex;
        test edi, IF;
        jz @trap_obeyed;
        say ".\n   No trap, and IF is still 1: silently ignored.\n";
        say "   That is the classic hole of trap-and-emulate: a guest kernel run in ring 3\n";
        say "   would believe that interrupts are off, and its hypervisor would never hear of\n";
        say "   it. A translator reads every instruction, so it can give POPF the meaning that\n";
        say "   it has in ring 0.\n";
        jmp @exit;
    @trap_obeyed:
        say ".\n   IF is 0: this is not how an x86 processor behaves!\n";
        jmp @exit;
    }
    Ok(())
}

/// What all of them use.
fn library(u: &mut Program) -> Result<(), Error> {
    asm! { u;
        // Prints the text at RSI. SYSCALL overwrites RCX and R11, so they are kept here.
    @puts:
        push rax;
        push rcx;
        push r11;
        mov eax, PRINT;
        syscall;
        pop r11;
        pop rcx;
        pop rax;
        ret;

        // Prints the number in RDI.
    @print_hex:
        push rax;
        push rcx;
        push r11;
        mov eax, PRINT_HEX;
        syscall;
        pop r11;
        pop rcx;
        pop rax;
        ret;

    @exit:
        mov eax, EXIT;
        syscall;
    }
    Ok(())
}

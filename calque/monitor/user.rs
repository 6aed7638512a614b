//! Into ring 3 and back.

use super::asm::{Assembled, Error, Program, asm};
use super::layout::*;
use super::tables;
use iced_x86::code_asm::*;

/// System calls, by the number in EAX.
pub const EXIT: u32 = 0;
/// Print the text at RSI.
pub const PRINT: u32 = 1;
/// Print the number in RDI in hexadecimal.
pub const PRINT_HEX: u32 = 2;

/// The commands that run a program, and both doors for system calls.
pub fn user(k: &mut Program, programs: &Assembled) -> Result<(), Error> {
    commands(k, programs)?;
    enter_and_leave(k)?;
    system_calls(k)
}

fn commands(k: &mut Program, programs: &Assembled) -> Result<(), Error> {
    asm! { k;
    @command_user:
        mov rdi, programs.address("hello")?;
        jmp @run_user;

    @command_trap:
        mov dword_ptr(STEPS_LEFT), 3;
        mov rdi, programs.address("trap")?;
        jmp @run_user;

    @command_fault:                             // takes the page of the last time away again
        mov qword_ptr(DEMAND_ENTRY), 0;
        mov eax, DEMAND;
        invlpg byte_ptr(rax);
        mov edi, DEMAND_FRAME;
        xor eax, eax;
        mov ecx, PAGE / 8;
        rep stosq;
        mov rdi, programs.address("fault")?;
        jmp @run_user;
    }
    Ok(())
}

fn enter_and_leave(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Runs the ring 3 program at RDI until it exits. There is no instruction "enter ring 3": one returns to
        // it, from an interrupt that never was.
    @run_user:
        push rbx;
        push rbp;
        push r12;
        push r13;
        push r14;
        push r15;
        mov qword_ptr(MAIN_RSP), rsp;           // where `leave_user` finds all that again
        cli;
        push i32::from(tables::USER_DATA);      // what IRET pops: SS, RSP, RFLAGS, CS, RIP
        mov eax, USER_STACK + PAGE;
        push rax;
        push 0x202;                             // interrupts on, I/O privilege level 0
        push i32::from(tables::USER_CODE);
        push rdi;
        xor eax, eax;                           // nothing of the kernel's may be seen in registers
        xor ebx, ebx;
        xor ecx, ecx;
        xor edx, edx;
        xor esi, esi;
        xor edi, edi;
        xor ebp, ebp;
        xor r8d, r8d;
        xor r9d, r9d;
        xor r10d, r10d;
        xor r11d, r11d;
        xor r12d, r12d;
        xor r13d, r13d;
        xor r14d, r14d;
        xor r15d, r15d;
        iretq;

        // Ends the program, from whatever depth of the trap stack, which starts afresh next time.
    @leave_user:
        mov rsp, qword_ptr(MAIN_RSP);
        pop r15;
        pop r14;
        pop r13;
        pop r12;
        pop rbp;
        pop rbx;
        sti;
        ret;
    }
    Ok(())
}

fn system_calls(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // SYSCALL comes here: RCX is the user's RIP and R11 its RFLAGS. It is fast because it does so little: it
        // does not even switch stacks. (With several processors the places used here would be found through
        // SWAPGS.)
    @system_call_entry:
        mov qword_ptr(USER_RSP), rsp;
        mov esp, TRAP_STACK_TOP;
        push rcx;
        push r11;
        call @system_call;
        pop r11;
        pop rcx;
        mov rsp, qword_ptr(USER_RSP);
        sysretq;                                // RCX is in the user's half: a bad one would be #GP in ring 0

        // INT 80h comes here, by way of the interrupt table: slower, and the processor does all of it.
    @int_80:
        call @system_call;
        iretq;

    @system_call:
        cmp eax, EXIT;
        je @leave_user;
        cmp eax, PRINT;
        je @call_print;
        cmp eax, PRINT_HEX;
        je @call_print_hex;
        say "   (the program made a system call that does not exist)\n";
        ret;
    @call_print_hex:
        push rax;
        mov rax, rdi;
        call @hex;
        pop rax;
        ret;

        // A pointer from ring 3 must not be believed: the kernel could read on its behalf what it may not. Texts
        // are allowed from the programs' own pages, which end with a zero.
    @call_print:
        push rax;
        mov rax, rsi;
        sub rax, USER_CODE as i32;
        cmp rax, (USER_CODE_END - USER_CODE) as i32;
        pop rax;
        jae @call_print_bad;
        jmp @puts;
    @call_print_bad:
        say "   (the program gave a pointer that is not its own)\n";
        ret;
    }
    Ok(())
}

//! Exceptions and interrupts (SDM vol. 3A, chapter 6).

use super::asm::{Error, Program, asm, general};
use super::layout::*;
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

/// Exceptions for which the processor itself pushes an error code (SDM vol. 3A, table 6-1).
const WITH_ERROR_CODE: [usize; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];

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

// What lies on the stack when a handler runs: the 16 general registers but RSP in the order of their numbers, with a
// hole for RSP, then what the stub pushed, then what the processor pushed.

/// Offset of general register `n`.
const fn register(n: i32) -> i32 {
    n * 8
}
const R12: i32 = register(12);
const VECTOR: i32 = 128;
const ERROR: i32 = 136;
const RIP: i32 = 144;
const CS: i32 = 152;
const FLAGS: i32 = 160;
const RSP: i32 = 168;

/// The handlers that the interrupt table points to.
pub fn traps(k: &mut Program) -> Result<(), Error> {
    interrupts(k)?;
    stubs(k)?;
    dispatch(k)?;
    from_user(k)?;
    page_fault(k)?;
    show(k)
}

fn interrupts(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @timer_interrupt:
        inc qword_ptr(TICKS);
    @serial_interrupt:                          // only wakes the processor: `getc` fetches the byte
        push rax;
        mov al, 0x20;                           // tell the 8259 that this one is done
        out 0x20, al;
        pop rax;
    @stray_interrupt:                           // the 8259's own "never mind" (line 7): not to be acknowledged
        iretq;
    }
    Ok(())
}

/// One short stub per exception brings all to the same form: an error code, then the vector.
fn stubs(k: &mut Program) -> Result<(), Error> {
    for vector in 0..32usize {
        k.define(&format!("exception_{vector}"))?;
        if !WITH_ERROR_CODE.contains(&vector) {
            k.a.push(0)?;
        }
        asm! { k;
            push vector as i32;
            jmp @exception;
        }
    }
    Ok(())
}

/// Saves the registers, calls the handler, restores them.
fn dispatch(k: &mut Program) -> Result<(), Error> {
    k.define("exception")?;
    for number in (0..16).rev() {
        k.a.push(general(number)?)?;
    }
    asm! { k;
        cld;                                    // whatever ran may have set it
        mov rbp, rsp;
        test byte_ptr(rbp + CS), 3;             // the privilege it came from
        jz @kernel_exception;
        call @user_exception;
    }
    for number in 0..16 {
        // POP RSP would take the value that was pushed; the real one is restored by IRET.
        match number {
            4 => k.a.add(rsp, 8)?,
            _ => k.a.pop(general(number)?)?,
        }
    }
    asm! { k;
        add rsp, 16;                            // vector and error code
        iretq;

        // The kernel itself is not supposed to fault.
    @kernel_exception:
        say "\nThe monitor itself ran into an exception:\n";
        call @show_exception;
        call @show_registers;
        say "It stops here. End the emulator to leave (in calque: Ctrl-A x).\n";
    @stop:
        cli;
        hlt;
        jmp @stop;
    }
    Ok(())
}

/// Exceptions from ring 3: RBP points to the saved state, and changing that changes what the program finds.
fn from_user(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @user_exception:
        mov rax, qword_ptr(rbp + VECTOR);
        cmp eax, 1;
        je @user_step;
        call @show_exception;
        cmp eax, 14;
        je @user_page_fault;
        call @show_registers;
        cmp eax, 3;                             // INT3 is a trap: RIP is already behind it
        je @user_continue;

        // A fault's RIP is the faulting instruction: returning would run it again. By our own convention R12 holds
        // where to go on instead. (Real kernels look such addresses up in a table made by the compiler.)
    @user_recover:
        mov rax, qword_ptr(rbp + R12);
        test rax, rax;
        jz @user_kill;
        mov qword_ptr(rbp + RIP), rax;
    @user_continue:
        ret;
    @user_kill:
        say "   It has no place to go on from: the program is ended.\n";
        jmp @leave_user;

        // Single step: the TF flag makes every instruction end with #DB. The debugger's work is done when it has
        // cleared the flag in the saved RFLAGS.
    @user_step:
        mov eax, 0xffff_0ff0u32;                // DR6 tells the cause, and is never cleared by the processor
        mov dr6, rax;
        say "   step: RIP=";
        mov rax, qword_ptr(rbp + RIP);
        call @hex;
        say " RAX=";
        mov rax, qword_ptr(rbp + register(0));
        call @hex;
        say " RFLAGS=";
        call @show_flags;
        call @newline;
        dec qword_ptr(STEPS_LEFT);
        jg @user_continue;
        and dword_ptr(rbp + FLAGS), !0x100;
        ret;
    }
    Ok(())
}

/// Page faults from ring 3. This is all there is to demand paging and to copy-on-write: the fault is a question, the
/// answer is a changed entry, and the program never notices.
fn page_fault(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @user_page_fault:
        mov rcx, cr2;                           // the address
        mov rdx, qword_ptr(rbp + ERROR);
        mov rax, rcx;
        and rax, -(PAGE as i32);
        cmp rax, DEMAND as i32;                 // the one page that we give on demand
        jne @page_fault_refuse;
        and edx, 0x13;                          // error code: present, write, instruction fetch
        jz @page_fault_map;                     // not present
        cmp edx, 2;
        je @page_fault_map;
        cmp edx, 3;                             // present, and a write
        je @page_fault_write;
    @page_fault_refuse:
        say "   The kernel refuses";
        cmp qword_ptr(rbp + R12), 0;
        je @page_fault_kill;
        say " and lets the program go on elsewhere.\n";
        jmp @user_recover;
    @page_fault_kill:
        say ".\n";
        jmp @user_kill;

    @page_fault_map:
        say "   The kernel maps a zeroed page, read-only, and runs the instruction again.\n";
        mov dword_ptr(DEMAND_ENTRY), DEMAND_FRAME | P | U;
        mov dword_ptr(DEMAND_ENTRY + 4), NX_HIGH;
        ret;                                    // entries that are not present are never cached: no INVLPG needed

    @page_fault_write:
        say "   The kernel allows writes to it and runs the instruction again.\n";
        or dword_ptr(DEMAND_ENTRY), W;
        invlpg byte_ptr(rcx);                   // the processor may remember the old entry (SDM vol. 3A, 4.10.4)
        ret;
    }
    Ok(())
}

/// Telling about an exception.
fn show(k: &mut Program) -> Result<(), Error> {
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

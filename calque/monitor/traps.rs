//! Exceptions and interrupts (SDM vol. 3A, chapter 6).

use super::asm::{Error, Program, asm, general};
use super::layout::*;
use iced_x86::code_asm::*;

/// Exceptions for which the processor itself pushes an error code (SDM vol. 3A, table 6-1).
pub const WITH_ERROR_CODE: [usize; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];

// What lies on the stack when a handler runs: the 16 general registers in the order of their numbers (RSP's place is
// of no use), then what the stub pushed, then what the processor pushed.

/// Offset of general register `n`.
pub const fn register(n: i32) -> i32 {
    n * 8
}
const R12: i32 = register(12);
/// Offset of the vector.
pub const VECTOR: i32 = 128;
/// Of the error code, or a zero.
pub const ERROR: i32 = 136;
/// Of the instruction pointer.
pub const RIP: i32 = 144;
/// Of the code segment.
pub const CS: i32 = 152;
/// Of RFLAGS.
pub const FLAGS: i32 = 160;
/// Of the stack pointer.
pub const RSP: i32 = 168;

/// The handlers that the interrupt table points to.
pub fn traps(k: &mut Program) -> Result<(), Error> {
    interrupts(k)?;
    stubs(k)?;
    dispatch(k)?;
    from_user(k)?;
    page_fault(k)
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

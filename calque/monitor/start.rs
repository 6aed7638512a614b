//! The kernel's first instructions: processor state, then the chips.

use super::asm::{Error, Program, asm};
use super::layout::*;
use super::tables::{self, IRQ_BASE, KERNEL_CODE, KERNEL_DATA, TASK, USER_DATA};
use iced_x86::code_asm::*;

// Model-specific registers of SYSCALL (SDM vol. 3A, 5.8.8).
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;

/// Flags that a system call starts without: interrupts, single-step, direction, alignment checks.
const SYSCALL_CLEARS: u32 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18;

/// The 8254 counts down at 1.193182 MHz; divided by this it interrupts 100 times a second.
const TIMER_DIVISOR: u32 = 11932;

/// The entry point in 64-bit mode, and everything up to the prompt.
pub fn start(k: &mut Program) -> Result<(), Error> {
    processor(k)?;
    chips(k)?;
    calibrate(k)?;
    banner(k)?;
    asm! { k;
        jmp @prompt;
    }
    Ok(())
}

/// Segments, tables, task state, system calls.
fn processor(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        mov eax, u32::from(KERNEL_DATA);
        mov ds, eax;
        mov es, eax;
        mov ss, eax;
        xor eax, eax;                           // FS and GS are for whoever wants a base address: nobody here
        mov fs, eax;
        mov gs, eax;
        mov esp, MAIN_STACK_TOP;                // writing 32 bits clears the upper half of the register

        // The task state segment no longer holds a task, only stacks: RSP0 is loaded when an interrupt comes from
        // ring 3, IST1 by every gate that asks for it (SDM vol. 3A, 8.7).
        mov qword_ptr(TSS + 4), TRAP_STACK_TOP as i32;
        mov qword_ptr(TSS + 36), DOUBLE_FAULT_STACK_TOP as i32;
        mov word_ptr(TSS + 102), TSS_SIZE;      // the I/O bitmap starts behind the end: no port for ring 3
        mov eax, u32::from(TASK);
        ltr ax;
        lidt ptr(tables::IDT_POINTER);

        // SYSCALL: where to go, with which segments, with which flags cleared. SYSRET takes the stack segment
        // eight above the base given, and the code segment sixteen above.
        mov ecx, STAR;
        xor eax, eax;
        mov edx, u32::from(USER_DATA - 8) << 16 | u32::from(KERNEL_CODE);
        wrmsr;
        mov ecx, LSTAR;
        lea rax, @system_call_entry;
        xor edx, edx;
        wrmsr;
        mov ecx, SFMASK;
        mov eax, SYSCALL_CLEARS;
        xor edx, edx;
        wrmsr;
    }
    Ok(())
}

/// Interrupt controllers, timer, serial port.
fn chips(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // The 8259 pair. Firmware leaves its lines at vectors where the processor's own exceptions are, so give
        // them others: four initialisation words each (Intel 8259A data sheet).
        mov al, 0x11;                           // ICW1: edge-triggered, two chips, ICW4 follows
        out 0x20, al;
        out 0xa0, al;
        mov al, u32::from(IRQ_BASE);            // ICW2: first vector
        out 0x21, al;
        mov al, u32::from(IRQ_BASE) + 8;
        out 0xa1, al;
        mov al, 0x04;                           // ICW3: the second chip hangs on line 2
        out 0x21, al;
        mov al, 0x02;
        out 0xa1, al;
        mov al, 0x01;                           // ICW4: 8086 mode
        out 0x21, al;
        out 0xa1, al;
        mov al, 0xee;                           // let through line 0, the timer, and line 4, the serial port
        out 0x21, al;
        mov al, 0xff;
        out 0xa1, al;

        // The 8254: channel 0, low byte then high byte, mode 2 (a pulse every so often).
        mov al, 0x34;
        out 0x43, al;
        mov al, TIMER_DIVISOR & 0xff;
        out 0x40, al;
        mov al, TIMER_DIVISOR >> 8;
        out 0x40, al;

        // The 16550: 115200 baud, 8 bits, no parity. Its FIFOs stay off: turning them on empties them, and a key
        // that was pressed early would be lost.
        mov edx, 0x3fb;
        mov al, 0x83;                           // line control: 8n1, and the divisor in place of registers 0 and 1
        out dx, al;
        mov edx, 0x3f8;
        mov al, 1;
        out dx, al;
        inc edx;
        xor eax, eax;
        out dx, al;
        mov edx, 0x3fb;
        mov al, 0x03;
        out dx, al;
        inc edx;
        mov al, 0x0b;                           // modem control: DTR, RTS, and OUT2, which lets interrupts out
        out dx, al;
        mov edx, 0x3f9;
        mov al, 0x01;                           // interrupt when a byte has come
        out dx, al;
        sti;
    }
    Ok(())
}

/// Measures the time-stamp counter against five ticks of the timer, asleep.
fn calibrate(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        mov rbx, qword_ptr(TICKS);
    @calibrate_edge:                            // the start of a tick
        hlt;
        cmp rbx, qword_ptr(TICKS);
        je @calibrate_edge;
        mov rbx, qword_ptr(TICKS);
        add rbx, 5;
        call @now;
        mov rsi, rax;
    @calibrate_wait:
        hlt;
        cmp qword_ptr(TICKS), rbx;
        jb @calibrate_wait;
        call @now;
        sub rax, rsi;
        xor edx, edx;
        mov ecx, 50;                            // five ticks of 10 ms
        div rcx;
        test rax, rax;
        jnz @calibrated;
        inc eax;                                // never zero: it is divided by
    @calibrated:
        mov qword_ptr(TSC_PER_MS), rax;
    }
    Ok(())
}

fn banner(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        say "\nThis is calque's built-in guest: a small 64-bit monitor.\n";
        mov eax, dword_ptr(MEMORY_KIB);
        test eax, eax;
        jz @banner_rest;
        add eax, 1024 + 512;                    // the first MiB is not counted; round
        shr eax, 10;
        call @dec;
        say " MiB of memory, ";
    @banner_rest:
        say "paging on, timer at 100 Hz. Type 'help' for the commands,\n";
        say "or try 'fault', 'trap' and 'smc' first.\n\n";
    }
    Ok(())
}

//! Printing and reading on the serial port.
//!
//! All printing routines preserve every register, so they can be put anywhere to see what is going on.

use super::asm::{Error, Program, asm};
use super::layout::*;
use iced_x86::code_asm::*;

/// The 16550's data register and its line status.
const DATA: u32 = 0x3f8;
const STATUS: u32 = 0x3fd;
/// Line status: a byte has come; the transmitter takes a byte.
const RECEIVED: i32 = 1 << 0;
const READY: i32 = 1 << 5;

const CTRL_C: i32 = 3;
const BELL: u32 = 7;
const BACKSPACE: i32 = 8;
const CTRL_U: i32 = 0x15;
const ESCAPE: i32 = 0x1b;
const DELETE: i32 = 0x7f;

/// Every routine of this module.
pub fn console(k: &mut Program) -> Result<(), Error> {
    print_text(k)?;
    print_numbers(k)?;
    print_flags(k)?;
    read_key(k)?;
    read_line(k)?;
    time(k)
}

fn print_text(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Prints the byte in AL; a newline as carriage return and newline, which terminals want.
    @putc:
        cmp al, i32::from(b'\n');
        jne @putc_raw;
        push rax;
        mov al, u32::from(b'\r');
        call @putc_raw;
        pop rax;
    @putc_raw:
        push rax;
        push rcx;
        push rdx;
        mov ecx, eax;
        mov edx, STATUS;
    @putc_wait:
        in_ al, dx;
        test al, READY;
        jz @putc_wait;
        mov edx, DATA;
        mov eax, ecx;
        out dx, al;
        pop rdx;
        pop rcx;
        pop rax;
        ret;

        // Prints the text at RSI up to a zero.
    @puts:
        push rsi;
        push rax;
    @puts_next:
        lodsb;
        test al, al;
        jz @puts_end;
        call @putc;
        jmp @puts_next;
    @puts_end:
        pop rax;
        pop rsi;
        ret;

        // Ends a line.
    @newline:
        push rax;
        mov al, u32::from(b'\n');
        call @putc;
        pop rax;
        ret;

        // Prints the EAX'th of the texts at RSI, each ending with a zero.
    @puts_nth:
        push rsi;
        push rcx;
        mov ecx, eax;
    @puts_nth_skip:
        test ecx, ecx;
        jz @puts_nth_found;
        inc rsi;
        cmp byte_ptr(rsi - 1), 0;
        jne @puts_nth_skip;
        dec ecx;
        jmp @puts_nth_skip;
    @puts_nth_found:
        call @puts;
        pop rcx;
        pop rsi;
        ret;
    }
    Ok(())
}

fn print_numbers(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Prints RAX as 0x and as many digits as it needs.
    @hex:
        push rbx;
        mov ebx, 16;                            // the base
        say "0x";
        jmp @number;

        // Prints RAX in decimal.
    @dec:
        push rbx;
        mov ebx, 10;
    @number:
        push rax;
        push rcx;
        push rdx;
        xor ecx, ecx;                           // how many digits wait on the stack
    @number_divide:                             // the last digit comes first
        xor edx, edx;
        div rbx;
        push rdx;
        inc ecx;
        test rax, rax;
        jnz @number_divide;
    @number_print:
        pop rax;
        call @digit;
        dec ecx;
        jnz @number_print;
        pop rdx;
        pop rcx;
        pop rax;
        pop rbx;
        ret;

        // Prints RAX with all of its 16 digits.
    @hex_16:
        push rcx;
        mov ecx, 16;
        call @hex_digits;
        pop rcx;
        ret;

        // Prints the lowest byte of RAX as two digits.
    @hex_2:
        push rax;
        push rcx;
        ror rax, 8;
        mov ecx, 2;
        call @hex_digits;
        pop rcx;
        pop rax;
        ret;

        // Prints the highest ECX digits of RAX, turning it.
    @hex_digits:
        push rax;
        push rcx;
    @hex_digits_next:
        rol rax, 4;
        push rax;
        and eax, 15;
        call @digit;
        pop rax;
        dec ecx;
        jnz @hex_digits_next;
        pop rcx;
        pop rax;
        ret;

        // Prints the digit AL.
    @digit:
        push rax;
        add al, i32::from(b'0');
        cmp al, i32::from(b'9');
        jbe @digit_print;
        add al, i32::from(b'a' - b'9' - 1);
    @digit_print:
        call @putc;
        pop rax;
        ret;
    }
    Ok(())
}

fn print_flags(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Prints the names of the bits that are set in RAX, in brackets. RSI points to the names, as
        // `Program::bit_names` lays them out.
    @flags:
        push rax;
        push rcx;
        push rdx;
        push rsi;
        mov rdx, rax;
        say " [";
        xor ecx, ecx;                           // becomes 1 when a name has been printed
    @flags_next:
        lodsb;
        cmp al, 255;
        je @flags_end;
        movzx eax, al;
        bt rdx, rax;
        jnc @flags_skip;
        test ecx, ecx;
        jz @flags_first;
        say " ";
    @flags_first:
        mov ecx, 1;
        call @puts;
    @flags_skip:
        lodsb;
        test al, al;
        jnz @flags_skip;
        jmp @flags_next;
    @flags_end:
        say "]";
        pop rsi;
        pop rdx;
        pop rcx;
        pop rax;
        ret;
    }
    Ok(())
}

fn read_key(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Waits for a key, asleep, and returns it in EAX. The serial port's interrupt only wakes: the byte is
        // fetched here. Interrupts are off between looking and sleeping, or one that came in between would be
        // slept through; STI lets them in only after the instruction that follows it (SDM vol. 2B, STI).
    @getc:
        push rdx;
    @getc_look:
        cli;
        mov edx, STATUS;
        in_ al, dx;
        test al, RECEIVED;
        jnz @getc_ready;
        sti;
        hlt;
        jmp @getc_look;
    @getc_ready:
        mov edx, DATA;
        in_ al, dx;
        sti;
        movzx eax, al;
        pop rdx;
        ret;
    }
    Ok(())
}

fn read_line(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Lets the user type a line into LINE, ending with a zero. Ctrl-C gives an empty one.
    @read_line:
        push rax;
        push rbx;
        xor ebx, ebx;                           // how long it is
    @read_line_next:
        call @getc;
        cmp al, i32::from(b'\r');
        je @read_line_end;
        cmp al, i32::from(b'\n');
        je @read_line_end;
        cmp al, BACKSPACE;
        je @read_line_erase;
        cmp al, DELETE;
        je @read_line_erase;
        cmp al, CTRL_U;
        je @read_line_kill;
        cmp al, CTRL_C;
        je @read_line_cancel;
        cmp al, ESCAPE;
        je @read_line_escape;
        cmp al, i32::from(b' ');                // other control characters mean nothing here,
        jb @read_line_next;
        cmp al, DELETE;                         // nor do bytes beyond ASCII
        ja @read_line_next;
        cmp ebx, LINE_MAX - 1;
        jae @read_line_full;
        mov byte_ptr(rbx + LINE), al;
        inc ebx;
        call @putc;                             // the echo
        jmp @read_line_next;
    @read_line_full:
        mov al, BELL;
        call @putc;
        jmp @read_line_next;

    @read_line_erase:
        call @rub_out;
        jmp @read_line_next;
    @read_line_kill:
        test ebx, ebx;
        jz @read_line_next;
        call @rub_out;
        jmp @read_line_kill;
    @rub_out:                                   // one character, if there is one
        test ebx, ebx;
        jz @rub_out_end;
        dec ebx;
        say "\x08 \x08";
    @rub_out_end:
        ret;

    @read_line_escape:                          // arrow keys and their like: ESC [ parameters letter
        call @getc;
        cmp al, i32::from(b'[');
        jne @read_line_next;
    @read_line_sequence:
        call @getc;
        cmp al, i32::from(b'@');
        jb @read_line_sequence;
        jmp @read_line_next;

    @read_line_cancel:
        say "^C";
        xor ebx, ebx;
    @read_line_end:
        mov byte_ptr(rbx + LINE), 0;
        call @newline;
        pop rbx;
        pop rax;
        ret;
    }
    Ok(())
}

fn time(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // The time-stamp counter, in RAX.
    @now:
        push rdx;
        rdtsc;
        shl rdx, 32;
        or rax, rdx;
        pop rdx;
        ret;

        // Milliseconds since the time stamp RDI, in RAX.
    @ms_since:
        push rdx;
        call @now;
        sub rax, rdi;
        xor edx, edx;
        div qword_ptr(TSC_PER_MS);
        pop rdx;
        ret;
    }
    Ok(())
}

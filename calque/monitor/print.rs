//! Printing on the serial port.
//!
//! All of these routines preserve every register, so they can be put anywhere to see what is going on.

use super::asm::{Error, Program, asm};
use super::console::{DATA, STATUS};
use iced_x86::code_asm::*;

/// Line status: the transmitter takes a byte.
const READY: i32 = 1 << 5;

/// Every routine of this module.
pub fn print(k: &mut Program) -> Result<(), Error> {
    texts(k)?;
    numbers(k)?;
    flags(k)
}

fn texts(k: &mut Program) -> Result<(), Error> {
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

fn numbers(k: &mut Program) -> Result<(), Error> {
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

fn flags(k: &mut Program) -> Result<(), Error> {
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

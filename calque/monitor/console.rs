//! Reading from the serial port, and time.

use super::asm::{Error, Program, asm};
use super::layout::*;
use iced_x86::code_asm::*;

/// The 16550's data register.
pub const DATA: u32 = 0x3f8;
/// Its line status.
pub const STATUS: u32 = 0x3fd;
/// Line status: a byte has come.
const RECEIVED: i32 = 1 << 0;

const CTRL_C: i32 = 3;
const BELL: u32 = 7;
const BACKSPACE: i32 = 8;
const CTRL_U: i32 = 0x15;
const ESCAPE: i32 = 0x1b;
const DELETE: i32 = 0x7f;

/// Every routine of this module.
pub fn console(k: &mut Program) -> Result<(), Error> {
    read_key(k)?;
    read_line(k)?;
    time(k)
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

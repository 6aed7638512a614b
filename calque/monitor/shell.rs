//! The prompt: reads a line, finds the command, calls it.

use super::asm::{Error, Program, asm};
use super::layout::*;
use iced_x86::code_asm::*;

struct Command {
    name: &'static str,
    /// The label of its code, which finds in RSI what was typed after the name.
    code: &'static str,
    /// Whether anything may be typed there.
    argument: bool,
    help: &'static str,
}

const fn plain(name: &'static str, code: &'static str, help: &'static str) -> Command {
    Command { name, code, argument: false, help }
}

const COMMANDS: [Command; 14] = [
    plain("help", "command_help", "this list"),
    plain("user", "command_user", "a ring 3 program that calls the kernel in two ways"),
    plain("fault", "command_fault", "page faults in ring 3: demand paging, write protection, refusals"),
    plain("trap", "command_trap", "INT3, #DE, #UD, single step, #GP; and POPF, which does not trap"),
    plain("smc", "command_smc", "a loop that patches its own code"),
    plain("bench", "command_bench", "a simple loop, as fast as it goes, for half a second"),
    Command {
        name: "mem",
        code: "command_mem",
        argument: true,
        help: "walk the page tables for an address: 'mem 0x40000000'",
    },
    plain("regs", "command_regs", "control registers, descriptor tables, CPUID"),
    plain("counters", "command_counters", "what calque counted while it ran this guest"),
    plain("uptime", "command_uptime", "time since the start, by the timer's interrupts"),
    plain("reboot", "command_reboot", "reset the machine, by the keyboard controller"),
    plain("off", "command_off", "power off, by ACPI"),
    plain("crash", "command_crash", "a triple fault, on purpose (asks first)"),
    // What people type when they want to leave.
    plain("exit", "command_exit", ""),
];

/// The prompt and what is needed to understand a line.
pub fn shell(k: &mut Program) -> Result<(), Error> {
    prompt(k)?;
    help(k)?;
    words(k)?;
    number(k)
}

fn prompt(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @prompt:
        say "calque> ";
        call @read_line;
        mov esi, LINE;
        call @skip_spaces;
        cmp byte_ptr(rsi), 0;
        je @prompt;
    }
    for command in &COMMANDS {
        let name = k.text(command.name);
        let code = k.at(command.code)?;
        let mut other = k.a.create_label();
        asm! { k;
            lea rdi, ptr(name);
            call @is_word;
            jne other;
        }
        if !command.argument {
            asm! { k;
                cmp byte_ptr(rsi), 0;
                jne @surplus;
            }
        }
        asm! { k;
            call code;
            jmp @prompt;
            set_label &mut other;
        }
    }
    asm! { k;
        mov rbx, rsi;
        say "There is no command '";
        mov rsi, rbx;
        call @puts;
        say "'. Type 'help' for those there are.\n";
        jmp @prompt;
    @surplus:
        say "That command takes nothing after its name. Type 'help' for the commands.\n";
        jmp @prompt;
    }
    Ok(())
}

fn help(k: &mut Program) -> Result<(), Error> {
    let mut list = String::new();
    for command in COMMANDS.iter().filter(|c| !c.help.is_empty()) {
        list += &format!("  {:<9} {}\n", command.name, command.help);
    }
    list += "Ctrl-C drops a line, Ctrl-U empties it.\n";
    k.define("command_help")?;
    k.say(&list)?;
    asm! { k;
        ret;
    @command_exit:
        say "There is nowhere to exit to: 'off' powers the machine off.\n";
        ret;
    }
    Ok(())
}

fn words(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Moves RSI to the next character that is no space.
    @skip_spaces:
        cmp byte_ptr(rsi), i32::from(b' ');
        jne @skip_spaces_end;
        inc rsi;
        jmp @skip_spaces;
    @skip_spaces_end:
        ret;

        // Whether the word at RSI is the text at RDI. If so, ZF is set and RSI moves to the word after it.
    @is_word:
        push rax;
        push rsi;
    @is_word_next:
        mov al, byte_ptr(rdi);
        test al, al;
        jz @is_word_end;
        cmp al, byte_ptr(rsi);
        jne @is_word_no;
        inc rsi;
        inc rdi;
        jmp @is_word_next;
    @is_word_end:                               // the text is over: is the word?
        cmp byte_ptr(rsi), 0;
        je @is_word_yes;
        cmp byte_ptr(rsi), i32::from(b' ');
        jne @is_word_no;
    @is_word_yes:
        call @skip_spaces;
        add rsp, 8;                             // forget the RSI that was kept
        xor eax, eax;                           // sets ZF, and POP leaves it alone
        pop rax;
        ret;
    @is_word_no:                                // here ZF is clear
        pop rsi;
        pop rax;
        ret;
    }
    Ok(())
}

fn number(k: &mut Program) -> Result<(), Error> {
    asm! { k;
        // Reads the hexadecimal number at RSI, with or without 0x, into RAX. CF is set if there is none, or if it
        // has more than 64 bits, or if something follows.
    @parse_hex:
        push rcx;
        push rdx;
        push rsi;
        xor eax, eax;
        xor ecx, ecx;                           // how many digits
        cmp byte_ptr(rsi), i32::from(b'0');
        jne @parse_hex_next;
        mov dl, byte_ptr(rsi + 1);
        or dl, 0x20;                            // to lower case
        cmp dl, i32::from(b'x');
        jne @parse_hex_next;
        add rsi, 2;
    @parse_hex_next:
        movzx edx, byte_ptr(rsi);
        inc rsi;
        test edx, edx;
        jz @parse_hex_end;
        cmp edx, i32::from(b' ');
        je @parse_hex_space;
        sub edx, i32::from(b'0');
        cmp edx, 10;
        jb @parse_hex_digit;
        add edx, i32::from(b'0');
        or edx, 0x20;                           // to lower case
        sub edx, i32::from(b'a');
        cmp edx, 6;                             // unsigned, so what was below 'a' is far above
        jae @parse_hex_bad;
        add edx, 10;
    @parse_hex_digit:
        inc ecx;
        cmp ecx, 16;                            // more than 64 bits
        ja @parse_hex_bad;
        shl rax, 4;
        or rax, rdx;
        jmp @parse_hex_next;
    @parse_hex_space:                           // only spaces may follow
        call @skip_spaces;
        cmp byte_ptr(rsi), 0;
        jne @parse_hex_bad;
    @parse_hex_end:
        cmp ecx, 1;                             // CF if there was no digit
        jmp @parse_hex_return;
    @parse_hex_bad:
        stc;
    @parse_hex_return:
        pop rsi;
        pop rdx;
        pop rcx;
        ret;
    }
    Ok(())
}

//! Commands about speed, self-modifying code, and ways to end.

use super::asm::{Error, Program, asm};
use super::layout::*;
use iced_x86::code_asm::*;

/// How often the self-modifying loop patches itself.
const PATCHES: u32 = 20_000;

/// The loop of `bench` is a random number generator (Knuth's MMIX numbers), so that every step needs the one before.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;
/// Iterations between two looks at the clock.
const BATCH: u32 = 100_000;
/// IMUL, ADD, DEC, JNZ.
const INSTRUCTIONS_PER_ITERATION: u32 = 4;
const BENCH_MS: i32 = 500;

/// What the generator must have reached after one batch from 1 on.
const fn after_one_batch() -> u64 {
    let mut x: u64 = 1;
    let mut i = 0;
    while i < BATCH {
        x = x.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        i += 1;
    }
    x
}

/// Calque's counters, by number.
const COUNTERS: [&str; 6] = [
    "instructions executed:           ",
    "blocks translated:               ",
    "TLB misses:                      ",
    "page table walks:                ",
    "stores that hit decoded code:    ",
    "instructions interpreted singly: ",
];
/// The ports: write a counter's number to the first one, then read its low and its high half. The second port tells
/// how many there are, or all ones where nobody answers.
const COUNTER_SELECT: u32 = 0xca0;
const COUNTER_COUNT: u32 = 0xca4;
const COUNTER_LOW: u32 = 0xca8;
const COUNTER_HIGH: u32 = 0xcac;

/// Every command of this module.
pub fn commands(k: &mut Program) -> Result<(), Error> {
    self_modifying(k)?;
    bench(k)?;
    counters(k)?;
    uptime(k)?;
    reboot_and_off(k)?;
    crash(k)
}

fn self_modifying(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_smc:
        lea rsi, @smc_code;                     // the kernel's own code is read-only: copy it to where it is not
        lea rcx, @smc_end;
        sub rcx, rsi;
        mov edi, SMC_PAGE;
        rep movsb;
        call @now;
        mov r12, rax;
        mov ecx, PATCHES;
        mov eax, SMC_PAGE;
        call rax;
        mov ebx, eax;
        say "   Patched an instruction of its own loop ";
        mov eax, PATCHES;
        call @dec;
        say " times: ";
        test ebx, ebx;
        jnz @smc_wrong;
        say "every result right; ";
        jmp @smc_time;
    @smc_wrong:
        mov eax, ebx;
        call @dec;
        say " results WRONG; ";
    @smc_time:
        mov rdi, r12;
        call @ms_since;
        call @dec;
        say " ms.\n";
        ret;

        // Writes each number from ECX down to 1 into the MOV below, runs it, and counts in EAX how often it did not
        // load that number. All addresses are relative, so a copy works anywhere.
        //
        // The jump between store and patched instruction is what SDM vol. 3A, 9.1.3 asks for. An emulator that
        // keeps translated code must notice the store, even in the middle of the block that makes it.
    @smc_code:
        xor eax, eax;
        lea rdi, @smc_patched;
    @smc_next:
        mov dword_ptr(rdi + 1), ecx;            // the immediate operand follows the opcode byte
        jmp @smc_patched;
    @smc_patched:
        mov edx, 0;
        cmp edx, ecx;
        je @smc_right;
        inc eax;
    @smc_right:
        dec ecx;
        jnz @smc_next;
        ret;
    @smc_end:
    }
    Ok(())
}

fn bench(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_bench:
        mov r8, MULTIPLIER;
        mov r9, INCREMENT;
        mov r10, after_one_batch();
        xor ebx, ebx;                           // batches
        call @now;
        mov rdi, rax;
    @bench_batch:
        mov eax, 1;
        mov ecx, BATCH;
    @bench_loop:
        imul_2 rax, r8;
        add rax, r9;
        dec ecx;
        jnz @bench_loop;
        cmp rax, r10;
        jne @bench_wrong;
        inc rbx;
        call @ms_since;
        cmp rax, BENCH_MS;
        jb @bench_batch;

        mov rsi, rax;
        imul_3 rax, rbx, BATCH as i32;
        say "   ";
        call @dec;
        say " iterations in ";
        mov rax, rsi;
        call @dec;
        say " ms: ";
        // Millions a second are thousands a millisecond.
        imul_3 rax, rbx, (BATCH / 1000 * INSTRUCTIONS_PER_ITERATION) as i32;
        xor edx, edx;
        div rsi;
        call @dec;
        say " million instructions a second; every result right.\n";
        ret;
    @bench_wrong:
        say "   A result is WRONG: ";
        call @hex;
        say " in place of ";
        mov rax, r10;
        call @hex;
        say ".\n";
        ret;
    }
    Ok(())
}

fn counters(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_counters:
        mov edx, COUNTER_COUNT;
        in_ eax, dx;
        cmp eax, -1;
        je @counters_none;
        mov ebx, eax;
    }
    for (number, name) in COUNTERS.iter().enumerate() {
        asm! { k;
            cmp ebx, number as i32;
            jbe @counters_end;
            mov edx, COUNTER_SELECT;
            mov eax, number as u32;
            out dx, eax;                        // takes a picture of both halves
            mov edx, COUNTER_HIGH;
            in_ eax, dx;
            mov rcx, rax;
            shl rcx, 32;
            mov edx, COUNTER_LOW;
            in_ eax, dx;
            or rax, rcx;
            say "   ";
        }
        k.say(name)?;
        asm! { k;
            call @dec;
            call @newline;
        }
    }
    asm! { k;
    @counters_end:
        ret;
    @counters_none:
        say "   not running under calque: no one answers at its counters' ports\n";
        ret;
    }
    Ok(())
}

fn uptime(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_uptime:
        mov rax, qword_ptr(TICKS);
        xor edx, edx;
        mov ecx, 100;
        div rcx;
        say "   up ";
        call @dec;
        say ".";
        cmp edx, 10;
        jae @uptime_rest;
        say "0";
    @uptime_rest:
        mov eax, edx;
        call @dec;
        say " s (";
        mov rax, qword_ptr(TICKS);
        call @dec;
        say " timer interrupts)\n";
        ret;
    }
    Ok(())
}

fn reboot_and_off(k: &mut Program) -> Result<(), Error> {
    asm! { k;
    @command_reboot:
        say "Resetting.\n";
        mov al, 0xfe;                           // keyboard controller: pulse output line 0, the reset line
        out 0x64, al;
        call @wait_a_moment;
        say "This machine did not reset. Halted: end the emulator to leave.\n";
        jmp @stop;

    @command_off:
        say "Powering off.\n";
        mov edx, 0x604;                         // PM1a control, by custom of emulated machines
        mov eax, 0x2000;                        // SLP_EN with sleep type 0, which is S5 here (ACPI 6.4, 4.8.3.2)
        out dx, ax;
        call @wait_a_moment;
        say "This machine did not power off. Halted: end the emulator to leave.\n";
        jmp @stop;

        // Half a second.
    @wait_a_moment:
        mov rbx, qword_ptr(TICKS);
        add rbx, 50;
    @wait_more:
        hlt;
        cmp qword_ptr(TICKS), rbx;
        jb @wait_more;
        ret;
    }
    Ok(())
}

fn crash(k: &mut Program) -> Result<(), Error> {
    let yes = k.text("yes");
    asm! { k;
    @command_crash:
        say "This ends the machine with a triple fault. Type 'yes' to go on: ";
        call @read_line;
        mov esi, LINE;
        lea rdi, ptr(yes);
        call @is_word;
        jne @crash_not;
        say "An exception without an interrupt table, so a double fault, so a triple fault:\n";
        xor eax, eax;
        mov qword_ptr(SCRATCH), rax;
        mov qword_ptr(SCRATCH + 8), rax;
        lidt ptr(SCRATCH);                      // base 0, limit 0: no gate is inside
        int3;
    @crash_not:
        say "   Not crashed.\n";
        ret;
    }
    Ok(())
}

//! Guests with several processors: start-up by INIT and SIPI, locked counters, litmus tests, interprocessor
//! interrupts, code that another processor changes.
//!
//! Without paging: what is written at an address below is there. The bootstrap processor ends the run through
//! `isa-debug-exit` at port 501h with the number of the phase that failed, or 0.

use super::Guest;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

type Done = Result<(), IcedError>;

/// Where application processors begin in real mode; the vector of the start-up IPI is its page number.
const TRAMPOLINE: u32 = 0x8000;
const GDT: u32 = 0x8050;
const IDT: u32 = 0xa000;
const STACKS: u32 = 0x2_0000;
/// Variables, each in a cache line of its own.
const VARS: u32 = 0x9000;
const PATCHED: u32 = 0x6_0000;
const APIC: u32 = 0xfee0_0000;
const ICR_LOW: u32 = APIC + 0x300;
const ICR_HIGH: u32 = APIC + 0x310;

const fn var(n: u32) -> u32 {
    VARS + 64 * n
}
const READY: u32 = var(0);
const COUNT: u32 = var(1);
const PAIR: u32 = var(2);
const X: u32 = var(3);
const Y: u32 = var(4);
const BARRIER: u32 = var(5);
const FLAG: u32 = var(6);
const SEEN: u32 = var(7);
const TICKS: u32 = var(8);
const NMIS: u32 = var(9);
/// Four bytes over a cache line's end, and over a page's end.
const SPLIT: u32 = 0x9ebe;
const CROSSING: u32 = 0xbffe;

fn at(address: u32) -> AsmMemoryOperand {
    dword_ptr(address)
}

/// EAX: the address of the jump to `target` that this leaves in the code.
fn address_of(a: &mut CodeAssembler, target: CodeLabel) -> Done {
    let mut after = a.create_label();
    a.call(after)?;
    a.jmp(target)?;
    a.set_label(&mut after)?;
    a.pop(eax)
}

/// Stores the trampoline, whose 32-bit half is at the address in EAX.
fn install_trampoline(a: &mut CodeAssembler) -> Done {
    // cli; xor ax,ax; mov ds,ax; lgdt [8040h]; mov eax,cr0; or eax,1; mov cr0,eax; jmp 8:dword ...
    let code: [u8; 24] = [
        0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x0f, 0x01, 0x16, 0x40, 0x80, 0x0f, 0x20, 0xc0, 0x66, 0x83, 0xc8, 0x01,
        0x0f, 0x22, 0xc0, 0x66, 0xea, 0, 0,
    ];
    for (i, word) in code.chunks(4).enumerate() {
        let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        a.mov(at(TRAMPOLINE + 4 * i as u32), value)?;
    }
    a.mov(at(TRAMPOLINE + 22), eax)?;
    a.mov(at(TRAMPOLINE + 26), 8)?;
    a.mov(at(TRAMPOLINE + 0x40), 23 | GDT << 16)?;
    a.mov(at(TRAMPOLINE + 0x44), GDT >> 16)?;
    for (i, word) in [0, 0, 0xffff, 0x00cf_9a00, 0xffff, 0x00cf_9200].into_iter().enumerate() {
        a.mov(at(GDT + 4 * i as u32), word)?;
    }
    Ok(())
}

/// INIT and two start-up IPIs to everybody else.
fn start_others(a: &mut CodeAssembler) -> Done {
    a.mov(at(ICR_LOW), 0xc_4500)?;
    for _ in 0..2 {
        a.mov(at(ICR_LOW), 0xc_4600 | TRAMPOLINE >> 12)?;
    }
    Ok(())
}

/// The 32-bit beginning of an application processor: segments and a stack of its own.
fn settle_in(a: &mut CodeAssembler) -> Done {
    a.mov(eax, 0x10)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.mov(ss, eax)?;
    a.mov(eax, at(APIC + 0x20))?;
    a.shr(eax, 24)?;
    a.shl(eax, 12)?;
    a.add(eax, STACKS)?;
    a.mov(esp, eax)
}

/// Waits, in a polite loop, until the variable at `address` is at least what EBX holds.
fn await_ebx(a: &mut CodeAssembler, address: u32) -> Done {
    let mut again = a.create_label();
    let mut there = a.create_label();
    a.set_label(&mut again)?;
    a.cmp(at(address), ebx)?;
    a.jae(there)?;
    a.pause()?;
    a.jmp(again)?;
    a.set_label(&mut there)?;
    a.nop()
}

/// Leaves through the debug port with `phase` if the flags say so (not equal).
fn fail_if_not_equal(a: &mut CodeAssembler, phase: u32) -> Done {
    let mut fine = a.create_label();
    a.je(fine)?;
    leave(a, phase)?;
    a.set_label(&mut fine)?;
    a.nop()
}

fn leave(a: &mut CodeAssembler, value: u32) -> Done {
    a.mov(dx, 0x501u32)?;
    a.mov(eax, value)?;
    a.out(dx, eax)?;
    super::halt(a)
}

/// `body` with ECX counting down from `rounds`.
fn repeat(a: &mut CodeAssembler, rounds: u32, body: impl FnOnce(&mut CodeAssembler) -> Done) -> Done {
    let mut again = a.create_label();
    a.mov(ecx, rounds)?;
    a.set_label(&mut again)?;
    // An instruction has one label, and the body may begin with its own.
    a.nop()?;
    body(a)?;
    a.dec(ecx)?;
    a.jnz(again)
}

/// What every processor of [`counters`] does: counts in every way that is to be atomic.
fn count(a: &mut CodeAssembler) -> Done {
    repeat(a, 20_000, |a| {
        a.lock().inc(at(COUNT))?;
        // CMPXCHG8B adds one to a pair.
        let mut again = a.create_label();
        a.push(ecx)?;
        a.mov(eax, at(PAIR))?;
        a.mov(edx, at(PAIR + 4))?;
        a.set_label(&mut again)?;
        a.mov(ebx, eax)?;
        a.mov(ecx, edx)?;
        a.add(ebx, 1)?;
        a.adc(ecx, 0)?;
        a.lock().cmpxchg8b(qword_ptr(PAIR))?;
        a.jnz(again)?;
        a.pop(ecx)
    })?;
    repeat(a, 300, |a| {
        a.lock().inc(at(SPLIT))?;
        a.mov(eax, 1)?;
        a.lock().xadd(at(CROSSING), eax)
    })
}

/// Starts all of `vcpus` processors, and has them count together.
pub fn counters(vcpus: u32) -> Guest {
    Guest::new(|a| {
        let mut ap = a.create_label();
        let mut bsp = a.create_label();
        a.mov(esp, STACKS)?;
        address_of(a, ap)?;
        a.jmp(bsp)?;
        a.set_label(&mut ap)?;
        settle_in(a)?;
        count(a)?;
        a.lock().inc(at(READY))?;
        super::halt(a)?;
        a.set_label(&mut bsp)?;
        install_trampoline(a)?;
        a.mov(at(PAIR), 0xffff_ff00u32)?;
        start_others(a)?;
        count(a)?;
        a.mov(ebx, vcpus - 1)?;
        await_ebx(a, READY)?;
        a.cmp(at(COUNT), vcpus * 20_000)?;
        fail_if_not_equal(a, 1)?;
        a.cmp(at(PAIR), (vcpus * 20_000).wrapping_sub(0x100))?;
        fail_if_not_equal(a, 2)?;
        a.cmp(at(PAIR + 4), 1)?;
        fail_if_not_equal(a, 3)?;
        a.cmp(at(SPLIT), vcpus * 300)?;
        fail_if_not_equal(a, 4)?;
        a.cmp(at(CROSSING), vcpus * 300)?;
        fail_if_not_equal(a, 5)?;
        leave(a, 0)
    })
}

/// Both processors of [`litmus`] meet: each counts the barrier up and waits for ESI, which grows by two.
fn meet(a: &mut CodeAssembler) -> Done {
    a.add(esi, 2)?;
    a.lock().inc(at(BARRIER))?;
    a.mov(ebx, esi)?;
    await_ebx(a, BARRIER)
}

const ROUNDS: u32 = 1000;

/// One side of store buffering (SDM vol. 3A, 9.2.3.4) with a fence: EAX is what it read.
fn store_and_load(a: &mut CodeAssembler, mine: u32, other: u32) -> Done {
    a.mov(at(mine), 1)?;
    a.mfence()?;
    a.mov(eax, at(other))
}

/// Two processors: 1 store buffering, 2 message passing, 3 cross-modifying code, 4 IPIs to a halted processor, 5 NMIs.
pub fn litmus() -> Guest {
    Guest::new(|a| {
        let mut ap = a.create_label();
        let mut bsp = a.create_label();
        let mut on_tick = a.create_label();
        let mut on_nmi = a.create_label();
        a.mov(esp, STACKS)?;
        for (handler, vector) in [(on_tick, 0x40), (on_nmi, 2)] {
            address_of(a, handler)?;
            let gate = IDT + 8 * vector;
            a.mov(ecx, eax)?;
            a.and(ecx, 0xffff)?;
            a.or(ecx, 8 << 16)?;
            a.mov(at(gate), ecx)?;
            a.and(eax, 0xffff_0000u32)?;
            a.or(eax, 0x8e00)?;
            a.mov(at(gate + 4), eax)?;
        }
        a.mov(at(IDT - 8), 0x7ff | IDT << 16)?;
        a.mov(at(IDT - 4), IDT >> 16)?;
        address_of(a, ap)?;
        a.jmp(bsp)?;

        a.set_label(&mut on_tick)?;
        a.lock().inc(at(TICKS))?;
        a.mov(at(APIC + 0xb0), 0)?;
        a.iretd()?;
        a.set_label(&mut on_nmi)?;
        a.lock().inc(at(NMIS))?;
        a.iretd()?;

        a.set_label(&mut ap)?;
        settle_in(a)?;
        a.lidt(ptr(IDT - 8))?;
        a.mov(at(APIC + 0xf0), 0x1ff)?;
        a.xor(esi, esi)?;
        second(a)?;

        a.set_label(&mut bsp)?;
        install_trampoline(a)?;
        // mov eax, imm32; ret
        a.mov(at(PATCHED), 0xb8)?;
        a.mov(at(PATCHED + 4), 0xc300)?;
        start_others(a)?;
        a.xor(esi, esi)?;
        first(a)
    })
}

fn first(a: &mut CodeAssembler) -> Done {
    repeat(a, ROUNDS, |a| {
        a.mov(at(X), 0)?;
        a.mov(at(Y), 0)?;
        meet(a)?;
        store_and_load(a, X, Y)?;
        a.mov(edi, eax)?;
        meet(a)?;
        // Both read zero: the fences did nothing.
        a.or(edi, at(SEEN))?;
        a.cmp(edi, 1)?;
        fail_if_not_equal(a, 1)
    })?;
    // Message passing; ECX is the message, so it runs downwards, and the flag is its complement.
    repeat(a, ROUNDS, |a| {
        a.mov(at(X), ecx)?;
        a.mov(at(Y), ecx)?;
        meet(a)?;
        a.cmp(at(SEEN), ecx)?;
        fail_if_not_equal(a, 2)
    })?;
    repeat(a, ROUNDS, |a| {
        a.mov(at(PATCHED + 1), ecx)?;
        a.mov(at(FLAG), ecx)?;
        meet(a)?;
        a.cmp(at(SEEN), ecx)?;
        fail_if_not_equal(a, 3)
    })?;
    a.mov(at(ICR_HIGH), 1 << 24)?;
    for (phase, counter, icr) in [(4, TICKS, 0x4040), (5, NMIS, 0x4400)] {
        a.xor(edi, edi)?;
        repeat(a, 500, |a| {
            a.mov(at(ICR_LOW), icr)?;
            a.inc(edi)?;
            a.mov(ebx, edi)?;
            await_ebx(a, counter)?;
            a.cmp(at(counter), edi)?;
            fail_if_not_equal(a, phase)
        })?;
    }
    leave(a, 0)
}

fn second(a: &mut CodeAssembler) -> Done {
    repeat(a, ROUNDS, |a| {
        meet(a)?;
        store_and_load(a, Y, X)?;
        a.mov(at(SEEN), eax)?;
        meet(a)
    })?;
    repeat(a, ROUNDS, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.cmp(at(Y), ecx)?;
        a.jne(again)?;
        a.mov(eax, at(X))?;
        a.mov(at(SEEN), eax)?;
        meet(a)
    })?;
    repeat(a, ROUNDS, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.pause()?;
        a.cmp(at(FLAG), ecx)?;
        a.jne(again)?;
        a.push(ecx)?;
        a.cpuid()?;
        a.mov(eax, PATCHED)?;
        a.call(eax)?;
        a.pop(ecx)?;
        a.mov(at(SEEN), eax)?;
        meet(a)
    })?;
    let mut here = a.create_label();
    a.sti()?;
    a.set_label(&mut here)?;
    a.hlt()?;
    a.jmp(here)
}

//! The descriptor tables: segments and interrupt gates.
//!
//! 64-bit code hardly uses segments, but a code segment still says at which privilege code runs, and in which mode.

use super::asm::{Assembled, Error};
use super::layout::*;

/// Selectors: an index into the GDT times eight, with the privilege level in the two lowest bits.
pub const KERNEL_CODE: u16 = 0x08;
/// The kernel's stack segment. SYSCALL takes it to be right behind the code.
pub const KERNEL_DATA: u16 = 0x10;
/// The user's stack segment. SYSRET takes it to be right before the code.
pub const USER_DATA: u16 = 0x18 | 3;
/// The user's code.
pub const USER_CODE: u16 = 0x20 | 3;
/// The task state segment.
pub const TASK: u16 = 0x28;

/// The GDT: five descriptors and a task descriptor of double size.
const GDT: u32 = TABLES;
const GDT_SIZE: usize = 7 * 8;
/// What LGDT reads: a limit of 16 bits, then the base.
pub const GDT_POINTER: u32 = TABLES + 0x40;
/// What LIDT reads.
pub const IDT_POINTER: u32 = TABLES + 0x50;
const IDT: u32 = TABLES + 0x60;

/// The highest interrupt vector in use: `int 0x80`, a system call of the old kind.
pub const VECTORS: usize = 0x81;
/// The interrupt controllers' sixteen lines start here, above the processor's own 32 exceptions.
pub const IRQ_BASE: u8 = 0x20;

// Segment descriptors (SDM vol. 3A, 3.4.5 and 5.2.1).

const PRESENT: u64 = 1 << 47;
const RING3: u64 = 3 << 45;
/// Not a system descriptor.
const SEGMENT: u64 = 1 << 44;
const CODE: u64 = 1 << 43;
/// Readable code, writable data.
const ACCESSIBLE: u64 = 1 << 41;
/// 64-bit code.
const LONG: u64 = 1 << 53;
/// Type 9 of a system descriptor: an available 64-bit task state segment.
const AVAILABLE_TSS: u64 = 9 << 40;

/// The page at [`TABLES`].
pub fn tables(kernel: &Assembled) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    for descriptor in gdt() {
        page.extend(descriptor.to_le_bytes());
    }
    pointer(&mut page, GDT_POINTER, GDT_SIZE, GDT);
    pointer(&mut page, IDT_POINTER, VECTORS * 16, IDT);
    page.resize((IDT - TABLES) as usize, 0);
    for vector in 0..VECTORS {
        page.extend(gate(vector, kernel)?.to_le_bytes());
    }
    Ok(page)
}

fn gdt() -> [u64; GDT_SIZE / 8] {
    let flat = PRESENT | SEGMENT | ACCESSIBLE;
    let tss = u64::from(TSS);
    [
        0, // selector 0 is no segment
        flat | CODE | LONG,
        flat,
        flat | RING3,
        flat | RING3 | CODE | LONG,
        // Base and limit of a system descriptor are scattered, as they were on the 286 and the 386.
        u64::from(TSS_SIZE - 1)
            | (tss & 0xff_ffff) << 16
            | AVAILABLE_TSS
            | PRESENT
            | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ]
}

fn pointer(page: &mut Vec<u8>, at: u32, size: usize, base: u32) {
    page.resize((at - TABLES) as usize, 0);
    page.extend((size as u16 - 1).to_le_bytes());
    page.extend(u64::from(base).to_le_bytes());
}

/// A gate of the IDT (SDM vol. 3A, 6.14.1): where the handler is and who may call it.
fn gate(vector: usize, kernel: &Assembled) -> Result<u128, Error> {
    /// Type 14: an interrupt gate, which turns interrupts off on its way in.
    const INTERRUPT_GATE: u128 = 0xe << 40;
    let (handler, ring, stack) = match vector {
        // INT3 may be used in ring 3: that is what it is for. INT n to any other gate from there is a #GP.
        3 => ("exception_3".to_owned(), 3, 0),
        // A double fault comes on a stack of its own, entry 1 of the task's interrupt stack table.
        8 => ("exception_8".to_owned(), 0, 1),
        0..32 => (format!("exception_{vector}"), 0, 0),
        0x20 => ("timer_interrupt".to_owned(), 0, 0),
        0x24 => ("serial_interrupt".to_owned(), 0, 0),
        0x21..0x24 | 0x25..0x30 => ("stray_interrupt".to_owned(), 0, 0),
        0x80 => ("int_80".to_owned(), 3, 0),
        _ => return Ok(0),
    };
    let offset = u128::from(kernel.address(&handler)?);
    Ok(offset & 0xffff
        | u128::from(KERNEL_CODE) << 16
        | stack << 32
        | INTERRUPT_GATE
        | ring << 45
        | u128::from(PRESENT)
        | (offset >> 16 & 0xffff) << 48
        | (offset >> 32) << 64)
}

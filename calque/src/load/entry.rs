//! The processor state a loaded image starts from, and the tables that state points to.

use super::LoadError;
use super::memory::GuestMemory;
use super::room::Room;

/// Where and how the first instruction runs. In every mode interrupts are off, flags are 2, and registers that
/// are not named are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The mode and its registers.
    pub mode: Mode,
    /// The segment table that was put into memory, for the modes that use one.
    pub gdt: Option<Gdt>,
}

/// A processor mode and the registers that matter in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 64-bit: CR0 = PE | ET | PG, CR4 = PAE, EFER = LME | LMA, segments from the table.
    Long64 {
        /// Four-level page tables that map the first 4 GiB to themselves in 2 MiB pages.
        cr3: u64,
        /// The first instruction.
        rip: u64,
        /// Linux's boot parameters.
        rsi: u64,
        /// The top of a page of stack.
        rsp: u64,
    },
    /// 32-bit without paging: CR0 = PE | ET, all segments flat.
    Prot32 {
        /// The first instruction.
        eip: u32,
        /// Multiboot's magic number, else 0.
        eax: u32,
        /// PVH start info or multiboot information, else 0.
        ebx: u32,
        /// Linux's boot parameters, else 0.
        esi: u32,
        /// The top of a page of stack.
        esp: u32,
    },
    /// 16-bit, as firmware starts a boot sector: all data segments 0.
    Real16 {
        /// The code segment's selector; its base is 16 times as much.
        cs: u16,
        /// The first instruction's offset in it.
        ip: u16,
    },
}

/// A flat segment table in guest memory, laid out as Linux's boot protocols ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gdt {
    /// Where it is.
    pub base: u64,
    /// The limit for GDTR: its size less one.
    pub limit: u16,
    /// Its descriptors, for setting the hidden parts of segment registers.
    pub entries: [u64; 4],
}

impl Gdt {
    /// Selector of the code segment (Linux's `__BOOT_CS`).
    pub const CODE: u16 = 0x10;
    /// Selector of the segment for data and stack (Linux's `__BOOT_DS`).
    pub const DATA: u16 = 0x18;

    const CODE32: u64 = 0x00cf_9b00_0000_ffff;
    const CODE64: u64 = 0x00af_9b00_0000_ffff;
    const DATA32: u64 = 0x00cf_9300_0000_ffff;

    fn place(code: u64, room: &mut Room, memory: &mut dyn GuestMemory) -> Result<Self, LoadError> {
        let entries = [0, 0, code, Self::DATA32];
        let base = room.low("the segment table", 32, 16)?;
        memory.write(base, entries.map(u64::to_le_bytes).as_flattened())?;
        Ok(Self { base, limit: 31, entries })
    }
}

/// A 64-bit start at `rip` with the boot parameters at `rsi`.
pub(super) fn long64(
    rip: u64,
    rsi: u64,
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    let gdt = Gdt::place(Gdt::CODE64, room, memory)?;
    let cr3 = identity_map(room, memory)?;
    let rsp = stack(room)?;
    Ok(Entry { mode: Mode::Long64 { cr3, rip, rsi, rsp }, gdt: Some(gdt) })
}

/// What a 32-bit start finds in its registers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub esi: u32,
}

/// A 32-bit start at `eip`.
pub(super) fn prot32(
    eip: u32,
    registers: Registers,
    room: &mut Room,
    memory: &mut dyn GuestMemory,
) -> Result<Entry, LoadError> {
    let gdt = Gdt::place(Gdt::CODE32, room, memory)?;
    let esp = stack(room)? as u32;
    let Registers { eax, ebx, esi } = registers;
    Ok(Entry { mode: Mode::Prot32 { eip, eax, ebx, esi, esp }, gdt: Some(gdt) })
}

/// One page of stack; returns its top.
fn stack(room: &mut Room) -> Result<u64, LoadError> {
    Ok(room.low("the first stack", 0x1000, 0x1000)? + 0x1000)
}

/// Page tables that map the first 4 GiB to themselves (Intel SDM vol. 3A, 4.5): one PML4, one page-directory
/// pointer table, four page directories of 2 MiB pages. Returns the address of the PML4.
fn identity_map(room: &mut Room, memory: &mut dyn GuestMemory) -> Result<u64, LoadError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let base = room.low("the page tables", 6 * 0x1000, 0x1000)?;
    let mut tables = vec![0u64; 6 * 512];
    tables[0] = (base + 0x1000) | PRESENT_WRITABLE;
    for i in 0..4 {
        tables[512 + i] = (base + 0x2000 + 0x1000 * i as u64) | PRESENT_WRITABLE;
    }
    for (i, entry) in tables[1024..].iter_mut().enumerate() {
        *entry = (i as u64) << 21 | LARGE | PRESENT_WRITABLE;
    }
    let bytes: Vec<u8> = tables.into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write(base, &bytes)?;
    Ok(base)
}

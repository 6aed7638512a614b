//! What lies where in the monitor's memory.
//!
//! All of it is below 2 MiB, where virtual and physical addresses are the same and every page is 4 KiB.

/// Bytes of a page.
pub const PAGE: u32 = 0x1000;

// The image, as the boot loader copies it from the file.

/// The multiboot header and the 32-bit boot code.
pub const IMAGE: u32 = 0x10_0000;
/// The global and interrupt descriptor tables.
pub const TABLES: u32 = 0x10_1000;
/// The programs for ring 3, mapped once more at [`USER_CODE`].
pub const PROGRAMS: u32 = 0x10_2000;
/// The 64-bit kernel.
pub const KERNEL: u32 = 0x10_4000;
/// Where the image ends and zeroed memory starts.
pub const IMAGE_END: u32 = 0x10_9000;

// Page tables. SDM vol. 3A, 4.5: four levels, 512 entries of 8 bytes each, one page per table.

/// Level 4, what CR3 points to.
pub const PML4: u32 = 0x11_0000;
/// Level 3.
pub const PDPT: u32 = 0x11_1000;
/// Level 2 for the kernel, the first GiB.
pub const PD_KERNEL: u32 = 0x11_2000;
/// Level 1 for the kernel, the first 2 MiB.
pub const PT_KERNEL: u32 = 0x11_3000;
/// Level 2 for user space, the second GiB.
pub const PD_USER: u32 = 0x11_4000;
/// Level 1 for user space.
pub const PT_USER: u32 = 0x11_5000;
/// How many page tables there are.
pub const PAGE_TABLES: u32 = 6;
/// How many 2 MiB pages the kernel maps above its first 2 MiB.
pub const LARGE_PAGES: u32 = 7;

// Page frames with no fixed content.

/// The user stack, mapped at [`USER_STACK`].
pub const USER_STACK_FRAME: u32 = 0x11_6000;
/// The page that the `fault` command gives to its program on demand.
pub const DEMAND_FRAME: u32 = 0x11_7000;
/// The one page that is both writable and executable: self-modifying code needs it.
pub const SMC_PAGE: u32 = 0x11_8000;
/// The kernel's variables, below.
pub const VARIABLES: u32 = 0x11_9000;

// Stacks grow down from their tops. The page below each stack stays unmapped, so that an overflow is a fault at once
// and not a silent overwriting of whatever lies there.

/// Top of the stack of the prompt and its commands: two pages.
pub const MAIN_STACK_TOP: u32 = 0x11_d000;
/// Top of the stack for interrupts, exceptions and system calls that come from ring 3: two pages.
pub const TRAP_STACK_TOP: u32 = 0x12_0000;
/// Top of the stack for double faults: one page. A double fault often means that the stack is what is broken.
pub const DOUBLE_FAULT_STACK_TOP: u32 = 0x12_2000;
/// End of all that the monitor uses.
pub const MEMORY_END: u32 = 0x12_2000;

// Variables.

/// The task state segment: 104 bytes (SDM vol. 3A, 8.7).
pub const TSS: u32 = VARIABLES;
/// Its size.
pub const TSS_SIZE: u32 = 104;
/// Timer interrupts since the start.
pub const TICKS: u32 = VARIABLES + 0x80;
/// Time-stamp counter steps in a millisecond.
pub const TSC_PER_MS: u32 = VARIABLES + 0x88;
/// The stack pointer to return to when a ring 3 program ends.
pub const MAIN_RSP: u32 = VARIABLES + 0x90;
/// The user's stack pointer during a system call.
pub const USER_RSP: u32 = VARIABLES + 0x98;
/// How many more instructions of ring 3 to show one by one.
pub const STEPS_LEFT: u32 = VARIABLES + 0xa0;
/// KiB of memory above 1 MiB, from the boot loader, or 0.
pub const MEMORY_KIB: u32 = VARIABLES + 0xa8;
/// A few bytes for CPUID strings, numbers in the making and descriptor table registers.
pub const SCRATCH: u32 = VARIABLES + 0xc0;
/// The line being typed, ending with a zero.
pub const LINE: u32 = VARIABLES + 0x100;
/// Longest line.
pub const LINE_MAX: u32 = 120;

// User space: the second GiB of virtual addresses.

/// The ring 3 programs, two pages, executable and read-only.
pub const USER_CODE: u32 = 0x4000_0000;
/// End of the programs.
pub const USER_CODE_END: u32 = USER_CODE + (KERNEL - PROGRAMS);
/// The page of their stack.
pub const USER_STACK: u32 = 0x4000_4000;
/// A page that is not there until somebody touches it.
pub const DEMAND: u32 = 0x4000_8000;
/// The level 1 entry of that page.
pub const DEMAND_ENTRY: u32 = PT_USER + (DEMAND - USER_CODE) / PAGE * 8;

// Bits of page-table entries (SDM vol. 3A, table 4-20).

/// Present.
pub const P: u32 = 1 << 0;
/// Writable.
pub const W: u32 = 1 << 1;
/// For ring 3 too.
pub const U: u32 = 1 << 2;
/// In level 2: maps a 2 MiB page and points to no further table.
pub const PS: u32 = 1 << 7;
/// Not executable. This is bit 63, so bit 31 of an entry's upper half.
pub const NX_HIGH: u32 = 1 << 31;

/// One run of 4 KiB pages: level 1 table, first virtual page and first frame, how many, and the entry's flags.
#[derive(Debug)]
pub struct Run {
    /// Address of the first entry to fill.
    pub entry: u32,
    /// The physical address it gets.
    pub frame: u32,
    /// How many pages.
    pub count: u32,
    /// Flags in the lower half of the entry.
    pub low: u32,
    /// Flags in its upper half.
    pub high: u32,
}

const fn kernel(from: u32, to: u32, low: u32, high: u32) -> Run {
    Run { entry: PT_KERNEL + from / PAGE * 8, frame: from, count: (to - from) / PAGE, low: low | P, high }
}

const fn user(at: u32, frame: u32, count: u32, low: u32, high: u32) -> Run {
    Run { entry: PT_USER + (at - USER_CODE) / PAGE * 8, frame, count, low: low | U | P, high }
}

/// Every 4 KiB page of the start. Nothing but [`SMC_PAGE`] is both writable and executable. The descriptor tables
/// are writable because the processor writes to them: it marks descriptors as accessed and the task as busy.
///
/// Page 0 is not here: a null pointer is a fault.
pub const RUNS: [Run; 10] = [
    kernel(PAGE, IMAGE, W, NX_HIGH),
    kernel(IMAGE, TABLES, 0, 0),
    kernel(TABLES, PROGRAMS, W, NX_HIGH),
    kernel(PROGRAMS, IMAGE_END, 0, 0),
    kernel(IMAGE_END, SMC_PAGE, W, NX_HIGH),
    kernel(SMC_PAGE, VARIABLES, W, 0),
    kernel(VARIABLES, MEMORY_END, W, NX_HIGH),
    kernel(MEMORY_END, 0x20_0000, W, NX_HIGH),
    user(USER_CODE, PROGRAMS, (KERNEL - PROGRAMS) / PAGE, 0, 0),
    user(USER_STACK, USER_STACK_FRAME, 1, W, NX_HIGH),
];

/// The unmapped pages below the stacks.
pub const GUARDS: [u32; 3] =
    [MAIN_STACK_TOP - 3 * PAGE, TRAP_STACK_TOP - 3 * PAGE, DOUBLE_FAULT_STACK_TOP - 2 * PAGE];

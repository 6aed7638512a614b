//! The built-in guest: a small 64-bit monitor that shows what an x86 processor does.
//!
//! Read it in the order in which the machine runs it:
//!
//! 1. [`boot`]: 32-bit code at the multiboot entry builds page tables and switches to long mode;
//! 2. [`start`]: 64-bit code sets up the task state, the interrupt controller, the timer and the serial port;
//! 3. [`shell`]: the prompt, and [`commands`] and [`inspect`] with what it offers;
//! 4. [`traps`]: exceptions and interrupts, and [`report`], which tells about them;
//! 5. [`user`]: the way into ring 3 and back, and [`programs`], what runs there.
//!
//! [`layout`] says what lies where in memory, [`tables`] makes the descriptor tables, [`console`] and
//! [`print`] read and write, and [`asm`] is the notation all of it is written in.
//!
//! "SDM" in comments is the *Intel 64 and IA-32 Architectures Software Developer's Manual*, with the
//! chapter numbers of its editions since 2023.

mod asm;
mod boot;
mod commands;
mod console;
mod inspect;
mod layout;
mod print;
mod programs;
mod report;
mod shell;
mod start;
mod tables;
mod traps;
mod user;

use asm::{Assembled, Error, Program};

/// The whole image, a multiboot 1 kernel that gives its own load addresses.
///
/// It is four parts, each at its own place: boot code, descriptor tables, the ring 3 programs, the kernel. This
/// function is their linker: the programs are assembled first, so that the kernel knows their entry points, and the
/// kernel before the interrupt table, which points into it.
pub fn image() -> Result<Vec<u8>, Error> {
    let programs = programs::programs()?;
    let kernel = kernel(&programs)?;
    let tables = tables::tables(&kernel)?;
    let boot = boot::boot()?;

    let mut image = Vec::new();
    for (part, at, end) in [
        (&boot.bytes, layout::IMAGE, layout::TABLES),
        (&tables, layout::TABLES, layout::PROGRAMS),
        (&programs.bytes, layout::PROGRAMS, layout::KERNEL),
        (&kernel.bytes, layout::KERNEL, layout::IMAGE_END),
    ] {
        image.resize((at - layout::IMAGE) as usize, 0);
        image.extend_from_slice(part);
        if image.len() > (end - layout::IMAGE) as usize {
            return Err(format!("the part at {at:#x} is {} bytes and does not fit", part.len()).into());
        }
    }
    image.resize((layout::IMAGE_END - layout::IMAGE) as usize, 0);
    Ok(image)
}

/// The 64-bit kernel. Its first instruction is its entry point.
fn kernel(programs: &Assembled) -> Result<Assembled, Error> {
    let mut kernel = Program::new(64)?;
    start::start(&mut kernel)?;
    shell::shell(&mut kernel)?;
    commands::commands(&mut kernel)?;
    inspect::inspect(&mut kernel)?;
    traps::traps(&mut kernel)?;
    report::report(&mut kernel)?;
    user::user(&mut kernel, programs)?;
    console::console(&mut kernel)?;
    print::print(&mut kernel)?;
    kernel.assemble(layout::KERNEL.into())
}

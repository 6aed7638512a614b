//! Debian's kernels, as `calque run debian` prepares them.

use crate::program;
use calque::guests::debian::{Prepared, prepare};
use calque::guests::{Cache, Silent};
use std::path::Path;
use std::process::Command;

pub use calque::guests::debian::Flavour;

/// The prepared guest. Without apt, or without a mirror, None and a printed reason, unless `CALQUE_DEBIAN` says that it
/// has to be there.
///
/// # Panics
/// When it has to be there and is not.
pub fn guest(flavour: Flavour) -> Option<Prepared> {
    match Cache::of_user().and_then(|cache| prepare(flavour, &cache, &Silent)) {
        Ok(prepared) => Some(prepared),
        Err(e) if std::env::var_os("CALQUE_DEBIAN").is_none() => {
            eprintln!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The line that QEMU and `calque qemu` both understand, for a processor and MiB of memory.
fn machine(command: &mut Command, guest: &Prepared, append: &str, cpu: &str, memory: u32) {
    let line = format!("-cpu {cpu} -m {memory} -smp 1 -nodefaults -display none -serial stdio -no-reboot");
    command.args(line.split(' '));
    command.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd);
    command.arg("-append").arg(format!("{} {append}", guest.append).trim());
}

/// calque with `guest` on it, in QEMU's spelling.
pub fn calque(engine: &str, guest: &Prepared, append: &str) -> Command {
    with(engine, guest, append, "max", 1024)
}

/// The same with all that calque has of a processor (QEMU's `max` of that spelling has no ADX), and MiB of memory.
pub fn calque_with_all(engine: &str, guest: &Prepared, append: &str, memory: u32) -> Command {
    with(engine, guest, append, "max,+adx", memory)
}

fn with(engine: &str, guest: &Prepared, append: &str, cpu: &str, memory: u32) -> Command {
    let mut command = program::calque();
    command.args(["qemu", "--engine", engine]);
    machine(&mut command, guest, append, cpu, memory);
    command
}

/// A raw disk for such a command; `more` are further options of it.
pub fn disk(command: &mut Command, image: &Path, more: &str) {
    command.arg("-drive").arg(format!("file={},if=virtio,format=raw{more}", image.display()));
}

/// QEMU with `guest` on it. Without QEMU, None and a printed reason, unless `CALQUE_DEBIAN` says that it has to be
/// there.
///
/// # Panics
/// When it has to be there and is not.
pub fn qemu(guest: &Prepared, append: &str) -> Option<Command> {
    const NAME: &str = "qemu-system-x86_64";
    if !program::has_tool(NAME) {
        assert!(std::env::var_os("CALQUE_DEBIAN").is_none(), "{NAME} has to be installed");
        eprintln!("skipped: {NAME} is not installed, so there is nothing to compare with");
        return None;
    }
    let mut command = Command::new(NAME);
    command.args(["-accel", "tcg"]);
    machine(&mut command, guest, append, "max", 1024);
    Some(command)
}

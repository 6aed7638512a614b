//! Assembles the built-in guest.
//!
//! It is our own little operating system, and its source is Rust: every instruction is a call of iced-x86's
//! assembler. So a build needs no assembler, no linker and no cross tools, on any host, and no binary is kept in
//! the repository.

// The `asm!` macro of `monitor/asm.rs` takes one step of recursion per instruction.
#![recursion_limit = "1024"]

#[path = "monitor/mod.rs"]
mod monitor;

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=monitor");
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out).join("monitor.bin"), monitor::image()?)?;
    Ok(())
}

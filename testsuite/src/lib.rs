//! What the tests in `tests/` share: starting calque (or QEMU) behind pipes or a terminal, the small guests in
//! `guests/`, Debian's kernel as `calque run debian` prepares it.

#[path = "../guests/mod.rs"]
pub mod guests;

pub mod bench;
pub mod debian;
pub mod engine;
pub mod files;
pub mod fuzz;
pub mod instruction_table;
pub mod instructions;
pub mod program;
pub mod session;
pub mod shell;

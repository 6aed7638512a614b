//! Translated code against the IR evaluator, by hand-made and random blocks.
#![cfg(target_arch = "x86_64")]

#[path = "../../../emu-core/tests/ir/gen.rs"]
mod r#gen;
mod random;

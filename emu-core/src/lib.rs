//! Facts and plumbing of the emulated machine, without instruction semantics.
//!
//! Everything that more than one crate must agree on lives here: processor state, guest memory, the software
//! MMU, the bus and interrupt-line traits, time, the engine traits, the IR and the 80-bit float arithmetic.
//! What an instruction *means* lives in `interp` (written from the manuals) and in `frontend-x86` (as IR).

pub mod addr;
pub mod bus;
pub mod clock;
pub mod cpu;
pub mod cpu_box;
pub mod crew;
pub mod engine;
pub mod entropy;
pub mod events;
pub mod fault;
pub mod features;
pub mod ir;
pub mod mem;
pub mod mmu;
pub mod order;
pub mod pages;
pub mod signals;
pub mod softfloat;
pub mod state;
pub mod undecoded;

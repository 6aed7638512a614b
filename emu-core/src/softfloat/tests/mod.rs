//! The oracles: the host's own x87 where there is one, and `rustc_apfloat` everywhere.
//!
//! Cases come from a seeded generator, so a failure repeats; the message holds all that is needed to replay it.

mod apfloat;
mod golden;
mod operands;
mod rules;

#[cfg(target_arch = "x86_64")]
mod host;
#[cfg(target_arch = "x86_64")]
mod host_arith;
#[cfg(target_arch = "x86_64")]
mod host_memory;
#[cfg(target_arch = "x86_64")]
mod host_sse;
#[cfg(target_arch = "x86_64")]
mod host_transcendental;

//! The benchmark command: the same programs on the bare processor, in calque and in QEMU, by turns.
//!
//! `testsuite/scripts/make-bench.sh` makes a Debian tree with our small programs (`testsuite/bench/`) and an image of it.
//! A [`place`] is a running guest, or a shell under chroot on the host, that executes one command after the other and
//! says when each begins and ends; [`measure`] times [`workloads`] in all places by turns on the host's clock and
//! compares what they printed; [`results`] keeps the figures, [`table`] and [`plot`] show them, [`compare`] holds
//! them against an older file; [`lockstep`] looks for differences between engines in the beginning of each
//! workload. `testsuite/src/bin/bench.rs` is the command.

pub mod boots;
pub mod compare;
pub mod console;
pub mod counters;
pub mod lockstep;
pub mod measure;
pub mod place;
pub mod plot;
pub mod results;
pub mod table;
pub mod workloads;

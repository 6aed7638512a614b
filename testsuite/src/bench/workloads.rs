//! What is measured: name, kind, and the command that a shell in the guest or under chroot runs.
//!
//! Sizes are such that QEMU 7.2 takes a few seconds and the bare processor some tenths. Every command prints something
//! that depends on all it did, and is the same on every right machine.

use serde::{Deserialize, Serialize};

/// What a workload is an example of: geometric means are made by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it, and `title` says it in words")]
pub enum Kind {
    Integer,
    Memory,
    Calls,
    Interpreters,
    Compiler,
    FloatScalar,
    FloatPacked,
    X87,
    Strings,
    Ciphers,
    Compression,
    SystemCalls,
    Pipes,
    ForkExec,
    PageFaults,
    SelfModifying,
    GeneratedCode,
    Boot,
    TwoCpus,
}

impl Kind {
    /// All, in the order of tables.
    pub const ALL: &[Self] = &[
        Self::Integer,
        Self::Memory,
        Self::Calls,
        Self::Interpreters,
        Self::Compiler,
        Self::FloatScalar,
        Self::FloatPacked,
        Self::X87,
        Self::Strings,
        Self::Ciphers,
        Self::Compression,
        Self::SystemCalls,
        Self::Pipes,
        Self::ForkExec,
        Self::PageFaults,
        Self::SelfModifying,
        Self::GeneratedCode,
        Self::Boot,
        Self::TwoCpus,
    ];

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Memory => "memory",
            Self::Calls => "calls and dispatch",
            Self::Interpreters => "interpreters",
            Self::Compiler => "cc1",
            Self::FloatScalar => "floating point, scalar",
            Self::FloatPacked => "floating point and integers, packed",
            Self::X87 => "x87",
            Self::Strings => "string instructions",
            Self::Ciphers => "ciphers and hashes",
            Self::Compression => "compression",
            Self::SystemCalls => "system calls, signals, clock",
            Self::Pipes => "pipes",
            Self::ForkExec => "fork and exec",
            Self::PageFaults => "page faults",
            Self::SelfModifying => "self-modifying code",
            Self::GeneratedCode => "just-in-time compilers",
            Self::Boot => "boot",
            Self::TwoCpus => "two CPUs",
        }
    }

    /// Whether the processor, and not the kernel or the machine, is what the time goes to: criterion 3 of the issue,
    /// "near the bare processor", is about these.
    pub fn computes(self) -> bool {
        use Kind::{
            Calls, Ciphers, Compiler, Compression, FloatPacked, FloatScalar, GeneratedCode, Integer,
            Interpreters, Memory, Strings, X87,
        };
        matches!(
            self,
            Integer
                | Memory
                | Calls
                | Interpreters
                | Compiler
                | FloatScalar
                | FloatPacked
                | X87
                | Strings
                | Ciphers
                | Compression
                | GeneratedCode
        )
    }
}

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The command.
    pub command: &'static str,
    /// A flag of /proc/cpuinfo without which it is skipped.
    pub needs: Option<&'static str>,
    /// Part of `--quick`.
    pub quick: bool,
}

const fn w(name: &'static str, kind: Kind, command: &'static str) -> Workload {
    Workload { name, kind, command, needs: None, quick: false }
}

impl Workload {
    const fn v3(mut self) -> Self {
        self.needs = Some("avx2");
        self
    }

    const fn quick(mut self) -> Self {
        self.quick = true;
        self
    }

    /// Virtual processors it wants.
    pub fn cpus(&self) -> u32 {
        if self.kind == Kind::TwoCpus { 2 } else { 1 }
    }
}

const CC1: &str = "for i in 1 2; do for f in structs sha256 strings; do \
    /usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -O2 -o - /bench/data/$f.i; done; done";

/// All workloads, in the order they run.
pub const ALL: &[Workload] = &[
    w("fannkuch", Kind::Integer, "fannkuch 10").quick(),
    w("fannkuch-32", Kind::Integer, "fannkuch-32 10"),
    w("sieve", Kind::Integer, "sieve 2000000 24").quick(),
    w("structs", Kind::Integer, "structs 20000 48").quick(),
    w("structs-32", Kind::Integer, "structs-32 20000 48"),
    w("quicksort", Kind::Integer, "quicksort 500000 10"),
    w("bignum-32", Kind::Integer, "bignum-32 20000"),
    w("bignum", Kind::Integer, "bignum 26000"),
    w("atomics", Kind::Integer, "atomics 8000000"),
    w("chase", Kind::Memory, "chase 100000 5000000").quick(),
    w("stream", Kind::Memory, "stream 200000 80").quick(),
    w("stream-v3", Kind::Memory, "stream-v3 200000 160").v3(),
    w("calls", Kind::Calls, "calls 37 8").quick(),
    w("calls-32", Kind::Calls, "calls-32 37 8"),
    w("virtual", Kind::Calls, "virtual 1000 20000").quick(),
    w("bytecode", Kind::Interpreters, "bytecode 4000000").quick(),
    w("python", Kind::Interpreters, "python3 /bench/src/python.py 24").quick(),
    w("perl", Kind::Interpreters, "perl /bench/src/perl.pl 40"),
    w("mawk", Kind::Interpreters, "mawk -v rounds=500000 -f /bench/src/awk.awk /bench/data/text"),
    w("gawk", Kind::Interpreters, "gawk -v rounds=500000 -f /bench/src/awk.awk /bench/data/text"),
    w("shell", Kind::Interpreters, "busybox sh /bench/src/shell.sh 20"),
    w("cc1", Kind::Compiler, CC1).quick(),
    w("nbody", Kind::FloatScalar, "nbody 600000").quick(),
    w("nbody-v3", Kind::FloatScalar, "nbody-v3 600000").v3(),
    w("spectral", Kind::FloatScalar, "spectral 1000"),
    w("mandelbrot", Kind::FloatScalar, "mandelbrot 400 200"),
    w("matmul", Kind::FloatPacked, "matmul 240 3").quick(),
    w("matmul-v3", Kind::FloatPacked, "matmul-v3 240 8").v3(),
    w("mandelbrot-v3", Kind::FloatPacked, "mandelbrot-v3 300 200").v3(),
    w("blur", Kind::FloatPacked, "blur 512 40"),
    w("blur-v3", Kind::FloatPacked, "blur-v3 512 480").v3(),
    w("x87", Kind::X87, "x87 1800000").quick(),
    w("nbody-32", Kind::X87, "nbody-32 150000"),
    w("repstring", Kind::Strings, "repstring 65536 1200").quick(),
    w("strings", Kind::Strings, "strings 32000"),
    w("sha256", Kind::Ciphers, "sha256 65536 240").quick(),
    w("sha256-v3", Kind::Ciphers, "sha256-v3 65536 240").v3(),
    w("openssl-sha512", Kind::Ciphers, "for i in 1 2 3 4; do openssl dgst -sha512 /bench/data/more; done"),
    w(
        "openssl-aes",
        Kind::Ciphers,
        "for i in 1 2 3; do openssl enc -aes-256-cbc -K 00010203 -iv 0405 -in /bench/data/more; done",
    ),
    w(
        "openssl-chacha",
        Kind::Ciphers,
        "for i in 1 2 3; do openssl enc -chacha20 -K 00010203 -iv 0405 -in /bench/data/more; done",
    ),
    w(
        "openssl-prime",
        Kind::Ciphers,
        "openssl prime -checks 12 -hex $(openssl rsa -in /bench/data/key.pem -noout -text 2>/dev/null | sed -n '/prime1/,/prime2/p' | grep '^ ' | tr -d ' :\\n')",
    ),
    w(
        "openssl-rsa",
        Kind::Ciphers,
        "for i in 1 2 3 4 5 6 7 8 9 10; do openssl dgst -sha256 -sign /bench/data/key.pem -hex /bench/data/key.pem; done",
    ),
    w("xz", Kind::Compression, "xz -T1 -1 -c /bench/data/text").quick(),
    w("unxz", Kind::Compression, "xz -dc /bench/data/more.xz"),
    w("gzip", Kind::Compression, "gzip -nc /bench/data/more"),
    w("bzip2", Kind::Compression, "bzip2 -c /bench/data/text"),
    w("bunzip2", Kind::Compression, "for i in 1 2; do bzip2 -dc /bench/data/text.bz2; done"),
    w("syscalls", Kind::SystemCalls, "syscalls 1000000").quick(),
    w("signals", Kind::SystemCalls, "signals 30000"),
    w("clock", Kind::SystemCalls, "clock 6000000"),
    w("pingpong", Kind::Pipes, "pingpong 30000").quick(),
    w("pipe", Kind::Pipes, "pipe 300"),
    w("forkexec", Kind::ForkExec, "forkexec 600").quick(),
    w("faults", Kind::PageFaults, "faults 2000 40").quick(),
    w("selfmod", Kind::SelfModifying, "selfmod 240000").quick(),
    w("codegen", Kind::GeneratedCode, "codegen 1000 600 8"),
    w("luajit", Kind::GeneratedCode, "luajit /bench/src/lua.lua 16").quick(),
    w("nodejs", Kind::GeneratedCode, "nodejs /bench/src/js.js 8"),
    w("threads", Kind::TwoCpus, "threads 120000000 300000"),
    w("xz-T2", Kind::TwoCpus, "xz -T2 -2 --block-size=500000 -c /bench/data/text"),
    w("pingpong-apart", Kind::TwoCpus, "pingpong 10000 1"),
];

/// The workloads named; all without names, those for `--quick` if `quick`.
///
/// # Errors
/// The first name that there is not.
pub fn chosen(only: &[String], quick: bool) -> Result<Vec<Workload>, String> {
    for name in only {
        let known = ALL.iter().any(|w| w.name == name);
        let kind = Kind::ALL.iter().any(|k| k.title() == name);
        if !known && !kind && name != "boots" {
            let all: Vec<_> = ALL.iter().map(|w| w.name).collect();
            return Err(format!("there is no workload '{name}': there are {}, and boots", all.join(", ")));
        }
    }
    let names: Vec<_> = ALL.iter().map(|w| w.name).collect();
    let wanted = |w: &&Workload| match only.is_empty() {
        true => w.quick || !quick,
        false => only.iter().any(|n| n == w.name || (n == w.kind.title() && !names.contains(&n.as_str()))),
    };
    Ok(ALL.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_kind_is_listed() {
        let names: BTreeSet<_> = ALL.iter().map(|w| w.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|w| Kind::ALL.contains(&w.kind)));
        // A line that the guest's terminal takes in one piece.
        assert!(ALL.iter().all(|w| w.command.len() < 1000 && !w.command.contains('\n')));
    }

    #[test]
    fn names_and_kinds_choose() {
        assert_eq!(chosen(&["sieve".into()], false).unwrap().len(), 1);
        assert!(chosen(&["pipes".into()], false).unwrap().iter().all(|w| w.kind == Kind::Pipes));
        assert!(chosen(&["nothing".into()], false).unwrap_err().contains("sieve"));
        assert!(chosen(&[], true).unwrap().len() < chosen(&[], false).unwrap().len());
    }
}

//! What a machine is made of: the one description that the command lines build and the board reads.

use emu_core::features::Features;
use std::path::PathBuf;
use std::time::Duration;

/// Which engine executes guest code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum EngineKind {
    /// The reference interpreter.
    Interp,
    /// The translator, with the interpreter for cold code.
    #[default]
    Jit,
    /// Both, block by block, comparing.
    Lockstep,
}

/// Where machine time comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum ClockKind {
    /// The host's clock.
    #[default]
    Real,
    /// One nanosecond per guest instruction; idle time is skipped.
    Virtual,
}

/// Where bytes of a serial line or debug port go and come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Chardev {
    /// The terminal calque runs on.
    #[default]
    Stdio,
    /// Output appended to a file; no input.
    File(PathBuf),
    /// Dropped; no input.
    Null,
}

impl std::str::FromStr for Chardev {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "stdio" || s == "mon:stdio" => Ok(Self::Stdio),
            Some(("mon", "stdio")) => Ok(Self::Stdio),
            None if s == "none" || s == "null" => Ok(Self::Null),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(format!("'{s}' is not stdio, null or file:PATH")),
        }
    }
}

/// One disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The image file.
    pub path: PathBuf,
    /// The guest may not write.
    pub read_only: bool,
}

impl std::str::FromStr for Disk {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (path, read_only) = match s.strip_suffix(",ro") {
            Some(path) => (path, true),
            None => (s, false),
        };
        if path.is_empty() {
            Err("a disk needs a path".into())
        } else {
            Ok(Self { path: path.into(), read_only })
        }
    }
}

/// What the guest starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Boot {
    /// Kernel, ELF image or flat binary.
    pub kernel: PathBuf,
    /// Initial RAM disk, or the modules of a multiboot image.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub append: String,
    /// Where a flat binary goes and starts.
    pub load_address: Option<u64>,
    /// A guest that came with calque: bytes instead of `kernel`.
    pub builtin: Option<&'static [u8]>,
}

/// A whole machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What to start.
    pub boot: Boot,
    /// RAM in bytes.
    pub memory: u64,
    /// The processor.
    pub cpu: Features,
    /// Number of virtual processors.
    pub cpus: u32,
    /// virtio disks, in order.
    pub disks: Vec<Disk>,
    /// Engine.
    pub engine: EngineKind,
    /// Source of time.
    pub clock: ClockKind,
    /// First serial port.
    pub serial: Chardev,
    /// virtio console, `hvc0` to Linux.
    pub hvc: Option<Chardev>,
    /// Ports 0xe9 and 0x402.
    pub debugcon: Option<Chardev>,
    /// I/O port of `isa-debug-exit`.
    pub debug_exit: Option<u16>,
    /// A reset ends calque instead of restarting the guest.
    pub no_reboot: bool,
    /// Print counters at the end.
    pub stats: bool,
    /// Sample where the guest spends its time, and print that with the counters.
    pub profile: bool,
    /// Files that name guest addresses in the profile.
    pub symbols: Vec<PathBuf>,
    /// Write `/tmp/perf-PID.map`, by which `perf` names translated blocks.
    pub perf_map: bool,
    /// What to log: see [`crate::log`].
    pub log: Vec<crate::log::Topic>,
    /// Where the log goes instead of standard error.
    pub log_file: Option<PathBuf>,
    /// End after this much host time.
    pub time_limit: Option<Duration>,
    /// Executions of a block before it is translated.
    pub hot: u32,
    /// Bytes that translated code may take, of all processors together.
    pub code_cache: u64,
    /// IR passes that are switched off.
    pub passes_off: Vec<String>,
}

impl Machine {
    /// Whether a guest's console is the terminal that calque runs on.
    pub fn on_terminal(&self) -> bool {
        self.serial == Chardev::Stdio || self.hvc == Some(Chardev::Stdio)
    }

    /// Whether completed guest instructions are counted: where somebody is to see them, or time is made of them. In
    /// translated code the count is a chain through memory that short blocks have to wait for.
    pub fn counts_instructions(&self) -> bool {
        self.stats
            || !self.log.is_empty()
            || self.boot.builtin.is_some()
            || self.clock == ClockKind::Virtual
            || self.engine != EngineKind::Jit
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            boot: Boot::default(),
            memory: 1 << 30,
            cpu: Features::DEFAULT,
            cpus: 1,
            disks: Vec::new(),
            engine: EngineKind::default(),
            clock: ClockKind::default(),
            serial: Chardev::Stdio,
            hvc: None,
            debugcon: None,
            debug_exit: None,
            no_reboot: false,
            stats: false,
            profile: false,
            symbols: Vec::new(),
            perf_map: false,
            log: Vec::new(),
            log_file: None,
            time_limit: None,
            hot: HOT,
            code_cache: 256 << 20,
            passes_off: Vec::new(),
        }
    }
}

/// Times that a block is interpreted before it is translated, if nothing else is asked for: a translation takes as long as some
/// thirty turns in the interpreter, but what has been come to four times is mostly come to a hundred times. Traces are led better by
/// more visits, which is what was counted on Arm.
pub const HOT: u32 = if cfg!(target_arch = "aarch64") { 16 } else { 4 };

/// Parses a size: a number of MiB, or with a suffix K, M, G or T. The result is in bytes.
///
/// # Errors
/// A sentence saying what a size looks like.
pub fn parse_size(s: &str) -> Result<u64, String> {
    let (digits, unit) = match s.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        None => (s, "M"),
        Some((i, _)) => s.split_at(i),
    };
    let shift = match unit.to_ascii_uppercase().as_str() {
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(format!("'{s}' is not a size: write 512M or 2G")),
    };
    let n: u64 = digits.parse().map_err(|_| format!("'{s}' is not a size: write 512M or 2G"))?;
    n.checked_mul(1 << shift).ok_or_else(|| format!("'{s}' is too large"))
}

/// Parses a size of a machine's memory. The result is in bytes, a multiple of the page.
///
/// # Errors
/// As for [`parse_size`]; a machine needs 4 MiB.
pub fn parse_memory(s: &str) -> Result<u64, String> {
    let bytes = parse_size(s)?;
    if bytes == 0 {
        return Err("a machine needs memory: write at least -m 4M".into());
    }
    if bytes < 4 << 20 {
        return Err(format!("'{s}' is too little memory: write at least -m 4M"));
    }
    Ok(bytes & !0xfff)
}

/// Memory the host has, in bytes, as far as it can be told.
pub fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_memory() {
        assert_eq!(parse_memory("1024"), Ok(1 << 30));
        assert_eq!(parse_memory("2G"), Ok(2 << 30));
        assert_eq!(parse_memory("8192k"), Ok(8 << 20));
        for bad in ["0", "0G", "", "x", "12Q", "-1", "99999999999T", "1K"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn disks_and_chardevs() {
        assert_eq!("a.img,ro".parse(), Ok(Disk { path: "a.img".into(), read_only: true }));
        assert_eq!("file:x".parse(), Ok(Chardev::File("x".into())));
        assert!("tcp:1".parse::<Chardev>().is_err());
    }
}

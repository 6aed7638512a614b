//! `calque run`.

use super::{Request, Usage};
use crate::config::{
    Boot, Chardev, ClockKind, Disk, EngineKind, Machine, host_memory, parse_memory, parse_size,
};
use crate::engines::LEAST_CACHE;
use crate::engines::switches::Off;
use crate::guests;
use crate::log::Topic;
use emu_core::crew::MAX_VCPUS;
use emu_core::features::Features;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `calque run`, shared with `calque qemu` for the long ones.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Kernel (bzImage, PVH or multiboot ELF, plain ELF, flat binary) or guest: debian, debian-generic, monitor
    image: Option<String>,
    /// Kernel to boot, instead of IMAGE
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel command line, added to a guest's own
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    append: Option<String>,
    /// Memory: MiB, or with K, M, G
    #[arg(short, long, value_name = "SIZE", default_value = "1G", value_parser = parse_memory)]
    memory: u64,
    /// Processor: 486, pentium, pentium3, x86-64-v1, -v2, -v3, max or default, then ',+feature' and ',-feature'
    #[arg(long, value_name = "MODEL", default_value = "default", value_parser = Features::parse, hide_default_value = true)]
    cpu: Features,
    /// Virtual processors
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// Raw disk image as a virtio disk; add ',ro' to protect it (may be repeated)
    #[arg(long, value_name = "FILE[,ro]")]
    disk: Vec<Disk>,
    /// Engine
    #[arg(long, value_enum, default_value_t)]
    engine: EngineKind,
    /// First serial port: stdio, null or file:PATH
    #[arg(long, value_name = "WHERE", default_value = "stdio")]
    serial: Chardev,
    /// Add a virtio console (hvc0): stdio (which then gets the keys), null or file:PATH
    #[arg(long, value_name = "WHERE")]
    hvc: Option<Chardev>,
    /// Debug ports 0xe9 and 0x402: stdio, null or file:PATH
    #[arg(long, value_name = "WHERE")]
    debugcon: Option<Chardev>,
    /// Add an isa-debug-exit device at this port
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0x501", value_parser = parse_port)]
    debug_exit: Option<u16>,
    /// Load a flat binary at this address and start it there, in real mode below 1 MiB and in protected mode above
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    load_address: Option<u64>,
    /// End when the guest resets instead of restarting it
    #[arg(long)]
    no_reboot: bool,
    #[command(flatten)]
    common: Common,
}

/// calque's own options, which `calque qemu` takes too.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Common {
    /// Print counters at the end
    #[arg(long)]
    pub stats: bool,
    /// Print the counters, and where the guest spent its time
    #[arg(long)]
    pub profile: bool,
    /// Names for guest addresses in the profile: System.map, /proc/kallsyms or an ELF file (may be repeated)
    #[arg(long, value_name = "FILE", requires = "profile")]
    pub symbols: Vec<PathBuf>,
    /// Write /tmp/perf-PID.map, by which perf names translated blocks
    #[arg(long)]
    pub perf_map: bool,
    /// Log topics, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TOPICS")]
    pub log: Vec<Topic>,
    /// Send the log to a file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// End after this many seconds, with status 124
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<u64>,
    /// Machine time: real, or virtual (one nanosecond per instruction)
    #[arg(long, value_enum, default_value_t)]
    pub clock: ClockKind,
    /// Times a block is interpreted before it is translated
    #[arg(long, value_name = "N", default_value_t = crate::config::HOT)]
    pub hot: u32,
    /// Most memory for translated code, of all processors together: 4M to 1G on x86-64 hosts, to 128M on Arm
    #[arg(long, value_name = "SIZE", value_parser = parse_code_cache)]
    pub code_cache: Option<u64>,
    /// Switch IR passes off, or links across pages (links), or predicted returns (returns), separated by commas
    #[arg(long, value_name = "PASSES", value_delimiter = ',')]
    pub passes_off: Vec<String>,
}

impl Common {
    pub(super) fn apply(self, m: &mut Machine) {
        m.stats = self.stats || self.profile;
        m.profile = self.profile;
        m.symbols = self.symbols;
        m.perf_map = self.perf_map;
        m.log = self.log;
        m.log_file = self.log_file;
        m.time_limit = self.time_limit.map(Duration::from_secs);
        m.clock = self.clock;
        m.hot = self.hot;
        m.code_cache = self.code_cache.unwrap_or(m.code_cache);
        m.passes_off = self.passes_off;
    }
}

fn parse_code_cache(s: &str) -> Result<u64, String> {
    let bytes = parse_size(s)?;
    let most = backend_jit::MAX_CACHE as u64;
    if (LEAST_CACHE as u64..=most).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("translated code can have from {}M to {}M", LEAST_CACHE >> 20, most >> 20))
    }
}

fn parse_address(s: &str) -> Result<u64, String> {
    let parsed = match s.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => s.parse(),
    };
    parsed.map_err(|_| format!("'{s}' is not an address: write 0x100000"))
}

fn parse_port(s: &str) -> Result<u16, String> {
    let n = parse_address(s).map_err(|_| format!("'{s}' is not a port: write 0x501"))?;
    u16::try_from(n).map_err(|_| format!("'{s}' is not a port: ports end at 0xffff"))
}

impl RunArgs {
    pub(super) fn into_request(self) -> Result<Request, Usage> {
        let mut m = Machine {
            memory: self.memory,
            cpu: self.cpu,
            cpus: self.cpus,
            disks: self.disk,
            engine: self.engine,
            serial: self.serial,
            hvc: self.hvc,
            debugcon: self.debugcon,
            debug_exit: self.debug_exit,
            no_reboot: self.no_reboot,
            ..Machine::default()
        };
        self.common.apply(&mut m);
        let append = self.append.unwrap_or_default();
        let kernel = match (self.kernel, self.image) {
            (Some(kernel), _) => kernel,
            (None, Some(name)) => match guest(&name, &mut m, &append)? {
                Some(line) => {
                    if let Some(initrd) = self.initrd {
                        m.boot.initrd = Some(initrd);
                    }
                    return Ok(Request::Run(Box::new(checked(m)?), line));
                }
                None => PathBuf::from(name),
            },
            (None, None) => {
                return Err(Usage(
                    "nothing to run: name an image or a guest, for example 'calque run debian'".into(),
                ));
            }
        };
        m.boot = Boot { kernel, initrd: self.initrd, append, load_address: self.load_address, builtin: None };
        Ok(Request::Run(Box::new(checked(m)?), String::new()))
    }
}

/// Fills in a guest known by name; the line to print, or None if `name` is no guest's name.
fn guest(name: &str, m: &mut Machine, append: &str) -> Result<Option<String>, Usage> {
    let flavour = match name {
        "debian" | "debian-cloud" => guests::debian::Flavour::Cloud,
        "debian-generic" => guests::debian::Flavour::Generic,
        "monitor" => {
            m.boot.builtin = Some(guests::monitor::IMAGE);
            return Ok(Some("the built-in monitor".into()));
        }
        _ if std::path::Path::new(name).exists() || name.contains(['/', '.']) => return Ok(None),
        _ => {
            return Err(Usage(format!(
                "'{name}' is neither a file nor a guest: the guests are debian, debian-generic and monitor"
            )));
        }
    };
    let progress = crate::progress::Spinner::new();
    let cache = guests::cache::Cache::of_user().map_err(|e| Usage(e.to_string()))?;
    let prepared = guests::debian::prepare(flavour, &cache, &progress).map_err(|e| Usage(e.to_string()))?;
    drop(progress);
    m.boot.append = format!("{} {append}", prepared.append).trim().to_owned();
    m.boot.kernel = prepared.kernel;
    m.boot.initrd = Some(prepared.initrd);
    Ok(Some(prepared.description))
}

/// The built-in guest.
pub(super) fn builtin(mut m: Machine) -> Result<Request, Usage> {
    m.boot.builtin = Some(guests::monitor::IMAGE);
    Ok(Request::Run(Box::new(checked(m)?), "the built-in monitor: type 'help' at its prompt".into()))
}

/// Checks that hold whatever the spelling was.
pub(super) fn checked(m: Machine) -> Result<Machine, Usage> {
    if !(1..=MAX_VCPUS as u32).contains(&m.cpus) {
        return Err(Usage(format!(
            "{} virtual processors: a machine has 1 to {MAX_VCPUS} (-c or -smp)",
            m.cpus
        )));
    }
    if m.cpus > 1 && m.engine == EngineKind::Lockstep {
        return Err(Usage("--engine lockstep compares one virtual processor: leave -c at 1".into()));
    }
    if let Some(host) = host_memory()
        && m.memory > host
    {
        return Err(Usage(format!(
            "-m asks for {} MiB, and this host has {} MiB: give less",
            m.memory >> 20,
            host >> 20
        )));
    }
    Off::named(&m.passes_off).map_err(Usage)?;
    Ok(m)
}

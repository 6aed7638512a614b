//! `calque qemu`: QEMU's spelling of the same machine.
//!
//! Options that calque does not have are refused with the nearest thing calque offers, never dropped in silence.

use super::run::{Common, checked};
use super::{Request, Usage};
use crate::config::{Chardev, Disk, EngineKind, Machine, parse_memory};
use clap::Parser;
use emu_core::features::Features;

/// calque's own long options, parsed by clap from what QEMU's spelling leaves.
#[derive(Debug, Parser)]
#[command(name = "calque qemu", no_binary_name = true)]
struct Own {
    #[arg(long, value_enum)]
    engine: Option<EngineKind>,
    #[command(flatten)]
    common: Common,
}

const HELP: &str = "\
calque qemu: QEMU's options that calque understands
  -m SIZE  -smp N  -cpu MODEL[,+FEATURE][,-FEATURE]  -M|-machine pc|q35|microvm
  -kernel FILE  -initrd FILE  -append TEXT
  -drive file=FILE[,format=raw][,if=virtio][,readonly=on]  -hda FILE  -hdb FILE
  -serial stdio|null|file:PATH  -nographic  -display none  -nodefaults  -vga none
  -debugcon stdio|file:PATH  -device isa-debug-exit[,iobase=PORT][,iosize=N]
  -device virtio-rng-pci  -rtc base=utc  -net none  -nic none
  -no-reboot  -no-shutdown is refused  -accel tcg  -name TEXT  -D FILE
calque's own: --engine interp|jit|lockstep  --stats  --log TOPICS  --log-file FILE  --time-limit SECONDS
              --clock real|virtual  --hot N  --code-cache SIZE  --passes-off PASSES  --profile  --symbols FILE  --perf-map
";

/// Options of QEMU that calque refuses, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("-enable-kvm", "calque needs no hardware virtualization: leave it out"),
    ("-bios", "firmware images are not supported yet: boot a kernel with -kernel"),
    ("-cdrom", "CD images are not supported yet: boot a kernel with -kernel"),
    ("-fda", "floppies are not supported: use -drive"),
    ("-boot", "there is no firmware to choose a boot device: boot a kernel with -kernel"),
    ("-s", "the gdb stub is not there yet: use --engine lockstep or --log"),
    ("-S", "the gdb stub is not there yet: use --engine lockstep or --log"),
    ("-gdb", "the gdb stub is not there yet: use --engine lockstep or --log"),
    ("-monitor", "there is no monitor: Ctrl-A c shows the counters"),
    ("-d", "use --log guest,ir,host,int,paging"),
    ("-snapshot", "disk snapshots are not there yet: copy the image, or give it readonly=on"),
    ("-netdev", "networks are not there yet: leave it out"),
    ("-chardev", "use -serial or -debugcon with stdio, null or file:PATH"),
    ("-vnc", "there is no display: use the serial console"),
    ("-no-shutdown", "a powered-off guest ends calque: leave it out"),
    ("-icount", "use --clock virtual"),
];

struct Args<'a>(std::slice::Iter<'a, String>);

impl<'a> Args<'a> {
    fn value(&mut self, option: &str) -> Result<&'a str, Usage> {
        self.0.next().map(String::as_str).ok_or_else(|| Usage(format!("{option} needs a value")))
    }
}

pub(super) fn parse(args: &[String]) -> Result<Request, Usage> {
    let mut m = Machine { serial: Chardev::Null, ..Machine::default() };
    let mut serial = None;
    let mut own = Vec::new();
    let mut it = Args(args.iter());
    while let Some(arg) = it.0.next() {
        // QEMU takes one or two dashes for its options; calque's own have two.
        let option = match arg.strip_prefix("--") {
            Some(long) if is_own(long) => {
                own.push(arg.clone());
                if !long.contains('=') && !["stats", "profile", "perf-map"].contains(&long) {
                    own.push(it.value(arg)?.to_owned());
                }
                continue;
            }
            Some(long) => format!("-{long}"),
            None => arg.clone(),
        };
        let o = option.as_str();
        match o {
            "-h" | "-help" => return Ok(Request::Print(HELP.into())),
            "-version" => {
                return Ok(Request::Print(format!("calque {}\n", env!("CARGO_PKG_VERSION"))));
            }
            "-m" => m.memory = memory(it.value(o)?)?,
            "-smp" => m.cpus = smp(it.value(o)?)?,
            "-cpu" => m.cpu = cpu(it.value(o)?)?,
            "-M" | "-machine" => machine(it.value(o)?)?,
            "-accel" => accel(it.value(o)?)?,
            "-kernel" => m.boot.kernel = it.value(o)?.into(),
            "-initrd" => m.boot.initrd = Some(it.value(o)?.into()),
            "-append" => m.boot.append = it.value(o)?.into(),
            "-hda" | "-hdb" | "-hdc" | "-hdd" => {
                m.disks.push(Disk { path: it.value(o)?.into(), read_only: false });
            }
            "-drive" => m.disks.push(drive(it.value(o)?)?),
            "-serial" => serial = Some(chardev(o, it.value(o)?)?),
            "-debugcon" => m.debugcon = Some(chardev(o, it.value(o)?)?),
            "-nographic" => serial = serial.or(Some(Chardev::Stdio)),
            "-device" => device(it.value(o)?, &mut m)?,
            "-no-reboot" => m.no_reboot = true,
            "-D" => m.log_file = Some(it.value(o)?.into()),
            "-nodefaults" | "-no-user-config" | "-no-hpet" => {}
            "-display" => none_only(o, it.value(o)?)?,
            "-vga" | "-net" | "-nic" | "-parallel" => none_only(o, it.value(o)?)?,
            "-name" | "-uuid" | "-rtc" => {
                it.value(o)?;
            }
            _ => return Err(unknown(arg)),
        }
    }
    if let Some(serial) = serial {
        m.serial = serial;
    }
    if m.boot.kernel.as_os_str().is_empty() {
        return Err(Usage("nothing to run: give -kernel FILE".into()));
    }
    let log_file = m.log_file.take();
    let own = Own::try_parse_from(own).map_err(|e| Usage(super::one_line(&e, "run")))?;
    own.common.apply(&mut m);
    m.log_file = m.log_file.or(log_file);
    m.engine = own.engine.unwrap_or_default();
    Ok(Request::Run(Box::new(checked(m)?), String::new()))
}

fn is_own(long: &str) -> bool {
    let name = long.split('=').next().unwrap_or(long);
    [
        "engine",
        "stats",
        "log",
        "log-file",
        "time-limit",
        "clock",
        "hot",
        "code-cache",
        "passes-off",
        "profile",
        "symbols",
        "perf-map",
    ]
    .contains(&name)
}

fn unknown(arg: &str) -> Usage {
    match REFUSED.iter().find(|(name, _)| arg == *name || arg.strip_prefix('-') == Some(name)) {
        Some((_, instead)) => Usage(format!("{arg} is not supported: {instead}")),
        None if arg.starts_with('-') => {
            Usage(format!("unknown option {arg}: 'calque qemu -help' lists what is understood"))
        }
        None => Usage(format!("'{arg}' is not an option: to boot a disk image give -kernel and -drive")),
    }
}

/// Splits `first[,key=value...]`.
fn keys(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(',').map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn memory(text: &str) -> Result<u64, Usage> {
    let mut size = None;
    for (key, value) in keys(text) {
        match (key, value) {
            ("size", v) => size = Some(v),
            (v, "") => size = Some(v),
            (other, _) => return Err(Usage(format!("-m {other}= is not supported: write -m 1024"))),
        }
    }
    parse_memory(size.unwrap_or("")).map_err(Usage)
}

fn smp(text: &str) -> Result<u32, Usage> {
    let (mut cpus, mut product) = (None, 1u32);
    for (key, value) in keys(text) {
        let (key, digits) = if value.is_empty() { ("cpus", key) } else { (key, value) };
        let n: u32 = digits.parse().map_err(|_| Usage(format!("-smp {text}: '{digits}' is not a number")))?;
        match key {
            "cpus" => cpus = Some(n),
            // How they are grouped makes no difference here: they are the cores of one package.
            "sockets" | "dies" | "clusters" | "modules" | "cores" | "threads" => {
                product = product.saturating_mul(n);
            }
            "maxcpus" => {}
            _ => return Err(Usage(format!("-smp {key}= is not supported: write -smp 4"))),
        }
    }
    Ok(cpus.unwrap_or(product))
}

/// What `-cpu max` is in QEMU's spelling: all but ADX, because scripts say `max` to be fast, and translated ADCX and ADOX
/// are slower than what programs do without them (`openssl prime` 3.5 times).
const MAX: &str = "max,-adx";

fn cpu(text: &str) -> Result<Features, Usage> {
    let rest = text.strip_prefix("max").filter(|rest| rest.is_empty() || rest.starts_with(','));
    let parsed = match rest {
        Some(rest) => Features::parse(&format!("{MAX}{rest}")),
        None => Features::parse(text),
    };
    parsed.map_err(|e| Usage(format!("-cpu {text}: {e}")))
}

fn machine(text: &str) -> Result<(), Usage> {
    for (key, value) in keys(text) {
        match (key, value) {
            ("pc" | "q35" | "microvm", "") | ("type", "pc" | "q35" | "microvm") | ("accel", "tcg") => {}
            ("accel", other) => accel(other)?,
            _ => return Err(Usage(format!("-machine {key} is not supported: use -machine q35"))),
        }
    }
    Ok(())
}

fn accel(text: &str) -> Result<(), Usage> {
    match text.split(',').next() {
        Some("tcg") => Ok(()),
        _ => Err(Usage(format!("-accel {text} is not supported: calque translates; leave it out"))),
    }
}

fn none_only(option: &str, value: &str) -> Result<(), Usage> {
    match value {
        "none" => Ok(()),
        _ => Err(Usage(format!("{option} {value} is not supported: use {option} none"))),
    }
}

fn chardev(option: &str, text: &str) -> Result<Chardev, Usage> {
    text.parse().map_err(|e| Usage(format!("{option}: {e}")))
}

fn drive(text: &str) -> Result<Disk, Usage> {
    let mut disk = Disk { path: Default::default(), read_only: false };
    for (key, value) in keys(text) {
        match (key, value) {
            ("file", path) => disk.path = path.into(),
            ("format", "raw") | ("if", "virtio" | "none") | ("id" | "index" | "cache" | "aio", _) => {}
            ("media", "disk") | ("readonly" | "read-only", "off") => {}
            ("readonly" | "read-only", "on") => disk.read_only = true,
            ("format", other) => {
                return Err(Usage(format!(
                    "-drive format={other} is not supported: convert it with 'qemu-img convert -O raw'"
                )));
            }
            _ => {
                return Err(Usage(format!(
                    "-drive {key}={value} is not supported: use if=virtio,format=raw"
                )));
            }
        }
    }
    if disk.path.as_os_str().is_empty() {
        return Err(Usage("-drive needs file=PATH".into()));
    }
    Ok(disk)
}

fn device(text: &str, m: &mut Machine) -> Result<(), Usage> {
    let mut parts = keys(text);
    match parts.next() {
        Some(("isa-debug-exit", _)) => {
            let mut port = 0x501;
            for (key, value) in parts {
                let n =
                    value.strip_prefix("0x").map_or_else(|| value.parse(), |h| u16::from_str_radix(h, 16));
                match (key, n) {
                    ("iobase", Ok(n)) => port = n,
                    ("iosize", Ok(_)) => {}
                    _ => return Err(Usage(format!("-device isa-debug-exit: '{key}={value}' is wrong"))),
                }
            }
            m.debug_exit = Some(port);
            Ok(())
        }
        // Always there.
        Some(("virtio-rng-pci" | "pvpanic" | "virtio-blk-pci", _)) => Ok(()),
        _ => Err(Usage(format!("-device {text} is not supported: 'calque qemu -help' lists what is"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_of(line: &str) -> Machine {
        let args: Vec<_> = line.split_whitespace().map(String::from).collect();
        match parse(&args) {
            Ok(Request::Run(m, _)) => *m,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_line_every_script_uses() {
        let m = machine_of(
            "--engine jit -cpu max -m 1024 -smp 1 -nodefaults -display none -serial stdio -no-reboot \
             -kernel K -initrd I -append console=ttyS0",
        );
        assert_eq!(m.memory, 1 << 30);
        assert_eq!(m.serial, Chardev::Stdio);
        assert!(m.no_reboot);
        assert_eq!(m.boot.append, "console=ttyS0");
        assert_eq!(m.boot.initrd.as_deref(), Some(std::path::Path::new("I")));
    }

    #[test]
    fn models_in_qemu_spelling() {
        assert_eq!(machine_of("-kernel K -cpu max").cpu, Features::parse("max,-adx").unwrap());
        assert_eq!(machine_of("-kernel K -cpu max,+adx").cpu, Features::parse("max").unwrap());
        assert_eq!(machine_of("-kernel K -cpu 486").cpu, Features::parse("486").unwrap());
        let f = machine_of("-kernel K -cpu x86-64-v2,+avx2,aes=on,-sse4_2").cpu;
        assert_eq!(f, Features::parse("x86-64-v2,+avx2,+aes,-sse4.2").unwrap());
    }

    #[test]
    fn nothing_is_dropped_in_silence() {
        for bad in [
            "-bios x -kernel K",
            "-frobnicate",
            "-kernel K -cpu 8086",
            "-kernel K -cpu max,+avx512f",
            "-m 0 -kernel K",
            "disk.img",
            "-kernel",
        ] {
            let args: Vec<_> = bad.split_whitespace().map(String::from).collect();
            assert!(matches!(parse(&args), Err(Usage(line)) if !line.contains('\n')), "{bad}");
        }
    }

    #[test]
    fn devices_and_drives() {
        let m = machine_of(
            "-kernel K -device isa-debug-exit,iobase=0xf4,iosize=0x04 -drive file=a,readonly=on,format=raw",
        );
        assert_eq!(m.debug_exit, Some(0xf4));
        assert!(m.disks[0].read_only);
    }
}

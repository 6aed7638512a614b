//! Bad input, in both spellings of the command line: one clear line on standard error, status 2, nothing harmed.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use testsuite::files::Scratch;
use testsuite::guests;
use testsuite::program::calque;
use testsuite::session::Session;

/// Runs calque with `arguments`; it has to refuse in one line, which is returned.
fn refused(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("calque runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{command:?} said: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command:?}");
    let line = said.strip_suffix('\n').unwrap_or_default();
    assert!(
        line.starts_with("calque: ") && !line.contains(['\n', '\r', '\x1b']),
        "{command:?} said: {said:?}"
    );
    line.to_owned()
}

/// One machine in both spellings: `calque run` and `calque qemu`.
#[derive(Default, Clone, Copy)]
struct Machine<'a> {
    kernel: Option<&'a Path>,
    initrd: Option<&'a Path>,
    memory: Option<&'a str>,
    disk: Option<&'a Path>,
    read_only: bool,
}

impl Machine<'_> {
    fn run(&self) -> Command {
        let mut c = calque();
        c.args(["run", "--engine", "interp", "--serial", "null", "--time-limit", "20"]);
        c.args(["-m", self.memory.unwrap_or("32")]);
        if let Some(path) = self.initrd {
            c.arg("--initrd").arg(path);
        }
        if let Some(path) = self.disk {
            c.arg("--disk").arg(format!("{}{}", path.display(), if self.read_only { ",ro" } else { "" }));
        }
        if let Some(path) = self.kernel {
            c.arg(path);
        }
        c
    }

    fn qemu(&self) -> Command {
        let mut c = calque();
        c.args(["qemu", "--engine", "interp", "-serial", "null", "-no-reboot", "--time-limit", "20"]);
        c.args(["-m", self.memory.unwrap_or("32")]);
        if let Some(path) = self.kernel {
            c.arg("-kernel").arg(path);
        }
        if let Some(path) = self.initrd {
            c.arg("-initrd").arg(path);
        }
        if let Some(path) = self.disk {
            let read_only = if self.read_only { ",readonly=on" } else { "" };
            c.arg("-drive").arg(format!("file={},if=virtio,format=raw{read_only}", path.display()));
        }
        c
    }

    /// Both spellings have to refuse it, with all of `words` in the line.
    fn is_refused(&self, words: &[&str]) {
        for mut command in [self.run(), self.qemu()] {
            let line = refused(&mut command);
            for word in words {
                assert!(line.contains(word), "{command:?} should say {word:?}: {line}");
            }
        }
    }
}

fn good_kernel(scratch: &Scratch) -> std::path::PathBuf {
    scratch.file("kernel", &guests::power_off().multiboot())
}

fn put(bytes: &mut [u8], at: usize, value: impl AsRef<[u8]>) {
    bytes[at..at + value.as_ref().len()].copy_from_slice(value.as_ref());
}

/// A bzImage's setup header with `code` bytes promised behind it; they are not appended.
fn bzimage_header(code: usize) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    put(&mut image, 0x1f4, ((code / 16) as u32).to_le_bytes());
    put(&mut image, 0x1fe, 0xaa55u16.to_le_bytes());
    put(&mut image, 0x200, [0xeb, 0x66]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, 0x20fu16.to_le_bytes());
    image[0x211] = 1;
    image
}

/// A 64-bit ELF executable with one segment of 16 bytes in the file.
fn elf(machine: u16, address: u64, size: u64) -> Vec<u8> {
    let mut image = vec![0; 64 + 56 + 16];
    put(&mut image, 0, [0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(&mut image, 16, 2u16.to_le_bytes());
    put(&mut image, 18, machine.to_le_bytes());
    put(&mut image, 20, 1u32.to_le_bytes());
    put(&mut image, 24, address.to_le_bytes());
    put(&mut image, 32, 64u64.to_le_bytes());
    for (at, value) in [(52, 64u16), (54, 56), (56, 1)] {
        put(&mut image, at, value.to_le_bytes());
    }
    put(&mut image, 64, 1u32.to_le_bytes());
    put(&mut image, 68, 5u32.to_le_bytes());
    for (at, value) in [(72, 64 + 56u64), (80, address), (88, address), (96, 16), (104, size), (112, 0x1000)]
    {
        put(&mut image, at, value.to_le_bytes());
    }
    image
}

const X86_64: u16 = 62;
const AARCH64: u16 = 183;

#[test]
fn kernels_that_are_none() {
    let scratch = Scratch::new();
    let try_kernel = |path: &Path, words: &[&str]| {
        Machine { kernel: Some(path), ..Machine::default() }.is_refused(words);
    };
    try_kernel(&scratch.path("missing.img"), &["no such file", "missing.img"]);
    try_kernel(scratch.as_ref(), &["directory"]);
    try_kernel(&scratch.file("empty", b""), &["empty"]);
    let truncated = bzimage_header(0x10_0000);
    try_kernel(&scratch.file("truncated", &truncated), &["truncated", "bzImage"]);
    try_kernel(&scratch.file("cut", &truncated[..0x210]), &["truncated", "bzImage"]);
    try_kernel(&scratch.file("arm", &elf(AARCH64, 0x10_0000, 16)), &["64-bit Arm", "x86"]);
    try_kernel(&scratch.file("high", &elf(X86_64, 0x1000_0000, 16)), &["0x10000000", "memory", "-m"]);
    try_kernel(&scratch.file("device", &elf(X86_64, 0xfee0_0000, 16)), &["0xfee00000", "memory"]);
    try_kernel(&scratch.file("wide", &elf(X86_64, 0x10_0000, 1 << 40)), &["memory"]);
    try_kernel(&scratch.file("overflow", &elf(X86_64, u64::MAX - 8, 16)), &["ELF"]);
    try_kernel(&scratch.file("text", b"hello, world\n"), &["text"]);
    try_kernel(Path::new("/dev/zero"), &["regular file"]);
}

#[test]
fn a_truncated_debian_kernel() {
    use testsuite::debian::{Flavour, guest};
    let Some(guest) = guest(Flavour::Cloud) else { return };
    let bytes = fs::read(&guest.kernel).expect("the kernel");
    let scratch = Scratch::new();
    let half = scratch.file("half", &bytes[..bytes.len() / 2]);
    Machine { kernel: Some(&half), memory: Some("256"), ..Machine::default() }.is_refused(&["truncated"]);
}

#[test]
fn initramfs_that_are_none() {
    let scratch = Scratch::new();
    let kernel = scratch.file("linux", &[bzimage_header(0x1000), vec![0xf4; 0x1000]].concat());
    let try_initrd = |path: &Path, words: &[&str]| {
        Machine { kernel: Some(&kernel), initrd: Some(path), ..Machine::default() }.is_refused(words);
    };
    try_initrd(&scratch.path("missing.gz"), &["no such file", "missing.gz"]);
    try_initrd(scratch.as_ref(), &["directory"]);
    try_initrd(&scratch.file("empty.gz", b""), &["empty"]);
    // Larger than memory, by far (it would fill the host if it were read) and by little.
    try_initrd(&scratch.sparse("huge.gz", 1 << 42), &["huge.gz", "-m"]);
    try_initrd(&scratch.sparse("large.gz", (32 << 20) - 4096), &["initramfs", "-m"]);
}

#[test]
fn memory_that_cannot_be() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    let cases: [(&str, &[&str]); 7] = [
        ("0", &["memory"]),
        ("0G", &["memory"]),
        ("1K", &["too little"]),
        ("8000T", &["host"]),
        ("99999999999999999999", &["size"]),
        ("lots", &["'lots'", "512M"]),
        ("12Q", &["'12Q'", "512M"]),
    ];
    for (memory, words) in cases {
        Machine { kernel: Some(&kernel), memory: Some(memory), ..Machine::default() }.is_refused(words);
    }
}

#[test]
fn code_caches_that_cannot_be() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    for (size, words) in [("0", "4M"), ("1M", "4M"), ("64G", "4M"), ("lots", "'lots'")] {
        let mut command = calque();
        command.args(["run", "--serial", "null", "--time-limit", "20", "--code-cache", size]).arg(&kernel);
        let line = refused(&mut command);
        assert!(line.contains(words), "{size}: {line}");
    }
}

#[test]
fn disks_that_cannot_be_used() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    let try_disk = |path: &Path, words: &[&str]| {
        Machine { kernel: Some(&kernel), disk: Some(path), ..Machine::default() }.is_refused(words);
    };
    try_disk(&scratch.path("missing.img"), &["does not exist", "missing.img"]);
    try_disk(scratch.as_ref(), &["directory"]);
    try_disk(&scratch.file("empty.img", b""), &["512"]);
    try_disk(&scratch.file("odd.img", &[1; 700]), &["700", "512"]);
    try_disk(&scratch.file("q.img", &[b"QFI\xfb", &[0; 1020][..]].concat()), &["qcow2", "qemu-img convert"]);
    assert!(!scratch.path("missing.img").exists(), "it has been created");
}

#[test]
fn a_read_only_image_stays_as_it_is() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    let bytes: Vec<u8> = (0..4096u32).map(|n| n as u8).collect();
    let image = scratch.file("ro.img", &bytes);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).expect("a mode");
    let machine = Machine { kernel: Some(&kernel), disk: Some(&image), ..Machine::default() };
    machine.is_refused(&["read-only", "ro.img"]);
    // For reading it is good enough.
    for mut command in
        [Machine { read_only: true, ..machine }.run(), Machine { read_only: true, ..machine }.qemu()]
    {
        let output = command.output().expect("calque runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert!(fs::read(&image).expect("the image") == bytes);
}

#[test]
fn an_image_in_use_stays_as_it_is() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    let busy = scratch.file("busy", &guests::halted().multiboot());
    let bytes: Vec<u8> = (0..8192u32).map(|n| n as u8).collect();
    let image = scratch.file("disk.img", &bytes);
    let first = Machine { kernel: Some(&busy), disk: Some(&image), ..Machine::default() };
    let second = Machine { kernel: Some(&kernel), disk: Some(&image), ..Machine::default() };
    for first in [first.run(), first.qemu()] {
        let mut owner = Session::pipes(first);
        owner.set_timeout(Duration::from_secs(30));
        owner.expect_error("multiboot");
        second.is_refused(&["disk.img", "in use"]);
        Machine { read_only: true, ..second }.is_refused(&["in use"]);
        owner.kill();
    }
    // Readers may share.
    let mut reader = Session::pipes(Machine { read_only: true, ..first }.run());
    reader.expect_error("multiboot");
    let output = Machine { read_only: true, ..second }.run().output().expect("calque runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    second.is_refused(&["in use"]);
    reader.kill();
    assert!(fs::read(&image).expect("the image") == bytes);
}

#[test]
fn options_and_guests_that_are_unknown() {
    let scratch = Scratch::new();
    let kernel = good_kernel(&scratch);
    let kernel = kernel.to_str().expect("UTF-8");
    let cases: [(&[&str], &str); 22] = [
        (&["run", "--frobnicate"], "--frobnicate"),
        (&["run", "--kernal", kernel], "--kernel"),
        (&["run", "-Z", kernel], "-Z"),
        (&["run"], "calque run debian"),
        (&["run", "slackware"], "debian"),
        (&["run", "./slackware"], "no such file"),
        (&["run", kernel, "--engine", "steam"], "steam"),
        (&["run", kernel, "-c", "0"], "virtual processors"),
        (&["run", kernel, "--time-limit", "soon"], "soon"),
        (&["run", kernel, "--serial", "tcp:1"], "tcp:1"),
        (&["run", kernel, "--serial", "file:/no/such/folder/x"], "/no/such/folder"),
        (&["run", kernel, "--log", "int", "--log-file", "/no/such/folder/x"], "log file"),
        (&["run", kernel, "--load-address", "here"], "here"),
        (&["frobnicate"], "frobnicate"),
        (&["qemu", "-frobnicate"], "-frobnicate"),
        (&["qemu", "--frobnicate", "-kernel", kernel], "--frobnicate"),
        (&["qemu"], "-kernel"),
        (&["qemu", "-kernel"], "-kernel"),
        (&["qemu", "-kernel", kernel, "--engine", "steam"], "steam"),
        (&["qemu", "-kernel", kernel, "-cpu", "8086"], "8086"),
        (&["qemu", "-kernel", kernel, "-enable-kvm"], "hardware"),
        (&["qemu", "-kernel", kernel, "-smp", "many"], "many"),
    ];
    for (arguments, word) in cases {
        let line = refused(calque().args(arguments));
        assert!(line.contains(word), "{arguments:?} should say {word:?}: {line}");
    }
}

#[test]
fn whatever_is_in_a_name_the_error_is_one_line() {
    let odd = std::ffi::OsString::from_vec(b"/no/\xffsuch".to_vec());
    refused(calque().arg("run").arg(&odd));
    refused(calque().args(["qemu", "-kernel"]).arg(&odd));
    for name in ["/no/such\nfile", "/no/\x1b[31msuch", "/no/such\r\nfile"] {
        refused(calque().args(["run", name]));
        refused(calque().args(["qemu", "-kernel", name]));
    }
}

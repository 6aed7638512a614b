//! The host's processor as a leg: cases go to the [`runner`](super::runner) in batches, and what it saw comes back.
//!
//! Only scenes marked as native can run there: user code, flat, with the selectors that Linux has. The child is started
//! with [`std::process::Command`] from a file in memory; if it dies (a case can do what nobody foresaw), the batch is
//! lost and said to be, and a new one is started.

use super::case::Case;
use super::generate;
use super::runner::{self, input, output};
use super::scene::{CODE, DATA, STACK, Scene};
use emu_core::state::bits::rflags as f;
use iced_x86::Code;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};

const PAGE: usize = 0x1000;
/// Seconds after which a batch that has come no further is given up: they take milliseconds, or half a second of
/// processor time where the runner has to end a case that goes on for ever, which is long on a busy machine.
#[cfg(target_os = "linux")]
const PATIENCE: i64 = 120;

/// The pages of a native case: code, data, stack.
pub fn pages() -> Vec<u64> {
    let range = |from: u64, n: u64| (0..n).map(move |i| from + i * 0x1000);
    range(CODE, 4).chain(range(DATA, 8)).chain(range(STACK, 2)).collect()
}

/// What the host's processor has, as Linux names it.
#[derive(Clone, Debug, Default)]
pub struct HostFlags(Vec<String>);

impl HostFlags {
    /// Of this machine.
    pub fn detect() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
        Self(line.split_whitespace().map(str::to_owned).collect())
    }

    /// Whether it has a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|f| f == flag)
    }
}

/// Whether the processor of this machine has a form, as far as Linux's names of features tell.
pub(super) fn this_host_has(code: Code) -> bool {
    static FLAGS: OnceLock<HostFlags> = OnceLock::new();
    generate::host_has(FLAGS.get_or_init(HostFlags::detect), code)
}

/// Makers whose processors are known to differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maker {
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// Anybody else, or not known.
    Other,
}

/// The maker of this machine's processor, as Linux names it.
pub fn maker() -> Maker {
    static MAKER: OnceLock<Maker> = OnceLock::new();
    *MAKER.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            text.lines().find(|l| l.starts_with("vendor_id")).and_then(|l| l.split_whitespace().last());
        match name {
            Some("AuthenticAMD") => Maker::Amd,
            Some("GenuineIntel") => Maker::Intel,
            _ => Maker::Other,
        }
    })
}

/// How the host's processor ended a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// RAX to R15 as instructions number them.
    pub gpr: [u64; 16],
    /// At the instruction that faulted, or behind the one that trapped.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CS.
    pub cs: u16,
    /// The signal.
    pub signal: u64,
    /// The vector; [`Seen::ENDLESS`] if the timer ended the case.
    pub vector: u8,
    /// The error code.
    pub error: u32,
    /// The address of a page fault.
    pub cr2: u64,
    /// FXSAVE area.
    pub fxsave: Box<[u8; 512]>,
    /// Upper halves of the vector registers.
    pub upper: [[u64; 2]; 16],
    /// Eight bytes each that are not what the scene's image has, by ascending address.
    pub changes: Vec<(u64, u64)>,
}

impl Seen {
    /// In place of a vector: the case went on for ever.
    pub const ENDLESS: u8 = 0xff;

    /// 64 bits of vector register `n`, from bit `64 * at`; there are 256.
    pub(super) fn vector_word(&self, n: usize, at: usize) -> u64 {
        if at < 2 { quad(&self.fxsave[..], 160 + 16 * n + 8 * at) } else { self.upper[n][at - 2] }
    }
}

/// Why there is no native leg.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// Not this host.
    #[error("the host is no x86-64 Linux")]
    Host,
    /// The runner does not start, or died.
    #[error("the runner on the host's processor: {0}")]
    Io(#[from] std::io::Error),
    /// A bug.
    #[error("the runner cannot be assembled: {0}")]
    Assembler(String),
}

/// The child process.
#[derive(Debug)]
pub struct Native {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    buffer: Vec<u8>,
    place: Option<(usize, u32)>,
    xcr0: u64,
}

impl Drop for Native {
    fn drop(&mut self) {
        // It has nothing that is worth a farewell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Native {
    /// Starts the runner.
    ///
    /// # Errors
    /// [`NativeError`].
    pub fn new() -> Result<Self, NativeError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(NativeError::Host);
        }
        let xcr0 = if HostFlags::detect().has("avx") { 7 } else { 3 };
        let elf = runner::elf(&pages(), xcr0).map_err(|e| NativeError::Assembler(e.to_string()))?;
        let file = RunnerFile::new(&elf)?;
        let mut child = Command::new(file.path())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || std::io::Error::other("no pipe");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        #[cfg(target_os = "linux")]
        for size in [1 << 20, 1 << 18] {
            // Fewer switches between the two; without it there are more.
            if rustix::pipe::fcntl_setpipe_size(&output, size).is_ok() {
                let _ = rustix::pipe::fcntl_setpipe_size(&input, size);
                break;
            }
        }
        Ok(Self { child, input, output, buffer: Vec::new(), place: None, xcr0: xcr0.into() })
    }

    /// The vector components that are loaded and seen: XCR0's bits.
    pub fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Says what memory holds from now on, if it is not that already.
    fn place(&mut self, number: usize, scene: &Scene, layout: u32, image: &[u8]) -> std::io::Result<()> {
        if self.place == Some((number, layout)) {
            return Ok(());
        }
        let pages = pages();
        let bytes = pages.len() * (8 + PAGE);
        let mut out = Vec::with_capacity(24 + bytes);
        for v in [0, 0, bytes as u64] {
            out.extend(v.to_le_bytes());
        }
        for page in &pages {
            out.extend(scene.host_rights(*page, layout).to_le_bytes());
        }
        for page in &pages {
            out.extend(&image[*page as usize..*page as usize + PAGE]);
        }
        self.input.write_all(&out)?;
        self.place = Some((number, layout));
        Ok(())
    }

    /// Sends cases of one scene and layout.
    ///
    /// # Errors
    /// When the runner has died.
    pub fn send(&mut self, scene: &Scene, image: &[u8], cases: &[&Case]) -> std::io::Result<()> {
        let Some(first) = cases.first() else { return Ok(()) };
        self.place(first.scene, scene, first.layout, image)?;
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        out.resize(24, 0);
        for case in cases {
            encode(&mut out, scene, case, self.xcr0);
        }
        let bytes = (out.len() - 24) as u64;
        for (i, v) in [1, cases.len() as u64, bytes].into_iter().enumerate() {
            out[8 * i..8 * i + 8].copy_from_slice(&v.to_le_bytes());
        }
        let sent = self.input.write_all(&out);
        self.buffer = out;
        sent
    }

    /// Reads what became of `count` cases that were sent.
    ///
    /// # Errors
    /// When the runner has died.
    pub fn receive(&mut self, count: usize) -> std::io::Result<Vec<Seen>> {
        let mut list = Vec::with_capacity(count);
        let mut head = [0; output::CHANGES];
        let mut rest = Vec::new();
        for _ in 0..count {
            self.patiently()?;
            self.output.read_exact(&mut head)?;
            let total = quad(&head, output::TOTAL) as usize;
            rest.clear();
            rest.resize(total.saturating_sub(output::CHANGES).min(1 << 20), 0);
            self.output.read_exact(&mut rest)?;
            list.push(decode(&head, &rest));
        }
        Ok(list)
    }
}

impl Native {
    /// Waits for the next result. A case could still stop the runner itself.
    fn patiently(&self) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let most = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
            let mut output = [PollFd::new(&self.output, PollFlags::IN)];
            if poll(&mut output, Some(&most))? == 0 {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

/// The runner's file: executed through its descriptor or, where that cannot be, from the folder for temporary files.
struct RunnerFile {
    path: std::path::PathBuf,
}

impl RunnerFile {
    fn new(elf: &[u8]) -> std::io::Result<Arc<Self>> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("calque-runner-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o700);
        let mut file = options.open(&path)?;
        let made = Arc::new(Self { path });
        file.write_all(elf)?;
        Ok(made)
    }

    fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for RunnerFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn quad(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Appends a case as the runner reads it.
fn encode(out: &mut Vec<u8>, scene: &Scene, case: &Case, xcr0: u64) {
    let start = out.len();
    let wide = scene.bits == 64;
    for g in case.gpr {
        out.extend(if wide { g } else { g & 0xffff_ffff }.to_le_bytes());
    }
    let rip = CODE + case.at;
    // As `Leg` gives them to the engines.
    let flags = case.rflags & !(f::IOPL | f::NT | f::TF | f::RF) | f::IF | f::FIXED1;
    for v in [rip, flags, u64::from(scene.sel[1]), u64::from(scene.sel[3])] {
        out.extend(v.to_le_bytes());
    }
    let code = (rip, case.bytes());
    let patches: Vec<&(u64, Vec<u8>)> = case.patches.iter().chain([&code]).collect();
    out.extend((patches.len() as u64).to_le_bytes());
    out.extend([0; 8 + 16]);
    // The XSAVE area.
    let area = out.len();
    out.extend(case.fpu[0].to_le_bytes());
    out.extend(case.fpu[1].to_le_bytes());
    out.push(case.fpu[2] as u8);
    out.resize(area + 24, 0);
    out.extend((case.mxcsr & 0xffff).to_le_bytes());
    out.resize(area + 32, 0);
    let top = usize::from(case.fpu[1] >> 11 & 7);
    for i in 0..8 {
        let (mant, se) = case.st[(top + i) & 7];
        out.extend(mant.to_le_bytes());
        out.extend(se.to_le_bytes());
        out.extend([0; 6]);
    }
    for x in case.xmm.as_flattened() {
        out.extend(x.to_le_bytes());
    }
    out.resize(area + 512, 0);
    out.extend(xcr0.to_le_bytes());
    out.resize(area + 576, 0);
    for x in case.upper.as_flattened() {
        out.extend(x.to_le_bytes());
    }
    debug_assert_eq!(out.len() - start, input::PATCH);
    for (at, bytes) in patches {
        out.extend(at.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    // XSAVE areas are aligned to 64 bytes, and so each case is. The header before the first is not part of the buffer.
    let len = (out.len() - start).next_multiple_of(64);
    out.resize(start + len, 0);
    out[start + input::TOTAL..start + input::TOTAL + 8].copy_from_slice(&(len as u64).to_le_bytes());
}

fn decode(head: &[u8], rest: &[u8]) -> Seen {
    // Where the kernel keeps RAX to R15.
    const AT: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
    let greg = |n: usize| quad(head, output::GREGS + 8 * n);
    let mut fxsave = Box::new([0; 512]);
    fxsave.copy_from_slice(&head[output::FXSAVE..output::FXSAVE + 512]);
    let upper = |n: usize, half: usize| quad(head, output::YMM + 16 * n + 8 * half);
    let signal = quad(head, output::SIGNAL);
    Seen {
        gpr: AT.map(greg),
        rip: greg(16),
        rflags: greg(17),
        cs: greg(18) as u16,
        signal,
        error: greg(19) as u32,
        // The kernel's is that of the last exception, which was another case's.
        vector: if signal == runner::TIMER { Seen::ENDLESS } else { greg(20) as u8 },
        cr2: greg(22),
        fxsave,
        upper: std::array::from_fn(|n| [upper(n, 0), upper(n, 1)]),
        changes: rest.chunks_exact(16).map(|c| (quad(c, 0), quad(c, 8))).collect(),
    }
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::super::scene::SCENES;
    use super::*;

    #[test]
    fn the_runner_runs() {
        let mut native = Native::new().expect("the runner starts");
        for (number, scene) in SCENES.iter().enumerate().filter(|s| s.1.native) {
            let image = scene.image(0);
            // add eax, ebx; mov [esi], eax; hlt
            let mut case = Case { scene: number, at: 0x10, ..Case::empty() };
            case.code = vec![vec![0x01, 0xd8], vec![0x89, 0x06], vec![0xf4]];
            case.gpr[0] = 40;
            case.gpr[3] = 2;
            case.gpr[6] = DATA + 8;
            native.send(scene, &image, &[&case, &case]).expect("it takes cases");
            for seen in native.receive(2).expect("it answers") {
                assert_eq!((seen.gpr[0], seen.vector, seen.signal), (42, 13, 11), "{}", scene.name);
                assert_eq!(seen.rip, CODE + 0x14);
                assert_eq!(seen.changes.iter().filter(|c| c.0 == DATA + 8).count(), 1);
                assert_eq!(
                    seen.changes.iter().find(|c| c.0 == DATA + 8).map(|c| c.1 & 0xffff_ffff),
                    Some(42)
                );
            }
        }
    }

    #[test]
    fn nothing_of_the_kernel_s_is_in_the_way() {
        let mut native = Native::new().expect("the runner starts");
        let number = SCENES.iter().position(|s| s.native).expect("a native scene");
        let scene = &SCENES[number];
        let case = Case { scene: number, code: vec![vec![0xf4]], ..Case::empty() };
        native.send(scene, &scene.image(0), &[&case]).expect("it takes cases");
        native.receive(1).expect("it answers");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", native.child.id())).expect("its maps");
        let ours = |line: &&str| {
            let start = line.split('-').next().and_then(|a| u64::from_str_radix(a, 16).ok());
            start.is_some_and(|at| at < 0x7000_0000_0000) || line.ends_with("[vsyscall]")
        };
        let others: Vec<_> = maps.lines().filter(|l| !ours(l)).collect();
        assert!(others.is_empty(), "{others:#?}");
    }

    #[test]
    fn a_case_without_end_takes_no_others_along() {
        let mut native = Native::new().expect("the runner starts");
        for (number, scene) in SCENES.iter().enumerate().filter(|s| s.1.native) {
            let image = scene.image(0);
            let case =
                |code: &[u8]| Case { scene: number, at: 0x10, code: vec![code.to_vec()], ..Case::empty() };
            // inc eax; hlt. Then: here: mov [esi], esi; jmp here.
            let short = case(&[0xff, 0xc0, 0xf4]);
            let mut long = case(&[0x89, 0x36, 0xeb, 0xfc]);
            long.gpr[6] = DATA + 8;
            native.send(scene, &image, &[&short, &long, &short]).expect("it takes cases");
            let seen = native.receive(3).expect("it answers");
            let ends: Vec<_> = seen.iter().map(|s| (s.vector, s.gpr[0], s.changes.len())).collect();
            assert_eq!(ends, [(13, 1, 1), (Seen::ENDLESS, 0, 2), (13, 1, 1)], "{}", scene.name);
        }
    }
}

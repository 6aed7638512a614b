//! The code arena: host memory for translated code, never writable and executable in one mapping.
//!
//! Linux: one memory file, mapped twice, once for writing and once for executing, so that no protection ever
//! changes. macOS: one `MAP_JIT` mapping whose protection is toggled per thread.
//!
//! Translated code must see what was written to it. A processor does after the usual cache maintenance, whatever mapping
//! the bytes were written through; some emulated ones do not. Whether this host does is tried at the start (on Arm), and
//! if not, protections are changed to and fro, which every emulator notices.
//!
//! Invariant: only this module writes to code memory, through [`Arena::write`] and [`Arena::patch_u32`].

use std::io;

/// Host memory for code. Addresses are offsets from its start.
#[derive(Debug)]
pub struct Arena {
    views: sys::Views,
    len: usize,
    /// It is filled slice by slice.
    slices: Vec<Slice>,
    /// The slice being filled.
    current: usize,
    used: usize,
    /// Start of what is in use at the slice's end: code that is seldom run, apart from the rest.
    cold: usize,
    /// Up to here large pages have been asked for; None: they are not wanted.
    large: Option<usize>,
}

/// A part of the arena that is given back as a whole.
#[derive(Clone, Copy, Debug)]
struct Slice {
    start: usize,
    end: usize,
    /// Bytes in use, when it is not being filled.
    used: usize,
    /// The end of what has ever been written, and the start of what has been at the end: code between the two cannot have
    /// been executed.
    fresh: (usize, usize),
}

/// The size of a large page, where there are any. Of another size they are not used.
const LARGE: usize = 2 << 20;

impl Arena {
    /// Maps an arena of `len` bytes (rounded up to 64 KiB) in `slices` of nearly the same size; the host commits pages as they
    /// are used. With `large`, code lies in large pages: big programs spend much of their time on misses of the host's TLB else.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn new(len: usize, large: bool, slices: usize) -> io::Result<Self> {
        let len = len.max(1 << 16).next_multiple_of(1 << 16);
        let views = sys::Views::new(len)?;
        let slices = slices.clamp(1, len >> 16);
        let size = (len / slices) & !0xffff;
        let slice = |n: usize| {
            let (start, end) = (n * size, if n + 1 == slices { len } else { (n + 1) * size });
            Slice { start, end, used: 0, fresh: (start, end) }
        };
        let slices: Vec<_> = (0..slices).map(slice).collect();
        let cold = slices[0].end;
        let arena = Self { views, len, slices, current: 0, used: 0, cold, large: large.then_some(0) };
        #[cfg(all(target_arch = "aarch64", not(target_os = "macos")))]
        let arena = arena.try_patching();
        Ok(arena)
    }

    /// Finds out whether a patch through the other view is seen after cache maintenance.
    #[cfg(all(target_arch = "aarch64", not(target_os = "macos")))]
    fn try_patching(mut self) -> Self {
        let returns = |n: u32| 0x5280_0000 | n << 5; // mov w0, n
        for n in [1, 2] {
            self.patch_u32(0, returns(n));
            self.patch_u32(4, 0xd65f_03c0); // ret
            // SAFETY: the arena begins with these two instructions, which touch w0 alone.
            let f: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.views.exec()) };
            if f() != n {
                tracing::debug!("the host does not notice patches by cache maintenance");
                self.views.deaf = true;
            }
        }
        self.slices[0].fresh.0 = 8;
        self
    }

    /// Address of the executable view.
    pub fn base(&self) -> *const u8 {
        self.views.exec()
    }

    /// First free offset, aligned for a block.
    pub fn next(&self) -> usize {
        self.used.next_multiple_of(32)
    }

    /// End of the space in the slice for code that is seldom run, which is filled downwards.
    pub fn cold_end(&self) -> usize {
        self.cold
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.slices.iter().map(|s| s.used).sum::<usize>() + self.used_here()
    }

    /// Bytes in use in the slice being filled.
    fn used_here(&self) -> usize {
        let Slice { start, end, .. } = self.slices[self.current];
        (self.used - start) + (end - self.cold)
    }

    /// Number of slices.
    pub fn slices(&self) -> usize {
        self.slices.len()
    }

    /// Number of the slice being filled.
    pub fn current(&self) -> usize {
        self.current
    }

    /// Goes on to the next slice, and gives back everything in it but the arena's first `keep` bytes.
    pub fn advance(&mut self, keep: usize) {
        self.slices[self.current].used = self.used_here();
        self.current = (self.current + 1) % self.slices.len();
        let slice = &mut self.slices[self.current];
        slice.used = 0;
        (self.used, self.cold) = (slice.start.max(keep), slice.end);
        self.large = self.large.map(|_| self.used.next_multiple_of(LARGE));
    }

    /// Appends `code` at [`Arena::next`] and returns its offset, or None when it does not fit.
    pub fn append(&mut self, code: &[u8]) -> Option<usize> {
        self.append_apart(code, &[], self.cold)
    }

    /// Appends `code` at [`Arena::next`] and returns its offset; `seldom` goes to offset `at`, which together with it lies
    /// below [`Arena::cold_end`]. None when they do not fit.
    pub fn append_apart(&mut self, code: &[u8], seldom: &[u8], at: usize) -> Option<usize> {
        let next = self.next();
        let end = next.checked_add(code.len())?;
        if end > at || at.checked_add(seldom.len())? > self.cold {
            return None;
        }
        self.write(next, code);
        self.used = end;
        self.write(at, seldom);
        self.cold = at;
        let fresh = &mut self.slices[self.current].fresh;
        *fresh = (fresh.0.max(end), fresh.1.min(at));
        self.enlarge();
        Some(next)
    }

    /// Asks for a large page when a quarter of its place has code: then there is little to move, most of its small pages are never
    /// faulted in, and not much memory is taken in vain. The first, which small guests do not fill, is asked for when it is full.
    fn enlarge(&mut self) {
        while let Some(from) = self.large
            && self.used > if from == 0 { LARGE } else { from + LARGE / 4 }
            && from + LARGE <= self.len
        {
            self.views.make_large(from, LARGE);
            self.large = Some(from + LARGE);
        }
    }

    /// Gives back everything but the first `keep` bytes, which are in the first slice.
    pub fn truncate(&mut self, keep: usize) {
        self.slices.iter_mut().for_each(|s| s.used = 0);
        (self.current, self.used, self.cold) = (0, keep, self.slices[0].end);
        self.large = self.large.map(|_| keep.next_multiple_of(LARGE));
    }

    fn write(&mut self, at: usize, code: &[u8]) {
        // Emulated hosts refuse to change the protection of nothing.
        if code.is_empty() {
            return;
        }
        assert!(at.checked_add(code.len()).is_some_and(|end| end <= self.len), "outside the code arena");
        self.views.with_write(|base| {
            // SAFETY: the range was checked against the length of the mapping, which only this module writes, and
            // `code` is Rust memory that cannot overlap it.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), base.add(at), code.len()) }
        });
        let (low, high) = self.slices[self.current].fresh;
        self.views.flush(at, code.len(), at >= low && at + code.len() <= high);
    }

    /// Replaces the aligned 32-bit word at `at` with one store, so that code running it sees the old or the new.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        assert!(at.is_multiple_of(4) && at + 4 <= self.len, "bad place for a code patch");
        self.views.with_write(|base| {
            // SAFETY: aligned and within the mapping, both checked above.
            unsafe { base.add(at).cast::<u32>().write_volatile(value.to_le()) }
        });
        self.views.flush(at, 4, false);
    }

    /// A copy of `len` bytes at `at`.
    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "outside the code arena");
        // SAFETY: within the mapping, checked above; no write can be going on while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.views.exec().add(at), len) }.to_vec()
    }
}

#[cfg(not(target_os = "macos"))]
mod sys {
    use super::LARGE;
    use rustix::mm::{MapFlags, ProtFlags};
    use std::ffi::{c_int, c_void};
    use std::fs::File;
    use std::io;

    /// Linux 6.1; older kernels refuse. (rustix has no name for it.)
    const MADV_COLLAPSE: c_int = 25;

    unsafe extern "C" {
        fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int;
    }

    /// Two views of one memory file.
    #[derive(Debug)]
    pub struct Views {
        write: View,
        exec: View,
        /// Cache maintenance is not enough to have a patch seen.
        pub deaf: bool,
    }

    /// One of them, at a multiple of [`LARGE`].
    #[derive(Debug)]
    struct View {
        /// What was reserved for it: start and length.
        start: *mut c_void,
        reserved: usize,
        base: *mut c_void,
    }

    // SAFETY: the mapping is owned by this value alone.
    unsafe impl Send for View {}

    impl View {
        fn new(file: &File, len: usize, rights: ProtFlags) -> io::Result<Self> {
            let reserved = len + LARGE;
            // SAFETY: a fresh anonymous mapping touches nothing that exists.
            let start = unsafe {
                rustix::mm::mmap_anonymous(
                    std::ptr::null_mut(),
                    reserved,
                    ProtFlags::empty(),
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )?
            };
            let base = start.wrapping_byte_add(start.addr().next_multiple_of(LARGE) - start.addr());
            let this = Self { start, reserved, base };
            // SAFETY: lies within what was reserved just now, which nothing else uses. The file is private to this
            // process and is changed through one view alone, by `Arena`, which hands out no reference into either.
            unsafe {
                let flags = MapFlags::SHARED | MapFlags::FIXED;
                rustix::mm::mmap(base, len, rights, flags, file, 0)?;
            }
            Ok(this)
        }
    }

    impl Drop for View {
        fn drop(&mut self) {
            // SAFETY: the range came from `mmap` and nothing uses it any more. Failure would only leave it mapped.
            let _ = unsafe { rustix::mm::munmap(self.start, self.reserved) };
        }
    }

    impl Views {
        pub fn new(len: usize) -> io::Result<Self> {
            let fd = rustix::fs::memfd_create("calque-code", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&fd, len as u64)?;
            let file = File::from(fd);
            let write = View::new(&file, len, ProtFlags::READ | ProtFlags::WRITE)?;
            let exec = View::new(&file, len, ProtFlags::READ | ProtFlags::EXEC)?;
            Ok(Self { write, exec, deaf: false })
        }

        pub fn exec(&self) -> *const u8 {
            self.exec.base.cast_const().cast()
        }

        /// Moves what is in a range to a large page, if the host has any.
        pub fn make_large(&self, at: usize, len: usize) {
            // SAFETY: within the mapping, as the caller has checked; contents and rights stay. Whether it worked does
            // not matter.
            let _ = unsafe { madvise(self.exec.base.wrapping_byte_add(at), len, MADV_COLLAPSE) };
        }

        pub fn with_write(&mut self, f: impl FnOnce(*mut u8)) {
            f(self.write.base.cast());
        }

        /// Makes new code visible to instruction fetch. `fresh`: nothing has been executed there.
        pub fn flush(&self, at: usize, len: usize, fresh: bool) {
            if self.deaf && !fresh {
                self.change_protection(at, len);
            }
            #[cfg(target_arch = "aarch64")]
            {
                // SAFETY: within the mapping, as the caller has checked.
                let start = unsafe { self.exec().add(at) };
                dynasmrt::cache_control::synchronize_icache(
                    // SAFETY: as above; the bytes stay mapped while `self` lives.
                    unsafe { std::slice::from_raw_parts(start, len) },
                );
            }
        }

        /// Makes the pages of the executable view writable instead, and executable again.
        fn change_protection(&self, at: usize, len: usize) {
            use rustix::mm::{MprotectFlags as Prot, mprotect};
            let page = rustix::param::page_size();
            let from = at / page * page;
            let len = (at + len - from).next_multiple_of(page);
            for prot in [Prot::READ | Prot::WRITE, Prot::READ | Prot::EXEC] {
                // SAFETY: within the mapping, whose length is a multiple of any page size; nobody executes it meanwhile,
                // since whoever writes code is the thread that runs it.
                let done = unsafe { mprotect(self.exec().add(from).cast_mut().cast(), len, prot) };
                assert!(done.is_ok(), "the host refuses to change the protection of code");
            }
        }
    }
}

#[cfg(target_os = "macos")]
mod sys {
    use std::ffi::{c_int, c_void};
    use std::io;

    const PROT_RWX: c_int = 1 | 2 | 4;
    const MAP_PRIVATE_ANON_JIT: c_int = 0x2 | 0x1000 | 0x800;

    unsafe extern "C" {
        fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, off: i64)
        -> *mut c_void;
        fn munmap(addr: *mut c_void, len: usize) -> c_int;
        fn sys_icache_invalidate(start: *mut c_void, len: usize);
        #[cfg(target_arch = "aarch64")]
        fn pthread_jit_write_protect_np(enabled: c_int);
    }

    /// One mapping that the current thread either writes or executes.
    #[derive(Debug)]
    pub struct Views {
        base: *mut u8,
        len: usize,
    }

    // SAFETY: the mapping is owned by this value alone.
    unsafe impl Send for Views {}

    impl Views {
        pub fn new(len: usize) -> io::Result<Self> {
            // SAFETY: a fresh anonymous mapping touches nothing that exists.
            let p = unsafe { mmap(std::ptr::null_mut(), len, PROT_RWX, MAP_PRIVATE_ANON_JIT, -1, 0) };
            if p as isize == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { base: p.cast(), len })
        }

        pub fn exec(&self) -> *const u8 {
            self.base
        }

        /// There is no asking for large pages here.
        pub fn make_large(&self, _at: usize, _len: usize) {}

        pub fn with_write(&mut self, f: impl FnOnce(*mut u8)) {
            // SAFETY: toggles this thread's view of MAP_JIT memory; restored below.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                pthread_jit_write_protect_np(0);
            }
            f(self.base);
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                pthread_jit_write_protect_np(1);
            }
        }

        pub fn flush(&self, at: usize, len: usize, _: bool) {
            // SAFETY: the caller has checked that the range lies in the mapping.
            unsafe { sys_icache_invalidate(self.base.add(at).cast(), len) }
        }
    }

    impl Drop for Views {
        fn drop(&mut self) {
            // SAFETY: the mapping came from `mmap` with this length and nothing uses it any more.
            unsafe { munmap(self.base.cast(), self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_can_be_read_through_the_other_view() {
        let mut a = Arena::new(1, true, 1).unwrap();
        assert_eq!(a.append(&[1, 2, 3, 4, 5]), Some(0));
        assert_eq!(a.append(&[9; 3]), Some(32));
        a.patch_u32(0, 0x0a0b_0c0d);
        assert_eq!(a.read(0, 5), [0x0d, 0x0c, 0x0b, 0x0a, 5]);
        assert_eq!(a.append(&vec![0; 1 << 16]), None);
        a.truncate(0);
        assert_eq!(a.append(&vec![0; 1 << 16]), Some(0));
    }

    #[test]
    fn slices_are_filled_in_turn() {
        let mut a = Arena::new(4 << 16, false, 4).unwrap();
        assert_eq!((a.slices(), a.append(&[7; 100])), (4, Some(0)));
        for round in 0..3 {
            for slice in 0..4 {
                let (start, keep) = (slice << 16, if slice == 0 { 128 } else { 0 });
                assert_eq!(a.current(), slice);
                assert_eq!((a.next(), a.cold_end()), (start + keep, start + 0x1_0000));
                assert_eq!(a.append_apart(&[1; 8], &[2; 8], a.cold_end() - 16), Some(start + keep));
                assert_eq!(a.append(&vec![0; 0x1_0000]), None);
                assert_eq!(a.read(start + 0xfff0, 8), [2; 8]);
                assert!(round == 0 || a.used() > 4 * 16, "{}", a.used());
                a.advance(128);
            }
        }
        a.truncate(100);
        assert_eq!((a.current(), a.next(), a.used()), (0, 128, 100));
        assert_eq!(a.read(0, 100), [7; 100]);
    }

    /// A function that returns `n`, as two words.
    fn returns(n: u32) -> [u32; 2] {
        if cfg!(target_arch = "aarch64") {
            // mov w0, n; ret
            [0x5280_0000 | n << 5, 0xd65f_03c0]
        } else {
            // mov eax, n; ret
            [0xb8 | n << 8, 0x0000_c300]
        }
    }

    fn call(a: &Arena, at: usize) -> u32 {
        // SAFETY: `returns` was put there, which touches the register of its result alone.
        let f: extern "C" fn() -> u32 = unsafe { std::mem::transmute(a.base().wrapping_add(at)) };
        f()
    }

    #[test]
    fn what_is_patched_or_written_again_is_what_runs() {
        let mut a = Arena::new(1 << 20, false, 1).unwrap();
        let code = |n: u32| returns(n).map(u32::to_le_bytes).concat();
        for round in 0..3 {
            // As the code cache does: blocks side by side, patched while others run, then all given back.
            let at: Vec<usize> = (0..100).map(|n| a.append(&code(n)).unwrap()).collect();
            for n in 0..100 {
                assert_eq!(call(&a, at[n as usize]), n, "round {round}");
                let (other, new) = (at[(n as usize + 50) % 100], 1000 + 10 * n + round);
                a.patch_u32(other, returns(new)[0]);
                assert_eq!(call(&a, other), new, "round {round}");
                a.patch_u32(other, returns((n + 50) % 100)[0]);
                assert_eq!(call(&a, other), (n + 50) % 100, "round {round}");
            }
            a.truncate(0);
        }
    }
}

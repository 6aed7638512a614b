//! The vCPUs of a machine as they know each other: mailboxes, parking, requests with acknowledgement, and the gate
//! behind which one of them works alone.
//!
//! A vCPU's translation caches, decoded code and shadow tables are its own: nobody else touches them. Who needs
//! something of them sends a message.
//!
//! *News* ([`Mail`]) tells what has happened to memory. It is applied at the owner's next block boundary if it was
//! posted loudly, and in any case before the owner relies on it: before INVLPG, loads of CR3 and the like, and before
//! it runs on after sleeping. *Requests* ask the owner to give up its write entries for a page, and the sender waits
//! for that.
//!
//! Invariant: a vCPU serves requests only between instructions, so no host address obtained within an instruction
//! outlives the permission to use it.
//! Invariant: a vCPU waits for others only between instructions (or, in [`Crew::alone`], before it has touched
//! anything), serves its own requests meanwhile, and holds no lock; a *parked* one needs not be waited for, since it
//! serves everything before it touches guest memory again. So nobody waits for ever.
//! Invariant: a mailbox is bounded: news about page tables turns into one message a page beyond
//! [`TABLE_NEWS`], and news about code disarms what it is about (see [`crate::pages`]).

use crate::addr::PhysAddr;
use crate::signals::{Signals, request};
use crossbeam::queue::SegQueue;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};

/// Most vCPUs of a machine: sets of them are bits of a word.
pub const MAX_VCPUS: usize = 64;
/// Messages in a mailbox beyond which page tables are not told about store by store.
const TABLE_NEWS: usize = 64;

/// Something that happened to guest memory outside the vCPU that has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// Decoded bytes were written by a device or another vCPU: chunks of a RAM page.
    Code {
        /// The page.
        page: PhysAddr,
        /// Its index in the attribute tables.
        index: usize,
        /// 64-byte chunks, by bit.
        chunks: u64,
    },
    /// Bytes of a page with shadowed page tables were written.
    Table {
        /// First byte.
        addr: PhysAddr,
        /// Length in bytes; never crosses a page.
        len: u32,
    },
    /// Stores to this page are no longer told: drop what was made from the page tables in it.
    Untrack {
        /// The page.
        page: PhysAddr,
    },
    /// Drop every cached translation (A20, memory map changed).
    FlushAll,
}

/// Asks a vCPU to drop its write entries for a RAM page.
#[derive(Clone, Copy, Debug)]
struct Request {
    from: usize,
    number: u64,
    index: usize,
}

/// One vCPU's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    news: SegQueue<Mail>,
    requests: SegQueue<Request>,
    /// Number of the last request of each vCPU that has been served.
    served: Box<[AtomicU64]>,
    /// The owner touches no guest memory before it has looked into the mailbox.
    parked: AtomicBool,
    signals: Arc<Signals>,
}

impl Mailbox {
    fn new(signals: Arc<Signals>, vcpus: usize) -> Arc<Self> {
        Arc::new(Self {
            news: SegQueue::new(),
            requests: SegQueue::new(),
            served: (0..vcpus).map(|_| AtomicU64::new(0)).collect(),
            parked: AtomicBool::new(false),
            signals,
        })
    }

    /// Puts a message in and has the owner look at its next block boundary. A sleeping owner is not woken: it looks
    /// before it goes on.
    pub fn post(&self, mail: Mail) {
        self.news.push(mail);
        self.signals.raise_quietly(request::MAIL);
    }

    /// Tells of a store to page tables, which the owner may learn of as late as its next invalidation. False if it
    /// lags so far behind that it is to be told [`Mail::Untrack`] instead, and it has been.
    pub(crate) fn post_table(&self, addr: PhysAddr, len: u32) -> bool {
        let room = self.news.len() < TABLE_NEWS;
        self.news.push(match room {
            true => Mail::Table { addr, len },
            false => Mail::Untrack { page: addr.page_base() },
        });
        room
    }

    /// Whether there is news.
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Takes the oldest news.
    pub fn take(&self) -> Option<Mail> {
        self.news.pop()
    }

    /// Serves the requests that wait: `drop_writes` is called with each page's index.
    pub fn serve_requests(&self, mut drop_writes: impl FnMut(usize)) {
        while let Some(r) = self.requests.pop() {
            drop_writes(r.index);
            self.served[r.from].store(r.number, Ordering::Release);
        }
    }
}

/// The vCPUs of one machine.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Arc<Mailbox>>,
    /// Number of the last request that each member made.
    numbers: Box<[AtomicU64]>,
    /// Who works alone behind the gate.
    gate: Mutex<Option<usize>>,
    opened: Condvar,
    closed: AtomicBool,
}

impl Crew {
    pub(crate) fn new(signals: &[Arc<Signals>]) -> Self {
        let n = signals.len();
        assert!(n <= MAX_VCPUS, "sets of vCPUs are words");
        Self {
            members: signals.iter().map(|s| Mailbox::new(s.clone(), n)).collect(),
            numbers: (0..n).map(|_| AtomicU64::new(0)).collect(),
            gate: Mutex::default(),
            opened: Condvar::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// The mailboxes, in order of vCPU.
    pub fn members(&self) -> &[Arc<Mailbox>] {
        &self.members
    }

    /// Tells everyone.
    pub(crate) fn post_all(&self, mail: Mail) {
        for m in &self.members {
            m.post(mail);
        }
    }

    /// Calls `each` for the members whose bits are set.
    pub(crate) fn each(&self, mut set: u64, mut each: impl FnMut(usize, &Mailbox)) {
        while set != 0 {
            let i = set.trailing_zeros() as usize;
            set &= set - 1;
            if let Some(m) = self.members.get(i) {
                each(i, m);
            }
        }
    }

    /// From now on `me` touches no guest memory, until [`Crew::unpark`].
    pub fn park(&self, me: usize) {
        self.members[me].parked.store(true, Ordering::SeqCst);
    }

    /// `me` is about to touch guest memory again; waits while another works alone. The caller then serves requests
    /// and news before it does anything else.
    pub fn unpark(&self, me: usize) {
        let parked = &self.members[me].parked;
        loop {
            parked.store(false, Ordering::SeqCst);
            if !self.closed.load(Ordering::SeqCst) {
                return;
            }
            let mut holder = self.gate.lock().unwrap_or_else(|e| e.into_inner());
            if *holder == Some(me) {
                return;
            }
            parked.store(true, Ordering::SeqCst);
            while holder.is_some() {
                holder = self.opened.wait(holder).unwrap_or_else(|e| e.into_inner());
            }
        }
    }

    /// Whether `me` has to stand aside for one that works alone: park and unpark then.
    pub fn asked_aside(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Has the members of `set` drop their write entries for RAM page `index`, and waits until they have or are
    /// parked. `serve` is called while waiting, to serve the caller's own requests.
    pub fn revoke_writes(&self, me: usize, set: u64, index: usize, mut serve: impl FnMut()) {
        let number = self.numbers[me].fetch_add(1, Ordering::Relaxed) + 1;
        self.each(set, |_, m| {
            m.requests.push(Request { from: me, number, index });
            m.signals.raise_quietly(request::MAIL);
        });
        fence(Ordering::SeqCst);
        let answered =
            |m: &Mailbox| m.served[me].load(Ordering::Acquire) >= number || m.parked.load(Ordering::SeqCst);
        self.each(set, |_, m| wait_until(|| answered(m), &mut serve));
    }

    /// Has every other member stand aside, between two of its instructions, until the result is dropped. `serve`
    /// serves the caller's requests, while it waits.
    pub fn alone(&self, me: usize, mut serve: impl FnMut()) -> Alone<'_> {
        self.park(me);
        let mut holder = self.gate.lock().unwrap_or_else(|e| e.into_inner());
        while holder.is_some() {
            holder = self.opened.wait(holder).unwrap_or_else(|e| e.into_inner());
        }
        *holder = Some(me);
        self.closed.store(true, Ordering::SeqCst);
        drop(holder);
        let alone = Alone(self);
        self.unpark(me);
        serve();
        let others = (0..self.members.len()).filter(|&i| i != me);
        for m in others.clone().map(|i| &self.members[i]) {
            m.signals.raise_quietly(request::MAIL);
        }
        for m in others.map(|i| &self.members[i]) {
            wait_until(|| m.parked.load(Ordering::SeqCst), &mut serve);
        }
        alone
    }
}

/// While it exists, one vCPU works alone.
#[derive(Debug)]
pub struct Alone<'a>(&'a Crew);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let mut holder = self.0.gate.lock().unwrap_or_else(|e| e.into_inner());
        self.0.closed.store(false, Ordering::SeqCst);
        *holder = None;
        self.0.opened.notify_all();
    }
}

/// Waits for another thread, which may need this processor to get there.
fn wait_until(done: impl Fn() -> bool, mut meanwhile: impl FnMut()) {
    const SPINS: u32 = 200;
    let mut rounds = 0;
    while !done() {
        meanwhile();
        if rounds < SPINS {
            rounds += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn crew(n: usize) -> Arc<Crew> {
        let signals: Vec<_> = (0..n).map(|_| Arc::new(Signals::default())).collect();
        Arc::new(Crew::new(&signals))
    }

    #[test]
    fn a_parked_member_is_not_waited_for_and_finds_the_request_later() {
        let crew = crew(2);
        crew.park(1);
        crew.revoke_writes(0, 1 << 1, 7, || {});
        crew.unpark(1);
        let mut seen = Vec::new();
        crew.members()[1].serve_requests(|i| seen.push(i));
        assert_eq!(seen, [7]);
    }

    #[test]
    fn members_that_ask_each_other_do_not_wait_for_ever() {
        let crew = crew(2);
        let served = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for me in 0..2usize {
                let (crew, served) = (&crew, &served);
                s.spawn(move || {
                    let serve = || {
                        crew.members()[me].serve_requests(|_| {
                            let _ = served.fetch_add(1, Ordering::Relaxed);
                        })
                    };
                    for i in 0..1000 {
                        crew.revoke_writes(me, 1 << (1 - me), i, serve);
                    }
                    crew.park(me);
                });
            }
        });
        for m in crew.members() {
            m.serve_requests(|_| {
                let _ = served.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(served.load(Ordering::Relaxed), 2000);
    }

    #[test]
    fn only_one_works_behind_the_gate() {
        let crew = crew(3);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for me in 0..3usize {
                let (crew, inside) = (&crew, &inside);
                s.spawn(move || {
                    for _ in 0..200 {
                        let alone = crew.alone(me, || {});
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(alone);
                        if crew.asked_aside() {
                            crew.park(me);
                            crew.unpark(me);
                        }
                    }
                    crew.park(me);
                });
            }
        });
    }

    #[test]
    fn a_mailbox_that_nobody_reads_stays_bounded() {
        let crew = crew(1);
        let m = &crew.members()[0];
        let told = (0..1000).take_while(|i| m.post_table(PhysAddr(0x1000 + i * 8), 8)).count();
        assert_eq!(told, TABLE_NEWS);
        assert_eq!(std::iter::from_fn(|| m.take()).last(), Some(Mail::Untrack { page: PhysAddr(0x1000) }));
    }
}

//! Two vCPUs on one memory: write entries, page tables and decoded bytes of one in the eyes of the other.

use super::tests::into_long_mode;
use super::{Access, Priv, tlb};
use crate::addr::PhysAddr;
use crate::bus::{Dma, EmptyBus, NoInterrupts};
use crate::clock::Clock;
use crate::cpu::{Cpu, Wiring};
use crate::cpu_box::CpuBox;
use crate::features::Features;
use crate::mem::{PhysMem, page};
use crate::signals::{Signals, request};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Page tables at pages 1 to 4 that map the first 64 pages to themselves.
const PT: u64 = 0x4000;

fn entry(page: u64) -> u64 {
    page << 12 | 0x67
}

fn pair() -> [CpuBox; 2] {
    let mem = PhysMem::new(64 << 12).expect("memory");
    for table in 1..4u64 {
        assert!(mem.write(PhysAddr(table << 12), &entry(table + 1).to_le_bytes()));
    }
    for n in 0..64u64 {
        assert!(mem.write(PhysAddr(PT + 8 * n), &entry(n).to_le_bytes()));
    }
    let signals: [Arc<Signals>; 2] = Default::default();
    let mailboxes = mem.connect(&signals);
    [0, 1].map(|i| {
        let wiring = Wiring {
            mem: mem.clone(),
            bus: Arc::new(EmptyBus),
            irq: Arc::new(NoInterrupts::default()),
            signals: signals[i].clone(),
            mailbox: mailboxes[i].clone(),
            clock: Clock::virtual_clock(),
        };
        let mut cpu = Cpu::new(wiring, Features::max(), i as u32);
        into_long_mode(&mut cpu);
        cpu.load_cr3(0x1000);
        cpu
    })
}

fn gpa(cpu: &mut Cpu, lin: u64) -> u64 {
    cpu.translate(lin, Access::Read, Priv::Current, false).expect("mapped").gpa.0
}

fn may_write(cpu: &mut Cpu, lin: u64) -> bool {
    // SAFETY: the set belongs to this processor, and nothing else uses it meanwhile.
    unsafe { (*cpu.state.tlb).write[tlb::index(lin)].hit(lin, 1).is_some() }
}

#[test]
fn a_table_that_another_may_write_is_shadowed_only_after_it_has_let_go() {
    let [mut a, mut b] = pair();
    // B writes the table, and learns that it may.
    b.store::<8>(PT + 8 * 40, entry(40), false).expect("mapped");
    b.serve_mail();
    b.store::<8>(PT + 8 * 40, entry(40), false).expect("mapped");
    // B shadows the table itself, so only what it holds for other pages is left: take a page that it does not.
    b.store::<8>(0x9000, 1, false).expect("mapped");
    assert!(may_write(&mut b, 0x9000) && !may_write(&mut b, PT));
    b.park();
    // A uses page 9 as a table.
    assert!(a.mem.write(PhysAddr(0x9000), &entry(30).to_le_bytes()));
    assert!(a.mem.write(PhysAddr(0x3008), &entry(9).to_le_bytes()));
    assert_eq!(gpa(&mut a, 0x20_0000), 30 << 12, "served once");
    assert_ne!(a.signals.peek() & request::MAIL, 0, "to be completed at the next boundary");
    a.serve_mail();
    assert_eq!(gpa(&mut a, 0x20_0000), 30 << 12);
    b.unpark();
    assert!(!may_write(&mut b, 0x9000));
    // Now B's store is news to A, which may be late with it, but not beyond INVLPG.
    b.store::<8>(0x9000, entry(31), false).expect("mapped");
    assert!(a.mailbox.has_news());
    a.invlpg(0x20_0000);
    assert_eq!(gpa(&mut a, 0x20_0000), 31 << 12);
}

#[test]
fn decoded_bytes_are_told_once_and_then_data_again() {
    let [mut a, mut b] = pair();
    b.store::<8>(0x9000, 1, false).expect("mapped");
    b.serve_mail();
    b.store::<8>(0x9000, 1, false).expect("mapped");
    assert!(may_write(&mut b, 0x9000));
    b.park();
    a.mark_code(9, 1);
    b.unpark();
    assert!(!may_write(&mut b, 0x9000));
    b.store::<8>(0x9040, 1, false).expect("mapped");
    assert!(!a.mailbox.has_news(), "another chunk");
    b.store::<8>(0x9038, 1, false).expect("mapped");
    assert_eq!((b.code_hits.len(), a.mem.attrs(9).load(Ordering::Relaxed) & page::CODE), (1, 0));
    assert_ne!(a.signals.peek() & request::MAIL, 0);
    b.store::<8>(0x9038, 2, false).expect("mapped");
    a.serve_mail();
    assert_eq!((a.code_hits.len(), a.code_hits[0].chunks), (1, 1));
    // The same from a device.
    b.park();
    a.mark_code(9, 2);
    b.unpark();
    assert!(a.mem.dma_write(PhysAddr(0x9000), &[0; 4096]));
    a.serve_mail();
    b.serve_mail();
    assert_eq!((a.code_hits.len(), b.code_hits.len()), (2, 1));
}

#[test]
fn a_guest_that_shoots_down_translations_sees_what_it_expects() {
    const ROUNDS: u64 = 3000;
    let [mut a, mut b] = pair();
    let (asked, done) = (&AtomicU64::new(0), &AtomicU64::new(0));
    for (n, value) in [(30u64, 0u64), (31, 1)] {
        assert!(a.mem.write(PhysAddr(n << 12), &value.to_le_bytes()));
    }
    std::thread::scope(|s| {
        s.spawn(move || {
            for round in 1..=ROUNDS {
                b.store::<8>(PT + 8 * 50, entry(30 + round % 2), false).expect("mapped");
                asked.store(round, Ordering::SeqCst);
                while done.load(Ordering::SeqCst) != round {
                    b.serve_mail();
                    std::thread::yield_now();
                }
            }
            b.park();
        });
        for round in 1..=ROUNDS {
            while asked.load(Ordering::SeqCst) != round {
                a.serve_mail();
                // Keeps the translation in use.
                a.load::<8>(50 << 12, false).expect("mapped");
            }
            a.invlpg(50 << 12);
            assert_eq!(a.load::<8>(50 << 12, false), Ok(round % 2), "round {round}");
            done.store(round, Ordering::SeqCst);
        }
        a.park();
    });
}

#[test]
fn locked_updates_of_any_alignment_add_up() {
    const ROUNDS: u64 = 2000;
    let cpus = pair();
    let mem = cpus[0].mem.clone();
    std::thread::scope(|s| {
        for mut cpu in cpus {
            s.spawn(move || {
                for _ in 0..ROUNDS {
                    for lin in [0x9000, 0x9103, 0x9ffe, 0xb03f] {
                        cpu.modify_locked::<4>(lin, false, |v| v + 1).expect("mapped");
                        cpu.serve_mail();
                    }
                    let old = cpu.load_128(0xc010, false).expect("mapped");
                    let mut old = old;
                    loop {
                        let seen =
                            cpu.compare_exchange_128(0xc010, old, old + (1 << 63), false).expect("mapped");
                        if seen == old {
                            break;
                        }
                        old = seen;
                    }
                }
                cpu.park();
            });
        }
    });
    let word = |at: u64| {
        let mut bytes = [0; 4];
        assert!(mem.read(PhysAddr(at), &mut bytes));
        u64::from(u32::from_le_bytes(bytes))
    };
    for at in [0x9000, 0x9103, 0x9ffe, 0xb03f] {
        assert_eq!(word(at), 2 * ROUNDS, "{at:#x}");
    }
    assert_eq!((word(0xc018), word(0xc014)), (ROUNDS, 0));
}

//! Rings against the rules, against rust-vmm's `virtio-queue`, and against garbage.

use super::*;
use crate::virtio::testing::{Ram, Random};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 16;
const DESC: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const INDIRECT_TABLE: u64 = 0x4000;
const RAM: usize = 0x1_0000;
const PLAIN: RingFeatures = RingFeatures { indirect: false, event_idx: false };
const ALL: RingFeatures = RingFeatures { indirect: true, event_idx: true };

fn queue() -> Queue {
    let mut queue = Queue::new(256);
    let registers = queue.registers().unwrap();
    (registers.size, registers.desc, registers.avail, registers.used) = (SIZE, DESC, AVAIL, USED);
    assert!(queue.enable());
    queue
}

fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// What popping the chain at descriptor 0 of `table` gives.
fn pop(
    features: RingFeatures,
    table: &[(u16, [u8; 16])],
    indirect: &[[u8; 16]],
) -> Result<Option<Chain>, RingError> {
    let ram = Ram::new(RAM);
    for (index, bytes) in table {
        ram.put(DESC + 16 * u64::from(*index), bytes);
    }
    ram.put(INDIRECT_TABLE, indirect.as_flattened());
    ram.put(AVAIL + 2, &1u16.to_le_bytes());
    queue().pop(&*ram, features)
}

#[test]
fn broken_chains_are_named() {
    let check =
        |table: &[(u16, [u8; 16])], expected| assert_eq!(pop(PLAIN, table, &[]).unwrap_err(), expected);
    let next = |to| descriptor(0x5000, 8, 1, to);
    check(&[(0, next(0))], RingError::Endless);
    check(&[(0, next(1)), (1, next(0))], RingError::Endless);
    check(&[(0, next(SIZE))], RingError::Descriptor(SIZE));
    check(&[(0, descriptor(0x5000, 8, 3, 1)), (1, descriptor(0x5000, 8, 0, 0))], RingError::Order);
    check(&[(0, descriptor(u64::MAX, 8, 0, 0))], RingError::NotRam(PhysAddr(u64::MAX)));
    check(&[(0, descriptor(0, !0, 3, 1)), (1, descriptor(0, 2, 2, 0))], RingError::Length);
    check(&[(0, descriptor(0x4000, 16, 4, 0))], RingError::Indirect(16));
}

#[test]
fn broken_indirect_tables_are_named() {
    let check = |len, flags: u16, table: &[[u8; 16]], expected| {
        let head = [(0, descriptor(INDIRECT_TABLE, len, 4 | flags, 0))];
        assert_eq!(pop(ALL, &head, table).unwrap_err(), expected);
    };
    let next = |to| descriptor(0x5000, 8, 1, to);
    check(0, 0, &[], RingError::Indirect(0));
    check(17, 0, &[next(0)], RingError::Indirect(17));
    check(16 * 1025, 0, &[next(0)], RingError::Indirect(16 * 1025));
    check(16, 1, &[next(0)], RingError::Indirect(16));
    check(32, 0, &[next(1), next(0)], RingError::Endless);
    check(32, 0, &[next(2), next(0)], RingError::Descriptor(2));
    check(16, 0, &[descriptor(INDIRECT_TABLE, 16, 4, 0)], RingError::Indirect(16));
    let far = [(0, descriptor(1 << 40, 16, 4, 0))];
    assert_eq!(pop(ALL, &far, &[]).unwrap_err(), RingError::NotRam(PhysAddr(1 << 40)));
}

#[test]
fn queues_that_cannot_be_are_not_enabled() {
    let check = |change: fn(&mut QueueState), expected| {
        let mut queue = Queue::new(256);
        let registers = queue.registers().unwrap();
        (registers.size, registers.desc, registers.avail, registers.used) = (SIZE, DESC, AVAIL, USED);
        change(registers);
        assert_eq!(queue.enable(), expected);
    };
    check(|_| (), true);
    check(|r| r.size = 0, false);
    check(|r| r.size = 12, false);
    check(|r| r.size = 512, false);
    check(|r| r.desc = 8, false);
    check(|r| r.avail = 1, false);
    check(|r| r.used = 2, false);
    check(|r| r.desc = u64::MAX - 15, false);
    let mut queue = queue();
    assert!(queue.registers().is_none(), "fixed once enabled");
    let state = QueueState { size: 3, ..queue.state().clone() };
    queue.restore(&state);
    assert!(!queue.ready());
    assert_eq!(queue.pop(&*Ram::new(RAM), PLAIN), Ok(None));
}

#[test]
fn flags_suppress_interrupts_and_doorbells() {
    let ram = Ram::new(RAM);
    let mut queue = queue();
    queue.suppress(&*ram, PLAIN).unwrap();
    assert_eq!(ram.u16(USED), NO_NOTIFY);
    assert_eq!(queue.rearm(&*ram, PLAIN), Ok(true));
    assert_eq!(ram.u16(USED), 0);
    assert_eq!(queue.take_signal(&*ram, PLAIN), Ok(false), "nothing used");
    queue.push(&*ram, 3, 9).unwrap();
    assert_eq!(queue.take_signal(&*ram, PLAIN), Ok(true));
    ram.put(AVAIL, &NO_INTERRUPT.to_le_bytes());
    queue.push(&*ram, 3, 9).unwrap();
    assert_eq!(queue.take_signal(&*ram, PLAIN), Ok(false));
    ram.put(AVAIL + 2, &1u16.to_le_bytes());
    assert_eq!(queue.rearm(&*ram, PLAIN), Ok(false), "one is there already");
    ram.put(AVAIL + 2, &(SIZE + 1).to_le_bytes());
    assert_eq!(queue.pop(&*ram, PLAIN).unwrap_err(), RingError::AvailableIndex(SIZE + 1));
}

/// Our queue's memory and the oracle's.
struct Twins {
    ram: std::sync::Arc<Ram>,
    other: GuestMemoryMmap<()>,
}

impl Twins {
    fn put(&self, at: u64, bytes: &[u8]) {
        self.ram.put(at, bytes);
        self.other.write_slice(bytes, GuestAddress(at)).unwrap();
    }
}

/// The same well-formed traffic through both implementations, with event indices wrapping around: the same chains,
/// the same decisions, the same bytes in the used ring.
#[test]
fn agrees_with_virtio_queue() {
    let other = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
    let twins = Twins { ram: Ram::new(RAM), other };
    let mut ours = queue();
    let mut theirs = virtio_queue::Queue::new(SIZE).unwrap();
    theirs.set_desc_table_address(Some(DESC as u32), None);
    theirs.set_avail_ring_address(Some(AVAIL as u32), None);
    theirs.set_used_ring_address(Some(USED as u32), None);
    theirs.set_event_idx(true);
    theirs.set_ready(true);

    let mut random = Random(42);
    let mut available = 0u16;
    for _ in 0..40_000 {
        let heads = 1 + random.below(4) as u16;
        for i in 0..heads {
            let head = i * 4;
            let indirect = random.below(3) == 0;
            let table =
                if indirect { INDIRECT_TABLE + 0x100 * u64::from(i) } else { DESC + 16 * u64::from(head) };
            let count = 1 + random.below(4) as u16;
            let readable = random.below(u64::from(count) + 1) as u16;
            for k in 0..count {
                let flags = u16::from(k + 1 < count) | u16::from(k >= readable) << 1;
                let next = if indirect { k + 1 } else { head + k + 1 };
                let part =
                    descriptor(0x8000 + random.below(0x4000), 1 + random.below(0x1000) as u32, flags, next);
                twins.put(table + 16 * u64::from(k), &part);
            }
            if indirect {
                twins.put(DESC + 16 * u64::from(head), &descriptor(table, u32::from(count) * 16, 4, 0));
            }
            twins.put(AVAIL + 4 + 2 * u64::from(available % SIZE), &head.to_le_bytes());
            available = available.wrapping_add(1);
        }
        twins.put(AVAIL + 2, &available.to_le_bytes());
        let event = available.wrapping_sub(random.below(6) as u16);
        twins.put(AVAIL + 4 + 2 * u64::from(SIZE), &event.to_le_bytes());

        for _ in 0..heads {
            let chain = ours.pop(&*twins.ram, ALL).unwrap().unwrap();
            let expected = theirs.pop_descriptor_chain(&twins.other).unwrap();
            assert_eq!(chain.head(), expected.head_index());
            let expected: Vec<_> = expected.map(|d| (d.addr().0, d.len(), d.is_write_only())).collect();
            let parts = |list: &[Segment], writable| {
                list.iter().map(move |s| (s.address.0, s.len, writable)).collect::<Vec<_>>()
            };
            let found = [parts(chain.readable(), false), parts(chain.writable(), true)].concat();
            assert_eq!(found, expected);
            let written = random.next() as u32;
            ours.push(&*twins.ram, chain.head(), written).unwrap();
            theirs.add_used(&twins.other, chain.head(), written).unwrap();
            if random.below(2) == 0 {
                let signal = ours.take_signal(&*twins.ram, ALL).unwrap();
                assert_eq!(signal, theirs.needs_notification(&twins.other).unwrap());
            }
        }
        assert_eq!(ours.take_signal(&*twins.ram, ALL).unwrap(), {
            theirs.needs_notification(&twins.other).unwrap()
        });
        assert_eq!(ours.rearm(&*twins.ram, ALL), Ok(true));
        assert!(!theirs.enable_notification(&twins.other).unwrap());
        let mut used = [0; 6 + 8 * SIZE as usize];
        twins.other.read_slice(&mut used, GuestAddress(USED)).unwrap();
        assert_eq!(twins.ram.get::<{ 6 + 8 * SIZE as usize }>(USED), used);
    }
}

/// Garbage in all rings: errors or chains within bounds, never more.
#[test]
fn garbage_is_bounded() {
    let mut random = Random(7);
    let ram = Ram::new(RAM);
    let mut chains = 0;
    for round in 0..20_000 {
        let features = RingFeatures { indirect: random.below(2) == 0, event_idx: random.below(2) == 0 };
        for index in 0..SIZE {
            let near = random.below(4) != 0;
            let address = if near { random.below(RAM as u64) } else { random.next() };
            let len = if near { random.below(64) as u32 * 16 } else { random.next() as u32 };
            let next = random.below(if near { SIZE.into() } else { 1 << 16 }) as u16;
            ram.put(DESC + 16 * u64::from(index), &descriptor(address, len, random.below(8) as u16, next));
        }
        for slot in 0..SIZE {
            let head = random.below(u64::from(SIZE) + 1) as u16;
            ram.put(AVAIL + 4 + 2 * u64::from(slot), &head.to_le_bytes());
        }
        let mut queue = queue();
        ram.put(AVAIL + 2, &(random.below(u64::from(SIZE) + 2) as u16).to_le_bytes());
        while let Ok(Some(chain)) = queue.pop(&*ram, features) {
            chains += 1;
            assert!(chain.readable().len() + chain.writable().len() <= MAX_CHAIN as usize);
            assert!(chain.readable_len() + chain.writable_len() <= 1 << 32);
            let mut buffer = [0; 100];
            let _may_fail = chain.read(&*ram, random.below(200), &mut buffer);
            if queue.push(&*ram, chain.head(), round).is_err() || queue.take_signal(&*ram, features).is_err()
            {
                break;
            }
        }
    }
    assert!(chains > 1000, "the garbage is good enough: {chains}");
}

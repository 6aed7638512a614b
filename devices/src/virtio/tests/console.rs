//! Both directions of the console push back.

use super::*;
use std::collections::VecDeque;

#[test]
fn output_waits_for_the_sink() {
    for execution in [Execution::Inline, Execution::Thread] {
        let screen = Arc::new(Screen::default());
        let console = Console::new(screen.clone(), execution);
        let mut d = Driver::new(console.clone());
        d.start(!0);
        screen.room.store(5, Ordering::SeqCst);
        d.ram.put(DATA, b"hello, world");
        d.chain(Driver::base(1), 0, &[(DATA, 7, false), (DATA + 7, 5, false)]);
        d.publish(1, 0);
        d.ring(1);
        Driver::wait("first part", || screen.shown.lock().unwrap().len() == 5);
        d.function.pause();
        let (device, transport) = (console.save(), d.function.save());
        assert_eq!((device.sent, d.used_index(1)), (5, 0));
        console.restore(&device);
        d.function.restore(&transport);
        d.function.resume();
        screen.room.store(100, Ordering::SeqCst);
        console.sink_ready();
        Driver::wait("the rest", || d.used_index(1) == 1);
        assert_eq!(*screen.shown.lock().unwrap(), b"hello, world");
        d.write(0x2008, 4, u64::from(b'!'));
        assert_eq!(screen.shown.lock().unwrap().last(), Some(&b'!'));
    }
}

#[test]
fn input_waits_for_buffers() {
    for execution in [Execution::Inline, Execution::Thread] {
        let screen = Arc::new(Screen::default());
        let console = Console::new(screen.clone(), execution);
        let mut d = Driver::new(console.clone());
        assert_eq!(console.push_input(b"typed early"), 11);
        d.start(!0);
        assert_eq!(d.submit(0, &[(DATA, 4, true)]), 4);
        assert_eq!(d.submit(0, &[(DATA + 4, 64, true)]), 7);
        assert_eq!(&d.ram.get::<11>(DATA), b"typed early");
        Driver::wait("room", || screen.input_room.load(Ordering::SeqCst) == Console::INPUT_LIMIT);
        assert_eq!(console.push_input(&vec![b'x'; Console::INPUT_LIMIT + 1]), Console::INPUT_LIMIT);
        assert_eq!(console.push_input(b"x"), 0, "full");
        assert_eq!(d.submit(0, &[(DATA, 100, true)]), 100);
        Driver::wait("room", || screen.input_room.load(Ordering::SeqCst) == 100);
        console.set_size(132, 43);
        assert_eq!(d.read(0x2000, 4), 43 << 16 | 132);
        assert_eq!(d.read(0x15, 1), 1, "generation");
        assert_eq!(d.read(0x2004, 8), 1);
    }
}

/// Input from one thread and doorbells from another arrive once and in order.
#[test]
fn input_races_keep_their_order() {
    let console = Console::new(Arc::new(Screen::default()), Execution::Thread);
    let mut d = Driver::new(console.clone());
    d.start(!0);
    let typist = std::thread::spawn(move || {
        let mut left: VecDeque<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        while !left.is_empty() {
            let count = left.len().min(37);
            let taken = console.push_input(&left.make_contiguous()[..count]);
            left.drain(..taken);
        }
    });
    let mut seen = 0u32;
    while seen < 20_000 {
        let len = d.submit(0, &[(DATA, 50, true)]);
        let bytes = d.ram.get::<50>(DATA);
        for &byte in &bytes[..len as usize] {
            assert_eq!(u32::from(byte), seen % 251);
            seen += 1;
        }
    }
    typist.join().unwrap();
}

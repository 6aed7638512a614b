//! What devices and processors know of each other: port and MMIO devices, interrupt lines, DMA, local APICs.
//!
//! All traits take `&self`: a device is shared by the vCPU threads and its own workers and holds its state behind
//! a lock of its own. No call may block for long or call back into the vCPU that made it.

use crate::addr::PhysAddr;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A device that answers I/O ports. `offset` is relative to the first port of the range it was attached with.
pub trait PortDevice: Send + Sync + Debug {
    /// Reads `size` (1, 2 or 4) bytes. Bits above `size` bytes of the result are ignored.
    fn port_read(&self, offset: u16, size: u8) -> u32;
    /// Writes the low `size` (1, 2 or 4) bytes of `value`.
    fn port_write(&self, offset: u16, size: u8, value: u32);
}

/// A memory-mapped device. `offset` is in bytes from the start of the range it was attached with.
pub trait MmioDevice: Send + Sync + Debug {
    /// Reads `size` (1, 2, 4 or 8) bytes; never crosses an 8-byte boundary.
    fn mmio_read(&self, offset: u64, size: u8) -> u64;
    /// Writes the low `size` (1, 2, 4 or 8) bytes of `value`; never crosses an 8-byte boundary.
    fn mmio_write(&self, offset: u64, size: u8, value: u64);
}

/// An interrupt input of some controller, or a gate in front of one.
pub trait IrqLine: Send + Sync + Debug {
    /// Drives the line to `level`. Driving it to the level it has is allowed and does nothing.
    fn set_level(&self, level: bool);
    /// A rising edge followed by a falling one.
    fn pulse(&self) {
        self.set_level(true);
        self.set_level(false);
    }
}

/// A line that leads nowhere, for devices whose interrupt is not wired.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoIrq;
impl IrqLine for NoIrq {
    fn set_level(&self, _level: bool) {}
}

/// Where message-signalled interrupts go: a write of `data` to `address` in the 0xFEE0_0000 window.
pub trait MsiSink: Send + Sync + Debug {
    /// Delivers one message (SDM vol. 3A, 11.11).
    fn send_msi(&self, address: u64, data: u32);
}

/// The I/O port space and the MMIO space of the board, as the processors see it.
pub trait SystemBus: Send + Sync + Debug {
    /// IN of `size` 1, 2 or 4 bytes. Unclaimed ports read as all ones.
    fn port_read(&self, port: u16, size: u8) -> u32;
    /// OUT of `size` 1, 2 or 4 bytes. Writes to unclaimed ports are dropped.
    fn port_write(&self, port: u16, size: u8, value: u32);
    /// A read from guest-physical memory that is neither RAM nor ROM. Unclaimed addresses read as all ones.
    fn mmio_read(&self, addr: PhysAddr, size: u8) -> u64;
    /// A write to guest-physical memory that is not RAM.
    fn mmio_write(&self, addr: PhysAddr, size: u8, value: u64);
}

/// Guest RAM as a bus master sees it (virtio rings, DMA). Writes invalidate translated code and shadow tables.
pub trait Dma: Send + Sync + Debug {
    /// Copies guest memory into `buf`. False, with `buf` unspecified, if any byte is not RAM or ROM.
    #[must_use]
    fn dma_read(&self, addr: PhysAddr, buf: &mut [u8]) -> bool;
    /// Copies `buf` into guest RAM. False, with nothing written, if any byte is not RAM.
    #[must_use]
    fn dma_write(&self, addr: PhysAddr, buf: &[u8]) -> bool;
}

/// The interrupt side of one processor: its local APIC together with the 8259's INTR wire.
pub trait CpuInterrupts: Send + Sync + Debug {
    /// Whether an interrupt of sufficient priority waits to be taken (EFLAGS.IF aside).
    fn has_interrupt(&self) -> bool;
    /// Interrupt acknowledge: takes the highest-priority vector, or None if it has gone meanwhile.
    fn acknowledge(&self) -> Option<u8>;
    /// CR8: the upper four bits of the task-priority register.
    fn cr8(&self) -> u8;
    /// Sets CR8 (0 to 15).
    fn set_cr8(&self, value: u8);
    /// IA32_APIC_BASE (MSR 0x1b).
    fn apic_base(&self) -> u64;
    /// Sets IA32_APIC_BASE; false means #GP.
    fn set_apic_base(&self, value: u64) -> bool;
    /// RDMSR of an x2APIC register (MSR 0x800-0x8ff); None means #GP.
    fn x2apic_read(&self, msr: u32) -> Option<u64>;
    /// WRMSR of an x2APIC register; false means #GP.
    fn x2apic_write(&self, msr: u32, value: u64) -> bool;
    /// IA32_TSC_DEADLINE as last written, zero once it has fired. `tsc` is in guest TSC ticks.
    fn tsc_deadline(&self) -> u64;
    /// Arms the APIC timer in TSC-deadline mode; zero disarms.
    fn set_tsc_deadline(&self, tsc: u64);
    /// Access to the xAPIC page: `offset` in bytes from the APIC base, 32-bit registers.
    fn apic_mmio_read(&self, offset: u64) -> u32;
    /// Write to the xAPIC page.
    fn apic_mmio_write(&self, offset: u64, value: u32);
}

/// A processor without an APIC and without interrupts; only CR8 holds what is written to it.
#[derive(Debug, Default)]
pub struct NoInterrupts {
    cr8: AtomicU8,
}
impl CpuInterrupts for NoInterrupts {
    fn has_interrupt(&self) -> bool {
        false
    }
    fn acknowledge(&self) -> Option<u8> {
        None
    }
    fn cr8(&self) -> u8 {
        self.cr8.load(Ordering::Relaxed)
    }
    fn set_cr8(&self, value: u8) {
        self.cr8.store(value & 15, Ordering::Relaxed);
    }
    fn apic_base(&self) -> u64 {
        0xfee0_0100
    }
    fn set_apic_base(&self, _value: u64) -> bool {
        true
    }
    fn x2apic_read(&self, _msr: u32) -> Option<u64> {
        None
    }
    fn x2apic_write(&self, _msr: u32, _value: u64) -> bool {
        false
    }
    fn tsc_deadline(&self) -> u64 {
        0
    }
    fn set_tsc_deadline(&self, _tsc: u64) {}
    fn apic_mmio_read(&self, _offset: u64) -> u32 {
        0
    }
    fn apic_mmio_write(&self, _offset: u64, _value: u32) {}
}

/// A board with nothing on it: ports and MMIO read as all ones.
#[derive(Debug, Default, Clone, Copy)]
pub struct EmptyBus;
impl SystemBus for EmptyBus {
    fn port_read(&self, _port: u16, size: u8) -> u32 {
        u32::MAX >> (32 - 8 * u32::from(size))
    }
    fn port_write(&self, _port: u16, _size: u8, _value: u32) {}
    fn mmio_read(&self, _addr: PhysAddr, size: u8) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(size))
    }
    fn mmio_write(&self, _addr: PhysAddr, _size: u8, _value: u64) {}
}

/// Shared handle to an interrupt line.
pub type Irq = Arc<dyn IrqLine>;

//! Requests (virtio 1.2, section 5.2.6): a header of 16 bytes, data, and a status byte at the very end. How they are
//! spread over descriptors is up to the driver (2.7.4).

use super::{Core, MAX_RANGE, MAX_RANGES, SECTOR, bit};
use crate::virtio::{Chain, Session, Stopped};
use std::sync::atomic::Ordering;

/// Data moves in pieces of at most this many bytes.
const CHUNK: u64 = 256 << 10;
const HEADER: u64 = 16;
/// A discard or write-zeroes segment: sector, number of sectors, flags.
const RANGE: u64 = 16;
/// Flag of a write-zeroes segment: storage may be given up.
const UNMAP: u32 = 1;

/// Request types.
mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// The status byte, if it is not OK.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// `VIRTIO_BLK_S_IOERR`.
    Io = 1,
    /// `VIRTIO_BLK_S_UNSUPP`.
    Unsupported = 2,
}

/// A request either ends with a status, or the device stops.
#[derive(Debug)]
enum End {
    Failed(Failure),
    Stopped,
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The backend's own words go to the log; the guest learns that it was an error.
impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        tracing::warn!(%error, "virtio-blk backend");
        Self::Failed(Failure::Io)
    }
}

impl Core {
    /// Runs one request; returns its used length. A chain with no room for a status is
    /// returned with nothing in it.
    pub(super) fn request(
        &self,
        s: &Session<'_>,
        chain: &Chain,
        buffer: &mut Vec<u8>,
    ) -> Result<u32, Stopped> {
        let Some(room) = chain.writable_len().checked_sub(1) else { return Ok(0) };
        let (status, data) = match self.execute(s, chain, room, buffer) {
            Ok(data) => (0, data),
            Err(End::Failed(failure)) => (failure as u8, 0),
            Err(End::Stopped) => return Err(Stopped),
        };
        s.write(chain, room, &[status])?;
        // The used length counts bytes written without a gap from the start (2.7.8.2).
        let written = if data == room { room + 1 } else { data };
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn execute(&self, s: &Session<'_>, chain: &Chain, room: u64, buffer: &mut Vec<u8>) -> Result<u64, End> {
        let Some(payload) = chain.readable_len().checked_sub(HEADER) else { return Err(Failure::Io.into()) };
        let mut header = [0; HEADER as usize];
        s.read(chain, 0, &mut header)?;
        let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let sector = u64::from_le_bytes(std::array::from_fn(|i| header[8 + i]));
        match kind {
            kind::IN => self.read(s, chain, self.extent(sector, room)?, room, buffer),
            kind::OUT => {
                self.writable()?;
                self.write(s, chain, self.extent(sector, payload)?, payload, buffer)?;
                self.write_through(s)
            }
            kind::FLUSH => self.flush(s),
            kind::GET_ID => {
                let len = (self.serial.len() as u64).min(room);
                s.write(chain, 0, &self.serial[..len as usize])?;
                Ok(len)
            }
            kind::DISCARD | kind::WRITE_ZEROES => {
                let feature = if kind == kind::DISCARD { bit::DISCARD } else { bit::WRITE_ZEROES };
                if s.features() & feature == 0 {
                    return Err(Failure::Unsupported.into());
                }
                s.signal()?;
                self.ranges(s, chain, payload, kind == kind::DISCARD)?;
                self.write_through(s)
            }
            _ => Err(Failure::Unsupported.into()),
        }
    }

    fn writable(&self) -> Result<(), Failure> {
        if self.backend.read_only() { Err(Failure::Io) } else { Ok(()) }
    }

    /// Byte offset of `sector`, if `len` bytes from there are whole sectors on the disk.
    fn extent(&self, sector: u64, len: u64) -> Result<u64, Failure> {
        let offset = sector.checked_mul(SECTOR).ok_or(Failure::Io)?;
        let end = offset.checked_add(len).ok_or(Failure::Io)?;
        let disk = self.backend.len() / SECTOR * SECTOR;
        if len.is_multiple_of(SECTOR) && end <= disk { Ok(offset) } else { Err(Failure::Io) }
    }

    fn read(
        &self,
        s: &Session<'_>,
        chain: &Chain,
        offset: u64,
        len: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, End> {
        let mut done = 0;
        while done < len {
            s.go_on()?;
            buffer.resize((len - done).min(CHUNK) as usize, 0);
            self.backend.read_at(offset + done, buffer)?;
            s.write(chain, done, buffer)?;
            done += buffer.len() as u64;
        }
        Ok(len)
    }

    fn write(
        &self,
        s: &Session<'_>,
        chain: &Chain,
        offset: u64,
        len: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), End> {
        let mut done = 0;
        while done < len {
            s.go_on()?;
            buffer.resize((len - done).min(CHUNK) as usize, 0);
            s.read(chain, HEADER + done, buffer)?;
            self.backend.write_at(offset + done, buffer)?;
            done += buffer.len() as u64;
        }
        Ok(())
    }

    /// Flushes the backend. May take long, so what is complete is told first.
    fn flush(&self, s: &Session<'_>) -> Result<u64, End> {
        s.signal()?;
        self.backend.flush()?;
        Ok(0)
    }

    /// With the write cache off (5.2.6.2), what was written is made stable before the request completes.
    fn write_through(&self, s: &Session<'_>) -> Result<u64, End> {
        let features = s.features();
        let cached = features & bit::FLUSH != 0
            && (features & bit::CONFIG_WCE == 0 || self.writeback.load(Ordering::Relaxed));
        if cached { Ok(0) } else { self.flush(s) }
    }

    /// Discards or zeroes segments. All are checked before the first is touched.
    fn ranges(&self, s: &Session<'_>, chain: &Chain, len: u64, discard: bool) -> Result<(), End> {
        self.writable()?;
        if len == 0 || !len.is_multiple_of(RANGE) || len / RANGE > MAX_RANGES.into() {
            return Err(Failure::Io.into());
        }
        let mut bytes = vec![0; len as usize];
        s.read(chain, HEADER, &mut bytes)?;
        let mut ranges = Vec::new();
        for range in bytes.as_chunks::<{ RANGE as usize }>().0 {
            let sector = u64::from_le_bytes(std::array::from_fn(|i| range[i]));
            let sectors = u32::from_le_bytes(std::array::from_fn(|i| range[8 + i]));
            let flags = u32::from_le_bytes(std::array::from_fn(|i| range[12 + i]));
            if flags & !UNMAP != 0 || discard && flags != 0 {
                return Err(Failure::Unsupported.into());
            }
            if sectors > MAX_RANGE {
                return Err(Failure::Io.into());
            }
            let len = u64::from(sectors) * SECTOR;
            ranges.push((self.extent(sector, len)?, len, flags & UNMAP != 0));
        }
        for (offset, len, may_unmap) in ranges {
            s.go_on()?;
            if discard {
                self.backend.discard(offset, len)?;
            } else {
                self.backend.write_zeroes(offset, len, may_unmap)?;
            }
        }
        Ok(())
    }
}

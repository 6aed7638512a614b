//! Segment registers with their hidden parts (SDM vol. 3A, 3.4).

/// Names a segment register, numbered as instructions encode them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Seg {
    ES = 0,
    CS = 1,
    SS = 2,
    DS = 3,
    FS = 4,
    GS = 5,
}

/// A segment register: the selector and the descriptor cache behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SegReg {
    /// Visible selector.
    pub sel: u16,
    /// Attributes as in descriptor bits 55-40 (type, S, DPL, P in bits 7-0; AVL, L, D/B, G in bits 15-12) with
    /// bits 11-8 clear. A null selector's cache has P clear.
    pub attr: u16,
    /// Limit in bytes (already scaled by G), inclusive.
    pub limit: u32,
    /// Base: 64 bits for FS, GS, TR and LDTR in long mode, 32 otherwise.
    pub base: u64,
}

/// The bits of [`SegReg::attr`].
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod attr {
    /// Accessed.
    pub const A: u16 = 1 << 0;
    /// Data: writable. Code: readable.
    pub const RW: u16 = 1 << 1;
    /// Data: expand-down. Code: conforming.
    pub const EC: u16 = 1 << 2;
    /// Code segment (with S).
    pub const CODE: u16 = 1 << 3;
    /// Code or data rather than system.
    pub const S: u16 = 1 << 4;
    pub const DPL_SHIFT: u32 = 5;
    pub const P: u16 = 1 << 7;
    pub const AVL: u16 = 1 << 12;
    /// 64-bit code.
    pub const L: u16 = 1 << 13;
    /// 32-bit code, 32-bit stack, or 4 GiB expand-down bound.
    pub const DB: u16 = 1 << 14;
    pub const G: u16 = 1 << 15;
}

impl SegReg {
    /// From an 8-byte descriptor as it stands in a table.
    pub fn from_descriptor(sel: u16, desc: u64) -> Self {
        let attr = (desc >> 40) as u16 & 0xf0ff;
        let raw = (desc & 0xffff) as u32 | (desc >> 32) as u32 & 0xf_0000;
        let limit = if attr & attr::G != 0 { raw << 12 | 0xfff } else { raw };
        let base = desc >> 16 & 0xff_ffff | desc >> 32 & 0xff00_0000;
        Self { sel, attr, limit, base }
    }

    /// A null or otherwise unusable segment.
    pub const fn null(sel: u16) -> Self {
        Self { sel, attr: 0, limit: 0, base: 0 }
    }

    /// Descriptor privilege level.
    #[inline(always)]
    pub const fn dpl(&self) -> u8 {
        (self.attr >> attr::DPL_SHIFT & 3) as u8
    }

    /// Present (and not null).
    #[inline(always)]
    pub const fn present(&self) -> bool {
        self.attr & attr::P != 0
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct DescTable {
    /// Linear address of the table.
    pub base: u64,
    /// Limit in bytes, inclusive.
    pub limit: u16,
}

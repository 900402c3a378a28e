//! Addresses, byte counts and page counts are different types at a room's door.

use core::fmt;

/// A virtual address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Address(pub usize);

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Bytes(pub usize);

/// A number of the runtime's 8 KiB pages ([`PAGE`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Pages(pub usize);

/// The size of a runtime page: two of the machine's. Go: `internal/runtime/gc`'s `PageSize`.
pub const PAGE: Bytes = Bytes(8 << 10);

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;

/// Addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub start: Address,
    pub end: Address,
}

impl Address {
    pub const fn align_down(self, align: usize) -> Address {
        Address(self.0 & !(align - 1))
    }

    pub const fn align_up(self, align: usize) -> Address {
        Address((self.0 + align - 1) & !(align - 1))
    }

    pub const fn is_aligned(self, align: usize) -> bool {
        self.0 & (align - 1) == 0
    }

    pub const fn plus(self, bytes: Bytes) -> Address {
        Address(self.0 + bytes.0)
    }

    pub const fn minus(self, bytes: Bytes) -> Address {
        Address(self.0 - bytes.0)
    }
}

impl Pages {
    /// As many pages as `bytes` need.
    pub const fn holding(bytes: Bytes) -> Pages {
        Pages(bytes.0.div_ceil(PAGE.0))
    }

    pub const fn bytes(self) -> Bytes {
        Bytes(self.0 * PAGE.0)
    }
}

impl Range {
    pub const EMPTY: Range = Range { start: Address(0), end: Address(0) };

    pub const fn new(start: Address, bytes: Bytes) -> Range {
        Range { start, end: Address(start.0 + bytes.0) }
    }

    pub const fn bytes(&self) -> Bytes {
        Bytes(self.end.0 - self.start.0)
    }

    pub const fn contains(&self, address: Address) -> bool {
        self.start.0 <= address.0 && address.0 < self.end.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

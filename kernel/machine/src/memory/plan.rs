//! The address plan: what lies where in the high half. The low half is empty.
//!
//! ```text
//!   0xffff_8000_0000_0000   16 TiB  direct map: RAM at its physical address plus this, readable and writable, no image frames
//!   0xffff_9000_0000_0000    8 TiB  heap arenas
//!   0xffff_9800_0000_0000    8 TiB  the runtime's tables and pools, the kernel's own heap
//!   0xffff_a000_0000_0000   64 TiB  thread stacks: a million of 64 MiB
//!   0xffff_e000_0000_0000    8 TiB  CPU stacks, a guard page below each
//!   0xffff_e800_0000_0000    8 TiB  device registers, uncached
//!   0xffff_ffff_8000_0000    2 GiB  the image
//! ```

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use runtime::addr::{Address, Bytes, GIB, Range};

const TIB: usize = 1 << 40;

/// RAM, at its physical address plus `DIRECT_MAP.start`. The boot loader is told to map it here too ([`super::LOADER_CONFIG`]),
/// so an address of RAM means the same before and after we load our own tables.
pub const DIRECT_MAP: Range = Range::new(Address(0xffff_8000_0000_0000), Bytes(16 * TIB));

/// Where the loader puts the image: the last 2 GiB, which the kernel code model reaches with 32-bit offsets.
pub const IMAGE: Address = Address(0xffff_ffff_8000_0000);

/// A part of the address space that is handed out from its start upward and never taken back.
pub struct Zone {
    pub name: &'static str,
    pub range: Range,
    used_bytes: AtomicUsize,
}

macro_rules! zone {
    ($(#[$doc:meta])* $name:ident, $text:literal, $start:literal, $bytes:expr) => {
        $(#[$doc])*
        #[cfg_attr(target_os = "none", unsafe(link_section = ".data.runtime"))]
        pub static $name: Zone =
            Zone { name: $text, range: Range::new(Address($start), Bytes($bytes)), used_bytes: AtomicUsize::new(0) };
    };
}

zone!(HEAP, "heap arenas", 0xffff_9000_0000_0000, 8 * TIB);
zone!(TABLES, "tables and pools", 0xffff_9800_0000_0000, 8 * TIB);
zone!(STACKS, "thread stacks", 0xffff_a000_0000_0000, 64 * TIB);
zone!(CPU_STACKS, "CPU stacks", 0xffff_e000_0000_0000, 8 * TIB);
zone!(DEVICES, "device registers", 0xffff_e800_0000_0000, 8 * TIB);

/// All zones in order of address, for the boot report.
pub fn zones() -> [&'static Zone; 5] {
    [&HEAP, &TABLES, &STACKS, &CPU_STACKS, &DEVICES]
}

impl Zone {
    /// The next `bytes` of the zone, aligned; `None` if they do not fit. O(1), no lock.
    pub fn take(&self, bytes: Bytes, align: usize) -> Option<Range> {
        let start = |used: usize| self.range.start.0.checked_add(used)?.checked_next_multiple_of(align);
        let end = |used: usize| start(used)?.checked_add(bytes.0).filter(|&end| end <= self.range.end.0);
        let used = self.used_bytes.try_update(Relaxed, Relaxed, |used| Some(end(used)? - self.range.start.0)).ok()?;
        Some(Range::new(Address(start(used)?), bytes))
    }
}

/// Addresses for the runtime. Where they lie goes by size alone, so that an address in a dump tells what it belongs to: what
/// does not fit the heap's zone is stacks, what is too big for a table is heap.
pub fn reserve(bytes: Bytes, align: usize) -> Option<Range> {
    let zone = if bytes > HEAP.range.bytes() {
        &STACKS
    } else if bytes.0 >= 256 * GIB {
        &HEAP
    } else {
        &TABLES
    };
    zone.take(bytes, align)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::addr::MIB;

    #[test]
    fn a_zone_hands_out_aligned_ranges_that_never_overlap() {
        let zone = Zone { name: "", range: Range::new(HEAP.range.start, Bytes(MIB)), used_bytes: AtomicUsize::new(0) };
        let mut last = zone.range.start;
        for (bytes, align) in [(4096, 4096), (8192, 65536), (4096, 4096), (65536, 65536)] {
            let range = zone.take(Bytes(bytes), align).expect("room is left");
            assert!(range.start >= last && range.start.is_aligned(align) && range.bytes() == Bytes(bytes));
            last = range.end;
        }
        assert_eq!(zone.take(Bytes(MIB), 4096), None);
        assert_eq!(zone.take(Bytes(4096), 1 << 63), None);
        assert_eq!(zone.take(Bytes(usize::MAX), 4096), None);
        assert!(zone.take(Bytes(4096), 4096).is_some(), "a refusal takes nothing");
    }

    #[test]
    fn a_million_stacks_of_64_mib_fit() {
        assert_eq!(STACKS.range.bytes().0, (64 * MIB) << 20);
        let stacks = reserve(Bytes(64 * TIB), 64 * MIB).expect("the whole zone");
        assert_eq!(stacks, STACKS.range);
        assert!(HEAP.range.contains(reserve(Bytes(TIB), 64 * MIB).expect("one heap").start));
        assert!(TABLES.range.contains(reserve(Bytes(GIB), 4096).expect("one table").start));
    }

    #[test]
    fn the_zones_lie_apart_above_the_direct_map() {
        let mut end = DIRECT_MAP.end;
        for zone in zones() {
            assert!(end <= zone.range.start, "{} begins after what is before it", zone.name);
            end = zone.range.end;
        }
        assert!(end <= IMAGE);
    }
}

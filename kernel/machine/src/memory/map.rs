//! The machine's memory map, checked and put in order: which physical pages are RAM that we may use.
//!
//! Firmware hands over regions that overlap, come in any order and need not be page aligned. They are painted one over
//! another, weakest claim first, so that what is left is right whatever their order was:
//!
//! ```text
//!   usable      ███████████████████████████      whole pages only
//!   loader           ░░░░░░                      over usable; a page it only touches belongs to nobody
//!   reserved                      ×××××          over both, and every page that it touches
//!   result      █████░░░░░░███████     █████
//! ```

use super::frames::{FRAME_4K, PhysicalAddress};
use super::plan;
use core::fmt;
use runtime::addr::{Bytes, KIB, MIB};

/// Regions that a map may have in the end. Real firmware stays below 100; QEMU's OVMF below 30 once neighbours are joined.
pub const CAPACITY: usize = 256;

/// Everything below is left alone: the real-mode vectors, the BIOS data areas and whatever firmware's management mode scribbles
/// there; what is free of it is the only place where another CPU can start. 640 KiB are not worth the risk.
pub const LOWEST: u64 = MIB as u64;

/// The least RAM above [`LOWEST`] that a kernel with one 4 MiB heap step, its tables and its stacks gets along with.
pub const LEAST: Bytes = Bytes(12 * MIB);

/// Who claims a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Free RAM.
    Usable,
    /// RAM that the boot loader used (its tables, our image): free once we have taken over, the image excepted.
    Loader,
    /// Not RAM, or not ours.
    Reserved,
}

/// A region as handed over: bytes from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawRegion {
    pub start: u64,
    pub end: u64,
    pub kind: Kind,
}

/// Whole pages of RAM; never [`Kind::Reserved`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    pub start: PhysicalAddress,
    pub end: PhysicalAddress,
    pub kind: Kind,
}

/// Why a map is refused. Displays as one line that says what was found and what would be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    Empty,
    Inverted(RawRegion),
    TooHigh(RawRegion),
    TooMany,
    TooSmall { found: Bytes },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "memory map: no regions at all; at least one usable region is needed"),
            Self::Inverted(RawRegion { start, end, kind }) => {
                write!(
                    f,
                    "memory map: {kind:?} region {start:#x}..{end:#x} ends before it starts; its end must not be lower"
                )
            }
            Self::TooHigh(RawRegion { start, end, kind }) => {
                let top = plan::DIRECT_MAP.bytes().0;
                write!(f, "memory map: {kind:?} region {start:#x}..{end:#x} is too high; RAM must end by {top:#x}")
            }
            Self::TooMany => {
                write!(f, "memory map: more than {CAPACITY} separate regions of RAM; at most that many are supported")
            }
            Self::TooSmall { found } => {
                let (found, least) = (found.0 / KIB, LEAST.0 / KIB);
                write!(f, "memory map: {found} KiB of RAM above 1 MiB; at least {least} KiB are needed")
            }
        }
    }
}

/// Sorted, disjoint, page-aligned regions of RAM above [`LOWEST`]; neighbours of one kind are joined.
#[derive(Clone)]
pub struct MemoryMap {
    regions: [Region; CAPACITY],
    len: usize,
}

impl MemoryMap {
    /// Checks and sorts `raw`. Empty regions are passed over. Takes time with the square of the regions: microseconds.
    ///
    /// # Errors
    /// If the map contradicts itself, does not fit, or holds less than [`LEAST`].
    pub fn new(raw: impl Iterator<Item = RawRegion> + Clone) -> Result<MemoryMap, MapError> {
        if raw.clone().next().is_none() {
            return Err(MapError::Empty);
        }
        let map = MemoryMap::sorted(raw)?;
        match map.bytes() {
            found if found < LEAST => Err(MapError::TooSmall { found }),
            _ => Ok(map),
        }
    }

    fn sorted(raw: impl Iterator<Item = RawRegion> + Clone) -> Result<MemoryMap, MapError> {
        let nothing = Region { start: PhysicalAddress(0), end: PhysicalAddress(0), kind: Kind::Reserved };
        let mut map = MemoryMap { regions: [nothing; CAPACITY], len: 0 };
        for region in raw.clone() {
            if region.start > region.end {
                return Err(MapError::Inverted(region));
            }
            if region.kind != Kind::Reserved && region.end > plan::DIRECT_MAP.bytes().0 as u64 {
                return Err(MapError::TooHigh(region));
            }
        }
        let of = |kind| raw.clone().filter(move |region| region.kind == kind && region.start < region.end);
        for usable in of(Kind::Usable) {
            map.paint(inward(usable), Kind::Usable)?;
        }
        for loader in of(Kind::Loader) {
            map.paint(outward(loader), Kind::Reserved)?;
            map.paint(inward(loader), Kind::Loader)?;
        }
        for reserved in of(Kind::Reserved) {
            map.paint(outward(reserved), Kind::Reserved)?;
        }
        map.paint((0, LOWEST), Kind::Reserved)?;
        Ok(map)
    }

    pub fn regions(&self) -> &[Region] {
        &self.regions[..self.len]
    }

    /// The RAM without regard to kind: neighbours joined, sorted.
    pub fn ram(&self) -> impl Iterator<Item = (PhysicalAddress, PhysicalAddress)> {
        self.regions().chunk_by(|a, b| a.end == b.start).map(|run| (run[0].start, run[run.len() - 1].end))
    }

    pub fn bytes(&self) -> Bytes {
        Bytes(self.ram().map(|(start, end)| (end.0 - start.0) as usize).sum())
    }

    /// Gives the pages from `start` to `end` to `kind`, whoever had them; [`Kind::Reserved`] takes them off the list.
    fn paint(&mut self, (start, end): (u64, u64), kind: Kind) -> Result<(), MapError> {
        if start >= end {
            return Ok(());
        }
        let (start, end) = (PhysicalAddress(start), PhysicalAddress(end));
        // All that overlap or touch [start, end) go, and their rests beside it come back.
        let from = self.regions().partition_point(|region| region.end < start);
        let to = self.regions().partition_point(|region| region.start <= end);
        let mut painted = Region { start, end, kind };
        let (mut before, mut after) = (None, None);
        if from < to {
            let (first, last) = (self.regions[from], self.regions[to - 1]);
            if first.start < start {
                match first.kind == kind {
                    true => painted.start = first.start,
                    false => before = Some(Region { end: first.end.min(start), ..first }),
                }
            }
            if last.end > end {
                match last.kind == kind {
                    true => painted.end = last.end,
                    false => after = Some(Region { start: last.start.max(end), ..last }),
                }
            }
        }
        let painted = (kind != Kind::Reserved).then_some(painted);
        let pieces = [before, painted, after];
        let count = pieces.iter().flatten().count();
        let len = self.len - (to - from) + count;
        if len > CAPACITY {
            return Err(MapError::TooMany);
        }
        self.regions.copy_within(to..self.len, from + count);
        for (place, piece) in self.regions[from..].iter_mut().zip(pieces.into_iter().flatten()) {
            *place = piece;
        }
        self.len = len;
        Ok(())
    }
}

/// The pages that lie wholly inside.
fn inward(region: RawRegion) -> (u64, u64) {
    (region.start.checked_next_multiple_of(FRAME_4K).unwrap_or(u64::MAX), region.end / FRAME_4K * FRAME_4K)
}

/// The pages that it touches; the last page of the address space is cut off, nobody has RAM there.
fn outward(region: RawRegion) -> (u64, u64) {
    (region.start / FRAME_4K * FRAME_4K, region.end.checked_next_multiple_of(FRAME_4K).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::random::{Random, seeds};
    use super::*;
    use std::{format, vec, vec::Vec};

    fn raw(start: u64, end: u64, kind: Kind) -> RawRegion {
        RawRegion { start, end, kind }
    }

    fn refused(regions: &[RawRegion]) -> std::string::String {
        match MemoryMap::new(regions.iter().copied()) {
            Ok(map) => panic!("accepted as {:x?}", map.regions()),
            Err(error) => {
                let line = format!("{error}");
                assert!(!line.contains('\n'), "{line:?} is one line");
                line
            }
        }
    }

    /// Page by page: what the painting must come to.
    fn model(regions: &[RawRegion], pages: u64) -> Vec<Option<Kind>> {
        let of = |kind| regions.iter().filter(move |region| region.kind == kind);
        (0..pages)
            .map(|page| (page * FRAME_4K, (page + 1) * FRAME_4K))
            .map(|(start, end)| {
                let inside = |region: &RawRegion| region.start <= start && end <= region.end;
                let touches =
                    |region: &RawRegion| region.start < region.end && region.start < end && start < region.end;
                if start < LOWEST || of(Kind::Reserved).any(touches) {
                    None
                } else if of(Kind::Loader).any(inside) {
                    Some(Kind::Loader)
                } else if of(Kind::Loader).any(touches) {
                    None
                } else {
                    of(Kind::Usable).any(inside).then_some(Kind::Usable)
                }
            })
            .collect()
    }

    #[test]
    fn any_regions_come_out_as_a_page_by_page_model_has_them() {
        for seed in seeds(300) {
            let mut random = Random(seed);
            let pages = 600;
            let regions: Vec<RawRegion> = (0..random.below(40))
                .map(|_| {
                    // Loader regions that only touch the same page are the one case where the order would matter.
                    let kind = [Kind::Usable, Kind::Usable, Kind::Loader, Kind::Reserved][random.below(4) as usize];
                    let unit = if kind == Kind::Loader || random.below(2) == 0 { FRAME_4K } else { 512 };
                    let start = random.below(pages * FRAME_4K / unit) * unit;
                    raw(start, (start + random.below(100) * unit).min(pages * FRAME_4K), kind)
                })
                .collect();
            let map = MemoryMap::sorted(regions.iter().copied()).expect("few regions, none inverted");
            let mut found = vec![None; pages as usize];
            for region in map.regions() {
                for page in region.start.0 / FRAME_4K..region.end.0 / FRAME_4K {
                    found[page as usize] = Some(region.kind);
                }
            }
            assert_eq!(found, model(&regions, pages), "seed {seed}");
            for pair in map.regions().windows(2) {
                let apart = pair[0].end < pair[1].start || pair[0].end == pair[1].start && pair[0].kind != pair[1].kind;
                assert!(apart, "seed {seed}: {pair:x?} are sorted and joined");
            }
        }
    }

    #[test]
    fn neighbours_are_joined_across_kinds_as_ram() {
        let (m, usable) = (MIB as u64, Kind::Usable);
        let regions = [raw(40 * m, 50 * m, usable), raw(20 * m, 30 * m, usable), raw(4 * m, 20 * m, Kind::Loader)];
        let map = MemoryMap::new(regions.into_iter()).expect("a sane map");
        assert_eq!(map.regions().len(), 3);
        let ram: Vec<_> = map.ram().map(|(start, end)| (start.0, end.0)).collect();
        assert_eq!(ram, [(4 * m, 30 * m), (40 * m, 50 * m)]);
        assert_eq!(map.bytes(), Bytes(36 * MIB));
    }

    #[test]
    fn a_bad_map_is_refused_in_one_line() {
        let top = plan::DIRECT_MAP.bytes().0 as u64;
        assert_eq!(refused(&[]), "memory map: no regions at all; at least one usable region is needed");
        assert!(refused(&[raw(0x5000, 0x4000, Kind::Reserved)]).contains("0x5000..0x4000 ends before it starts"));
        assert!(refused(&[raw(u64::MAX, 0, Kind::Usable)]).contains("ends before it starts"));
        assert!(refused(&[raw(0x100000, top + 1, Kind::Usable)]).contains("too high"));
        assert!(refused(&[raw(0, 64 << 20, Kind::Reserved)]).contains("0 KiB of RAM"));
        assert!(refused(&[raw(0x200000, 0x200000, Kind::Usable)]).contains("0 KiB of RAM"));
        assert!(refused(&[raw(0, 8 << 20, Kind::Usable)]).contains("7168 KiB of RAM above 1 MiB; at least 12288 KiB"));
        let scattered: Vec<_> = (0..1000).map(|i| raw((i + 1) << 20, ((i + 1) << 20) + 8192, Kind::Usable)).collect();
        assert!(refused(&scattered).contains("more than 256 separate regions"));
    }

    #[test]
    fn more_regions_than_the_capacity_are_fine_when_they_join() {
        let joined = (0..5000).rev().map(|i| raw(LOWEST + i * 8192, LOWEST + (i + 1) * 8192, Kind::Usable));
        assert_eq!(MemoryMap::new(joined).expect("one run").regions().len(), 1);
    }

    #[test]
    fn a_reserved_range_at_the_very_top_is_harmless() {
        let regions = [raw(0, 64 << 20, Kind::Usable), raw(u64::MAX - 5, u64::MAX, Kind::Reserved)];
        assert_eq!(MemoryMap::new(regions.into_iter()).expect("RAM enough").bytes(), Bytes(63 * MIB));
    }
}

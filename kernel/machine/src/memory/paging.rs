//! Our page tables: four levels, walked through the direct map, changed entry by entry with atomic operations.
//!
//! A fault handler enters pages without a lock while another CPU may be entering others, so an entry goes from absent to
//! present by compare-and-swap alone, and a table, once entered, stays: whoever walks may be standing in it. The one exception
//! is in [`super::commit`]: who takes back a whole 2 MiB owns these addresses, nobody else can be walking there, and the
//! lowest table goes too.
//!
//! SDM Vol. 3 §4.5 (formats), §4.10 (what the TLB remembers).

use super::frames::{FRAME_4K, FRAMES_PER_BLOCK, Frame2M, Frame4K, PhysicalAddress};
use super::plan;
use core::sync::atomic::{AtomicU64, Ordering::*};
use runtime::addr::{Address, Bytes, Range};
use x86_64::instructions::tlb;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
pub(super) const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 3 | 1 << 4; // PWT, PCD: strong uncacheable with the PAT of reset
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// A table entry restricts nothing; its leaves decide.
const TABLE: u64 = PRESENT | WRITABLE;

/// What may be done with a page. Writable and executable at once cannot be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    ReadExecute,
    Read,
    ReadWrite,
    /// Readable and writable, uncached: device registers.
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Access::ReadExecute => PRESENT,
            Access::Read => PRESENT | NO_EXECUTE,
            Access::ReadWrite => PRESENT | WRITABLE | NO_EXECUTE,
            Access::Device => PRESENT | WRITABLE | NO_EXECUTE | UNCACHED,
        }
    }
}

/// An entry as it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    pub(super) const ABSENT: Entry = Entry(0);

    pub(super) fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    pub(super) fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    pub(super) fn is_executable(self) -> bool {
        self.0 & NO_EXECUTE == 0
    }

    /// Whether it ends the walk: at level 1 all do, above those with the large bit.
    pub(super) fn is_leaf(self, level: u32) -> bool {
        level == 1 || self.0 & LARGE != 0
    }

    pub(super) fn address(self, level: u32) -> PhysicalAddress {
        PhysicalAddress(self.0 & FRAME & !((1 << shift(level)) - 1))
    }

    /// The table below a table entry.
    pub(super) fn table(self) -> &'static Table {
        table_at(Frame4K::at(PhysicalAddress(self.0 & FRAME)))
    }

    /// The leaf for the `index`th small page of this large one.
    pub(super) fn part(self, index: usize) -> Entry {
        Entry((self.0 & !LARGE) + index as u64 * FRAME_4K)
    }
}

/// A page of 512 entries, of any level.
#[repr(C, align(4096))]
pub(super) struct Table([AtomicU64; FRAMES_PER_BLOCK]);

impl Table {
    pub(super) fn slot(&self, address: Address, level: u32) -> &AtomicU64 {
        &self.0[address.0 >> shift(level) & (FRAMES_PER_BLOCK - 1)]
    }

    pub(super) fn slots(&self) -> &[AtomicU64; FRAMES_PER_BLOCK] {
        &self.0
    }

    /// Enters a small page into this table of level 1.
    ///
    /// # Panics
    /// As [`map_4k`].
    pub(super) fn enter(&self, page: Address, frame: Frame4K, access: Access) {
        let slot = self.slot(page, 1);
        let entered = slot.compare_exchange(0, frame.address().0 | access.bits(), AcqRel, Acquire);
        assert!(entered.is_ok(), "{page} is not mapped yet, found {:#x}", slot.load(Relaxed));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| slot.load(Acquire) == 0)
    }
}

/// The lowest address bit that an entry of `level` decides: 12, 21, 30, 39.
pub(super) const fn shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

/// Bytes under one entry of `level`.
pub(super) const fn span(level: u32) -> usize {
    1 << shift(level)
}

/// Where RAM is visible.
pub(super) fn direct(address: PhysicalAddress) -> Address {
    Address(plan::DIRECT_MAP.start.0 + address.0 as usize)
}

pub(super) fn table_at(frame: Frame4K) -> &'static Table {
    let table = direct(frame.address()).0 as *const Table;
    // SAFETY: callers pass frames of page tables only: RAM, so the direct map (the loader's, then ours) shows them; they are
    // read and written as atomics by everybody, the processor included, and freed only when nobody can be walking there.
    unsafe { &*table }
}

/// Makes a frame an empty table.
pub(super) fn clear(frame: Frame4K) -> &'static Table {
    let table = direct(frame.address()).0 as *mut Table;
    // SAFETY: the caller has just taken the frame from the allocator, so nothing else refers to it.
    unsafe { table.write_bytes(0, 1) };
    table_at(frame)
}

/// Where frames for tables come from: the allocator, or a CPU's reserve.
pub(super) trait TableFrames {
    fn take(&mut self) -> Option<Frame4K>;
    fn put_back(&mut self, frame: Frame4K);
}

/// The top of the tables in use; 0 before they are built.
#[unsafe(link_section = ".bss.runtime")]
static ROOT: AtomicU64 = AtomicU64::new(0);

pub(super) fn set_root(root: Frame4K) {
    ROOT.store(root.address().0, Release);
}

pub(super) fn root() -> Frame4K {
    Frame4K::at(PhysicalAddress(ROOT.load(Acquire)))
}

/// The leaf that `address` is mapped by under `root`, and its level.
pub(super) fn leaf(root: Frame4K, address: Address) -> Option<(Entry, u32)> {
    let mut table = table_at(root);
    for level in (1..=4).rev() {
        let entry = Entry(table.slot(address, level).load(Acquire));
        if !entry.is_present() {
            return None;
        }
        if entry.is_leaf(level) {
            return Some((entry, level));
        }
        table = entry.table();
    }
    None
}

/// Where `address` is in physical memory under `root`.
pub(super) fn translate(root: Frame4K, address: Address) -> Option<PhysicalAddress> {
    let (entry, level) = leaf(root, address)?;
    Some(PhysicalAddress(entry.address(level).0 + (address.0 & (span(level) - 1)) as u64))
}

/// How much of a range large pages map. A walk for each 2 MiB.
pub(super) fn on_large_pages(range: Range) -> Bytes {
    let starts = (range.start.align_up(span(2)).0..range.end.0).step_by(span(2));
    let large = starts.filter(|&at| leaf(root(), Address(at)).is_some_and(|(_, level)| level == 2));
    Bytes(large.count() * span(2))
}

/// How many tables `address` lacks for a 4 KiB page: 0 to 3, the lowest ones. A large page lacks none.
pub(super) fn tables_missing(address: Address) -> u32 {
    let mut table = table_at(root());
    for level in (2..=4).rev() {
        let entry = Entry(table.slot(address, level).load(Acquire));
        if !entry.is_present() {
            return level - 1;
        }
        if entry.is_leaf(level) {
            return 0;
        }
        table = entry.table();
    }
    0
}

/// The slot for `address` at `level`; tables that lack are made. `None` if `frames` has none for them.
pub(super) fn slot(address: Address, level: u32, frames: &mut dyn TableFrames) -> Option<&'static AtomicU64> {
    Some(table(address, level, frames)?.slot(address, level))
}

/// The table of `level` for `address`, as [`slot`].
pub(super) fn table(address: Address, level: u32, frames: &mut dyn TableFrames) -> Option<&'static Table> {
    let mut table = table_at(root());
    for above in (level + 1..=4).rev() {
        let slot = table.slot(address, above);
        let mut entry = Entry(slot.load(Acquire));
        if !entry.is_present() {
            let frame = frames.take()?;
            clear(frame);
            let made = Entry(frame.address().0 | TABLE);
            entry = match slot.compare_exchange(0, made.0, AcqRel, Acquire) {
                Ok(_) => made,
                Err(another) => {
                    frames.put_back(frame);
                    Entry(another)
                }
            };
        }
        assert!(!entry.is_leaf(above), "{address} is not mapped yet, found a large page there");
        table = entry.table();
    }
    Some(table)
}

/// Enters a small page. `None` if `frames` has none for the tables.
///
/// # Panics
/// If the page is there already: ranges are committed once.
pub(super) fn map_4k(page: Address, frame: Frame4K, access: Access, frames: &mut dyn TableFrames) -> Option<()> {
    table(page, 1, frames)?.enter(page, frame, access);
    Some(())
}

/// Enters a large page. `None` if `frames` has none for the tables. An empty table that small pages left is replaced.
///
/// # Panics
/// If any of it is there already.
pub(super) fn map_2m(page: Address, frame: Frame2M, access: Access, frames: &mut dyn TableFrames) -> Option<()> {
    let slot = slot(page, 2, frames)?;
    let old = Entry(slot.load(Acquire));
    let vacant = !old.is_present() || !old.is_leaf(2) && old.table().is_empty();
    let new = frame.address().0 | access.bits() | LARGE;
    let entered = vacant && slot.compare_exchange(old.0, new, AcqRel, Acquire).is_ok();
    assert!(entered, "2 MiB at {page} are not mapped yet, found {:#x}", old.0);
    if old.is_present() {
        flush(page, FRAMES_PER_BLOCK); // the processor may remember the table
        frames.put_back(Frame4K::at(old.address(1)));
    }
    Some(())
}

/// An entry that points to a table.
pub(super) fn table_entry(frame: Frame4K) -> Entry {
    Entry(frame.address().0 | TABLE)
}

/// Makes this CPU forget `pages` small pages from `start`. From some number on it is cheaper to forget everything: an INVLPG
/// costs 0.15 µs under QEMU, a reload 2 µs.
pub(super) fn flush(start: Address, pages: usize) {
    if pages > 32 {
        return tlb::flush_all();
    }
    for page in 0..pages {
        tlb::flush(x86_64::VirtAddr::new((start.0 + page * FRAME_4K as usize) as u64));
    }
}

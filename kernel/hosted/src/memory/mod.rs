//! Memory of the process: ranges of addresses that Linux puts pages behind.
//!
//! ```text
//!   below 0x0000_0100_0000      image: an executable that is not position-independent
//!   0x0100_0000_0000    2 TiB   heap arenas, in huge pages where Linux has them
//!   0x0300_0000_0000    1 TiB   the runtime's tables and pools, what is committed, the CPUs' stacks
//!   0x0400_0000_0000   66 TiB   thread stacks: a million of 64 MiB
//!   above                       libraries, the process's first stack
//! ```
//!
//! - *Reserved* is a mapping that may not be touched and that Linux does not count (`MAP_NORESERVE`); addresses cost nothing.
//! - *Committed* is readable and writable. Linux puts a page behind it at the first touch; we count it at once, against a
//!   [budget](set_up), so that memory runs out here as it does on a machine.
//! - Neighbours that may be touched alike are one mapping to Linux, which allows 65,530 (`vm.max_map_count`). A stack needs two, one that
//!   may be touched and one that may not; the heap grows in one piece.
//!
//! Nothing here takes a lock once the runtime runs, for stacks are committed in signal handlers.

mod huge;
mod image;

pub(crate) use huge::on_huge_pages;
pub(crate) use image::{image, static_roots, text, unwind_tables};

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering::Relaxed};

use libc::{
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE,
};
use runtime::addr::{Address, Bytes, GIB, KIB, Range};
use runtime::platform::OutOfFrames;
use spin::Once;

use crate::console::report;

const PAGE: usize = 4 * KIB;
const TIB: usize = 1024 * GIB;

/// A part of the address space that is handed out from its start upward and never taken back.
struct Zone {
    name: &'static str,
    range: Range,
    used: AtomicUsize,
    /// For madvise.
    advice: libc::c_int,
}

const fn zone(name: &'static str, start: usize, bytes: usize, advice: libc::c_int) -> Zone {
    Zone { name, range: Range::new(Address(start), Bytes(bytes)), used: AtomicUsize::new(0), advice }
}

#[unsafe(link_section = ".data.runtime")]
static HEAP: Zone = zone("heap arenas", 0x0100_0000_0000, 2 * TIB, libc::MADV_HUGEPAGE);
#[unsafe(link_section = ".data.runtime")]
static TABLES: Zone = zone("tables and pools", 0x0300_0000_0000, TIB, libc::MADV_NORMAL);
/// Deep stacks are rare, and a page costs less than a huge one.
#[unsafe(link_section = ".data.runtime")]
static STACKS: Zone = zone("thread stacks", 0x0400_0000_0000, 66 * TIB, libc::MADV_NOHUGEPAGE);

/// All that may be committed.
const ALL: Range = Range::new(Address(0x0100_0000_0000), Bytes(69 * TIB));

/// Memory that may still be committed, in bytes. Below zero growth faults have taken of the reserve.
#[unsafe(link_section = ".bss.runtime")]
static FREE: AtomicIsize = AtomicIsize::new(0);
/// As much as a CPU of the machine keeps for growth faults: a thread that has met the end of memory has a stack to unwind on.
const RESERVE: usize = 96 * PAGE;
/// A bit for each page of [`ALL`]. Linux puts memory behind those words alone that are touched.
#[unsafe(link_section = ".bss.runtime")]
static COMMITTED: Once<&'static [AtomicU64]> = Once::new();

/// The parts of the address space by name, in order of address.
pub(crate) fn address_plan() -> &'static [(&'static str, Range)] {
    #[unsafe(link_section = ".bss.runtime")]
    static PARTS: Once<[(&str, Range); 4]> = Once::new();
    PARTS.call_once(|| {
        let [heap, tables, stacks] = [&HEAP, &TABLES, &STACKS].map(|zone| (zone.name, zone.range));
        [("image", image()), heap, tables, stacks]
    })
}

/// From now on so much may be committed.
pub(crate) fn set_up(budget: Bytes) -> Result<(), &'static str> {
    let words = ALL.bytes().0 / PAGE / 64;
    let bits =
        TABLES.take(Bytes(words * 8), PAGE).ok_or("the address space has no room: is there a limit (ulimit -v)?")?;
    if !protect(bits, PROT_READ | PROT_WRITE) {
        return Err("Linux commits no addresses beyond its memory: vm.overcommit_memory must be 0 or 1");
    }
    // SAFETY: mapped, zero, nobody else's, for ever.
    COMMITTED.call_once(|| unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(bits.start.0), words) });
    FREE.store(budget.0 as isize, Relaxed);
    Ok(())
}

impl Zone {
    /// Maps the next `bytes` of the zone. Boot only: one at a time.
    fn take(&self, bytes: Bytes, align: usize) -> Option<Range> {
        let start = self.range.start.plus(Bytes(self.used.load(Relaxed))).align_up(align);
        if bytes.0 > self.range.end.0.checked_sub(start.0)? {
            return None;
        }
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        // SAFETY: a new mapping where there is none.
        let got = unsafe { libc::mmap(ptr::without_provenance_mut(start.0), bytes.0, PROT_NONE, flags, -1, 0) };
        if got == MAP_FAILED || got.expose_provenance() != start.0 {
            return None;
        }
        // SAFETY: advice changes no contents. Linux may refuse it: then pages are as large as they are.
        unsafe { libc::madvise(got, bytes.0, self.advice) };
        let range = Range::new(start, bytes);
        self.used.store(range.end.0 - self.range.start.0, Relaxed);
        Some(range)
    }
}

/// Addresses for the runtime. Where they lie goes by size alone, as on the machine.
pub(crate) fn reserve(bytes: Bytes, align: usize) -> Option<Range> {
    let zone = if bytes.0 > TIB {
        &STACKS
    } else if bytes.0 >= 256 * GIB {
        &HEAP
    } else {
        &TABLES
    };
    zone.take(bytes, align)
}

/// Makes a reserved range memory. Handlers call it too.
pub(crate) fn commit(range: Range) -> Result<(), OutOfFrames> {
    commit_with(0, range)
}

/// [`commit`] for a growth fault, which may take of the reserve.
pub(crate) fn grow_in_fault(range: Range) -> Result<(), OutOfFrames> {
    commit_with(RESERVE, range)
}

fn commit_with(reserve: usize, range: Range) -> Result<(), OutOfFrames> {
    let bytes = (range.bytes().0 - committed_bytes(range)) as isize;
    let least = -(reserve as isize);
    FREE.try_update(Relaxed, Relaxed, |free| Some(free - bytes).filter(|left| *left >= least || bytes == 0))
        .map_err(|_| OutOfFrames { left: free_memory() })?;
    if !protect(range, PROT_READ | PROT_WRITE) {
        FREE.fetch_add(bytes, Relaxed);
        explain();
        return Err(OutOfFrames { left: free_memory() });
    }
    for_each_word(range, |word, mask| _ = word.fetch_or(mask, Relaxed));
    Ok(())
}

/// Gives the memory back; what of the range is none is passed over. `false`: where Linux refuses another mapping the pages are gone, but
/// their addresses stay as they are, and count.
///
/// # Safety
/// Nobody uses what is there.
pub(crate) unsafe fn decommit(range: Range) -> bool {
    let bytes = committed_bytes(range);
    let start = ptr::with_exposed_provenance_mut(range.start.0);
    // SAFETY: the range is ours, and the caller's promise.
    let is_zero = unsafe { libc::madvise(start, range.bytes().0, libc::MADV_DONTNEED) } == 0;
    assert!(is_zero, "Linux takes all pages back that nobody has locked");
    // The heap stays as it may be touched: holes in it would be mappings, and nobody grows it by touching.
    let is_taken_back = HEAP.range.contains(range.start) || protect(range, PROT_NONE);
    if is_taken_back {
        for_each_word(range, |word, mask| _ = word.fetch_and(!mask, Relaxed));
        FREE.fetch_add(bytes as isize, Relaxed);
    }
    is_taken_back
}

pub(crate) fn free_memory() -> Bytes {
    Bytes(FREE.load(Relaxed).max(0) as usize)
}

/// A whole file, for ever, if it can be read and is not empty.
pub(crate) fn map_file(path: &CStr) -> Option<&'static [u8]> {
    // SAFETY: all zero is a value of it.
    let mut status: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the path is a string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    // SAFETY: `status` outlives the call.
    if unsafe { libc::fstat(file, &raw mut status) } != 0 {
        return None;
    }
    let bytes = status.st_size as usize;
    // SAFETY: a new mapping. Nobody changes the file meanwhile.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, PROT_READ, MAP_PRIVATE, file, 0) };
    // SAFETY: it is as long as the file was.
    (start != MAP_FAILED).then(|| unsafe { core::slice::from_raw_parts(start.cast(), bytes) })
}

/// Whether an address is memory of the runtime's, or of the executable.
pub(crate) fn is_readable(address: Address) -> bool {
    let page = Range::new(address.align_down(PAGE), Bytes(PAGE));
    ALL.contains(address) && committed_bytes(page) != 0 || image::is_loaded(address)
}

/// A new stack of `bytes` (whole pages) for a CPU. The page below it is never touched. Never freed.
pub(crate) fn cpu_stack(bytes: Bytes) -> Option<Range> {
    let with_guard = TABLES.take(Bytes(bytes.0 + PAGE), PAGE)?;
    let stack = Range { start: with_guard.start.plus(Bytes(PAGE)), end: with_guard.end };
    commit(stack).ok().map(|()| stack)
}

fn protect(range: Range, access: libc::c_int) -> bool {
    let start = ptr::with_exposed_provenance_mut(range.start.0);
    // SAFETY: the range is ours: reserved, and what becomes inaccessible is decommitted.
    unsafe { libc::mprotect(start, range.bytes().0, access) == 0 }
}

fn committed_bytes(range: Range) -> usize {
    let mut pages = 0;
    for_each_word(range, |word, mask| pages += (word.load(Relaxed) & mask).count_ones() as usize);
    pages * PAGE
}

/// The bitmap's words of a range's pages, each with the bits that are meant.
fn for_each_word(range: Range, mut f: impl FnMut(&AtomicU64, u64)) {
    let words = COMMITTED.get().expect("the bring-up has mapped it");
    let number = |address: Address| (address.0 - ALL.start.0) / PAGE;
    let (first, end) = (number(range.start), number(range.end));
    for word in first / 64..end.div_ceil(64) {
        let from = !0 << first.saturating_sub(word * 64);
        let to = !0 >> (64 - (end - word * 64).min(64));
        f(&words[word], from & to);
    }
}

/// Says why Linux refused memory that the budget allows, once.
fn explain() {
    #[unsafe(link_section = ".bss.runtime")]
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Relaxed) {
        report!(
            "hosted: Linux refuses memory: either it has none left, or this process has its vm.max_map_count mappings, \
             two for each stack (sudo sysctl vm.max_map_count=1000000)"
        );
    }
}

//! Committing ranges and taking them back: where frames and page tables meet.
//!
//! **The lock.** One spin lock guards the frames. It is held with interrupts off on this CPU ([`with_frames`]), for at most the
//! pages of 2 MiB, so no handler can ever find it held by the code that it interrupted. The callers' stacks are grown already
//! (they are in no-safepoint sections), so no growth fault comes inside.
//!
//! **The reserve.** A page fault that grows a stack may come while another CPU holds the lock, so it takes frames and table
//! pages from its CPU's own reserve, and asks the lock only by `try_lock`, to fill the reserve up again.
//!
//! **Invalidating.** There is one CPU: pages are flushed from its TLB before the lock is given back, so a frame is never handed out while
//! a stale entry leads to it. With more CPUs the frames have to wait until all have passed the epoch of the unmap.

use super::frames::{FRAME_2M, FRAME_4K, FRAMES_PER_BLOCK, Frame2M, Frame4K, Frames, PhysicalAddress};
use super::paging::{self, Access, Entry, TableFrames, span};
use core::sync::atomic::{AtomicUsize, Ordering::*};
use runtime::addr::{Address, Bytes, Range};
use runtime::platform::OutOfFrames;
use spin::mutex::SpinMutex;
use x86_64::instructions::interrupts::without_interrupts;

const PAGE: usize = FRAME_4K as usize;
const LARGE_PAGE: usize = FRAME_2M as usize;

/// The most pages that one growth fault commits: 256 KiB.
pub const MOST_IN_FAULT: usize = 64;

/// Frames in a full reserve: one growth with all the tables that it could need, and then half of another.
const RESERVE: usize = 96;

/// CPUs with a reserve.
const CPUS: usize = 1;

#[unsafe(link_section = ".bss.runtime")]
static FRAMES: SpinMutex<Option<Frames<'static>>> = SpinMutex::new(None);

/// [`Frames::free_bytes`] after the last change, for readers that cannot wait for the lock.
#[unsafe(link_section = ".bss.runtime")]
static FREE_BYTES: AtomicUsize = AtomicUsize::new(0);

#[unsafe(link_section = ".bss.runtime")]
static RESERVES: [SpinMutex<Reserve>; CPUS] =
    [const { SpinMutex::new(Reserve { frames: [None; RESERVE], len: 0 }) }; CPUS];

/// Frames that a CPU has put by for its page faults.
struct Reserve {
    frames: [Option<Frame4K>; RESERVE],
    len: usize,
}

impl Reserve {
    fn fill(&mut self, frames: &mut Frames) {
        while self.len < RESERVE
            && let Some(frame) = small(frames)
        {
            self.put_back(frame);
        }
        FREE_BYTES.store(frames.free_bytes().0, Relaxed);
    }
}

impl TableFrames for Reserve {
    fn take(&mut self) -> Option<Frame4K> {
        self.len = self.len.checked_sub(1)?;
        self.frames[self.len].take()
    }

    fn put_back(&mut self, frame: Frame4K) {
        self.frames[self.len] = Some(frame);
        self.len += 1;
    }
}

impl TableFrames for Frames<'_> {
    fn take(&mut self) -> Option<Frame4K> {
        small(self)
    }

    fn put_back(&mut self, frame: Frame4K) {
        self.free_4k(frame);
    }
}

fn small(frames: &mut Frames) -> Option<Frame4K> {
    #[cfg(feature = "switch-off")]
    if refuse::refuses() {
        return None;
    }
    frames.alloc_4k()
}

fn large(frames: &mut Frames) -> Option<Frame2M> {
    #[cfg(feature = "switch-off")]
    if refuse::is_on() {
        return None;
    }
    frames.alloc_2m()
}

/// Frames refused on purpose. Meanwhile all are small ones, so that each can be the one that is missing.
#[cfg(feature = "switch-off")]
pub mod refuse {
    use super::{AtomicUsize, Relaxed};

    #[unsafe(link_section = ".bss.runtime")]
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    #[unsafe(link_section = ".bss.runtime")]
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    #[unsafe(link_section = ".bss.runtime")]
    static END: AtomicUsize = AtomicUsize::new(0);

    /// From now on: of the requests for a frame, counted from 1, those in `numbers` are refused.
    pub fn requests(numbers: core::ops::Range<usize>) {
        ASKED.store(0, Relaxed);
        FIRST.store(numbers.start, Relaxed);
        END.store(numbers.end, Relaxed);
    }

    /// No more. How many requests there were.
    pub fn stop() -> usize {
        END.store(0, Relaxed);
        ASKED.load(Relaxed)
    }

    pub(super) fn is_on() -> bool {
        END.load(Relaxed) != 0
    }

    pub(super) fn refuses() -> bool {
        let number = ASKED.fetch_add(1, Relaxed) + 1;
        is_on() && (FIRST.load(Relaxed)..END.load(Relaxed)).contains(&number)
    }
}

pub(super) fn set_frames(frames: Frames<'static>) {
    *FRAMES.lock() = Some(frames);
    with_frames(|_| ());
}

/// Runs `action` with the frames, locked, interrupts off.
pub(super) fn with_frames<R>(action: impl FnOnce(&mut Frames<'static>) -> R) -> R {
    without_interrupts(|| {
        let mut locked = FRAMES.lock();
        let frames = locked.as_mut().expect("take_over has set the frames up");
        let result = action(frames);
        FREE_BYTES.store(frames.free_bytes().0, Relaxed);
        result
    })
}

/// The frames that CPUs have put by for page faults.
pub(super) fn reserved() -> impl Iterator<Item = Frame4K> {
    RESERVES.each_ref().map(|reserve| reserve.lock().frames).into_iter().flatten().flatten()
}

/// Memory that is in no use at all. Takes no lock.
pub fn free_memory() -> Bytes {
    Bytes(FREE_BYTES.load(Relaxed))
}

fn out_of_frames() -> OutOfFrames {
    OutOfFrames { left: free_memory() }
}

/// [`runtime::platform::Platform::commit`]. 4 MiB of aligned range and whole frames are two stores.
pub fn commit(range: Range) -> Result<(), OutOfFrames> {
    commit_with(large, range)
}

/// [`runtime::platform::Platform::commit_small`]. A store for each page.
pub fn commit_small(range: Range) -> Result<(), OutOfFrames> {
    commit_with(|_| None, range)
}

fn commit_with(large: fn(&mut Frames) -> Option<Frame2M>, range: Range) -> Result<(), OutOfFrames> {
    assert_pages(range);
    let mut at = range.start;
    while at < range.end {
        if with_frames(|frames| commit_step(frames, large, &mut at, range.end)).is_none() {
            // SAFETY: committed a few lines above, and nobody has been told.
            unsafe { decommit(Range { start: range.start, end: at }) };
            return Err(out_of_frames());
        }
    }
    Ok(())
}

/// Commits one large page, if there is a frame for it, or small ones up to the next 2 MiB; `at` follows what is done.
fn commit_step(
    frames: &mut Frames,
    large: fn(&mut Frames) -> Option<Frame2M>,
    at: &mut Address,
    end: Address,
) -> Option<()> {
    let next = step_end(*at, end);
    if next.0 - at.0 == LARGE_PAGE
        && let Some(frame) = large(frames)
    {
        if paging::map_2m(*at, frame, Access::ReadWrite, frames).is_none() {
            frames.free_2m(frame);
            return None;
        }
        *at = next;
        return Some(());
    }
    let table = paging::table(*at, 1, frames)?;
    while *at < next {
        table.enter(*at, small(frames)?, Access::ReadWrite);
        *at = Address(at.0 + PAGE);
    }
    Some(())
}

/// [`runtime::platform::Platform::decommit`]. Costs by what is committed: absent tables are stepped over whole.
///
/// # Safety
/// The range is the caller's, and nobody uses what is in it any more.
pub unsafe fn decommit(range: Range) {
    assert_pages(range);
    let mut at = range.start;
    while at < range.end {
        at = match absent_from(at) {
            Some(next) => next,
            None => {
                let next = step_end(at, range.end);
                with_frames(|frames| decommit_step(frames, Range { start: at, end: next }));
                next
            }
        };
    }
}

/// [`runtime::platform::Platform::on_huge_pages`].
pub fn on_large_pages(range: Range) -> Bytes {
    // Locked: no table goes away under the walk.
    with_frames(|_| paging::on_large_pages(range))
}

/// The next address that could be mapped, if the table that `at` would be in is missing.
fn absent_from(at: Address) -> Option<Address> {
    match paging::tables_missing(at) {
        0 => None,
        missing => Some(Address((at.0 & !(span(missing + 1) - 1)).saturating_add(span(missing + 1)))),
    }
}

/// Takes back `range`, which lies within 2 MiB that have a table or are a large page.
fn decommit_step(frames: &mut Frames, range: Range) {
    let pages = range.bytes().0 / PAGE;
    let whole = pages == FRAMES_PER_BLOCK;
    let slot = paging::slot(range.start, 2, frames).expect("the tables above are there");
    let entry = Entry(slot.load(Acquire));
    if entry.is_leaf(2) {
        let frame = Frame2M::at(entry.address(2));
        if whole {
            slot.store(Entry::ABSENT.0, Release);
            paging::flush(range.start, 1);
            return frames.free_2m(frame);
        }
        // The rest goes on as small pages. Their table takes a frame that has just become free, so this cannot fail.
        let first = range.start.0 % LARGE_PAGE / PAGE;
        let part = |index: usize| Frame4K::at(PhysicalAddress(frame.address().0 + (index * PAGE) as u64));
        let table = paging::clear(part(first));
        for (index, slot) in
            table.slots().iter().enumerate().filter(|(index, _)| !(first..first + pages).contains(index))
        {
            slot.store(entry.part(index).0, Relaxed);
        }
        slot.store(paging::table_entry(part(first)).0, Release);
        paging::flush(range.start, FRAMES_PER_BLOCK);
        return (first + 1..first + pages).for_each(|index| frames.free_4k(part(index)));
    }
    let table = entry.table();
    for page in (range.start.0..range.end.0).step_by(PAGE) {
        let slot = table.slot(Address(page), 1);
        let old = Entry(slot.load(Relaxed));
        if old.is_present() {
            slot.store(Entry::ABSENT.0, Release);
            frames.free_4k(Frame4K::at(old.address(1)));
        }
    }
    if whole {
        slot.store(Entry::ABSENT.0, Release);
        frames.free_4k(Frame4K::at(entry.address(1)));
    }
    paging::flush(range.start, pages);
}

/// [`runtime::platform::Platform::grow_in_fault`], for at most [`MOST_IN_FAULT`] pages. Takes no lock that could be held: the
/// reserve belongs to this CPU.
///
/// # Panics
/// On a range that is longer, or partly committed.
pub(crate) fn grow_in_fault(range: Range) -> Result<(), OutOfFrames> {
    assert_pages(range);
    let pages = range.bytes().0 / PAGE;
    assert!(pages <= MOST_IN_FAULT, "a growth fault commits at most {MOST_IN_FAULT} pages, found {pages}");
    let Some(mut reserve) = this_cpu().try_lock() else {
        return Err(out_of_frames());
    };
    let needed = pages + tables_needed(range);
    if reserve.len < needed {
        top_up(&mut reserve);
    }
    if reserve.len < needed {
        return Err(out_of_frames());
    }
    for page in (range.start.0..range.end.0).step_by(PAGE) {
        let frame = reserve.take().expect("the reserve was counted");
        let mapped = paging::map_4k(Address(page), frame, Access::ReadWrite, &mut *reserve);
        mapped.expect("the reserve was counted with the tables");
    }
    top_up(&mut reserve);
    Ok(())
}

/// Fills this CPU's reserve as far as there are frames. Not for handlers: they may have interrupted it.
pub fn refill_reserve() {
    without_interrupts(|| {
        let mut reserve = this_cpu().lock();
        if reserve.len < RESERVE {
            with_frames(|frames| reserve.fill(frames));
        }
    });
}

/// Fills the reserve if nobody holds the frames just now.
fn top_up(reserve: &mut Reserve) {
    if let Some(mut frames) = FRAMES.try_lock() {
        reserve.fill(frames.as_mut().expect("take_over has set the frames up"));
    }
}

fn this_cpu() -> &'static SpinMutex<Reserve> {
    &RESERVES[0]
}

/// How many tables a range of less than 2 MiB lacks: those of its first page, and those of its last that are not the same.
fn tables_needed(range: Range) -> usize {
    let (first, last) = (range.start, Address(range.end.0 - PAGE));
    let apart = |level: u32| first.0 / span(level + 1) != last.0 / span(level + 1);
    let beside = (1..=paging::tables_missing(last)).filter(|&level| apart(level)).count();
    paging::tables_missing(first) as usize + beside
}

/// The next multiple of 2 MiB, or `end` if that is nearer.
fn step_end(at: Address, end: Address) -> Address {
    Address((at.0 & !(LARGE_PAGE - 1)).saturating_add(LARGE_PAGE)).min(end)
}

fn assert_pages(range: Range) {
    let pages = range.start <= range.end && range.start.is_aligned(PAGE) && range.end.is_aligned(PAGE);
    assert!(pages, "a range of whole pages is expected, found {range:?}");
}

//! Memory of free pages goes back to the platform. Go: mgcscavenge.go.
//!
//! Pages stay the heap's, with a bit that says that nothing is behind them; who takes them has them committed first. Released are
//! the highest pages first, for the lowest are the next to be taken.
//!
//! Who has time releases whole huge pages only: an empty one costs nothing to unmap and to map again, while a piece of one would leave the
//! rest of it in small pages. Where all are small it releases as much at a time. Who needs memory within a limit takes the pieces too, once
//! there is no whole one; want of memory takes everything.

use super::Heap;
use super::find_object::SpanMap;
use super::page_heap::PageHeap;
use super::pages::Run;
use crate::addr::{Bytes, Pages};
use crate::platform::Platform;

/// What may be released.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Portion {
    /// A huge page.
    Huge,
    /// Any run of pages, at most a chunk.
    Any,
}

impl Heap {
    /// Releases the highest such portion of free pages below page `end` that has memory, and returns how much that was; `end` is then its
    /// first. `None`: there is no more. Takes the page heap's lock and, for as long as the platform takes for 4 MiB, its.
    pub(crate) fn release_below(&self, end: &mut usize, portion: Portion) -> Option<Bytes> {
        let run = self.page_heap.lock().take_releasable(*end, portion)?;
        *end = run.first;
        // Without the page heap's lock: the pages are in use meanwhile.
        self.map.decommit(self.platform(), run);
        self.page_heap.lock().pages.give_back_released(run);
        Some(Pages(run.with_memory).bytes())
    }

    /// From now on the heap takes no memory while the platform has less than this, as long as it can release other.
    pub(crate) fn set_least_free(&self, least_free: Bytes) {
        self.page_heap.lock().least_free = least_free;
    }
}

impl PageHeap {
    fn take_releasable(&mut self, end: usize, portion: Portion) -> Option<Run> {
        match portion {
            Portion::Huge => self.pages.take_releasable_huge(end),
            Portion::Any => self.pages.take_releasable(end),
        }
    }

    /// Releases as much as the memory limit demands of whom needs so much more.
    pub(super) fn make_way(&mut self, platform: &dyn Platform, map: &SpanMap, bytes: Bytes) {
        while platform.free_memory().0 < self.least_free.0 + bytes.0 {
            let [huge, any] = [Portion::Huge, Portion::Any];
            let run = self.take_releasable(usize::MAX, huge).or_else(|| self.take_releasable(usize::MAX, any));
            let Some(run) = run else { return };
            map.decommit(platform, run);
            self.pages.give_back_released(run);
        }
    }
}

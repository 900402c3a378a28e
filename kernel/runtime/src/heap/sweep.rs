//! Sweeping: what the marks say becomes what is allocated. Go: mgcsweep.go, which sweeps span by span beside the
//! program; here it is all of them at once, while the world is stopped and every cache has been flushed.

use super::span::State;
use super::{Heap, Span};
use crate::addr::Bytes;
use core::sync::atomic::Ordering::Relaxed;

/// What a sweep found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Swept {
    pub(crate) live_bytes: Bytes,
    pub(crate) live_objects: usize,
    pub(crate) freed_bytes: Bytes,
    pub(crate) freed_objects: usize,
    /// Spans whose pages went back to the page heap.
    pub(crate) freed_spans: usize,
}

impl Heap {
    /// Frees every object that is not marked, gives the pages of empty spans back, clears all marks, and starts
    /// [`live`](Heap::live) anew from what is left. O(spans).
    ///
    /// For a stopped world whose caches have been flushed.
    pub(crate) fn sweep_all(&self) -> Swept {
        let mut swept = Swept::default();
        self.centrals.iter().for_each(|central| central.clear());
        // A span's class is locked within the page heap's lock; nobody locks the other way round.
        let mut page_heap = self.page_heap.lock();
        for span in page_heap.spans.all() {
            if !span.is_open() {
                continue;
            }
            let state = span.state();
            assert!(state != State::Cached, "caches are flushed before a sweep");
            if self.clobbers() {
                span.clobber_unmarked();
            }
            let slots = span.sweep();
            let bytes = span.slot_bytes().0;
            swept.live_objects += slots.live;
            swept.live_bytes.0 += slots.live * bytes;
            swept.freed_objects += slots.freed;
            swept.freed_bytes.0 += slots.freed * bytes;
            if slots.live == 0 {
                page_heap.free(&self.map, span);
                swept.freed_spans += 1;
            } else if state == State::Central {
                self.central(span.class()).put(span);
            }
        }
        self.live.store(swept.live_bytes.0, Relaxed);
        swept
    }

    /// Forgets all marks, for a cycle that is given up.
    pub(crate) fn clear_marks(&self) {
        self.spans().for_each(Span::clear_marks);
    }
}

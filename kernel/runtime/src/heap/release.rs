//! Memory of free pages goes back to the platform. Go: mgcscavenge.go.
//!
//! Pages stay the heap's, with a bit that says that nothing is behind them; who takes them has them committed again first. Released are
//! the highest pages first, for the lowest are the next to be taken. The platform's work is done without the page heap's lock: the pages
//! are in use meanwhile.

use super::Heap;
use crate::addr::{Bytes, Pages};

impl Heap {
    /// Releases the highest run of free pages below page `end` that has memory, at most a chunk, and returns how long it is; `end` is then its
    /// first. `None`: there is no more. Takes the page heap's lock and, for as long as the platform takes for 4 MiB, its.
    pub(crate) fn release_below(&self, end: &mut usize) -> Option<Bytes> {
        let (first, pages) = self.page_heap.lock().pages.take_releasable(*end)?;
        *end = first;
        self.platform().decommit(self.map.range(first, Pages(pages)));
        self.map.add_released(Pages(pages));
        let mut page_heap = self.page_heap.lock();
        page_heap.pages.set_released(first, pages, true);
        page_heap.pages.give_back(first, pages);
        Some(Pages(pages).bytes())
    }
}

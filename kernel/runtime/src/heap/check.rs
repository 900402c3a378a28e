//! What must hold of a heap at rest. Slow and obviously right: for tests, and for the verifier.

use super::span::State;
use super::{Heap, Span, SpanClass};
use crate::addr::{Address, PAGE};
use core::fmt;

/// An invariant that does not hold, and the span or page where that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) at: Address,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.invariant, self.at)
    }
}

fn ensure(holds: bool, invariant: &'static str, at: Address) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { invariant, at }) }
}

impl Heap {
    /// Checks that every page is free or in exactly one span, that the tables and the bits say so, that every span is
    /// where its state says, and that the accounts are right. O(pages). Nobody allocates meanwhile.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        let page_heap = self.page_heap.lock();
        let (mut pages, mut bytes, mut central) = (0, 0, 0);
        for span in page_heap.spans.all().filter(|span| span.state() != State::Free) {
            let first = page_heap.arenas.page_number(span.base());
            for page in first..first + span.pages().0 {
                let at = page_heap.arenas.page(page);
                ensure(page_heap.pages.is_used(page), "a span's pages are in use", at)?;
                let owner = self.map.owner(at.0);
                ensure(owner.is_some_and(|owner| core::ptr::eq(owner, span)), "a page is its span's alone", at)?;
            }
            pages += span.pages().0;
            bytes += self.check_span(span)?;
            central += usize::from(span.state() == State::Central);
        }
        let at = page_heap.arenas.page(0);
        let unused = page_heap.spans.all().filter(|span| span.state() == State::Free).count();
        ensure(unused == page_heap.spans.given_back(), "every record is a span or waits in its pool", at)?;
        ensure(pages == page_heap.pages.used(), "every page in use is in a span", at)?;
        ensure(pages == page_heap.arenas.owned(), "only pages in use have an owner", at)?;
        ensure(pages == page_heap.in_use.0, "pages in use are counted", at)?;
        ensure(bytes == self.live().0, "live bytes are counted", at)?;
        ensure(self.map.length() == page_heap.committed(), "all pages are found", at)?;
        for index in 0..SpanClass::COUNT as u8 {
            let class = SpanClass::from_index(index);
            let belongs = |span: &'static Span| span.state() == State::Central && span.class() == class;
            match self.central(class).check(belongs) {
                Ok(listed) => central -= listed,
                Err(span) => ensure(false, "a listed span is in the list for its state", span.base())?,
            }
        }
        ensure(central == 0, "every span that is in no cache is in one list", at)
    }

    /// The bytes that a span counts for: a cached one with all its slots.
    fn check_span(&self, span: &'static Span) -> Result<usize, Broken> {
        let free = span.slots() as usize - span.allocated().count();
        ensure(free == span.free_slots(), "free slots are counted", span.base())?;
        ensure(free == 0 || span.state() != State::Large, "a large span is allocated", span.base())?;
        let fits = span.slots() as usize * span.slot_bytes().0 <= span.pages().0 * PAGE.0;
        ensure(fits, "slots end before their span", span.base())?;
        ensure(span.marked().all(|object| object.is_allocated()), "only objects are marked", span.base())?;
        let counted = if span.state() == State::Cached { span.slots() as usize } else { span.slots() as usize - free };
        Ok(counted * span.slot_bytes().0)
    }
}

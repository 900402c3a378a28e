//! References that the marker has met and not followed yet, while the processor fetches what they lead to. Go's marker
//! asks for an object when it goes on its queue (`greyobject`); OCaml's has a ring as this one is (major_gc.c,
//! `prefetch_buffer`).
//!
//! To follow a reference at once is to wait for memory three times: for its span's record, for the marks, for the object. So it waits here,
//! first in, first out, until some dozens of others have been met. By then all of it has come, and the waits of all were one.

use crate::heap::{EMPTY, Span};

/// More than a processor fetches at a time, few enough that what came first is still in its nearest cache.
const LENGTH: usize = 64;

/// A word that points into a span, and where it was read.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    pub(super) word: usize,
    pub(super) place: usize,
    pub(super) span: &'static Span,
}

/// A ring. Three arrays, for then the index needs no multiplication.
pub(super) struct Ahead {
    words: [usize; LENGTH],
    places: [usize; LENGTH],
    spans: [&'static Span; LENGTH],
    /// The next one goes there; when the ring is full, the oldest is there.
    next: usize,
    count: usize,
}

impl Ahead {
    pub(super) const fn new() -> Ahead {
        Ahead { words: [0; LENGTH], places: [0; LENGTH], spans: [&EMPTY; LENGTH], next: 0, count: 0 }
    }

    /// Takes `edge` in; gives back the oldest if there is no room for both.
    #[inline(always)]
    pub(super) fn exchange(&mut self, edge: Edge) -> Option<Edge> {
        let at = self.next % LENGTH;
        let oldest = self.edge(at);
        self.words[at] = edge.word;
        self.places[at] = edge.place;
        self.spans[at] = edge.span;
        self.next = self.next.wrapping_add(1);
        if self.count == LENGTH {
            return Some(oldest);
        }
        self.count = self.count.wrapping_add(1);
        None
    }

    /// The oldest.
    #[inline(always)]
    pub(super) fn take(&mut self) -> Option<Edge> {
        let oldest = self.next.wrapping_sub(self.count);
        self.count = self.count.checked_sub(1)?;
        Some(self.edge(oldest % LENGTH))
    }

    #[inline(always)]
    fn edge(&self, at: usize) -> Edge {
        Edge { word: self.words[at], place: self.places[at], span: self.spans[at] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_leave_in_the_order_in_which_they_came_and_none_is_lost() {
        static SPAN: Span = Span::empty();
        let edge = |word| Edge { word, place: !word, span: &SPAN };
        let mut ahead = Ahead::new();
        let (mut came, mut left) = (0, 0);
        let mut leaves = |edge: Edge| {
            assert_eq!((edge.word, edge.place), (left, !left));
            left += 1;
        };
        for batch in (1..3 * LENGTH).chain([1; LENGTH]) {
            for _ in 0..batch {
                ahead.exchange(edge(came)).into_iter().for_each(&mut leaves);
                came += 1;
            }
            (0..batch % LENGTH / 2).for_each(|_| ahead.take().into_iter().for_each(&mut leaves));
        }
        while let Some(edge) = ahead.take() {
            leaves(edge);
        }
        assert_eq!(left, came);
    }
}

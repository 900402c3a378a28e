//! SpanList: a stack of spans, linked through their records; large spans in both directions, since their owner may free one anywhere in
//! its list. To iterate is to take them out.
//!
//! Unsafe here: following the links, which are addresses of records.
#![allow(unsafe_code)]

use super::span::Span;
use core::ptr::null_mut;
use core::sync::atomic::Ordering::Relaxed;

pub(super) struct SpanList {
    first: Option<&'static Span>,
}

impl SpanList {
    pub(super) const fn new() -> SpanList {
        SpanList { first: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn first(&self) -> Option<&'static Span> {
        self.first
    }

    /// Takes a span that is in no list and no cache.
    pub(super) fn push(&mut self, span: &'static Span) {
        span.next.store(address(self.first), Relaxed);
        if span.is_large() {
            span.set_previous(null_mut());
            self.first.inspect(|first| first.set_previous(address(Some(span))));
        }
        self.first = Some(span);
    }

    pub(super) fn pop(&mut self) -> Option<&'static Span> {
        let span = self.first?;
        // SAFETY: links are null or made from references to pool records by `push`, and records stay valid for ever.
        self.first = unsafe { span.next.load(Relaxed).as_ref() };
        if span.is_large() {
            self.first.inspect(|first| first.set_previous(null_mut()));
        }
        Some(span)
    }

    /// Takes them all, in front. O(1).
    pub(super) fn append(&mut self, full: &mut FullSpans) {
        if let (Some(first), Some(last)) = (full.list.first.take(), full.last) {
            last.next.store(address(self.first), Relaxed);
            self.first = Some(first);
        }
    }

    /// Takes out a large span that is in this list, whose spans are all large.
    pub(super) fn remove_large(&mut self, span: &'static Span) {
        let (previous, next) = (span.previous(), span.next.load(Relaxed));
        // SAFETY: as in `pop`; so are links back, of large spans.
        if let Some(next) = unsafe { next.as_ref() } {
            next.set_previous(previous);
        }
        // SAFETY: as above.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.store(next, Relaxed),
            // SAFETY: as above.
            None => self.first = unsafe { next.as_ref() },
        }
    }

    /// How many spans are here, at most so many, if each `belongs` behind the one before it. `is_record` is asked
    /// first, of the address that a link holds, whatever it is.
    pub(super) fn check(
        &self,
        most: usize,
        is_record: impl Fn(*const Span) -> bool,
        belongs: impl Fn(&'static Span, *mut Span) -> bool,
    ) -> Option<usize> {
        let (mut at, mut before, mut spans) = (address(self.first), null_mut(), 0);
        while !at.is_null() {
            // More than there are: a ring.
            if spans == most || !is_record(at) {
                return None;
            }
            // SAFETY: a record, as was just asked; they stay valid for ever.
            let span: &'static Span = unsafe { &*at };
            if !belongs(span, before) {
                return None;
            }
            spans += 1;
            before = at;
            at = span.next.load(Relaxed);
        }
        Some(spans)
    }
}

/// Full spans of one class, which a list takes over all at once.
pub(super) struct FullSpans {
    list: SpanList,
    /// The last in it; of an empty one, any.
    last: Option<&'static Span>,
}

impl FullSpans {
    pub(super) const fn new() -> FullSpans {
        FullSpans { list: SpanList::new(), last: None }
    }

    /// Takes a small span that is in no list and no cache.
    pub(super) fn push(&mut self, span: &'static Span) {
        if self.list.is_empty() {
            self.last = Some(span);
        }
        self.list.push(span);
    }

    pub(super) fn list(&self) -> &SpanList {
        &self.list
    }
}

impl Iterator for SpanList {
    type Item = &'static Span;

    fn next(&mut self) -> Option<&'static Span> {
        self.pop()
    }
}

impl FromIterator<&'static Span> for SpanList {
    fn from_iter<I: IntoIterator<Item = &'static Span>>(spans: I) -> SpanList {
        let mut list = SpanList::new();
        spans.into_iter().for_each(|span| list.push(span));
        list
    }
}

fn address(span: Option<&'static Span>) -> *mut Span {
    span.map_or(null_mut(), |span| core::ptr::from_ref(span).cast_mut())
}

#[cfg(test)]
impl SpanList {
    /// For corruption.rs: where the list begins.
    pub(super) fn head(&self) -> *const usize {
        (&raw const self.first).cast()
    }
}

//! SpanList: a stack of spans, linked through their records.
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

    /// Takes a span that is in no list and no cache.
    pub(super) fn push(&mut self, span: &'static Span) {
        span.next.store(address(self.first), Relaxed);
        self.first = Some(span);
    }

    pub(super) fn pop(&mut self) -> Option<&'static Span> {
        let span = self.first?;
        // SAFETY: links are null or made from references to pool records by `push`, and records stay valid for ever.
        self.first = unsafe { span.next.load(Relaxed).as_ref() };
        Some(span)
    }

    pub(super) fn clear(&mut self) {
        self.first = None;
    }

    /// How many spans are here, at most so many, if each `belongs`. Asked `is_record` first, with the address that a link holds, whatever it is.
    pub(super) fn check(
        &self,
        most: usize,
        is_record: impl Fn(*const Span) -> bool,
        belongs: impl Fn(&'static Span) -> bool,
    ) -> Option<usize> {
        let (mut at, mut spans) = (address(self.first), 0);
        while !at.is_null() {
            // More than there are: a ring.
            if spans == most || !is_record(at) {
                return None;
            }
            // SAFETY: a record, as was just asked; they stay valid for ever.
            let span: &'static Span = unsafe { &*at };
            if !belongs(span) {
                return None;
            }
            spans += 1;
            at = span.next.load(Relaxed);
        }
        Some(spans)
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

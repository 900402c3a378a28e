//! Central: the spans of one class that are in no CPU's cache. Go: mcentral.go, where each list is a pair, of spans
//! swept in this cycle and of those still to sweep; a sweep within the stop leaves nothing to sweep, so one of each
//! will do until then.
//!
//! Unsafe here: following the lists' links, which are addresses of span records.
#![allow(unsafe_code)]

use super::span::{Span, State};
use core::ptr::null_mut;
use core::sync::atomic::Ordering::Relaxed;
use spin::Mutex;

pub(super) struct Central {
    lists: Mutex<Lists>,
}

struct Lists {
    /// With free slots.
    partial: SpanList,
    full: SpanList,
}

/// A stack of spans, linked through their records.
struct SpanList {
    first: Option<&'static Span>,
}

impl Central {
    pub(super) const fn new() -> Central {
        Central { lists: Mutex::new(Lists { partial: SpanList { first: None }, full: SpanList { first: None } }) }
    }

    /// A span with free slots, now the caller's.
    pub(super) fn take_partial(&self) -> Option<&'static Span> {
        self.lists.lock().partial.pop()
    }

    /// Takes a span that is in no list and no cache.
    pub(super) fn put(&self, span: &'static Span) {
        span.set_state(State::Central);
        let has_room = span.free_slots() > 0;
        let mut lists = self.lists.lock();
        if has_room { lists.partial.push(span) } else { lists.full.push(span) }
    }

    /// Forgets all spans. The sweep does that before it puts each where it belongs.
    pub(super) fn clear(&self) {
        let mut lists = self.lists.lock();
        lists.partial.first = None;
        lists.full.first = None;
    }

    /// How many spans are here, at most so many, if each is in the list that it belongs to. `belongs` sees the addresses that links hold, whatever they are.
    pub(super) fn check(&self, most: usize, belongs: impl Fn(*const Span) -> bool) -> Option<usize> {
        let lists = self.lists.lock();
        let mut spans = 0;
        for (list, should_have_room) in [(&lists.partial, true), (&lists.full, false)] {
            let mut at = list.first.map_or(null_mut(), |first| core::ptr::from_ref(first).cast_mut());
            while !at.is_null() {
                // More than there are: a ring.
                if spans == most || !belongs(at) {
                    return None;
                }
                // SAFETY: it belongs here, so it is a record.
                let span = unsafe { &*at };
                if (span.free_slots() > 0) != should_have_room {
                    return None;
                }
                spans += 1;
                at = span.next.load(Relaxed);
            }
        }
        Some(spans)
    }
}

impl SpanList {
    fn push(&mut self, span: &'static Span) {
        span.next.store(self.first.map_or(null_mut(), |next| core::ptr::from_ref(next).cast_mut()), Relaxed);
        self.first = Some(span);
    }

    fn pop(&mut self) -> Option<&'static Span> {
        let span = self.first?;
        self.first = next(span);
        Some(span)
    }
}

fn next(span: &'static Span) -> Option<&'static Span> {
    // SAFETY: links are null or made from references to pool records by `push`, and records stay valid for ever.
    unsafe { span.next.load(Relaxed).as_ref() }
}

#[cfg(test)]
impl Central {
    /// For corruption.rs: where the lists begin.
    pub(super) fn heads(&self) -> [*const usize; 2] {
        let lists = self.lists.lock();
        [(&raw const lists.partial.first).cast(), (&raw const lists.full.first).cast()]
    }
}

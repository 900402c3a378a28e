//! Central: the spans of one class that are in no CPU's cache. Go: mcentral.go, where each list is a pair, of spans
//! swept in this cycle and of those still to sweep; a sweep within the stop leaves nothing to sweep, so one of each
//! will do until then.

use super::span::{Span, State};
use super::span_list::SpanList;
use spin::Mutex;

pub(super) struct Central {
    lists: Mutex<Lists>,
}

struct Lists {
    /// With free slots.
    partial: SpanList,
    full: SpanList,
}

impl Central {
    pub(super) const fn new() -> Central {
        Central { lists: Mutex::new(Lists { partial: SpanList::new(), full: SpanList::new() }) }
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
        lists.partial.clear();
        lists.full.clear();
    }

    /// How many spans are here, at most so many, if each `belongs` and is in the list that it belongs to.
    pub(super) fn check(
        &self,
        most: usize,
        is_record: impl Fn(*const Span) -> bool,
        belongs: impl Fn(&Span) -> bool,
    ) -> Option<usize> {
        let lists = self.lists.lock();
        let partial = lists.partial.check(most, &is_record, |span| belongs(span) && span.free_slots() > 0)?;
        let full = lists.full.check(most - partial, &is_record, |span| belongs(span) && span.free_slots() == 0)?;
        Some(partial + full)
    }
}

#[cfg(test)]
impl Central {
    /// For corruption.rs: where the lists begin.
    pub(super) fn heads(&self) -> [*const usize; 2] {
        let lists = self.lists.lock();
        [lists.partial.head(), lists.full.head()]
    }
}

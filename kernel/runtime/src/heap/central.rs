//! Central: the spans of one class that are in no CPU's cache. Go: mcentral.go.
//!
//! A CPU keeps the spans that it has filled until its cache is flushed: nobody wants a full one before the next sweep.
//!
//! Two pairs of lists: of spans of the heap's generation, which have been swept, and of those of the generation before. A span's own number
//! says which pair it belongs to; counting the heap's up swaps the two, since everything is swept by then ([`super::sweep`]).

use super::span::Span;
use super::span_list::{FullSpans, SpanList};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use spin::Mutex;

pub(super) struct Central {
    /// By generation, of which two are in use at a time.
    lists: Mutex<[Lists; 2]>,
    /// Which of them may have partial spans, for who asks in vain and need not lock.
    has_partial: [AtomicBool; 2],
}

struct Lists {
    /// With free slots, by the allocation bits, when they came here.
    partial: SpanList,
    /// Without, but for what has been freed since by hand. Large spans too.
    full: SpanList,
}

impl Lists {
    const fn new() -> Lists {
        Lists { partial: SpanList::new(), full: SpanList::new() }
    }
}

impl Central {
    pub(super) const fn new() -> Central {
        Central { lists: Mutex::new([const { Lists::new() }; 2]), has_partial: [const { AtomicBool::new(false) }; 2] }
    }

    /// A span of this generation with free slots, now the caller's.
    pub(super) fn take_partial(&self, generation: u8) -> Option<&'static Span> {
        let has_partial = &self.has_partial[pair(generation)];
        if !has_partial.load(Relaxed) {
            return None;
        }
        let partial = &mut self.lists.lock()[pair(generation)].partial;
        let span = partial.pop();
        has_partial.store(!partial.is_empty(), Relaxed);
        span
    }

    /// One without.
    pub(super) fn take_full(&self, generation: u8) -> Option<&'static Span> {
        self.lists.lock()[pair(generation)].full.pop()
    }

    /// Some without, or, if there are none, with: at most so many.
    pub(super) fn take(&self, generation: u8, most: usize) -> SpanList {
        let Lists { partial, full } = &mut self.lists.lock()[pair(generation)];
        let list = if full.is_empty() { partial } else { full };
        list.take(most).collect()
    }

    /// Takes spans that are in no list and no cache.
    pub(super) fn put(&self, spans: impl IntoIterator<Item = &'static Span>) {
        let mut lists = self.lists.lock();
        for span in spans {
            let Lists { partial, full } = &mut lists[pair(span.generation())];
            if span.has_room() {
                partial.push(span);
                self.has_partial[pair(span.generation())].store(true, Relaxed);
            } else {
                full.push(span);
            }
        }
    }

    /// Takes a CPU's full spans, which are of this generation.
    pub(super) fn put_full(&self, generation: u8, spans: &mut FullSpans) {
        if !spans.list().is_empty() {
            self.lists.lock()[pair(generation)].full.append(spans);
        }
    }

    /// Takes a large span out of its list.
    pub(super) fn remove_large(&self, span: &'static Span) {
        self.lists.lock()[pair(span.generation())].full.remove_large(span);
    }

    /// How many spans of a generation are here, at most so many, if each `belongs` and is in the list that it belongs to.
    pub(super) fn check(
        &self,
        generation: u8,
        most: usize,
        is_record: impl Fn(*const Span) -> bool,
        belongs: impl Fn(&Span) -> bool,
    ) -> Option<usize> {
        let lists = &self.lists.lock()[pair(generation)];
        let belongs = |span: &Span, before| {
            let is_linked_back = !span.is_large() || span.previous() == before;
            belongs(span) && span.generation() == generation && is_linked_back
        };
        let is_full = |span: &Span| span.free_slots() == span.freed();
        let partial = lists.partial.check(most, &is_record, |span, before| belongs(span, before) && !is_full(span))?;
        let full =
            lists.full.check(most - partial, &is_record, |span, before| belongs(span, before) && is_full(span))?;
        Some(partial + full)
    }
}

fn pair(generation: u8) -> usize {
    generation as usize % 2
}

#[cfg(test)]
impl Central {
    /// For corruption.rs: where the lists of a generation begin.
    pub(super) fn heads(&self, generation: u8) -> [*const usize; 2] {
        let lists = &self.lists.lock()[pair(generation)];
        [lists.partial.head(), lists.full.head()]
    }
}

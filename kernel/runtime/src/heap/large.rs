//! Objects too large for any slot: each has a span of its own. Go: mallocgcLarge in malloc.go, allocLarge in mcache.go.
//!
//! What takes long for one of many pages is done in pieces, with safepoints let in between. Whoever comes meanwhile finds an object that
//! refers to nothing, and that the collector keeps as any other, for its address is in its maker's frame; if the maker dies, it is swept.
//!
//! 1. [`Heap::open_large`] finds the pages and makes them a span. Where there is more than 2 MiB of them and some have
//!    no memory, the span is [bare](State::Bare): nobody writes to it.
//! 2. [`Heap::commit_large`] gives it that, 2 MiB at a time. When the last has its own the span is one as any large
//!    object's. Without memory for one there is no object any more, and what the others got is memory of free pages.
//! 3. [`Heap::zero_large`] zeroes it, [`Heap::read_large`] says what of it is to be read.
//!
//! Unsafe here: functions whose caller promises that the object is dead, or new.
#![allow(unsafe_code)]

use super::span::State;
use super::zero::zero_pages;
use super::{Cache, Heap, Kind, Reading, Shortage, Span, SpanClass};
use crate::addr::{Bytes, Pages};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

impl Heap {
    /// An object of its own span, at a multiple of `align` (a power of two, at most an arena). Takes its class's lock, and the page
    /// heap's, unless it is short and this CPU has the pages. O(pages), but no more than two instructions for each if it is long.
    ///
    /// Not all of it has memory while it [is bare](Heap::is_bare). Not zeroed unless it is known to be zero, and noscan until
    /// [`read_large`](Heap::read_large).
    ///
    /// # Errors
    /// As [`Cache::refill`](super::Cache::refill).
    pub(crate) fn open_large(
        &self,
        cache: &mut Cache,
        bytes: Bytes,
        align: usize,
        kind: Kind,
        even_past_trigger: bool,
    ) -> Result<NonNull<u8>, Shortage> {
        self.may_allocate(&cache.ledger, even_past_trigger)?;
        let pages = Pages::holding(Bytes(bytes.0.max(1)));
        let align = Pages::holding(Bytes(align));
        let span = self.allocate_span(cache, SpanClass::large(Kind::Noscan), pages, align, kind)?;
        if span.state() != State::Bare {
            span.set_state(State::Large);
        }
        self.central(span.class()).put([span]);
        self.live.fetch_add(pages.bytes().0, Relaxed);
        self.counts.large_allocated(span);
        let base = core::ptr::with_exposed_provenance_mut::<u8>(span.base().0);
        Ok(NonNull::new(base).expect("no arena starts at 0"))
    }

    /// Whether [`commit_large`](Heap::commit_large) has something to do yet for a new large object.
    pub(crate) fn is_bare(&self, object: NonNull<u8>) -> bool {
        self.owner_of(object).state() == State::Bare
    }

    /// Gives memory to the next 2 MiB of a new large object that lack some; `done` of its pages, at first none, have it. Takes the page
    /// heap's lock and, for as long as the platform takes for 2 MiB, its.
    ///
    /// # Errors
    /// No memory is left. Then the object has been freed.
    ///
    /// # Safety
    /// The object [is bare](Heap::is_bare), and after an error nobody uses it any more.
    pub(crate) unsafe fn commit_large(&self, object: NonNull<u8>, done: &mut Pages) -> Result<(), Shortage> {
        let span = self.owner_of(object);
        let outcome = self.page_heap.lock().commit_more(self.platform(), &self.map, span, done);
        outcome.map_err(|out| {
            self.remove_large(span);
            self.counts.large_refused(span);
            self.page_heap.lock().free(&self.map, [span]);
            self.shortage(out)
        })
    }

    /// Zeroes a new large object to the end of its last page, unless it is known to be zero. Not for a section: this
    /// may take long, and whoever comes meanwhile finds an object that refers to nothing. Go:
    /// memclrNoHeapPointersChunked.
    ///
    /// # Safety
    /// The object is from [`open_large`](Heap::open_large), not bare, and nobody has used it yet.
    pub(crate) unsafe fn zero_large(&self, object: NonNull<u8>) {
        let span = self.owner_of(object);
        if span.needs_zero() {
            // SAFETY: all pages of the span are the new object's.
            unsafe { zero_pages(object, span.pages().bytes()) };
        }
    }

    /// From now on a large object that [has been zeroed](Heap::zero_large) is read as is said.
    pub(crate) fn read_large(&self, object: NonNull<u8>, reading: Reading) {
        let span = self.owner_of(object);
        if reading.kind == Kind::Precise {
            span.write_reading(0, reading);
        }
        let class = SpanClass::large(reading.kind);
        if class != span.class() {
            self.counts.given_up(span.class(), 1);
            self.counts.taken(class, 1);
            span.set_class(class);
        }
    }

    fn owner_of(&self, object: NonNull<u8>) -> &'static Span {
        self.map.owner(object.addr().get()).expect("an object that was allocated has a span")
    }

    /// Gives the pages of a large object back at once. Takes its class's lock, then the page heap's.
    ///
    /// # Safety
    /// The object is from [`open_large`](Heap::open_large), is not used any more, and no collection is marking.
    pub(crate) unsafe fn free_large(&self, object: NonNull<u8>) {
        let span = self.owner_of(object);
        self.remove_large(span);
        self.counts.freed(span.class(), 1, span.pages());
        self.page_heap.lock().free(&self.map, [span]);
    }

    /// Takes a large span out of its list, and no longer counts it as live or to be swept.
    fn remove_large(&self, span: &'static Span) {
        assert!(span.is_large(), "only large objects have a span of their own");
        self.central(span.class()).remove_large(span);
        if !span.is_swept(self.generation()) {
            assert!(span.is_marked(0), "an object that its owner frees was reachable");
            self.sweep.unswept.fetch_sub(span.pages().0, Relaxed);
        }
        self.live.fetch_sub(span.pages().bytes().0, Relaxed);
    }
}

#[cfg(test)]
impl Heap {
    /// [`open_large`](Heap::open_large) and [`commit_large`](Heap::commit_large) in one.
    pub(crate) fn allocate_large(
        &self,
        cache: &mut Cache,
        bytes: Bytes,
        align: usize,
        kind: Kind,
        even_past_trigger: bool,
    ) -> Result<NonNull<u8>, Shortage> {
        let object = self.open_large(cache, bytes, align, kind, even_past_trigger)?;
        let mut done = Pages(0);
        while self.is_bare(object) {
            // SAFETY: it is bare.
            unsafe { self.commit_large(object, &mut done) }?;
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{KIB, MIB, PAGE};
    use crate::heap::Portion;
    use crate::heap::pretend::{Pretend, Random};
    use crate::heap::tests::{begin_sweep, sweep};

    /// A large object in the making.
    #[derive(Clone, Copy)]
    struct Opened {
        object: NonNull<u8>,
        bytes: usize,
        kind: Kind,
        done: Pages,
    }

    struct Lab {
        heap: &'static Heap,
        platform: &'static Pretend,
        cache: Cache,
    }

    impl Lab {
        fn new() -> Lab {
            let (heap, platform) = (Box::leak(Box::new(Heap::new())), Pretend::new());
            heap.init(platform).expect("there is room for two arenas");
            Lab { heap, platform, cache: Cache::new() }
        }

        fn open(&mut self, bytes: usize, kind: Kind) -> Result<Opened, Shortage> {
            let object = self.heap.open_large(&mut self.cache, Bytes(bytes), 8, kind, false)?;
            Ok(Opened { object, bytes, kind, done: Pages(0) })
        }

        fn commit(&self, opened: &mut Opened) -> Result<(), Shortage> {
            // SAFETY: every caller has asked whether it is bare, and forgets it after an error.
            unsafe { self.heap.commit_large(opened.object, &mut opened.done) }
        }

        fn finish(&self, mut opened: Opened) -> Result<(), Shortage> {
            while self.heap.is_bare(opened.object) {
                self.commit(&mut opened)?;
            }
            self.heap.read_large(opened.object, Reading::of_block(opened.kind));
            Ok(())
        }

        /// How much of it has memory.
        fn committed(&self, opened: &Opened) -> usize {
            let start = opened.object.addr().get();
            let pages = (start..start + opened.bytes).step_by(PAGE.0);
            PAGE.0 * pages.filter(|&page| self.platform.mapping(page) == Some(self.heap.mapping(opened.kind))).count()
        }

        fn free(&self, opened: Opened) {
            // SAFETY: it is not used again.
            unsafe { self.heap.free_large(opened.object) };
        }

        fn mark(&self, opened: &Opened) {
            assert!(self.heap.find(opened.object.addr().get() + 7).is_some_and(super::super::Object::mark_stopped));
        }

        fn release_all(&self) {
            let mut end = usize::MAX;
            while self.heap.release_below(&mut end, Portion::Any).is_some() {}
        }

        fn check(&self) {
            self.heap.check_with(&[&self.cache]).expect("a sound heap");
        }
    }

    #[test]
    fn a_long_object_gets_its_memory_by_2_mib_and_between_two_pieces_the_heap_is_sound() {
        for kind in [Kind::Noscan, Kind::Ambiguous] {
            let mut lab = Lab::new();
            let short = lab.open(2 * MIB, kind).expect("memory");
            assert!(!lab.heap.is_bare(short.object) && lab.committed(&short) == 2 * MIB);
            let mut long = lab.open(9 * MIB, kind).expect("memory");
            for piece in 0..5 {
                assert!(lab.heap.is_bare(long.object));
                assert_eq!(lab.committed(&long), piece * 2 * MIB);
                let found = lab.heap.find(long.object.addr().get() + 9 * MIB - 1).expect("all of it is one object");
                assert_eq!((found.span.kind(), found.bytes()), (Kind::Noscan, Bytes(9 * MIB)));
                lab.check();
                // A cycle, which keeps it, and what has no memory is not given back; it is swept, or not yet.
                lab.mark(&long);
                lab.mark(&short);
                lab.cache.flush(lab.heap);
                lab.cache.flush(lab.heap);
                begin_sweep(lab.heap);
                lab.check();
                if piece % 2 == 0 {
                    lab.heap.sweep_all();
                }
                lab.release_all();
                lab.check();
                lab.commit(&mut long).expect("memory");
                lab.heap.sweep_all();
            }
            assert!(!lab.heap.is_bare(long.object) && lab.committed(&long) == 9 * MIB);
            lab.finish(long).expect("it has all its memory");
            assert_eq!(lab.heap.find(long.object.addr().get()).expect("it is there").span.kind(), kind);
            lab.check();
            lab.free(long);
            assert_eq!(lab.heap.live(&lab.cache), Bytes(2 * MIB));
            lab.check();
            // Its pages have memory now, and are one section's work.
            assert!(lab.open(9 * MIB, kind).is_ok_and(|again| !lab.heap.is_bare(again.object)));
        }
    }

    #[test]
    fn without_memory_for_a_piece_there_is_no_object_and_what_the_others_got_is_free() {
        for failing in 0..6 {
            let mut lab = Lab::new();
            let kept = lab.open(MIB, Kind::Ambiguous).expect("memory");
            let before = (lab.heap.live(&lab.cache), lab.heap.pages_in_use(&lab.cache), lab.heap.counted_large());
            let opened = lab.open(12 * MIB, Kind::Ambiguous).expect("addresses");
            lab.platform.fail_after(failing);
            let outcome = lab.finish(opened);
            assert!(matches!(outcome, Err(Shortage::Exhausted { left }) if left > Bytes(0)), "{failing}");
            assert_eq!(
                (lab.heap.live(&lab.cache), lab.heap.pages_in_use(&lab.cache), lab.heap.counted_large()),
                before
            );
            assert!(lab.heap.find(opened.object.addr().get()).is_none());
            // The kept one came with a huge page.
            assert_eq!(lab.platform.committed_in(lab.heap.reserved()), (failing + 1) * 2 * MIB);
            lab.check();
            lab.release_all();
            assert_eq!(lab.platform.committed_in(lab.heap.reserved()), MIB);
            lab.platform.fail_no_more();
            // What is not swept yet may have what is missing.
            lab.mark(&kept);
            lab.cache.flush(lab.heap);
            begin_sweep(lab.heap);
            let opened = lab.open(12 * MIB, Kind::Ambiguous).expect("addresses");
            lab.platform.fail_after(1);
            assert_eq!(lab.finish(opened), Err(Shortage::Unswept));
            lab.check();
        }
    }

    #[test]
    fn what_cannot_have_enough_memory_takes_none() {
        let mut lab = Lab::new();
        let (below, above) =
            (lab.open(20 * MIB, Kind::Noscan).expect("memory"), lab.open(20 * MIB, Kind::Ambiguous).expect("memory"));
        lab.finish(below).and_then(|()| lab.finish(above)).expect("memory");
        lab.free(below);
        lab.release_all();
        lab.platform.leave(10 * MIB);
        let before = lab.platform.committed();
        assert_eq!(lab.open(20 * MIB, Kind::Noscan).map(|_| ()), Err(Shortage::Exhausted { left: Bytes(10 * MIB) }));
        assert_eq!(lab.platform.committed(), before);
        lab.check();
        // With what is free of other pages, that make way, there is enough.
        lab.free(above);
        let again = lab.open(20 * MIB, Kind::Noscan).expect("memory");
        lab.finish(again).expect("memory");
        assert_eq!(lab.committed(&again), 20 * MIB);
        lab.check();
    }

    #[test]
    fn a_bare_object_whose_maker_is_dead_is_swept_and_nobody_writes_to_it() {
        let mut lab = Lab::new();
        let before = lab.open(9 * MIB, Kind::Ambiguous).expect("memory");
        lab.finish(before).expect("memory");
        lab.free(before);
        lab.release_all();
        let mut opened = lab.open(9 * MIB, Kind::Ambiguous).expect("memory");
        assert_eq!(opened.object, before.object);
        lab.commit(&mut opened).expect("memory");
        lab.heap.set_clobbers(true);
        lab.cache.flush(lab.heap);
        assert_eq!(sweep(lab.heap), 1);
        // SAFETY: memory of the platform's, which filled it when it was released.
        assert_eq!(unsafe { opened.object.add(9 * MIB - 8).read() }, 0xde);
        assert_eq!((lab.heap.live(&lab.cache), lab.heap.pages_in_use(&lab.cache)), (Bytes(0), Pages(0)));
        lab.check();
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes Miri many minutes")]
    fn any_trace_of_pieces_leaves_every_page_in_one_place() {
        let mut random = Random::new();
        let mut lab = Lab::new();
        let (mut opened, mut made) = (Vec::<Opened>::new(), Vec::<Opened>::new());
        for step in 0..4000 {
            lab.platform.fail_no_more();
            match random.below(16) {
                0..3 => {
                    let bytes = [3 * MIB, 100 * KIB][random.below(2)] + random.below(9 * MIB);
                    let kind = [Kind::Noscan, Kind::Ambiguous][random.below(2)];
                    opened.extend(lab.open(bytes, kind));
                }
                3..10 if !opened.is_empty() => {
                    let nth = random.below(opened.len());
                    if random.below(10) == 0 {
                        lab.platform.fail_after(0);
                    }
                    match lab.heap.is_bare(opened[nth].object) {
                        true if lab.commit(&mut opened[nth]).is_err() => _ = opened.swap_remove(nth),
                        true => {}
                        false => made.push(opened.swap_remove(nth)),
                    }
                }
                10..12 if !made.is_empty() => {
                    let made = made.swap_remove(random.below(made.len()));
                    assert_eq!(lab.committed(&made), Pages::holding(Bytes(made.bytes)).bytes().0);
                    lab.finish(made).expect("it has all its memory");
                    lab.free(made);
                }
                12 => {
                    let class = SpanClass::for_request(5000, 8, Kind::Ambiguous).expect("small");
                    while lab.cache.allocate_zeroed(class).is_none()
                        && lab.cache.refill(lab.heap, class, true, false).is_ok()
                    {}
                }
                13 => {
                    let mut end = usize::MAX;
                    (0..random.below(6)).for_each(|_| _ = lab.heap.release_below(&mut end, Portion::Any));
                }
                14 if step % 8 == 0 => {
                    lab.heap.sweep_all();
                    lab.cache.flush(lab.heap);
                    // Some makers have died.
                    opened.retain(|_| random.below(4) > 0);
                    opened.iter().chain(&made).for_each(|object| lab.mark(object));
                    lab.cache.flush(lab.heap);
                    begin_sweep(lab.heap);
                    (0..random.below(3)).for_each(|_| _ = lab.heap.sweep_some());
                }
                _ => {}
            }
            lab.check();
        }
        assert!(lab.heap.counted_large().1 > Bytes(0));
    }
}

//! Explicit free: who knows that an object is dead gives its memory back. Go: freegc in malloc.go, which 1.27's
//! compiler calls under an experiment.
//!
//! 1. Is the slot in the span that this CPU has of the class, at a slot's base, and allocated? Then it is free from now
//!    on, and the first to be given out again. Nothing else is asked: some 30 instructions. A cached span has been
//!    swept, and marking stops the world and begins by emptying every cache, so that no phase of a collection sees such
//!    a slot half freed.
//! 2. Otherwise the address is looked up ([`Heap::check_free`]): it must be a living object's, of that class, a large
//!    one's of as many pages. Anything else is a program's error that would corrupt the heap later and elsewhere:
//!    [`BadFree`] names it.
//! 3. A large object's pages go back at once ([`Heap::free_large`]). A small one's span is in a list ([`Heap::release`]):
//!    - swept: its allocation bits say what is alive, so the slot's is cleared, and who takes the span next has the
//!      slot. A span in the list of full ones stays there, where nobody takes it, until the next cycle's sweep has
//!      found the room, or somebody who is out of memory looks ([`Heap::relist`]). Until then the slot counts as live:
//!      else who frees all by hand would never reach the trigger, and take fresh pages for ever. How many do so the
//!      span knows.
//!    - not yet swept: its marks say it, so the object's is cleared, and the sweep that is still to come frees it with the others.
//! 4. Marking is no phase in which anything is freed: it is one stop of the world.
//!
//! So of each small object there is one bit that says whether it is alive, and who frees it twice finds it cleared.
//! Nobody notices if the slot, or the pages, have been given out again between the two: that object is freed. Nor is
//! noticed what has no bit: a tiny object (left to the collector), and one in a span that *another* CPU has cached,
//! whose bits are that CPU's to write (left to the next cycle, which finds it dead; there is one CPU as yet, and a
//! section is all the lock that the lists' spans need).
//!
//! Unsafe here: functions whose caller promises that the object is dead.
#![allow(unsafe_code)]

use super::span::State;
use super::span_list::SpanList;
use super::{Cache, Heap, Object, SpanClass};
use crate::addr::{Address, Bytes, Pages};
use crate::switch_off::{self, Mechanism};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

/// Something was freed that is no object of the class it was said to be.
pub(crate) struct BadFree {
    address: Address,
    class: SpanClass,
    bytes: Bytes,
    found: Found,
}

enum Found {
    NoObject,
    Inside(Object),
    Other(Object),
    Free,
}

impl Cache {
    /// Makes the slot of a dead object free for the next allocation on this CPU, if its span is cached here: `true`.
    /// Otherwise does nothing, and the object is to be [checked](Heap::check_free).
    ///
    /// # Safety
    /// If there is an object, it is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn free(&mut self, class: SpanClass, object: NonNull<u8>) -> bool {
        let span = self.current(class);
        let offset = object.addr().get().wrapping_sub(span.base().0);
        // The empty span has no slots.
        let is_inside = offset < (span.slots() as usize).wrapping_mul(span.slot_bytes().0);
        is_inside && span.slot_beginning_at(offset).is_some_and(|slot| span.release_slot(slot))
    }
}

impl Heap {
    /// The living object of this class at this address, if it is there, as far as can be said: in a span that another CPU allocates from it
    /// cannot be told from a free slot. Of a large one the pages must be those of so many bytes. `cache` is the caller's.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn check_free(
        &self,
        cache: &Cache,
        class: SpanClass,
        bytes: Bytes,
        address: Address,
    ) -> Result<Object, BadFree> {
        let bad = |found| Err(BadFree { address, class, bytes, found });
        let Some(object) = self.find(address.0) else { return bad(Found::NoObject) };
        let span = object.span;
        let is_known = span.state() != State::Cached || core::ptr::eq(cache.current(class), span);
        match object {
            _ if switch_off::is_off(Mechanism::FreeCheck) => Ok(object),
            _ if span.class() != class => bad(Found::Other(object)),
            _ if object.base != address => bad(Found::Inside(object)),
            _ if is_known && !self.is_alive(object) => bad(Found::Free),
            _ if class.is_large() && span.pages() != Pages::holding(bytes) => bad(Found::Other(object)),
            _ => Ok(object),
        }
    }

    /// Makes the slot of an object free that is in no span of this CPU's cache: for who allocates from its span next,
    /// or for the next sweep.
    ///
    /// # Safety
    /// The object is small, [alive](Heap::check_free), and not used any more.
    pub(crate) unsafe fn release(&self, Object { span, slot, .. }: Object) {
        if span.state() == State::Cached {
            return;
        }
        if span.is_swept(self.generation()) {
            span.release_slot(slot);
            span.set_freed(span.freed() + 1);
            self.counts.freed(span.class(), 1, span.pages());
        } else {
            span.unmark(slot);
            self.live.fetch_sub(span.slot_bytes().0, Relaxed);
        }
    }

    /// Of the nth class ([`SpanClass::by_size`]) the swept spans are listed anew, by what was freed by hand since:
    /// those with room are found by whoever allocates, and those without an object give their pages back. For who is
    /// out of memory, and may not collect. `false`: there is no such class. O(its spans); takes its lock, then the page
    /// heap's.
    pub(crate) fn relist(&self, nth: usize) -> bool {
        let Some(class) = SpanClass::by_size(nth) else { return false };
        if class.is_large() || switch_off::is_off(Mechanism::Relisting) {
            return true;
        }
        let (mut in_use, mut empty) = (SpanList::new(), SpanList::new());
        // First the full ones, then the others.
        for span in [(); 2].into_iter().flat_map(|()| self.central(class).take(self.generation(), usize::MAX)) {
            if span.free_slots() < span.slots() as usize {
                in_use.push(span);
            } else {
                self.live.fetch_sub(span.freed() * span.slot_bytes().0, Relaxed);
                empty.push(span);
            }
        }
        self.central(class).put(in_use);
        self.page_heap.lock().free(&self.map, empty);
        true
    }
}

impl fmt::Display for BadFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadFree { address, class, bytes, found } = self;
        write!(f, "expected {} at {address} to be freed, found ", Named(*class, bytes.0))?;
        let named = |object: &Object| Named(object.span.class(), object.bytes().0);
        match found {
            Found::NoObject => f.write_str("that it is in no object of the heap"),
            Found::Inside(object) => write!(f, "the inside of {} at {}", named(object), object.base),
            Found::Other(object) => write!(f, "{} at {}", named(object), object.base),
            Found::Free => f.write_str("that it has been freed already"),
        }
    }
}

struct Named(SpanClass, usize);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(class, bytes) = self;
        write!(f, "an object of {bytes} bytes ({:?})", class.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Bytes;
    use crate::heap::pretend::{Pretend, Random};
    use crate::heap::span::tests::open;
    use crate::heap::tests::begin_sweep;
    use crate::heap::{Kind, Shortage};
    use std::string::{String, ToString};

    fn class(bytes: usize) -> SpanClass {
        SpanClass::for_request(bytes, 8, Kind::Noscan).expect("small")
    }

    fn heap() -> &'static Heap {
        let heap = Box::leak(Box::new(Heap::new()));
        heap.init(Pretend::new()).expect("there is room for an arena");
        heap
    }

    fn allocate(heap: &Heap, cache: &mut Cache, class: SpanClass) -> Result<Address, Shortage> {
        loop {
            match cache.allocate(class) {
                Some(object) => return Ok(Address(object.addr().get())),
                None => cache.refill(heap, class, false, false)?,
            }
        }
    }

    /// What is wrong with freeing that.
    fn free(heap: &Heap, cache: &mut Cache, class: SpanClass, address: Address) -> Result<(), String> {
        let object = NonNull::new(core::ptr::with_exposed_provenance_mut(address.0)).expect("no object is at 0");
        // SAFETY: no test uses the object again.
        unsafe {
            if cache.free(class, object) {
                return Ok(());
            }
            let found = heap.check_free(cache, class, Bytes(class.slot_bytes()), address);
            found.map(|object| heap.release(object)).map_err(|bad| bad.to_string())
        }
    }

    fn is_refused_as_freed(freed: Result<(), String>) -> bool {
        freed.is_err_and(|error| error.ends_with("found that it has been freed already"))
    }

    #[test]
    fn what_is_no_living_object_of_the_class_is_named() {
        let (heap, mut cache) = (heap(), Cache::new());
        let object = allocate(heap, &mut cache, class(48)).expect("memory");
        let other = allocate(heap, &mut cache, class(64)).expect("memory");
        let large = heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, false).expect("memory");
        let large = Address(large.addr().get());
        let mut wrong = |class, address, found: &str| {
            let error = free(heap, &mut cache, class, address).expect_err(found);
            assert!(error.contains(&format!("at {address} to be freed, found {found}")), "{error}");
        };
        wrong(class(48), object.plus(Bytes(8)), &format!("the inside of an object of 48 bytes (Noscan) at {object}"));
        wrong(class(48), object.plus(Bytes(48)), "that it has been freed already");
        wrong(class(48), object.plus(Bytes(169 * 48)), "that it has been freed already");
        wrong(class(48), object.plus(Bytes(170 * 48)), "that it is in no object of the heap");
        wrong(class(48), Address(8), "that it is in no object of the heap");
        wrong(class(48), other, "an object of 64 bytes (Noscan)");
        wrong(class(48), large, "an object of 40960 bytes (Noscan)");
        wrong(class(32), object, "an object of 48 bytes (Noscan)");
        wrong(SpanClass::large(Kind::Ambiguous), large, "an object of 40960 bytes (Noscan)");
        wrong(
            SpanClass::large(Kind::Noscan),
            large.plus(Bytes(4096)),
            "the inside of an object of 40960 bytes (Noscan)",
        );
        let large_as = |bytes| {
            let found = heap.check_free(&cache, SpanClass::large(Kind::Noscan), Bytes(bytes), large);
            found.map(|object| object.base).map_err(|bad| bad.to_string())
        };
        assert_eq!([large_as(40_000), large_as(40_960)], [Ok(large), Ok(large)]);
        for bytes in [32_768, 40_961, usize::MAX] {
            let found = "found an object of 40960 bytes (Noscan)";
            assert!(large_as(bytes).is_err_and(|error| error.contains(found) && error.contains(&bytes.to_string())));
        }
        assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
        assert!(is_refused_as_freed(free(heap, &mut cache, class(48), object)));
        heap.check_with(&[&cache]).expect("a sound heap");
    }

    #[test]
    fn an_object_outside_the_window_is_freed_once_too() {
        let (heap, mut cache) = (heap(), Cache::new());
        let objects: Vec<_> = (0..100).map(|_| allocate(heap, &mut cache, class(48)).expect("memory")).collect();
        for object in [objects[3], objects[63], objects[64]] {
            assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
            assert!(free(heap, &mut cache, class(48), object).is_err());
        }
        heap.check_with(&[&cache]).expect("a sound heap");
    }

    /// Objects that fill some spans and part of another, none of which is in the cache any more.
    fn flushed(heap: &Heap, cache: &mut Cache, count: usize) -> Vec<Address> {
        let objects = (0..count).map(|_| allocate(heap, cache, class(48)).expect("memory")).collect();
        cache.flush(heap);
        objects
    }

    fn mark(heap: &Heap, objects: &[Address]) {
        objects.iter().for_each(|object| assert!(heap.find(object.0).is_some_and(Object::mark_stopped)));
    }

    #[test]
    fn a_slot_freed_in_a_span_with_room_is_for_who_takes_the_span() {
        let (heap, mut cache) = (heap(), Cache::new());
        let objects = flushed(heap, &mut cache, 100);
        let live = heap.live(&cache);
        assert_eq!(free(heap, &mut cache, class(48), objects[7]), Ok(()));
        assert!(is_refused_as_freed(free(heap, &mut cache, class(48), objects[7])));
        assert_eq!(heap.live(&cache), live);
        heap.check_with(&[&cache]).expect("a sound heap");
        assert_eq!(allocate(heap, &mut cache, class(48)), Ok(objects[7]));
        cache.flush(heap);
        assert_eq!(heap.live(&cache), live);
        heap.check_with(&[&cache]).expect("a sound heap");
    }

    #[test]
    fn a_slot_freed_in_a_full_span_counts_as_live_until_the_sweep_finds_it() {
        let (heap, mut cache) = (heap(), Cache::new());
        let objects = flushed(heap, &mut cache, 170);
        let live = heap.live(&cache);
        for object in [objects[7], objects[8]] {
            assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
            assert!(is_refused_as_freed(free(heap, &mut cache, class(48), object)));
            assert!(!heap.find(object.0).is_some_and(Object::is_allocated));
        }
        assert_eq!(heap.live(&cache), live);
        heap.check_with(&[&cache]).expect("a sound heap");
        assert!(!objects.contains(&allocate(heap, &mut cache, class(48)).expect("memory")));
        cache.flush(heap);
        mark(heap, &objects[..7]);
        mark(heap, &objects[9..]);
        begin_sweep(heap);
        // Full by its allocation bits once, and not yet swept.
        assert_eq!(free(heap, &mut cache, class(48), objects[6]), Ok(()));
        assert!(is_refused_as_freed(free(heap, &mut cache, class(48), objects[8])));
        assert_eq!(heap.live(&cache).0, 167 * 48);
        heap.check_with(&[&cache]).expect("a sound heap");
        heap.sweep_all();
        heap.check_with(&[&cache]).expect("a sound heap");
        assert_eq!([6, 7, 8].map(|_| allocate(heap, &mut cache, class(48))), [6, 7, 8].map(|nth| Ok(objects[nth])));
    }

    #[test]
    fn what_is_freed_before_its_span_is_swept_is_dead_for_the_sweep() {
        let (heap, mut cache) = (heap(), Cache::new());
        let objects = flushed(heap, &mut cache, 171);
        mark(heap, &objects[1..]);
        begin_sweep(heap);
        // One died in the cycle, the others after it: in a full span, and alone in one with room.
        assert!(is_refused_as_freed(free(heap, &mut cache, class(48), objects[0])));
        for object in [objects[1], objects[170]] {
            assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
            assert!(is_refused_as_freed(free(heap, &mut cache, class(48), object)));
        }
        assert_eq!(heap.live(&cache).0, 168 * 48);
        heap.check_with(&[&cache]).expect("a sound heap");
        heap.sweep_all();
        assert_eq!((heap.freed_objects(), heap.pages_in_use(&cache)), (3, Pages(1)));
        heap.check_with(&[&cache]).expect("a sound heap");
    }

    #[test]
    fn what_another_cpu_has_cached_is_left_to_the_sweep() {
        let (heap, mut cache, mut other) = (heap(), Cache::new(), Cache::new());
        let theirs = allocate(heap, &mut other, class(48)).expect("memory");
        // Whether there is an object only the other CPU knows; once it has given the span up, everybody does.
        for address in [theirs, theirs, theirs.plus(Bytes(48))] {
            assert_eq!(free(heap, &mut cache, class(48), address), Ok(()));
        }
        assert!(heap.find(theirs.0).is_some_and(Object::is_allocated));
        other.flush(heap);
        assert!(is_refused_as_freed(free(heap, &mut cache, class(48), theirs.plus(Bytes(48)))));
        assert_eq!(free(heap, &mut cache, class(48), theirs), Ok(()));
        heap.check_with(&[&cache, &other]).expect("a sound heap");
    }

    /// One CPU allocates, frees each object once, tries some a second time, and collects, sweeping now and then.
    #[test]
    fn whenever_an_object_is_freed_it_is_freed_once() {
        let (heap, mut cache, mut random) = (heap(), Cache::new(), Random::new());
        let classes = [16, 48, 1024].map(class);
        let mut living: Vec<(SpanClass, Address)> = Vec::new();
        for step in 0..if cfg!(miri) { 100 } else { 30_000 } {
            match random.below(100) {
                0..60 => {
                    let class = classes[random.below(3)];
                    let object = allocate(heap, &mut cache, class).expect("memory");
                    assert!(!living.contains(&(class, object)), "two objects at {object}");
                    living.push((class, object));
                }
                60..97 if !living.is_empty() => {
                    let (class, object) = living.swap_remove(random.below(living.len()));
                    assert_eq!(free(heap, &mut cache, class, object), Ok(()));
                    assert!(is_refused_as_freed(free(heap, &mut cache, class, object)));
                }
                97 => while random.below(4) > 0 && heap.sweep_some() {},
                98 => cache.flush(heap),
                _ if step % 10 == 0 => {
                    heap.sweep_all();
                    cache.flush(heap);
                    // What is not found again: forgotten.
                    living.retain(|_| random.below(8) > 0);
                    living.iter().for_each(|(_, object)| mark(heap, &[*object]));
                    begin_sweep(heap);
                }
                _ => heap.check_with(&[&cache]).expect("a sound heap"),
            }
        }
        heap.sweep_all();
        cache.flush(heap);
        heap.check_with(&[&cache]).expect("a sound heap");
        let sizes = living.iter().map(|(class, _)| class.slot_bytes());
        let kept: usize = heap.spans().map(|span| span.allocated().count() * span.slot_bytes().0).sum();
        assert!(kept >= sizes.sum(), "none is lost");
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes hours")]
    fn a_slot_begins_at_each_multiple_of_its_size_and_nowhere_else() {
        for bytes in (8..=32_760).step_by(8) {
            let span = open(bytes, Kind::Noscan);
            let size = span.slot_bytes().0;
            for offset in 0..span.slots() as usize * size {
                let expected = offset.is_multiple_of(size).then_some((offset / size) as u32);
                assert_eq!(span.slot_beginning_at(offset), expected, "{offset} in slots of {size}");
                if bytes > 512 && offset % size == 8 && offset / size > 2 {
                    break;
                }
            }
        }
    }
}

//! Explicit free: who knows that an object is dead gives its memory back. Go: freegc in malloc.go, which 1.27's compiler calls under an experiment.
//!
//! 1. Is the slot in the span that this CPU has of the class, at a slot's base, and allocated? Then it is free from now on, and the first to
//!    be given out again. Nothing else is asked: some 30 instructions. A cached span has been swept, and marking stops the world and begins by
//!    emptying every cache, so that no phase of a collection sees such a slot half freed.
//! 2. Otherwise the address is looked up ([`Heap::check_free`]): it must be a living object's, of that class. A small one is left to the next
//!    sweep; a large one's pages go back at once.
//! 3. Anything else is a program's error that would corrupt the heap later and elsewhere: [`BadFree`] names it.
//!
//! What is left to the sweep can be freed twice and nobody notices: there is no second bit that would say so.
//!
//! Unsafe here: functions whose caller promises that the object is dead.
#![allow(unsafe_code)]

use super::span::State;
use super::{Cache, Heap, Object, SpanClass};
use crate::addr::Address;
use core::fmt;
use core::ptr::NonNull;

/// Something was freed that is no object of the class it was said to be.
pub(crate) struct BadFree {
    address: Address,
    class: SpanClass,
    found: Found,
}

enum Found {
    NoObject,
    Inside(Object),
    OtherClass(Object),
    Free,
}

impl Cache {
    /// Makes the slot of a dead object free for the next allocation on this CPU, if its span is cached here: `true`. Otherwise does nothing,
    /// and the object is to be [checked](Heap::check_free).
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
    /// Whether a living object of this class is at this address, as far as can be said: in a span that another CPU allocates from it cannot
    /// be told from a free slot. `cache` is the caller's.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn check_free(&self, cache: &Cache, class: SpanClass, address: Address) -> Result<(), BadFree> {
        let bad = |found| Err(BadFree { address, class, found });
        let Some(object) = self.find(address.0) else { return bad(Found::NoObject) };
        let is_known = object.span.state() != State::Cached || core::ptr::eq(cache.current(class), object.span);
        match object {
            _ if object.span.class() != class => bad(Found::OtherClass(object)),
            _ if object.base != address => bad(Found::Inside(object)),
            _ if is_known && !self.is_alive(object) => bad(Found::Free),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BadFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadFree { address, class, found } = self;
        write!(f, "expected {} at {address} to be freed, found ", Named(*class, class.slot_bytes()))?;
        let named = |object: &Object| Named(object.span.class(), object.bytes().0);
        match found {
            Found::NoObject => f.write_str("that it is in no object of the heap"),
            Found::Inside(object) => write!(f, "the inside of {} at {}", named(object), object.base),
            Found::OtherClass(object) => write!(f, "{} at {}", named(object), object.base),
            Found::Free => f.write_str("that it has been freed already"),
        }
    }
}

struct Named(SpanClass, usize);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.kind(), self.1) {
            (kind, 0) => write!(f, "a large object ({kind:?})"),
            (kind, bytes) => write!(f, "an object of {bytes} bytes ({kind:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Bytes;
    use crate::heap::pretend::Pretend;
    use crate::heap::span::tests::open;
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
                None => cache.refill(heap, class, false)?,
            }
        }
    }

    /// What is wrong with freeing that.
    fn free(heap: &Heap, cache: &mut Cache, class: SpanClass, address: Address) -> Result<(), String> {
        let object = NonNull::new(core::ptr::with_exposed_provenance_mut(address.0)).expect("no object is at 0");
        // SAFETY: no test uses the object again.
        match unsafe { cache.free(class, object) } {
            true => Ok(()),
            false => heap.check_free(cache, class, address).map_err(|bad| bad.to_string()),
        }
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
        assert_eq!(
            heap.check_free(&cache, SpanClass::large(Kind::Noscan), large).map_err(|bad| bad.to_string()),
            Ok(())
        );
        assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
        assert!(free(heap, &mut cache, class(48), object).is_err_and(|error| error.contains("freed already")));
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

    #[test]
    fn what_is_in_no_cache_of_the_callers_is_left_to_the_sweep() {
        let (heap, mut cache, mut other) = (heap(), Cache::new(), Cache::new());
        let theirs = allocate(heap, &mut other, class(48)).expect("memory");
        let full: Vec<_> = (0..171).map(|_| allocate(heap, &mut cache, class(48)).expect("memory")).collect();
        for object in [theirs, full[0]] {
            assert_eq!(free(heap, &mut cache, class(48), object), Ok(()));
            assert!(heap.find(object.0).is_some_and(Object::is_allocated));
        }
        // Whether it is free only the other CPU knows; of a span that nobody allocates from everybody does.
        assert_eq!(free(heap, &mut cache, class(48), theirs.plus(Bytes(48))), Ok(()));
        other.flush(heap);
        assert!(free(heap, &mut cache, class(48), theirs.plus(Bytes(48))).is_err());
    }

    #[test]
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

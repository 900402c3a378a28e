//! The heap as a whole, on a pretended platform.
//!
//! Unsafe here: writing to the objects allocated and freeing them by hand.
#![allow(unsafe_code)]

use super::pretend::{Pretend, Random};
use super::*;
use crate::addr::{Address, KIB, MIB, PAGE};
use core::ptr::NonNull;
use std::collections::BTreeMap;

/// The most that a layout asks for, and the global allocator's spare byte.
const MOST: usize = isize::MAX as usize + 1;

fn heap() -> (&'static Heap, &'static Pretend) {
    let heap = Box::leak(Box::new(Heap::new()));
    let platform = Pretend::new();
    heap.init(platform).expect("there is room for two arenas");
    (heap, platform)
}

fn class(bytes: usize, kind: Kind) -> SpanClass {
    SpanClass::for_request(bytes, 8, kind).expect("small")
}

fn allocate(heap: &Heap, cache: &mut Cache, class: SpanClass) -> Result<usize, Shortage> {
    allocate_by(Cache::allocate, heap, cache, class)
}

fn allocate_by(
    how: impl Fn(&mut Cache, SpanClass) -> Option<NonNull<u8>>,
    heap: &Heap,
    cache: &mut Cache,
    class: SpanClass,
) -> Result<usize, Shortage> {
    loop {
        match how(cache, class) {
            Some(object) => return Ok(object.addr().get()),
            None => cache.refill(heap, class, false, false)?,
        }
    }
}

fn pointer(address: usize) -> NonNull<u8> {
    NonNull::new(core::ptr::with_exposed_provenance_mut(address)).expect("no object is at 0")
}

/// Ends a cycle whose marks are set.
pub(super) fn begin_sweep(heap: &Heap) {
    let marked: usize = heap.spans().flat_map(Span::marked).map(|object| object.bytes().0).sum();
    heap.begin_sweep(Bytes(marked));
}

/// And sweeps everything. Returns how many objects were freed.
pub(super) fn sweep(heap: &Heap) -> usize {
    begin_sweep(heap);
    let before = heap.freed_objects();
    heap.sweep_all();
    heap.freed_objects() - before
}

fn small_classes() -> impl Iterator<Item = SpanClass> {
    let all = (0..SpanClass::COUNT as u8).filter(|&index| SpanClass::is_index(index)).map(SpanClass::from_index);
    all.filter(|class| !class.is_large())
}

#[test]
fn every_class_is_filled_freed_in_three_orders_and_refilled_and_no_page_is_lost() {
    let mut random = Random::new();
    for class in small_classes() {
        let (heap, _) = heap();
        let mut cache = Cache::new();
        let count = 3 * class.slots() + 1;
        let mut first = Vec::new();
        for order in 0..3 {
            let mut objects: Vec<_> = (0..count).map(|_| allocate(heap, &mut cache, class).expect("memory")).collect();
            let mut sorted = objects.clone();
            sorted.sort_unstable();
            assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= class.slot_bytes()), "objects do not overlap");
            if first.is_empty() {
                first = sorted;
            } else {
                assert_eq!(first, sorted, "the same slots are found again");
            }
            heap.check_with(&[&cache]).expect("a sound heap");
            // All but a third are dead; which, and in which order they were marked, must not matter.
            match order {
                0 => {}
                1 => objects.reverse(),
                _ => random.shuffle(&mut objects),
            }
            for &object in &objects[..count / 3] {
                assert!(heap.find(object).is_some_and(Object::mark_stopped));
            }
            cache.flush(heap);
            assert_eq!(sweep(heap), count - count / 3);
            assert_eq!(heap.live(&cache).0, count / 3 * class.slot_bytes());
            heap.check_with(&[&cache]).expect("a sound heap");
            // Then the rest.
            assert_eq!(sweep(heap), count / 3);
            assert_eq!((heap.pages_in_use(&cache), heap.live(&cache)), (Pages(0), Bytes(0)));
            heap.check_with(&[&cache]).expect("a sound heap");
        }
    }
}

#[test]
fn an_object_is_found_from_every_byte_of_it_and_nothing_from_anywhere_else() {
    let (heap, _) = heap();
    assert!(heap.find(0).is_none() && heap.find(usize::MAX).is_none());
    let mut cache = Cache::new();
    let start = allocate(heap, &mut cache, class(8, Kind::Noscan)).expect("memory");
    let mut objects = BTreeMap::new();
    for bytes in [8, 24, 48, 112, 512, 1408, 10_880, 32_760] {
        for kind in [Kind::Noscan, Kind::Precise, Kind::Ambiguous] {
            let class = class(bytes, kind);
            for _ in 0..class.slots() + 1 {
                objects.insert(allocate(heap, &mut cache, class).expect("memory"), class.slot_bytes());
            }
        }
    }
    let large = heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, false).expect("memory");
    objects.insert(large.addr().get(), 40_960);
    objects.insert(start, 8);
    for address in start..start + heap.grown().0 {
        let expected = objects.range(..=address).next_back().filter(|&(base, bytes)| address < base + bytes);
        let found = heap.find(address).filter(|object| object.is_allocated());
        assert_eq!(
            found.map(|object| (object.base.0, object.bytes().0)),
            expected.map(|(&base, &bytes)| (base, bytes))
        );
    }
    let mut random = Random::new();
    let end = start + heap.grown().0;
    for word in [start - 1, end, end + 1, 1 << 63, usize::MAX - 7, start ^ 1 << 47] {
        assert!(heap.find(word).is_none(), "{word:#x}");
    }
    for _ in 0..10_000 {
        let word = random.word() as usize;
        assert!((start..end).contains(&word) || heap.find(word).is_none(), "{word:#x}");
    }
}

#[test]
fn a_96_mib_object_crosses_an_arena_and_is_one_object_throughout() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let object = heap.allocate_large(&mut cache, Bytes(96 * MIB), 8, Kind::Noscan, false).expect("memory").addr().get();
    assert!(Address(object).align_up(64 * MIB).0 < object + 96 * MIB);
    for address in (object..object + 96 * MIB).step_by(PAGE.0 / 2) {
        assert!(heap.find(address).is_some_and(|found| found.base.0 == object && found.bytes() == Bytes(96 * MIB)));
    }
    assert!(heap.find(object + 96 * MIB).is_none() && heap.find(object - 1).is_none());
    assert!(platform.committed() < 97 * MIB);
    heap.check_with(&[&cache]).expect("a sound heap");
    // SAFETY: allocated above, and not used below.
    unsafe { heap.free_large(pointer(object)) };
    assert!(heap.find(object).is_none());
    heap.check_with(&[&cache]).expect("a sound heap");
    assert_eq!(
        heap.allocate_large(&mut cache, Bytes(96 * MIB), 8, Kind::Noscan, false).map(|again| again.addr().get()),
        Ok(object)
    );
}

#[test]
fn short_spans_are_made_of_the_cpus_own_pages_without_a_lock() {
    let (heap, _) = heap();
    let (mut cache, mut other) = (Cache::new(), Cache::new());
    let class = class(8 * KIB, Kind::Noscan);
    let take = |cache: &mut Cache| allocate(heap, cache, class).expect("memory");
    // The second CPU's pages are the next 64.
    let (first, neighbour) = (take(&mut cache), take(&mut other));
    assert_eq!(neighbour, first + 64 * PAGE.0);
    let lock = heap.page_heap.lock();
    for page in 1..64 {
        assert_eq!(take(&mut cache), first + page * PAGE.0);
    }
    let large = heap.allocate_large(&mut other, Bytes(40_000), 8, Kind::Noscan, false).expect("memory");
    assert_eq!(large.addr().get(), neighbour + PAGE.0);
    drop(lock);
    // Sixteen pages are nobody's own, and whose pages are used up gets new ones.
    let long = heap.allocate_large(&mut other, Bytes(128 * KIB), 8, Kind::Noscan, false).expect("memory");
    assert_eq!(long.addr().get(), first + 128 * PAGE.0);
    assert_eq!(take(&mut cache), first + 144 * PAGE.0);
    assert_eq!(heap.owned_with([&cache.ledger, &other.ledger]), Pages(64 + 1 + 5 + 16 + 1));
    heap.check_with(&[&cache, &other]).expect("a sound heap");
    // What a CPU gives back is in one piece again.
    other.flush(heap);
    assert_eq!(take(&mut other), neighbour + 6 * PAGE.0);
    heap.check_with(&[&cache, &other]).expect("a sound heap");
}

#[test]
fn large_objects_are_aligned_as_asked_and_too_much_is_an_answer() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    for align in [8, 8 * KIB, 16 * KIB, MIB, 64 * MIB] {
        let object = heap.allocate_large(&mut cache, Bytes(40_000), align, Kind::Ambiguous, false).expect("memory");
        assert!(Address(object.addr().get()).is_aligned(align));
    }
    for (bytes, align) in [(200 * MIB, 8), (isize::MAX as usize, 8), (40_000, 128 * MIB)] {
        let out = heap.allocate_large(&mut cache, Bytes(bytes), align, Kind::Noscan, false);
        assert!(matches!(out, Err(Shortage::Exhausted { .. })), "{bytes} at {align}");
    }
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn ambiguous_slots_are_zero_and_so_is_what_a_large_object_leaves_over() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    for bytes in [8, 48, 512, 520, 5000, 32_760] {
        let class = class(bytes, Kind::Ambiguous);
        for _ in 0..2 * class.slots() {
            let object = pointer(allocate_by(Cache::allocate_zeroed, heap, &mut cache, class).expect("memory"));
            // SAFETY: a slot of so many bytes that is nobody else's.
            let slot = unsafe { core::slice::from_raw_parts_mut(object.as_ptr(), class.slot_bytes()) };
            assert!(slot.iter().all(|&byte| byte == 0), "{bytes} bytes");
            slot.fill(0xff);
            // SAFETY: it is not used again; the next turn gets it again, dirty.
            unsafe { cache.free(class, object) };
        }
    }
    for bytes in [32_761, 40_959, 40_960, 40_961] {
        let object = heap.allocate_large(&mut cache, Bytes(bytes), 8, Kind::Ambiguous, false).expect("memory");
        // SAFETY: the object is new and has so many bytes.
        unsafe { heap.zero_large(object) };
        heap.read_large(object, Reading::of_block(Kind::Ambiguous));
        let whole = Pages::holding(Bytes(bytes)).bytes().0;
        // SAFETY: as above, to the end of its last page.
        let slot = unsafe { core::slice::from_raw_parts(object.as_ptr(), whole) };
        assert!(slot.iter().all(|&byte| byte == 0), "{bytes} bytes");
    }
}

#[test]
fn a_slot_freed_by_hand_is_the_next_one_given_out_if_its_span_is_cached() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    let class = class(48, Kind::Ambiguous);
    let objects: Vec<_> = (0..170 + 5).map(|_| allocate(heap, &mut cache, class).expect("memory")).collect();
    // SAFETY: neither is used again. The first is in a span that is no longer cached.
    unsafe { cache.free(class, pointer(objects[0])) };
    // SAFETY: as above; this one is in the cached span.
    unsafe { cache.free(class, pointer(objects[172])) };
    assert!(heap.find(objects[0]).is_some_and(Object::is_allocated));
    assert!(!heap.find(objects[172]).is_some_and(Object::is_allocated));
    assert_eq!(allocate(heap, &mut cache, class), Ok(objects[172]));
    heap.check_with(&[&cache]).expect("a sound heap");
    cache.flush(heap);
    heap.check_with(&[&cache]).expect("a sound heap");
    assert_eq!(heap.live(&cache), Bytes(175 * 48));
}

#[test]
fn past_the_trigger_only_who_insists_gets_a_new_span() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    heap.set_trigger(Bytes(20 * KIB));
    let class = class(1024, Kind::Noscan);
    let objects = (0..).take_while(|_| allocate(heap, &mut cache, class).is_ok()).count();
    assert_eq!(objects, 24, "three spans of eight");
    assert_eq!(allocate(heap, &mut cache, class), Err(Shortage::Trigger));
    assert_eq!(heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, false), Err(Shortage::Trigger));
    assert_eq!(cache.refill(heap, class, false, true), Ok(()));
    assert!(heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, true).is_ok());
    assert_eq!(heap.live(&cache), Bytes(4 * 8 * KIB + 40 * KIB));
    cache.flush(heap);
    assert_eq!(heap.live(&cache), Bytes(3 * 8 * KIB + 40 * KIB));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn objects_are_counted_by_class_and_each_level_when_it_is_asked() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    let class = class(KIB, Kind::Noscan);
    let levels = |heap: &Heap, cache: &Cache| {
        let passed =
            [Level::Central, Level::Supply, Level::Fill, Level::PageHeap].map(|level| heap.passed(level, cache));
        (passed, heap.growths())
    };
    let objects: Vec<_> = (0..25).map(|_| allocate(heap, &mut cache, class).expect("memory")).collect();
    assert_eq!(heap.counted(class, &cache), Counted { allocated: 25, freed: 0 });
    assert_eq!(levels(heap, &cache), ([0, 4, 1, 0], 1));
    // Given back at once, and the slot is free when the CPU gives up the span: it was never allocated.
    // SAFETY: it is not used again.
    unsafe { cache.free(class, pointer(objects[24])) };
    assert_eq!(heap.counted(class, &cache), Counted { allocated: 24, freed: 0 });
    cache.flush(heap);
    assert_eq!(heap.counted(class, &cache), Counted { allocated: 24, freed: 0 });
    for &object in &objects[..10] {
        assert!(heap.find(object).is_some_and(Object::mark_stopped));
    }
    sweep(heap);
    assert_eq!(heap.counted(class, &cache), Counted { allocated: 24, freed: 14 });
    allocate(heap, &mut cache, class).expect("memory");
    assert_eq!((heap.counted(class, &cache).allocated, levels(heap, &cache)), (25, ([1, 4, 1, 0], 1)));
    let large = heap.allocate_large(&mut cache, Bytes(5 * MIB), 8, Kind::Noscan, false).expect("memory");
    assert_eq!((heap.counted_large(), levels(heap, &cache)), ((Bytes(5 * MIB), Bytes(0)), ([1, 4, 1, 1], 2)));
    // SAFETY: it is not used again.
    unsafe { heap.free_large(large) };
    assert_eq!(heap.counted_large(), (Bytes(5 * MIB), Bytes(5 * MIB)));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn running_out_of_frames_at_any_point_leaves_the_heap_sound_and_usable() {
    let script = |heap: &Heap, cache: &mut Cache| -> Result<(), Shortage> {
        for bytes in [8, 512, 32_760] {
            allocate(heap, cache, class(bytes, Kind::Precise))?;
        }
        for _ in 0..220 {
            heap.allocate_large(cache, Bytes(33_000), 8, Kind::Noscan, false)?;
        }
        heap.allocate_large(cache, Bytes(9 * MIB), 8, Kind::Noscan, false)?;
        heap.allocate_large(cache, Bytes(70 * MIB), MIB, Kind::Noscan, false)?;
        allocate(heap, cache, class(8, Kind::Ambiguous))?;
        // Everything is garbage, and its memory goes back; it is wanted again by a CPU, in pieces and by a long run.
        cache.flush(heap);
        sweep(heap);
        let mut end = usize::MAX;
        while heap.release_below(&mut end, Portion::Any).is_some() {}
        for bytes in [16, 5000, 32_760, 8 * KIB] {
            allocate(heap, cache, class(bytes, Kind::Noscan))?;
        }
        heap.allocate_large(cache, Bytes(100 * KIB), 8, Kind::Noscan, false)?;
        heap.allocate_large(cache, Bytes(20 * MIB), 8, Kind::Ambiguous, false).map(|_| ())
    };
    for failing in 0.. {
        let (heap, platform) = heap();
        let mut cache = Cache::new();
        platform.fail_after(failing);
        let outcome = script(heap, &mut cache);
        heap.check_with(&[&cache]).expect("a sound heap");
        if platform.is_going_to_fail() {
            assert!(failing > 12, "each way to take memory was tried, {failing}");
            break;
        }
        assert!(matches!(outcome, Err(Shortage::Exhausted { left }) if left > Bytes(0)));
        cache.flush(heap);
        sweep(heap);
        platform.fail_no_more();
        assert_eq!(script(heap, &mut cache), Ok(()), "there is memory again");
        heap.check_with(&[&cache]).expect("a sound heap");
    }
}

#[test]
fn without_addresses_for_the_heap_or_any_record_there_is_no_heap() {
    for rooms in 0.. {
        let platform = Pretend::new();
        platform.allow_reservations(rooms);
        let heap: &Heap = Box::leak(Box::new(Heap::new()));
        if heap.init(platform).is_ok() {
            assert!(rooms > 3, "the arenas, their owners, the chunks and the spans want addresses");
            break;
        }
        assert!(heap.find(heap.reserved().start.0).is_none());
    }
}

/// Fills a heap with one kind of object after another, all of which are mapped alike, while some of `other` kind finds no room.
fn fill_all_arenas(kinds: &[(usize, Kind)], other: Kind) {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let room = heap.reserved().bytes();
    for &(bytes, kind) in kinds {
        let class = SpanClass::for_request(bytes, 8, kind);
        let mut made = 0;
        let out = loop {
            let outcome = match class {
                Some(class) => allocate(heap, &mut cache, class).map(|_| ()),
                None => heap.allocate_large(&mut cache, Bytes(bytes), 8, kind, false).map(|_| ()),
            };
            match outcome {
                Ok(()) => made += 1,
                Err(out) => break out,
            }
        };
        assert!(matches!(out, Shortage::Exhausted { .. }), "{bytes} bytes: {out:?}");
        assert!(made * bytes > room.0 - room.0 / 8 && heap.grown() == room, "{made} of {bytes} bytes");
        heap.check_with(&[&cache]).expect("a sound heap");
        // Whatever is asked now: the same answer, and nothing changes.
        for bytes in [9 * MIB, room.0, isize::MAX as usize, MOST] {
            let large = heap.allocate_large(&mut cache, Bytes(bytes), 8, kind, false);
            assert!(matches!(large, Err(Shortage::Exhausted { .. })));
        }
        heap.check_with(&[&cache]).expect("a sound heap");
        cache.flush(heap);
        sweep(heap);
        heap.check_with(&[&cache]).expect("a sound heap");
        assert_eq!((heap.live(&cache), heap.pages_in_use(&cache)), (Bytes(0), Pages(0)));
        // All addresses are taken, for pages that are mapped otherwise.
        assert!(matches!(allocate(heap, &mut cache, self::class(8, other)), Err(Shortage::Exhausted { .. })));
    }
    let kind = kinds[0].1;
    let all = heap.allocate_large(&mut cache, room, 8, kind, false).expect("all is free, in one piece");
    assert_eq!(
        allocate(heap, &mut cache, class(8, kind)).map(|_| ()),
        Err(Shortage::Exhausted { left: platform.free_memory() })
    );
    // SAFETY: it is not used again.
    unsafe { heap.free_large(all) };
    assert!(allocate(heap, &mut cache, class(8, kind)).is_ok());
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn at_the_end_of_the_arenas_the_heap_is_full_and_goes_on_when_something_is_freed() {
    // In spans of one page, of many, and in one of all there is.
    fill_all_arenas(
        &[(8 * KIB, Kind::Noscan), (32_760, Kind::Noscan), (512, Kind::Precise), (9 * MIB, Kind::Noscan)],
        Kind::Ambiguous,
    );
    let bytes = if cfg!(miri) { &[9 * MIB][..] } else { &[8 * KIB, 32_760, 9 * MIB] };
    let ambiguous: Vec<_> = bytes.iter().map(|bytes| (*bytes, Kind::Ambiguous)).collect();
    fill_all_arenas(&ambiguous, Kind::Precise);
}

#[test]
fn zero_bytes_and_every_alignment_have_an_answer() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    for shift in 0..usize::BITS {
        let align = 1 << shift;
        for bytes in [0, 1, 4096, isize::MAX as usize, MOST] {
            let class = SpanClass::for_request(bytes, align, Kind::Noscan);
            let outcome = match class {
                Some(class) => allocate(heap, &mut cache, class).map(pointer),
                None => heap.allocate_large(&mut cache, Bytes(bytes), align, Kind::Noscan, false),
            };
            let fits = bytes <= 4096 && align <= 64 * MIB;
            assert_eq!(outcome.is_ok(), fits, "{bytes} at {align}");
            if let Ok(object) = outcome {
                assert!(object.addr().get().is_multiple_of(align), "{bytes} at {align}");
                if class.is_none() {
                    // SAFETY: it is not used again.
                    unsafe { heap.free_large(object) };
                }
            }
        }
    }
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn released_memory_is_the_platforms_until_its_pages_are_needed() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let mut large = |mib: usize| heap.allocate_large(&mut cache, Bytes(mib * MIB), 8, Kind::Noscan, false);
    let (below, kept, above) = (large(9).expect("memory"), large(1).expect("memory"), large(30).expect("memory"));
    let before = platform.committed();
    for object in [below, above] {
        // SAFETY: it is not used again.
        unsafe { heap.free_large(object) };
    }
    let mut end = usize::MAX;
    let runs: Vec<_> = core::iter::from_fn(|| heap.release_below(&mut end, Portion::Any)).collect();
    assert!(runs.iter().all(|run| *run <= Bytes(4 * MIB)));
    assert_eq!(runs.iter().map(|run| run.0).sum::<usize>(), 39 * MIB);
    assert_eq!((heap.released(), platform.committed()), (Bytes(39 * MIB), before - 39 * MIB));
    heap.check_with(&[&cache]).expect("a sound heap");
    assert!(heap.find(kept.addr().get()).is_some());
    // The lowest pages are taken again, and only they and what lies in the same huge page have memory again.
    let mut large = |mib: usize| heap.allocate_large(&mut cache, Bytes(mib * MIB), 8, Kind::Noscan, false);
    assert_eq!((large(5), heap.released()), (Ok(below), Bytes(33 * MIB)));
    // Where somebody has a page of it, it is the pages that are taken alone, in a large object or through a CPU's supply.
    assert_eq!((large(4).is_ok(), heap.released()), (true, Bytes(30 * MIB)));
    heap.check_with(&[&cache]).expect("a sound heap");
    // Without frames they stay released.
    for (bytes, again) in [(30 * MIB, 0), (30 * MIB, 3), (7 * MIB, 0)] {
        platform.fail_after(again);
        let out = heap.allocate_large(&mut cache, Bytes(bytes), 8, Kind::Noscan, false);
        assert!(matches!(out, Err(Shortage::Exhausted { .. })));
        heap.check_with(&[&cache]).expect("a sound heap");
    }
    cache.flush(heap);
    sweep(heap);
    heap.check_with(&[&cache]).expect("a sound heap");
}

/// A heap of objects of one class, three spans of them, of which the collector has found the first `live` alive.
fn marked(class: SpanClass, live: usize) -> (&'static Heap, Cache, Vec<usize>) {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    let objects: Vec<_> = (0..3 * class.slots()).map(|_| allocate(heap, &mut cache, class).expect("memory")).collect();
    objects[..live].iter().for_each(|&object| assert!(heap.find(object).is_some_and(Object::mark_stopped)));
    cache.flush(heap);
    begin_sweep(heap);
    heap.check_with(&[&cache]).expect("a sound heap");
    (heap, cache, objects)
}

#[test]
fn what_is_unswept_is_dead_or_alive_and_counted_so() {
    let class = class(48, Kind::Noscan);
    let (heap, cache, objects) = marked(class, 200);
    let alive = || objects.iter().map(|&object| heap.find(object).is_some_and(|object| heap.is_alive(object)));
    let unswept: Vec<_> = alive().collect();
    assert!(unswept.iter().enumerate().all(|(index, &alive)| alive == (index < 200)));
    assert_eq!((heap.live(&cache), heap.freed_objects(), heap.pages_in_use(&cache)), (Bytes(200 * 48), 0, Pages(3)));
    heap.sweep_all();
    assert!(alive().eq(unswept));
    assert_eq!((heap.live(&cache), heap.freed_objects(), heap.pages_in_use(&cache)), (Bytes(200 * 48), 310, Pages(2)));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn room_in_unswept_spans_is_found_before_fresh_pages_are_taken() {
    let class = class(48, Kind::Noscan);
    let (heap, mut cache, objects) = marked(class, 200);
    let mut again: Vec<_> = Vec::new();
    for count in 1..=objects.len() - 200 {
        again.push(allocate(heap, &mut cache, class).expect("memory"));
        assert!(heap.pages_in_use(&cache) <= Pages(3));
        if count % if cfg!(miri) { 250 } else { 50 } == 0 {
            heap.check_with(&[&cache]).expect("a sound heap");
        }
    }
    again.sort_unstable();
    let mut dead = objects[200..].to_vec();
    dead.sort_unstable();
    assert_eq!(again, dead);
}

#[test]
fn fresh_pages_are_looked_for_in_unswept_spans_of_every_class() {
    let (heap, mut cache, _) = marked(class(1024, Kind::Noscan), 0);
    for _ in 0..3 * 4 {
        allocate(heap, &mut cache, class(2048, Kind::Ambiguous)).expect("memory");
        assert!(heap.pages_in_use(&cache) <= Pages(3));
    }
    let large = |bytes| {
        let (heap, mut cache, _) = marked(class(1024, Kind::Noscan), 0);
        let mut debt = heap.sweep_debt(Pages::holding(bytes)).expect("all is unswept");
        while heap.pay(&mut debt) {}
        let out = heap.allocate_large(&mut cache, bytes, 8, Kind::Noscan, false);
        heap.check_with(&[&cache]).expect("a sound heap");
        (out, heap.pages_in_use(&cache))
    };
    assert!(matches!(large(Bytes(40_000)), (Ok(_), Pages(5))));
    assert!(matches!(large(Bytes(isize::MAX as usize)), (Err(Shortage::Exhausted { .. }), Pages(0))));
}

#[test]
fn all_is_swept_when_the_trigger_is_reached() {
    let (heap, _) = heap();
    let mut cache = Cache::new();
    let (small, other) = (class(1024, Kind::Noscan), class(4096, Kind::Noscan));
    for (class, step) in [(small, small.slots()), (other, 1)] {
        let objects: Vec<_> = (0..300).map(|_| allocate(heap, &mut cache, class).expect("memory")).collect();
        let kept = objects.iter().step_by(step);
        kept.for_each(|&object| assert!(heap.find(object).is_some_and(Object::mark_stopped)));
    }
    cache.flush(heap);
    begin_sweep(heap);
    // The small ones' spans come first, and have room for everything up to the trigger.
    heap.sweep_some();
    heap.set_trigger(Bytes(heap.live(&cache).0 + 30 * small.slots() * small.slot_bytes()));
    let before = heap.unswept();
    assert!(before > Pages(100));
    while allocate(heap, &mut cache, small).is_ok() {
        let left = heap.trigger().0.saturating_sub(heap.live(&cache).0) / PAGE.0 + 1;
        assert!(heap.unswept().0 <= (before.0 * left).div_ceil(30), "{left} pages before the trigger");
    }
    assert_eq!(heap.unswept(), Pages(0));
    heap.check_with(&[&cache]).expect("a sound heap");
}

/// A heap without a free page, in which the collector has found 300 spans of one class alive, but for objects of some numbers. These
/// are swept first, then as many or more of another that are dead.
fn long_to_sweep(lives: impl Fn(usize) -> bool) -> (&'static Heap, &'static Pretend, Cache) {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let (alive, dead) = (class(1024, Kind::Noscan), class(4096, Kind::Noscan));
    for number in 0..300 * alive.slots() {
        let object = allocate(heap, &mut cache, alive).expect("memory");
        assert!(!lives(number) || heap.find(object).is_some_and(Object::mark_stopped));
    }
    (0..300 * dead.slots()).for_each(|_| _ = allocate(heap, &mut cache, dead).expect("memory"));
    platform.fail_after(0);
    while allocate(heap, &mut cache, class(4096, Kind::Noscan)).is_ok() {}
    platform.fail_no_more();
    cache.flush(heap);
    begin_sweep(heap);
    (heap, platform, cache)
}

#[test]
fn no_step_sweeps_more_than_a_few_spans() {
    let (heap, _, mut cache) = long_to_sweep(|_| true);
    // All that is unswept is one page's share.
    heap.set_trigger(Bytes(heap.live(&cache).0 + 1));
    let mut before = heap.unswept().0;
    let mut few = |most| {
        let swept = before - heap.unswept().0;
        assert!((1..=most).contains(&swept), "{swept} spans");
        before -= swept;
    };
    assert_eq!(cache.refill(heap, class(1024, Kind::Noscan), false, false), Ok(()));
    few(64 + 100 + 64);
    let mut debt = heap.sweep_debt(Pages(5)).expect("much is unswept");
    while heap.pay(&mut debt) {
        few(64);
    }
    assert_eq!(heap.unswept(), Pages(0));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn a_portion_is_swept_before_fresh_pages_are_taken() {
    let (heap, _, mut cache) = long_to_sweep(|_| true);
    let before = heap.unswept();
    assert_eq!(cache.refill(heap, class(2048, Kind::Noscan), false, false), Ok(()));
    // What falls to one page, long before the trigger, is one.
    assert_eq!(before.0 - heap.unswept().0, 1 + 64);
}

#[test]
fn a_span_with_room_is_searched_among_the_unswept_of_its_class() {
    let (heap, _, mut cache) = long_to_sweep(|number| number % 320 != 0);
    let before = heap.pages_in_use(&cache);
    assert_eq!(cache.refill(heap, class(1024, Kind::Noscan), false, false), Ok(()));
    assert_eq!((heap.pages_in_use(&cache), cache.free_slots(class(1024, Kind::Noscan))), (before, 1));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn without_frames_unswept_spans_are_the_last_hope() {
    let (heap, platform, mut cache) = long_to_sweep(|_| true);
    platform.fail_after(0);
    let mut allocate = || allocate(heap, &mut cache, class(2048, Kind::Noscan));
    let shortage = (0..100_000).find_map(|_| allocate().err());
    assert!(shortage == Some(Shortage::Unswept) && heap.unswept() > Pages(0));
    heap.sweep_all();
    assert!((0..300).all(|_| allocate().is_ok()));
    let shortage = (0..100_000).find_map(|_| allocate().err());
    assert!(matches!(shortage, Some(Shortage::Exhausted { .. })));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn sweeping_later_leaves_what_sweeping_at_once_leaves() {
    let mut random = Random::new();
    let heaps = [heap().0, heap().0];
    let mut caches = [Cache::new(), Cache::new()];
    // Where each object is in both.
    let mut held: Vec<[usize; 2]> = Vec::new();
    let mut dead: Vec<[usize; 2]> = Vec::new();
    for _ in 0..if cfg!(miri) { 3 } else { 40 } {
        dead.clear();
        for _ in 0..random.below(300) {
            let bytes = [random.below(60_000), random.below(5000), random.below(100)][random.below(8).min(2)];
            held.push(core::array::from_fn(|at| match SpanClass::for_request(bytes, 8, Kind::Noscan) {
                Some(class) => allocate(heaps[at], &mut caches[at], class).expect("memory"),
                None => {
                    let object = heaps[at].allocate_large(&mut caches[at], Bytes(bytes), 8, Kind::Noscan, false);
                    object.expect("memory").addr().get()
                }
            }));
        }
        held.retain(|&object| {
            let lives = random.below(3) > 0;
            if !lives {
                dead.push(object);
            }
            lives
        });
        for (at, heap) in heaps.into_iter().enumerate() {
            heap.sweep_all();
            caches[at].flush(heap);
            held.iter().for_each(|object| assert!(heap.find(object[at]).is_some_and(Object::mark_stopped)));
            begin_sweep(heap);
        }
        heaps[0].sweep_all();
        (0..random.below(3)).for_each(|_| _ = heaps[1].sweep_some());
        for (at, heap) in heaps.into_iter().enumerate() {
            heap.check_with(&[&caches[at]]).expect("a sound heap");
            let is_alive = |object: &[usize; 2]| heap.find(object[at]).is_some_and(|object| heap.is_alive(object));
            assert!(held.iter().all(is_alive) && !dead.iter().any(is_alive));
        }
        assert_eq!(heaps[0].live(&caches[0]), heaps[1].live(&caches[1]));
    }
    heaps[1].sweep_all();
    assert_eq!(heaps[0].freed_objects(), heaps[1].freed_objects());
}

#[test]
fn more_slots_of_a_span_may_come_back_than_were_taken() {
    let (heap, _) = heap();
    let (mut cache, mut other) = (Cache::new(), Cache::new());
    let class = class(1024, Kind::Noscan);
    let slots = class.slots();
    // Two spans with one free slot each.
    let [objects, _] = [&mut cache, &mut other]
        .map(|cache| (1..slots).map(|_| allocate(heap, cache, class).expect("memory")).collect::<Vec<_>>());
    other.flush(heap);
    cache.flush(heap);
    // One slot is taken with the span, and all that were allocated before are freed meanwhile.
    assert_eq!(allocate(heap, &mut cache, class), Ok(objects[0] + (slots - 1) * 1024));
    for object in objects {
        // SAFETY: it is not used again.
        assert!(unsafe { cache.free(class, pointer(object)) });
    }
    cache.refill(heap, class, false, false).expect("memory");
    heap.check_with(&[&cache, &other]).expect("a sound heap");
    (0..3 * slots).for_each(|_| _ = allocate(heap, &mut cache, class).expect("memory"));
    heap.check_with(&[&cache, &other]).expect("a sound heap");
    assert_eq!(heap.counted(class, &cache).allocated, slots + 3 * slots);
}

#[test]
fn a_large_object_is_freed_by_hand_wherever_its_list_has_it() {
    let mut random = Random::new();
    let (heap, _) = heap();
    let mut cache = Cache::new();
    let count = if cfg!(miri) { 4 } else { 20 };
    let mut objects: Vec<_> = (0..count)
        .map(|_| heap.allocate_large(&mut cache, Bytes(40_000), 8, Kind::Noscan, false).expect("memory"))
        .collect();
    cache.flush(heap);
    objects.iter().for_each(|object| assert!(heap.find(object.addr().get()).is_some_and(Object::mark_stopped)));
    begin_sweep(heap);
    random.shuffle(&mut objects);
    for (number, object) in objects.into_iter().enumerate() {
        if number == count / 2 {
            heap.sweep_all();
        }
        // SAFETY: it is not used again.
        unsafe { heap.free_large(object) };
        heap.check_with(&[&cache]).expect("a sound heap");
    }
    assert_eq!((heap.pages_in_use(&cache), heap.live(&cache)), (Pages(0), Bytes(0)));
}

#[test]
fn a_huge_page_is_taken_whole_split_when_a_part_is_released_and_joined_when_it_is_free_and_taken_again() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let mut large =
        |bytes: usize| heap.allocate_large(&mut cache, Bytes(bytes), 8, Kind::Noscan, false).expect("memory");
    let huge = |heap: &Heap| platform.on_huge_pages(heap.reserved()).map_or(0, |bytes| bytes.0 / (2 * MIB));
    let (first, second, third) = (large(MIB), large(MIB), large(2 * MIB));
    assert_eq!((huge(heap), platform.committed_in(heap.reserved())), (2, 4 * MIB));
    // SAFETY: as everywhere here, it is not used again.
    let free = |object| unsafe { heap.free_large(object) };
    let release = |portion| {
        let mut end = usize::MAX;
        core::iter::from_fn(|| heap.release_below(&mut end, portion)).map(|bytes| bytes.0).sum::<usize>()
    };
    free(second);
    assert_eq!((release(Portion::Huge), huge(heap)), (0, 2));
    assert_eq!((release(Portion::Any), huge(heap)), (MIB, 1), "split");
    let second = large(MIB);
    assert_eq!((huge(heap), heap.released()), (1, Bytes(0)), "somebody has the other half");
    free(first);
    assert_eq!(release(Portion::Any), MIB);
    free(second);
    assert_eq!((large(2 * MIB), huge(heap)), (first, 2), "joined");
    free(third);
    assert_eq!((release(Portion::Huge), huge(heap)), (2 * MIB, 1));
    // Also by who takes the part that has its memory still.
    let (third, fourth) = (large(MIB), large(MIB));
    free(fourth);
    assert_eq!((release(Portion::Any), huge(heap)), (MIB, 1), "split");
    free(third);
    assert_eq!((large(MIB), huge(heap)), (third, 2), "joined");
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn a_supply_takes_a_huge_page_whole_and_of_one_that_is_in_use_its_own_pages() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let page = class(8 * KIB, Kind::Noscan);
    let first = allocate(heap, &mut cache, page).expect("memory");
    assert_eq!(platform.on_huge_pages(heap.reserved()), Some(Bytes(2 * MIB)));
    cache.flush(heap);
    let mut end = usize::MAX;
    while heap.release_below(&mut end, Portion::Any).is_some() {}
    assert_eq!(platform.committed_in(heap.reserved()), PAGE.0);
    assert_eq!(allocate(heap, &mut cache, page), Ok(first + PAGE.0));
    assert_eq!(platform.committed_in(heap.reserved()), 2 * PAGE.0);
    heap.check_with(&[&cache]).expect("a sound heap");
}

/// That all of the object's span is mapped as is right for such objects, and in the span's bounds.
fn assert_mapped(heap: &Heap, platform: &Pretend, object: usize, kind: Kind) {
    let span = heap.find(object).expect("an object that is held is found").span;
    let step = if cfg!(miri) { 100 } else { 1 };
    for page in (0..span.pages().0).step_by(step).map(|page| span.base().plus(Pages(page).bytes())) {
        assert_eq!(platform.mapping(page.0), Some(heap.mapping(kind)), "{page} of {kind:?}");
    }
}

#[test]
fn ambiguous_objects_have_chunks_of_their_own_whose_memory_comes_by_small_pages() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let mut small = Vec::new();
    let mut large = Vec::new();
    // They grow the heap by turns, by one chunk or by several; then they take what is free, and what has been released.
    for round in 0..4 {
        for kind in [Kind::Ambiguous, Kind::Precise, Kind::Noscan] {
            let count = if cfg!(miri) { 10 } else { 100 };
            small.extend((0..count).map(|_| (allocate(heap, &mut cache, class(1024, kind)).expect("memory"), kind)));
            for mib in [1, 5] {
                let object = heap.allocate_large(&mut cache, Bytes(mib * MIB), 8, kind, false).expect("memory");
                assert_mapped(heap, platform, object.addr().get(), kind);
                large.push((object, kind));
            }
        }
        small.iter().for_each(|&(object, kind)| assert_mapped(heap, platform, object, kind));
        let on_small = heap.on_small_pages();
        assert!(on_small >= Bytes(6 * MIB) && on_small.0 + 12 * MIB <= heap.with_memory().0, "{on_small:?}");
        for (object, _) in large.drain(..) {
            // SAFETY: it is not used again.
            unsafe { heap.free_large(object) };
        }
        if round % 2 == 1 {
            let mut end = usize::MAX;
            while heap.release_below(&mut end, Portion::Any).is_some() {}
            assert!(heap.on_small_pages() < Bytes(MIB));
        }
        heap.check_with(&[&cache]).expect("a sound heap");
    }
    // The same chunks served every round.
    assert!(heap.grown() <= Bytes(36 * MIB), "{:?}", heap.grown());
    cache.flush(heap);
    assert_eq!(sweep(heap), small.len());
    heap.check_with(&[&cache]).expect("a sound heap");
    assert_eq!(heap.pages_in_use(&cache), Pages(0));
}

#[test]
fn where_pages_of_4_kib_are_of_no_use_all_objects_have_the_same_chunks() {
    let heap: &Heap = Box::leak(Box::new(Heap::new()));
    let platform = Pretend::with_zeroes();
    heap.init(platform).expect("there is room for two arenas");
    let mut cache = Cache::new();
    for kind in [Kind::Ambiguous, Kind::Precise, Kind::Noscan] {
        let object = allocate(heap, &mut cache, class(1024, kind)).expect("memory");
        assert_eq!(platform.mapping(object), Some(Mapping::Huge));
        let large = heap.allocate_large(&mut cache, Bytes(MIB), 8, kind, false).expect("memory");
        assert_eq!(platform.mapping(large.addr().get()), Some(Mapping::Huge));
    }
    assert_eq!((heap.grown(), heap.on_small_pages()), (Bytes(4 * MIB), Bytes(0)));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn small_pages_take_2_mib_at_once_too_and_what_they_have_stays() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let page = class(8 * KIB, Kind::Ambiguous);
    let committed = || platform.committed_in(heap.reserved());
    let first = allocate(heap, &mut cache, page).expect("memory");
    assert_eq!((committed(), platform.on_huge_pages(heap.reserved())), (2 * MIB, Some(Bytes(0))));
    // All but half of what is free goes back: the next 2 MiB are in pieces, and nothing is gained by joining them.
    let large = heap.allocate_large(&mut cache, Bytes(MIB), 8, Kind::Ambiguous, false).expect("memory");
    cache.flush(heap);
    let mut end = usize::MAX;
    while heap.release_below(&mut end, Portion::Any).is_some() {}
    // SAFETY: it is not used again.
    unsafe { heap.free_large(large) };
    assert_eq!((sweep(heap), committed()), (1, MIB + PAGE.0));
    let released = heap.released();
    assert_eq!(allocate(heap, &mut cache, page), Ok(first));
    assert_eq!((committed(), heap.released()), (MIB + PAGE.0, released));
    assert_eq!(heap.on_small_pages(), Bytes(MIB + PAGE.0));
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn memory_that_is_to_stay_free_stays_so_as_long_as_other_can_be_released() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let mut large =
        |mib: usize| heap.allocate_large(&mut cache, Bytes(mib * MIB), 8, Kind::Noscan, false).expect("memory");
    // The first 8 MiB are free then, and have memory.
    let (below, _kept) = (large(8), large(1));
    // SAFETY: it is not used again.
    unsafe { heap.free_large(below) };
    let least = platform.free_memory().0 - 3 * MIB;
    heap.set_least_free(Bytes(least));
    for round in 0..3 {
        let object = large(10);
        assert!(round > 0 || heap.released() >= Bytes(7 * MIB), "what was free made way");
        assert!(platform.free_memory().0 >= least, "{} of {least}", platform.free_memory().0);
        // SAFETY: it is not used again.
        unsafe { heap.free_large(object) };
    }
    large(20);
    assert!(platform.free_memory().0 < least, "there is nothing left to make way");
    heap.check_with(&[&cache]).expect("a sound heap");
}

#[test]
fn any_trace_of_allocations_and_collections_agrees_with_a_list_of_objects() {
    let mut random = Random::new();
    let (heap, platform) = heap();
    let mut caches = [Cache::new(), Cache::new()];
    let patterns: Vec<&'static Pattern> = (0..20)
        .map(|_| {
            let words = random.below(64) + 1;
            let pattern = Pattern::of_elements(words, random.word() >> (64 - words) | 1, random.below(1000) + 1);
            &*Box::leak(Box::new(if random.below(2) == 0 { pattern } else { pattern.to_the_end() }))
        })
        .collect();
    // Base of each object that is held, its class if it is small, its stamp, and how it is read.
    let mut held: BTreeMap<usize, (Option<SpanClass>, u64, Reading)> = BTreeMap::new();
    for step in 0..if cfg!(miri) { 120_u64 } else { 6000 } {
        let cache = &mut caches[random.below(2)];
        if random.below(300) == 0 {
            heap.sweep_all();
            caches.iter_mut().for_each(|cache| cache.flush(heap));
            held.retain(|_, _| random.below(3) > 0);
            for base in held.keys() {
                assert!(heap.find(base + 7).is_some_and(|object| object.base.0 == *base && object.mark_stopped()));
            }
            begin_sweep(heap);
            (0..random.below(3)).for_each(|_| _ = heap.sweep_some());
            heap.check_with(&caches.each_ref()).expect("a sound heap");
            continue;
        }
        if random.below(100) == 0 {
            let mut end = usize::MAX;
            (0..random.below(20)).for_each(|_| _ = heap.release_below(&mut end, Portion::Any));
            heap.check_with(&caches.each_ref()).expect("a sound heap");
            continue;
        }
        if random.below(4) == 0 && !held.is_empty() {
            let nth = random.below(held.len());
            let (base, (class, ..)) = held.iter().nth(nth).map(|(&base, &object)| (base, object)).expect("not empty");
            held.remove(&base);
            match class {
                // SAFETY: the object was held, and is no longer.
                Some(class) => _ = unsafe { cache.free(class, pointer(base)) },
                // SAFETY: as above.
                None => unsafe { heap.free_large(pointer(base)) },
            }
            continue;
        }
        let bytes = [random.below(60_000), random.below(5000), random.below(600)][random.below(8).min(2)];
        let kind = [Kind::Noscan, Kind::Precise, Kind::Ambiguous][random.below(3)];
        let class = SpanClass::for_request(bytes, 8, kind);
        let reading = Reading { kind, pattern: patterns[random.below(patterns.len())], sure: true };
        let base = match class {
            None => {
                let bytes = if random.below(20) == 0 {
                    random.below(if cfg!(miri) { 3 } else { 9 } * MIB) + bytes
                } else {
                    bytes
                };
                let object = heap.allocate_large(cache, Bytes(bytes), 8, kind, false).expect("memory");
                // SAFETY: it is new.
                unsafe { heap.zero_large(object) };
                heap.read_large(object, reading);
                object.addr().get()
            }
            Some(class) => {
                let how = |cache: &mut Cache, class: SpanClass| match kind {
                    Kind::Precise => cache.current(class).allocate_patterned(class, reading),
                    Kind::Ambiguous => cache.allocate_zeroed(class),
                    Kind::Noscan => cache.allocate(class),
                };
                allocate_by(how, heap, cache, class).expect("memory")
            }
        };
        // SAFETY: every object has a word, and this one is ours.
        unsafe { pointer(base).cast::<u64>().write(step) };
        let before = held.insert(base, (class, step, reading));
        assert!(before.is_none(), "the slot was free");
        let probe = random.below(held.len());
        let (&base, &(_, stamp, reading)) = held.iter().nth(probe).expect("below the length");
        // SAFETY: as above.
        assert_eq!(unsafe { pointer(base).cast::<u64>().read() }, stamp, "nobody else wrote there");
        assert_eq!(platform.mapping(base), Some(heap.mapping(reading.kind)));
        let object = heap.find(base).expect("an object that is held is found");
        assert!(heap.is_alive(object) && object.base.0 == base);
        let words = object.contents().0 / 8;
        let word = if random.below(2) == 0 { random.below(words) } else { words - 1 };
        let may_refer = match reading.kind {
            Kind::Noscan => false,
            Kind::Precise => reading.pattern.has(word),
            Kind::Ambiguous => true,
        };
        assert_eq!(object.may_refer(word), may_refer, "word {word} of {words}");
    }
    heap.check_with(&caches.each_ref()).expect("a sound heap");
}

#[test]
fn small_objects_do_not_pass_a_limit_while_free_pages_can_make_way() {
    let (heap, platform) = heap();
    let mut cache = Cache::new();
    let mut large =
        |mib: usize| heap.allocate_large(&mut cache, Bytes(mib * MIB), 8, Kind::Noscan, false).expect("memory");
    let (below, _between, above, _end) = (large(8), large(1), large(8), large(1));
    // SAFETY: neither is used again.
    unsafe { heap.free_large(below) };
    let mut end = usize::MAX;
    while heap.release_below(&mut end, Portion::Any).is_some() {}
    // SAFETY: as above.
    unsafe { heap.free_large(above) };
    let least = platform.free_memory();
    heap.set_least_free(least);
    let class = class(8192, Kind::Noscan);
    for _ in 0..4 * MIB / 8192 {
        allocate(heap, &mut cache, class).expect("memory");
        assert!(platform.free_memory() >= least, "{:?} have made way", heap.released());
    }
    heap.check_with(&[&cache]).expect("a sound heap");
}

//! Zeroed memory: what clears it, and what need not be cleared. Go: memclr_amd64.s, allocNeedsZero in mheap.go.
//!
//! Where the platform [commits zeroes](crate::platform::Platform::commits_zeroes), a span of pages that nobody has used since needs no
//! zeroing: of pages above all that were ever in use (`PageHeap::fresh`), or of pages that had been released. Each of its slots is then
//! given once as it is. The first that becomes free again, by hand or by a sweep, ends that for the whole span.
//!
//! Else a new span is zeroed whole before its first slot is given to somebody who wants zeroes, and known to be zero from then on: one
//! long run is cleared faster than its parts. Who writes a value in its place wants none, and gets the span as it is. A
//! slot in a span that was swept is zeroed alone.
//!
//! Unsafe here: writing to memory of the caller's, reading that of free slots.
#![allow(unsafe_code)]

use super::Span;
use super::span::Object;
use crate::addr::Bytes;
use core::arch::asm;
use core::ptr::NonNull;

/// From here on memset's start pays, on hardware as under QEMU.
const LONG: Bytes = Bytes(256);

/// Zeroes words.
///
/// # Safety
/// `start` and `bytes` are multiples of 8, there is at least a word, and all are the caller's alone to write.
#[inline(always)]
pub(crate) unsafe fn zero(start: NonNull<u8>, bytes: Bytes) {
    if bytes >= LONG || cfg!(miri) {
        // SAFETY: the caller's promise.
        return unsafe { start.write_bytes(0, bytes.0) };
    }
    // Two words a turn, from the end. Of a loop in Rust the compiler makes a call of memset, or unrolls what mostly ends after two turns.
    // SAFETY: writes below `bytes` alone: what is left is a multiple of 16 from the label on.
    unsafe {
        asm!(
            "test {left:l}, 8", "jz 2f",
            "mov qword ptr [{start} + {left} - 8], 0", "sub {left}, 8", "jz 3f",
            "2:",
            "mov qword ptr [{start} + {left} - 8], 0", "mov qword ptr [{start} + {left} - 16], 0",
            "sub {left}, 16", "jnz 2b",
            "3:",
            start = in(reg) start.as_ptr(), left = inout(reg) bytes.0 => _, options(nostack),
        );
    }
}

/// Zeroes whole pages: many of them past the caches where vector registers may be used, that is in a process. Such
/// stores need not fetch what they overwrite, half of the traffic, and push nothing out. Who goes on to write one word
/// of each line misses for it, 1.5 times as long in all; who writes all words, some, or in no order loses nothing from
/// 64 KiB on, and gains from 256 KiB (measured in C, over 256 MiB).
///
/// # Safety
/// They are, and are the caller's alone to write.
pub(super) unsafe fn zero_pages(start: NonNull<u8>, bytes: Bytes) {
    #[cfg(all(target_feature = "sse2", not(miri)))]
    if bytes.0 >= 64 << 10 {
        // The fence comes before anything that says that they are zero.
        // SAFETY: writes from `start` to the end, by lines, of which there are some.
        return unsafe {
            asm!(
                "pxor {zero}, {zero}",
                "2:",
                "movntdq [{at}], {zero}", "movntdq [{at} + 16], {zero}",
                "movntdq [{at} + 32], {zero}", "movntdq [{at} + 48], {zero}",
                "add {at}, 64", "cmp {at}, {end}", "jne 2b",
                "sfence",
                at = inout(reg) start.as_ptr() => _, end = in(reg) start.as_ptr().wrapping_add(bytes.0),
                zero = out(xmm_reg) _, options(nostack),
            );
        };
    }
    // SAFETY: the caller's promise.
    unsafe { zero(start, bytes) }
}

impl Span {
    /// Zeroes all slots at once unless they are known to be zero. The span has just been made: none is taken.
    pub(super) fn zero_all(&self) {
        if !self.needs_zero() {
            return;
        }
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(self.base().0)).expect("no span is at 0");
        // SAFETY: the slots of a span that nobody else has.
        unsafe { zero(start, Bytes(self.slots() as usize * self.slot_bytes().0)) };
        self.set_needs_zero(false);
    }

    /// Whether every word of every free slot is zero. For the verifier, of a span whose pages are its own.
    pub(super) fn is_zero_where_free(&'static self) -> bool {
        let is_zero = |slot: Object| {
            let words: *const u64 = core::ptr::with_exposed_provenance(slot.base.0);
            // SAFETY: a slot of the heap's, whose memory is committed; nobody allocates meanwhile.
            (0..slot.bytes().0 / 8).all(|word| unsafe { words.add(word).read() } == 0)
        };
        self.objects().filter(|slot| !slot.is_allocated()).all(is_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{KIB, MIB, PAGE, Pages};
    use crate::heap::Portion;
    use crate::heap::pretend::{Pretend, Random};
    use crate::heap::tests::sweep;
    use crate::heap::{Cache, Heap, Kind, SpanClass};

    fn heap(platform: &'static Pretend) -> (&'static Heap, Cache) {
        let heap = Box::leak(Box::new(Heap::new()));
        heap.init(platform).expect("there is room for an arena");
        (heap, Cache::new())
    }

    fn class(bytes: usize) -> SpanClass {
        SpanClass::for_request(bytes, 8, Kind::Noscan).expect("small")
    }

    /// `zeroed` says how the slot is asked for.
    fn allocate(heap: &Heap, cache: &mut Cache, class: SpanClass, zeroed: bool) -> NonNull<u8> {
        loop {
            let object = if zeroed { cache.allocate_zeroed(class) } else { cache.allocate(class) };
            match object {
                Some(object) => return object,
                None => cache.refill(heap, class, zeroed, false).expect("memory"),
            }
        }
    }

    fn large(heap: &Heap, cache: &mut Cache, bytes: usize) -> NonNull<u8> {
        heap.allocate_large(cache, Bytes(bytes), 8, Kind::Noscan, false).expect("memory")
    }

    /// Whether the caller's object of so many bytes is zero; then it is not.
    fn use_up(object: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: a slot of so many bytes, nobody else's.
        let slot = unsafe { core::slice::from_raw_parts_mut(object.as_ptr(), bytes) };
        let is_zero = slot.iter().all(|byte| *byte == 0);
        slot.fill(0xff);
        is_zero
    }

    fn needs_zero(heap: &Heap, object: NonNull<u8>) -> bool {
        heap.find(object.addr().get()).expect("an object").span.needs_zero()
    }

    #[test]
    fn so_many_words_are_zeroed_and_no_others() {
        for words in 1..LONG.0 / 8 + 4 {
            let mut memory = vec![7u64; words + 2];
            // SAFETY: all of the vector's words but the first and the last.
            unsafe { zero(NonNull::from(&mut memory[1..=words]).cast(), Bytes(8 * words)) };
            assert!(memory[1..=words].iter().all(|word| *word == 0), "{words} words");
            assert_eq!((memory[0], memory[words + 1]), (7, 7), "{words} words");
        }
    }

    #[test]
    fn so_many_pages_are_zeroed_and_no_others_past_the_caches_too() {
        for pages in [1, 7, 8, 40] {
            let mut memory = vec![7u8; (pages + 3) * PAGE.0];
            let start = memory.as_ptr().addr().next_multiple_of(PAGE.0) - memory.as_ptr().addr() + PAGE.0;
            let end = start + pages * PAGE.0;
            // SAFETY: all of the vector's whole pages but the first and what is behind them.
            unsafe { zero_pages(NonNull::from(&mut memory[start..end]).cast(), Pages(pages).bytes()) };
            assert!(memory[start..end].iter().all(|byte| *byte == 0), "{pages} pages");
            assert!(memory[..start].iter().chain(&memory[end..]).all(|byte| *byte == 7), "{pages} pages");
        }
    }

    #[test]
    fn what_is_known_to_be_zero_is_given_as_it_is() {
        let class = class(48);
        for (platform, touched) in [(Pretend::with_zeroes(), true), (Pretend::new(), false)] {
            let (heap, mut cache) = heap(platform);
            let first = allocate(heap, &mut cache, class, touched);
            heap.check_with(&[&cache]).expect("a sound heap");
            // SAFETY: the next slot, which is free: nobody but the walker would see it.
            unsafe { first.add(48 + 5).write(7) };
            assert_eq!(heap.check_with(&[&cache]).is_err(), touched, "the walker reads what is known to be zero");
            let second = allocate(heap, &mut cache, class, true);
            // SAFETY: the slot is this test's.
            assert_eq!((second.addr().get(), unsafe { second.add(5).read() == 7 }), (first.addr().get() + 48, touched));
        }
    }

    #[test]
    fn a_slot_that_was_freed_is_zeroed_before_it_is_given_again() {
        let class = class(128);
        let (heap, mut cache) = heap(Pretend::with_zeroes());
        let first = allocate(heap, &mut cache, class, true);
        assert!(use_up(first, 128) && !needs_zero(heap, first));
        // SAFETY: it is not used again.
        unsafe { cache.free(class, first) };
        let again = allocate(heap, &mut cache, class, true);
        assert!(again == first && use_up(again, 128));
        // The same by a sweep. A span in which it frees nothing stays as it is.
        let (heap, mut cache) = self::heap(Pretend::with_zeroes());
        let objects: Vec<_> = (0..class.slots() + 3).map(|_| allocate(heap, &mut cache, class, true)).collect();
        assert!(objects.iter().all(|object| use_up(*object, 128)));
        for object in objects.iter().filter(|object| **object != objects[1]) {
            heap.find(object.addr().get()).expect("an object").mark_stopped();
        }
        cache.flush(heap);
        sweep(heap);
        let last = objects[class.slots()];
        assert_eq!((needs_zero(heap, objects[0]), needs_zero(heap, last)), (true, false));
        heap.check_with(&[&cache]).expect("a sound heap");
        let taken: Vec<_> = (0..2).map(|_| allocate(heap, &mut cache, class, true)).collect();
        assert!(taken.iter().all(|object| use_up(*object, 128)));
    }

    #[test]
    fn pages_are_known_to_be_zero_before_their_first_use_and_after_their_release() {
        let (heap, mut cache) = heap(Pretend::with_zeroes());
        let mut take = |bytes| large(heap, &mut cache, bytes);
        let (used, kept) = (take(3 * MIB), take(MIB));
        assert!(!needs_zero(heap, used) && !needs_zero(heap, kept));
        // SAFETY: it is not used again.
        unsafe { heap.free_large(used) };
        assert!(needs_zero(heap, take(MIB)), "pages are dirty after their use");
        let mut end = usize::MAX;
        while heap.release_below(&mut end, Portion::Any).is_some() {}
        assert!(heap.released() >= Bytes(2 * MIB));
        let released = take(2 * MIB);
        assert_eq!((released.addr().get() - used.addr().get(), needs_zero(heap, released)), (MIB, false));
        // A run of both: the first page is dirty, the others are released.
        // SAFETY: it is not used again.
        unsafe { heap.free_large(released) };
        end = heap.page_heap.lock().arenas.page_number(crate::addr::Address(released.addr().get())) + 256;
        let first = take(128 * KIB);
        while heap.release_below(&mut end, Portion::Any).is_some() {}
        // SAFETY: it is not used again.
        unsafe { heap.free_large(first) };
        let both = take(MIB);
        assert!(both == released && needs_zero(heap, both));
        // A CPU's own page that was released.
        // SAFETY: it is not used again.
        unsafe { heap.free_large(both) };
        end = usize::MAX;
        while heap.release_below(&mut end, Portion::Any).is_some() {}
        let short = allocate(heap, &mut cache, class(8 * KIB), true);
        assert!(short == both && !needs_zero(heap, short));
        heap.check_with(&[&cache]).expect("a sound heap");
    }

    #[test]
    fn a_cpus_own_pages_are_known_to_be_zero_before_their_first_use_whoever_is_above() {
        let (heap, mut cache) = heap(Pretend::with_zeroes());
        let mut other = Cache::new();
        let class = class(8 * KIB);
        let first = allocate(heap, &mut cache, class, true);
        let above = allocate(heap, &mut other, class, true);
        let second = allocate(heap, &mut cache, class, true);
        assert_eq!(above.addr().get() - first.addr().get(), Pages(64).bytes().0);
        assert!([first, second, above].into_iter().all(|object| !needs_zero(heap, object) && use_up(object, 8 * KIB)));
        cache.flush(heap);
        other.flush(heap);
        sweep(heap);
        assert!(needs_zero(heap, allocate(heap, &mut cache, class, false)));
    }

    #[test]
    fn a_new_span_is_zeroed_whole_for_who_wants_zeroes_and_stays_dirty_for_who_does_not() {
        for kind in [Kind::Noscan, Kind::Ambiguous, Kind::Precise] {
            for zeroed in [true, false] {
                let (heap, mut cache) = heap(Pretend::new());
                let class = SpanClass::for_request(1024, 8, kind).expect("small");
                cache.refill(heap, class, zeroed, false).expect("memory");
                assert_eq!(cache.current(class).needs_zero(), !zeroed, "{kind:?}");
                heap.check_with(&[&cache]).expect("what is known to be zero is zero");
            }
        }
        // Pages that were used before, and a span that has been swept.
        let (heap, mut cache) = heap(Pretend::with_zeroes());
        let class = class(1024);
        let objects: Vec<_> = (0..2 * class.slots()).map(|_| allocate(heap, &mut cache, class, true)).collect();
        assert!(objects.iter().all(|object| use_up(*object, 1024)));
        cache.flush(heap);
        heap.find(objects[0].addr().get()).expect("an object").mark_stopped();
        sweep(heap);
        for slot in 1..2 * class.slots() {
            let object = allocate(heap, &mut cache, class, true);
            assert!(use_up(object, 1024));
            let is_new = slot >= class.slots();
            assert_eq!(needs_zero(heap, object), !is_new, "slot {slot}");
        }
    }

    #[test]
    fn any_trace_finds_zeroes_wherever_they_were_asked_for() {
        let mut random = Random::new();
        for platform in [Pretend::with_zeroes(), Pretend::new()] {
            let (heap, mut cache) = heap(platform);
            let mut live: Vec<(NonNull<u8>, SpanClass)> = Vec::new();
            for step in 0..20_000 {
                let class = class([16, 48, 520, 5000, 32_760][random.below(5)]);
                match random.below(if live.len() > 400 { 4 } else { 8 }) {
                    0..3 if !live.is_empty() => {
                        let (object, class) = live.swap_remove(random.below(live.len()));
                        // SAFETY: it is not used again.
                        unsafe { cache.free(class, object) };
                    }
                    3 if step % 50 == 0 => {
                        cache.flush(heap);
                        live.iter().for_each(|(object, _)| {
                            heap.find(object.addr().get()).expect("an object").mark_stopped();
                        });
                        sweep(heap);
                        let mut end = usize::MAX;
                        while random.below(4) != 0 && heap.release_below(&mut end, Portion::Any).is_some() {}
                    }
                    kind => {
                        let object = allocate(heap, &mut cache, class, kind & 1 == 0);
                        let is_zero = use_up(object, class.slot_bytes());
                        assert!(is_zero || kind & 1 != 0, "step {step}: {} bytes", class.slot_bytes());
                        live.push((object, class));
                    }
                }
                if step % 1000 == 0 {
                    heap.check_with(&[&cache]).expect("a sound heap");
                }
            }
        }
    }
}

//! Requests that no memory could meet, and odd ones that must be met: an error or the caller's end. After each
//! test its runner finds the heap sound.
//!
//! Unsafe here: asking the global allocator without a collection in between. The compiler leaves out an allocation that
//! nobody looks at, and takes it for one that succeeds: hence `black_box`.

use alloc::alloc::{alloc, alloc_zeroed, dealloc, realloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hint::black_box;
use runtime::addr::{KIB, MIB};
use runtime::kernel_test;
use runtime::prelude::*;

const MOST: usize = isize::MAX as usize;

fn layout(bytes: usize, align: usize) -> Layout {
    Layout::from_size_align(bytes, align).expect("rounded up to its alignment it is at most isize::MAX")
}

/// All that a layout may ask, and what arithmetic on it could make small: each is refused, by every function of the allocator.
#[kernel_test]
fn requests_near_isize_max_are_refused_and_what_there_was_stays() {
    let small = layout(100, 8);
    // SAFETY: the layout is not empty.
    let kept = unsafe { black_box(alloc(small)) };
    assert!(!kept.is_null());
    // SAFETY: 100 bytes of ours.
    unsafe { kept.write_bytes(0xa5, 100) };
    for align in [1, 2, 8, 16, 4 * KIB, 2 * MIB] {
        let largest = MOST - (align - 1);
        for bytes in [largest, largest - 1, largest - 8 * KIB, largest / 2, 1 << 50, 1 << 46] {
            let bytes = bytes.max(1);
            // SAFETY: not empty.
            assert!(unsafe { black_box(alloc(layout(bytes, align))) }.is_null(), "{bytes} at {align}");
            // SAFETY: as above.
            assert!(unsafe { black_box(alloc_zeroed(layout(bytes, align))) }.is_null(), "{bytes} at {align}");
        }
    }
    for bytes in [MOST - 7, MOST - 15, 1 << 50] {
        // SAFETY: `kept` is ours, and the size is one that the layout's alignment allows.
        assert!(unsafe { black_box(realloc(kept, small, bytes)) }.is_null());
        // SAFETY: a refused realloc leaves the block alone.
        assert!((0..100).all(|byte| unsafe { kept.add(byte).read() } == 0xa5));
    }
    // SAFETY: allocated above with this layout.
    unsafe { dealloc(kept, small) };
    assert!(Vec::<u64>::new().try_reserve_exact(MOST / 8).is_err());
    assert!(Vec::<u8>::new().try_reserve_exact(MOST).is_err());
}

#[kernel_test]
fn alignments_up_to_2_mib_are_kept_and_absurd_ones_refused() {
    for align in (0..=21).map(|shift| 1 << shift) {
        for bytes in [1, 8, 100, 4 * KIB, 40_000, align + 1] {
            let layout = layout(bytes, align);
            // SAFETY: not empty.
            let block = unsafe { black_box(alloc_zeroed(layout)) };
            assert!(!block.is_null() && block.addr().is_multiple_of(align), "{bytes} at {align}: {block:p}");
            // SAFETY: so many bytes of ours.
            unsafe {
                assert!((0..bytes).all(|byte| block.add(byte).read() == 0), "{bytes} at {align}");
                block.write_bytes(0xff, bytes);
                dealloc(block, layout);
            }
        }
    }
    for align in (28..=62).map(|shift| 1 << shift) {
        // SAFETY: not empty.
        assert!(unsafe { black_box(alloc(layout(1, align))) }.is_null(), "{align}");
    }
}

/// Of size zero, but with an alignment.
#[derive(Trace)]
#[repr(align(4096))]
struct Nothing;

#[kernel_test]
fn what_has_no_size_takes_no_memory() {
    let before = memory_stats();
    let objects = (Gc::new(()), Gc::new([0u64; 0]), Gc::<[u8; 0]>::zeroed(), Gc::new(Nothing));
    assert!((&raw const *objects.3).addr().is_multiple_of(4096));
    let boxed = (Box::new(()), Box::new(Nothing), Vec::<Nothing>::with_capacity(MOST));
    let after = memory_stats();
    assert_eq!((after.mallocs, after.heap_alloc), (before.mallocs, before.heap_alloc));
    black_box((objects, boxed));
    collect();
}

#[kernel_test]
fn an_object_too_large_is_an_error_to_who_asks_and_the_end_of_who_does_not() {
    type TooLarge = [u8; 1 << 46];
    assert!(Gc::<TooLarge>::try_zeroed().is_err());
    assert_eq!(go(|| _ = black_box(Gc::<TooLarge>::zeroed())).join(), Err(Failure::OutOfMemory));
    assert_eq!(go(|| _ = black_box(Vec::<u64>::with_capacity(MOST / 8))).join(), Err(Failure::OutOfMemory));
}

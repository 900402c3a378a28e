//! Panics where there is hardly any stack left, or no memory.

use super::{Noted, OnDrop, add_one, message};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::addr::{Address, Bytes, KIB, Range};
use runtime::inspect::free_memory;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::platform;

const LIMIT: usize = 128 * KIB;

/// Descends until so few bytes are left above `limit` and panics there; its own frames are small.
#[inline(never)]
fn panic_near(bottom: usize, left: usize, drops: &'static AtomicUsize) -> usize {
    let here = 0u64;
    let _counted = OnDrop(|| add_one(drops));
    if black_box(&raw const here).addr() < bottom + left {
        panic!("at the edge");
    }
    panic_near(bottom, left, drops) + 1
}

fn panic_with_so_much_left(left: usize, drops: &'static AtomicUsize) -> Result<usize, Failure> {
    let thread = Builder::new().stack_limit(LIMIT).spawn(move || {
        let here = 0u64;
        // The thread's first frames are within a page.
        let bottom = (&raw const here).addr().next_multiple_of(4 * KIB) - LIMIT;
        let often = (0..3).map(|_| catch_unwind(|| panic_near(bottom, left, drops)));
        assert!(often.map(message).all(|words| words == "at the edge"));
        panic_near(bottom, left, drops)
    });
    thread.expect("there is memory for one thread").join()
}

#[kernel_test]
fn a_panic_in_the_last_kib_of_a_stack_runs_its_destructors_every_time() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(message(panic_with_so_much_left(KIB, &DROPS)), "at the edge");
    assert!(DROPS.load(Ordering::Relaxed) > 100);
}

#[kernel_test]
fn the_reserve_is_no_part_of_the_stack_once_the_panic_is_over() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let thread = Builder::new().stack_limit(LIMIT).spawn(|| {
        let here = 0u64;
        let bottom = (&raw const here).addr().next_multiple_of(4 * KIB) - LIMIT;
        assert_eq!(message(catch_unwind(|| panic_near(bottom, KIB, &DROPS))), "at the edge");
        panic_near(bottom - 8 * KIB, 0, &DROPS)
    });
    assert_eq!(thread.expect("there is memory for one thread").join(), Err(Failure::StackOverflow));
}

#[kernel_test(off)]
fn without_its_reserve_a_panic_near_the_limit_is_an_overflow() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let off = disable(Mechanism::PanicReserve);
    let ended = panic_with_so_much_left(KIB, &DROPS);
    drop(off);
    assert_eq!((ended, DROPS.load(Ordering::Relaxed)), (Err(Failure::StackOverflow), 0));
}

/// How many bytes of stack `f` uses below its caller, if no more than a reserve.
#[inline(never)]
fn stack_use(f: impl FnOnce()) -> usize {
    const MOST: usize = 32 * KIB;
    const BYTE: u8 = 0x3c;
    #[inline(never)]
    fn grow() {
        black_box(&mut [0u8; MOST + 8 * KIB]);
    }
    grow();
    let here = 0u64;
    let below = black_box(&raw const here).addr() - 512;
    for address in (below - MOST..below).rev() {
        // SAFETY: this stack, below all frames (512 bytes are more than this one has), where handlers do not write.
        unsafe { (address as *mut u8).write_volatile(BYTE) };
    }
    f();
    // SAFETY: as above.
    let is_untouched = |address: &usize| unsafe { (*address as *const u8).read_volatile() } == BYTE;
    512 + MOST - (below - MOST..below).take_while(is_untouched).count()
}

#[kernel_test]
fn a_panic_fits_into_its_reserve() {
    const RESERVE: usize = 24 * KIB;
    let caught =
        stack_use(|| assert_eq!(message(catch_unwind(|| -> () { panic!("number {}", black_box(1)) })), "number 1"));
    let reported = stack_use(|| {
        assert_eq!(runtime::contain(|| panic!("number {}", black_box(2))).map_err(|_| 2), Err::<(), _>(2))
    });
    runtime::report!("a panic uses {caught} bytes of stack, {reported} with its report");
    assert!(caught > 4 * KIB && caught.max(reported) < RESERVE - KIB);
}

#[kernel_test]
fn an_overflow_in_a_destructor_ends_that_thread_only() {
    #[inline(never)]
    fn descend(depth: usize) -> usize {
        let frame = [depth; 64];
        let below = if black_box(depth) < usize::MAX { descend(depth + 1) } else { 0 };
        below + black_box(&frame)[0]
    }
    let other = go(yield_now);
    let thread = Builder::new().stack_limit(LIMIT).spawn(|| {
        let _deep = OnDrop(|| assert_eq!(descend(0), 0));
        panic!("before the overflow");
    });
    assert_eq!(thread.expect("there is memory for one thread").join(), Err::<(), _>(Failure::StackOverflow));
    assert_eq!(other.join(), Ok(()));
}

#[kernel_test(status = 0, mem = "64M")]
fn out_of_memory_runs_destructors() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    /// A list of boxes that grows until there is no memory.
    fn exhaust() -> usize {
        let _outer = Noted(&ORDER, 1);
        let _inner = Noted(&ORDER, 2);
        let mut all = Vec::new();
        loop {
            all.push(Box::new([all.len(); 100]));
        }
    }
    let other = go(|| {
        yield_now();
        8
    });
    assert_eq!(go(exhaust).join(), Err(Failure::OutOfMemory));
    assert_eq!(ORDER.swap(0, Ordering::Relaxed), 21);
    assert_eq!(catch_unwind(exhaust), Err(Failure::OutOfMemory));
    assert_eq!(ORDER.load(Ordering::Relaxed), 21);
    assert_eq!(other.join(), Ok(8));
}

/// Takes every free frame of the machine until it is dropped.
pub(crate) struct AllFrames(Range);

impl AllFrames {
    pub(crate) fn take() -> AllFrames {
        const MOST: Bytes = Bytes(64 << 20);
        let range = platform().reserve(MOST, 4 * KIB).expect("the address plan has room");
        let pages = (range.start.0..range.end.0).step_by(4 * KIB).map(|page| Range::new(Address(page), Bytes(4 * KIB)));
        let taken = pages.take_while(|page| platform().commit(*page).is_ok()).count();
        AllFrames(Range::new(range.start, Bytes(taken * 4 * KIB)))
    }
}

impl Drop for AllFrames {
    fn drop(&mut self) {
        platform().decommit(self.0);
    }
}

#[kernel_test(status = 0, mem = "64M")]
fn out_of_memory_needs_no_memory() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    static GO_ON: AtomicUsize = AtomicUsize::new(0);
    let thread = go(|| {
        let _outer = Noted(&ORDER, 1);
        while GO_ON.load(Ordering::Relaxed) == 0 {
            yield_now();
        }
        let _inner = Noted(&ORDER, 2);
        black_box(Vec::<u64>::with_capacity(black_box(1 << 20)));
    });
    yield_now();
    let all = AllFrames::take();
    assert_eq!(free_memory(), Bytes(0));
    add_one(&GO_ON);
    let ended = thread.join();
    drop(all);
    assert_eq!((ended, ORDER.load(Ordering::Relaxed)), (Err(Failure::OutOfMemory), 21));
}

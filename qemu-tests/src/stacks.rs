//! Stacks grow where they are, and overflow takes one thread with it; the timer takes the processor from a thread in a loop.

use crate::clock::MS;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use runtime::addr::{KIB, MIB};
use runtime::inspect::{current_stack, free_memory};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::expect_fault;

const PAGE_FAULT: usize = 14;

/// Recurses until a frame lies below `bottom`; on the way back, the number of frames that changed or moved.
#[inline(never)]
fn descend<const BYTES: usize>(depth: u8, bottom: usize) -> usize {
    let mut frame = [depth; BYTES];
    let address = black_box(&raw mut frame).addr();
    let changed = if address > bottom { descend::<BYTES>(depth.wrapping_add(1), bottom) } else { 0 };
    let is_same = black_box(&raw const frame).addr() == address && black_box(&frame).iter().all(|byte| *byte == depth);
    changed + usize::from(!is_same)
}

/// Uses so many bytes of stack below the caller.
fn use_stack<const FRAME: usize>(bytes: usize) -> usize {
    let here = 0;
    descend::<FRAME>(0, (&raw const here).addr() - bytes)
}

fn started<T: Send + 'static>(limit: usize, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().stack_limit(limit).spawn(f).expect("there is memory for one thread")
}

#[kernel_test]
fn growth_to_64_mib() {
    assert_eq!(go(|| use_stack::<200>(64 * MIB - 16 * KIB)).join(), Ok(0));
}

/// How a thread ends that uses 8 MiB of stack when the machine's memory is all in the heap, in pages that nobody uses.
fn growth_beside_a_heap_of_free_pages() -> Result<usize, Failure> {
    let percent = set_gc_percent(None);
    let end = go(|| {
        let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(1 + free_memory().0 / MIB);
        loop {
            let mut piece = Vec::new();
            match piece.try_reserve_exact(MIB) {
                Ok(()) => pieces.push(piece),
                Err(_) => break,
            }
        }
        drop(black_box(pieces));
        assert!(free_memory().0 < 2 * MIB, "{:?} are left", free_memory());
        use_stack::<200>(8 * MIB)
    });
    let end = end.join();
    free_os_memory();
    set_gc_percent(percent);
    end
}

#[kernel_test]
fn a_stack_grows_into_memory_that_the_heap_does_not_use() {
    assert_eq!(growth_beside_a_heap_of_free_pages(), Ok(0));
}

#[kernel_test(off)]
fn a_heap_that_keeps_its_free_pages_leaves_a_stack_none() {
    let _off = disable(Mechanism::ReleaseForGrowth);
    assert_eq!(growth_beside_a_heap_of_free_pages(), Err(Failure::OutOfMemory));
}

#[kernel_test]
fn growth_by_frames_of_64_kib() {
    assert_eq!(go(|| use_stack::<{ 64 * KIB }>(8 * MIB)).join(), Ok(0));
}

/// Pushes a word across the end of what a stack has, at every distance: it grows, and the word is there.
#[kernel_test]
fn growth_by_a_push_at_every_alignment() {
    for above in 0..=8 {
        let pushed = go(move || {
            let stack = current_stack();
            let low = stack.top.0 - stack.committed.0;
            let word: usize;
            // SAFETY: the stack between is this thread's, and nothing uses it.
            unsafe {
                asm!(
                    "xchg rsp, {sp}", "push {word}", "xor {word:e}, {word:e}", "pop {word}", "xchg rsp, {sp}",
                    sp = inout(reg) low + above => _, word = inout(reg) 7usize => word,
                );
            }
            (word, stack.committed < current_stack().committed, use_stack::<200>(100 * KIB))
        });
        assert_eq!(pushed.join(), Ok((7, above < 8, 0)), "{above} bytes above the end");
    }
}

#[kernel_test]
fn a_limit_of_one_gib_is_a_limit_only() {
    assert_eq!(started(1 << 30, || use_stack::<200>(100 * KIB)).join(), Ok(0));
}

#[kernel_test(off)]
fn without_growth_the_first_fault_is_fatal() {
    // Switched off by the thread itself, and on again by it: what starts and ends a thread needs more than the first page.
    let fault = started(3 * MIB, || {
        let off = disable(Mechanism::GrowthFault);
        let fault = expect_fault(|| assert_eq!(use_stack::<200>(MIB), 0));
        drop(off);
        fault
    });
    assert!(fault.join().is_ok_and(|fault| fault.is_some_and(|fault| fault.vector == PAGE_FAULT)));
}

/// Whether a thread that recurses for ever ends of stack overflow while another goes on.
fn overflow_takes_one_thread<const FRAME: usize>() {
    let other = go(|| {
        let numbers = [7u64; 64];
        black_box(&numbers);
        yield_now();
        yield_now();
        black_box(&numbers).iter().sum::<u64>()
    });
    assert_eq!(started(2 * MIB, || use_stack::<FRAME>(3 * MIB)).join(), Err(Failure::StackOverflow));
    assert_eq!(other.join(), Ok(7 * 64));
    // The record and the stack serve the next thread.
    assert_eq!(started(2 * MIB, || use_stack::<200>(MIB)).join(), Ok(0));
}

#[kernel_test]
fn overflow_by_small_frames_ends_that_thread_only() {
    overflow_takes_one_thread::<64>();
}

#[kernel_test]
fn overflow_by_a_frame_of_64_kib_ends_that_thread_only() {
    overflow_takes_one_thread::<{ 64 * KIB }>();
}

#[kernel_test]
fn overflow_by_one_frame_larger_than_the_stack_ends_that_thread_only() {
    overflow_takes_one_thread::<{ 4 * MIB }>();
}

#[kernel_test(status = 2, says = "stack overflow")]
fn overflow_of_the_main_thread_ends_the_program() {
    use_stack::<200>(65 * MIB);
}

/// No other test's: the slots of two new threads of this limit lie side by side, the second above the first.
const NEIGHBOURS_LIMIT: usize = 128 * KIB;
const BYTE: u8 = 0x5a;

static VICTIMS_FRAME: AtomicUsize = AtomicUsize::new(0);

/// A thread with a known frame near its stack's top, and above it one that runs down to there and beyond.
/// What became of the second, and whether the first one's frame is as it was.
fn overflow_above_a_neighbour() -> (Result<usize, Failure>, bool) {
    VICTIMS_FRAME.store(0, Ordering::Relaxed);
    let victim = started(NEIGHBOURS_LIMIT, || {
        let frame = [BYTE; 256];
        VICTIMS_FRAME.store(black_box(&raw const frame).addr(), Ordering::Relaxed);
        park();
        black_box(&frame);
    });
    while VICTIMS_FRAME.load(Ordering::Relaxed) == 0 {
        yield_now();
    }
    let end = started(NEIGHBOURS_LIMIT, || descend::<200>(0, VICTIMS_FRAME.load(Ordering::Relaxed))).join();
    let frame = VICTIMS_FRAME.load(Ordering::Relaxed) as *const [u8; 256];
    // SAFETY: the victim is parked in the function whose frame this is. Volatile: somebody else may have written there.
    let is_same = unsafe { frame.read_volatile() } == [BYTE; 256];
    // It stays parked: where its frame was overwritten it must not run.
    core::mem::forget(victim);
    (end, is_same)
}

#[kernel_test(status = 0)]
fn a_neighbours_stack_is_out_of_reach() {
    assert_eq!(overflow_above_a_neighbour(), (Err(Failure::StackOverflow), true));
}

#[kernel_test(off, status = 0)]
fn without_a_guard_a_neighbours_stack_is_overwritten() {
    let _off = disable(Mechanism::GuardPage);
    assert_eq!(overflow_above_a_neighbour(), (Ok(0), false));
}

static IS_LOOPING: AtomicBool = AtomicBool::new(false);

#[kernel_test(status = 0)]
#[expect(clippy::empty_loop, reason = "it is to be a loop that calls nothing")]
fn a_thread_in_a_loop_is_stopped() {
    let thread = go(|| -> () {
        IS_LOOPING.store(true, Ordering::Relaxed);
        loop {}
    });
    runtime::set_preemption(true);
    let start_ns = now();
    while !IS_LOOPING.load(Ordering::Relaxed) {
        yield_now();
    }
    // Three times: it goes on where it was, and is stopped again.
    (0..3).for_each(|_| yield_now());
    collect();
    assert!(now() - start_ns < 30_000_000_000);
    core::mem::forget(thread);
}

#[kernel_test(off)]
fn without_the_timer_a_loop_keeps_the_processor() {
    let _off = disable(Mechanism::TimerStop);
    runtime::set_preemption(true);
    let start_ns = now();
    let thread = go(move || while now() < start_ns + 200 * MS {});
    yield_now();
    runtime::set_preemption(false);
    assert!(now() >= start_ns + 200 * MS);
    assert_eq!(thread.join(), Ok(()));
}

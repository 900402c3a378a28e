//! Interrupts and faults at the moments that hurt. Each was a bug once.

use crate::clock::MS;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use runtime::inspect;
use runtime::kernel_test;
use runtime::prelude::*;

const INTERRUPTS_ON: usize = 1 << 9;
const DIRECTION_DOWN: usize = 1 << 10;
const TWO_MINUTES_NS: u64 = 120_000 * MS;

fn flags() -> usize {
    let flags: usize;
    // SAFETY: reads the flags.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags
}

/// A leaf with most of a page of frame, whose lower part it never touches, waiting there for some ticks.
#[inline(never)]
fn wait_in_a_large_frame(end_ns: u64) -> u64 {
    let mut frame = MaybeUninit::<[u64; 480]>::uninit();
    let top = black_box(frame.as_mut_ptr().cast::<u64>()).wrapping_add(470);
    // SAFETY: one word of the frame's own.
    unsafe { top.write_volatile(1) };
    while now() < end_ns {}
    // SAFETY: as above.
    unsafe { top.read_volatile() }
}

#[inline(never)]
fn deeper(depth: usize, end_ns: u64) -> u64 {
    let frame = black_box([depth as u64; 8]);
    let waited = if depth == 0 { wait_in_a_large_frame(end_ns) } else { deeper(depth - 1, end_ns) };
    waited + black_box(frame)[0] - depth as u64
}

#[kernel_test]
fn a_collection_passes_over_a_frame_that_nobody_has_touched() {
    runtime::set_forced_period(0);
    let waits = (0..60).map(|depth| go(move || deeper(depth, now() + 22 * MS)).join());
    assert!(waits.into_iter().all(|waited| waited == Ok(1)));
    runtime::set_forced_period(TWO_MINUTES_NS);
}

#[kernel_test(status = 0)]
fn a_thread_stopped_while_it_copies_backwards_keeps_that_direction_to_itself() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    runtime::set_preemption(true);
    let copier = go(|| {
        let mut numbers: Vec<u64> = vec![1; 1 << 16];
        while !IS_OVER.load(Ordering::Relaxed) {
            numbers.insert(0, 7);
            numbers.pop();
        }
    });
    let directions = (0..20).map(|_| {
        yield_now();
        let flags = flags();
        // SAFETY: what every function may rely on.
        unsafe { asm!("cld") };
        flags & DIRECTION_DOWN
    });
    assert_eq!(directions.sum::<usize>(), 0);
    IS_OVER.store(true, Ordering::Relaxed);
    assert_eq!(copier.join(), Ok(()));
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "it is to overflow")]
fn recite<const PAD: usize>(depth: usize) -> usize {
    let frame = black_box([1u8; PAD]);
    print!("{}", if depth.is_multiple_of(64) { "." } else { "" });
    black_box(recite::<PAD>(depth + 1)) + usize::from(frame[0])
}

#[kernel_test]
fn overflow_while_printing_leaves_interrupts_on_and_the_console_free() {
    for round in 0..24 {
        let talker = Builder::new().stack_limit(16384 + round % 3 * 4096);
        let end = if round % 2 == 0 { talker.spawn(|| recite::<72>(0)) } else { talker.spawn(|| recite::<136>(0)) };
        assert!(end.is_ok_and(|thread| thread.join() == Err(Failure::StackOverflow)));
        assert_ne!(flags() & INTERRUPTS_ON, 0);
    }
}

#[kernel_test]
fn absurd_sizes_are_an_answer() {
    let mut bytes: Vec<u8> = Vec::new();
    assert!(bytes.try_reserve_exact(1 << 62).is_err());
    assert!(bytes.try_reserve_exact(isize::MAX as usize).is_err());
    let mut words: Vec<u64> = Vec::new();
    assert!(words.try_reserve_exact(isize::MAX as usize / 8).is_err());
    assert!(Builder::new().stack_limit(1 << 60).spawn(|| 1).is_err());
    assert!(Builder::new().stack_limit(usize::MAX).spawn(|| 1).is_err());
    let tiny = Builder::new().stack_limit(0).spawn(|| 1).map(JoinHandle::join);
    assert!(matches!(tiny, Ok(Ok(1) | Err(Failure::StackOverflow))));
}

/// The inverted end of a block of so many bytes, which nobody else remembers.
#[inline(never)]
fn end_of_a_block(bytes: usize) -> usize {
    let block: &[u8] = vec![0x5a; bytes].leak();
    !block.as_ptr_range().end.addr()
}

#[kernel_test]
fn a_pointer_one_past_the_end_keeps_a_large_block_and_the_last_of_a_span() {
    for bytes in [8192, 32768, 65536] {
        let hidden = black_box(end_of_a_block(bytes));
        let end = black_box(!hidden);
        collect();
        assert!(inspect::is_allocated(black_box(end) - 1), "{bytes} bytes");
    }
}

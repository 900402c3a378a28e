//! Collections and other threads while one unwinds.

use super::{OnDrop, add_one, message};
use crate::canary::{Canary, Hidden, overwrite_dead_frames};
use crate::clock::{MS, deadline};
use alloc::format;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// A frame with an object, whose destructor collects and allocates while the frames above still hold theirs.
#[inline(never)]
fn collecting_frames(depth: usize, lost: &'static AtomicUsize, hidden: &mut Vec<usize>) -> usize {
    let mut object = Canary::hatch();
    hidden.push(Hidden::of(object).inverted());
    let object = black_box(&mut object);
    let _collects = OnDrop(|| {
        collect();
        let made = (0..100).map(|_| Canary::hatch()).filter(|object| object.is_intact()).count();
        if made != 100 || !object.is_intact() || !Hidden::of(*object).is_allocated() {
            add_one(lost);
        }
    });
    if depth == 0 {
        panic!("{} frames", hidden.len());
    }
    collecting_frames(depth - 1, lost, hidden)
}

#[kernel_test]
fn destructors_may_collect_and_allocate_while_unwinding() {
    static LOST: AtomicUsize = AtomicUsize::new(0);
    let ended = go(|| collecting_frames(20, &LOST, &mut Vec::new())).join();
    assert_eq!((message(ended).as_str(), LOST.load(Ordering::Relaxed)), ("21 frames", 0));
    runtime::inspect::check_heap().unwrap_or_else(|fault| panic!("{fault}"));
}

#[kernel_test]
fn many_threads_unwind_at_once_and_yield_while_they_do() {
    let threads: Vec<_> = (0..20)
        .map(|number: u32| {
            go(move || -> u32 {
                let _yields = OnDrop(|| (0..5).for_each(|_| yield_now()));
                let _catches = OnDrop(|| {
                    let caught = catch_unwind(|| -> () {
                        let _yields = OnDrop(yield_now);
                        panic!("inner {number}")
                    });
                    assert_eq!(message(caught), format!("inner {number}"));
                });
                panic!("thread {number}")
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(message(thread.join()), format!("thread {number}"));
    }
}

/// A frame with an object, whose destructor looks whether it is still there.
#[inline(never)]
fn frames_with_objects(depth: u32, lost: &AtomicUsize, drops: &AtomicUsize) -> u32 {
    let mut object = Canary::hatch();
    let object = black_box(&mut object);
    let _looks = OnDrop(|| {
        add_one(drops);
        if !object.is_intact() || !Hidden::of(*object).is_allocated() {
            add_one(lost);
        }
    });
    if black_box(depth) == 0 {
        panic!("at the bottom");
    }
    frames_with_objects(depth - 1, lost, drops) + 1
}

/// Threads panic as often as there is time for, the timer takes the processor from each of them and collects.
#[kernel_test]
fn threads_are_preempted_and_the_tick_collects_while_they_unwind() {
    let cycles = runtime::cycles();
    let until = now() + 500 * MS;
    let panics = move || {
        let (mut count, lost, drops) = (0, AtomicUsize::new(0), AtomicUsize::new(0));
        let is_enough = |count| count > 0 && runtime::cycles() > cycles + 5;
        while now() < until || !is_enough(count) && now() < until + 30_000 * MS {
            assert_eq!(message(catch_unwind(|| frames_with_objects(9, &lost, &drops))), "at the bottom");
            count += 1;
        }
        assert_eq!((lost.into_inner(), drops.into_inner()), (0, 10 * count));
        count
    };
    runtime::set_forced_period(5 * MS);
    runtime::set_preemption(true);
    let counts = [(); 3].map(|()| go(panics)).map(JoinHandle::join);
    runtime::set_preemption(false);
    runtime::set_forced_period(120_000 * MS);
    // Without preemption the first would have had all the time.
    assert!(counts.iter().all(|count| count.as_ref().is_ok_and(|count| *count > 0)), "{counts:?}");
    assert!(runtime::cycles() > cycles + 5);
}

/// Stands where the unwinder's last step does between two of its instructions: RSP is new, the other registers are still in a block
/// far below it, whose address is in rdi. The timer's tick collects there. Whether an object was there after that whose only
/// reference is in that block.
fn collect_in_the_unwinders_last_step() -> bool {
    let (cycles_before, deadline) = (runtime::cycles(), deadline(500));
    let object = crate::canary::hatch_into(|_| ());
    overwrite_dead_frames();
    runtime::set_forced_period(20 * MS);
    let live: usize;
    // SAFETY: writes to this stack below RSP, where nobody else does: handlers have stacks of their own.
    unsafe {
        asm!(
            "not r12",
            "lea rdi, [rsp - 1024]", "mov [rdi + 0x60], r12", "xor r12d, r12d",
            "xor ecx, ecx", "xor r8d, r8d", "xor r9d, r9d", "xor r10d, r10d", "xor r11d, r11d",
            "2:", "pause", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, rsi", "jb 2b",
            "mov r12, [rdi + 0x60]", "mov qword ptr [rdi + 0x60], 0",
            inout("r12") object.inverted() => live, in("rsi") deadline,
            out("rax") _, out("rcx") _, out("rdx") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    runtime::set_forced_period(120_000 * MS);
    let kept = object.is_allocated();
    // Until now: after a stall of the host the tick may come between the loop and the look.
    black_box(live);
    assert!(runtime::cycles() > cycles_before, "the timer's tick has not collected");
    kept
}

#[kernel_test]
fn an_object_only_in_the_unwinders_registers_is_kept() {
    assert!(collect_in_the_unwinders_last_step());
}

#[kernel_test(off)]
fn without_the_unwinders_registers_the_object_is_lost() {
    let _off = disable(Mechanism::UnwindersRegisters);
    // A stall may also let every tick come after the loop.
    assert!((0..5).any(|_| !collect_in_the_unwinders_last_step()));
}

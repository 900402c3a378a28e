//! Faults survived, and those that are not survived but named: memory that runs out at any frame, overflows, stacks
//! that are none, interrupts that nobody sent, NMIs at any instant, a handler that allocates.

use crate::clock::MS;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use machine::provoke::{self, refuse};
use machine::{foreign_nmis, memory};
use runtime::addr::KIB;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::expect_fault;

use crate::canary::{Canary, collect_cleanly};
use crate::dumps::stray_write;

const DOUBLE_FAULT: usize = 8;
const PAGE_FAULT: usize = 14;

/// Uses so many bytes of stack and finds them unchanged.
#[inline(never)]
fn use_stack(bytes: usize) -> bool {
    let mut frame = [bytes; 32];
    black_box(&mut frame);
    let rest = bytes < 512 || use_stack(bytes - size_of_val(&frame));
    rest && black_box(&frame).iter().all(|word| *word == bytes)
}

#[inline(never)]
fn overflow(depth: usize) -> usize {
    if black_box(true) { black_box(overflow(black_box(depth) + 1)) + 1 } else { depth }
}

/// Frames that nobody has, with the reserve for growth faults full.
fn free_frames() -> usize {
    memory::refill_reserve();
    memory::free_memory().0 / 4096
}

/// Takes memory in every way: large objects beyond what the heap has, small ones, stack, a thread.
fn take_memory() -> Result<bool, Failure> {
    let large: Vec<Vec<u8>> = (0..10).map(|_| black_box(Vec::with_capacity(512 * KIB))).collect();
    let objects: Vec<Gc<Canary>> = (0..500).map(|_| Canary::hatch()).collect();
    let own_stack = use_stack(700 * KIB);
    let thread = Builder::new().stack_limit(512 * KIB).spawn(|| use_stack(400 * KIB));
    let stack = thread.map_err(|_| Failure::OutOfMemory)?.join()?;
    Ok(own_stack && stack && objects.iter().all(|object| object.is_intact()) && large.len() == 10)
}

/// Memory runs out at the first frame that the workload asks for, at the second, and so on until it asks for no more: `refused` are the
/// requests that are refused then. Each time the thread that asked ends, or does without; the heap is sound, its memory free again, and the
/// frames are all there. Returns how many attempts met a refusal, and how many of them came to their end all the same.
fn memory_runs_out(refused: fn(usize) -> Range<usize>) -> (usize, usize) {
    let attempt = |refused: Range<usize>| {
        let outcome = go(move || {
            refuse::requests(refused);
            take_memory()
        });
        let outcome = outcome.join();
        (outcome.and_then(|inner| inner), refuse::stop())
    };
    assert_eq!(attempt(1..usize::MAX).0, Err(Failure::OutOfMemory));
    collect_cleanly();
    let (heap_before, frames_before) = (memory_stats().heap_alloc, free_frames());
    let mut survived = 0;
    for number in 1.. {
        let (outcome, asked) = attempt(refused(number));
        collect_cleanly();
        assert!(runtime::inspect::check_heap().is_ok(), "after {number} frames");
        let heap = memory_stats().heap_alloc;
        assert!(heap < heap_before + 64 * KIB, "{heap} bytes live after {number} frames, {heap_before} before");
        match &outcome {
            Err(failure) => assert_eq!(*failure, Failure::OutOfMemory, "after {number} frames"),
            Ok(intact) => assert!(*intact, "after {number} frames"),
        }
        if asked < number {
            assert_eq!(outcome, Ok(true));
            // The heap has grown by a chunk or two, each record's pool by a step; a frame lost in each attempt would be 1,000 more.
            let taken = frames_before - free_frames();
            runtime::report!(
                "{} attempts met a refusal, {survived} did without; {taken} frames taken since",
                number - 1
            );
            assert!(taken < 2 * 1024 + 512, "{taken} frames taken");
            return (number - 1, survived);
        }
        survived += usize::from(outcome.is_ok());
        if number % 200 == 0 {
            runtime::report!("{number} attempts");
        }
    }
    unreachable!("some attempt is the last")
}

/// First the frames with which the heap grows; then it has grown, and the stacks' are left, the last few of them from the reserve.
#[kernel_test(cmdline = "GOTRACEBACK=none")]
fn memory_runs_out_at_each_frame_in_turn() {
    let from = |number| number..usize::MAX;
    for least in [400, 100] {
        let (refused, survived) = memory_runs_out(from);
        assert!(refused > least && survived < 100, "{refused} refused, {survived} survived");
    }
}

/// A huge page that is refused comes in pieces, a stack's frame from the reserve: nobody misses one frame, though
/// GOGC=off asks for none again.
#[kernel_test(cmdline = "GOGC=off,GOTRACEBACK=none")]
fn one_frame_is_refused_each_in_turn() {
    for least in [300, 100] {
        let (refused, survived) = memory_runs_out(|number| number..number + 1);
        assert!(refused > least && survived == refused, "{refused} refused, {survived} survived");
    }
}

/// In a boot of its own: where memory has run out, the heap's free pages have none, and take frames as objects need them.
#[kernel_test(status = 0, cmdline = "GOTRACEBACK=none")]
fn a_thousand_overflows_in_a_row_lose_no_frame() {
    let overflowed = || {
        let thread = Builder::new().stack_limit(128 * KIB).spawn(|| overflow(0));
        assert_eq!(thread.expect("there is memory for one thread").join(), Err(Failure::StackOverflow));
    };
    overflowed();
    let before = free_frames();
    (0..1000).for_each(|_| overflowed());
    assert_eq!(free_frames(), before);
}

/// The test goes on behind each: what a double fault interrupted it does not tell, but the way out needs none of that.
#[kernel_test]
fn five_hundred_double_faults_of_each_kind_find_their_stack() {
    assert!(use_stack(64 * KIB), "a stack that grew now would fault for itself");
    let vector = |fault: fn()| expect_fault(fault).map(|caught| caught.vector);
    for _ in 0..500 {
        // A stack fault, says the manual; QEMU makes it a general protection. Neither needs the page faults' stack.
        assert!(matches!(vector(push_to_no_address), Some(12 | 13)));
        for fault in [stray_write, push_to_nowhere, call_nowhere] {
            assert_eq!(vector(fault), Some(PAGE_FAULT));
            provoke::break_page_fault_stack();
            let caught = vector(fault);
            provoke::mend_page_fault_stack();
            assert_eq!(caught, Some(DOUBLE_FAULT));
        }
    }
    assert!(use_stack(256 * KIB), "faults are answered again");
}

#[kernel_test(
    status = 2,
    says = "fatal error: double fault|CPU 0, stack: thread stacks|dumps::stray_write(...)|dumps.rs:|rip 0xffffffff8"
)]
fn a_page_fault_without_a_stack_is_a_double_fault_and_named() {
    provoke::break_page_fault_stack();
    stray_write();
}

#[kernel_test(off, resets)]
fn without_a_stack_for_double_faults_the_machine_resets() {
    provoke::break_double_fault_stack();
    provoke::break_page_fault_stack();
    stray_write();
}

#[kernel_test(
    status = 2,
    says = "write to the absent 0x0000000000003ff8|CPU 0, stack: no part of the address plan|rsp 0x0000000000004000"
)]
fn a_stack_pointer_to_nowhere_is_named() {
    push_to_nowhere();
}

#[kernel_test(status = 2, says = "CPU 0, stack: no part of the address plan|rsp 0x4000000000000000")]
fn a_stack_pointer_that_is_no_address_is_named() {
    push_to_no_address();
}

fn push_to_nowhere() {
    // SAFETY: nothing is mapped there, and nobody comes back.
    unsafe { asm!("mov rsp, 0x4000", "push rax", options(noreturn)) };
}

fn push_to_no_address() {
    // SAFETY: no such address exists, and nobody comes back.
    unsafe { asm!("mov rsp, {}", "push rax", in(reg) 1usize << 62, options(noreturn)) };
}

fn call_nowhere() {
    // SAFETY: nothing is mapped there, and nobody comes back.
    unsafe { asm!("call {}", in(reg) 0x1234usize, options(noreturn)) };
}

#[kernel_test(status = 2, says = "write to the absent|CPU 0, stack: interrupts' stack|trap 0x60(...)|frames elided...")]
fn a_handler_that_overflows_its_stack_is_named() {
    provoke::in_handler(|| {
        black_box(overflow(0));
    });
}

/// Nobody's own: the thread that was interrupted has a catch, and is not asked.
#[kernel_test(
    status = 2,
    says = "panic: in the tick|fatal error: a panic where nothing can be unwound|panic_in_the_tick(...)|trap(...)|faults::wait(...)|!caught"
)]
fn a_panic_in_the_timers_handler_stops_everything() {
    let _ = catch_unwind(wait);
    runtime::report!("caught");
}

#[inline(never)]
fn wait() {
    provoke::at_next_tick(panic_in_the_tick);
    // Calls nobody: at a callee's first instruction a walk over frames would pass over the caller.
    loop {
        core::hint::spin_loop();
    }
}

#[inline(never)]
fn panic_in_the_tick() {
    panic!("in the tick");
}

#[kernel_test(status = 2, says = "expected nobody to allocate|or a handler|trap 0x60(...)|faults::allocate(...)")]
fn an_allocation_in_a_handler_is_thrown() {
    provoke::in_handler(allocate);
}

#[kernel_test(off)]
fn without_the_count_of_handlers_nobody_notices_that_one_allocates() {
    let _off = disable(Mechanism::HandlerCount);
    provoke::in_handler(allocate);
}

#[inline(never)]
fn allocate() {
    drop(black_box(Box::new(1u64)));
}

#[kernel_test(status = 0, says = "warning: unexpected interrupt 0x55")]
fn an_unexpected_interrupt_is_a_warning() {
    // SAFETY: every vector has a gate.
    unsafe { asm!("int {}", const provoke::UNKNOWN) };
}

#[kernel_test]
fn spurious_and_repeated_interrupts_change_nothing() {
    const TIMES: usize = 100_000;
    let object = Canary::hatch();
    let ticks = runtime::ticks();
    for _ in 0..TIMES {
        // SAFETY: both vectors have gates, and their handlers expect to be called for nothing.
        unsafe {
            asm!("int {}", const provoke::SPURIOUS);
            asm!("int {}", const provoke::TIMER);
        }
    }
    for vector in [provoke::SPURIOUS, provoke::TIMER, provoke::UNKNOWN] {
        (0..TIMES).for_each(|_| provoke::interrupt_self(vector));
    }
    let start_ns = now();
    sleep(30 * MS);
    assert!(now() - start_ns >= 30 * MS && runtime::ticks() > ticks, "the timer goes on");
    assert!(object.is_intact() && use_stack(64 * KIB));
}

/// Collects, switches and faults until so many NMIs have come; the host sends them.
#[kernel_test(status = 0, nmis, says = "a non-maskable interrupt that is not the watchdog's")]
fn ten_thousand_nmis_at_any_instant_change_nothing() {
    static ROUNDS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    runtime::set_preemption(true);
    let until_over = |number: usize, work: fn() -> bool| {
        go(move || {
            while !IS_OVER.load(Ordering::Relaxed) {
                assert!(work());
                ROUNDS[number].fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let threads = [
        until_over(0, || {
            let objects: Vec<Gc<Canary>> = (0..200).map(|_| Canary::hatch()).collect();
            collect();
            objects.iter().all(|object| object.is_intact())
        }),
        until_over(1, || {
            yield_now();
            true
        }),
        until_over(2, || {
            let thread = Builder::new().stack_limit(1024 * KIB).spawn(|| use_stack(300 * KIB));
            thread.is_ok_and(|thread| thread.join() == Ok(true))
        }),
    ];
    let mut told = 0;
    while foreign_nmis() < 10_000 {
        yield_now();
        if foreign_nmis() >= told + 1000 {
            told = foreign_nmis();
            runtime::report!("{told} NMIs");
        }
    }
    IS_OVER.store(true, Ordering::Relaxed);
    for thread in threads {
        assert_eq!(thread.join(), Ok(()));
    }
    let rounds = ROUNDS.each_ref().map(|count| count.load(Ordering::Relaxed));
    runtime::report!("{} NMIs in {rounds:?} rounds of collecting, switching, faulting", foreign_nmis());
    assert!(rounds.iter().all(|count| *count > 0) && runtime::inspect::check_heap().is_ok());
}

//! A panic unwinds its own thread and no other; where none can be unwound, everything stops.

use crate::canary::{Canary, Hidden, collect_cleanly, overwrite_dead_frames};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::addr::{Address, Bytes, Range};
use runtime::inspect::free_memory;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use runtime::testing::platform;

const KIB: usize = 1 << 10;
const MS: u64 = 1_000_000;

/// Notes its number when it is dropped: `order` becomes the decimal digits in the order of the drops.
struct Noted(&'static AtomicUsize, usize);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.store(self.0.load(Ordering::Relaxed) * 10 + self.1, Ordering::Relaxed);
    }
}

/// Calls `f` when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn message<T: fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Panicked(panic)) => panic.message().into(),
        other => format!("no panic but {other:?}"),
    }
}

#[inline(never)]
fn three_destructors(order: &'static AtomicUsize) -> u32 {
    let _first = Noted(order, 1);
    let _second = Noted(order, 2);
    let _third = Box::new(Noted(order, 3));
    if black_box(true) {
        panic!("the sky is {}", black_box("falling"));
    }
    7
}

#[kernel_test]
fn a_panic_runs_destructors_in_order_and_is_an_error_at_join() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let ended = go(|| three_destructors(&ORDER)).join();
    assert_eq!(ORDER.load(Ordering::Relaxed), 321);
    let Err(Failure::Panicked(panic)) = ended else { panic!("joined {ended:?}") };
    assert_eq!(panic.message(), "the sky is falling");
    assert!(panic.place().contains("panics.rs:"), "{}", panic.place());
}

#[kernel_test(off)]
fn without_unwinding_no_destructor_runs() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let off = disable(Mechanism::Unwinding);
    let ended = go(|| three_destructors(&ORDER)).join();
    drop(off);
    assert_eq!(ORDER.load(Ordering::Relaxed), 0);
    assert_eq!(message(ended), "the sky is falling");
}

#[kernel_test]
fn the_message_waits_for_who_joins_through_collections() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let threads: Vec<_> = (0..50)
        .map(|number: u32| {
            go(move || -> u32 {
                let _last = OnDrop(|| add_one(&ENDED));
                panic!("message number {number}")
            })
        })
        .collect();
    while ENDED.load(Ordering::Relaxed) < 50 {
        yield_now();
    }
    (0..3).for_each(|_| yield_now());
    collect_cleanly();
    let others: Vec<String> = (0..1000).map(|number| format!("something else: {number}")).collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(message(thread.join()), format!("message number {number}"));
    }
    drop(black_box(others));
}

#[kernel_test]
fn a_catch_in_the_function_that_panics_has_its_panic() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let caught = catch_unwind(|| {
        let _noted = Noted(&ORDER, 4);
        if black_box(true) {
            panic!("here");
        }
    });
    assert_eq!((message(caught).as_str(), ORDER.load(Ordering::Relaxed)), ("here", 4));
    assert_eq!(catch_unwind(|| 5), Ok(5));
}

#[kernel_test]
fn the_innermost_catch_has_the_panic_and_the_outer_one_the_next() {
    let outer = catch_unwind(|| {
        let inner = catch_unwind(|| panic!("inner"));
        assert_eq!(message::<()>(inner), "inner");
        panic!("outer");
    });
    assert_eq!(message::<()>(outer), "outer");
}

#[inline(never)]
fn frames_of_destructors(depth: u32, drops: &AtomicUsize) -> u32 {
    let _counted = OnDrop(|| add_one(drops));
    if black_box(depth) == 0 {
        panic!("at the bottom");
    }
    frames_of_destructors(depth - 1, drops) + 1
}

fn add_one(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[kernel_test]
fn a_panic_crosses_20_frames_and_their_destructors() {
    let drops = AtomicUsize::new(0);
    assert_eq!(message(catch_unwind(|| frames_of_destructors(20, &drops))), "at the bottom");
    assert_eq!(drops.load(Ordering::Relaxed), 21);
}

#[kernel_test]
fn what_the_language_checks_panics_like_anything_else() {
    let (numbers, index) = ([1, 2, 3], black_box(3));
    assert!(message(catch_unwind(|| numbers[index])).starts_with("index out of bounds: the len is 3"));
    assert!(message(catch_unwind(|| black_box(1) / black_box(0))).contains("divide by zero"));
    assert!(message(catch_unwind(|| black_box(None::<u8>).unwrap())).contains("`None`"));
    assert!(message(catch_unwind(|| black_box(u64::MAX) + black_box(1))).contains("overflow"));
}

#[kernel_test]
fn a_long_message_is_cut_with_an_ellipsis() {
    let words = message(catch_unwind(|| -> () { panic!("{}", "äöü ".repeat(1000)) }));
    assert!(words.ends_with('…') && words.len() > 200 && words.len() < 1000);
}

#[kernel_test]
fn a_thousand_panics_leave_nothing_behind() {
    let panic_often = |count| {
        for number in 0..count {
            let ended = go(move || -> usize { panic!("number {number}") }).join();
            assert_eq!(message(ended), format!("number {number}"));
            assert_eq!(message(catch_unwind(|| -> () { panic!("{number}") })), format!("{number}"));
        }
        collect_cleanly();
        (memory_stats().heap_alloc, free_memory().0)
    };
    let (heap, free) = panic_often(50);
    let (heap_after, free_after) = panic_often(500);
    assert!(heap_after < heap + 64 * KIB, "{heap} bytes became {heap_after}");
    assert!(free_after + 64 * KIB >= free, "{free} bytes of free memory became {free_after}");
}

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

const LIMIT: usize = 128 * KIB;

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

#[kernel_test]
fn a_panic_in_a_destructor_while_unwinding_ends_that_thread_only() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let other = go(|| {
        yield_now();
        8
    });
    let ended = go(|| -> () {
        let _never = Noted(&ORDER, 1);
        let _second = OnDrop(|| panic!("second"));
        let _first = Noted(&ORDER, 2);
        panic!("first");
    });
    assert_eq!(message(ended.join()), "first\n\tpanic: second");
    assert_eq!(ORDER.load(Ordering::Relaxed), 2);
    assert_eq!(other.join(), Ok(8));
}

#[kernel_test]
fn a_destructor_may_panic_and_catch_it_itself() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    let ended = go(|| -> () {
        let _last = Noted(&ORDER, 1);
        let _catches = OnDrop(|| {
            let _noted = Noted(&ORDER, 2);
            let inner = catch_unwind(|| -> () {
                let _noted = Noted(&ORDER, 3);
                panic!("inner")
            });
            assert_eq!(message(inner), "inner");
        });
        panic!("outer");
    });
    assert_eq!(message(ended.join()), "outer");
    assert_eq!(ORDER.load(Ordering::Relaxed), 321);
}

#[kernel_test]
fn a_panic_through_a_function_that_cannot_unwind_ends_its_thread_only() {
    #[inline(never)]
    extern "C" fn no_way_through(index: usize) -> u8 {
        [1, 2][index]
    }
    let words = message(go(|| no_way_through(black_box(9))).join());
    assert!(words.contains("index out of bounds") && words.contains("cannot unwind"), "{words}");
    assert_eq!(go(|| 3).join(), Ok(3));
}

#[kernel_test]
fn a_panic_in_the_destructor_of_a_result_that_nobody_joins_unwinds_and_ends_its_thread_only() {
    static ORDER: AtomicUsize = AtomicUsize::new(0);
    drop(go(|| {
        OnDrop(|| {
            let _noted = Noted(&ORDER, 5);
            panic!("nobody wanted it")
        })
    }));
    assert_eq!(go(|| 3).join(), Ok(3));
    assert_eq!(ORDER.load(Ordering::Relaxed), 5);
    runtime::inspect::check_heap().unwrap_or_else(|fault| panic!("{fault}"));
}

struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words for it")
    }
}

#[kernel_test]
fn a_message_that_panics_ends_its_thread_only() {
    assert!(message(go(|| -> () { panic!("{Unprintable}") }).join()).contains("message of a panic panicked"));
    assert_eq!(go(|| 3).join(), Ok(3));
}

#[kernel_test(status = 2, says = "message of a panic panicked")]
fn a_message_that_panics_on_the_main_thread_ends_the_program() {
    panic!("{Unprintable}");
}

#[kernel_test(status = 2, says = "no words for it")]
fn a_panic_while_a_fatal_error_is_reported_ends_the_program() {
    runtime::throw!("{Unprintable}");
}

fn panic_in_section(on_system_stack: bool) {
    // SAFETY: it ends the machine.
    unsafe { runtime::inspect::in_section(on_system_stack, || panic!("inside")) };
}

#[kernel_test(status = 2, says = "inside")]
fn a_panic_in_a_section_stops_everything() {
    let _ = catch_unwind(|| panic_in_section(false));
}

#[kernel_test(status = 2, says = "inside")]
fn a_panic_on_the_system_stack_stops_everything() {
    let _ = catch_unwind(|| panic_in_section(true));
}

#[kernel_test(status = 2, says = "no words for it")]
fn a_panic_in_a_section_whose_message_panics_comes_to_an_end() {
    // SAFETY: it ends the machine.
    unsafe { runtime::inspect::in_section(false, || panic!("{Unprintable}")) };
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
    let (cycles_before, start_ns, start_tsc) = (runtime::cycles(), now(), read_tsc());
    while now() < start_ns + 10 * MS {}
    let deadline = start_tsc + 50 * (read_tsc() - start_tsc);
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

fn read_tsc() -> u64 {
    // SAFETY: every x86_64 has a time stamp counter.
    unsafe { core::arch::x86_64::_rdtsc() }
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

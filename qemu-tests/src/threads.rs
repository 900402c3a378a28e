//! Threads take turns, wait, and end; the timer collects; sections hold it off.

use crate::clock::MS;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use runtime::addr::MIB;
use runtime::inspect;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

/// Longer than anything here takes on the slowest host, and short enough to wait for.
const PATIENCE_NS: u64 = 30_000 * MS;
/// What the period is when no test is in a hurry.
const TWO_MINUTES_NS: u64 = 120_000 * MS;

#[kernel_test]
fn threads_take_turns_in_the_order_of_their_start() {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    TURN.store(0, Ordering::Relaxed);
    let threads: Vec<_> = (0..5)
        .map(|number| {
            go(move || {
                let mut turns = [0; 3];
                for turn in &mut turns {
                    *turn = TURN.fetch_add(1, Ordering::Relaxed);
                    yield_now();
                }
                turns == [number, number + 5, number + 10]
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join() == Ok(true)));
}

#[kernel_test]
fn a_result_of_any_size_reaches_the_joiner() {
    let large = go(|| core::array::from_fn::<u64, 1000, _>(|index| index as u64 * 3));
    assert!(large.join().is_ok_and(|array| array.iter().zip(0..).all(|(value, index)| *value == index * 3)));
    assert_eq!(go(|| ()).join(), Ok(()));
    let text = go(|| alloc::string::String::from("a thread's last words"));
    yield_now();
    assert_eq!(text.join().as_deref(), Ok("a thread's last words"));
}

#[kernel_test]
fn a_parked_thread_waits_for_ready_and_an_early_ready_is_not_lost() {
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    STEPS.store(0, Ordering::Relaxed);
    let main = current();
    let thread = go(move || {
        let this = current();
        this.ready();
        park();
        STEPS.store(1, Ordering::Relaxed);
        main.ready();
        park();
        STEPS.store(2, Ordering::Relaxed);
        this
    });
    let sleeper = go(park);
    park();
    assert_eq!(STEPS.load(Ordering::Relaxed), 1);
    (0..10).for_each(|_| yield_now());
    assert_eq!(STEPS.load(Ordering::Relaxed), 1, "parked means parked");
    // Nobody can name the parked threads but themselves: let one that is not parked name itself after its end.
    let ended = go(current).join().expect("nothing stops it");
    ended.ready();
    assert_eq!(STEPS.load(Ordering::Relaxed), 1, "an ended thread's name is no other's");
    core::mem::forget((thread, sleeper));
}

#[kernel_test]
fn sleepers_wake_in_the_order_of_their_times_and_not_before() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.store(0, Ordering::Relaxed);
    let threads: Vec<_> = [300, 100, 200, 0]
        .into_iter()
        .map(|ms| {
            go(move || {
                let start_ns = now();
                sleep(ms * MS);
                (NEXT.fetch_add(1, Ordering::Relaxed), now() - start_ns >= ms * MS)
            })
        })
        .collect();
    let woken: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    assert_eq!(woken, [3, 1, 2, 0].map(|place| Ok((place, true))));
}

#[kernel_test(status = 2, says = "all goroutines are asleep - deadlock!")]
fn when_nobody_can_ever_run_again_it_is_said() {
    let forever = go(park);
    let _ = forever.join();
}

/// Counts its drops.
struct Counted;

static DROPS: AtomicUsize = AtomicUsize::new(0);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::Relaxed);
    }
}

#[kernel_test]
fn a_result_is_dropped_once_by_whoever_has_it_last() {
    DROPS.store(0, Ordering::Relaxed);
    let drops = || DROPS.load(Ordering::Relaxed);
    drop(go(|| Counted));
    assert_eq!(drops(), 0);
    yield_now();
    assert_eq!(drops(), 1, "nobody can join it any more");
    let ended = go(|| Counted);
    yield_now();
    assert_eq!(drops(), 1, "somebody may still join it");
    drop(ended);
    assert_eq!(drops(), 2);
    let joined = go(|| Counted).join();
    assert_eq!(drops(), 2);
    drop(joined);
    assert_eq!(drops(), 3);
    let failed = go(|| -> Counted { panic!("there is no result") });
    yield_now();
    drop(failed);
    assert_eq!(drops(), 3);
}

#[kernel_test]
fn closures_and_results_may_be_large_and_need_not_be_taken() {
    #[repr(align(64))]
    struct Large([u64; 8 << 10]);
    let large = Large([7; 8 << 10]);
    let doubled = go(move || Large(large.0.map(|word| 2 * word))).join();
    assert!(doubled.is_ok_and(|doubled| doubled.0 == [14; 8 << 10]));
    DROPS.store(0, Ordering::Relaxed);
    let counted = Counted;
    let endless = Builder::new().stack_limit(usize::MAX).spawn(move || drop(counted));
    assert!(endless.is_err());
    assert_eq!(DROPS.load(Ordering::Relaxed), 1, "a closure that nobody runs is dropped");
}

#[kernel_test]
fn a_hundred_thousand_threads_leave_nothing_behind() {
    let round = || (0..1000u64).map(|number| go(move || number)).map(|thread| thread.join().unwrap_or(0)).sum::<u64>();
    assert_eq!(round(), 499_500);
    let free = inspect::free_memory();
    assert!((0..99).all(|_| round() == 499_500));
    assert_eq!(inspect::free_memory(), free, "their stacks and records were used again");
}

#[kernel_test(mem = "512M")]
fn ten_thousand_parked_threads_have_a_stack_page_and_a_table_page_each() {
    const THREADS: usize = 10_000;
    let free = || inspect::free_memory().0;
    let before = free();
    let threads: Vec<_> = (0..THREADS).map(|_| go(park)).collect();
    yield_now();
    let each = (before - free()) / THREADS;
    runtime::report!("{each} bytes of memory for a parked thread");
    assert!(each < 12 << 10, "{each} bytes for a parked thread");
    core::mem::forget(threads);
}

#[kernel_test]
fn no_stack_has_grown_inside_a_section() {
    let (outside_before, _) = inspect::stack_growths();
    let work = go(|| (0..2000).map(|size| alloc::vec![size as u64; size].len()).sum::<usize>());
    assert_eq!(work.join(), Ok(1999 * 1000));
    let deep = go(|| {
        fn down(depth: usize) -> usize {
            let text = alloc::format!("{depth}");
            if depth == 0 { text.len() } else { black_box(down(depth - 1)) + text.len() }
        }
        down(2000)
    });
    assert!(deep.join().is_ok());
    let (outside, inside) = inspect::stack_growths();
    assert!(outside > outside_before, "the stacks did grow");
    assert_eq!(inside, 0);
}

/// Many times the period that the tests set.
const LONG_NS: u64 = 500 * MS;

/// Waits so long for a collection that nobody here asks for.
fn somebody_collects(within_ns: u64) -> bool {
    let (before, start_ns) = (memory_stats().num_gc, now());
    while memory_stats().num_gc == before {
        if now() - start_ns > within_ns {
            return false;
        }
    }
    true
}

#[kernel_test]
fn without_allocation_the_timer_collects_when_the_period_is_over() {
    runtime::set_forced_period(50 * MS);
    let collected = somebody_collects(PATIENCE_NS);
    runtime::set_forced_period(TWO_MINUTES_NS);
    let forced = memory_stats().num_forced_gc;
    assert!(collected && !somebody_collects(LONG_NS), "once in a period");
    assert_eq!(memory_stats().num_forced_gc, forced);
}

#[kernel_test(off)]
fn without_the_timer_nobody_collects() {
    let _off = disable(Mechanism::TimerStop);
    runtime::set_forced_period(50 * MS);
    let collected = somebody_collects(LONG_NS);
    runtime::set_forced_period(TWO_MINUTES_NS);
    assert!(!collected);
}

#[kernel_test]
fn with_gogc_off_the_timer_does_not_collect() {
    let percent = runtime::set_gc_percent(None);
    runtime::set_forced_period(50 * MS);
    let collected = somebody_collects(LONG_NS);
    runtime::set_forced_period(TWO_MINUTES_NS);
    runtime::set_gc_percent(percent);
    assert!(!collected);
}

/// Garbage of so many bytes in small pieces; the largest heap meanwhile.
fn churn(bytes: usize) -> usize {
    let mut largest = 0;
    for _ in 0..bytes / 1024 {
        black_box(Gc::new([0u64; 128]));
        largest = largest.max(memory_stats().heap_alloc);
    }
    largest
}

#[kernel_test(cmdline = "GOGC=400")]
fn gogc_sets_the_heaps_size_at_the_next_collection() {
    assert!((15 * MIB..17 * MIB).contains(&churn(64 * MIB)), "400 % of 4 MiB");
    runtime::set_gc_percent(Some(100));
    collect();
    assert!((3 * MIB..5 * MIB).contains(&churn(64 * MIB)), "100 % of 4 MiB");
}

#[kernel_test(cmdline = "GOGC=off,GOMEMLIMIT=24MiB")]
fn a_memory_limit_collects_although_gogc_is_off() {
    let largest = churn(128 * MIB);
    assert!((20 * MIB..=24 * MIB).contains(&largest), "the heap was {largest} bytes");
}

/// Allocates and frees while ticks come in, until a given number has.
fn allocate_under_ticks(ticks: u64) -> Result<(), &'static str> {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let (first, start_ns) = (runtime::ticks(), now());
    let mut live = Vec::new();
    while runtime::ticks() < first + ticks {
        live.push(Gc::new(SUM.load(Ordering::Relaxed)));
        if live.len() == 1000 {
            live = Vec::new();
        }
        if now() - start_ns > PATIENCE_NS {
            return Err("no tick was acted on for too long");
        }
    }
    inspect::check_heap().map_err(|_| "the heap is broken")
}

#[kernel_test]
fn ticks_in_the_midst_of_allocation_wait_for_its_end() {
    runtime::set_forced_period(0);
    let result = allocate_under_ticks(100);
    runtime::set_forced_period(TWO_MINUTES_NS);
    assert_eq!(result, Ok(()));
}

#[kernel_test(off, status = 2, says = "expected nobody to allocate or free inside a no-safepoint section")]
fn without_sections_a_tick_tears_an_allocation_apart() {
    // No collection, whose lock the tick would wait for instead.
    runtime::set_gc_percent(None);
    let _off = disable(Mechanism::Sections);
    let _ = allocate_under_ticks(1000);
}

#[kernel_test(status = 0)]
fn with_preemption_every_thread_in_a_loop_has_its_turn() {
    static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    runtime::set_preemption(true);
    let threads: Vec<_> = (0..COUNTS.len())
        .map(|number| {
            go(move || {
                while !IS_OVER.load(Ordering::Relaxed) {
                    COUNTS[number].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let start_ns = now();
    while COUNTS.iter().any(|count| count.load(Ordering::Relaxed) == 0) {
        assert!(now() - start_ns < PATIENCE_NS);
        yield_now();
    }
    sleep(100 * MS);
    IS_OVER.store(true, Ordering::Relaxed);
    assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
}

//! The tour: what the runtime does, a chapter for each thing, with the figures that prove it and the file where it is done.
//!
//! Every figure is read from the runtime while it happens, and checked: a chapter whose figures do not show what it says ends the
//! tour with status 1. A new chapter is a function and its line in [`CHAPTERS`].

use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use runtime::addr::{Address, GIB, KIB, MIB};
use runtime::inspect::{self, StackFigures};
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};

struct Chapter {
    title: &'static str,
    source: &'static str,
    /// Prints the figures; whether they show what the title says.
    show: fn() -> bool,
}

/// Where the addresses are planned.
const PLAN: &str = if cfg!(hosted) { "kernel/hosted/src/memory/mod.rs" } else { "kernel/machine/src/memory/plan.rs" };

#[rustfmt::skip]
const CHAPTERS: &[Chapter] = &[
    Chapter { title: "One plan for all addresses", source: PLAN, show: addresses },
    Chapter { title: "A stack grows where it is", source: "kernel/runtime/src/stack/mod.rs", show: growing_stack },
    Chapter { title: "A thread in loop {} is stopped", source: "kernel/runtime/src/tick.rs", show: stopped_loop },
    Chapter { title: "Garbage disappears", source: "kernel/runtime/src/gc/mod.rs", show: garbage },
    Chapter { title: "A panic is caught", source: "kernel/runtime/src/sched/panic.rs", show: caught_panic },
    Chapter { title: "An overflow is survived", source: "kernel/runtime/src/sched/end.rs", show: overflow },
];

#[program("tour", "shows what the runtime does, with figures; runs when no program is named")]
fn tour(arguments: &Arguments) -> u8 {
    let Some([]) = arguments.numbers([]) else { return MISUSED };
    let start = now();
    println!("Go's runtime in Rust. What it does, in figures read while it does it:");
    for (number, chapter) in (1..).zip(CHAPTERS) {
        println!("\n{number}. {:<52} {}", chapter.title, chapter.source);
        if !(chapter.show)() {
            println!("   These figures do not show it.");
            return 1;
        }
    }
    println!("\nThat took {} ms. `./x run --list` names what else can be run.", (now() - start) / 1_000_000);
    0
}

/// The parts of the address space, and things of a program's in them.
fn addresses() -> bool {
    static GLOBAL: AtomicU64 = AtomicU64::new(0);
    let (object, local) = (Gc::new(0u64), 0u64);
    let things = [
        ("an object", (&raw const *object).addr(), "heap arenas"),
        ("a local variable", (&raw const local).addr(), "thread stacks"),
        ("a global", (&raw const GLOBAL).addr(), "image"),
        ("a function", tour as *const () as usize, "image"),
    ];
    for (name, range) in inspect::address_plan() {
        print!("   {}  {:>7}  {name}", range.start, size(range.bytes().0));
        for (thing, address, _) in things.iter().filter(|(_, address, _)| range.contains(Address(*address))) {
            print!("; {thing} at {address:#x}");
        }
        println!();
    }
    let is_in = |place: &str, address| {
        inspect::address_plan().iter().any(|(name, range)| *name == place && range.contains(Address(address)))
    };
    things.iter().all(|(_, address, place)| is_in(place, *address))
}

/// How much of a stack is memory, and how many faults it took, at some depths.
fn growing_stack() -> bool {
    const DEPTHS: [usize; 4] = [0, 100 * KIB, MIB, 16 * MIB];
    let walk = go(|| {
        let first = 0x60_60_60_60_u64;
        let (before, _) = inspect::stack_growths();
        let address = black_box(&raw const first).addr();
        let mut figures = [(0, inspect::current_stack()); DEPTHS.len()];
        descend(address, &DEPTHS, &mut figures);
        let is_same = black_box(&first) == &0x60_60_60_60;
        (address, is_same, before, figures)
    });
    let Ok((address, is_same, before, figures)) = walk.join() else { return false };
    for (depth, (faults, stack)) in DEPTHS.iter().zip(&figures) {
        let (committed, faults) = (size(stack.committed.0), faults - before);
        println!("   {:>8} deep: {committed:>8} of memory, after {faults:>2} page faults", size(*depth));
    }
    println!("   The frame at its top did not move: a local is at {address:#x} as before.");
    let is_enough = |(depth, (_, stack)): (&usize, &(usize, StackFigures))| stack.committed.0 >= *depth;
    let grew = figures[0].1.committed < figures[3].1.committed && figures[3].0 > figures[0].0;
    is_same && grew && DEPTHS.iter().zip(&figures).all(is_enough)
}

/// Notes the figures at each depth below `top`, the nearest first.
#[inline(never)]
fn descend(top: usize, depths: &[usize], figures: &mut [(usize, StackFigures)]) {
    let frame = [0u8; 512];
    let depth = top.saturating_sub(black_box(&raw const frame).addr());
    match (depths, &mut *figures) {
        ([next, later @ ..], [figure, rest @ ..]) if depth >= *next => {
            *figure = (inspect::stack_growths().0, inspect::current_stack());
            descend(top, later, rest);
        }
        ([_, ..], figures) => descend(top, depths, figures),
        ([], _) => {}
    }
    black_box(&frame);
}

/// Main gives the processor to a thread that never gives it back.
#[expect(clippy::empty_loop, reason = "the loop that calls nothing is what this is about")]
fn stopped_loop() -> bool {
    static IS_LOOPING: AtomicU64 = AtomicU64::new(0);
    runtime::set_preemption(true);
    let looping = go(|| -> () {
        IS_LOOPING.store(1, Ordering::Relaxed);
        loop {}
    });
    let (ticks, start) = (runtime::ticks(), now());
    let mut longest = 0;
    for _ in 0..10 {
        let gave_up = now();
        yield_now();
        longest = longest.max(now() - gave_up);
    }
    let (ticks, us) = (runtime::ticks() - ticks, (now() - start) / 1000);
    println!(
        "   Thread {} runs loop {{}}. Main gave it the processor 10 times, and had it back 10 times,",
        looping.id()
    );
    println!(
        "   by {ticks} ticks of the timer, in {us} us in all, {} us at most. It loops on from here.",
        longest / 1000
    );
    IS_LOOPING.load(Ordering::Relaxed) == 1 && ticks > 0
}

#[derive(Trace)]
struct Link {
    number: u64,
    next: Option<Gc<Link>>,
}

fn list(length: u64) -> Gc<Link> {
    let last = Gc::new(Link { number: 0, next: None });
    (1..length).fold(last, |next, number| Gc::new(Link { number, next: Some(next) }))
}

/// A thousand lists are dropped; one is kept.
fn garbage() -> bool {
    collect();
    let before = memory_stats();
    let kept = list(1000);
    drop_lists(1000, 1000);
    let full = memory_stats();
    collect();
    let after = memory_stats();
    let freed = after.frees - before.frees;
    let pause = (after.pause_total_ns - full.pause_total_ns) / 1000;
    let sum: u64 = core::iter::successors(Some(kept), |link| link.next).map(|link| link.number).sum();
    println!(
        "   Before: {:>8} live. A list is made and kept, 1000 lists are made and dropped.",
        size(before.heap_marked)
    );
    println!(
        "   After:  {:>8} live, {:>7} objects freed by {} collections, the last in {pause} us,",
        size(after.heap_marked),
        freed,
        after.num_gc - before.num_gc
    );
    println!(
        "   in a heap that never took more than {}. The kept list's numbers add up to {sum}.",
        size(after.heap_sys)
    );
    freed >= 900_000 && after.heap_marked < before.heap_marked + MIB && sum == 499_500
}

/// Lists that nobody refers to when this returns, but for stale words perhaps.
#[inline(never)]
fn drop_lists(lists: usize, length: u64) {
    for _ in 0..lists {
        black_box(list(length));
    }
}

static DESTROYED: AtomicU64 = AtomicU64::new(0);

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        DESTROYED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ten calls deep a slice is read past its end.
fn caught_panic() -> bool {
    const CALLS: u64 = 10;
    let start = now();
    let caught = catch_unwind(|| read_past_the_end(CALLS));
    let (us, destroyed) = ((now() - start) / 1000, DESTROYED.load(Ordering::Relaxed));
    let Err(Failure::Panicked(panic)) = caught else { return false };
    println!("   \"{panic}\"");
    println!("   at {}, caught {CALLS} calls further up after {us} us;", panic.place());
    println!("   on the way {destroyed} destructors ran.");
    destroyed == CALLS
}

#[inline(never)]
fn read_past_the_end(calls: u64) -> u64 {
    let _counted = Counted;
    let numbers = black_box(&[1, 2, 3][..]);
    if calls > 1 { read_past_the_end(calls - 1) + 1 } else { numbers[black_box(3)] }
}

/// A thread recurses without end; it alone ends.
fn overflow() -> bool {
    const LIMIT: usize = 64 * KIB;
    // Said first: the timer may take the processor from main as soon as the thread is there.
    println!("   A thread recurses without end on a stack of {} at most. The runtime says:", size(LIMIT));
    let Ok(thread) = Builder::new().stack_limit(LIMIT).spawn(|| recurse(0)) else { return false };
    let end = thread.join();
    let next = go(|| 6 * 7).join();
    if let Err(failure) = &end {
        println!("   Whoever joins it learns: {failure}. Main goes on; the next thread returns {next:?}.");
    }
    end == Err(Failure::StackOverflow) && next == Ok(42)
}

/// Frames so large that the backtrace is short.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let mut frame = [depth; 2 * KIB];
    black_box(&mut frame);
    // The bound is never met: it is there for the compiler, which warns of recursion without end.
    if depth == u64::MAX { 0 } else { recurse(depth + 1) + frame[0] }
}

/// A power of 1024 with its unit, where it is whole; else the next smaller unit.
fn size(bytes: usize) -> String {
    let (unit, name) = [(GIB * KIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .unwrap_or(if bytes >= 8 * KIB { (KIB, "KiB") } else { (1, "B") });
    alloc::format!("{} {name}", bytes / unit)
}

//! The unlikely places for a reference: each holds its object through collections, while all that was freed is used again.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into, overwrite_dead_frames};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::hint::black_box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use spin::{Mutex, Once};

/// Collects, fills what was freed with objects of many sizes that are all junk, and collects those.
fn collect_and_reuse() {
    // The frame below has slots of its own in which something might be left over.
    overwrite_dead_frames();
    litter_and_collect();
}

#[inline(never)]
fn litter_and_collect() {
    const JUNK: u64 = 0x6a75_6e6b_6a75_6e6b;
    fn litter<const WORDS: usize>() {
        for _ in 0..600 {
            black_box(Gc::new([JUNK; WORDS]));
            black_box(Box::new([JUNK; WORDS])).fill(!JUNK);
            core::mem::forget(alloc::vec![JUNK; WORDS]);
            core::mem::forget("junk".repeat(2 * WORDS));
        }
    }
    const SIZES: [fn(); 7] =
        [litter::<1>, litter::<2>, litter::<3>, litter::<4>, litter::<6>, litter::<8>, litter::<12>];
    for _ in 0..2 {
        collect_cleanly();
        SIZES.iter().for_each(|litter| litter());
    }
    collect_cleanly();
    if let Err(damage) = runtime::inspect::check_heap() {
        panic!("{damage}");
    }
}

/// A pointer one past the end of an object of exactly one slot, and nothing else; whether the object survives beside it.
fn end_pointer_holds() -> bool {
    #[inline(never)]
    fn end() -> (Hidden, *const u64) {
        // Two neighbours: the end of the first is the start of the second.
        let objects = [(); 2].map(|()| Gc::new([7u64; 6]));
        let range = objects[0].as_ptr_range();
        (Hidden::of(objects[0]), range.end)
    }
    let (object, end) = end();
    let held = [end];
    black_box(&held);
    collect_and_reuse();
    let is_there = object.is_allocated();
    // SAFETY: one word back is the object's last, if it is still there.
    is_there && (1..=6).all(|back| unsafe { black_box(&held)[0].sub(back).read() } == 7)
}

#[kernel_test]
fn a_pointer_one_past_the_end_on_the_stack_holds_its_object() {
    assert!(end_pointer_holds());
}

#[kernel_test(off, status = 0)]
fn without_the_rule_for_end_pointers_the_object_is_lost() {
    let _off = disable(Mechanism::EndPointers);
    assert!(!end_pointer_holds());
}

/// Two words of counters and no value: what points at the value points one past the end.
struct Nothing;

/// In the heap only the pointer to the value of an `Arc` without one; its count of holders afterwards, if it has survived.
fn raw_arc_in_heap() -> Option<usize> {
    #[inline(never)]
    fn raw() -> (usize, Box<*const Nothing>) {
        // Neighbours on both sides, so that the end of each is the start of another.
        let holders = black_box([(); 3].map(|()| Arc::new(Nothing)));
        core::mem::forget(holders[1].clone());
        let raw = Arc::into_raw(holders[1].clone());
        let header = raw.addr() - 2 * size_of::<usize>();
        core::mem::forget(holders);
        (!header, Box::new(raw))
    }
    let (hidden, raw) = raw();
    collect_and_reuse();
    if !Hidden::from_inverted(hidden).is_allocated() {
        core::mem::forget(raw);
        return None;
    }
    // SAFETY: it came from `into_raw`, and its counters are still there.
    Some(Arc::strong_count(&unsafe { Arc::from_raw(*black_box(raw)) }))
}

#[kernel_test]
fn a_header_without_a_value_is_held_by_the_pointer_behind_it() {
    assert_eq!(raw_arc_in_heap(), Some(3));
}

#[kernel_test(off, status = 0)]
fn without_the_spare_byte_such_a_header_is_lost() {
    // On a stack a left-over pointer to its neighbour would do, too.
    let _off = (disable(Mechanism::SpareByte), disable(Mechanism::EndPointers));
    assert_eq!(raw_arc_in_heap(), None);
}

#[kernel_test]
fn headers_without_a_value_keep_their_counts() {
    let shared = Arc::new(Nothing);
    let empty: Arc<[u64]> = Arc::from([]);
    let holders: Vec<_> = (0..100).map(|_| (shared.clone(), empty.clone(), Arc::downgrade(&shared))).collect();
    collect_and_reuse();
    assert_eq!((Arc::strong_count(&shared), Arc::weak_count(&shared), Arc::strong_count(&empty)), (101, 100, 101));
    drop(holders);
    assert_eq!((Arc::strong_count(&shared), Arc::weak_count(&shared), Arc::strong_count(&empty)), (1, 0, 1));
}

#[derive(Trace)]
struct Titled {
    title: &'static str,
    canaries: &'static [Gc<Canary>],
    one: &'static mut u64,
}

#[kernel_test]
fn what_was_leaked_lives_as_long_as_somebody_refers_to_it() {
    #[inline(never)]
    fn titled() -> (Hidden, Gc<Titled>) {
        let canaries = Vec::leak((0..5).map(|_| Canary::hatch()).collect());
        let title = String::leak(alloc::format!("leaked {}", black_box(1)));
        (Hidden::of(canaries[2]), Gc::new(Titled { title: &title[3..], canaries, one: Box::leak(Box::new(1)) }))
    }
    let (object, titled) = titled();
    collect_and_reuse();
    assert!(titled.title == "ked 1" && *titled.one == 1);
    assert!(titled.canaries.iter().all(|canary| canary.is_intact()) && object.is_allocated());
}

/// Its variants have references and numbers at each other's places.
#[derive(Trace)]
enum Overlaid {
    Left(Gc<Canary>, u64, Result<Gc<Canary>, u64>),
    Right(u64, Gc<Canary>, Result<Gc<Canary>, u64>),
    Neither([u64; 3]),
    Nested(Option<Option<Gc<Canary>>>, Box<Overlaid>),
}

impl Overlaid {
    fn is_intact(&self, number: u64) -> bool {
        match self {
            Overlaid::Left(canary, count, result) | Overlaid::Right(count, canary, result) => {
                let rest = match result {
                    Ok(other) => other.is_intact(),
                    Err(error) => *error == !number,
                };
                canary.is_intact() && *count == number && rest
            }
            Overlaid::Neither(words) => *words == [number; 3],
            Overlaid::Nested(canary, inner) => {
                matches!(canary, Some(Some(canary)) if canary.is_intact()) && inner.is_intact(number)
            }
        }
    }
}

#[kernel_test]
fn overlaid_variants_hold_what_they_hold() {
    #[inline(never)]
    fn values() -> Vec<Gc<Overlaid>> {
        let of = |number: u64| match number % 6 {
            0 => Overlaid::Left(Canary::hatch(), number, Ok(Canary::hatch())),
            1 => Overlaid::Left(Canary::hatch(), number, Err(!number)),
            2 => Overlaid::Right(number, Canary::hatch(), Ok(Canary::hatch())),
            3 => Overlaid::Right(number, Canary::hatch(), Err(!number)),
            4 => Overlaid::Neither([number; 3]),
            _ => Overlaid::Nested(
                Some(Some(Canary::hatch())),
                Box::new(Overlaid::Right(number, Canary::hatch(), Ok(Canary::hatch()))),
            ),
        };
        (0..300).map(|number| Gc::new(of(number))).collect()
    }
    let values = values();
    collect_and_reuse();
    assert!(values.iter().zip(0..).all(|(value, number)| value.is_intact(number)));
}

/// Everything that may change behind a shared reference.
#[derive(Trace)]
struct Cells {
    cell: Cell<Option<Gc<Canary>>>,
    ref_cell: RefCell<Vec<Gc<Canary>>>,
    once_cell: OnceCell<Gc<Canary>>,
    mutex: Mutex<Option<Gc<Canary>>>,
    once: Once<Box<Gc<Canary>>>,
    pointer: AtomicPtr<Canary>,
}

#[kernel_test]
fn cells_hold_what_is_put_into_them_later() {
    #[inline(never)]
    fn fill(cells: &Cells) {
        cells.cell.set(Some(Canary::hatch()));
        cells.ref_cell.borrow_mut().extend((0..3).map(|_| Canary::hatch()));
        cells.once_cell.get_or_init(Canary::hatch);
        *cells.mutex.lock() = Some(Canary::hatch());
        cells.once.call_once(|| Box::new(Canary::hatch()));
        cells.pointer.store(Gc::as_ptr(Canary::hatch()).cast_mut(), Ordering::Relaxed);
    }
    let cells = Gc::new(Cells {
        cell: Cell::new(None),
        ref_cell: RefCell::default(),
        once_cell: OnceCell::new(),
        mutex: Mutex::new(None),
        once: Once::new(),
        pointer: AtomicPtr::new(null_mut()),
    });
    collect_and_reuse();
    fill(&cells);
    collect_and_reuse();
    assert!(cells.cell.get().is_some_and(|canary| canary.is_intact()));
    assert!(cells.ref_cell.borrow().len() == 3 && cells.ref_cell.borrow().iter().all(|canary| canary.is_intact()));
    assert!(cells.once_cell.get().is_some_and(|canary| canary.is_intact()));
    assert!(cells.mutex.lock().is_some_and(|canary| canary.is_intact()));
    assert!(cells.once.get().is_some_and(|canary| canary.is_intact()));
    // SAFETY: the cells hold it.
    assert!(unsafe { cells.pointer.load(Ordering::Relaxed).as_ref() }.is_some_and(Canary::is_intact));
}

static MUTEX: Mutex<Option<Gc<Canary>>> = Mutex::new(None);
static ONCE: Once<Gc<Canary>> = Once::new();
static POINTER: AtomicPtr<Canary> = AtomicPtr::new(null_mut());
static TABLE: Mutex<Vec<Gc<Canary>>> = Mutex::new(Vec::new());
static CELL: GcCell<Option<Gc<Canary>>> = GcCell::null();
/// Not all zero: in `.data`, between words that are no references.
static MIXED: Mutex<(u8, Option<Gc<Canary>>, u64)> = Mutex::new((1, None, u64::MAX));

/// A static with its object in it, how to ask whether that is intact, and how to empty it.
type Keeper = (fn(Gc<Canary>), fn() -> bool, fn());

const KEEPERS: [Keeper; 7] = [
    (
        |object| *MUTEX.lock() = Some(object),
        || MUTEX.lock().is_some_and(|object| object.is_intact()),
        || *MUTEX.lock() = None,
    ),
    (
        |object| POINTER.store(Gc::as_ptr(object).cast_mut(), Ordering::Relaxed),
        // SAFETY: what the static points to is held by it.
        || unsafe { POINTER.load(Ordering::Relaxed).as_ref() }.is_some_and(Canary::is_intact),
        || POINTER.store(null_mut(), Ordering::Relaxed),
    ),
    (
        |object| TABLE.lock().push(object),
        || TABLE.lock().first().is_some_and(|object| object.is_intact()),
        || drop(core::mem::take(&mut *TABLE.lock())),
    ),
    (|object| CELL.set(Some(object)), || CELL.get().is_some_and(|object| object.is_intact()), || CELL.set(None)),
    (
        |object| MIXED.lock().1 = Some(object),
        || MIXED.lock().1.is_some_and(|object| object.is_intact()),
        || MIXED.lock().1 = None,
    ),
    (
        |object| *in_function().lock() = Some(object),
        || in_function().lock().is_some_and(|object| object.is_intact()),
        || *in_function().lock() = None,
    ),
    // Never emptied, so it comes last.
    (|object| _ = ONCE.call_once(|| object), || ONCE.get().is_some_and(|object| object.is_intact()), || ()),
];

fn in_function() -> &'static Mutex<Option<Gc<Canary>>> {
    static HIDDEN: Mutex<Option<Gc<Canary>>> = Mutex::new(None);
    &HIDDEN
}

#[kernel_test]
fn statics_of_every_kind_hold_their_objects() {
    for (number, (put, is_intact, clear)) in KEEPERS.into_iter().enumerate() {
        let object = hatch_into(put);
        collect_and_reuse();
        assert!(object.is_allocated() && is_intact(), "static {number}");
        clear();
        collect_cleanly();
        assert!(object.is_allocated() == (number == KEEPERS.len() - 1), "static {number}");
    }
}

#[kernel_test(off, status = 0)]
fn without_static_roots_they_all_lose_them() {
    let objects = KEEPERS.map(|(put, ..)| hatch_into(put));
    let _off = disable(Mechanism::StaticRoots);
    collect_cleanly();
    assert!(!objects.iter().any(|object| object.is_allocated()));
}

/// What a thread takes along and leaves behind: handles, a box of them, a vector.
type Luggage = (Gc<Canary>, Box<Gc<Canary>>, Vec<Gc<Canary>>);

#[inline(never)]
fn pack() -> Luggage {
    (Canary::hatch(), Box::new(Canary::hatch()), (0..3).map(|_| Canary::hatch()).collect())
}

fn is_complete((one, boxed, many): &Luggage) -> bool {
    one.is_intact() && boxed.is_intact() && many.len() == 3 && many.iter().all(|canary| canary.is_intact())
}

#[kernel_test]
fn closures_of_threads_that_have_not_run_hold_what_they_captured() {
    #[inline(never)]
    fn start() -> Vec<JoinHandle<bool>> {
        let start_one = |_| {
            let luggage = pack();
            go(move || is_complete(&luggage))
        };
        (0..50).map(start_one).collect()
    }
    let threads = start();
    collect_and_reuse();
    assert!(threads.into_iter().all(|thread| thread.join() == Ok(true)));
}

#[kernel_test]
fn results_of_threads_that_have_ended_are_held_until_they_are_taken() {
    let threads: Vec<JoinHandle<Luggage>> = (0..50).map(|_| go(pack)).collect();
    // They run, and their stacks are used again.
    (0..3).for_each(|_| yield_now());
    (0..50).for_each(|_| assert_eq!(go(|| black_box([0u8; 2000]).len()).join(), Ok(2000)));
    collect_and_reuse();
    assert!(threads.into_iter().all(|thread| thread.join().is_ok_and(|luggage| is_complete(&luggage))));
}

#[kernel_test]
fn a_result_that_nobody_can_take_any_more_is_garbage() {
    static LEFT: Mutex<usize> = Mutex::new(0);
    #[inline(never)]
    fn run() {
        drop(go(|| {
            let luggage = pack();
            *LEFT.lock() = Hidden::of(luggage.0).inverted();
            luggage
        }));
        yield_now();
    }
    run();
    let object = Hidden::from_inverted(*LEFT.lock());
    collect_and_reuse();
    assert!(object.inverted() != 0 && !object.is_allocated());
}

//! Slices, `dyn` objects, `GcVec`, `GcString`, `GcMap`: they hold what is in them, and nothing that is not.

use crate::canary::{Canary, Hidden, collect_cleanly, hatch_into};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use core::mem;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use runtime::inspect::{random, random_seed};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};
use spin::Mutex;

/// Xorshift, from a seed that the test prints: the maps' own.
struct Random(u64);

impl Random {
    fn new() -> Random {
        println!("GODEBUG=randseed={}", random_seed());
        Random(random_seed() | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

// Slices

const MANY: usize = 10_000;

type Cells = Gc<[GcCell<Option<Gc<Canary>>>]>;

#[inline(never)]
fn many_in_a_slice() -> (Cells, Vec<Hidden>) {
    let objects = Gc::from_fn(MANY, |_| GcCell::new(Some(Canary::hatch())));
    let hidden = objects.iter().map(|cell| Hidden::of(cell.get().expect("an object"))).collect();
    objects.iter().skip(1).step_by(2).for_each(|cell| cell.set(None));
    (objects, hidden)
}

#[kernel_test(unstressed)]
fn a_slice_of_ten_thousand_references_holds_exactly_their_objects() {
    let (objects, hidden) = many_in_a_slice();
    collect_cleanly();
    assert!(objects.iter().step_by(2).all(|cell| cell.get().is_some_and(|object| object.is_intact())));
    let kept = hidden.iter().filter(|object| object.is_allocated()).count();
    // A word on the stack may keep one that was looked at last.
    assert!((MANY / 2..=MANY / 2 + 1).contains(&kept), "{kept}");
}

#[kernel_test(off, unstressed)]
fn without_the_scan_of_large_objects_the_slice_holds_none() {
    let off = disable(Mechanism::AmbiguousScan);
    let (objects, hidden) = many_in_a_slice();
    collect_cleanly();
    drop(off);
    // A collection that a stale word leads here finds no reference to what is gone.
    objects.iter().for_each(|cell| cell.set(None));
    assert!(hidden.iter().filter(|object| object.is_allocated()).count() <= 1);
}

#[inline(never)]
fn addresses_in_a_slice(count: usize) -> (Gc<[usize]>, Vec<Hidden>) {
    let mut hidden = Vec::new();
    // Until all are there: under stress collections come between them, and others would have the first ones' places.
    let mut objects = Vec::new();
    let addresses = Gc::from_fn(count, |_| {
        let object = Canary::hatch();
        objects.push(object);
        hidden.push(Hidden::of(object));
        Gc::as_ptr(object).addr()
    });
    black_box(objects);
    (addresses, hidden)
}

#[kernel_test]
fn numbers_in_a_slice_are_never_read() {
    for count in [10, 300, 5000] {
        let (addresses, hidden) = addresses_in_a_slice(count);
        collect_cleanly();
        let kept = hidden.iter().filter(|object| object.is_allocated()).count();
        assert!(kept <= 1, "{kept} of {count}");
        assert!(addresses.iter().zip(&hidden).all(|(address, hidden)| *address == !hidden.inverted()));
    }
}

#[kernel_test]
fn slices_come_from_what_there_is() {
    let numbers: Gc<[u64]> = Gc::new([1, 2, 3]);
    assert_eq!(*numbers, [1, 2, 3]);
    assert_eq!(*Gc::<[u64]>::from(&[4, 5][..]), [4, 5]);
    let boxes: Gc<[Box<u64>]> = (0..100).map(Box::new).collect::<Vec<_>>().into();
    collect_cleanly();
    assert!(boxes.iter().map(|number| **number).eq(0..100));
    assert!(Gc::<[Option<Gc<u64>>]>::zeroed_slice(1000).iter().all(Option::is_none));
    assert!(Gc::<[u8]>::zeroed_slice(100_000).iter().all(|byte| *byte == 0));
    assert_eq!((Gc::<[u64]>::zeroed_slice(0).len(), Gc::from_fn(1 << 40, |_| ()).len()), (0, 1 << 40));
    assert_eq!(&*Gc::<str>::from("text"), "text");
    assert!(Gc::<[u64]>::try_zeroed_slice(1 << 40).is_err() && Gc::<[u64]>::try_zeroed_slice(usize::MAX).is_err());
    let chars: Gc<[char]> = "text".chars().collect();
    assert_eq!(go(move || chars.iter().collect::<String>()).join(), Ok("text".to_string()));
}

// dyn

trait Area {
    fn area(&self) -> u64;
}

#[derive(Trace)]
struct Square {
    side: Gc<u64>,
}

#[derive(Trace)]
struct Rectangle {
    sides: [u64; 2],
    first: Gc<Canary>,
}

impl Area for Square {
    fn area(&self) -> u64 {
        *self.side * *self.side
    }
}

impl Area for Rectangle {
    fn area(&self) -> u64 {
        assert!(self.first.is_intact());
        self.sides[0] * self.sides[1]
    }
}

#[kernel_test]
fn objects_behind_a_trait_are_held_by_their_handles() {
    let mut shapes: GcVec<Gc<dyn Area>> = GcVec::new();
    for side in 0..100 {
        shapes.push(Gc::new(Square { side: Gc::new(side) }));
        shapes.push(Gc::new(Rectangle { sides: [side, 2], first: Canary::hatch() }));
    }
    let held = Gc::new(shapes[198]);
    collect_cleanly();
    assert_eq!(shapes.iter().map(|shape| shape.area()).sum::<u64>(), (0..100).map(|side| side * side + 2 * side).sum());
    assert_eq!(held.area(), 99 * 99);
}

// GcVec

/// A number that may look like a reference, and a reference.
type Pair = (usize, Option<Gc<Canary>>);

/// Of one object the vector has the address as a number, to another it refers.
fn pair_into(mut push: impl FnMut(Pair)) -> [Hidden; 2] {
    let number = hatch_into(|object| push((Gc::as_ptr(object).addr(), None)));
    let object = hatch_into(|object| push((0, Some(object))));
    [number, object]
}

#[kernel_test]
fn a_vector_keeps_by_its_references_and_not_by_its_numbers() {
    for before in [0, 20, 500, 5000] {
        let (mut precise, mut ambiguous): (GcVec<Pair>, Vec<Pair>) = (GcVec::new(), Vec::new());
        for _ in 0..before {
            precise.push((1, None));
            ambiguous.push((1, None));
        }
        let of_precise = pair_into(|pair| precise.push(pair));
        let of_ambiguous = pair_into(|pair| ambiguous.push(pair));
        collect_cleanly();
        black_box((&precise, &ambiguous));
        assert_eq!(of_precise.map(Hidden::is_allocated), [false, true], "after {before}");
        assert_eq!(of_ambiguous.map(Hidden::is_allocated), [true, true], "after {before}");
    }
}

#[kernel_test]
fn what_was_taken_out_of_a_vector_is_kept_no_longer() {
    #[inline(never)]
    fn filled() -> (GcVec<Gc<Canary>>, Vec<Hidden>) {
        let objects: GcVec<_> = (0..100).map(|_| Canary::hatch()).collect();
        let hidden = objects.iter().map(|object| Hidden::of(*object)).collect();
        (objects, hidden)
    }
    #[inline(never)]
    fn take_out(objects: &mut GcVec<Gc<Canary>>, how: usize) {
        match how {
            0 => objects.truncate(90),
            1 => (0..10).for_each(|_| _ = objects.pop()),
            2 => (0..10).for_each(|_| _ = objects.remove(90)),
            3 => (0..10).for_each(|_| _ = objects.swap_remove(90)),
            4 => (90..100).for_each(|index| objects.set(index, objects[0])),
            _ => {
                let mut seen = 0;
                objects.retain(|_| {
                    seen += 1;
                    seen <= 90
                });
            }
        }
    }
    for how in 0..6 {
        let (mut objects, hidden) = filled();
        take_out(&mut objects, how);
        collect_cleanly();
        let kept = |hidden: &[Hidden]| hidden.iter().filter(|object| object.is_allocated()).count();
        assert_eq!(kept(&hidden[..90]), 90);
        assert!(kept(&hidden[90..]) <= 1, "{how}: {}", kept(&hidden[90..]));
        assert!(objects.iter().all(|object| object.is_intact()));
    }
}

#[kernel_test(unstressed)]
fn a_vector_that_grows_gives_its_old_memory_back_at_once() {
    let mut numbers: GcVec<u64> = GcVec::with_capacity(100);
    numbers.extend(0..100);
    let before = Hidden::from_inverted(!numbers.as_ptr().addr());
    assert!(before.is_allocated());
    numbers.reserve(1000);
    assert!(!before.is_allocated() && numbers.iter().copied().eq(0..100));
}

#[kernel_test]
fn any_trace_of_a_vector_agrees_with_one_of_allocs() {
    let mut random = Random::new();
    let mut ours: GcVec<(usize, Gc<usize>)> = GcVec::new();
    let mut model: Vec<usize> = Vec::new();
    for step in 0..1500 {
        let index = random.below(model.len() + 1);
        let new = || (step, Gc::new(step));
        match random.below(14) {
            0 | 1 => {
                ours.insert(index, new());
                model.insert(index, step);
            }
            2 if index < model.len() => assert_eq!(ours.remove(index).0, model.remove(index)),
            3 if index < model.len() => assert_eq!(ours.swap_remove(index).0, model.swap_remove(index)),
            4 if index < model.len() => {
                ours.set(index, new());
                model[index] = step;
            }
            5 if index < model.len() => {
                ours.swap(index, 0);
                model.swap(index, 0);
            }
            6 => assert_eq!(ours.pop().map(|pair| pair.0), model.pop()),
            7 if random.below(20) == 0 => {
                ours.truncate(index);
                model.truncate(index);
            }
            8 if random.below(10) == 0 => {
                ours.retain(|(number, _)| number % 3 > 0);
                model.retain(|number| number % 3 > 0);
            }
            9 if random.below(10) == 0 => {
                ours.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                model.sort_unstable_by(|a, b| b.cmp(a));
            }
            10 if random.below(10) == 0 => {
                ours.extend((0..20).map(|_| new()));
                model.extend([step; 20]);
            }
            11 if random.below(50) == 0 => {
                ours = ours.into_iter().rev().collect::<GcVec<_>>().into_iter().rev().collect()
            }
            _ => {
                ours.push(new());
                model.push(step);
            }
        }
        if step % 50 == 0 {
            collect();
        }
        assert!(ours.capacity() >= ours.len());
        assert!(
            ours.iter().map(|(number, object)| (*number, **object)).eq(model.iter().map(|number| (*number, *number)))
        );
    }
}

#[kernel_test]
fn a_vector_asks_before_it_dies_for_want_of_memory() {
    let mut numbers: GcVec<u64> = GcVec::from([1, 2, 3]);
    assert!(numbers.try_reserve(1 << 40).is_err() && numbers.try_reserve(usize::MAX).is_err());
    assert!(GcVec::from([()]).try_reserve(usize::MAX).is_err());
    numbers.push(4);
    numbers[0] = 5;
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert_eq!(alloc::format!("{numbers:?}"), "[2, 3, 4, 5]");
}

#[kernel_test]
fn an_index_out_of_bounds_leaves_a_vector_as_it_is() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    struct Watched(GcVec<u64>);
    impl Drop for Watched {
        fn drop(&mut self) {
            LEFT.store(self.0.len(), Relaxed);
        }
    }
    assert!(go(|| Watched(GcVec::from([1, 2, 3])).0.swap_remove(7)).join().is_err());
    assert_eq!(LEFT.load(Relaxed), 3);
}

/// Notes the number of what is dropped, and panics at one.
#[derive(Trace)]
struct Noting(usize, Gc<usize>);

static NOTES: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static FATAL: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Drop for Noting {
    fn drop(&mut self) {
        collect();
        assert_eq!(self.0, *self.1);
        NOTES.lock().push(self.0);
        assert!(self.0 != FATAL.load(Relaxed), "dropped");
    }
}

type Keep<'a> = &'a mut dyn FnMut(&Noting) -> bool;

/// Keeps those of ten that 3 does not divide, but for a panic at one, asked about or dropped: those left, and those dropped.
fn retained<V: Deref<Target = [Noting]> + FromIterator<Noting>>(
    retain: fn(&mut V, Keep<'_>),
    asked: usize,
    dropped: usize,
) -> [Vec<usize>; 2] {
    let mut elements: V = (0..10).map(|number| Noting(number, Gc::new(number))).collect();
    FATAL.store(dropped, Relaxed);
    let mut keep = |element: &Noting| {
        assert!(element.0 != asked, "asked about");
        !element.0.is_multiple_of(3)
    };
    let ended = catch_unwind(|| retain(&mut elements, &mut keep));
    FATAL.store(usize::MAX, Relaxed);
    assert_eq!(ended.is_err(), asked < 10 || dropped.is_multiple_of(3));
    let left = elements.iter().map(|element| element.0).collect();
    [left, mem::take(&mut *NOTES.lock())]
}

#[kernel_test]
fn after_a_panic_in_retain_a_vector_is_as_one_of_allocs() {
    for number in 0..11 {
        for (asked, dropped) in [(number, 10), (10, number)] {
            let ours = retained::<GcVec<_>>(|elements, keep| elements.retain(keep), asked, dropped);
            NOTES.lock().clear();
            let allocs = retained::<Vec<_>>(|elements, keep| elements.retain(keep), asked, dropped);
            NOTES.lock().clear();
            assert_eq!(ours, allocs, "asked about {asked}, dropped {dropped}");
        }
    }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Counts its destruction, in which it collects.
#[derive(Trace)]
struct Dropper {
    own: GcVec<Gc<Canary>>,
}

impl Dropper {
    fn new() -> Dropper {
        Dropper { own: [Canary::hatch(), Canary::hatch()].into() }
    }
}

impl Drop for Dropper {
    fn drop(&mut self) {
        collect();
        assert!(self.own.iter().all(|object| object.is_intact()));
        DROPPED.fetch_add(1, Relaxed);
    }
}

#[kernel_test(status = 0, cmdline = "GODEBUG=invalidptr=1,clobberfree=1")]
fn a_vector_drops_its_elements_and_the_collector_none() {
    let dropped = |f: fn(GcVec<Dropper>)| {
        let before = DROPPED.load(Relaxed);
        f((0..5).map(|_| Dropper::new()).collect());
        DROPPED.load(Relaxed) - before
    };
    assert_eq!(dropped(drop), 5);
    assert_eq!(dropped(|mut elements| elements.truncate(2)), 5);
    assert_eq!(dropped(|mut elements| elements.set(0, Dropper::new())), 6);
    assert_eq!(dropped(|elements| elements.into_iter().skip(1).take(2).for_each(drop)), 5);
    assert_eq!(dropped(|mut elements| core::mem::forget(elements.swap_remove(1))), 4);
    let forgotten = |elements| {
        black_box(Gc::new(elements));
        collect_cleanly();
        collect_cleanly();
    };
    assert_eq!(dropped(forgotten), 0);
}

// GcString

#[kernel_test]
fn a_string_is_text_that_grows_and_is_never_read() {
    /// Strings in whose bytes an object's address can be read. A stale word elsewhere may keep one of the objects.
    #[inline(never)]
    fn spellings() -> [(GcString, Hidden); 10] {
        let objects = black_box([(); 10].map(|()| Canary::hatch()));
        let spellings = objects.each_ref().map(|object| {
            let address = Gc::as_ptr(*object).addr().to_ne_bytes();
            let bytes: GcVec<u8> = (0..64).flat_map(|_| address.map(|byte| byte & 0x7f)).collect();
            (GcString::from_utf8(bytes).expect("seven bits each"), Hidden::of(*object))
        });
        black_box(objects);
        spellings
    }
    let spellings = spellings();
    collect_cleanly();
    assert!(spellings.iter().filter(|(_, object)| object.is_allocated()).count() <= 1);

    let mut text = GcString::new();
    for number in 0..100 {
        write!(text, "{number}äö ").expect("there is memory");
    }
    assert_eq!(text, (0..100).map(|number| alloc::format!("{number}äö ")).collect::<String>().as_str());
    text.truncate("0äö 1äö".len());
    assert_eq!((text.pop(), text.remove(1), text.as_str()), (Some('ö'), 'ä', "0ö 1ä"));
    text.insert_str(1, "--");
    text += "!";
    assert_eq!(text, "0--ö 1ä!");
    assert!(GcString::from_utf8(GcVec::from([0xff])).is_err());
    let text: Gc<str> = text.into();
    collect_cleanly();
    assert_eq!(&*text, "0--ö 1ä!");
}

// GcMap

const ENTRIES: usize = 100_000;

/// Whether a map agrees with another kind of map, whatever is done to both.
fn agree<V: Trace>(steps: usize, keys: usize, new: impl Fn(usize) -> V, number: impl Fn(&V) -> usize) {
    let mut random = Random::new();
    let (mut ours, mut model): (GcMap<usize, V>, BTreeMap<usize, usize>) = (GcMap::new(), BTreeMap::new());
    for step in 0..steps {
        let key = random.below(keys);
        match random.below(10) {
            0 | 1 => assert_eq!(ours.remove(&key).as_ref().map(&number), model.remove(&key)),
            2 => {
                ours.entry(key).or_insert_with(|| new(step));
                model.entry(key).or_insert(step);
            }
            3 => assert_eq!(ours.get(&key).map(&number), model.get(&key).copied()),
            _ => assert_eq!(ours.insert(key, new(step)).as_ref().map(&number), model.insert(key, step)),
        }
        if step % (steps / 20) == 0 {
            collect();
            ours.retain(|key, _| key % 50 != 7);
            model.retain(|key, _| key % 50 != 7);
        }
    }
    collect_cleanly();
    assert_eq!(ours.len(), model.len());
    assert!(model.iter().all(|(key, value)| ours.get(key).is_some_and(|own| number(own) == *value)));
    let mut all: Vec<_> = ours.iter().map(|(key, value)| (*key, number(value))).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(model));
}

#[kernel_test(unstressed)]
fn a_map_of_a_hundred_thousand_entries_survives_collections() {
    agree(3 * ENTRIES, ENTRIES, Gc::new, |object| **object);
    agree(3 * ENTRIES, ENTRIES, |number| number, |number| *number);
}

#[kernel_test]
fn a_small_map_survives_collections() {
    agree(1000, 200, Gc::new, |object| **object);
}

#[kernel_test]
fn a_map_of_numbers_is_never_read_and_one_of_references_is() {
    let (mut numbers, mut objects): (GcMap<usize, usize>, GcMap<usize, Gc<Canary>>) = (GcMap::new(), GcMap::new());
    let number = hatch_into(|object| _ = numbers.insert(1, Gc::as_ptr(object).addr()));
    let object = hatch_into(|object| _ = objects.insert(1, object));
    collect_cleanly();
    assert_eq!([number, object].map(Hidden::is_allocated), [false, true]);
    assert!(objects[&1].is_intact() && numbers[&1] == !number.inverted());
}

/// The keys of a map, as it gives them.
fn order() -> Vec<u64> {
    (0..1000).map(|key| (key, ())).collect::<GcMap<u64, ()>>().into_iter().map(|(key, ())| key).collect()
}

#[kernel_test]
fn the_order_of_a_map_is_the_same_in_each() {
    let first = order();
    assert_eq!(first, order());
    assert_eq!(first.len(), 1000);
}

#[kernel_test(cmdline = "GODEBUG=randseed=1")]
fn the_order_of_a_map_follows_from_the_seed() {
    assert_eq!(order()[..5], [1, 128, 671, 259, 798]);
}

#[kernel_test(cmdline = "GODEBUG=randseed=2")]
fn the_order_of_a_map_is_another_with_another_seed() {
    assert_eq!(order()[..5], [2, 857, 537, 811, 911]);
}

#[kernel_test]
fn the_seed_of_maps_is_left_to_chance() {
    let numbers: [u64; 64] = core::array::from_fn(|_| random());
    assert!(numbers.iter().all(|number| *number != random_seed()));
    let seen = numbers.iter().enumerate().all(|(nth, number)| !numbers[..nth].contains(number));
    assert!(seen, "{numbers:x?}");
}

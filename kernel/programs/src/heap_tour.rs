//! The heap's tour: an object of each kind, the way that each takes through the levels of the heap, and the way back.
//!
//! Every figure is read from the heap when it happens: where an object lies from its span, which levels were asked from
//! their counts before and after. A part whose figures do not show what it says ends the program with status 1. The
//! story is told in kernel/runtime/src/heap/mod.rs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::{Address, MIB, PAGE};
use runtime::inspect::{self, Place};
use runtime::prelude::*;
use runtime::program::{Arguments, MISUSED};
use runtime::{HeapLevels, heap_levels, heap_table};

/// An address that the collector does not know for one.
#[derive(Clone, Copy)]
struct Hidden(usize);

impl Hidden {
    fn of<T: ?Sized>(object: *const T) -> Hidden {
        Hidden(!object.addr())
    }

    fn address(self) -> usize {
        !self.0
    }
}

struct Exhibit {
    what: &'static str,
    bytes: usize,
    /// Allocates it and forgets it; `None`: there is not so much memory.
    make: fn() -> Option<Hidden>,
}

#[derive(Trace)]
struct Link {
    number: u64,
    next: Option<Gc<Link>>,
    last: Option<Gc<Link>>,
}

const EXHIBITS: [Exhibit; 10] = [
    Exhibit { what: "Gc<u8>", bytes: 1, make: || forget(Gc::new(7u8)) },
    Exhibit { what: "Gc<u8>, the next", bytes: 1, make: || forget(Gc::new(8u8)) },
    Exhibit { what: "Gc<[u64; 3]>", bytes: 24, make: || forget(Gc::new([7u64; 3])) },
    Exhibit {
        what: "Gc of two references and a number",
        bytes: size_of::<Link>(),
        make: || forget(Gc::new(Link { number: 7, next: None, last: None })),
    },
    Exhibit { what: "Box<[u64; 3]>", bytes: 24, make: || Some(Hidden::of(Box::leak(Box::new([7u64; 3])))) },
    Exhibit { what: "Gc<[u8; 600]>", bytes: 600, make: || forget(Gc::new([7u8; 600])) },
    Exhibit { what: "Vec<u64> of 75", bytes: 600, make: || vector::<u64>(75) },
    Exhibit { what: "Vec<u8> of 20 KB", bytes: 20_000, make: || vector::<u8>(20_000) },
    Exhibit { what: "Vec<u64> of 1 MB", bytes: 1_000_000, make: || vector::<u64>(125_000) },
    Exhibit { what: "Vec<u8> of 100 MB", bytes: 100_000_000, make: || vector::<u8>(100_000_000) },
];

/// Of them, the one whose slot the tour waits for until it is used again.
const AWAITED: usize = 5;

fn forget<T: Trace>(object: Gc<T>) -> Option<Hidden> {
    Some(Hidden::of::<T>(&raw const *object))
}

fn vector<T>(length: usize) -> Option<Hidden> {
    let mut vector = Vec::<T>::new();
    vector.try_reserve_exact(length).ok()?;
    let hidden = Hidden::of(vector.as_ptr());
    core::mem::forget(vector);
    Some(hidden)
}

#[program("heap-tour", "an object of each kind, and the way that each takes through the heap")]
fn heap_tour(arguments: &Arguments) -> u8 {
    let Some([]) = arguments.numbers([]) else { return MISUSED };
    // Only when the tour says so.
    let percent = set_gc_percent(None);
    collect();
    // With it the span stays of the object that is to come again.
    let neighbour = Gc::new([7u8; 600]);
    println!(
        "The heap begins at {}. An object of each kind, and the levels that each asked:",
        inspect::heap_range().start
    );
    let Some(made) = elsewhere(make_all) else { return wrong("a way in") };
    let parts: [(&str, &dyn Fn() -> bool); 4] = [
        ("Nobody knows the objects any more", &|| swept(&made)),
        ("A slot is used again", &|| made[AWAITED].is_some_and(used_again)),
        ("Its owner gives an object back", &given_back),
        ("Free pages go back to the machine", &released),
    ];
    for (title, show) in parts {
        println!("{title}.");
        if !show() {
            return wrong(title);
        }
    }
    println!("Who has what the machine has given, in bytes:");
    print!("{}", memory_stats());
    black_box(neighbour);
    set_gc_percent(percent);
    0
}

/// Shows all and the heap with them. None is left when the calling thread has ended, and no slot of theirs is used again before: nobody
/// allocates.
fn make_all() -> Option<[Option<Hidden>; EXHIBITS.len()]> {
    let mut made = [None; EXHIBITS.len()];
    // Their addresses, as the collector knows them: they are not to go before the table is printed.
    let mut kept = [0; EXHIBITS.len()];
    for (number, exhibit) in EXHIBITS.iter().enumerate() {
        made[number] = exhibit.show(number + 1)?;
        kept[number] = made[number].map_or(0, Hidden::address);
        black_box(&kept);
    }
    println!("\nClass by class, with the above and what else there is:\n{}", heap_table());
    black_box(&kept);
    Some(made)
}

fn wrong(title: &str) -> u8 {
    println!("These figures do not show: {title}");
    1
}

/// On a stack of its own, of which nothing is left afterwards.
fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    go(f).join().ok().flatten()
}

impl Exhibit {
    /// Makes it and prints its way. `None`: the figures are not right. `Some(None)`: there was no memory for it.
    fn show(&self, number: usize) -> Option<Option<Hidden>> {
        let (grown, before) = (memory_stats().heap_sys, heap_levels());
        let hidden = (self.make)();
        let (levels, grown) = (heap_levels().since(&before), memory_stats().heap_sys - grown);
        println!("{number}. {}: {} B", self.what, self.bytes);
        let Some(hidden) = hidden else {
            println!("   does not fit: the machine has {} MiB left", inspect::free_memory().0 / MIB);
            return Some(None);
        };
        let address = hidden.address();
        let Place { slot, slots, slot_bytes, size_class, kind, span, arena, offset } = inspect::place_of(address)?;
        let (base, pages, unused) = (span.start, span.bytes().0 / PAGE.0, slot_bytes.0.checked_sub(self.bytes)?);
        println!("   at {}: slot {slot} of {slots}, each of {} B, {unused} B unused", Address(address), slot_bytes.0);
        println!("   class {size_class} {kind}, span at {base} of {pages} x 8 KiB, arena {arena} + {:#x}", offset.0);
        println!("   asked: {}", asked(&levels, grown));
        let is_one = levels.tiny + levels.small + levels.large == 1;
        let is_there = span.start.0 + slot * slot_bytes.0 <= address && address < span.end.0;
        (is_one && is_there).then_some(Some(hidden))
    }
}

/// The levels that were asked, from the first.
fn asked(levels: &HeapLevels, grown: usize) -> String {
    let growth = alloc::format!("growth by {} MiB", grown / MIB);
    let names = [
        (levels.tiny, "tiny block"),
        (levels.fast(), "fast path"),
        (levels.refills, "refill"),
        (levels.large, "span of its own"),
        (levels.central, "central list"),
        (levels.page_cache, "page cache"),
        (levels.page_cache_fills, "radix tree for the page cache"),
        (levels.page_heap, "radix tree"),
        (levels.growths, &*growth),
    ];
    let names: Vec<&str> = names.iter().filter(|(count, _)| *count > 0).map(|(_, name)| *name).collect();
    names.join(", ")
}

/// With GODEBUG=gcstress a collection may come before the next one, and leave its place to others.
fn given_back() -> bool {
    let addresses = elsewhere(|| {
        let object = black_box(Box::new([7u64; 3]));
        let (first, cycles) = (Hidden::of(&raw const *object), runtime::cycles());
        drop(object);
        let again = Hidden::of(&raw const *black_box(Box::new([8u64; 3])));
        Some((first, again, runtime::cycles() - cycles))
    });
    let Some((first, again, cycles)) = addresses else { return false };
    let (first, again) = (Address(first.address()), Address(again.address()));
    let meanwhile = if cycles > 0 { "a collection comes" } else { "no collection comes" };
    println!("   A Box was at {first}; it is dropped, {meanwhile}, and the next one is at {again}.");
    first == again || cycles > 0
}

fn swept(made: &[Option<Hidden>]) -> bool {
    let made = || made.iter().flatten();
    let before = memory_stats();
    collect();
    let after = memory_stats();
    let gone = made().filter(|hidden| !inspect::is_allocated(hidden.address())).count();
    let (freed, us) = (after.frees - before.frees, (after.pause_total_ns - before.pause_total_ns) / 1000);
    println!("   A collection of {us} us freed {freed} objects, {gone} of the {} above.", made().count());
    let pages = [before.heap_inuse, after.heap_inuse].map(|bytes| bytes / PAGE.0);
    println!("   Spans without an object gave their pages back: {} pages were in use, {} are.", pages[0], pages[1]);
    gone == made().count() && pages[1] < pages[0]
}

/// Allocates the same until it lies where the first did.
fn used_again(hidden: Hidden) -> bool {
    const MOST: usize = 10_000;
    let found = elsewhere(move || {
        let before = heap_levels();
        let number = (1..MOST).find(|_| (EXHIBITS[AWAITED].make)().is_some_and(|new| new.0 == hidden.0))?;
        Some((number, heap_levels().since(&before)))
    });
    let Some((number, levels)) = found else { return false };
    println!("   {} number {number} from now lies at {} again;", EXHIBITS[AWAITED].what, Address(hidden.address()));
    println!("   its span was in use all the time. Asked: {}", asked(&levels, 0));
    true
}

fn released() -> bool {
    let (before, free) = (memory_stats(), inspect::free_memory().0);
    free_os_memory();
    let (after, free_after) = (memory_stats(), inspect::free_memory().0);
    println!(
        "   {} KiB of the heap's {} are free, {} of them released; before, {} were. The machine has {} KiB more.",
        after.heap_idle >> 10,
        after.heap_sys >> 10,
        after.heap_released >> 10,
        before.heap_released >> 10,
        free_after.saturating_sub(free) >> 10
    );
    after.heap_released > before.heap_released && after.heap_released <= after.heap_idle
}

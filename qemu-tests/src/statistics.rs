//! The figures that the runtime tells of the heap: that they agree with each other, and with what a program does.

use crate::sweeping::{fill, wait_for_a_cycle};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::MIB;
use runtime::inspect::free_memory;
use runtime::prelude::*;
use runtime::{heap_levels, heap_table, kernel_test};

/// Frees what earlier tests left, so that few spans are left to look at.
fn tidy() {
    collect();
}

#[kernel_test]
fn the_statistics_agree_with_a_walk_through_all_spans() {
    for round in 0..3 {
        let kept: Vec<Gc<[usize; 5]>> = (0..1000 * round).map(|number| Gc::new([number; 5])).collect();
        let large = black_box(alloc::vec![1u8; 100_000 * round]);
        // The table is an object too, and counts itself.
        let table = heap_table();
        let stats = memory_stats();
        assert_eq!((table.objects(), table.bytes()), (stats.heap_objects, stats.heap_alloc), "round {round}");
        assert_eq!(table.in_use(), stats.heap_inuse);
        for class in &table.classes {
            assert_eq!(class.objects, class.mallocs - class.frees, "{class:?}");
            assert_eq!(class.spans, class.partial + class.full, "{class:?}");
            let free = class.in_use - class.bytes - class.tail_waste;
            assert!(class.slot_bytes == 0 || free.is_multiple_of(class.slot_bytes), "{class:?}");
            assert_eq!(free > 0, class.partial > 0, "{class:?}");
        }
        for (size_class, size) in stats.by_size.iter().enumerate() {
            let kinds = table.classes.iter().filter(|class| class.size_class == size_class);
            let sums = kinds.fold((0, 0), |sums, class| (sums.0 + class.mallocs, sums.1 + class.frees));
            assert_eq!((size.mallocs, size.frees), sums, "class {size_class}");
        }
        black_box((kept, large));
        tidy();
    }
}

#[kernel_test]
fn memory_stats_sums_are_sums() {
    tidy();
    let stats = memory_stats();
    assert_eq!(stats.alloc, stats.heap_alloc);
    assert_eq!(stats.heap_sys, stats.heap_idle + stats.heap_inuse);
    assert_eq!(stats.heap_objects, stats.mallocs - stats.frees);
    assert!(stats.heap_released <= stats.heap_idle && stats.heap_alloc <= stats.heap_inuse);
    assert!(stats.heap_small + stats.heap_huge.unwrap_or(0) <= stats.heap_sys - stats.heap_released);
    assert!(stats.mspan_inuse > 0 && stats.mspan_inuse <= stats.mspan_sys && stats.mcache_inuse <= stats.mcache_sys);
    let last = stats.pause_end[(stats.num_gc as usize - 1) % stats.pause_end.len()];
    assert!(last == stats.last_gc && last < now() && last >= stats.pause_ns[0]);
    let expected = stats.pause_total_ns as f64 / now() as f64;
    assert!(stats.gc_cpu_fraction >= expected && stats.gc_cpu_fraction < 1.0);
    assert_eq!(stats.by_size.iter().map(|size| size.mallocs).sum::<usize>() + stats.tiny_allocs, stats.mallocs);
}

/// Adds up what [`memory_stats`] prints, and compares it with what the spans say. Returns what the machine had before it gave anything.
fn add_up() -> usize {
    let (table, stats, free) = loop {
        let (free, table, stats) = (free_memory(), heap_table(), memory_stats());
        if free_memory() == free {
            break (table, stats, free.0);
        }
    };
    let (mut sum, mut sums) = (0, Vec::new());
    for line in stats.to_string().lines() {
        let (sign, rest) = line[13..].split_at(1);
        let bytes: usize = rest.split_whitespace().next().expect("a figure").parse().expect("a number");
        match sign {
            "=" => sums.push(bytes == sum),
            "-" => sum -= bytes,
            _ => sum += bytes,
        }
    }
    assert_eq!(sums, [true; 2], "{stats}");
    assert_eq!((table.in_use(), table.memory), (stats.heap_inuse, stats.heap_sys - stats.heap_released));
    assert!(stats.other_sys > 0, "nothing has two owners");
    free + sum
}

#[kernel_test(unstressed)]
fn what_memory_stats_prints_adds_up_to_what_the_machine_has_given() {
    tidy();
    let had = add_up();
    let other = memory_stats().other_sys;
    let live = fill(24 * MIB);
    assert_eq!(add_up(), had);
    assert!(memory_stats().other_sys - other < MIB / 2, "what is for objects is not the rest");
    drop(black_box(live));
    wait_for_a_cycle();
    let begun = memory_stats();
    let swept = || memory_stats().frees - begun.frees;
    while swept() < 20_000 {
        assert_eq!(add_up(), had);
        sleep(1_000_000);
    }
    assert_eq!(memory_stats().num_gc, begun.num_gc);
    free_os_memory();
    assert_eq!(add_up(), had);
}

#[kernel_test]
fn every_object_is_counted_in_its_class_when_made_and_when_swept() {
    const COUNT: usize = 1000;
    tidy();
    let before = memory_stats();
    (0..COUNT).for_each(|number| _ = black_box(Gc::new([number; 6])));
    let made = memory_stats();
    let [old, new] = [&before, &made].map(|stats| stats.by_size.iter().find(|size| size.size == 48).copied());
    let (old, new) = (old.expect("a class of 48 bytes"), new.expect("the same"));
    assert_eq!((new.mallocs - old.mallocs, made.mallocs - before.mallocs), (COUNT, COUNT));
    assert_eq!(made.total_alloc - before.total_alloc, COUNT * 48);
    tidy();
    // A stale word may keep a thing or two.
    let freed = memory_stats().by_size.iter().find(|size| size.size == 48).map_or(0, |size| size.frees - old.frees);
    assert!((COUNT - 10..COUNT + 100).contains(&freed), "{freed}");
}

/// Under stress every object is a refill.
#[kernel_test(unstressed)]
fn a_level_is_counted_when_it_is_asked() {
    tidy();
    let before = heap_levels();
    // A span's slots and one more: some are this CPU's already.
    (0..341 + 1).for_each(|_| _ = black_box(Gc::new([0u8; 24])));
    let small = heap_levels().since(&before);
    assert!((1..=2).contains(&small.refills) && small.refills + small.fast() == 342, "{small:?}");
    assert_eq!((small.large, small.page_heap), (0, 0));
    let before = heap_levels();
    black_box(Gc::<[u8; 1 << 20]>::zeroed());
    let large = heap_levels().since(&before);
    assert_eq!((large.large, large.page_heap, large.refills, large.small), (1, 1, 0, 0));
}

#[kernel_test]
fn the_table_can_be_printed_and_names_each_class_that_has_spans() {
    let table = heap_table();
    let text = table.to_string();
    let rows =
        text.lines().filter(|line| [" noscan ", " precise ", " ambiguous "].iter().any(|kind| line.contains(kind)));
    assert_eq!(rows.count(), table.classes.iter().filter(|class| class.spans > 0).count());
    assert!(text.contains("fragmentation ") && text.contains("fast path ") && text.contains("memory: "));
    assert_eq!(table.small > 0, cfg!(target_os = "none"), "the table is an ambiguous object");
    assert!(table.small <= table.memory && table.in_use() <= table.memory);
}

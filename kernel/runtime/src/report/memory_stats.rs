//! The memory's figures. Go: mstats.go, `MemStats`; the names are Go's, in Rust's spelling.
//!
//! Unsafe here: the access to this CPU's grey objects and cache.
#![allow(unsafe_code)]

use crate::cpu::SafepointsHeld;
use crate::gc::{self, HEAP, PAUSES};
use crate::platform::mapped;
use crate::stack;

/// A snapshot. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    /// Live at the last collection, and allocated since; a span in a CPU's cache counts as allocated.
    pub heap_alloc: usize,
    /// Allocated since the start, but for what its owner gave back; counted as `heap_alloc` is.
    pub total_alloc: usize,
    /// What the heap has grown to.
    pub heap_sys: usize,
    /// How much of that has no memory behind it: the machine has it back, or has not been asked yet.
    pub heap_released: usize,
    /// How much of it is mapped by pages of 2 MiB. `None`: this Linux does not tell.
    pub heap_huge: Option<usize>,
    /// In spans.
    pub heap_inuse: usize,
    /// The rest of `heap_sys`: free.
    pub heap_idle: usize,
    /// Objects that the last collection found live.
    pub heap_objects: usize,
    /// What the last collection found live.
    pub heap_marked: usize,
    /// The heap's size at which the next collection runs.
    pub next_gc: usize,
    pub num_gc: u64,
    /// Of those, asked for by `collect()`.
    pub num_forced_gc: u32,
    pub pause_total_ns: u64,
    /// The last 256 collections' pauses, a ring: that of collection n, counted from 0, is at n % 256.
    pub pause_ns: [u64; PAUSES],
    /// For stacks of threads, and those that wait for one.
    pub stack_inuse: usize,
    /// The same: stacks are not taken from the heap.
    pub stack_sys: usize,
    /// For the records of spans.
    pub mspan_sys: usize,
    /// For what finds spans and free pages, and for the grey objects.
    pub gc_sys: usize,
    /// For all else: records of threads, page tables, what waits for page faults.
    pub other_sys: usize,
    /// The sum of all that end in `_sys`. Without `heap_released` it is what the machine has given, and what a memory limit limits.
    pub sys: usize,
    /// Objects that all collections have found dead, as far as they are swept: after [`collect`](crate::collect), all.
    pub frees: usize,
    /// Objects that share a slot with one before them. No other count has them. Go: the metric `/gc/heap/tiny/allocs:objects`.
    pub tiny_allocs: usize,
}

/// Reads the figures. Costs a few hundred loads, and a few for each 2 MiB of the heap; takes the collector's lock for a moment.
pub fn memory_stats() -> MemoryStats {
    let held = SafepointsHeld::enter();
    let totals = gc::totals();
    let (spans, finders) = HEAP.records();
    // SAFETY: nobody collects in this section.
    let grey = unsafe { held.grey() }.committed();
    let (heap_sys, heap_released, heap_inuse) = (HEAP.grown().0, HEAP.released().0, HEAP.pages_in_use().bytes().0);
    let (stack_sys, mspan_sys, gc_sys) = (stack::committed().0, spans.0, finders.0 + grey.0);
    let named = HEAP.with_memory().0 + stack_sys + mspan_sys + gc_sys;
    let other_sys = mapped().0.saturating_sub(named);
    MemoryStats {
        heap_alloc: HEAP.live().0,
        total_alloc: HEAP.live().0 + totals.freed.0,
        heap_sys,
        heap_released,
        heap_huge: HEAP.on_huge_pages().map(|bytes| bytes.0),
        heap_inuse,
        heap_idle: heap_sys - heap_inuse,
        heap_objects: totals.live_objects,
        heap_marked: totals.live.0,
        next_gc: gc::goal().0,
        num_gc: gc::cycles(),
        num_forced_gc: totals.forced,
        pause_total_ns: totals.pause_ns,
        pause_ns: gc::pauses_ns(),
        stack_inuse: stack_sys,
        stack_sys,
        mspan_sys,
        gc_sys,
        other_sys,
        sys: named + heap_released + other_sys,
        frees: HEAP.freed_objects(),
        // SAFETY: the only reference in this section.
        tiny_allocs: HEAP.combined() + unsafe { held.cache() }.combined(),
    }
}

//! The memory's figures. Go: mstats.go, `MemStats`; the names are Go's, in Rust's spelling.

use crate::cpu::SafepointsHeld;
use crate::gc::{self, HEAP};

/// A snapshot. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Live at the last collection, and allocated since; a span in a CPU's cache counts as allocated.
    pub heap_alloc: usize,
    /// Committed for the heap.
    pub heap_sys: usize,
    /// In spans.
    pub heap_inuse: usize,
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
    /// Objects freed by all collections.
    pub frees: usize,
}

/// Reads the figures. Costs a few loads; takes the collector's lock for a moment.
pub fn memory_stats() -> MemoryStats {
    let _held = SafepointsHeld::enter();
    let totals = gc::totals();
    MemoryStats {
        heap_alloc: HEAP.live().0,
        heap_sys: HEAP.committed().0,
        heap_inuse: HEAP.pages_in_use().bytes().0,
        heap_objects: totals.live_objects,
        heap_marked: totals.live.0,
        next_gc: gc::goal().0,
        num_gc: gc::cycles(),
        num_forced_gc: totals.forced,
        pause_total_ns: totals.pause_ns,
        frees: totals.freed_objects,
    }
}

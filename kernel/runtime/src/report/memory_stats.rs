//! The memory's figures. Go: mstats.go, `MemStats`; the names are Go's, in Rust's spelling.
//!
//! Unsafe here: the access to this CPU's grey objects and cache.
#![allow(unsafe_code)]

use crate::cpu::SafepointsHeld;
use crate::gc::{self, HEAP, PAUSES};
use crate::heap::{Cache, Kind, SIZE_CLASSES, SpanClass};
use crate::platform::{mapped, platform};
use crate::stack;
use core::fmt;

/// A snapshot. Sizes in bytes; an object counts with its slot, a large one with its pages.
///
/// An object that its owner gave back while its span was this CPU's counts neither as allocated nor as freed.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryStats {
    /// `heap_alloc` by another name, as in Go.
    pub alloc: usize,
    /// Allocated since the start.
    pub total_alloc: usize,
    /// The sum of all that end in `_sys`, but for the caches'. Without `heap_released` it is what the machine has given, and what a memory
    /// limit limits.
    pub sys: usize,
    /// Objects allocated since the start.
    pub mallocs: usize,
    /// Of those, freed; `tiny_allocs` are in both.
    pub frees: usize,
    /// Objects that share a slot with one before them. Go: the metric `/gc/heap/tiny/allocs:objects`.
    pub tiny_allocs: usize,
    /// Objects that are allocated: live, or garbage that is not yet found.
    pub heap_alloc: usize,
    /// What the heap has grown to: `heap_idle` and `heap_inuse`.
    pub heap_sys: usize,
    /// In no span.
    pub heap_idle: usize,
    /// In spans.
    pub heap_inuse: usize,
    /// How much of `heap_idle` has no memory behind it: the machine has it back, or has not been asked yet.
    pub heap_released: usize,
    /// How much of `heap_sys` is mapped by pages of 2 MiB. `None`: this Linux does not tell.
    pub heap_huge: Option<usize>,
    /// How much of it a machine has mapped by pages of 4 KiB because it is for ambiguous objects. The rest of what has memory are pieces of
    /// 2 MiB. A process: nothing.
    pub heap_small: usize,
    /// `mallocs` without `frees`.
    pub heap_objects: usize,
    /// What the last collection found live. Go: `/gc/heap/live:bytes`.
    pub heap_marked: usize,
    /// For stacks of threads, and those that wait for one.
    pub stack_inuse: usize,
    /// The same: stacks are not taken from the heap.
    pub stack_sys: usize,
    /// For the records of spans, and of pages that a CPU has ready for spans.
    pub mspan_inuse: usize,
    /// For all such records.
    pub mspan_sys: usize,
    /// The CPUs' caches.
    pub mcache_inuse: usize,
    /// The same: they are part of the image.
    pub mcache_sys: usize,
    /// For what finds spans and free pages, and for the grey objects.
    pub gc_sys: usize,
    /// For all else: records of threads, page tables, what waits for page faults.
    pub other_sys: usize,
    /// The heap's size at which the next collection runs.
    pub next_gc: usize,
    /// When the last collection ended, in nanoseconds since boot; 0: there was none.
    pub last_gc: u64,
    pub pause_total_ns: u64,
    /// The last 256 collections' pauses, a ring: that of collection n, counted from 0, is at n % 256.
    pub pause_ns: [u64; PAUSES],
    /// When each of them ended, in nanoseconds since boot.
    pub pause_end: [u64; PAUSES],
    pub num_gc: u64,
    /// Of those, asked for by `collect()`.
    pub num_forced_gc: u32,
    /// The share of the time since boot that collections took.
    pub gc_cpu_fraction: f64,
    /// By size class, the first being that of large objects. Go: `BySize`, which leaves those out.
    pub by_size: [BySize; SIZE_CLASSES],
}

/// Who has what the machine has given: a column that can be added up. Sizes in bytes.
impl fmt::Display for MemoryStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, sign, bytes, what) in [
            ("HeapInuse", ' ', self.heap_inuse, "in spans"),
            ("HeapIdle", '+', self.heap_idle, "in no span"),
            ("StackSys", '+', self.stack_sys, "stacks of threads"),
            ("MSpanSys", '+', self.mspan_sys, "records of spans"),
            ("GCSys", '+', self.gc_sys, "what finds spans and free pages; grey objects"),
            ("OtherSys", '+', self.other_sys, "the rest: records of threads, page tables"),
            ("Sys", '=', self.sys, "all of it"),
            ("HeapReleased", '-', self.heap_released, "of HeapIdle: no memory is behind it"),
            ("", '=', self.sys - self.heap_released, "what the machine has given"),
        ] {
            writeln!(f, "{name:<12} {sign} {bytes:>12}  {what}")?;
        }
        Ok(())
    }
}

/// The objects of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BySize {
    /// A slot's; 0: large, each as long as its pages.
    pub size: usize,
    pub mallocs: usize,
    pub frees: usize,
}

/// Reads the figures. Costs about a thousand loads, and a few for each 2 MiB of the heap; takes the collector's lock for a moment.
pub fn memory_stats() -> MemoryStats {
    let held = SafepointsHeld::enter();
    let (totals, (pause_ns, pause_end)) = (gc::totals(), gc::pauses_ns());
    let records = HEAP.records();
    // SAFETY: nobody collects in this section.
    let grey = unsafe { held.grey() }.committed();
    // SAFETY: the only reference in this section.
    let cache = unsafe { held.cache() };
    let tiny_allocs = HEAP.combined() + cache.combined();
    let by_size = core::array::from_fn(|size_class| by_size(size_class, cache));
    let sum = |figure: fn(&BySize) -> usize| by_size.iter().map(figure).sum::<usize>();
    let (mallocs, frees) = (sum(|class| class.mallocs), sum(|class| class.frees));
    let (large_allocated, large_freed) = HEAP.counted_large();
    let total_alloc = sum(|class| class.size * class.mallocs) + large_allocated.0;
    let heap_alloc = total_alloc - sum(|class| class.size * class.frees) - large_freed.0;
    let (heap_sys, heap_released, heap_inuse) = (HEAP.grown().0, HEAP.released().0, HEAP.pages_in_use(cache).bytes().0);
    let (stack_sys, mspan_sys, gc_sys) = (stack::committed().0, records.spans.0, records.finders.0 + grey.0);
    let named = HEAP.with_memory().0 + stack_sys + mspan_sys + gc_sys;
    let other_sys = mapped().0.saturating_sub(named);
    let mcache_sys = platform().cpu_count() * size_of::<Cache>();
    MemoryStats {
        alloc: heap_alloc,
        total_alloc,
        sys: named + heap_released + other_sys,
        mallocs: mallocs + tiny_allocs,
        frees: frees + tiny_allocs,
        tiny_allocs,
        heap_alloc,
        heap_sys,
        heap_idle: heap_sys - heap_inuse,
        heap_inuse,
        heap_released,
        heap_huge: HEAP.on_huge_pages().map(|bytes| bytes.0),
        heap_small: HEAP.on_small_pages().0,
        heap_objects: mallocs - frees,
        heap_marked: totals.live.0,
        stack_inuse: stack_sys,
        stack_sys,
        mspan_inuse: records.spans_in_use.0,
        mspan_sys,
        mcache_inuse: mcache_sys,
        mcache_sys,
        gc_sys,
        other_sys,
        next_gc: gc::goal().0,
        last_gc: gc::last_end_ns(),
        pause_total_ns: totals.pause_ns,
        pause_ns,
        pause_end,
        num_gc: gc::cycles(),
        num_forced_gc: totals.forced,
        gc_cpu_fraction: totals.pause_ns as f64 / platform().now().max(1) as f64,
        by_size,
    }
}

fn by_size(size_class: usize, cache: &Cache) -> BySize {
    let classes = [Kind::Noscan, Kind::Precise, Kind::Ambiguous].map(|kind| SpanClass::of(size_class, kind));
    let counted = classes.map(|class| HEAP.counted(class, cache));
    BySize {
        size: classes[0].slot_bytes(),
        mallocs: counted.iter().map(|counted| counted.allocated).sum(),
        frees: counted.iter().map(|counted| counted.freed).sum(),
    }
}

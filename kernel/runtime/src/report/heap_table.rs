//! The heap class by class, and how often each of its levels was asked. Go: the table at the head of sizeclasses.go,
//! with what is in it now.
//!
//! Unsafe here: the access to this CPU's cache.
#![allow(unsafe_code)]

use crate::cpu::SafepointsHeld;
use crate::gc::HEAP;
use crate::heap::{Cache, Counted, Kind, Level, SIZE_CLASSES, SpanClass};
use alloc::vec::Vec;
use core::fmt;

/// The spans of one size class and kind. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClassFigures {
    /// Go's number; 0: large objects.
    pub size_class: usize,
    /// What the collector assumes of the words of its objects: `noscan`, `precise` or `ambiguous`.
    pub kind: &'static str,
    /// The size of a slot; 0: each object has its own.
    pub slot_bytes: usize,
    pub mallocs: usize,
    pub frees: usize,
    pub objects: usize,
    pub bytes: usize,
    /// Behind the last slots of all its spans. A precise span has its pointer map there.
    pub tail_waste: usize,
    pub spans: usize,
    /// Of those, with free slots, and without.
    pub partial: usize,
    pub full: usize,
    /// The pages of its spans.
    pub in_use: usize,
}

/// How often each level of the heap was asked since the start, from the first to the last. What a level cannot do the next must.
///
/// An object that its owner gave back while its span was this CPU's is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HeapLevels {
    /// Tiny objects that share a slot with one before them: nothing was asked.
    pub tiny: usize,
    /// Objects in slots; for all but one of each refill this CPU's span had one free.
    pub small: usize,
    /// Full spans of this CPU's that were replaced: by one from its class's central list, or by a new one.
    pub refills: usize,
    /// Objects with a span of their own.
    pub large: usize,
    /// Spans taken from a central list.
    pub central: usize,
    /// Spans made of pages that the CPU had ready.
    pub page_cache: usize,
    /// Searches of the radix tree: for pages for a CPU to have ready, ...
    pub page_cache_fills: usize,
    /// ... and for a span's own.
    pub page_heap: usize,
    pub growths: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapTable {
    /// By kind, and within a kind by size.
    pub classes: Vec<ClassFigures>,
    /// The memory that the heap has, in use or free, in bytes; ...
    pub memory: usize,
    /// ... [`heap_huge`](super::MemoryStats::heap_huge) and [`heap_small`](super::MemoryStats::heap_small) of it.
    pub huge: Option<usize>,
    pub small: usize,
    pub levels: HeapLevels,
}

/// Counts what is in every span. Costs about as many steps as there are spans, and a few for each 2 MiB; nobody else runs meanwhile.
pub fn heap_table() -> HeapTable {
    let all = || KINDS.into_iter().flat_map(|kind| (0..SIZE_CLASSES).map(move |size| SpanClass::of(size, kind)));
    let mut classes: Vec<_> = all().map(ClassFigures::of).collect();
    let held = SafepointsHeld::enter();
    held.on_system_stack(|| {
        for span in HEAP.spans() {
            let class = &mut classes[span.kind() as usize * SIZE_CLASSES + span.class().size_class()];
            let (free, slot_bytes, pages) = (span.free_slots(), span.slot_bytes().0, span.pages().bytes().0);
            class.spans += 1;
            *if free > 0 { &mut class.partial } else { &mut class.full } += 1;
            class.objects += span.slots() as usize - free;
            class.bytes += (span.slots() as usize - free) * slot_bytes;
            class.tail_waste += pages - span.slots() as usize * slot_bytes;
            class.in_use += pages;
        }
    });
    // SAFETY: nobody else uses the cache in this section.
    let cache = unsafe { held.cache() };
    for (class, figures) in all().zip(&mut classes) {
        Counted { allocated: figures.mallocs, freed: figures.frees } = HEAP.counted(class, cache);
    }
    let (huge, small) = (HEAP.on_huge_pages().map(|bytes| bytes.0), HEAP.on_small_pages().0);
    HeapTable { classes, memory: HEAP.with_memory().0, huge, small, levels: levels(cache) }
}

/// As they are numbered.
const KINDS: [Kind; 3] = [Kind::Noscan, Kind::Precise, Kind::Ambiguous];

impl ClassFigures {
    /// Of a class without a span.
    fn of(class: SpanClass) -> ClassFigures {
        let (size_class, kind, slot_bytes) = (class.size_class(), class.kind().name(), class.slot_bytes());
        ClassFigures { size_class, kind, slot_bytes, ..ClassFigures::default() }
    }
}

/// How often each level was asked, in a few hundred loads.
pub fn heap_levels() -> HeapLevels {
    let held = SafepointsHeld::enter();
    // SAFETY: nobody else uses the cache in this section.
    levels(unsafe { held.cache() })
}

fn levels(cache: &Cache) -> HeapLevels {
    let [mut small, mut large] = [0; 2];
    for class in (0..SpanClass::COUNT as u8).map(SpanClass::from_index) {
        *if class.is_large() { &mut large } else { &mut small } += HEAP.counted(class, cache).allocated;
    }
    let [central, page_cache, page_cache_fills, page_heap] =
        [Level::Central, Level::Supply, Level::Fill, Level::PageHeap].map(|level| HEAP.passed(level, cache));
    // Whoever got a span was a refill or a large object.
    let refills = central + page_cache + page_heap - large;
    HeapLevels {
        tiny: HEAP.combined() + cache.combined(),
        small,
        refills,
        large,
        central,
        page_cache,
        page_cache_fills,
        page_heap,
        growths: HEAP.growths(),
    }
}

impl HeapLevels {
    /// Objects for which this CPU's span had a free slot, at least: those that were given back at once are not known.
    pub fn fast(&self) -> usize {
        self.small.saturating_sub(self.refills)
    }

    /// What was asked since an earlier time.
    pub fn since(&self, earlier: &HeapLevels) -> HeapLevels {
        HeapLevels {
            tiny: self.tiny - earlier.tiny,
            small: self.small - earlier.small,
            refills: self.refills - earlier.refills,
            large: self.large - earlier.large,
            central: self.central - earlier.central,
            page_cache: self.page_cache - earlier.page_cache,
            page_cache_fills: self.page_cache_fills - earlier.page_cache_fills,
            page_heap: self.page_heap - earlier.page_heap,
            growths: self.growths - earlier.growths,
        }
    }
}

impl HeapTable {
    pub fn objects(&self) -> usize {
        self.sum(|class| class.objects)
    }

    pub fn bytes(&self) -> usize {
        self.sum(|class| class.bytes)
    }

    pub fn in_use(&self) -> usize {
        self.sum(|class| class.in_use)
    }

    fn sum(&self, figure: fn(&ClassFigures) -> usize) -> usize {
        self.classes.iter().map(figure).sum()
    }
}

/// The classes that have spans, their sum, the pages, and the levels.
impl fmt::Display for HeapTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "class kind       slot    objects       bytes tail waste   spans partial    full")?;
        let mut line = |name: &dyn fmt::Display, slot: usize, figure: &dyn Fn(fn(&ClassFigures) -> usize) -> usize| {
            let objects = [figure(|class| class.objects), figure(|class| class.bytes)];
            let spans = [figure(|class| class.spans), figure(|class| class.partial), figure(|class| class.full)];
            let waste = figure(|class| class.tail_waste);
            write!(f, "{name:<15} {slot:>5} {:>10} {:>11} {waste:>10}", objects[0], objects[1])?;
            writeln!(f, " {:>7} {:>7} {:>7}", spans[0], spans[1], spans[2])
        };
        for class in self.classes.iter().filter(|class| class.spans > 0) {
            line(&alloc::format!("{:>5} {}", class.size_class, class.kind), class.slot_bytes, &|figure| figure(class))?;
        }
        line(&"  all", 0, &|figure| self.sum(figure))?;
        let (bytes, in_use) = (self.bytes(), self.in_use());
        let thousandths = (in_use - bytes) * 1000 / in_use.max(1);
        let (percent, tenth) = (thousandths / 10, thousandths % 10);
        writeln!(f, "fragmentation {percent}.{tenth} %: {bytes} of {in_use} bytes in spans are objects")?;
        write!(f, "memory: {} bytes, {} on pages of 4 KiB for what is ambiguous", self.memory, self.small)?;
        if let Some(huge) = self.huge {
            write!(f, ", {huge} on pages of 2 MiB")?;
        }
        let levels = &self.levels;
        writeln!(
            f,
            "\nasked: tiny block {}, fast path at least {}, refill {}, large {}, central {}, page cache {} (filled {}), page heap {}, growth {}",
            levels.tiny,
            levels.fast(),
            levels.refills,
            levels.large,
            levels.central,
            levels.page_cache,
            levels.page_cache_fills,
            levels.page_heap,
            levels.growths
        )
    }
}

//! The ways to corrupt a heap, by name: which fields are written over, and with what.
//!
//! Unsafe here: writing over the heap's own fields.
#![allow(unsafe_code)]

use super::Lab;
use crate::addr::PAGE;
use crate::heap::pages::Mapping;
use crate::heap::pretend::Random;
use crate::heap::span::State;
use crate::heap::{Cache, Span};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A place of 1, 2, 4 or 8 bytes, and what is to be there.
pub(super) struct Write {
    pub(super) at: *mut u8,
    pub(super) bytes: usize,
    pub(super) value: u64,
}

pub(super) fn write<T>(at: *const T, change: impl FnOnce(u64) -> u64) -> Write {
    let (at, bytes) = (at.cast_mut().cast::<u8>(), size_of::<T>());
    Write { at, bytes, value: change(read(at, bytes)) }
}

pub(super) fn read(at: *const u8, bytes: usize) -> u64 {
    let mut value = [0; 8];
    // SAFETY: a field of the heap's, of so many bytes; nobody else runs.
    unsafe { core::ptr::copy_nonoverlapping(at, value.as_mut_ptr(), bytes) };
    u64::from_le_bytes(value)
}

pub(super) fn store(at: *mut u8, bytes: usize, value: u64) {
    // SAFETY: as in `read`; all these fields are atomics or written only under a lock that is free.
    unsafe { core::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), at, bytes) };
}

/// The ways to corrupt any span, by its fields.
pub(super) fn of_span(span: &'static Span, lab: &Lab, random: &mut Random) -> Vec<(&'static str, Vec<Write>)> {
    let fields = span.fields();
    let slot = random.below(span.slots() as usize) / 64;
    let (first, last) = (&span.bits[slot], &span.bits[span.words().len() - 1]);
    let beyond = span.beyond(span.words().len() - 1);
    let window = span.window.load(Relaxed);
    let in_window = !window & if span.words().len() > 1 { u64::MAX } else { !span.beyond(0) };
    let itself = core::ptr::from_ref(span).addr() as u64;
    let outside = first.allocated.as_ptr();
    // A word that the window does not show.
    let outside = if span.window_start.load(Relaxed) as usize / 64 == slot && span.words().len() > 1 {
        span.bits[(slot + 1) % span.words().len()].allocated.as_ptr()
    } else {
        outside
    };
    let bit = 1 << random.below(if span.slots() < 64 { span.slots() as usize } else { 32 });
    let mut ways = vec![
        ("base a page on", vec![write(fields.base, |base| base + PAGE.0 as u64)]),
        ("base a page back", vec![write(fields.base, |base| base - PAGE.0 as u64)]),
        ("base within a page", vec![write(fields.base, |base| base + 8)]),
        ("base with a high bit flipped", vec![write(fields.base, |base| base ^ 1 << 40)]),
        ("base with any bit flipped", vec![write(fields.base, |base| base ^ 1 << random.below(64))]),
        ("base 0", vec![write(fields.base, |_| 0)]),
        ("base of another span", vec![write(fields.base, |_| lab.other_than(span).base().0 as u64)]),
        ("a page more", vec![write(fields.pages, |pages| pages + 1)]),
        ("a page less", vec![write(fields.pages, |pages| pages - 1)]),
        ("pages without end", vec![write(fields.pages, |_| u32::MAX.into())]),
        ("no slots", vec![write(fields.slots, |_| 0)]),
        ("a slot more", vec![write(fields.slots, |slots| slots + 1)]),
        ("a slot less", vec![write(fields.slots, |slots| slots - 1)]),
        ("slots without end", vec![write(fields.slots, |_| u32::MAX.into())]),
        ("larger slots", vec![write(fields.slot_bytes, |bytes| bytes + 8)]),
        ("smaller slots", vec![write(fields.slot_bytes, |bytes| bytes - 8)]),
        ("slots of no size", vec![write(fields.slot_bytes, |_| 0)]),
        (
            "reciprocal with any bit flipped",
            vec![write(fields.reciprocal, |reciprocal| reciprocal ^ 1 << random.below(32))],
        ),
        ("no class", vec![write(fields.class, |_| 255)]),
        ("a neighbouring class", vec![write(fields.class, |class| class + 1)]),
        ("another kind's class", vec![write(fields.class, |class| (class + 68) % 204)]),
        ("a third kind's class", vec![write(fields.class, |class| (class + 136) % 204)]),
        ("no state", vec![write(fields.state, |_| 7)]),
        ("state free", vec![write(fields.state, |_| State::Free as u64)]),
        ("another state", vec![write(fields.state, |state| state % 3 + 1)]),
        ("the state after", vec![write(fields.state, |state| (state + 1) % 3 + 1)]),
        ("unsure without references", vec![write(fields.is_sure, |_| 0)]),
        ("free slots known to be zero", vec![write(fields.needs_zero, |_| 0)]),
        ("a slot more freed by hand", vec![write(fields.freed, |freed| freed + 1)]),
        (
            "a window beyond its slots",
            vec![
                write(span.window.as_ptr(), |window| window | 1 << 63),
                write(span.window_start.as_ptr(), |_| (span.words().len() as u64 - 1) * 64),
            ],
        ),
        ("a window that begins within a word", vec![write(span.window_start.as_ptr(), |start| start % 1024 + 1)]),
        ("a window that begins beyond the slots", vec![write(span.window_start.as_ptr(), |_| 1 << 20)]),
        ("the generation before", vec![write(fields.generation, |generation| generation.wrapping_sub(1))]),
        ("the generation after", vec![write(fields.generation, |generation| generation + 1)]),
        ("an object marked or not", vec![write(first.marked.as_ptr(), |marked| marked ^ bit)]),
        ("a mark beyond the slots", vec![write(last.marked.as_ptr(), |_| beyond | bit)]),
        ("a free slot beyond the slots", vec![write(last.allocated.as_ptr(), |bits| bits & !(1 << 63))]),
        ("a slot taken or given back", vec![write(outside, |bits| bits ^ bit)]),
        (
            "a slot given back in the window",
            vec![write(span.window.as_ptr(), |window| window | 1 << in_window.trailing_zeros().min(62))],
        ),
        ("next leads to itself", vec![write(span.next.as_ptr(), |_| itself)]),
        ("next leads nowhere", vec![write(span.next.as_ptr(), |_| random.word() | 1)]),
    ];
    if span.class().is_large() {
        ways.push(("previous leads elsewhere", vec![write(span.bits[2].allocated.as_ptr(), |_| random.word() | 1)]));
        let [large, bare] = [State::Large, State::Bare].map(|state| state as u64);
        ways.push(("bare or not", vec![write(fields.state, |state| large + bare - state)]));
    }
    if window == 0 {
        ways.push(("a window of no cache", vec![write(span.window.as_ptr(), |_| bit)]));
        ways.push(("a window that begins", vec![write(span.window_start.as_ptr(), |_| 0)]));
    }
    ways
}

impl Lab {
    fn other_than(&self, span: &'static Span) -> &'static Span {
        if core::ptr::eq(span, self.large) { self.full } else { self.large }
    }
}

/// The ways to corrupt what is not a span: tables, lists, counts.
pub(super) fn of_heap(lab: &mut Lab, random: &mut Random) -> Vec<(&'static str, Vec<Write>)> {
    let Lab { heap, cached, partial, full, kept, large, unused, .. } = *lab;
    let mut page_heap = heap.page_heap.lock();
    let arenas = &raw mut page_heap.arenas;
    // SAFETY: a field of the heap, which lives for ever; only its own fields' addresses are taken.
    let (owners, end) = unsafe { (*arenas).places() };
    // The first chunk is of small pages, with the ambiguous spans; the second is of huge ones, with all others.
    let (hint, chunks) = page_heap.pages.places(Mapping::Small);
    let (huge_hint, _) = page_heap.pages.places(Mapping::Huge);
    let (summaries, leaves) = page_heap.pages.summary_places(Mapping::Small);
    let (huge_summaries, huge_leaves) = page_heap.pages.summary_places(Mapping::Huge);
    // SAFETY: the eighth leaf of at least eight.
    let beyond = unsafe { summaries[4].add(7) };
    let (pool_free, pool_frees, pool_length) = page_heap.spans.places();
    let first = page_heap.arenas.page_number(full.base());
    let of = |span: &'static Span| page_heap.arenas.page_number(span.base()) as u64;
    let owner = |page: u64| page_heap.arenas.owner_place(page as usize);
    let free_page = (0..512).find(|&page| !page_heap.pages.is_used(page)).expect("most are free") as u64;
    let record = |span: &'static Span| core::ptr::from_ref(span).addr() as u64;
    let flip = |page: u64| write(page_heap.pages.places_of(page as usize).0, |bits| bits ^ 1 << (page % 64));
    let released = |page: u64| page_heap.pages.places_of(page as usize).1;
    let mapping = |page: u64| page_heap.pages.places_of(page as usize).2;
    let class = full.class();
    let [partial_head, full_head] = heap.central(class).heads(heap.generation());
    let cache = lab.cache.entry(class);
    let map = heap.map.places();
    let (supply_first, supply_free, supply_released) = lab.cache.supplies[0].cached_pages().places();
    let (other_first, other_free, _) = lab.other.supplies[0].cached_pages().places();
    let supplied = lab.cache.supplies[0].cached_pages().pages().next().expect("some are left") as u64;
    let (records, record_count) = lab.cache.supplies[0].places();
    let tiny = lab.cache.tiny.place();
    let live: *const AtomicUsize = &raw const heap.live;
    let [allocated, freed] = heap.counts.places(class);
    let (_, kept_list) = lab.cache.full_spans().nth(kept.class().index() as usize).expect("one for each class");
    let kept_head = kept_list.head();
    let (ledger_live, ledger_owned, ledger_allocated) = lab.cache.ledger.places(class);
    vec![
        ("a used page free", vec![flip(first as u64)]),
        ("a large object's last page free", vec![flip(of(large) + large.pages().0 as u64 - 1)]),
        ("a free page used", vec![flip(free_page)]),
        ("a used page free and a free one used", vec![flip(of(large)), flip(free_page)]),
        ("a root of other pages", vec![write(summaries[0], |root| root ^ 1 << random.below(64))]),
        ("a summary below the root", vec![write(summaries[1], |summary| summary ^ 1 << random.below(64))]),
        ("a summary in the middle", vec![write(summaries[2], |summary| summary ^ 1 << random.below(64))]),
        ("a summary of eight leaves", vec![write(summaries[3], |summary| summary ^ 1 << random.below(64))]),
        ("a leaf", vec![write(summaries[4], |leaf| leaf ^ 1 << random.below(64))]),
        ("a leaf of a chunk that is not there", vec![write(beyond, |_| 1 << random.below(64))]),
        ("leaves less", vec![write(leaves, |length| length - 1)]),
        ("leaves without end", vec![write(leaves, |_| 1 << 50)]),
        ("a leaf of a chunk that is mapped otherwise", vec![write(huge_summaries[4], |_| 1 << random.below(64))]),
        ("leaves of one mapping less", vec![write(huge_leaves, |length| length - 1)]),
        ("a chunk of small pages mapped otherwise", vec![write(mapping(0), |_| Mapping::Huge as u64)]),
        ("a chunk of huge pages mapped otherwise", vec![write(mapping(supplied), |_| Mapping::Small as u64)]),
        ("the hint above a free huge page", vec![write(huge_hint, |_| 1 << 40)]),
        ("the hint above a free page", vec![write(hint, |_| free_page + 1)]),
        ("the hint beyond all", vec![write(hint, |_| 1 << 40)]),
        ("the hint too low", vec![write(huge_hint, |hint| hint - 1)]),
        ("a supply's page free", vec![flip(supplied)]),
        ("a supply's page with an owner", vec![write(owner(supplied), |_| record(full))]),
        ("a page less in a supply", vec![write(supply_free, |free| free & (free - 1))]),
        ("a page more in a supply", vec![write(supply_free, |free| free | (free + 1))]),
        ("a page of a supply without memory", vec![write(supply_released, |_| 1 << (supplied % 64))]),
        (
            "a page that is in no supply without memory",
            vec![write(supply_released, |_| read(supply_free.cast(), 8) + 1)],
        ),
        ("a used page without memory", vec![write(released(first as u64), |bits| bits ^ 1 << (first % 64))]),
        ("a free page without memory", vec![write(released(free_page), |bits| bits ^ 1 << (free_page % 64))]),
        ("a page more with memory", vec![write(map[4], |pages| pages + 1)]),
        ("a supply elsewhere", vec![write(supply_first, |first| first + 64)]),
        ("a supply within a word", vec![write(supply_first, |first| first + 1)]),
        ("a supply of no pages that are there", vec![write(supply_first, |_| !63)]),
        (
            "a page in two supplies",
            vec![write(other_first, |_| read(supply_first.cast(), 8)), write(other_free, |_| 1 << (supplied % 64))],
        ),
        ("a supply without records", vec![write(records, |_| 0)]),
        ("a supply with a record less", vec![write(record_count, |count| count - 1)]),
        ("a supply with a record more", vec![write(record_count, |count| count + 1)]),
        ("a supply with a span for a record", vec![write(records, |_| record(cached))]),
        ("a supply with a record of the pool's", vec![write(records, |_| record(unused))]),
        ("a supply with records from nowhere", vec![write(records, |_| random.word() | 1)]),
        ("tiny objects in another class's slot", vec![write(tiny, |_| full.base().0 as u64 + 8)]),
        ("tiny objects in a free slot", vec![write(tiny, |next| next + 160)]),
        ("tiny objects in a free page", vec![write(tiny, |_| page_heap.arenas.page(free_page as usize).0 as u64 + 8)]),
        ("tiny objects outside the heap", vec![write(tiny, |_| random.word() | 8)]),
        ("a chunk less", vec![write(chunks, |length| length - 1)]),
        ("a chunk more", vec![write(chunks, |length| length + 1)]),
        ("chunks without end", vec![write(chunks, |_| 1 << 50)]),
        ("a page more in use", vec![write(map[3], |pages| pages + 1)]),
        ("a page less in use", vec![write(map[3], |pages| pages - 1)]),
        ("more live", vec![write(live, |live| live + 48)]),
        ("less live", vec![write(live, |live| live - 8)]),
        ("live with any bit flipped", vec![write(live, |live| live ^ 1 << random.below(64))]),
        ("a page more to sweep", vec![write(heap.sweep.unswept.as_ptr(), |pages| pages + 1)]),
        ("a generation later", vec![write(heap.sweep.generation.as_ptr(), |generation| generation + 1)]),
        ("an object allocated more", vec![write(allocated, |count| count + 1)]),
        ("an object freed less", vec![write(freed, |count| count.wrapping_sub(1))]),
        ("the trigger", vec![write(&raw const heap.trigger, |trigger| trigger ^ 1 << 20)]),
        ("a page without owner", vec![write(owner(of(partial)), |_| 0)]),
        ("a page of another's", vec![write(owner(of(partial)), |_| record(large))]),
        ("a page of an unused record's", vec![write(owner(of(cached)), |_| record(unused))]),
        ("a page of nobody's", vec![write(owner(of(large) + 1), |_| random.word())]),
        ("a free page with an owner", vec![write(owner(free_page), |_| record(full))]),
        (
            "two pages' owners swapped",
            vec![write(owner(of(full)), |_| record(partial)), write(owner(of(partial)), |_| record(full))],
        ),
        ("owners less", vec![write(owners, |length| length - 1)]),
        ("owners without end", vec![write(owners, |_| 1 << 50)]),
        ("memory that ends too late", vec![write(end, |end| end + PAGE.0 as u64)]),
        ("memory that ends too early", vec![write(end, |end| end - (4 << 20))]),
        ("a map that begins elsewhere", vec![write(map[0], |start| start + PAGE.0 as u64)]),
        ("a longer map", vec![write(map[1], |length| length + PAGE.0 as u64)]),
        ("a shorter map", vec![write(map[1], |length| length - PAGE.0 as u64)]),
        ("an endless map", vec![write(map[1], |_| u64::MAX)]),
        ("a map of other owners", vec![write(map[2], |owners| owners + 8)]),
        ("a map without owners", vec![write(map[2], |_| 0)]),
        ("no unused records", vec![write(pool_frees, |_| 0)]),
        ("an unused record less", vec![write(pool_frees, |count| count - 1)]),
        ("unused records without end", vec![write(pool_frees, |_| 1 << 50)]),
        ("an unused record from nowhere", vec![write(pool_free, |_| 1 << 20)]),
        ("a used record among the unused", vec![write(pool_free, |free| free ^ 1)]),
        (
            "an unused record twice",
            vec![write(pool_free.wrapping_add(1), |_| read(pool_free.cast(), 4)), write(pool_frees, |count| count + 1)],
        ),
        ("a record less", vec![write(pool_length, |length| length - 1)]),
        ("a list without its spans", vec![write(full_head, |_| 0)]),
        ("a list of partial spans that is full", vec![write(partial_head, |_| record(full))]),
        ("a list of full spans that is not", vec![write(full_head, |_| record(partial))]),
        ("a list with a cached span", vec![write(partial_head, |_| record(cached))]),
        ("a list with a large span", vec![write(full_head, |_| record(large))]),
        ("a list with an unused record", vec![write(full_head, |_| record(unused))]),
        ("a CPU without its full spans", vec![write(kept_head, |_| 0)]),
        ("a CPU's full spans with a cached one", vec![write(kept_head, |_| record(cached))]),
        ("a CPU's full spans of another class", vec![write(kept_head, |_| record(full))]),
        ("a CPU's full spans in a ring", vec![write(kept.next.as_ptr(), |_| record(kept))]),
        ("a CPU's full spans from nowhere", vec![write(kept_head, |_| random.word() | 1)]),
        ("a ledger with more live", vec![write(ledger_live, |live| live.wrapping_add(48))]),
        ("a ledger with a page less", vec![write(ledger_owned, |pages| pages.wrapping_sub(1))]),
        ("a ledger with an object more", vec![write(ledger_allocated, |count| count.wrapping_add(1))]),
        ("a cache without its span", vec![write(cache, |_| record(Cache::new().current(class)))]),
        ("a cache with a span of a list", vec![write(cache, |_| record(partial))]),
        ("a cache with an unused record", vec![write(cache, |_| record(unused))]),
        ("a cache with another class's span", vec![write(lab.cache.entry(large.class()), |_| record(cached))]),
    ]
}

/// The ways to corrupt what a sweep under way says of itself.
pub(super) fn of_sweep(lab: &Lab) -> Vec<(&'static str, Vec<Write>)> {
    let Lab { heap, full, .. } = *lab;
    let [partial_head, full_head] = heap.central(full.class()).heads(full.generation());
    let swept_heads = heap.central(full.class()).heads(heap.generation());
    let head = |at: *const usize| read(at.cast(), 8);
    vec![
        ("a page less to sweep", vec![write(heap.sweep.unswept.as_ptr(), |pages| pages - 1)]),
        ("nothing to sweep", vec![write(heap.sweep.unswept.as_ptr(), |_| 0)]),
        ("a class passed over", vec![write(heap.sweep.next_class.as_ptr(), |_| 3 * 68)]),
        ("a cycle missed", vec![write(heap.sweep.generation.as_ptr(), |generation| generation + 1)]),
        ("an unswept list without its spans", vec![write(full_head, |_| 0)]),
        ("an unswept list among the swept", vec![write(swept_heads[1], |_| head(full_head)), write(full_head, |_| 0)]),
        ("an unswept list in both", vec![write(swept_heads[0], |_| head(partial_head))]),
    ]
}

/// Where the fields are that are private to their files.
pub(in crate::heap) struct Fields {
    pub(in crate::heap) base: *const usize,
    pub(in crate::heap) pages: *const u32,
    pub(in crate::heap) slots: *const u32,
    pub(in crate::heap) slot_bytes: *const usize,
    pub(in crate::heap) reciprocal: *const u32,
    pub(in crate::heap) class: *const u8,
    pub(in crate::heap) state: *const u8,
    pub(in crate::heap) is_sure: *const u8,
    pub(in crate::heap) needs_zero: *const u8,
    pub(in crate::heap) freed: *const u16,
    pub(in crate::heap) generation: *const u8,
}

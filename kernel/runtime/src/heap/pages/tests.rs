//! The page allocator against a list of free runs, on invented address maps.

use super::cache::Taken;
use super::*;
use crate::addr::{GIB, MIB};
use crate::heap::pretend::{Pretend, Random};
use std::collections::{BTreeMap, BTreeSet};

const HUGE: Mapping = Mapping::Huge;
const SMALL: Mapping = Mapping::Small;
const TIB_CHUNKS: usize = 1024 * GIB / (4 * MIB);

/// An allocator of so many chunks' addresses, and none of them there.
fn empty(chunks: usize) -> (PageAllocator, &'static Pretend) {
    let platform = Pretend::new();
    let mut pages = PageAllocator::new();
    assert!(pages.reserve(platform, chunks));
    (pages, platform)
}

fn add(pages: &mut PageAllocator, platform: &Pretend, mapping: Mapping, first: usize, chunks: usize) {
    pages.make_room(platform, first + chunks).expect("memory");
    pages.add(mapping, first, chunks);
}

fn assert_sound(pages: &mut PageAllocator) {
    pages.summarize();
    assert!(pages.check_tables() && pages.check_hints());
}

/// Each chunk's mapping; of each mapping the free runs by their first page, each with its end, no two of which touch;
/// the pages without memory.
#[derive(Default)]
struct Naive {
    chunks: BTreeMap<usize, Mapping>,
    free: [BTreeMap<usize, usize>; 2],
    released: BTreeSet<usize>,
}

impl Naive {
    fn add(&mut self, mapping: Mapping, first: usize, chunks: usize) {
        (first..first + chunks).for_each(|chunk| assert_eq!(self.chunks.insert(chunk, mapping), None));
        self.give_back(first * CHUNK_PAGES, chunks * CHUNK_PAGES);
    }

    /// The lowest fit, found by trying every run.
    fn first_fit(&self, mapping: Mapping, pages: usize, align: usize) -> Option<usize> {
        self.free[mapping as usize]
            .iter()
            .map(|(first, end)| (first.next_multiple_of(align), end))
            .find(|(at, end)| at + pages <= **end)
            .map(|(at, _)| at)
    }

    fn free_with(&mut self, page: usize) -> &mut BTreeMap<usize, usize> {
        &mut self.free[self.chunks[&(page / CHUNK_PAGES)] as usize]
    }

    fn take(&mut self, first: usize, pages: usize) {
        let free = self.free_with(first);
        let (&run, &end) = free.range(..=first).next_back().expect("a free run");
        assert!(first + pages <= end, "the pages are free");
        free.remove(&run);
        if run < first {
            free.insert(run, first);
        }
        if first + pages < end {
            free.insert(first + pages, end);
        }
    }

    fn give_back(&mut self, first: usize, pages: usize) {
        let free = self.free_with(first);
        let (mut first, mut end) = (first, first + pages);
        if let Some((&before, &its_end)) = free.range(..first).next_back() {
            assert!(its_end <= first, "the pages were taken");
            if its_end == first {
                first = before;
            }
        }
        if let Some(after) = free.remove(&end) {
            end = after;
        }
        free.insert(first, end);
    }

    fn free(&self) -> usize {
        self.free.iter().flatten().map(|(first, end)| end - first).sum()
    }

    /// Takes the memory of the highest run in a chunk below `end` that is free and has some.
    fn release(&mut self, end: usize) -> Option<Run> {
        let Naive { free, released, .. } = self;
        let highest = |free: &BTreeMap<usize, usize>| {
            let mut pages = free.range(..end).rev().flat_map(|(&first, &its_end)| (first..its_end.min(end)).rev());
            let last = pages.find(|page| !released.contains(page))?;
            let (run, chunk) = (free.range(..=last).next_back().map_or(0, |(&run, _)| run), last - last % CHUNK_PAGES);
            let first = (run.max(chunk)..last).rev().take_while(|page| !released.contains(page)).last().unwrap_or(last);
            Some((first, last))
        };
        let (first, last) = free.iter().filter_map(highest).max()?;
        released.extend(first..=last);
        let pages = last + 1 - first;
        Some(Run { first, pages, with_memory: pages, mapping: self.chunks[&(first / CHUNK_PAGES)] })
    }

    /// Takes the memory of the highest 2 MiB below `end` that are free and have some.
    fn release_huge(&mut self, end: usize) -> Option<Run> {
        let Naive { free, released, .. } = self;
        let without = |first: usize| released.range(first..first + HUGE_PAGES).count();
        let highest = |free: &BTreeMap<usize, usize>| {
            let mut places = free.iter().rev().flat_map(|(&first, &its_end)| {
                (first.div_ceil(HUGE_PAGES)..its_end.min(end) / HUGE_PAGES).rev().map(|place| place * HUGE_PAGES)
            });
            places.find(|first| without(*first) < HUGE_PAGES)
        };
        let first = free.iter().filter_map(highest).max()?;
        let with_memory = HUGE_PAGES - without(first);
        released.extend(first..first + HUGE_PAGES);
        Some(Run { first, pages: HUGE_PAGES, with_memory, mapping: self.chunks[&(first / CHUNK_PAGES)] })
    }

    /// Which of these have no memory; from now on they do.
    fn commit_again(&mut self, pages: core::ops::Range<usize>) -> Vec<usize> {
        let again: Vec<usize> = self.released.range(pages).copied().collect();
        again.iter().for_each(|page| _ = self.released.remove(page));
        again
    }

    fn is_free(&self, page: usize) -> bool {
        self.free.iter().any(|free| free.range(..=page).next_back().is_some_and(|(_, &end)| page < end))
    }

    /// The huge page with this one, if all that is taken of it is among `taken`: its first, and how many have memory.
    fn whole_huge(&self, page: usize, taken: core::ops::Range<usize>) -> Option<(usize, usize)> {
        let first = page - page % HUGE_PAGES;
        let mut pages = first..first + HUGE_PAGES;
        let released = self.released.range(pages.clone()).count();
        (released > 0 && pages.all(|page| self.is_free(page) || taken.contains(&page)))
            .then_some((first, HUGE_PAGES - released))
    }
}

/// Chunks with gaps: neighbours, and such as no summary below the root has in common.
const MAPS: [&[(usize, usize)]; 5] = [
    &[(0, 3)],
    &[(0, 1), (2, 1), (4, 2), (7, 2), (15, 3)],
    &[(5, 1), (63, 2), (511, 3), (700, 1)],
    &[(0, 1), (4090, 9)],
    &[(4095, 2), (5000, 1)],
];

#[test]
fn any_trace_takes_the_runs_that_trying_every_run_would_take() {
    let mut random = Random::new();
    // A million; LONG=1 makes it ten times as many.
    let steps = if cfg!(miri) { 100 } else { 200_000 } * if std::env::var_os("LONG").is_some() { 10 } else { 1 };
    for map in MAPS {
        if cfg!(miri) && map[map.len() - 1].0 > 64 {
            continue;
        }
        let (mut pages, platform) = empty(1 << 14);
        let mut naive = Naive::default();
        // In any order: gaps are filled later. Some neighbours are mapped alike.
        let mut order: Vec<usize> = map.iter().flat_map(|&(first, chunks)| first..first + chunks).collect();
        random.shuffle(&mut order);
        for chunk in order {
            let mapping = [HUGE, HUGE, SMALL][random.below(3)];
            add(&mut pages, platform, mapping, chunk, 1);
            naive.add(mapping, chunk, 1);
        }
        let mut taken = Vec::new();
        let mut caches: Vec<PageCache> = Vec::new();
        for step in 0..steps {
            // The heap fills for a while, then it empties.
            let filling = step / 3000 % 2 == 0;
            let mapping = [HUGE, SMALL][random.below(2)];
            match random.below(16) {
                0 => match pages.take_cache(mapping) {
                    Some(cache) => {
                        let lowest = naive.first_fit(mapping, 1, 1).expect("a page is free");
                        assert_eq!(cache.first, lowest - lowest % 64);
                        let block = cache.first..cache.first + 64;
                        assert!(block.clone().filter(|&page| naive.is_free(page)).eq(cache.pages()));
                        assert_eq!(
                            cache.released(),
                            cache.pages().filter(|page| naive.released.contains(page)).count()
                        );
                        cache.pages().for_each(|page| naive.take(page, 1));
                        caches.push(cache);
                    }
                    None => assert!(naive.free[mapping as usize].is_empty()),
                },
                1..4 if !caches.is_empty() => {
                    let at = random.below(caches.len());
                    let size = [1, 1, 2, 3, 5, 16][random.below(6)];
                    if random.below(3) == 0 {
                        let mut cache = caches.swap_remove(at);
                        cache.pages().for_each(|page| naive.give_back(page, 1));
                        pages.give_back_cache(&mut cache);
                        assert!(cache.is_empty());
                    } else if let Some(Taken { first, released, block, .. }) = caches[at].take(size) {
                        let again = naive.commit_again(first..first + size);
                        assert!((0..64).filter(|bit| released >> bit & 1 != 0).map(|bit| block + bit).eq(again));
                        taken.push((first, size));
                    }
                }
                4 if step % 50 == 0 => {
                    let end = random.below(pages.end() + 1);
                    let (found, expected) = match random.below(2) {
                        0 => (pages.take_releasable(end), naive.release(end)),
                        _ => (pages.take_releasable_huge(end), naive.release_huge(end)),
                    };
                    assert_eq!(found, expected);
                    found.into_iter().for_each(|run| pages.give_back_released(run));
                }
                4.. if taken.is_empty() || random.below(5) < if filling { 3 } else { 2 } => {
                    let size = [1, 1, 1, 2, 10, 64, 100, 513, 700, 1 + random.below(2000)][random.below(10)];
                    let align = [1, 1, 1, 1, 1, 2, 16, 512, 1024][random.below(9)];
                    let found = naive.first_fit(mapping, size, align);
                    assert_eq!(pages.take(mapping, size, align), found, "{size} pages at {align}");
                    if let Some(first) = found {
                        naive.take(first, size);
                        let own = first..first + size;
                        if let Some((at, _)) = pages.next_released(own.clone()) {
                            assert_eq!(pages.whole_huge(at, own.clone()), naive.whole_huge(at, own.clone()));
                        }
                        // Now and then there is not enough memory for all.
                        let end = if random.below(8) == 0 { first + random.below(size) } else { own.end };
                        let (released, mut again) = (pages.released_in(first..end), Vec::new());
                        while let Some((at, run)) = pages.next_released(first..end) {
                            pages.set_released(at, run, false);
                            again.extend(at..at + run);
                        }
                        assert_eq!(released, again.len());
                        assert_eq!(again, naive.commit_again(first..end));
                        taken.push((first, size));
                    }
                }
                _ if !taken.is_empty() => {
                    for _ in 0..taken.len().min(if step % 200 == 0 { 30 } else { 1 }) {
                        let (first, size) = taken.swap_remove(random.below(taken.len()));
                        pages.give_back(first, size);
                        naive.give_back(first, size);
                    }
                }
                _ => {}
            }
            if step % 5000 == 0 {
                assert_sound(&mut pages);
                assert_eq!(pages.end() - pages.used(), naive.free());
                for mapping in [HUGE, SMALL] {
                    let own = |page: usize| naive.chunks[&(page / CHUNK_PAGES)] == mapping;
                    let cached = caches.iter().filter(|cache| own(cache.first)).map(PageCache::released).sum::<usize>();
                    let chunks = (0..pages.end() / CHUNK_PAGES).map(|chunk| naive.chunks.get(&chunk).unwrap_or(&HUGE));
                    let there = chunks.filter(|its| **its == mapping).count() * CHUNK_PAGES;
                    let released = naive.released.iter().filter(|page| own(**page)).count();
                    assert_eq!(pages.with_memory(mapping) - cached, there - released);
                }
            }
            let page = random.below(pages.end());
            assert_eq!(pages.is_used(page), !naive.is_free(page));
        }
        caches.iter_mut().for_each(|cache| pages.give_back_cache(cache));
        taken.iter().for_each(|&(first, size)| pages.give_back(first, size));
        assert_sound(&mut pages);
        let there: usize = map.iter().map(|(_, chunks)| chunks * CHUNK_PAGES).sum();
        assert_eq!(pages.end() - pages.used(), there, "no page is lost");
    }
}

#[test]
fn what_is_missing_is_exactly_enough() {
    let mut random = Random::new();
    let (mut pages, platform) = empty(4096);
    let mut naive = Naive::default();
    for _ in 0..if cfg!(miri) { 5 } else { 400 } {
        let (size, align) = (1 + random.below(2000), [1, 1, 2, 512, 1024][random.below(5)]);
        let mapping = [HUGE, SMALL][random.below(2)];
        let found = naive.first_fit(mapping, size, align);
        if found.is_none() {
            let mut grow = |pages: &mut PageAllocator, chunks| {
                let end = pages.end() / CHUNK_PAGES;
                add(pages, platform, mapping, end, chunks);
                naive.add(mapping, end, chunks);
            };
            let missing = pages.missing_chunks(mapping, size, align);
            if missing > 1 {
                grow(&mut pages, missing - 1);
            }
            assert_eq!(pages.take(mapping, size, align), None, "{missing} chunks more are needed");
            grow(&mut pages, 1);
        }
        let found = naive.first_fit(mapping, size, align).expect("there are enough");
        assert_eq!(pages.take(mapping, size, align), Some(found));
        naive.take(found, size);
        if random.below(2) == 0 {
            pages.give_back(found, size);
            naive.give_back(found, size);
        }
    }
    assert_sound(&mut pages);
}

#[test]
fn runs_span_chunks_families_and_roots() {
    // 80 GiB: five roots and more.
    let chunks = if cfg!(miri) { 100 } else { 5 * 4096 };
    let (mut pages, platform) = empty(TIB_CHUNKS);
    add(&mut pages, platform, HUGE, 0, chunks);
    assert_eq!(pages.take(HUGE, 100, 1), Some(0));
    assert_eq!(pages.take(HUGE, chunks * CHUNK_PAGES, 1), None);
    assert_eq!(pages.take(HUGE, chunks * CHUNK_PAGES - 100, 1), Some(100), "more than one root has");
    assert_eq!((pages.take(HUGE, 1, 1), pages.take_cache(HUGE).is_none()), (None, true));
    for edge in [1, 8, 64, 512, 4096] {
        let edge = edge * CHUNK_PAGES;
        if edge < chunks * CHUNK_PAGES {
            pages.give_back(edge - 7, 20);
            assert_eq!((pages.take(HUGE, 21, 1), pages.take(HUGE, 20, 1)), (None, Some(edge - 7)));
        }
    }
    pages.give_back(100, 1000);
    assert_eq!(pages.take(HUGE, 1, 1), Some(100));
    assert_sound(&mut pages);
}

#[test]
fn pages_on_both_sides_of_a_gap_are_no_run() {
    let (mut pages, platform) = empty(64);
    add(&mut pages, platform, HUGE, 3, 1);
    add(&mut pages, platform, HUGE, 5, 1);
    assert_eq!(pages.take(HUGE, 513, 1), None);
    assert_eq!(pages.take(HUGE, 512, 1), Some(3 * CHUNK_PAGES));
    add(&mut pages, platform, HUGE, 4, 1);
    assert_eq!(pages.take(HUGE, 1024, 1), Some(4 * CHUNK_PAGES));
    assert_sound(&mut pages);
}

#[test]
fn pages_on_both_sides_of_a_chunk_that_is_mapped_otherwise_are_no_run() {
    let (mut pages, platform) = empty(64);
    for (chunk, mapping) in [HUGE, SMALL, HUGE, HUGE, SMALL].into_iter().enumerate() {
        add(&mut pages, platform, mapping, chunk, 1);
    }
    assert_eq!((pages.take(HUGE, 1025, 1), pages.take(SMALL, 513, 1)), (None, None));
    assert_eq!((pages.missing_chunks(HUGE, 513, 1), pages.missing_chunks(SMALL, 513, 1)), (2, 1));
    assert_eq!(pages.take(HUGE, 1024, 1), Some(2 * CHUNK_PAGES));
    assert_eq!((pages.take(SMALL, 512, 1), pages.take(SMALL, 512, 1)), (Some(CHUNK_PAGES), Some(4 * CHUNK_PAGES)));
    assert_eq!((pages.take(SMALL, 1, 1), pages.lowest_free(HUGE)), (None, Some(0)));
    assert_sound(&mut pages);
    // Where they go back to is known of the pages.
    pages.give_back(CHUNK_PAGES, 1);
    pages.give_back(2 * CHUNK_PAGES, 1);
    assert_eq!([HUGE, SMALL].map(|mapping| pages.lowest_free(mapping)), [Some(0), Some(CHUNK_PAGES)]);
    let cache = pages.take_cache(SMALL).expect("a page is free");
    assert_eq!((cache.first, cache.count(), pages.take_cache(SMALL).is_none()), (CHUNK_PAGES, 1, true));
    assert_sound(&mut pages);
}

#[test]
fn a_heap_without_chunks_has_no_pages() {
    let (mut pages, _) = empty(64);
    assert_eq!(
        (pages.take(HUGE, 1, 1), pages.missing_chunks(HUGE, 1, 1), pages.missing_chunks(HUGE, 513, 1)),
        (None, 1, 2)
    );
    assert!(pages.take_cache(HUGE).is_none());
}

#[test]
#[cfg_attr(miri, ignore = "it takes hours")]
fn records_take_a_frame_each_at_first_and_then_39_kib_a_gib() {
    let (mut pages, platform) = empty(TIB_CHUNKS);
    add(&mut pages, platform, HUGE, 0, 1);
    assert_eq!(platform.committed(), 11 * 4096);
    add(&mut pages, platform, HUGE, 1, 64 * 256 - 1);
    let each = platform.committed() / 64;
    assert!((38 << 10..39 << 10).contains(&each), "{each} bytes a GiB");
}

#[test]
fn without_frames_for_the_records_nothing_has_changed() {
    for failing in 0..11 {
        let (mut pages, platform) = empty(TIB_CHUNKS);
        platform.fail_after(failing);
        assert!(pages.make_room(platform, 1).is_err());
        platform.fail_no_more();
        assert_eq!((pages.end(), pages.take(HUGE, 1, 1)), (0, None));
        add(&mut pages, platform, HUGE, 0, 1);
        assert_eq!(pages.take(HUGE, 1, 1), Some(0));
    }
}

/// `cargo test --release -p runtime --lib heap::pages::tests::prices -- --ignored --nocapture`; under `valgrind --tool=callgrind` the two
/// functions below have their instructions counted.
#[test]
#[ignore = "it measures"]
fn prices() {
    for (state, fill) in [("in order", None), ("in pieces", Some(Random::new()))] {
        // 4 GiB.
        let chunks = 1024;
        let (mut pages, platform) = empty(TIB_CHUNKS);
        add(&mut pages, platform, HUGE, 0, chunks);
        if let Some(mut random) = fill {
            // The first half has no two free pages together, the third quarter none at all.
            pages.take(HUGE, chunks * CHUNK_PAGES, 1);
            (0..chunks / 2 * CHUNK_PAGES).step_by(3).for_each(|page| pages.give_back(page + random.below(2), 1));
            pages.give_back(chunks / 4 * 3 * CHUNK_PAGES, chunks / 4 * CHUNK_PAGES);
        }
        for size in [1, 16, 512] {
            const AT_ONCE: usize = 64;
            // The best of the rounds: the host is busy with other things, too.
            let best = (0..1000).fold([u128::MAX; 2], |best, _| {
                let start = std::time::Instant::now();
                let taken: [usize; AT_ONCE] = core::array::from_fn(|_| take(&mut pages, size));
                let take_ns = start.elapsed().as_nanos();
                let between = std::time::Instant::now();
                taken.iter().for_each(|&first| give_back(&mut pages, first, size));
                [best[0].min(take_ns), best[1].min(between.elapsed().as_nanos())]
            });
            let [take_ns, give_back_ns] = best.map(|ns| ns / AT_ONCE as u128);
            println!("{state}, {size} pages: take {take_ns} ns, give back {give_back_ns} ns");
        }
    }
}

#[inline(never)]
fn take(pages: &mut PageAllocator, size: usize) -> usize {
    pages.take(HUGE, size, 1).expect("there are enough")
}

#[inline(never)]
fn give_back(pages: &mut PageAllocator, first: usize, size: usize) {
    pages.give_back(first, size);
}

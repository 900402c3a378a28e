//! The frame allocator against a set of page numbers.

use super::super::map::{Kind, RawRegion};
use super::super::random::{Random, seeds};
use super::*;
use std::collections::BTreeSet;
use std::{boxed::Box, panic, string::String, vec, vec::Vec};

/// Frames over RAM of these pages, all added.
pub(super) fn frames_over(runs: &[(u64, u64)]) -> Frames<'static> {
    let raw =
        |&(first, end): &(u64, u64)| RawRegion { start: first * FRAME_4K, end: end * FRAME_4K, kind: Kind::Usable };
    let map = MemoryMap::new(runs.iter().map(raw)).expect("a sane map");
    let extents = Extents::of(&map);
    let mut frames = Frames::new(Box::leak(vec![Block::NONE; extents.blocks()].into_boxed_slice()), extents);
    for region in map.regions().iter().rev() {
        frames.add_region(region.start, region.end);
    }
    frames
}

fn message(action: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(action).expect_err("a panic");
    payload.downcast_ref::<String>().expect("a formatted message").clone()
}

#[test]
fn every_frame_is_handed_out_once_whatever_is_done() {
    // A ragged start, a hole inside a block, a run far away.
    let runs = [(300, 5000), (5010, 9000), (10 << 20, (10 << 20) + 1100)];
    for seed in seeds(4) {
        let mut random = Random(seed);
        let mut frames = frames_over(&runs);
        let all: BTreeSet<u64> = runs.iter().flat_map(|&(first, end)| first..end).collect();
        let blocks: BTreeSet<u64> = all.iter().map(|page| page / 512).collect();
        let mut free = all.clone();
        let (mut small, mut large): (Vec<Frame4K>, Vec<Frame2M>) = (vec![], vec![]);
        let whole = |free: &BTreeSet<u64>, block: u64| free.range(block * 512..(block + 1) * 512).count() == 512;
        for step in 0..24_000 {
            // Long phases of mostly taking and mostly giving back, so that both ends are reached.
            let taking = random.below(10) < if step / 6000 % 2 == 0 { 8 } else { 2 };
            match (taking, random.below(20)) {
                (true, 0) => match frames.alloc_2m() {
                    Some(frame) => {
                        let page = frame.address().0 / FRAME_4K;
                        assert!((page..page + 512).all(|page| free.remove(&page)), "seed {seed}: {frame:?} was free");
                        large.push(frame);
                    }
                    None => {
                        let block = blocks.iter().find(|&&block| whole(&free, block));
                        assert_eq!(block, None, "seed {seed}: a whole block is found");
                    }
                },
                (true, _) => match frames.alloc_4k() {
                    Some(frame) => {
                        assert!(free.remove(&(frame.address().0 / FRAME_4K)), "seed {seed}: {frame:?} was free");
                        small.push(frame);
                    }
                    None => assert!(free.is_empty(), "seed {seed}"),
                },
                (false, 0) if !large.is_empty() => {
                    let frame = large.swap_remove(random.below(large.len() as u64) as usize);
                    let page = frame.address().0 / FRAME_4K;
                    free.extend(page..page + 512);
                    match random.below(2) {
                        0 => frames.free_2m(frame),
                        _ => (page..page + 512)
                            .for_each(|page| frames.free_4k(Frame4K::at(PhysicalAddress(page * FRAME_4K)))),
                    }
                }
                (false, _) if !small.is_empty() => {
                    let frame = small.swap_remove(random.below(small.len() as u64) as usize);
                    free.insert(frame.address().0 / FRAME_4K);
                    frames.free_4k(frame);
                }
                _ => {}
            }
            assert_eq!(frames.free_bytes().0, free.len() * 4096, "seed {seed}");
        }
        small.drain(..).for_each(|frame| frames.free_4k(frame));
        large.drain(..).for_each(|frame| frames.free_2m(frame));
        let whole_blocks = blocks.iter().filter(|&&block| whole(&all, block)).count();
        assert_eq!(
            core::iter::from_fn(|| frames.alloc_2m()).count(),
            whole_blocks,
            "seed {seed}: all blocks are whole again"
        );
    }
}

#[test]
fn the_lowest_memory_goes_first() {
    let mut frames = frames_over(&[(512, 4096), (1 << 20, (1 << 20) + 4096)]);
    assert_eq!(frames.alloc_4k().map(|frame| frame.address().0), Some(2 << 20));
    assert_eq!(frames.alloc_2m().map(|frame| frame.address().0), Some(4 << 20));
}

#[test]
fn a_frame_that_comes_back_wrongly_is_named() {
    let at = |page: u64| Frame4K::at(PhysicalAddress(page * FRAME_4K));
    let fresh = || frames_over(&[(512, 4090)]);
    assert!(message(move || fresh().free_4k(at(600))).contains("found physical 0x258000 free already"));
    assert!(message(move || fresh().free_4k(at(4092))).contains("found physical 0xffc000, which is not"));
    assert!(message(move || fresh().free_4k(at(1 << 30))).contains("outside the memory map"));
    let fresh = || frames_over(&[(512, 4090)]);
    let two = |mega: u64| Frame2M::at(PhysicalAddress(mega << 20));
    assert!(message(move || fresh().free_2m(two(2))).contains("found 2048 KiB of physical 0x200000 free"));
    assert!(message(move || fresh().free_2m(two(14))).contains("not all ours"));
    let twice = move || fresh().add_region(PhysicalAddress(2 << 20), PhysicalAddress(3 << 20));
    assert!(message(twice).contains("partly added already"));
    assert!(message(|| _ = Frame4K::at(PhysicalAddress(5))).contains("multiple of 4 KiB"));
}

#[test]
fn records_are_kept_for_runs_not_for_the_holes_between() {
    let tib = 1 << 28; // pages
    let frames = frames_over(&[(256, 8192), (tib, tib + 8192), (8 * tib, 8 * tib + 8192)]);
    assert_eq!(frames.extents.blocks(), 3 * 16);
    let gap_of_1_gib = frames_over(&[(256, 8192), (1 << 18, (1 << 18) + 512)]);
    assert_eq!(gap_of_1_gib.extents.blocks(), 513);
}

//! The heap lies on pages of 2 MiB, as far as whole ones are taken.

use alloc::vec::Vec;
use core::hint::black_box;
use runtime::addr::MIB;
use runtime::prelude::*;
use runtime::{kernel_test, report};

const COUNT: usize = 64;

fn huge() -> usize {
    memory_stats().heap_huge.unwrap_or(0)
}

/// A MiB of memory that has been touched.
fn piece() -> Vec<u8> {
    black_box(alloc::vec![1; MIB])
}

/// Halves of huge pages are released, taken again, and given back whole.
fn make_split_and_join() {
    free_os_memory();
    let before = huge();
    let pieces: Vec<Vec<u8>> = (0..COUNT).map(|_| piece()).collect();
    let made = huge();
    if cfg!(hosted) && made == before {
        return report!("this Linux has no huge pages, or does not tell");
    }
    // The first and the last may have a neighbour.
    assert!(made - before >= (COUNT - 4) * MIB, "{before}, then {made}");
    let kept: Vec<Vec<u8>> = pieces.into_iter().step_by(2).collect();
    free_os_memory();
    let split = huge();
    assert!(split <= made - (COUNT - 4) * MIB, "{made}, then {split}");
    assert!(kept.iter().flatten().all(|&byte| byte == 1), "what was not released is as it was");
    drop(kept);
    let pieces: Vec<Vec<u8>> = (0..COUNT).map(|_| piece()).collect();
    let joined = huge();
    assert!(joined - split >= (COUNT - 4) * MIB, "{split}, then {joined}");
    report!(
        "MiB on huge pages: {} at first, {} with 64 pieces, {} with every other, {} with 64 again",
        before / MIB,
        made / MIB,
        split / MIB,
        joined / MIB
    );
    drop(pieces);
    free_os_memory();
}

#[kernel_test(unstressed)]
fn the_heap_lies_on_huge_pages_that_are_split_and_joined() {
    make_split_and_join();
}

#[kernel_test(mem = "512M")]
fn half_a_gib_has_huge_pages_too() {
    make_split_and_join();
}

#[kernel_test(mem = "4G")]
fn nearly_all_of_two_gib_lies_on_huge_pages() {
    const BYTES: usize = 2 << 30;
    let before = huge();
    let long = black_box(Vec::<u8>::with_capacity(BYTES));
    report!("{} MiB on huge pages of {} MiB", (huge() - before) / MIB, BYTES / MIB);
    // Linux takes none before they are touched.
    assert!(cfg!(hosted) || huge() - before >= BYTES - 4 * MIB);
    drop(long);
}

//! The walk over all frames, each of which has one owner.

use crate::canary::Canary;
use crate::machine::permissions::{fresh_page, leaf_entry};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::hint::black_box;
use machine::memory;
use runtime::addr::Address;
use runtime::inspect::check_heap;
use runtime::prelude::*;
use runtime::{kernel_test, report};

fn check_frames() -> Result<memory::owners::Owned, impl core::fmt::Display> {
    // SAFETY: the walk only reads.
    unsafe { runtime::inspect::standing_still(memory::check_frames) }
}

#[kernel_test]
fn the_walk_finds_a_frame_without_owner_and_one_with_two() {
    let pages = [fresh_page(), fresh_page()];
    assert!(check_frames().is_ok());
    let entries = pages.map(leaf_entry);
    // SAFETY: the last entries of pages that only this test knows, and nobody touches; they are put back.
    let walk = |[first, second]: [u64; 2]| unsafe {
        let before = entries.map(|entry| entry.read_volatile());
        entries[0].write_volatile(first);
        entries[1].write_volatile(second);
        let walk = check_frames();
        entries[0].write_volatile(before[0]);
        entries[1].write_volatile(before[1]);
        walk.err().map(|broken| broken.to_string()).unwrap_or_default()
    };
    // SAFETY: as above.
    let [first, second] = entries.map(|entry| unsafe { entry.read_volatile() });
    let text = memory::physical_address(Address(check_frames as *const () as usize)).expect("text is mapped").0;
    assert!(walk([first, 0]).contains("every frame has an owner"));
    assert!(walk([first, first]).contains("a frame has one owner"));
    assert!(walk([first, text & !0xfff | second & 0xfff]).contains("only frames of ours are used"));
    assert_eq!(walk([second, first]), "", "which has which is all the same");
}

#[kernel_test(unstressed)]
fn the_walks_take_milliseconds() {
    let keep: Vec<Gc<Canary>> = (0..20_000).map(|_| Canary::hatch()).collect();
    let start = runtime::now();
    assert!(check_heap().is_ok());
    let middle = runtime::now();
    let Ok(owned) = check_frames() else { panic!("the frames are sound") };
    let end = runtime::now();
    black_box(&keep);
    report!(
        "walks: heap {} us; {} frames, {} tables {} us",
        (middle - start) / 1000,
        owned.frames,
        owned.tables,
        (end - middle) / 1000
    );
    assert!(owned.frames > 60_000, "256 MiB");
}

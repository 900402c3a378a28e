//! Linux allows a process so many mappings. At the limit whoever asks for one more is refused, and nobody else loses anything.

use crate::canary::Canary;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};
use runtime::addr::{Address, Bytes, GIB, KIB, Range};
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::testing::platform;

/// Commits every other page of a range, each of which is a mapping of its own, until Linux refuses; whether it did.
fn take_all_mappings(all: Range) -> bool {
    let pages = (all.start.0..all.end.0).step_by(8 * KIB);
    let mut pages = pages.map(|page| Range::new(Address(page), Bytes(4 * KIB)));
    pages.any(|page| platform().commit(page).is_err())
}

#[inline(never)]
fn use_stack(bytes: usize) -> bool {
    let mut frame = [bytes; 32];
    black_box(&mut frame);
    let rest = bytes < 512 || use_stack(bytes - size_of_val(&frame));
    rest && black_box(&frame).iter().all(|word| *word == bytes)
}

#[kernel_test(status = 0, mem = "16G", says = "hosted: Linux refuses memory|vm.max_map_count")]
fn at_the_limit_on_mappings_a_new_stack_is_refused_and_nothing_is_lost() {
    let object = Canary::hatch();
    static IS_REACHED: AtomicBool = AtomicBool::new(false);
    let older = go(|| {
        while !IS_REACHED.load(Ordering::Relaxed) {
            yield_now();
        }
        use_stack(1000 * KIB)
    });
    yield_now();
    let all = platform().reserve(Bytes(16 * GIB), 4 * KIB).expect("the address plan has room");
    if !take_all_mappings(all) {
        return runtime::report!("not \"hosted: Linux refuses memory\": vm.max_map_count is over two million here");
    }
    assert!(Builder::new().spawn(|| ()).is_err(), "a new stack needs a mapping");
    IS_REACHED.store(true, Ordering::Relaxed);
    assert_eq!(older.join(), Ok(true), "an older one grows: what it has becomes longer");
    let large = alloc::vec![1u8; 8 << 20];
    collect();
    assert!(object.is_intact() && black_box(large).iter().all(|byte| *byte == 1), "so does the heap");
    platform().decommit(all);
    assert_eq!(go(|| use_stack(100 * KIB)).join(), Ok(true));
}

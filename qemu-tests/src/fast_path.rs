//! What an allocation costs that finds a free slot: counted by single steps, exactly.

use alloc::boxed::Box;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use runtime::addr::Range;
use runtime::kernel_test;
use runtime::platform::Registers;
use runtime::prelude::*;
use runtime::testing::{self, Hook};

static STEPS: AtomicUsize = AtomicUsize::new(0);

fn count(_: &Registers, _: Range) {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// The fewest instructions of some calls: now and then an allocation moves the window, takes another span, or is interrupted.
fn fewest_instructions(f: fn()) -> usize {
    let of_a_call = |_| {
        let before = STEPS.load(Ordering::Relaxed);
        testing::each_instruction(&(count as Hook), f);
        STEPS.load(Ordering::Relaxed) - before
    };
    (0..20).map(of_a_call).min().expect("there were calls")
}

/// Instructions of one more block of the global allocator, taken, written and freed. The types are too large for a tiny slot.
fn instructions_of_a_block() -> usize {
    fn one() {
        drop(black_box(Box::new([1u64; 5])));
    }
    fn two() {
        one();
        one();
    }
    fewest_instructions(two) - fewest_instructions(one)
}

/// Instructions of one more `Gc::new`, the writing of the object and of its handle included.
macro_rules! instructions {
    ($type:ty, $value:expr) => {{
        #[used]
        static SINKS: [GcCell<Option<Gc<$type>>>; 2] = [GcCell::null(), GcCell::null()];
        fn one() {
            SINKS[0].set(Some(Gc::new($value)));
        }
        fn two() {
            SINKS[0].set(Some(Gc::new($value)));
            SINKS[1].set(Some(Gc::new($value)));
        }
        fewest_instructions(two) - fewest_instructions(one)
    }};
}

#[kernel_test(unstressed)]
fn a_new_object_takes_twenty_instructions_from_the_cpus_cache() {
    let noscan = instructions!([u64; 2], [0; 2]);
    assert!((10..=20).contains(&noscan), "{noscan} instructions for 16 bytes without references");
    let tiny = instructions!(u8, 0);
    assert!((8..=18).contains(&tiny), "{tiny} instructions for a byte");
}

#[kernel_test(unstressed)]
fn a_block_of_the_global_allocator_takes_so_many_instructions_from_the_cpus_cache_and_back() {
    let block = instructions_of_a_block();
    // The class of either is looked up, 48 bytes are zeroed, 40 written.
    assert!((80..=124).contains(&block), "{block} instructions for 40 bytes");
}

//! Objects whose life and death a test can see, and how not to keep them alive by looking.
//!
//! The collector believes any word on a stack or in a register. So a test makes its object in a function of its own, carries its
//! address about inverted, and overwrites the dead part of its stack before it collects.

use core::hint::black_box;
use runtime::prelude::*;

const PATTERN: u64 = 0x5ca1_ab1e_0000_0000;

/// An object without references, whose words say whether they are still its own.
#[derive(Trace)]
pub(crate) struct Canary {
    words: [u64; 6],
}

impl Canary {
    pub(crate) fn hatch() -> Gc<Canary> {
        Gc::new(Canary { words: core::array::from_fn(|index| PATTERN + index as u64) })
    }

    pub(crate) fn is_intact(&self) -> bool {
        self.words.iter().zip(PATTERN..).all(|(word, expected)| *word == expected)
    }

    /// One of its words: a pointer into its middle.
    pub(crate) fn middle(&self) -> &u64 {
        &self.words[3]
    }

    pub(crate) const MIDDLE: u64 = PATTERN + 3;
}

/// The address of an object, in a form that nobody takes for one.
#[derive(Clone, Copy)]
pub(crate) struct Hidden(usize);

impl Hidden {
    pub(crate) fn of<T: ?Sized>(object: Gc<T>) -> Hidden {
        Hidden(!Gc::as_ptr(object).addr())
    }

    pub(crate) fn from_inverted(bits: usize) -> Hidden {
        Hidden(bits)
    }

    pub(crate) fn inverted(self) -> usize {
        self.0
    }

    /// Whether its slot still belongs to an object. Not inlined: the address goes no further than this frame.
    #[inline(never)]
    pub(crate) fn is_allocated(self) -> bool {
        runtime::inspect::is_allocated(!self.0)
    }
}

/// Makes an object and hands it to `keep`, all on frames that are gone when this returns.
#[inline(never)]
pub(crate) fn hatch_into(keep: impl FnOnce(Gc<Canary>)) -> Hidden {
    let object = Canary::hatch();
    keep(object);
    Hidden::of(object)
}

/// Collects with nothing left over in the part of the stack that the collection's own frames will cover.
#[inline(never)]
pub(crate) fn collect_cleanly() {
    overwrite_dead_frames();
    collect();
}

#[inline(never)]
pub(crate) fn overwrite_dead_frames() {
    let mut zeros = [0usize; 2048];
    black_box(&mut zeros);
}

//! Junk in freed memory (`GODEBUG=clobberfree=1`): who reads an object after its end reads words that are no address and no likely number.
//! Go: `clobberfree` in mbitmap.go.
//!
//! Unsafe here: filling memory that nobody owns any more.
#![allow(unsafe_code)]

use super::span::State;
use super::{Heap, Span};
use crate::addr::Bytes;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

/// What Go writes. Twice in a word: no canonical address.
pub(crate) const JUNK: u64 = 0xdead_beef_dead_beef;

/// Fills a dead object, to the end of its last word.
///
/// # Safety
/// The object's words are the caller's alone to write.
#[cold]
#[inline(never)]
pub(crate) unsafe fn clobber(object: NonNull<u8>, bytes: Bytes) {
    for word in 0..bytes.0.div_ceil(8) {
        // SAFETY: the caller's promise; volatile, for nobody is meant to read it.
        unsafe { object.cast::<u64>().add(word).write_volatile(JUNK) };
    }
}

impl Heap {
    pub(crate) fn set_clobbers(&self, on: bool) {
        self.clobbers.store(on, Relaxed);
    }

    /// Whether freed memory is filled with junk.
    #[inline(always)]
    pub(crate) fn clobbers(&self) -> bool {
        self.clobbers.load(Relaxed)
    }
}

impl Span {
    /// Fills what the sweep is about to free, unless nobody has ever had it: it is [bare](State::Bare).
    pub(super) fn clobber_unmarked(&'static self) {
        if self.state() == State::Bare {
            return;
        }
        for object in self.allocated().filter(|object| !object.is_marked()) {
            let base = core::ptr::with_exposed_provenance_mut::<u8>(object.base.0);
            if let Some(base) = NonNull::new(base) {
                // SAFETY: the slot's object was found dead, and the sweep has not given the slot to anybody yet.
                unsafe { clobber(base, object.contents()) };
            }
        }
    }
}

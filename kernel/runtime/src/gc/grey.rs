//! The grey objects: marked, their references not yet looked at. Go: mgcwork.go.
//!
//! A stack in a reserved range, committed as it deepens, of objects with the words to look at; and the references in flight (ahead.rs).
//! Marking must never need memory that is not there: when the range cannot be committed further, objects are *dropped*. A dropped object
//! is marked already, so the marker finds it again by walking the marked objects (mark.rs).
//!
//! Unsafe here: the stack's memory.
#![allow(unsafe_code)]

use super::ahead::Ahead;
use crate::addr::{Address, Bytes, KIB, MIB, Range};
use crate::heap::prefetch;
use crate::platform::Platform;

/// Deep enough for six million objects; more are dropped and found again.
const RESERVED: Bytes = Bytes(96 * MIB);
const STEP: Bytes = Bytes(256 * KIB);
/// What stays committed between two collections.
const KEPT: Bytes = Bytes(64 * KIB);

/// The words of a marked object that are still to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Grey {
    pub(super) start: Address,
    /// Bit n: word n from the start may hold a reference. 0: what the object's pattern says, up to its end.
    pub(super) mask: u64,
}

/// The entry so far below the top will come up soon.
const SOON: Bytes = Bytes(4 * size_of::<Grey>());

pub(crate) struct GreyWork {
    range: Range,
    committed_end: Address,
    /// Where the next one goes.
    top: Address,
    pub(super) ahead: Ahead,
    /// The slots of all that was white in this cycle and is not any more.
    pub(super) marked: Bytes,
    has_dropped: bool,
}

impl GreyWork {
    pub(crate) const fn new() -> GreyWork {
        GreyWork {
            range: Range::EMPTY,
            committed_end: Address(0),
            top: Address(0),
            has_dropped: false,
            ahead: Ahead::new(),
            marked: Bytes(0),
        }
    }

    /// Reserves the stack's addresses. Without memory for its first pages it starts empty, and everything is dropped and found again.
    pub(crate) fn set_up(&mut self, platform: &dyn Platform) {
        if let Some(range) = platform.reserve(RESERVED, 4 * KIB) {
            self.range = range;
            (self.committed_end, self.top) = (range.start, range.start);
            self.grow(platform, KEPT);
        }
    }

    /// The memory that it takes.
    pub(crate) fn committed(&self) -> Bytes {
        Range { start: self.range.start, end: self.committed_end }.bytes()
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, platform: &dyn Platform, step: Bytes) -> bool {
        let end = self.committed_end.plus(step).min(self.range.end);
        let fits = end > self.committed_end && platform.commit(Range { start: self.committed_end, end }).is_ok();
        if fits {
            self.committed_end = end;
        }
        fits
    }

    /// `false`: there is no room.
    #[inline(always)]
    pub(super) fn push(&mut self, grey: Grey, platform: &dyn Platform) -> bool {
        if self.top >= self.committed_end && !self.grow(platform, STEP) {
            return false;
        }
        // SAFETY: below the end of the committed part, a multiple of an entry's size, of a range that is this stack's own.
        unsafe { (self.top.0 as *mut Grey).write(grey) };
        self.top.0 = self.top.0.wrapping_add(size_of::<Grey>());
        true
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Grey> {
        if self.top == self.range.start {
            return None;
        }
        let soon = self.top.0.wrapping_sub(SOON.0).max(self.range.start.0);
        self.top.0 = self.top.0.wrapping_sub(size_of::<Grey>());
        // SAFETY: written by the pushes that made the stack this high.
        let (grey, soon) = unsafe { ((self.top.0 as *const Grey).read(), (soon as *const Grey).read()) };
        // Its object has been in a cache once, but that may be long ago.
        prefetch::<0>(soon.start.0);
        Some(grey)
    }

    /// An object had no room.
    #[cold]
    pub(super) fn drop_one(&mut self) {
        self.has_dropped = true;
    }

    /// Whether objects were dropped; forgotten by asking.
    pub(crate) fn take_dropped(&mut self) -> bool {
        core::mem::take(&mut self.has_dropped)
    }

    /// Gives back what a deep marking took.
    pub(crate) fn shrink(&mut self, platform: &dyn Platform) {
        let kept_end = self.range.start.plus(KEPT).min(self.committed_end);
        if kept_end < self.committed_end {
            platform.decommit(Range { start: kept_end, end: self.committed_end });
            self.committed_end = kept_end;
        }
    }
}

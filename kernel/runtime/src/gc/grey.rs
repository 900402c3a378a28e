//! The grey objects: marked, their references not yet looked at. Go: mgcwork.go.
//!
//! A stack of objects in a reserved range, committed as it deepens. Marking must never need memory that is not there: when the
//! range cannot be committed further, objects are *dropped*. A dropped object is marked already, so the marker finds
//! it again by walking the marked objects (mark.rs).
//!
//! Unsafe here: the stack's memory.
#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, KIB, MIB, Range};
use crate::heap::Object;
use crate::platform::Platform;

/// Deep enough for four million objects; more are dropped and found again.
const RESERVED: Bytes = Bytes(96 * MIB);
const STEP: Bytes = Bytes(256 * KIB);
/// What stays committed between two collections.
const KEPT: Bytes = Bytes(64 * KIB);

pub(crate) struct GreyWork {
    range: Range,
    committed_end: Address,
    depth: usize,
    has_dropped: bool,
}

impl GreyWork {
    pub(crate) const fn new() -> GreyWork {
        GreyWork { range: Range::EMPTY, committed_end: Address(0), depth: 0, has_dropped: false }
    }

    /// Reserves the stack's addresses. Without memory for its first pages it starts empty, and everything is dropped and found again.
    pub(crate) fn set_up(&mut self, platform: &dyn Platform) {
        if let Some(range) = platform.reserve(RESERVED, 4 * KIB) {
            self.range = range;
            self.committed_end = range.start;
            self.grow(platform, KEPT);
        }
    }

    /// The memory that it takes.
    pub(crate) fn committed(&self) -> Bytes {
        Range { start: self.range.start, end: self.committed_end }.bytes()
    }

    fn slot(&self, index: usize) -> *mut Object {
        (self.range.start.0 as *mut Object).wrapping_add(index)
    }

    fn grow(&mut self, platform: &dyn Platform, step: Bytes) -> bool {
        let end = self.committed_end.plus(step).min(self.range.end);
        let fits = end > self.committed_end && platform.commit(Range { start: self.committed_end, end }).is_ok();
        if fits {
            self.committed_end = end;
        }
        fits
    }

    #[inline]
    pub(crate) fn push(&mut self, object: Object, platform: &dyn Platform) {
        let slot = self.slot(self.depth);
        if slot.wrapping_add(1).addr() > self.committed_end.0 && !self.grow(platform, STEP) {
            self.has_dropped = true;
            return;
        }
        // SAFETY: within the committed part of the range, which is this stack's own.
        unsafe { slot.write(object) };
        self.depth += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Object> {
        self.depth = self.depth.checked_sub(1)?;
        // SAFETY: written by the push that made the stack this deep.
        Some(unsafe { self.slot(self.depth).read() })
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

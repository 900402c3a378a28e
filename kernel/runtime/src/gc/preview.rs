//! What a collection at this instant would free, without freeing it: overwritten, so that whoever still uses it sees junk.
//! Go: `GODEBUG=clobberfree=1`.
//!
//! For tests that stop a thread after each of its instructions: marking alone leaves caches and lists as they are, so the
//! thread runs on as if nobody had looked. (What was left to sweep is swept: marks are needed.)
//!
//! Unsafe here: writing into garbage.
#![allow(unsafe_code)]

use super::{HEAP, STATE, mark};
use crate::cpu::SafepointsHeld;
use crate::heap::Span;

/// No address, neither of a program nor of the kernel: following it is a general protection fault.
const CLOBBERED: usize = 0xdead_beef_dead_beef;

/// Marks from all roots, overwrites every object that has no mark, forgets the marks. Returns how many there were.
///
/// Not on a thread's stack, in a section: the world is stopped.
pub(crate) fn clobber_unreachable(held: &SafepointsHeld) -> usize {
    let _one_at_a_time = STATE.lock();
    HEAP.sweep_all();
    // SAFETY: nobody else marks: `STATE` is locked.
    mark::mark_all(&HEAP, unsafe { held.grey() }, held.cpu());
    let garbage = HEAP.spans().flat_map(Span::allocated).filter(|object| !object.is_marked());
    let count = garbage
        .map(|object| {
            let words = (object.base.0..object.base.0 + object.contents().0).step_by(size_of::<usize>());
            // SAFETY: a slot's own words; it is allocated, and nobody can reach it, or so the marker says.
            words.for_each(|word| unsafe { (word as *mut usize).write_volatile(CLOBBERED) });
        })
        .count();
    HEAP.clear_marks();
    count
}

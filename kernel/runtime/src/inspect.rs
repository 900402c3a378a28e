//! Looking at the heap from outside, for tests and tools.
//!
//! Unsafe here: the access to this CPU's cache.

#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, Range};
use crate::cpu::SafepointsHeld;
use crate::gc::HEAP;
use crate::heap::ARENA;
use crate::platform::platform;
use crate::stack::GROWTHS;
use core::sync::atomic::Ordering;

pub use crate::collections::random_seed;
pub use crate::start::address_plan;

/// Whether the address lies in an object that is allocated and was not found dead. An address is a number here and keeps nothing alive.
pub fn is_allocated(address: usize) -> bool {
    let _held = SafepointsHeld::enter();
    HEAP.find(address).is_some_and(|object| HEAP.is_alive(object))
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Go's number of its size class; 0: a large object.
    pub size_class: usize,
    /// What the collector assumes of its words: `noscan`, `precise` or `ambiguous`.
    pub kind: &'static str,
    /// The number of its slot in its span, ...
    pub slot: usize,
    /// ... which has so many, ...
    pub slots: usize,
    /// ... each so long.
    pub slot_bytes: Bytes,
    pub span: Range,
    /// Where the span begins: so many arenas and bytes behind the heap's start.
    pub arena: usize,
    pub offset: Bytes,
}

/// Where the allocated object lies into which the address leads. An address is a number here and keeps nothing alive.
pub fn place_of(address: usize) -> Option<Place> {
    let _held = SafepointsHeld::enter();
    let object = HEAP.find(address).filter(|object| HEAP.is_alive(*object))?;
    let (span, class) = (object.span, object.span.class());
    let from_start = span.base().0 - HEAP.reserved().start.0;
    Some(Place {
        size_class: class.size_class(),
        kind: class.kind().name(),
        slot: object.slot as usize,
        slots: span.slots() as usize,
        slot_bytes: span.slot_bytes(),
        span: Range::new(span.base(), span.pages().bytes()),
        arena: from_start / ARENA.0,
        offset: Bytes(from_start % ARENA.0),
    })
}

/// The heap's addresses, now and as it grows: arenas of 64 MiB.
pub fn heap_range() -> Range {
    let _held = SafepointsHeld::enter();
    HEAP.reserved()
}

/// A number of chance, as the seed was one.
pub fn random() -> u64 {
    platform().random()
}

/// Memory that is in nobody's use.
pub fn free_memory() -> Bytes {
    let _held = SafepointsHeld::enter();
    platform().free_memory()
}

/// Checks the whole heap's invariants: every page is in exactly one place, bits, lists and counts agree.
pub fn check_heap() -> Result<(), impl core::fmt::Display> {
    let held = SafepointsHeld::enter();
    held.on_system_stack(|| {
        // SAFETY: nobody else uses the cache in this section.
        HEAP.check_with(&[unsafe { held.cache() }])
    })
}

/// Runs `f` on the CPU's own stack in a no-safepoint section, so that no thread runs and no stack grows meanwhile.
///
/// # Safety
/// `f` neither allocates nor waits, yields or starts threads: a section does not end in the midst of it.
pub unsafe fn standing_still<R>(f: impl FnOnce() -> R) -> R {
    SafepointsHeld::enter().on_system_stack(f)
}

/// How often a stack has grown by a page fault: outside no-safepoint sections, and inside, where it should never have to.
pub fn stack_growths() -> (usize, usize) {
    let [outside, inside] = GROWTHS.each_ref().map(|count| count.load(Ordering::Relaxed));
    (outside, inside)
}

/// Calls `f` inside a no-safepoint section, on the CPU's own stack if it is to be: where a panic is nobody's own.
///
/// # Safety
/// As [`standing_still`].
pub unsafe fn in_section(on_system_stack: bool, f: impl FnOnce()) {
    let held = SafepointsHeld::enter();
    if on_system_stack { held.on_system_stack(f) } else { f() }
}

/// A thread's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackFigures {
    pub top: Address,
    /// The most it may grow to.
    pub limit: Bytes,
    /// How much of it is memory now.
    pub committed: Bytes,
}

/// The calling thread's stack.
pub fn current_stack() -> StackFigures {
    let held = SafepointsHeld::enter();
    let stack = held.cpu().current().expect("a thread asks").stack();
    StackFigures { top: stack.top(), limit: stack.limit(), committed: stack.committed() }
}

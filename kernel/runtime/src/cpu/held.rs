//! A no-safepoint section: how it begins and ends, and what whoever is in one may touch.
//!
//! Unsafe here: the reads through GS.
#![allow(unsafe_code)]

use super::stacks::stack_pointer;
use super::{Cpu, DEPTH, SECTION};
use crate::gc::GreyWork;
use crate::heap::{Cache, Span, SpanClass};
use crate::sched::Thread;
use core::arch::asm;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;

/// Below RSP this much is mapped when a section begins: what a fast path, and the way to the system stack, may use. A whole page would
/// cost every thread its second page at its first section.
pub(crate) const HEADROOM: usize = 1024;

/// A class for [`SafepointsHeld::current_span`].
pub(crate) trait ConstantClass {
    const CLASS: SpanClass;
}

/// Proof that this CPU is inside a no-safepoint section, and the section itself: it ends when this is dropped.
/// Not `Send`: it belongs to the CPU, and a thread does not change CPUs inside.
pub(crate) struct SafepointsHeld(PhantomData<*mut ()>);

impl SafepointsHeld {
    #[inline(always)]
    pub(crate) fn enter() -> SafepointsHeld {
        // SAFETY: reads one byte below RSP, which belongs to this stack (mapped, or grown by the fault), and counts in this
        // CPU's header.
        unsafe {
            asm!("test byte ptr [rsp - {headroom}], 0", "inc qword ptr gs:[{section}]",
                 headroom = const HEADROOM, section = const SECTION, options(nostack));
        }
        SafepointsHeld(PhantomData)
    }

    /// The section that the context already is: a handler, boot, the scheduler's own stack. Dropping it would end a section
    /// that somebody else began, so it must be forgotten.
    ///
    /// # Safety
    /// The section counter is not zero and stays so for the life of the value.
    pub(crate) unsafe fn assume() -> ManuallyDrop<SafepointsHeld> {
        ManuallyDrop::new(SafepointsHeld(PhantomData))
    }

    /// This CPU, for as long as the section is borrowed.
    #[inline(always)]
    pub(crate) fn cpu(&self) -> &Cpu {
        let this: *const Cpu;
        // SAFETY: GS points to this CPU's header since `set_up`; its first word is its own address.
        unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, readonly, preserves_flags)) };
        // SAFETY: headers are statics.
        unsafe { &*this }
    }

    /// The span that this CPU's cache has of a constant class, by one instruction.
    #[inline(always)]
    pub(crate) fn current_span<C: ConstantClass>(&self) -> &'static Span {
        let span: *const Span;
        // SAFETY: reads a word of this CPU's header.
        unsafe {
            asm!("mov {}, gs:[{place}]", out(reg) span, place = const offset_of!(Cpu, cache) + Cache::place_of(C::CLASS),
                 options(nostack, readonly, preserves_flags));
        }
        // SAFETY: a cache has a span of every class, and spans' records live for ever.
        unsafe { &*span }
    }

    /// This CPU's cache.
    ///
    /// # Safety
    /// One reference at a time: the caller does not call this again while it uses the first.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the section excludes every other user on this CPU")]
    pub(crate) unsafe fn cache(&self) -> &mut Cache {
        // SAFETY: the section keeps handlers and other threads off; the caller keeps itself off.
        unsafe { &mut *self.cpu().cache.get() }
    }

    /// This CPU's grey objects; for the collector.
    ///
    /// # Safety
    /// As [`SafepointsHeld::cache`].
    #[expect(clippy::mut_from_ref, reason = "the section excludes every other user on this CPU")]
    pub(crate) unsafe fn grey(&self) -> &mut GreyWork {
        // SAFETY: as for the cache.
        unsafe { &mut *self.cpu().grey.get() }
    }
}

impl Drop for SafepointsHeld {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: ends the section that `enter` began on this CPU. The cold call happens with the counter at zero.
        unsafe {
            asm!("dec qword ptr gs:[{section}]", "jz 2f", "cmp dword ptr gs:[{depth}], 0", "je {act}", "2:",
                 section = const SECTION, depth = const DEPTH, act = label { act_on_notes() }, options(nostack));
        }
    }
}

/// The section of a thread that allocates or frees: always the outermost. A handler that allocates, or the runtime inside a section of its
/// own, would collect in the midst of what the section protects.
pub(crate) struct Allocating(ManuallyDrop<SafepointsHeld>);

impl Allocating {
    /// Where no section is open, a store begins one. Counting up would have to wait for the counting down of the
    /// allocation before it, which through GS no processor forwards quickly: ten cycles each way, more than all the
    /// rest of an allocation.
    ///
    /// Between the look and the store the thread may be stopped, or lose its processor to others. When it goes on, the word is zero again:
    /// a handler that finds no section acts and notes nothing, and what was noted in others' sections was done at the end of theirs.
    #[inline(always)]
    pub(crate) fn enter() -> Allocating {
        // SAFETY: as for any section.
        unsafe {
            asm!("test byte ptr [rsp - {headroom}], 0", "cmp qword ptr gs:[{section}], 0", "jne {inside}", "mov qword ptr gs:[{section}], 1",
                 headroom = const HEADROOM, section = const SECTION, inside = label { allocation_in_section() }, options(nostack));
        }
        Allocating(ManuallyDrop::new(SafepointsHeld(PhantomData)))
    }
}

impl Deref for Allocating {
    type Target = SafepointsHeld;

    #[inline(always)]
    fn deref(&self) -> &SafepointsHeld {
        &self.0
    }
}

impl Drop for Allocating {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: as for any section.
        unsafe {
            asm!("dec qword ptr gs:[{section}]", "jnz {act}", section = const SECTION, act = label { end_allocating() }, options(nostack));
        }
    }
}

/// The section has just ended, and was not the outermost or something was noted.
#[cold]
#[inline(never)]
fn end_allocating() {
    let held = SafepointsHeld::enter();
    if !held.cpu().section.is_outermost() {
        allocation_in_section();
    }
    drop(held);
}

#[cold]
#[inline(never)]
fn allocation_in_section() -> ! {
    crate::throw!("expected nobody to allocate or free inside a no-safepoint section or a handler")
}

/// Does what handlers noted during the section that has just ended.
#[cold]
#[inline(never)]
fn act_on_notes() {
    let held = SafepointsHeld::enter();
    if held.cpu().section.take_empty_cache() {
        // SAFETY: nobody else uses the cache in this section.
        held.on_system_stack(|| unsafe { held.cache() }.flush(&crate::gc::HEAP));
    }
    if held.cpu().take_note() {
        crate::tick::tick_in_thread(&held);
    }
}

/// The thread whose own code this is: on its own stack, outside any section, interrupts on. Uses next to no stack.
///
/// Each word is read by one instruction, and on whatever CPU that is: it says the same of the thread that reads it.
#[inline(always)]
pub(crate) fn thread_outside_sections() -> Option<&'static Thread> {
    // In a process it is always set; valgrind does not show it.
    const INTERRUPTS_ON: usize = if cfg!(target_os = "none") { 1 << 9 } else { 0 };
    let (depth, thread, flags): (u32, *const Thread, usize);
    // SAFETY: reads this CPU's header and the flags. `Option<&Thread>` is a pointer, or null.
    unsafe {
        asm!("mov {depth:e}, gs:[{at_depth}]", "mov {thread}, gs:[{at_thread}]", "pushfq", "pop {flags}",
             depth = out(reg) depth, thread = out(reg) thread, flags = out(reg) flags,
             at_depth = const DEPTH, at_thread = const offset_of!(Cpu, current));
    }
    // SAFETY: records live for ever.
    let thread = unsafe { thread.as_ref() }?;
    let is_its_own = depth == 0 && flags | INTERRUPTS_ON == flags && thread.stack().contains_sp(stack_pointer());
    is_its_own.then_some(thread)
}

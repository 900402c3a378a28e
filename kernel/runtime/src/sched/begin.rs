//! Where threads come from: the first frame, and the function it enters.
//!
//! Unsafe here: the first frame, the record's slots.
#![allow(unsafe_code)]

use super::dispatch::{current_in, run};
#[cfg(target_feature = "sse2")]
use super::preempt;
use super::{RootSlots, arm_timer, end, records, switch};
use crate::addr::Bytes;
use crate::allocator::Exhausted;
use crate::cpu::SafepointsHeld;
use crate::{stack, throw};

/// Sets up the records and becomes thread 1, which enters `main` on a stack of its own.
///
/// # Safety
/// Once, on the boot CPU's system stack, in the boot section, before any allocation from the heap.
pub(crate) unsafe fn start_main(main: extern "sysv64" fn() -> !) -> ! {
    #[cfg(target_feature = "sse2")]
    preempt::choose_instruction();
    records::set_up();
    // SAFETY: the caller promises to be in the boot section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = records::take_record(stack::DEFAULT_LIMIT).expect("a booted machine has a frame for the first stack");
    // SAFETY: the record is new, its top page committed.
    thread.saved_sp().set(unsafe { switch::first_frame(thread.stack().top().0, main) });
    arm_timer(&held);
    run(&held, thread)
}

/// Ends the boot section on the new main thread.
///
/// # Safety
/// First thing in the function that [`start_main`] or the first frame entered.
pub(crate) unsafe fn leave_first_section() {
    // SAFETY: a thread is entered inside a section, which ends here.
    drop(core::mem::ManuallyDrop::into_inner(unsafe { SafepointsHeld::assume() }));
}

pub(super) fn start_thread(limit: Bytes, slots: RootSlots, created_at: usize) -> Result<u64, (RootSlots, Exhausted)> {
    let held = SafepointsHeld::enter();
    let thread = match held.on_system_stack(|| records::take_record(limit)) {
        Ok(thread) => thread,
        Err(exhausted) => return Err((slots, exhausted)),
    };
    // SAFETY: the record is ours until it is queued.
    unsafe { *thread.slots.get() = slots };
    // SAFETY: the top page is committed and the stack not in use.
    thread.saved_sp().set(unsafe { switch::first_frame(thread.stack().top().0, thread_start) });
    thread.creator.set(current_in(&held).id.get());
    thread.created_at.set(created_at);
    held.cpu().run_queue.push(thread);
    Ok(thread.id.get())
}

/// Where every thread but the first begins, inside the section of the switch.
extern "sysv64" fn thread_start() -> ! {
    let entry = {
        // SAFETY: see above.
        let held = unsafe { SafepointsHeld::assume() };
        let slots = current_in(&held).slots.get();
        // SAFETY: the record is this thread's.
        unsafe { (*slots).entry.take() }
    };
    // SAFETY: first thing but for taking the entry.
    unsafe { leave_first_section() };
    match entry {
        Some(entry) => entry(),
        None => throw!("expected a new thread's record to hold its closure, found none"),
    }
    core::mem::forget(SafepointsHeld::enter());
    end::leave_stack(end::retire_current)
}

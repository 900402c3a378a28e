//! Where threads come from: the first frame, and the function it enters.
//!
//! Unsafe here: the first frame, the object's cells.
#![allow(unsafe_code)]

use super::dispatch::{current_in, run};
use super::join::{Packet, Shared};
#[cfg(target_feature = "sse2")]
use super::preempt;
use super::{arm_timer, end, panic, records, switch};
use crate::addr::Bytes;
use crate::allocator::{self, Exhausted};
use crate::cpu::SafepointsHeld;
use crate::stack;
use crate::trace::{Scan, Trace};
use core::cell::UnsafeCell;
use core::mem::{ManuallyDrop, MaybeUninit, needs_drop};
use core::ptr::NonNull;

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
    let spares = &held.cpu().spares;
    let thread = spares.take_or_make(stack::DEFAULT_LIMIT).expect("a booted machine has a frame for the first stack");
    spares.number(thread);
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
    drop(ManuallyDrop::into_inner(unsafe { SafepointsHeld::assume() }));
}

/// A thread's object: what it runs, and where its end is told.
#[repr(C)]
pub(super) struct Job<F, T> {
    shared: Shared<T>,
    /// Until the thread takes it, then zero: what it lets go of while it runs is nobody's any more.
    closure: UnsafeCell<MaybeUninit<F>>,
}

// SAFETY: every word counts.
unsafe impl<F, T> Trace for Job<F, T> {
    const SCAN: Scan = Scan::Ambiguous;
}

impl<F: FnOnce() -> T, T> Job<F, T> {
    pub(super) fn new(closure: F) -> Result<NonNull<Job<F, T>>, Exhausted> {
        // SAFETY: both fields are written.
        unsafe {
            allocator::new_in_place(|job: NonNull<Self>| {
                (&raw mut (*job.as_ptr()).shared).write(Shared::new(const { allocator::class_of::<Self>() }));
                (&raw mut (*job.as_ptr()).closure).write(UnsafeCell::new(MaybeUninit::new(closure)));
            })
        }
    }

    /// # Safety
    /// Once.
    pub(super) unsafe fn take_closure(&self) -> F {
        let place = self.closure.get();
        // SAFETY: the object was made with one, and the caller promises that it is still there.
        unsafe {
            let closure = (*place).assume_init_read();
            place.write_bytes(0, 1);
            closure
        }
    }

    /// Where every thread but the first begins, inside the section of the switch.
    ///
    /// # Safety
    /// The first frame's function, on a thread whose record has a packet of this type.
    pub(super) unsafe extern "sysv64" fn thread_start() -> ! {
        // SAFETY: see above.
        let held = unsafe { SafepointsHeld::assume() };
        let thread = current_in(&held);
        // SAFETY: the record keeps the object, until the end is told.
        let job = unsafe { &*thread.packet.get().cast::<Self>() };
        // SAFETY: first thing but for two reads.
        unsafe { leave_first_section() };
        // SAFETY: a thread starts once; nobody looks at the result before the end is told.
        let failure = panic::run_to_panic(thread, &mut || unsafe {
            let result = job.take_closure()();
            (*job.shared.result.get()).write(result);
        });
        let has_result = failure.is_none();
        let mut held = SafepointsHeld::enter();
        if !job.shared.packet.end(&held, failure) {
            if needs_drop::<T>() && has_result {
                drop(held);
                // SAFETY: the handle was dropped before there was a result.
                panic::run_to_panic(thread, &mut || unsafe { (*job.shared.result.get()).assume_init_drop() });
                held = SafepointsHeld::enter();
            }
            // SAFETY: no handle, no record, and this thread holds it no more.
            unsafe { Packet::free(NonNull::from(job).cast(), &held) };
        }
        end::retire(&ManuallyDrop::new(held))
    }
}

/// Starts a thread that begins in `start`, the [`Job::thread_start`] of what `packet` begins.
pub(super) fn start_thread(
    limit: Bytes,
    packet: NonNull<Packet>,
    start: unsafe extern "sysv64" fn() -> !,
    created_at: usize,
) -> Result<u64, Exhausted> {
    let held = SafepointsHeld::enter();
    let cpu = held.cpu();
    let thread = match cpu.spares.take_warm(limit) {
        Some(thread) => thread,
        None => held.on_system_stack(|| cpu.spares.take_or_make(limit))?,
    };
    thread.packet.set(packet.as_ptr());
    // SAFETY: the top page is committed and the stack not in use.
    thread.saved_sp().set(unsafe { switch::first_frame(thread.stack().top().0, start) });
    thread.creator.set(current_in(&held).id.get());
    thread.created_at.set(created_at);
    let id = cpu.spares.number(thread);
    cpu.run_queue.push(thread);
    Ok(id)
}

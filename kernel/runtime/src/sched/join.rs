//! How a thread's end reaches the one that joins it.
//!
//! The two share a [`Packet`] in one object of the heap, behind it the result ([`Shared`]) and, until the thread takes it, the closure
//! ([`Job`](super::begin::Job)). The handle holds it, and the thread's record until the end has been told, for a thread that overflows
//! cannot run its closure to the end. Whose the result is in the end, one atomic exchange decides: the thread says that it has ended, the
//! handle that it waits or will never ask.
//!
//! Unsafe here: the cells of result and failure.
#![allow(unsafe_code)]

use super::dispatch::{current_in, park_in, ready};
use super::{Failure, Thread, WaitReason};
use crate::allocator;
use crate::cpu::SafepointsHeld;
use crate::heap::SpanClass;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit, needs_drop};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

/// A packet's states; any other is the record of the thread that waits.
const RUNS: *mut Thread = ptr::null_mut();
const ABANDONED: *mut Thread = ptr::without_provenance_mut(1);
const ENDED: *mut Thread = ptr::without_provenance_mut(2);

/// The part that does not depend on the result's type.
pub(crate) struct Packet {
    state: AtomicPtr<Thread>,
    /// Why there is no result. Written before the end is told, read after.
    failure: UnsafeCell<Option<Failure>>,
    /// Of the object that begins here.
    class: Option<SpanClass>,
}

impl Packet {
    /// On the thread that ends, or on its behalf, once. False if nobody will ever ask.
    pub(super) fn end(&self, held: &SafepointsHeld, failure: Option<Failure>) -> bool {
        // From here on the packet lives as long as somebody else holds it, and what is left of the thread, such as the destructor of a
        // result that nobody joins, has nobody to tell anything.
        current_in(held).packet.set(ptr::null());
        if failure.is_some() {
            // SAFETY: nobody reads it before the exchange.
            unsafe { self.failure.get().write(failure) };
        }
        match self.state.swap(ENDED, Ordering::AcqRel) {
            RUNS => true,
            ABANDONED => false,
            waiter => {
                // SAFETY: records live for ever.
                ready(held, unsafe { &*waiter });
                true
            }
        }
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.end(&SafepointsHeld::enter(), Some(failure));
    }

    /// Blocks until the thread has ended. With one CPU nobody looks between the exchange and the park.
    fn wait(&self) {
        let held = SafepointsHeld::enter();
        let thread = current_in(&held);
        let waiter = ptr::from_ref(thread).cast_mut();
        if self.state.compare_exchange(RUNS, waiter, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            park_in(&held, thread, WaitReason::Join);
        }
    }

    /// Gives the object back. A large one is left to the sweep.
    ///
    /// # Safety
    /// The thread has told its end, and nobody has the handle: the caller is the last one.
    #[inline]
    pub(super) unsafe fn free(packet: NonNull<Packet>, held: &SafepointsHeld) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(class) = packet.as_ref().class {
                allocator::free_object(held, class, packet.cast());
            }
        }
    }

    /// After the end.
    fn has_failed(&self) -> bool {
        // SAFETY: written before the end was told, if at all.
        unsafe { (*self.failure.get()).is_some() }
    }
}

/// `packet` comes first, so that a pointer to the whole is one to it, and what holds it keeps the whole.
#[repr(C)]
pub(super) struct Shared<T> {
    pub(super) packet: Packet,
    /// Written by the thread before it tells its end without a failure; then of the handle, or of the thread if that has been dropped.
    pub(super) result: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Shared<T> {
    /// For an object of this class.
    pub(super) const fn new(class: Option<SpanClass>) -> Shared<T> {
        Shared {
            packet: Packet { state: AtomicPtr::new(RUNS), failure: UnsafeCell::new(None), class },
            result: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// The right to wait for a thread and have its result. Dropping it lets the thread run on; its result is dropped with it.
pub struct JoinHandle<T> {
    shared: NonNull<Shared<T>>,
    id: u64,
    result: PhantomData<T>,
}

// SAFETY: whoever has the handle is the only one to have the result, and gets it once.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle only tells the number.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// The only handle of this thread.
    pub(super) fn new(shared: NonNull<Shared<T>>, id: u64) -> JoinHandle<T> {
        JoinHandle { shared, id, result: PhantomData }
    }

    /// Blocks until the thread has ended, and returns what it returned, or why it could not.
    ///
    /// Costs two switches when the thread has not ended, none when it has. Go has no counterpart; a `WaitGroup` comes nearest.
    pub fn join(self) -> Result<T, Failure> {
        let handle = ManuallyDrop::new(self);
        // SAFETY: the handle keeps the object.
        let shared = unsafe { handle.shared.as_ref() };
        shared.packet.wait();
        // SAFETY: the thread has ended; what it left is this handle's, which is used up.
        unsafe {
            let result = match (*shared.packet.failure.get()).take() {
                Some(failure) => Err(failure),
                None => Ok((*shared.result.get()).assume_init_read()),
            };
            Packet::free(handle.shared.cast(), &SafepointsHeld::enter());
            result
        }
    }

    /// The thread's number, as the reports print it.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: the handle keeps the object.
        let shared = unsafe { self.shared.as_ref() };
        if shared.packet.state.swap(ABANDONED, Ordering::AcqRel) == ENDED {
            // SAFETY: the thread has left its result and will not look again.
            unsafe {
                if needs_drop::<T>() && !shared.packet.has_failed() {
                    (*shared.result.get()).assume_init_drop();
                }
                Packet::free(self.shared.cast(), &SafepointsHeld::enter());
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panicked(panic) => write!(f, "panic: {panic}"),
            Failure::StackOverflow => f.write_str("stack overflow"),
            Failure::OutOfMemory => f.write_str("out of memory"),
        }
    }
}

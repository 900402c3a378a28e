//! How a thread's end reaches the one that joins it.
//!
//! The two share a [`Packet`]: whether the thread has ended and how, and who waits. It lies on the heap, held by the handle and by the
//! thread's closure, and is a root slot of the thread's record, for a thread that overflows cannot run its closure to the end.
//!
//! Unsafe here: the result's cell, the record's slots.
#![allow(unsafe_code)]

use super::dispatch::{current_in, park_unlocking, ready};
use super::{Failure, Thread, WaitReason};
use crate::cpu::SafepointsHeld;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use spin::Mutex;

enum Outcome {
    Running,
    Finished,
    Failed(Failure),
    /// The failure has been handed over.
    Told,
}

/// The part of a packet that does not depend on the result's type.
pub(crate) struct Packet {
    ending: Mutex<Ending>,
}

struct Ending {
    outcome: Outcome,
    waiter: Option<&'static Thread>,
}

// SAFETY: the waiter's record is only made ready, under the lock and in a section.
unsafe impl Send for Packet {}
// SAFETY: as above.
unsafe impl Sync for Packet {}

impl Packet {
    /// On the thread that ends, or on its behalf.
    fn end(&self, outcome: Outcome) {
        let held = SafepointsHeld::enter();
        // Told once: from here on the packet lives as long as the two that hold it, and what is left of the thread, such as the
        // destructor of a result that nobody joins, has nobody to tell anything.
        // SAFETY: the record is the ending thread's.
        unsafe { (*current_in(&held).slots.get()).packet = None };
        let mut ending = self.ending.lock();
        ending.outcome = outcome;
        if let Some(waiter) = ending.waiter.take() {
            ready(&held, waiter);
        }
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.end(Outcome::Failed(failure));
    }

    /// Blocks until the thread has ended.
    fn wait(&self) -> Result<(), Failure> {
        loop {
            let held = SafepointsHeld::enter();
            let mut ending = self.ending.lock();
            match core::mem::replace(&mut ending.outcome, Outcome::Told) {
                Outcome::Finished => return Ok(()),
                Outcome::Failed(failure) => return Err(failure),
                Outcome::Running => {
                    ending.outcome = Outcome::Running;
                    ending.waiter = held.cpu().current();
                    park_unlocking(&held, ending, WaitReason::Join);
                }
                Outcome::Told => crate::throw!("expected a thread to be joined once, found it joined before"),
            }
        }
    }
}

/// `packet` comes first, so that a pointer to the whole is one to it, and scanning from it keeps the whole.
#[repr(C)]
pub(super) struct Shared<T> {
    packet: Packet,
    result: UnsafeCell<Option<T>>,
}

// SAFETY: the thread writes the result before it ends the packet; the one handle reads it after having seen that, under the lock.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new() -> Arc<Shared<T>> {
        let ending = Ending { outcome: Outcome::Running, waiter: None };
        Arc::new(Shared { packet: Packet { ending: Mutex::new(ending) }, result: UnsafeCell::new(None) })
    }

    pub(super) fn packet(&self) -> *const Packet {
        &self.packet
    }

    /// The thread has run its closure.
    pub(super) fn end(self: Arc<Self>, result: Result<T, Failure>) {
        let outcome = match result {
            Ok(value) => {
                // SAFETY: called once, by the thread, before the packet's end is told.
                unsafe { *self.result.get() = Some(value) };
                Outcome::Finished
            }
            Err(failure) => Outcome::Failed(failure),
        };
        self.packet.end(outcome);
    }
}

/// The right to wait for a thread and have its result. Dropping it lets the thread run on; its result is dropped with it.
pub struct JoinHandle<T> {
    shared: Arc<Shared<T>>,
    pub(super) id: u64,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, id: u64) -> JoinHandle<T> {
        JoinHandle { shared, id }
    }

    /// Blocks until the thread has ended, and returns what it returned, or why it could not.
    ///
    /// Costs two switches when the thread has not ended, none when it has. Go has no counterpart; a `WaitGroup` comes nearest.
    pub fn join(self) -> Result<T, Failure> {
        self.shared.packet.wait()?;
        // SAFETY: the thread has ended, and this handle is the only reader.
        let value = unsafe { (*self.shared.result.get()).take() };
        match value {
            Some(value) => Ok(value),
            None => crate::throw!("expected thread {} to have left its result before it finished, found none", self.id),
        }
    }

    /// The thread's number, as the reports print it.
    pub fn id(&self) -> u64 {
        self.id
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

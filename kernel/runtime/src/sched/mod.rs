//! Green threads on one CPU. Go: proc.go.
//!
//! 1. [`go`] moves the closure into a heap object, the one that will have the result too, takes a record with its stack from this CPU's
//!    spare ones (or makes one), points it at the object, writes a first frame that enters `thread_start`, and queues the thread (begin.rs,
//!    records.rs).
//! 2. A thread gives up the processor at [`yield_now`], when it parks ([`park`], [`sleep`], [`JoinHandle::join`]) and
//!    at its end. The switch goes straight to the next thread in the run queue (dispatch.rs, switch.rs), from the stack
//!    of a thread that has ended too (end.rs).
//! 3. With nobody in the queue the CPU runs `schedule` on its own stack: it sweeps what the last collection left, then waits for the timer.
//!    When nobody sleeps either, nothing will ever happen again: that is Go's deadlock, and fatal.
//! 4. The timer's tick wakes sleepers (sleep.rs) and, if preemption is on, makes a thread that has kept the processor for a whole tick
//!    give it (preempt/). When it may come, and what else it does, stands in tick.rs, above the rooms.
//! 5. A panic unwinds its own thread, and so does want of memory; its joiner learns why, the others go on (panic.rs). A thread that
//!    overflows its stack ends there, without unwinding (end.rs). When it is the main thread, the program ends with status 2.
//!
//! A thread is in one state and one place: on the CPU, in one queue, or parked. No runtime lock is held over a switch. Later
//! CPUs bring stealing, a global queue and the stopped world; with one CPU a section excludes everybody else.
//!
//! Unsafe here: two marker traits.
#![allow(unsafe_code)]

mod begin;
mod dispatch;
mod end;
mod join;
mod panic;
mod preempt;
mod records;
mod run_queue;
mod sleep;
mod switch;
mod thread;

pub(crate) use begin::{leave_first_section, start_main};
pub(crate) use dispatch::current_in;
pub(crate) use end::page_fault;
pub use join::JoinHandle;
pub use panic::{Panic, catch_unwind, contain};
pub(crate) use panic::{out_of_memory, panic};
pub use preempt::set_preemption;
pub(crate) use preempt::{preempt_if_due, yield_if_due};
pub(crate) use records::{Spares, for_each_thread, for_each_thread_at_the_end};
pub(crate) use run_queue::RunQueue;
pub(crate) use sleep::{Sleepers, arm_timer, wake_sleepers};
pub(crate) use thread::{State, Thread, WaitReason};

use crate::addr::Bytes;
use crate::allocator::{self, Exhausted};
use crate::cpu::{self, SafepointsHeld};
use crate::platform::platform;
use crate::stack;
use begin::Job;
use dispatch::{park_in, ready, yield_in};

/// Why a thread, or what was to be caught, ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panicked.
    Panicked(Panic),
    /// Its stack would have exceeded its limit.
    StackOverflow,
    /// No memory, even after a collection.
    OutOfMemory,
}

/// Settings of a thread to be started.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    stack_limit: Bytes,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    pub const fn new() -> Builder {
        Builder { stack_limit: stack::DEFAULT_LIMIT }
    }

    /// The most bytes its stack may grow to; rounded up to whole 4 KiB pages. Default: 64 MiB. More than there are addresses for all
    /// stacks is an error at `spawn`.
    pub const fn stack_limit(self, bytes: usize) -> Builder {
        Builder { stack_limit: stack::limit_of(Bytes(bytes)) }
    }

    /// Starts a thread that runs `f`; it gets the processor when the caller gives it up.
    ///
    /// Takes a stack page and a small heap object; an error means that not even a collection found them.
    #[inline(never)]
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, Exhausted>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_from(cpu::caller(), f)
    }

    fn spawn_from<F, T>(self, created_at: usize, f: F) -> Result<JoinHandle<T>, Exhausted>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Job::new(f)?;
        let start = || begin::start_thread(self.stack_limit, job.cast(), Job::<F, T>::thread_start, created_at);
        match allocator::retrying(start) {
            Ok(id) => Ok(JoinHandle::new(job.cast(), id)),
            Err(exhausted) => {
                // SAFETY: no thread has it.
                drop(unsafe { job.as_ref().take_closure() });
                Err(exhausted)
            }
        }
    }
}

/// Starts a thread, as Go's `go`. Out of memory ends the calling thread.
#[inline(never)]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn_from(cpu::caller(), f).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted))
}

/// Gives the processor to the next runnable thread, if there is one. Go: `runtime.Gosched`.
pub fn yield_now() {
    let held = SafepointsHeld::enter();
    yield_in(&held);
}

/// Blocks this thread until somebody calls [`ThreadRef::ready`] for it; at once if somebody has since the last `park`.
pub fn park() {
    let held = SafepointsHeld::enter();
    let thread = current_in(&held);
    if !thread.ready_token.take() {
        park_in(&held, thread, WaitReason::Park);
        thread.ready_token.set(false);
    }
}

/// Blocks this thread for `ns` nanoseconds at least.
pub fn sleep(ns: u64) {
    let held = SafepointsHeld::enter();
    let thread = current_in(&held);
    let wake_at = platform().now().saturating_add(ns);
    if held.cpu().sleepers.add(thread, wake_at) {
        arm_timer(&held);
    }
    park_in(&held, thread, WaitReason::Sleep);
}

/// Names a thread, also after its end.
#[derive(Clone, Copy)]
pub struct ThreadRef {
    record: &'static Thread,
    id: u64,
}

// SAFETY: a record is only touched inside a section.
unsafe impl Send for ThreadRef {}
// SAFETY: as above.
unsafe impl Sync for ThreadRef {}

impl ThreadRef {
    /// The thread's number, as the reports print it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Ends the thread's [`park`], or makes its next one return at once. Nothing happens if the thread has ended.
    pub fn ready(&self) {
        let held = SafepointsHeld::enter();
        if self.record.id.get() == self.id {
            self.record.ready_token.set(true);
            if self.record.state.get() == State::Parked(WaitReason::Park) {
                ready(&held, self.record);
            }
        }
    }
}

/// The calling thread.
pub fn current() -> ThreadRef {
    let held = SafepointsHeld::enter();
    let record = current_in(&held);
    ThreadRef { record, id: record.id.get() }
}

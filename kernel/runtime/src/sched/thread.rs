//! A green thread's record. Go: runtime2.go, `g`.
//!
//! Unsafe here: one `Sync`, the saved registers.
#![allow(unsafe_code)]

use super::join::Packet;
use super::panic::PanicSlot;
use super::{Failure, switch};
use crate::platform::Registers;
use crate::stack::Stack;
use alloc::boxed::Box;
use core::cell::{Cell, UnsafeCell};

/// Where a thread is. Each thread is in one state and in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Ended; the record waits on the free list for its next thread.
    Free,
    /// In a run queue.
    Runnable,
    /// On a CPU.
    Running,
    /// Waiting to be made ready.
    Parked(WaitReason),
}

/// What a parked thread waits for, in Go's words (runtime2.go, `waitReasonStrings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitReason {
    Join,
    Park,
    Sleep,
}

/// What a new thread is to run.
pub(crate) type Entry = Box<dyn FnOnce() + Send>;

/// The references that a record holds for its thread; the collector's roots beside stack and registers.
pub(crate) struct RootSlots {
    /// Until the thread takes it.
    pub(crate) entry: Option<Entry>,
    /// Where the thread's end is told.
    pub(crate) packet: Option<*const Packet>,
}

/// Records lie off the heap, live for ever and are used again, with their stacks.
///
/// Its own CPU changes a record, inside a section; a thread that wakes another holds that one's [`Packet`] lock.
pub(crate) struct Thread {
    /// Never reused: a handle to an earlier thread of this record does not name this one.
    pub(crate) id: Cell<u64>,
    pub(crate) state: Cell<State>,
    /// RSP when the thread is not running, or is on the CPU's own stack.
    saved_sp: Cell<usize>,
    /// The thread lost the processor to the timer: `registers` is its whole register file, `saved_sp` means nothing.
    pub(crate) is_interrupted: Cell<bool>,
    pub(crate) registers: UnsafeCell<Registers>,
    stack: Stack,
    pub(crate) slots: UnsafeCell<RootSlots>,
    /// The queue the thread is in: run queue, sleepers, or free list.
    pub(crate) next: Cell<Option<&'static Thread>>,
    /// A `ready` that came before its `park`.
    pub(crate) ready_token: Cell<bool>,
    pub(crate) wake_at_ns: Cell<u64>,
    pub(crate) creator: Cell<u64>,
    /// Where the creator goes on after its call of `go`.
    pub(crate) created_at: Cell<usize>,
    pub(crate) waiting_since_ns: Cell<u64>,
    /// Why a fault ended it. No reference: the collector does not look here.
    pub(crate) failure: Cell<Option<Failure>>,
    pub(crate) panic: PanicSlot,
}

// SAFETY: a record is touched only inside sections of the one CPU, or by the collector in the stopped world.
unsafe impl Sync for Thread {}

impl Thread {
    pub(crate) fn new(stack: Stack) -> Thread {
        Thread {
            id: Cell::new(0),
            state: Cell::new(State::Free),
            saved_sp: Cell::new(0),
            is_interrupted: Cell::new(false),
            registers: UnsafeCell::new(Registers::default()),
            stack,
            slots: UnsafeCell::new(RootSlots { entry: None, packet: None }),
            next: Cell::new(None),
            ready_token: Cell::new(false),
            wake_at_ns: Cell::new(0),
            creator: Cell::new(0),
            created_at: Cell::new(0),
            waiting_since_ns: Cell::new(0),
            failure: Cell::new(None),
            panic: PanicSlot::new(),
        }
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(crate) fn saved_sp(&self) -> &Cell<usize> {
        &self.saved_sp
    }

    /// Where the thread goes on, and its frame pointer there. It is not running, and stays so meanwhile.
    pub(crate) fn resumes_at(&self) -> (usize, usize) {
        if self.is_interrupted.get() {
            // SAFETY: the interrupt wrote them, and nobody writes them again before the thread has run.
            let registers = unsafe { &*self.registers.get() };
            return (registers.rip, registers.rbp);
        }
        // SAFETY: whoever does not run and was not interrupted has been left by a switch, or is new.
        unsafe { switch::saved_frame(self.saved_sp.get()) }
    }
}

impl WaitReason {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            WaitReason::Join => "sync.WaitGroup.Wait",
            WaitReason::Park => "park",
            WaitReason::Sleep => "sleep",
        }
    }
}

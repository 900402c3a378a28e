//! A green thread's record. Go: runtime2.go, `g`.
//!
//! Unsafe here: two marker traits, the saved frames.
#![allow(unsafe_code)]

use super::join::Packet;
use super::panic::PanicSlot;
use super::{Failure, switch};
use crate::addr::{Address, Bytes, Range};
use crate::platform::Registers;
use crate::stack::Stack;
use core::cell::Cell;
use core::ptr;

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

/// Records lie off the heap, live for ever and are used again, with their stacks.
///
/// Its own CPU changes a record, inside a section.
///
/// What a thread's whole life touches, if nothing happens in it, lies in two cache lines.
#[repr(C, align(64))]
pub(crate) struct Thread {
    /// Never reused: a handle to an earlier thread of this record does not name this one.
    pub(crate) id: Cell<u64>,
    pub(crate) state: Cell<State>,
    /// A `ready` that came before its `park`.
    pub(crate) ready_token: Cell<bool>,
    /// Where the stack's used part begins when the thread is not running, is on the CPU's own stack, or is stopped by a handler.
    saved_sp: Cell<usize>,
    /// What it runs and where its end is told, until that has been told: the one reference that the record holds for its thread, the
    /// collector's root beside stack and registers.
    pub(crate) packet: Cell<*const Packet>,
    /// The queue the thread is in: run queue, sleepers, or spares.
    pub(crate) next: Cell<Option<&'static Thread>>,
    pub(crate) creator: Cell<u64>,
    /// Where the creator goes on after its call of `go`.
    pub(crate) created_at: Cell<usize>,
    /// From the handler's call of preemption's stub until the thread has the processor again: the stub's frame, which begins with the
    /// interrupted RBP and RIP. Otherwise 0.
    pub(crate) stub_frame: Cell<usize>,
    stack: Stack,
    /// When a collection first found it waiting; 0: none has. A clock is too slow for a switch. Go: `waitsince`.
    pub(crate) waiting_since_ns: Cell<u64>,
    pub(crate) wake_at_ns: Cell<u64>,
    /// Why a fault ended it. No reference: the collector does not look here.
    pub(crate) failure: Cell<Option<Failure>>,
    pub(crate) panic: PanicSlot,
}

// SAFETY: a record is touched only inside sections of the one CPU, or by the collector in the stopped world.
unsafe impl Sync for Thread {}
// SAFETY: as above.
unsafe impl Send for Thread {}

impl Thread {
    pub(crate) fn new(stack: Stack) -> Thread {
        Thread {
            id: Cell::new(0),
            state: Cell::new(State::Free),
            saved_sp: Cell::new(0),
            stub_frame: Cell::new(0),
            stack,
            packet: Cell::new(ptr::null()),
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

    /// Where the thread goes on, and its frame pointer there. It is not running, and stays so meanwhile. Of a preempted
    /// thread that is what was interrupted, as if preemption were not a call. Zeros of a record that has no frame yet:
    /// for a report, which may come any time.
    pub(crate) fn resumes_at(&self) -> (usize, usize) {
        match self.stub_frame.get() {
            0 if !self.stack.has_committed(Range::new(Address(self.saved_sp.get()), switch::SAVED)) => (0, 0),
            // SAFETY: memory of its stack's; whoever does not run has been left there by a switch, or is new.
            0 => unsafe { switch::saved_frame(self.saved_sp.get()) },
            frame => {
                // SAFETY: the stub waits for the thread's turn.
                let [rbp, rip] = unsafe { *(frame as *const [usize; 2]) };
                (rip, rbp)
            }
        }
    }

    pub(crate) fn is_preempted(&self) -> bool {
        self.stub_frame.get() != 0
    }

    /// The registers that the unwinder's last step has in memory below RSP, if that may be where the thread was interrupted.
    ///
    /// `unwinding::unwinder::arch::restore_context` has the address of its `Context`, sixteen registers and RIP, in rdi; it loads RSP first
    /// and rdi last, so in between a thread's callee-saved registers are found nowhere else.
    pub(crate) fn unwinders_registers(&self, registers: &Registers) -> Option<Range> {
        let block = || Range::new(Address(registers.rdi), Bytes(17 * 8));
        (registers.rdi < registers.rsp && self.stack.has_committed(block())).then(block)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_frame_goes_on_nowhere() {
        let thread = Thread::new(Stack::nowhere());
        assert_eq!(thread.resumes_at(), (0, 0));
        thread.saved_sp().set(0x1000); // of an earlier thread, where nothing is committed any more
        assert_eq!(thread.resumes_at(), (0, 0));
    }
}

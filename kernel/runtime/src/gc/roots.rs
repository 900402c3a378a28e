//! Roots: what is live because somebody can name it without following a reference. Go: mgcmark.go, `markroot`.
//!
//! | root                         | where it is looked for                                                          |
//! |------------------------------|---------------------------------------------------------------------------------|
//! | statics                      | `.data` and `.bss`, not the runtime's own (linker.ld draws the line)              |
//! | a thread's record            | its packet: the closure before it runs, where its end is told                    |
//! | a stack                      | from the saved RSP to the top; a thread that does not run has its registers there |
//! | the thread under the handler | all registers, in the handler's frame and what the platform saved beside it       |
//! | its stack                    | from below the red zone to the top                                              |
//! | the unwinder's last step     | below RSP, where it loads the other registers from once RSP is new               |
//!
//! Unsafe here: reading other threads' records in the stopped world.
#![allow(unsafe_code)]

use super::mark::Marker;
use crate::addr::{Address, Bytes, Range};
use crate::cpu::Cpu;
use crate::platform::platform;
use crate::sched::{Thread, for_each_thread};
use crate::switch_off::{self, Mechanism};
use core::fmt;

pub(super) fn globals() -> Bytes {
    Bytes(platform().static_roots().iter().map(|range| range.bytes().0).sum())
}

/// Where a root's words lie.
#[derive(Clone, Copy)]
pub(super) enum Root {
    Static,
    Record(&'static Thread),
    Stack(&'static Thread),
    /// Of the thread that a handler has interrupted.
    Registers(&'static Thread),
    Vectors(&'static Thread),
    Unwinder(&'static Thread),
}

impl Root {
    /// Whether the compiler chose the words: it may have kept only a pointer one past an object's end.
    pub(super) fn is_compilers(self) -> bool {
        matches!(self, Root::Stack(_) | Root::Registers(_) | Root::Vectors(_) | Root::Unwinder(_))
    }

    fn mechanism(self) -> Mechanism {
        match self {
            Root::Static => Mechanism::StaticRoots,
            Root::Record(_) => Mechanism::ThreadSlots,
            Root::Stack(_) => Mechanism::StackRoots,
            Root::Registers(_) => Mechanism::SavedRegisters,
            Root::Vectors(_) => Mechanism::VectorRegisters,
            Root::Unwinder(_) => Mechanism::UnwindersRegisters,
        }
    }
}

/// "goroutine 5's stack".
impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Root::Static => write!(f, "the statics"),
            Root::Record(thread) => write!(f, "goroutine {}'s record", thread.id.get()),
            Root::Stack(thread) => write!(f, "goroutine {}'s stack", thread.id.get()),
            Root::Registers(thread) => write!(f, "goroutine {}'s registers", thread.id.get()),
            Root::Vectors(thread) => write!(f, "goroutine {}'s vector registers", thread.id.get()),
            Root::Unwinder(thread) => write!(f, "the unwinder's registers of goroutine {}", thread.id.get()),
        }
    }
}

/// Visits the words of every root, a range at a time.
pub(super) fn for_each_root(cpu: &Cpu, mut visit: impl FnMut(Root, Range)) {
    platform().static_roots().iter().for_each(|range| visit(Root::Static, *range));
    for_each_thread(|thread| {
        visit(Root::Record(thread), range_of(thread.packet.as_ptr()));
        // A frame below the committed part has been reserved by RSP and not touched yet: nothing was ever written there.
        let start = Address(thread.saved_sp().get()).max(thread.stack().committed_low());
        visit(Root::Stack(thread), Range { start, end: thread.stack().top() });
    });
    if let (Some(interrupted), Some(thread)) = (cpu.interrupted.get(), cpu.current()) {
        visit(Root::Registers(thread), range_of(interrupted.registers));
        visit(Root::Vectors(thread), interrupted.extended);
        // SAFETY: the handler's frame.
        if let Some(block) = thread.unwinders_registers(unsafe { &*interrupted.registers }) {
            visit(Root::Unwinder(thread), block);
        }
    }
}

/// Makes every root's object grey. Returns how much of the stacks is used.
pub(super) fn mark_roots(marker: &mut Marker<'_>, cpu: &Cpu) -> Bytes {
    let (mut stacks, now_ns) = (Bytes(0), platform().now());
    for_each_root(cpu, |root, range| {
        if let Root::Stack(thread) = root {
            stacks.0 += range.bytes().0;
            if thread.waiting_since_ns.get() == 0 {
                thread.waiting_since_ns.set(now_ns);
            }
        }
        match root.is_compilers() {
            _ if switch_off::is_off(root.mechanism()) => {}
            true => marker.scan_stack(range),
            false => marker.scan_range(range),
        }
    });
    stacks
}

fn range_of<T>(place: *const T) -> Range {
    Range::new(Address(place.addr()), Bytes(size_of::<T>()))
}

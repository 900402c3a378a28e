//! Roots: what is live because somebody can name it without following a reference. Go: mgcmark.go, `markroot`.
//!
//! | root                         | where it is looked for                                             |
//! |------------------------------|--------------------------------------------------------------------|
//! | statics                      | `.data` and `.bss`, not the runtime's own (linker.ld draws the line) |
//! | a thread's record            | its root slots: the closure before it runs, the packet of its end   |
//! | a stack                      | from the saved RSP to the top; callee-saved registers lie there too |
//! | an interrupted thread        | the whole register file, in its record                             |
//! | the thread under the handler | the whole register file, in the handler's frame                    |
//! | the unwinder's last step     | below RSP, where it loads the other registers from once RSP is new  |
//!
//! Unsafe here: reading other threads' records in the stopped world.
#![allow(unsafe_code)]

use super::mark::{Marker, Scanned};
use crate::addr::{Address, Bytes, Range};
use crate::cpu::Cpu;
use crate::platform::{Registers, platform};
use crate::sched::{RootSlots, Thread, for_each_thread};
use crate::switch_off::{self, Mechanism};

pub(super) fn globals() -> Bytes {
    Bytes(platform().static_roots().iter().map(|range| range.bytes().0).sum())
}

/// Makes every root's object grey.
pub(super) fn mark_roots(marker: &mut Marker<'_>, cpu: &Cpu) -> Scanned {
    if !switch_off::is_off(Mechanism::StaticRoots) {
        for range in platform().static_roots() {
            marker.scan_range(*range, Marker::mark_word);
        }
    }
    let mut stacks = Bytes(0);
    for_each_thread(|thread| {
        if !switch_off::is_off(Mechanism::ThreadSlots) {
            marker.scan_range(range_of::<RootSlots>(thread.slots.get()), Marker::mark_word);
        }
        stacks.0 += mark_stack(marker, thread);
    });
    let interrupted = cpu.interrupted.get();
    if let (false, Some(thread)) = (interrupted.is_null(), cpu.current()) {
        mark_registers(marker, interrupted, thread);
    }
    Scanned { stacks, globals: globals() }
}

/// Returns the bytes scanned.
fn mark_stack(marker: &mut Marker<'_>, thread: &Thread) -> usize {
    let sp = if thread.is_interrupted.get() {
        mark_registers(marker, thread.registers.get(), thread);
        // SAFETY: the thread is not running; its record is not written.
        unsafe { (*thread.registers.get()).rsp }
    } else {
        thread.saved_sp().get()
    };
    // A frame below the committed part has been reserved by RSP and not touched yet: nothing was ever written there.
    let stack = Range { start: Address(sp).max(thread.stack().committed_low()), end: thread.stack().top() };
    if !switch_off::is_off(Mechanism::StackRoots) {
        marker.scan_range(stack, Marker::mark_stack_word);
    }
    stack.bytes().0
}

fn mark_registers(marker: &mut Marker<'_>, registers: *const Registers, thread: &Thread) {
    if !switch_off::is_off(Mechanism::SavedRegisters) {
        marker.scan_range(range_of(registers), Marker::mark_stack_word);
    }
    // SAFETY: the record's, or the handler's frame: nobody writes there in the stopped world.
    let (rdi, rsp) = unsafe { ((*registers).rdi, (*registers).rsp) };
    if rdi >= rsp || switch_off::is_off(Mechanism::UnwindersRegisters) {
        return;
    }
    let block = Range::new(Address(rdi), UNWINDERS_REGISTERS);
    if thread.stack().has_committed(block) {
        marker.scan_range(block, Marker::mark_stack_word);
    }
}

/// `unwinding::unwinder::arch::Context`, sixteen registers and RIP. Its `restore_context` has the block's address in rdi; it loads RSP
/// first and rdi last, so in between a thread's callee-saved registers are found nowhere else.
const UNWINDERS_REGISTERS: Bytes = Bytes(17 * 8);

fn range_of<T>(place: *const T) -> Range {
    Range::new(Address(place.addr()), Bytes(size_of::<T>()))
}

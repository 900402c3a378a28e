//! Giving the processor to another thread, by agreement: a thread that does has called [`switch`], even one that the timer made do it
//! (preempt/). The callee-saved registers are on its stack, RSP is in its record, and nothing else matters.
//!
//! Unsafe here: all of it.
#![allow(unsafe_code)]

use crate::addr::Bytes;
use core::arch::naked_asm;
use core::cell::Cell;

/// Saves the caller's registers and RSP, and goes on where `to` was saved.
///
/// # Safety
/// In a section; `to` was stored by one of these functions or made by [`first_frame`], and its stack is not in use.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn switch(saved_sp: *const Cell<usize>, to: usize) {
    naked_asm!(
        "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "jmp {landing}",
        landing = sym landing,
    )
}

/// The second half of [`switch`]: where a thread that switched away goes on.
#[unsafe(naked)]
unsafe extern "sysv64" fn landing() {
    naked_asm!("pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret")
}

/// Goes on where `to` was saved, and leaves the caller for good.
///
/// # Safety
/// As [`switch`].
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn resume(to: usize) -> ! {
    naked_asm!("mov rsp, rdi", "jmp {landing}", landing = sym landing)
}

/// Saves the caller and calls `f` on the stack that ends at `top`, never to return there: the caller goes on when somebody
/// switches to `saved_sp`.
///
/// # Safety
/// As [`switch`]; the stack at `top` is free.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn switch_to_stack(
    saved_sp: *const Cell<usize>,
    top: usize,
    f: extern "sysv64" fn() -> !,
) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "xor ebp, ebp",
        "push rbp",
        "jmp rdx",
    )
}

/// Writes the frame from which [`landing`] enters `entry` on a new stack; returns the RSP to save.
///
/// # Safety
/// The 64 bytes below `top` are committed and nobody's; `top` is a multiple of 16.
pub(super) unsafe fn first_frame(top: usize, entry: unsafe extern "sysv64" fn() -> !) -> usize {
    // The zero above the entry is its return address and ends backtraces; rbp is zero too.
    let frame: [usize; 8] = [0, 0, 0, 0, 0, 0, entry as usize, 0];
    let at = top - size_of_val(&frame);
    // SAFETY: the caller gives us these bytes.
    unsafe { (at as *mut [usize; 8]).write(frame) };
    at
}

/// What [`saved_frame`] reads of a thread's stack.
pub(super) const SAVED: Bytes = Bytes(7 * size_of::<usize>());

/// Where a thread that switched away will go on, and its frame pointer.
///
/// # Safety
/// `saved_sp` was stored by one of these functions and the thread has not run since.
pub(super) unsafe fn saved_frame(saved_sp: usize) -> (usize, usize) {
    // SAFETY: `landing` will pop six registers, rbp last, then the return address.
    let frame = unsafe { *(saved_sp as *const [usize; 7]) };
    (frame[6], frame[5])
}

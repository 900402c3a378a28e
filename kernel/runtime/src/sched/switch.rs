//! Giving the processor to another thread: six registers by agreement, or all of them after an interrupt.
//!
//! A thread that gives up the processor by itself has called [`switch`]: the callee-saved registers are on its stack, RSP is in its
//! record, and nothing else matters. One that the timer took the processor from has its whole register file in its record.
//! So there are four ways from one thread to the next:
//!
//! | from \ to   | by itself             | interrupted             |
//! |-------------|-----------------------|-------------------------|
//! | by itself   | [`switch`]            | [`switch_to_interrupted`] |
//! | interrupted | `iretq` to [`landing`] | `iretq`                 |
//!
//! Unsafe here: all of it.
#![allow(unsafe_code)]

use crate::cpu::section_depth_offset;
use crate::platform::Registers;
use core::arch::naked_asm;
use core::cell::Cell;

/// The flags with which code begins that an interrupt returns to instead of what it interrupted: interrupts on, direction up.
pub(super) const RFLAGS: usize = 0x202;

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
pub(super) unsafe extern "sysv64" fn landing() {
    naked_asm!("pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret")
}

/// Saves the caller as [`switch`] does and goes on where an interrupt took the processor from the other thread, outside any section.
///
/// Interrupts are off while RSP points into the record; `iretq` restores them.
///
/// # Safety
/// As [`switch`]; `registers` were saved by an interrupt outside a section.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn switch_to_interrupted(saved_sp: *const Cell<usize>, registers: *const Registers) {
    naked_asm!(
        "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
        "mov [rdi], rsp",
        "cli",
        "mov dword ptr gs:[{depth}], 0",
        "mov rsp, rsi",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rbp", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "add rsp, 16",
        "iretq",
        depth = const section_depth_offset(),
    )
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
pub(super) unsafe fn first_frame(top: usize, entry: extern "sysv64" fn() -> !) -> usize {
    // The zero above the entry is its return address and ends backtraces; rbp is zero too.
    let frame: [usize; 8] = [0, 0, 0, 0, 0, 0, entry as usize, 0];
    let at = top - size_of_val(&frame);
    // SAFETY: the caller gives us these bytes.
    unsafe { (at as *mut [usize; 8]).write(frame) };
    at
}

/// Where a thread that switched away will go on, and its frame pointer.
///
/// # Safety
/// `saved_sp` was stored by one of these functions and the thread has not run since.
pub(super) unsafe fn saved_frame(saved_sp: usize) -> (usize, usize) {
    // SAFETY: `landing` will pop six registers, rbp last, then the return address.
    let frame = unsafe { *(saved_sp as *const [usize; 7]) };
    (frame[6], frame[5])
}

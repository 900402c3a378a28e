//! Between a thread's stack and the CPU's own, and where on them the code is.
//!
//! Unsafe here: all of it.
#![allow(unsafe_code)]

use super::SafepointsHeld;
use core::arch::{asm, naked_asm};
use core::cell::Cell;
use core::ptr;

impl SafepointsHeld {
    /// Runs `f` on the CPU's own stack, with the callee-saved registers pushed on the thread's, where the collector scans them.
    /// Already there, it just calls.
    pub(crate) fn on_system_stack<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Call<F, R>(Option<F>, Option<R>);

        extern "sysv64" fn run<F: FnOnce() -> R, R>(call: *mut ()) {
            // SAFETY: `call` is the `Call<F, R>` below, which outlives the call.
            let call = unsafe { &mut *call.cast::<Call<F, R>>() };
            call.1 = call.0.take().map(|f| f());
        }

        fn entry<F: FnOnce() -> R, R>(_: &F) -> extern "sysv64" fn(*mut ()) {
            run::<F, R>
        }

        let cpu = self.cpu();
        let thread = match cpu.current.get() {
            Some(thread) if thread.stack().contains_sp(stack_pointer()) => thread,
            _ => return f(),
        };
        let entry = entry(&f);
        let mut call = Call(Some(f), None);
        let arg = ptr::from_mut(&mut call).cast();
        // SAFETY: a thread runs here (checked), so nobody is on the system stack; `saved_sp` is this thread's own.
        unsafe { call_on(entry, arg, cpu.system_stack.get().end.0, thread.saved_sp()) };
        match call.1 {
            Some(result) => result,
            None => crate::throw!("expected the call on the system stack to have returned a value, found none"),
        }
    }
}

/// The caller's address and frame pointer: where a backtrace starts, and on which stack we are.
#[inline(always)]
pub(crate) fn here() -> (usize, usize) {
    let (rip, rbp): (usize, usize);
    // SAFETY: reads two registers.
    unsafe {
        asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    (rip, rbp)
}

/// Where the function that this is inlined into returns to. That function keeps a frame pointer and is itself not inlined.
#[inline(always)]
pub(crate) fn caller() -> usize {
    let address: usize;
    // SAFETY: with a frame pointer the return address lies above the word at rbp.
    unsafe { asm!("mov {}, [rbp + 8]", out(reg) address, options(readonly, preserves_flags)) };
    address
}

#[inline(always)]
pub(super) fn stack_pointer() -> usize {
    let rsp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// Pushes the callee-saved registers, stores RSP in `*saved_sp`, and calls `f(arg)` on the stack that ends at `top`.
///
/// # Safety
/// The stack is free and stays so until `f` returns; `top` is a multiple of 16.
#[unsafe(naked)]
unsafe extern "sysv64" fn call_on(
    f: extern "sysv64" fn(*mut ()),
    arg: *mut (),
    top: usize,
    saved_sp: *const Cell<usize>,
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rcx], rsp",
        "mov rsp, rdx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

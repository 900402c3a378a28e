//! Faults on purpose: run something that must fault, and see that it did.
//!
//! The way out is that of `longjmp`: registers are saved at the entrance, and the trap's frame is rewritten so that the return from
//! the trap leads back here. Many faults can so be tested in one boot.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::addr::Address;
use crate::platform::Registers;

/// Nobody goes on after that.
const MACHINE_CHECK: usize = 18;

/// What a closure of [`expect_fault`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtFault {
    pub vector: usize,
    pub error_code: usize,
    /// The address that a page fault was about; 0 for other exceptions.
    pub address: Address,
    pub rip: usize,
}

/// Where an expected fault leads.
#[repr(C)]
struct Exit {
    /// The stack pointer, under it all that the ABI wants kept.
    rsp: usize,
    rflags: usize,
    caught: UnsafeCell<Option<CaughtFault>>,
}

#[unsafe(link_section = ".bss.runtime")]
static EXPECTED: AtomicPtr<Exit> = AtomicPtr::new(core::ptr::null_mut());

/// Runs the closure. If it ends in an exception (a page fault that the runtime does not answer, a general protection, an
/// invalid opcode …) returns that, else `None`.
///
/// What the closure owned at its fault is not dropped: whoever writes the unsafe code that faults answers for leaving it
/// there. The closure must not switch threads, and must not fault inside a no-safepoint section.
pub fn expect_fault<F: FnOnce()>(closure: F) -> Option<CaughtFault> {
    extern "C" fn run<F: FnOnce()>(closure: *mut Option<F>) {
        // SAFETY: `expect_fault` passes the address of its own local, to which nobody else holds a reference.
        if let Some(closure) = unsafe { (*closure).take() } {
            closure();
        }
    }
    let mut closure = Some(closure);
    let mut exit = Exit { rsp: 0, rflags: 0, caught: UnsafeCell::new(None) };
    let outer = EXPECTED.swap(&raw mut exit, Ordering::Relaxed);
    // SAFETY: `run` is of the type that goes with the closure; `exit` lives until after the call, however it ends.
    unsafe { run_with_exit((&raw mut closure).cast(), run::<F> as *const (), &raw mut exit) };
    EXPECTED.store(outer, Ordering::Relaxed);
    // SAFETY: the trap's handler, the only other writer, is done: it returned to the line above.
    unsafe { *exit.caught.get() }
}

/// From a trap's handler, with the registers that it will return to: if a fault is expected, notes it, points them at the exit and says so.
pub fn leave(registers: &mut Registers, address: Option<Address>) -> bool {
    let exit = EXPECTED.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if exit.is_null() || registers.vector == MACHINE_CHECK {
        return false;
    }
    // SAFETY: not null, so `expect_fault` waits for its closure, and its frame with the exit is alive.
    let exit = unsafe { &*exit };
    let (vector, error_code, rip) = (registers.vector, registers.error_code, registers.rip);
    let caught = CaughtFault { vector, error_code, address: address.unwrap_or(Address(0)), rip };
    // SAFETY: `expect_fault` reads it only after this trap has returned.
    unsafe { *exit.caught.get() = Some(caught) };
    registers.rip = faulted as *const () as usize;
    registers.rsp = exit.rsp;
    registers.rflags = exit.rflags;
    true
}

/// Calls `run(closure)` after saving in `exit` how to get back.
///
/// # Safety
/// `run` takes `closure`; `exit` outlives the call.
#[unsafe(naked)]
unsafe extern "C" fn run_with_exit(closure: *mut (), run: *const (), exit: *mut Exit) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "pop rax",
        "mov [rdx + 8], rax",
        "mov [rdx], rsp",
        "sub rsp, 8",
        "call rsi",
        "add rsp, 8",
        "jmp {faulted}",
        faulted = sym faulted,
    )
}

/// The second half of [`run_with_exit`]; entered from a trap's return, or by falling into it.
#[unsafe(naked)]
extern "C" fn faulted() {
    naked_asm!("pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret")
}

//! Single steps: a hook that runs after every instruction of a closure. For tests that look at a thread everywhere.
//!
//! The trap flag makes the CPU raise the debug exception (vector 1) after each instruction; every trap clears the flag, so that
//! handlers run unhindered, and the return from them restores it. SDM Vol. 3 §19.3.1.4. Of a string instruction with a prefix to repeat it,
//! every round is a step. A process may set the flag too: Linux makes a SIGTRAP of each.

use core::arch::asm;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::addr::Range;
use crate::platform::Registers;

/// Called in the debug exception's handler with what the thread had in its registers between two instructions, and
/// where the rest of them is.
pub type Hook = fn(&Registers, Range);

#[unsafe(link_section = ".bss.runtime")]
static HOOK: AtomicPtr<Hook> = AtomicPtr::new(core::ptr::null_mut());

/// Clears the flag however the closure ends.
struct Stepping;

impl Drop for Stepping {
    fn drop(&mut self) {
        // SAFETY: changes one flag, which no compiled code relies on.
        unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
        HOOK.store(core::ptr::null_mut(), Ordering::Relaxed);
    }
}

/// Runs `closure`, and `hook` after each of its instructions. One at a time; the closure must not switch threads, for the flag would not
/// be switched with them.
pub fn each_instruction<T>(hook: &'static Hook, closure: impl FnOnce() -> T) -> T {
    HOOK.store(core::ptr::from_ref(hook).cast_mut(), Ordering::Relaxed);
    let _stepping = Stepping;
    // SAFETY: the trap that follows every instruction is answered by `stepped`.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    closure()
}

/// The debug exception: whether it was a step, and the hook has run.
pub fn stepped(registers: &Registers, extended: Range) -> bool {
    // SAFETY: `each_instruction` stores a `&'static` or null.
    let hook = unsafe { HOOK.load(Ordering::Relaxed).as_ref() };
    hook.map(|hook| hook(registers, extended)).is_some()
}

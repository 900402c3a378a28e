//! What an interrupted thread is made to call: saves all that a function call may change, yields, and goes back as if nothing had been.
//!
//! Unsafe here: all of it.
#![allow(unsafe_code)]

use crate::cpu::HEADROOM;
use crate::platform::RED_ZONE;
use core::arch::naked_asm;

#[cfg(not(test))]
use super::preempted;
#[cfg(test)]
use tests::preempted;

/// The most stack below the red zone that the stub uses, with what it calls: the return address, the registers, twelve words in all and the
/// alignment, the frames of [`preempted`] and of what the end of its section may do, and what a section wants below them.
pub(super) const ROOM: usize = 1024 + VECTORS + HEADROOM;

/// An XSAVE area with the components of [`COMPONENTS`].
#[cfg(target_feature = "sse2")]
const VECTORS: usize = 2688;
/// Code that is compiled without vector registers has none to save.
#[cfg(not(target_feature = "sse2"))]
const VECTORS: usize = 0;

/// x87, SSE, AVX and the three of AVX-512. Whoever uses AMX's tiles has to disable preemption, or lose them.
#[cfg(target_feature = "sse2")]
const COMPONENTS: u32 = 0xe7;

/// Whether there is XSAVE, and the operating system lets it be used; FXSAVE does as long as nobody can use more than it saves.
#[cfg(target_feature = "sse2")]
#[unsafe(link_section = ".data.runtime")]
static HAS_XSAVE: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// Once, before the first thread. SDM Vol. 1 §13.2.
#[cfg(target_feature = "sse2")]
pub(in crate::sched) fn choose_instruction() {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const OSXSAVE: u32 = 1 << 27;
    let has_xsave = __cpuid(1).ecx & OSXSAVE != 0;
    for component in (2..u32::BITS).filter(|component| has_xsave && COMPONENTS & 1 << component != 0) {
        let leaf = __cpuid_count(0xd, component);
        let end = (leaf.ebx + leaf.eax) as usize;
        if end > VECTORS {
            crate::throw!("expected XSAVE's component {component} to end within {VECTORS} bytes, found {end}");
        }
    }
    HAS_XSAVE.store(has_xsave, core::sync::atomic::Ordering::Relaxed);
}

/// Entered as if the interrupted instruction had called it from below the red zone.
///
/// The first two instructions change no flags, and make a frame that backtraces can walk. RSP may have had any alignment. The callee keeps
/// rbx and r12 to r15, on this stack, where the collector finds them too.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn stub() {
    naked_asm!(
        "push rbp", "mov rbp, rsp",
        "pushfq", "cld",
        "push rax", "push rcx", "push rdx", "push rsi", "push rdi", "push r8", "push r9", "push r10", "push r11",
        #[cfg(target_feature = "sse2")] "sub rsp, {vectors}",
        "and rsp, -64",

        // XRSTOR wants what XSAVE leaves alone in the area's header to be zero.
        #[cfg(target_feature = "sse2")]
        "xor eax, eax
         .irp at, 512, 520, 528, 536, 544, 552, 560, 568
         mov [rsp + \\at], rax
         .endr
         cmp byte ptr [rip + {has_xsave}], 0
         je 2f
         mov eax, {components}
         xor edx, edx
         xsave64 [rsp]
         jmp 3f
         2: fxsave64 [rsp]
         3:",

        "call {preempted}",

        #[cfg(target_feature = "sse2")]
        "cmp byte ptr [rip + {has_xsave}], 0
         je 2f
         mov eax, {components}
         xor edx, edx
         xrstor64 [rsp]
         jmp 3f
         2: fxrstor64 [rsp]
         3:",

        "lea rsp, [rbp - 80]",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
        "popfq", "pop rbp",
        "ret {red_zone}",
        preempted = sym preempted,
        red_zone = const RED_ZONE.0,
        #[cfg(target_feature = "sse2")] vectors = const VECTORS,
        #[cfg(target_feature = "sse2")] components = const COMPONENTS,
        #[cfg(target_feature = "sse2")] has_xsave = sym HAS_XSAVE,
    )
}

#[cfg(test)]
mod tests;

//! The interrupt table and the 256 stubs behind it.
//!
//! Each stub makes the same frame, whatever the vector: the CPU's five words, an error code (0 where the CPU pushes none), the
//! vector, and all fifteen general registers, in the layout of [`Registers`]. Everything is loaded back from that frame,
//! so whoever handles the trap may send the thread elsewhere by writing to it. The compiler's own interrupt functions
//! save only what they clobber, in an order of their own: neither the collector nor the switch could use that.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use runtime::platform::Registers;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use crate::gdt::{self, Slot};
use crate::trap::{self, vector};

const _: () = assert!(size_of::<Registers>() == 22 * 8 && offset_of!(Registers, vector) == 15 * 8);

// The vectors for which the CPU pushes an error code: SDM Vol. 3 §6.3.1. A stub is 16 bytes: push, push, jump.
// The frame is 176 bytes and the CPU aligns the stack before it pushes, so the call below is aligned as the ABI wants it.
global_asm!(
    ".balign 16",
    "trap_stubs:",
    ".set trap_vector, 0",
    ".rept 256",
    ".balign 16",
    ".if trap_vector != 8 && (trap_vector < 10 || trap_vector > 14) && trap_vector != 17 && trap_vector != 21 \
        && trap_vector != 29 && trap_vector != 30",
    "push 0",
    ".endif",
    "push trap_vector",
    "jmp trap_entry",
    ".set trap_vector, trap_vector + 1",
    ".endr",
    ".size trap_stubs, . - trap_stubs",
    ".type trap_stubs, @function",
    "trap_entry:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {trap}",
    "trap_return:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    ".size trap_entry, . - trap_entry",
    ".type trap_entry, @function",
    trap = sym trap::trap,
);

unsafe extern "C" {
    safe static trap_stubs: [u8; 256 * 16];
    /// Where [`trap::trap`] returns to. A return address equal to this tells a backtrace that the frame of an interrupted
    /// thread lies right above.
    safe static trap_return: u8;
}

/// 256 gates of two words.
#[unsafe(link_section = ".bss.runtime")]
static GATES: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];

/// Fills the table and loads it on this CPU. All gates are interrupt gates: interrupts are off in every handler.
pub(crate) fn load() {
    for (number, gate) in GATES.as_chunks::<2>().0.iter().enumerate() {
        let stub = (&raw const trap_stubs).addr() as u64 + number as u64 * 16;
        let slot = slot(number) as u64;
        let low = stub & 0xffff | (gdt::CODE as u64) << 16 | slot << 32 | 0x8e << 40 | (stub >> 16 & 0xffff) << 48;
        gate[0].store(low, Ordering::Relaxed);
        gate[1].store(stub >> 32, Ordering::Relaxed);
    }
    let pointer =
        DescriptorTablePointer { limit: size_of_val(&GATES) as u16 - 1, base: VirtAddr::from_ptr(&raw const GATES) };
    // SAFETY: the table is a static, each of its gates leads to a stub that saves and restores everything.
    unsafe { lidt(&pointer) };
}

fn slot(number: usize) -> Slot {
    match number {
        vector::DEBUG => Slot::Debug,
        vector::NMI => Slot::Nmi,
        vector::DOUBLE_FAULT => Slot::DoubleFault,
        vector::PAGE_FAULT => Slot::PageFault,
        vector::MACHINE_CHECK => Slot::MachineCheck,
        0..32 => Slot::Exception,
        _ => Slot::Interrupt,
    }
}

/// The address behind the stubs' call.
pub(crate) fn return_address() -> usize {
    (&raw const trap_return).addr()
}

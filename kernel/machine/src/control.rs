//! The control registers, set to known values: what the firmware left differs between BIOS and UEFI, and between CPUs.

use core::arch::x86_64::__cpuid_count;

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};

/// Sets CR0, CR4 and EFER of this CPU, and the x87 unit to its start. Every CPU runs this before anything else of ours.
///
/// SSE is switched on although no code of ours uses it: an unwinder saves its control words. SDM Vol. 3 §2.5.
pub(crate) fn set() {
    let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::PAGING;
    let cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::DEBUGGING_EXTENSIONS
        | Cr4Flags::MACHINE_CHECK_EXCEPTION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | offered();
    // SAFETY: long mode with four-level paging is what the loader left, and these values keep it. What they add (write
    // protection, no-execute, no user pages for the kernel) forbids nothing that the loader's tables need.
    unsafe {
        Efer::write_raw(
            (EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE | EferFlags::NO_EXECUTE_ENABLE).bits(),
        );
        Cr0::write_raw(cr0.bits());
        Cr4::write_raw(cr4.bits());
        core::arch::asm!("fninit", options(nomem, nostack));
    }
}

/// The protections that not every CPU has. SDM Vol. 2, CPUID leaf 7.
fn offered() -> Cr4Flags {
    let leaf = __cpuid_count(7, 0);
    let mut flags = Cr4Flags::empty();
    flags.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, leaf.ebx & (1 << 7) != 0);
    flags.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, leaf.ebx & (1 << 20) != 0);
    flags.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, leaf.ecx & (1 << 2) != 0);
    flags
}

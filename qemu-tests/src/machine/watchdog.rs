//! The watchdog gives up a CPU that takes no interrupt, and no other: not one that takes them late, works in a long section, or collects.

use crate::clock::MS;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use runtime::kernel_test;
use runtime::prelude::*;
use runtime::switch_off::{Mechanism, disable};

#[kernel_test(
    status = 2,
    says = "fatal error: CPU 0 has taken no interrupt for|interrupts are off, no-safepoint sections: 0|goroutine 1 [running]:"
)]
fn a_cpu_that_takes_no_interrupt_is_named() {
    deaf(|| spin(u64::MAX));
}

#[kernel_test(uefi, status = 2, says = "fatal error: CPU 0 has taken no interrupt for|interrupts are off")]
fn a_cpu_that_takes_no_interrupt_is_named_under_uefi_too() {
    deaf(|| spin(u64::MAX));
}

#[kernel_test(off)]
fn without_the_watchdog_a_cpu_may_take_no_interrupt() {
    let _off = disable(Mechanism::Watchdog);
    deaf(|| spin(2500 * MS));
}

/// Runs `f` with interrupts off.
pub(crate) fn deaf(f: impl FnOnce()) {
    // SAFETY: they are on again afterwards.
    unsafe { asm!("cli") };
    f();
    // SAFETY: as they were. One that waits comes after the `nop`: there is none between `sti` and the instruction behind it.
    unsafe { asm!("sti", "nop") };
}

#[inline(never)]
pub(crate) fn spin(ns: u64) {
    let end_ns = now().saturating_add(ns);
    while now() < end_ns {
        core::hint::spin_loop();
    }
}

#[kernel_test(status = 0)]
fn a_cpu_that_takes_interrupts_late_is_left_alone() {
    // As often as it likes, for a tenth of what is too long: a loaded host may have measured the clock wrong.
    for _ in 0..20 {
        deaf(|| spin(100 * MS));
    }
}

/// As two gibibytes take that are cleared in one section. The first tick is noted, and no other is set.
#[kernel_test(unstressed)]
fn a_cpu_in_a_long_section_with_interrupts_on_is_left_alone() {
    // SAFETY: a clock is all that is asked for in there.
    unsafe { runtime::inspect::in_section(false, || spin(2500 * MS)) };
}

/// Each takes tens of milliseconds: few strikes fall between two of them. (If they were short all could, always at one
/// instruction. QEMU lets go of a guest where it must return to QEMU's own loop, at an instruction on two pages say,
/// while the timer's interrupt is being raised.) What comes after them with interrupts still off is short, and not to
/// be added.
#[kernel_test(unstressed)]
fn a_cpu_that_has_just_ended_a_long_collection_is_left_alone() {
    let kept: Vec<_> = (0..1_000_000).map(Box::new).collect();
    deaf(|| {
        let end_ns = now() + 1500 * MS;
        while now() < end_ns {
            collect();
        }
        spin(200 * MS);
    });
    drop(kept);
}

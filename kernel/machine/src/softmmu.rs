//! A favour to QEMU's software TLB, which has 256 entries at first and changes its size only when all of it is flushed: it doubles if most
//! entries were in use, and halves if few were (accel/tcg/cputlb.c). Systems that switch address spaces flush it all the time; this one
//! never would, and programs with more than a mebibyte of memory would have the page tables walked at every other access.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::tlb;

use crate::tsc;

/// Doubled at every flush, the TLB covers a gibibyte after half a second. A flush costs the walks that fill it again.
const PERIOD_NS: u64 = 50_000_000;

#[unsafe(link_section = ".bss.runtime")]
static NEXT_NS: AtomicU64 = AtomicU64::new(0);

/// From the timer's tick. On hardware a flush so rare costs nothing either.
pub(crate) fn flush_now_and_then() {
    let now_ns = tsc::now();
    if now_ns >= NEXT_NS.load(Ordering::Relaxed) {
        NEXT_NS.store(now_ns + PERIOD_NS, Ordering::Relaxed);
        tlb::flush_all();
    }
}

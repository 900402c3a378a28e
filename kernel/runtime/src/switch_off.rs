//! Switching one mechanism off, so that a test can watch the failure it prevents.
//!
//! Only with the feature `switch-off`, which the kernel that users boot does not have: there every question below is the
//! constant `false`, and costs nothing.
//!
//! Unsafe here: the name of a link section.
#![allow(unsafe_code)]

/// What can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mechanism {
    /// The page below a stack that is never present.
    GuardPage,
    /// Committing more of a stack when it faults.
    GrowthFault,
    /// Scanning the registers of an interrupted thread.
    SavedRegisters,
    /// Scanning what else was saved of it: vector registers.
    VectorRegisters,
    /// Scanning what its function may keep below RSP.
    RedZone,
    /// Scanning `.data` and `.bss`.
    StaticRoots,
    /// Scanning what the threads' records hold.
    ThreadSlots,
    /// Scanning stacks.
    StackRoots,
    /// Scanning ambiguous objects, and precise ones over 512 bytes.
    AmbiguousScan,
    /// Taking a word that points into the middle of an object for a reference.
    InteriorPointers,
    /// Taking a word on a stack that points at a slot's base for a pointer one past the end of the slot before, too.
    EndPointers,
    /// The byte behind a block of the global allocator, which a pointer one past its end points at.
    SpareByte,
    /// Holding the timer off while a no-safepoint section lasts.
    Sections,
    /// Acting on the timer's interrupt.
    TimerStop,
    /// Looking for the objects that the marker had no room for.
    DroppedWork,
    /// Sweeping after marking.
    Sweep,
    /// Looking for room in what is not swept yet before fresh pages are taken.
    SweepForRoom,
    /// Sweeping for a large object with safepoints let in.
    SweepingOutside,
    /// Sweeping what is left before the next marking.
    SweepTermination,
    /// Taking a handler for a section when it allocates.
    HandlerCount,
    /// Acting on the watchdog's interrupt.
    Watchdog,
    /// Running destructors on the way out of a panic.
    Unwinding,
    /// The stack below the limit that a panic may use.
    PanicReserve,
    /// Scanning the registers that the unwinder's last step has still in memory below RSP, and leaving them alone.
    UnwindersRegisters,
    /// Leaving a thread alone that has no room on its stack for what preemption puts there.
    PreemptionRoom,
    /// Zeroing a large object with safepoints let in.
    ZeroingOutside,
    /// Giving a large object its memory with safepoints let in.
    CommittingOutside,
    /// Giving the memory of free pages back in the background.
    Scavenger,
    /// Looking, when there is no memory, into the spans listed as full for what was freed by hand.
    Relisting,
    /// Giving the memory of free pages back when a stack's growth finds no frames.
    ReleaseForGrowth,
    /// Putting tiny objects into one slot.
    TinyCombining,
    /// Mapping ambiguous objects by pages of 4 KiB.
    SmallPages,
    /// Freeing typed objects by hand.
    ExplicitFree,
    /// Looking whether there is what is to be freed by hand, where this CPU's cache does not say so.
    FreeCheck,
}

#[cfg(feature = "switch-off")]
mod bits {
    use super::Mechanism;
    use core::sync::atomic::{AtomicU64, Ordering};

    #[unsafe(link_section = ".bss.runtime")]
    static OFF: AtomicU64 = AtomicU64::new(0);

    /// Switched on again when dropped.
    #[must_use]
    pub struct Off(Mechanism);

    /// Switches `mechanism` off for as long as the answer lives.
    pub fn disable(mechanism: Mechanism) -> Off {
        OFF.fetch_or(1 << mechanism as u64, Ordering::SeqCst);
        Off(mechanism)
    }

    impl Drop for Off {
        fn drop(&mut self) {
            OFF.fetch_and(!(1 << self.0 as u64), Ordering::SeqCst);
        }
    }

    /// Whether it is switched off just now.
    pub fn is_off(mechanism: Mechanism) -> bool {
        OFF.load(Ordering::Relaxed) & (1 << mechanism as u64) != 0
    }
}

#[cfg(feature = "switch-off")]
pub use bits::{Off, disable, is_off};

/// Whether it is switched off just now.
#[cfg(not(feature = "switch-off"))]
pub const fn is_off(_: Mechanism) -> bool {
    false
}

//! What the runtime asks of what is under it: a machine, or a process.
//!
//! All of it is slow path, so one object-safe trait serves, and nothing in the runtime carries a type parameter for it.
//! The other direction, what the platform tells the runtime, is [`crate::upcall`].
//!
//! Memory has Go's states (mem.go): a range is *reserved* (addresses that nobody else uses; touching it faults),
//! then parts of it are *committed* (backed by frames, contents unspecified), and may be *decommitted* again.
//!
//! Unsafe here: one static in a section of its own.

#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, Range};
use crate::symbols::Symbols;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use spin::Once;

/// What a function may keep below RSP without saying so. Bare-metal code is compiled without: there an interrupt may write below RSP.
pub const RED_ZONE: Bytes = Bytes(if cfg!(target_os = "none") { 0 } else { 128 });

/// There are no frames left; `left` says how much memory is still free (less than was asked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames {
    pub left: Bytes,
}

/// Whose words these are. The console may be one wire; readers of the program's output want only the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What the program prints: Go's standard output.
    Program,
    /// What the runtime and the machine report: Go's standard error.
    Report,
}

/// The register file of an interrupted thread, in the order in which the trap stub pushes it (lowest address first).
/// The collector scans all of it; writing to it changes what the interrupted thread sees when it goes on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    pub r15: usize,
    pub r14: usize,
    pub r13: usize,
    pub r12: usize,
    pub r11: usize,
    pub r10: usize,
    pub r9: usize,
    pub r8: usize,
    pub rbp: usize,
    pub rdi: usize,
    pub rsi: usize,
    pub rdx: usize,
    pub rcx: usize,
    pub rbx: usize,
    pub rax: usize,
    /// The trap's number and error code, so that one layout serves every vector.
    pub vector: usize,
    pub error_code: usize,
    pub rip: usize,
    pub cs: usize,
    pub rflags: usize,
    pub rsp: usize,
    pub ss: usize,
}

/// What the platform's unwinder notes about an exception under way; the size is that of every unwinder's for x86_64. It lies in the
/// thread's record, for a panic needs no memory.
#[repr(C, align(16))]
#[derive(Debug, Default)]
pub struct Exception(pub UnsafeCell<[usize; 8]>);

/// # Safety
/// The runtime builds on it: reserved ranges are disjoint and nobody else's, committed memory is there until it is decommitted, the
/// static roots may be read, and what the verbs say of interrupts and handlers holds.
pub unsafe trait Platform: Sync {
    /// Addresses for `bytes` (a multiple of 4096), aligned to `align` (a power of two, at least 4096). Never given back.
    /// `None` if the address plan has no such room. Takes no memory.
    fn reserve(&self, bytes: Bytes, align: usize) -> Option<Range>;

    /// Backs a reserved range (whole 4 KiB pages) with frames: readable, writable, never executable. All or nothing.
    /// The contents are unspecified, but see [`commits_zeroes`](Platform::commits_zeroes). Uses 2 MiB frames where the
    /// range and the free memory allow.
    fn commit(&self, range: Range) -> Result<(), OutOfFrames>;

    /// Whether [`commit_small`](Platform::commit_small) is of any use: the platform can tell which pages were written to.
    fn has_small_pages(&self) -> bool {
        false
    }

    /// [`commit`](Platform::commit) by pages of 4 KiB alone.
    fn commit_small(&self, range: Range) -> Result<(), OutOfFrames> {
        self.commit(range)
    }

    /// Whether what [`commit`](Platform::commit) backs, the first time or again, is always zero.
    fn commits_zeroes(&self) -> bool {
        false
    }

    /// Takes the frames of a committed range back; a later touch faults, or finds zeroes where nothing grows by faults. Parts that are not
    /// committed are passed over. `false`: the platform could not forbid that touch, the contents are gone and the range is committed as
    /// it was.
    fn decommit(&self, range: Range) -> bool;

    /// [`commit`](Platform::commit) for the page-fault handler: interrupts are off, no lock that the interrupted code may hold
    /// is taken, frames and table pages come from this CPU's reserve.
    fn grow_in_fault(&self, range: Range) -> Result<(), OutOfFrames>;

    /// Memory that could still be committed.
    fn free_memory(&self) -> Bytes;

    /// How much of a range is mapped by pages of 2 MiB, if the platform can tell. Costs a look at each 2 MiB of it.
    fn on_huge_pages(&self, range: Range) -> Option<Bytes> {
        let _ = range;
        None
    }

    /// The writable globals: every place outside heap, stacks and thread records that may hold a reference.
    fn static_roots(&self) -> &[Range];

    fn cpu_count(&self) -> usize;

    /// Points GS of the calling CPU at its header, for as long as the CPU runs.
    fn set_cpu_header(&self, header: usize);

    /// Sends the safepoint interrupt to every other CPU.
    fn interrupt_others(&self);

    /// Waits with interrupts on until one has been handled. Called with interrupts off, returns with them off, so that no
    /// wake-up between the caller's last look and the wait is lost.
    fn halt(&self);

    /// Interrupts off (`false`) or on (`true`) on this CPU; returns how they were. For the idle loop and the switch only.
    fn set_interrupts(&self, on: bool) -> bool;

    /// Nanoseconds since boot, monotonic, the same on all CPUs.
    fn now(&self) -> u64;

    /// A number that nobody can foretell, as far as the platform has one; from the clock if it has none.
    fn random(&self) -> u64;

    /// One timer interrupt on this CPU at `at_ns` (at once if that is past); replaces an earlier setting.
    fn set_timer(&self, at_ns: u64);

    /// Console bytes. May be called anywhere, handlers included; never blocks on a lock that the interrupted code may hold.
    fn write(&self, to: Stream, bytes: &[u8]);

    /// The word at an aligned address, if there is memory that may be read. In any context. For backtraces, as the next two.
    fn read(&self, at: Address) -> Option<usize> {
        let _ = at;
        None
    }

    /// The registers of what a trap has interrupted, if `return_address` is where its handler returns to. `above` is the address
    /// above the return address's own.
    fn interrupted(&self, return_address: usize, above: usize) -> Option<Registers> {
        let _ = (return_address, above);
        None
    }

    /// Names for our functions, and the address from which they count.
    fn symbols(&self) -> Option<(&Symbols<'static>, Address)> {
        None
    }

    /// Calls `f`; true if an exception ended it.
    fn catch(&self, f: &mut dyn FnMut()) -> bool;

    /// Unwinds the calling thread to its innermost [`catch`](Platform::catch), running destructors on the way. Takes no
    /// memory but 17 KiB of stack. Returns only if there is no way there.
    fn raise(&self, exception: &Exception);

    /// Ends the machine with a status: 0 done, 1 the program failed, 2 a fatal runtime error.
    fn exit(&self, status: u8) -> !;
}

#[unsafe(link_section = ".bss.runtime")]
static PLATFORM: Once<&'static dyn Platform> = Once::new();

/// Whether there is one yet, and so a CPU's header.
pub(crate) fn is_started() -> bool {
    PLATFORM.get().is_some()
}

/// The platform that [`crate::start`] was given.
///
/// # Panics
/// Before the start there is none.
pub(crate) fn platform() -> &'static dyn Platform {
    *PLATFORM.get().expect("the runtime has been started")
}

pub(crate) fn set_platform(platform: &'static dyn Platform) {
    PLATFORM.call_once(|| platform);
    FREE_AT_START.store(platform.free_memory().0, Relaxed);
}

#[unsafe(link_section = ".bss.runtime")]
static FREE_AT_START: AtomicUsize = AtomicUsize::new(0);

/// What there was before the runtime had taken any memory.
pub(crate) fn free_at_start() -> Bytes {
    Bytes(FREE_AT_START.load(Relaxed))
}

/// What the platform has given since and not got back: heap, stacks, records, and what it takes for them itself, page tables say. Go:
/// `mappedReady`.
pub(crate) fn mapped() -> Bytes {
    Bytes(free_at_start().0.saturating_sub(platform().free_memory().0))
}

/// Where a fault happened, for the upcall.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub address: Address,
    /// A store (or an instruction fetch when `execute`) rather than a load.
    pub write: bool,
    pub execute: bool,
    /// The page is there and the access is forbidden, rather than absent.
    pub present: bool,
}

/// What the runtime says of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The page is there now, or the registers lead elsewhere: return from the interrupt.
    Resume,
    /// Not the runtime's business: a bug. Print and stop.
    Fatal,
}

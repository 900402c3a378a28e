//! Stacks that grow where they are.
//!
//! Go checks at every function's entry whether the stack has room, and if not copies it to one of twice the size and mends every
//! pointer into it (stack.go). Rust's frames cannot be moved, so here the MMU does the check, and nothing moves:
//!
//! 1. A thread's stack is a *slot* of reserved addresses. At first only its top page is committed.
//! 2. A push below the committed part faults. The fault handler doubles the committed part ([`Stack::grow_in_fault`]), by at most
//!    [`LARGEST_STEP`], so that no fault takes long; the interrupted instruction is done again and never knows. If no frames are left, the
//!    memory of the heap's free pages goes back first, a run at a time.
//! 3. At the thread's limit it does not grow: the thread overflows and ends; no other does.
//! 4. Below the limit lies a reserve for a panic that is raised near it, below that a small one for what must not be interrupted by an
//!    overflow (a no-safepoint section), and below that the *guard page*, which is never present. Rust's compiler touches every page of a
//!    large frame in order, so no frame can step over it.
//!
//! ```text
//!  low                                                                                   top
//!   | guard page | reserve  | reserve  |     reserved, not committed    |   committed   |
//!   never present  sections   panics     <- grows by faults                RSP is here
//!                  only       only     ^ limit_low                         ^ committed_low
//! ```
//!
//! 5. When the thread has ended, the slot is trimmed to a few pages and stays with the thread's record for the next thread.
//!
//! Frames of stacks are not zeroed: only RSP to top is ever scanned.
//!
//! Unsafe here: statics in a section of their own.
#![allow(unsafe_code)]

use crate::addr::{Address, Bytes, GIB, KIB, MIB, Range};
use crate::platform::{Fault, OutOfFrames, platform};
use crate::switch_off::{self, Mechanism};
use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Once;

/// The limit of a thread that asked for none. Go: 1 GB (`maxstacksize`).
pub(crate) const DEFAULT_LIMIT: Bytes = Bytes(64 * MIB);

/// The most that one fault commits: 64 frames, tens of microseconds.
const LARGEST_STEP: usize = 256 * KIB;

const MACHINE_PAGE: usize = 4 * KIB;
const GUARD: usize = MACHINE_PAGE;
/// For sections that began just above the limit.
const RESERVE: usize = 32 * KIB;
pub(crate) const SECTION_RESERVE: Bytes = Bytes(RESERVE);
/// The addresses of all slots, if the platform has so many.
pub(crate) const ALL: Bytes = Bytes(64 << 40);
/// For an unwinder that starts at the limit, and for the destructors that it calls there. It takes 17 KiB; a test measures it.
const PANIC_RESERVE: usize = 24 * KIB;
/// What a slot keeps committed between two threads.
const KEPT: usize = 16 * KIB;

/// All slots lie in one range; nobody gives addresses back, a slot is reused with its record.
#[unsafe(link_section = ".bss.runtime")]
static SLOTS: Once<Slots> = Once::new();

/// Growth faults so far, outside and inside no-safepoint sections. The second is to stay zero: a section's beginning touches what it
/// will need. A fault inside is answered from the reserve all the same.
#[unsafe(link_section = ".bss.runtime")]
pub(crate) static GROWTHS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Memory of all stacks, those that wait for a thread among them.
#[unsafe(link_section = ".bss.runtime")]
static COMMITTED: AtomicUsize = AtomicUsize::new(0);

/// Memory of all stacks, those that wait for a thread among them. Go: `StackSys`.
pub(crate) fn committed() -> Bytes {
    Bytes(COMMITTED.load(Ordering::Relaxed))
}

struct Slots {
    range: Range,
    next: spin::Mutex<Address>,
}

/// The address range of one thread's stack, and how much of it is committed. Only handlers that interrupted the owner thread, and the
/// thread that starts or ends it, change it.
pub(crate) struct Stack {
    slot: Range,
    limit: Bytes,
    committed_low: Cell<Address>,
}

/// What becomes of a fault in a stack's slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Grown,
    /// The limit: the thread ends.
    Overflow,
    /// No frames: the thread ends.
    NoMemory,
    /// Not an access that a stack pointer can make: a wild pointer.
    Wild,
}

/// Reserves the addresses of all stacks.
pub(crate) fn set_up() {
    SLOTS.call_once(|| {
        // As much of it as the platform has.
        let sizes = core::iter::successors(Some(ALL), |bytes| Some(Bytes(bytes.0 / 2)).filter(|half| half.0 >= GIB));
        let range = sizes.into_iter().find_map(|bytes| platform().reserve(bytes, 2 * MIB));
        let range = range.expect("the address plan has a GiB at the least for stacks");
        Slots { range, next: spin::Mutex::new(range.start) }
    });
}

/// The least limit that allows for so many bytes: whole pages, at least one, at most all there are.
pub(crate) const fn limit_of(bytes: Bytes) -> Bytes {
    match bytes.0 < ALL.0 {
        true if bytes.0 > 0 => Bytes(bytes.0.next_multiple_of(MACHINE_PAGE)),
        true => Bytes(MACHINE_PAGE),
        false => ALL,
    }
}

/// Whether an address is a thread's stack's, whosever.
pub(crate) fn is_in_slots(address: Address) -> bool {
    SLOTS.get().is_some_and(|slots| slots.range.contains(address))
}

impl Stack {
    /// A slot of its own for a stack of up to `limit`, one of [`limit_of`]'s. `None` when all 64 TiB of addresses are taken.
    pub(crate) fn reserve(limit: Bytes) -> Option<Stack> {
        let slots = SLOTS.get()?;
        let size = Bytes(limit.0.checked_add(GUARD + RESERVE + PANIC_RESERVE)?);
        let mut next = slots.next.lock();
        if size.0 > slots.range.end.0 - next.0 {
            return None;
        }
        let slot = Range::new(*next, size);
        *next = slot.end;
        Some(Stack { slot, limit, committed_low: Cell::new(slot.end) })
    }

    /// Makes the top page present, for the first frame.
    pub(crate) fn commit_first_page(&self) -> Result<(), OutOfFrames> {
        if self.committed_low.get() == self.slot.end {
            let low = self.slot.end.minus(Bytes(MACHINE_PAGE));
            platform().commit(Range { start: low, end: self.slot.end })?;
            self.set_committed_low(low);
        }
        Ok(())
    }

    /// Gives back all but a few pages: the thread has ended, nothing on the stack is needed.
    pub(crate) fn trim(&self) {
        let keep = self.slot.end.minus(Bytes(KEPT));
        self.give_back(keep);
    }

    /// Whether it has grown beyond what a slot keeps.
    pub(crate) fn has_surplus(&self) -> bool {
        self.committed().0 > KEPT
    }

    /// Takes back what lies below the limit: the panic is over, and the next one needs it anew. `sp` is what the thread uses.
    pub(crate) fn take_reserve_back(&self, sp: usize) {
        let keep = self.limit_low().min(Address(sp).align_down(MACHINE_PAGE));
        self.give_back(keep);
    }

    /// What can still be touched without a fault stays this stack's: below `committed_low` the collector does not look.
    fn give_back(&self, keep: Address) {
        let low = self.committed_low.get();
        if low < keep && platform().decommit(Range { start: low, end: keep }) {
            self.set_committed_low(keep);
        }
    }

    fn set_committed_low(&self, low: Address) {
        // The sum of differences modulo 2⁶⁴ is right, whatever their signs.
        COMMITTED.fetch_add(self.committed_low.replace(low).0.wrapping_sub(low.0), Ordering::Relaxed);
    }

    /// Whether all of a range is memory of this stack.
    pub(crate) fn has_committed(&self, range: Range) -> bool {
        self.committed_low.get() <= range.start && range.end <= self.slot.end
    }

    pub(crate) fn reaches_into_reserve(&self) -> bool {
        self.committed_low.get() < self.limit_low()
    }

    pub(crate) fn top(&self) -> Address {
        self.slot.end
    }

    pub(crate) fn committed_low(&self) -> Address {
        self.committed_low.get()
    }

    pub(crate) fn limit(&self) -> Bytes {
        self.limit
    }

    pub(crate) fn committed(&self) -> Bytes {
        Bytes(self.slot.end.0 - self.committed_low.get().0)
    }

    /// Whether the address lies in this slot, its guard page included.
    pub(crate) fn contains(&self, address: Address) -> bool {
        self.slot.contains(address)
    }

    pub(crate) fn contains_sp(&self, sp: usize) -> bool {
        self.slot.start.0 < sp && sp <= self.slot.end.0
    }

    fn limit_low(&self) -> Address {
        self.slot.end.minus(self.limit)
    }

    /// Answers a fault of this stack's own thread with RSP at `sp`. In the fault handler: interrupts off, no lock taken.
    ///
    /// Costs one mapping per page, at most [`LARGEST_STEP`] of them.
    pub(crate) fn grow_in_fault(&self, fault: &Fault, sp: usize, in_section: bool, is_panicking: bool) -> Growth {
        let low = self.committed_low.get();
        let near_sp = sp.saturating_sub(2 * MACHINE_PAGE);
        if fault.present
            || fault.execute
            || fault.address >= low
            || fault.address.0 < near_sp
            || switch_off::is_off(Mechanism::GrowthFault)
        {
            return Growth::Wild;
        }
        self.grow_to(fault.address, in_section, is_panicking)
    }

    /// Grows, outside sections, so that the thread may use its stack down to `low`, as if it had touched it. In a handler that has
    /// interrupted the thread. False if it may not, or there are no frames.
    pub(crate) fn make_room(&self, low: Address, is_panicking: bool) -> bool {
        let committed = self.committed_low.get();
        self.floor(false, is_panicking) <= low
            && (committed <= low
                || committed.0 - low.0 <= LARGEST_STEP && self.grow_to(low, false, is_panicking) == Growth::Grown)
    }

    /// Down to here the stack may grow.
    fn floor(&self, in_section: bool, is_panicking: bool) -> Address {
        match in_section {
            _ if switch_off::is_off(Mechanism::GuardPage) => self.slot.start,
            true => self.slot.start.plus(Bytes(GUARD)),
            false if is_panicking && !switch_off::is_off(Mechanism::PanicReserve) => {
                self.limit_low().minus(Bytes(PANIC_RESERVE))
            }
            false => self.limit_low(),
        }
    }

    /// Doubles the committed part, or more, until `address` belongs to it.
    fn grow_to(&self, address: Address, in_section: bool, is_panicking: bool) -> Growth {
        let (low, floor) = (self.committed_low.get(), self.floor(in_section, is_panicking));
        if address < floor {
            return Growth::Overflow;
        }
        let page = address.align_down(MACHINE_PAGE);
        let doubled = Address(low.0 - self.committed().0.clamp(MACHINE_PAGE, LARGEST_STEP));
        // What the sections' reserve has taken may already reach below a thread's own floor.
        let wanted = doubled.max(floor).min(page);
        // All that, or only what is touched.
        let grows_to = |start: &Address| platform().grow_in_fault(Range { start: *start, end: low }).is_ok();
        let Some(start) = [wanted, page].into_iter().find(grows_to) else { return Growth::NoMemory };
        GROWTHS[usize::from(in_section)].fetch_add(1, Ordering::Relaxed);
        self.set_committed_low(start);
        Growth::Grown
    }
}

#[cfg(test)]
impl Stack {
    /// No stack at all, with no memory.
    pub(crate) fn nowhere() -> Stack {
        Stack { slot: Range::EMPTY, limit: Bytes(0), committed_low: Cell::new(Address(0)) }
    }
}

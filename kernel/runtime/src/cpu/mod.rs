//! This CPU: its header behind GS, and the sections in which it has no safepoint.
//!
//! A thread may be stopped between any two of its instructions, and may go on much later. What must not be torn apart
//! (the allocator's fast path, a runtime lock, the switch itself) runs in a *no-safepoint section*: a counter in this
//! CPU's header. While it is not zero, an interrupt only notes what is to be done ([`Section::note`]); the end of
//! the outermost section does it.
//!
//! 1. [`SafepointsHeld::enter`] touches the stack below RSP, so that the stack grows now, or the thread overflows now, while it may:
//!    inside a section there is no good answer to either. Then it counts up.
//!    An allocation, never inside another section, begins its own by a store instead ([`Allocating::enter`]).
//! 2. Leaving counts down, and the same instruction says whether anything was noted. An interrupt before it notes, one
//!    behind it sees a zero counter and acts by itself, so nothing is missed (held.rs, section.rs).
//! 3. Slow paths that need more stack than that run on the CPU's own stack ([`SafepointsHeld::on_system_stack`], Go's `systemstack`;
//!    stacks.rs).
//!
//! GS is read by assembly that is not `pure`: a thread may resume on another CPU, so the compiler must never reuse an
//! earlier answer. For the same reason a `&Cpu` lives only as long as a borrowed [`SafepointsHeld`].
//!
//! Unsafe here: the handler's count in the header behind GS.
#![allow(unsafe_code)]

mod held;
mod section;
mod stacks;

pub(crate) use held::{Allocating, ConstantClass, HEADROOM, SafepointsHeld, thread_outside_sections};
pub(crate) use stacks::{caller, here};

use crate::addr::Range;
use crate::gc::GreyWork;
use crate::heap::Cache;
use crate::platform::{Platform, Registers};
use crate::sched::{RunQueue, Sleepers, Spares, Thread};
use crate::switch_off::{self, Mechanism};
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ptr;
use section::{HANDLER, Section};

/// What a thread had in its registers when a handler interrupted it.
#[derive(Clone, Copy)]
pub(crate) struct Interrupted {
    pub(crate) registers: *const Registers,
    /// The rest that may hold references; see [`crate::upcall::timer`].
    pub(crate) extended: Range,
}

/// What one processor owns; Go's M and P in one. Composed of each room's own part.
#[repr(C)]
pub(crate) struct Cpu {
    this: Cell<*const Cpu>,
    section: Section,
    system_stack: Cell<Range>,
    current: Cell<Option<&'static Thread>>,
    /// While a handler acts for a thread it interrupted. The collector scans it.
    pub(crate) interrupted: Cell<Option<Interrupted>>,
    cache: UnsafeCell<Cache>,
    pub(crate) run_queue: RunQueue,
    pub(crate) spares: Spares,
    pub(crate) sleepers: Sleepers,
    grey: UnsafeCell<GreyWork>,
    /// Switches so far, and how many there were at the last tick: equal means that one thread had the CPU all the while.
    switches: Cell<u64>,
    switches_at_tick: Cell<u64>,
}

// SAFETY: only the CPU that GS names touches its header, inside a section or in a handler that found no section, and
// these two exclude each other.
unsafe impl Sync for Cpu {}

const SECTION: usize = offset_of!(Cpu, section);
const DEPTH: usize = offset_of!(Cpu, section.depth);
const _: () = assert!(SECTION == DEPTH && SECTION.is_multiple_of(8));

#[unsafe(link_section = ".data.runtime")]
static BOOT_CPU: Cpu = Cpu {
    this: Cell::new(ptr::null()),
    // Boot is one long section; thread 0 leaves it.
    section: Section::new(1),
    system_stack: Cell::new(Range::EMPTY),
    current: Cell::new(None),
    interrupted: Cell::new(None),
    cache: UnsafeCell::new(Cache::new()),
    run_queue: RunQueue::new(),
    spares: Spares::new(),
    sleepers: Sleepers::new(),
    grey: UnsafeCell::new(GreyWork::new()),
    switches: Cell::new(0),
    switches_at_tick: Cell::new(0),
};

impl Cpu {
    pub(crate) fn in_section(&self) -> bool {
        self.section.is_inside()
    }

    /// A handler takes the CPU for itself (`true`) or gives it back to a thread outside (`false`) or inside a section.
    pub(crate) fn set_in_section(&self, inside: bool) {
        self.section.set_inside(inside);
    }

    /// From a handler that found a section: act at its end.
    pub(crate) fn note(&self) {
        self.section.note();
    }

    /// Whether something was noted; it is forgotten by asking.
    pub(crate) fn take_note(&self) -> bool {
        self.section.take_note()
    }

    pub(crate) fn has_note(&self) -> bool {
        self.section.has_note()
    }

    /// Under gcstress: this section's end flushes the cache.
    pub(crate) fn note_empty_cache(&self) {
        self.section.note_empty_cache();
    }

    pub(crate) fn count_switch(&self) {
        self.switches.set(self.switches.get().wrapping_add(1));
    }

    /// Whether no switch has happened since this was last asked.
    pub(crate) fn stayed_since_tick(&self) -> bool {
        self.switches_at_tick.replace(self.switches.get()) == self.switches.get()
    }

    pub(crate) fn current(&self) -> Option<&'static Thread> {
        self.current.get()
    }

    pub(crate) fn set_current(&self, thread: Option<&'static Thread>) {
        self.current.set(thread);
    }

    pub(crate) fn system_stack_top(&self) -> usize {
        self.system_stack.get().end.0
    }
}

/// Points GS at the boot CPU's header. Before this no section may be entered.
///
/// # Safety
/// Once, on the boot CPU; nobody else uses GS.
pub(crate) unsafe fn set_up(platform: &dyn Platform, system_stack: Range) {
    let cpu = &BOOT_CPU;
    cpu.this.set(cpu);
    cpu.system_stack.set(system_stack);
    platform.set_cpu_header(ptr::from_ref(cpu).expose_provenance());
}

/// The boot CPU's header for a handler, which is in a section of its own as long as it runs.
///
/// # Safety
/// Interrupts are off and stay off.
pub(crate) unsafe fn in_handler() -> core::mem::ManuallyDrop<SafepointsHeld> {
    // SAFETY: with interrupts off nothing else runs on this CPU.
    unsafe { SafepointsHeld::assume() }
}

/// Counts a handler in (`true`) or out, if this CPU has its header yet. What the interrupted code finds when it goes on is as it was, or as
/// the handler has set it.
pub(crate) fn count_handler(is_in: bool) {
    if BOOT_CPU.this.get().is_null() || switch_off::is_off(Mechanism::HandlerCount) {
        return;
    }
    // SAFETY: GS points to this CPU's header; the counter is one word, changed by one instruction.
    unsafe {
        match is_in {
            true => {
                asm!("add qword ptr gs:[{section}], {handler}", section = const SECTION, handler = const HANDLER, options(nostack))
            }
            false => {
                asm!("sub qword ptr gs:[{section}], {handler}", section = const SECTION, handler = const HANDLER, options(nostack))
            }
        }
    }
}

/// How many sections the code that runs, or that a handler interrupted, is in. For reports.
pub(crate) fn sections() -> u32 {
    // SAFETY: only the counter is read, and nothing keeps the value.
    let held = unsafe { SafepointsHeld::assume() };
    if BOOT_CPU.this.get().is_null() { 0 } else { held.cpu().section.sections() }
}

/// The thread that this CPU runs, for a report: in any context, also before there is a CPU header.
pub(crate) fn reported_thread() -> Option<&'static Thread> {
    if BOOT_CPU.this.get().is_null() {
        return None;
    }
    // SAFETY: whoever reports a fatal error, or the end of a thread, lets nothing else run on this CPU meanwhile.
    unsafe { SafepointsHeld::assume() }.cpu().current()
}

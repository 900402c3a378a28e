//! This CPU: its header behind GS, and the sections in which it has no safepoint.
//!
//! A thread may be stopped between any two of its instructions, and may go on much later. What must not be torn apart
//! (the allocator's fast path, a runtime lock, the switch itself) runs in a *no-safepoint section*: a counter in this
//! CPU's header. While it is not zero, an interrupt only notes what is to be done ([`Section::note`]); the end of
//! the outermost section does it.
//!
//! 1. [`SafepointsHeld::enter`] touches the stack below RSP, so that the stack grows now, or the thread overflows now, while it may:
//!    inside a section there is no good answer to either. Then it counts up.
//! 2. Leaving counts down; at zero it looks whether anything was noted. An interrupt between the two sees a zero counter
//!    and acts by itself, so nothing is missed.
//! 3. Slow paths that need more stack than that run on the CPU's own stack ([`SafepointsHeld::on_system_stack`], Go's `systemstack`).
//!
//! GS is read by assembly that is not `pure`: a thread may resume on another CPU, so the compiler must never reuse an
//! earlier answer. For the same reason a `&Cpu` lives only as long as a borrowed [`SafepointsHeld`].
//!
//! Unsafe here: the reads through GS, the moves between stacks.
#![allow(unsafe_code)]

mod section;

use crate::addr::Range;
use crate::gc::GreyWork;
use crate::heap::Cache;
use crate::platform::{Platform, Registers};
use crate::sched::{RunQueue, Sleepers, Thread};
use crate::switch_off::{self, Mechanism};
use core::arch::{asm, naked_asm};
use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
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
    pub(crate) sleepers: Sleepers,
    grey: UnsafeCell<GreyWork>,
    /// Switches so far, and how many there were at the last tick: equal means that one thread had the CPU all the while.
    switches: Cell<u64>,
    switches_at_tick: Cell<u64>,
}

// SAFETY: only the CPU that GS names touches its header, inside a section or in a handler that found no section, and
// these two exclude each other.
unsafe impl Sync for Cpu {}

const DEPTH: usize = offset_of!(Cpu, section.depth);
const NOTED: usize = offset_of!(Cpu, section.noted);

/// Below RSP this much is mapped when a section begins: what a fast path, and the way to the system stack, may use. A whole page would
/// cost every thread its second page at its first section.
pub(crate) const HEADROOM: usize = 1024;

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
    sleepers: Sleepers::new(),
    grey: UnsafeCell::new(GreyWork::new()),
    switches: Cell::new(0),
    switches_at_tick: Cell::new(0),
};

/// Proof that this CPU is inside a no-safepoint section, and the section itself: it ends when this is dropped.
/// Not `Send`: it belongs to the CPU, and a thread does not change CPUs inside.
pub(crate) struct SafepointsHeld(PhantomData<*mut ()>);

impl SafepointsHeld {
    #[inline(always)]
    pub(crate) fn enter() -> SafepointsHeld {
        // SAFETY: reads one byte below RSP, which belongs to this stack (mapped, or grown by the fault), and counts in this
        // CPU's header.
        unsafe {
            asm!("test byte ptr [rsp - {headroom}], 0", "inc dword ptr gs:[{depth}]",
                 headroom = const HEADROOM, depth = const DEPTH, options(nostack));
        }
        SafepointsHeld(PhantomData)
    }

    /// A section for a thread that allocates: there must be none yet. A handler that allocates, or the runtime inside a section of its own,
    /// would collect in the midst of what the section protects.
    #[inline(always)]
    pub(crate) fn enter_first() -> SafepointsHeld {
        // SAFETY: reads this CPU's header.
        unsafe {
            asm!("cmp dword ptr gs:[{depth}], 0", "jne {nested}", depth = const DEPTH, nested = label { allocation_in_section() }, options(nostack))
        };
        SafepointsHeld::enter()
    }

    /// The section that the context already is: a handler, boot, the scheduler's own stack. Dropping it would end a section
    /// that somebody else began, so it must be forgotten.
    ///
    /// # Safety
    /// The section counter is not zero and stays so for the life of the value.
    pub(crate) unsafe fn assume() -> core::mem::ManuallyDrop<SafepointsHeld> {
        core::mem::ManuallyDrop::new(SafepointsHeld(PhantomData))
    }

    /// This CPU, for as long as the section is borrowed.
    #[inline(always)]
    pub(crate) fn cpu(&self) -> &Cpu {
        let this: *const Cpu;
        // SAFETY: GS points to this CPU's header since `set_up`; its first word is its own address.
        unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, readonly, preserves_flags)) };
        // SAFETY: headers are statics.
        unsafe { &*this }
    }

    /// This CPU's cache.
    ///
    /// # Safety
    /// One reference at a time: the caller does not call this again while it uses the first.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the section excludes every other user on this CPU")]
    pub(crate) unsafe fn cache(&self) -> &mut Cache {
        // SAFETY: the section keeps handlers and other threads off; the caller keeps itself off.
        unsafe { &mut *self.cpu().cache.get() }
    }

    /// This CPU's grey objects; for the collector.
    ///
    /// # Safety
    /// As [`SafepointsHeld::cache`].
    #[expect(clippy::mut_from_ref, reason = "the section excludes every other user on this CPU")]
    pub(crate) unsafe fn grey(&self) -> &mut GreyWork {
        // SAFETY: as for the cache.
        unsafe { &mut *self.cpu().grey.get() }
    }

    /// Runs `f` on the CPU's own stack, with the callee-saved registers pushed on the thread's, where the collector scans them.
    /// Already there, it just calls.
    pub(crate) fn on_system_stack<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Call<F, R>(Option<F>, Option<R>);

        extern "sysv64" fn run<F: FnOnce() -> R, R>(call: *mut ()) {
            // SAFETY: `call` is the `Call<F, R>` below, which outlives the call.
            let call = unsafe { &mut *call.cast::<Call<F, R>>() };
            call.1 = call.0.take().map(|f| f());
        }

        fn entry<F: FnOnce() -> R, R>(_: &F) -> extern "sysv64" fn(*mut ()) {
            run::<F, R>
        }

        let cpu = self.cpu();
        let thread = match cpu.current.get() {
            Some(thread) if thread.stack().contains_sp(stack_pointer()) => thread,
            _ => return f(),
        };
        let entry = entry(&f);
        let mut call = Call(Some(f), None);
        let arg = ptr::from_mut(&mut call).cast();
        // SAFETY: a thread runs here (checked), so nobody is on the system stack; `saved_sp` is this thread's own.
        unsafe { call_on(entry, arg, cpu.system_stack.get().end.0, thread.saved_sp()) };
        match call.1 {
            Some(result) => result,
            None => crate::throw!("expected the call on the system stack to have returned a value, found none"),
        }
    }
}

impl Drop for SafepointsHeld {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: ends the section that `enter` began on this CPU. The cold call happens with the counter at zero.
        unsafe {
            asm!("dec dword ptr gs:[{depth}]", "jnz 2f", "cmp dword ptr gs:[{noted}], 0", "jne {act}", "2:",
                 depth = const DEPTH, noted = const NOTED, act = label { act_on_notes() }, options(nostack));
        }
    }
}

#[cold]
#[inline(never)]
fn allocation_in_section() -> ! {
    crate::throw!("expected nobody to allocate or free inside a no-safepoint section or a handler")
}

/// Does what handlers noted during the section that has just ended.
#[cold]
#[inline(never)]
fn act_on_notes() {
    let held = SafepointsHeld::enter();
    if held.cpu().section.take_empty_cache() {
        // SAFETY: nobody else uses the cache in this section.
        held.on_system_stack(|| unsafe { held.cache() }.flush(&crate::gc::HEAP));
    }
    if held.cpu().take_note() {
        crate::tick::tick_in_thread(&held);
    }
}

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
        self.switches.set(self.switches.get() + 1);
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
                asm!("add dword ptr gs:[{depth}], {handler}", depth = const DEPTH, handler = const HANDLER, options(nostack))
            }
            false => {
                asm!("sub dword ptr gs:[{depth}], {handler}", depth = const DEPTH, handler = const HANDLER, options(nostack))
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

/// The caller's address and frame pointer: where a backtrace starts, and on which stack we are.
#[inline(always)]
pub(crate) fn here() -> (usize, usize) {
    let (rip, rbp): (usize, usize);
    // SAFETY: reads two registers.
    unsafe {
        asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    (rip, rbp)
}

/// Where the function that this is inlined into returns to. That function keeps a frame pointer and is itself not inlined.
#[inline(always)]
pub(crate) fn caller() -> usize {
    let address: usize;
    // SAFETY: with a frame pointer the return address lies above the word at rbp.
    unsafe { asm!("mov {}, [rbp + 8]", out(reg) address, options(readonly, preserves_flags)) };
    address
}

/// The thread that this CPU runs, for a report: in any context, also before there is a CPU header.
pub(crate) fn reported_thread() -> Option<&'static Thread> {
    if BOOT_CPU.this.get().is_null() {
        return None;
    }
    // SAFETY: whoever reports a fatal error, or the end of a thread, lets nothing else run on this CPU meanwhile.
    unsafe { SafepointsHeld::assume() }.cpu().current()
}

/// The thread whose own code this is: on its own stack, outside any section, interrupts on. Uses next to no stack.
///
/// Each word is read by one instruction, and on whatever CPU that is: it says the same of the thread that reads it.
#[inline(always)]
pub(crate) fn thread_outside_sections() -> Option<&'static Thread> {
    const INTERRUPTS_ON: usize = 1 << 9;
    let (depth, thread, flags): (u32, *const Thread, usize);
    // SAFETY: reads this CPU's header and the flags. `Option<&Thread>` is a pointer, or null.
    unsafe {
        asm!("mov {depth:e}, gs:[{at_depth}]", "mov {thread}, gs:[{at_thread}]", "pushfq", "pop {flags}",
             depth = out(reg) depth, thread = out(reg) thread, flags = out(reg) flags,
             at_depth = const DEPTH, at_thread = const offset_of!(Cpu, current));
    }
    // SAFETY: records live for ever.
    let thread = unsafe { thread.as_ref() }?;
    let is_its_own = depth == 0 && flags & INTERRUPTS_ON != 0 && thread.stack().contains_sp(stack_pointer());
    is_its_own.then_some(thread)
}

#[inline(always)]
fn stack_pointer() -> usize {
    let rsp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// Pushes the callee-saved registers, stores RSP in `*saved_sp`, and calls `f(arg)` on the stack that ends at `top`.
///
/// # Safety
/// The stack is free and stays so until `f` returns; `top` is a multiple of 16.
#[unsafe(naked)]
unsafe extern "sysv64" fn call_on(
    f: extern "sysv64" fn(*mut ()),
    arg: *mut (),
    top: usize,
    saved_sp: *const Cell<usize>,
) {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rcx], rsp",
        "mov rsp, rdx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

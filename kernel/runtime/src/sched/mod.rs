//! Green threads on one CPU. Go: proc.go.
//!
//! 1. [`go`] takes a record with its stack from the free list (or makes one), puts the closure into the record's root slot, writes a
//!    first frame that enters `thread_start`, and queues the thread.
//! 2. A thread gives up the processor at [`yield_now`], when it parks ([`park`], [`sleep`], [`JoinHandle::join`]) and at its end. The switch
//!    goes straight to the next thread in the run queue (switch.rs).
//! 3. With nobody in the queue the CPU runs [`schedule`] on its own stack: it waits for the timer. When nobody sleeps either, nothing will
//!    ever happen again: that is Go's deadlock, and fatal.
//! 4. The timer's tick wakes sleepers, starts a collection that is due, and, if preemption is on, takes the processor from a thread
//!    that has kept it for a whole tick. It acts at once outside a no-safepoint section and at the section's end inside (cpu.rs).
//! 5. A thread that overflows its stack, or finds no memory, ends there: its joiner learns why, the others go on. When it is the
//!    main thread, the program ends with status 2.
//!
//! A thread is in one state and one place: on the CPU, in one queue, or parked. No runtime lock is held over a switch. Later
//! CPUs bring stealing, a global queue and the stopped world; with one CPU a section excludes everybody else.
//!
//! Unsafe here: the moves between stacks.
#![allow(unsafe_code)]

mod join;
mod run_queue;
mod sleep;
mod switch;
mod thread;

pub use join::JoinHandle;
pub(crate) use run_queue::RunQueue;
pub(crate) use sleep::Sleepers;
pub(crate) use thread::{RootSlots, State, Thread, WaitReason};

use crate::addr::Bytes;
use crate::allocator::{self, Exhausted};
use crate::cpu::{self, SafepointsHeld};
use crate::fatal::write_backtrace;
use crate::heap::FixedPool;
use crate::platform::{Fault, Registers, Verdict, platform};
use crate::stack::{self, Growth, Stack};
use crate::switch_off::{self, Mechanism};
use crate::{gc, report, throw};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Mutex;

/// How often the timer ticks while a thread runs; also the slice of preemption. Go: `forcePreemptNS`.
const TICK_NS: u64 = 10_000_000;

/// Why a thread ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its stack would have exceeded its limit.
    StackOverflow,
    /// No memory, even after a collection.
    OutOfMemory,
}

struct Threads {
    records: FixedPool<Thread>,
    /// Records whose thread has ended, most recent first: its stack is warm.
    free: Option<&'static Thread>,
    last_id: u64,
}

// SAFETY: records are touched by the one CPU, inside sections.
unsafe impl Send for Threads {}

#[unsafe(link_section = ".data.runtime")]
static THREADS: Mutex<Threads> = Mutex::new(Threads { records: FixedPool::new(), free: None, last_id: 0 });
#[unsafe(link_section = ".data.runtime")]
static PREEMPTION: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".data.runtime")]
static TICKS: AtomicU64 = AtomicU64::new(0);

/// How many threads may exist at once: as many as have stacks of the default limit in the reserved 64 TiB.
const MOST_THREADS: usize = 1 << 20;

/// The main thread's number, as in Go.
const MAIN: u64 = 1;

/// Settings of a thread to be started.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    stack_limit: Bytes,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    pub const fn new() -> Builder {
        Builder { stack_limit: stack::DEFAULT_LIMIT }
    }

    /// The most bytes its stack may grow to; rounded up to whole 4 KiB pages. Default: 64 MiB.
    pub const fn stack_limit(self, bytes: usize) -> Builder {
        Builder { stack_limit: Bytes(bytes) }
    }

    /// Starts a thread that runs `f`; it gets the processor when the caller gives it up.
    ///
    /// Takes a stack page and a few small heap objects; an error means that not even a collection found them.
    pub fn spawn<F, T>(self, f: F) -> Result<JoinHandle<T>, Exhausted>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = join::Shared::new();
        let theirs = shared.clone();
        let packet = shared.packet();
        let entry = Box::new(move || theirs.finish(f()));
        let slots = RootSlots { entry: Some(entry), packet: Some(packet) };
        let id = allocator::retrying(|slots| start_thread(self.stack_limit, slots), slots)?;
        Ok(JoinHandle::new(shared, id))
    }
}

/// Starts a thread, as Go's `go`. Out of memory ends the calling thread.
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(f).unwrap_or_else(|exhausted| allocator::out_of_memory(exhausted))
}

/// Gives the processor to the next runnable thread, if there is one. Go: `runtime.Gosched`.
pub fn yield_now() {
    let held = SafepointsHeld::enter();
    yield_in(&held);
}

/// Blocks this thread until somebody calls [`ThreadRef::ready`] for it; at once if somebody has since the last `park`.
pub fn park() {
    let held = SafepointsHeld::enter();
    let thread = current_in(&held);
    if !thread.ready_token.take() {
        park_in(&held, thread, WaitReason::Park);
        thread.ready_token.set(false);
    }
}

/// Blocks this thread for `ns` nanoseconds at least.
pub fn sleep(ns: u64) {
    let held = SafepointsHeld::enter();
    let thread = current_in(&held);
    let wake_at = platform().now().saturating_add(ns);
    if held.cpu().sleepers.add(thread, wake_at) {
        arm_timer(&held);
    }
    park_in(&held, thread, WaitReason::Sleep);
}

/// Names a thread, also after its end.
#[derive(Clone, Copy)]
pub struct ThreadRef {
    record: &'static Thread,
    id: u64,
}

// SAFETY: a record is only touched inside a section.
unsafe impl Send for ThreadRef {}
// SAFETY: as above.
unsafe impl Sync for ThreadRef {}

impl ThreadRef {
    /// The thread's number, as the reports print it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Ends the thread's [`park`], or makes its next one return at once. Nothing happens if the thread has ended.
    pub fn ready(&self) {
        let held = SafepointsHeld::enter();
        if self.record.id.get() == self.id {
            self.record.ready_token.set(true);
            if self.record.state.get() == State::Parked(WaitReason::Park) {
                ready(&held, self.record);
            }
        }
    }
}

/// The calling thread.
pub fn current() -> ThreadRef {
    let held = SafepointsHeld::enter();
    let record = current_in(&held);
    ThreadRef { record, id: record.id.get() }
}

/// Whether the timer takes the processor from a thread that keeps it (Go's behaviour) or threads only give it (the default).
/// `GODEBUG=asyncpreemptoff=0` switches it on from the start.
pub fn set_preemption(on: bool) {
    PREEMPTION.store(on, Ordering::Relaxed);
}

/// Timer ticks that were acted on, for tests of the safepoint.
pub fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// Sets up the records and becomes thread 1, which enters `main` on a stack of its own.
///
/// # Safety
/// Once, on the boot CPU's system stack, in the boot section, before any allocation from the heap.
pub(crate) unsafe fn start_main(main: extern "sysv64" fn() -> !) -> ! {
    let reserved = THREADS.lock().records.reserve(platform(), MOST_THREADS);
    assert!(reserved, "the address plan has room for {MOST_THREADS} thread records");
    // SAFETY: the caller promises to be in the boot section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = take_record(stack::DEFAULT_LIMIT).expect("a booted machine has a frame for the first stack");
    // SAFETY: the record is new, its top page committed.
    thread.saved_sp().set(unsafe { switch::first_frame(thread.stack().top().0, main) });
    arm_timer(&held);
    run(&held, thread)
}

/// Ends the boot section on the new main thread.
///
/// # Safety
/// First thing in the function that [`start_main`] or the first frame entered.
pub(crate) unsafe fn leave_first_section() {
    // SAFETY: a thread is entered inside a section, which ends here.
    drop(core::mem::ManuallyDrop::into_inner(unsafe { SafepointsHeld::assume() }));
}

/// A record and stack from the free list or new, state `Runnable`.
fn take_record(limit: Bytes) -> Result<&'static Thread, Exhausted> {
    let mut threads = THREADS.lock();
    let limit = Bytes(limit.0.max(1).next_multiple_of(4096));
    let reused = match threads.free {
        Some(thread) if thread.stack().limit() == limit => {
            threads.free = thread.next.take();
            Some(thread)
        }
        first => take_from_rest(first, limit),
    };
    let thread = match reused {
        Some(thread) => thread,
        None => {
            let stack = Stack::reserve(limit).ok_or(Exhausted { asked: limit, left: platform().free_memory() })?;
            let record = threads.records.take(platform(), || Thread::new(stack));
            record.map_err(|out| Exhausted { asked: Bytes(size_of::<Thread>()), left: out.left })?
        }
    };
    if let Err(out) = thread.stack().commit_first_page() {
        thread.next.set(threads.free.replace(thread));
        return Err(Exhausted { asked: Bytes(4096), left: out.left });
    }
    threads.last_id += 1;
    thread.id.set(threads.last_id);
    thread.state.set(State::Runnable);
    thread.ready_token.set(false);
    Ok(thread)
}

/// Unlinks the first record behind `first` whose stack has this limit.
fn take_from_rest(first: Option<&'static Thread>, limit: Bytes) -> Option<&'static Thread> {
    let mut before = first?;
    while let Some(thread) = before.next.get() {
        if thread.stack().limit() == limit {
            before.next.set(thread.next.take());
            return Some(thread);
        }
        before = thread;
    }
    None
}

fn start_thread(limit: Bytes, slots: RootSlots) -> Result<u64, (RootSlots, Exhausted)> {
    let held = SafepointsHeld::enter();
    let thread = match held.on_system_stack(|| take_record(limit)) {
        Ok(thread) => thread,
        Err(exhausted) => return Err((slots, exhausted)),
    };
    // SAFETY: the record is ours until it is queued.
    unsafe { *thread.slots.get() = slots };
    // SAFETY: the top page is committed and the stack not in use.
    thread.saved_sp().set(unsafe { switch::first_frame(thread.stack().top().0, thread_start) });
    thread.creator.set(current_in(&held).id.get());
    held.cpu().run_queue.push(thread);
    Ok(thread.id.get())
}

/// Where every thread but the first begins, inside the section of the switch.
extern "sysv64" fn thread_start() -> ! {
    let entry = {
        // SAFETY: see above.
        let held = unsafe { SafepointsHeld::assume() };
        let slots = current_in(&held).slots.get();
        // SAFETY: the record is this thread's.
        unsafe { (*slots).entry.take() }
    };
    // SAFETY: first thing but for taking the entry.
    unsafe { leave_first_section() };
    match entry {
        Some(entry) => entry(),
        None => throw!("expected a new thread's record to hold its closure, found none"),
    }
    core::mem::forget(SafepointsHeld::enter());
    leave_stack(retire_current)
}

/// Saves nothing that anybody will want and goes on with `f` on the CPU's own stack. In a section.
fn leave_stack(f: extern "sysv64" fn() -> !) -> ! {
    // SAFETY: the caller has entered a section that nobody leaves.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    // SAFETY: a thread runs, so the system stack is free; nobody will switch back.
    unsafe { switch::switch_to_stack(thread.saved_sp(), held.cpu().system_stack_top(), f) };
    throw!("expected thread {} not to go on after its end", thread.id.get())
}

/// On the system stack: the current thread has ended, its record and stack are free for the next.
extern "sysv64" fn retire_current() -> ! {
    // SAFETY: whoever came here is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    held.cpu().set_current(None);
    thread.stack().trim();
    thread.state.set(State::Free);
    // SAFETY: the thread has ended; nobody else writes its slots. A closure that was never taken is garbage, not dropped.
    core::mem::forget(unsafe { core::mem::replace(&mut *thread.slots.get(), RootSlots { entry: None, packet: None }) });
    let mut threads = THREADS.lock();
    thread.id.set(0);
    thread.next.set(threads.free.replace(thread));
    drop(threads);
    schedule(&held)
}

/// On the system stack: nobody runs. Waits for a thread to become runnable and runs it.
fn schedule(held: &SafepointsHeld) -> ! {
    loop {
        if held.cpu().take_note() {
            tick(held);
        }
        if let Some(next) = held.cpu().run_queue.pop() {
            run(held, next);
        }
        if held.cpu().sleepers.is_empty() {
            deadlock();
        }
        let were_on = platform().set_interrupts(false);
        if !held.cpu().has_note() {
            platform().halt();
        }
        platform().set_interrupts(were_on);
    }
}

extern "sysv64" fn schedule_from_park() -> ! {
    // SAFETY: `park_in` is in a section.
    let held = unsafe { SafepointsHeld::assume() };
    held.cpu().set_current(None);
    schedule(&held)
}

/// Runs `next` from the system stack, whose contents are needed no more.
fn run(held: &SafepointsHeld, next: &'static Thread) -> ! {
    let nobody = core::cell::Cell::new(0);
    go_on_with(held, &nobody, next);
    throw!("expected nobody to return to the scheduler's stack")
}

fn yield_in(held: &SafepointsHeld) {
    if let Some(next) = held.cpu().run_queue.pop() {
        let thread = current_in(held);
        thread.state.set(State::Runnable);
        held.cpu().run_queue.push(thread);
        go_on_with(held, thread.saved_sp(), next);
    }
}

fn park_in(held: &SafepointsHeld, thread: &'static Thread, reason: WaitReason) {
    thread.state.set(State::Parked(reason));
    match held.cpu().run_queue.pop() {
        Some(next) => go_on_with(held, thread.saved_sp(), next),
        // SAFETY: a thread runs, so the system stack is free.
        None => unsafe { switch::switch_to_stack(thread.saved_sp(), held.cpu().system_stack_top(), schedule_from_park) },
    }
}

/// Parks the current thread; `lock` protects what will make it ready. With one CPU nobody can look between the two steps.
fn park_unlocking<T>(held: &SafepointsHeld, lock: spin::MutexGuard<'_, T>, reason: WaitReason) {
    drop(lock);
    park_in(held, current_in(held), reason);
}

/// Makes a parked thread runnable.
fn ready(held: &SafepointsHeld, thread: &'static Thread) {
    thread.state.set(State::Runnable);
    held.cpu().run_queue.push(thread);
}

/// Switches to `next`; returns when somebody switches to `saved_sp`.
fn go_on_with(held: &SafepointsHeld, saved_sp: &core::cell::Cell<usize>, next: &'static Thread) {
    let cpu = held.cpu();
    enter_thread(cpu, next);
    if next.is_interrupted.take() {
        if cpu.has_note() {
            // It goes on outside any section whose end would act: let the timer ask again.
            platform().set_timer(platform().now());
        }
        // SAFETY: in a section; an interrupt outside a section saved the registers.
        unsafe { switch::switch_to_interrupted(saved_sp, next.registers.get()) };
    } else {
        // SAFETY: in a section; `next` was saved by a switch or is new.
        unsafe { switch::switch(saved_sp, next.saved_sp().get()) };
    }
}

fn enter_thread(cpu: &cpu::Cpu, thread: &'static Thread) {
    thread.state.set(State::Running);
    cpu.set_current(Some(thread));
    cpu.count_switch();
}

fn current_in(held: &SafepointsHeld) -> &'static Thread {
    match held.cpu().current() {
        Some(thread) => thread,
        None => throw!("expected a thread on this CPU, found none: only threads block, spawn and allocate"),
    }
}

/// One timer interrupt at the next tick, or earlier if a sleeper is due.
fn arm_timer(held: &SafepointsHeld) {
    let tick = platform().now() + TICK_NS;
    platform().set_timer(held.cpu().sleepers.first_wake_ns().map_or(tick, |wake| wake.min(tick)));
}

/// What a tick does wherever it finds the CPU. Not on a thread's stack.
fn tick(held: &SafepointsHeld) {
    TICKS.fetch_add(1, Ordering::Relaxed);
    let now = platform().now();
    while let Some(thread) = held.cpu().sleepers.take_due(now) {
        ready(held, thread);
    }
    gc::collect_if_due(held, now);
    arm_timer(held);
}

fn is_to_be_preempted(held: &SafepointsHeld) -> bool {
    let stayed = held.cpu().stayed_since_tick();
    PREEMPTION.load(Ordering::Relaxed) && stayed && !held.cpu().run_queue.is_empty()
}

/// The tick that came in a section, at the section's end.
pub(crate) fn tick_in_thread(held: &SafepointsHeld) {
    held.on_system_stack(|| tick(held));
    if is_to_be_preempted(held) {
        yield_in(held);
    }
}

/// The timer's interrupt. On its own stack, interrupts off.
pub(crate) fn timer(registers: &mut Registers) {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    if switch_off::is_off(Mechanism::TimerStop) {
        return arm_timer(&held);
    }
    if cpu.in_section() {
        return cpu.note();
    }
    let thread = current_in(&held);
    cpu.set_in_section(true);
    cpu.take_note();
    thread.saved_sp().set(registers.rsp);
    cpu.interrupted.set(registers);
    tick(&held);
    cpu.interrupted.set(core::ptr::null());
    let resumes_in_section = is_to_be_preempted(&held) && preempt(&held, thread, registers);
    cpu.set_in_section(resumes_in_section);
}

/// Puts the interrupted thread at the queue's end and makes the interrupt return into the first. True if that one goes on inside a section.
fn preempt(held: &SafepointsHeld, thread: &'static Thread, registers: &mut Registers) -> bool {
    let Some(next) = held.cpu().run_queue.pop() else { return false };
    // SAFETY: the thread's own record; it is not running any more.
    unsafe { *thread.registers.get() = *registers };
    thread.is_interrupted.set(true);
    thread.state.set(State::Runnable);
    held.cpu().run_queue.push(thread);
    enter_thread(held.cpu(), next);
    if next.is_interrupted.take() {
        // SAFETY: saved when `next` was interrupted.
        *registers = unsafe { *next.registers.get() };
        return false;
    }
    registers.rip = switch::landing as *const () as usize;
    registers.rsp = next.saved_sp().get();
    true
}

/// A page fault. On its own stack, interrupts off, no lock taken.
pub(crate) fn page_fault(fault: &Fault, registers: &mut Registers) -> Verdict {
    // SAFETY: interrupts are off until the handler returns.
    let held = unsafe { cpu::in_handler() };
    let cpu = held.cpu();
    let Some(thread) = cpu.current().filter(|thread| thread.stack().contains(fault.address)) else { return Verdict::Fatal };
    let failure = match thread.stack().grow_in_fault(fault, registers.rsp, cpu.in_section()) {
        Growth::Grown => return Verdict::Resume,
        Growth::Wild => return Verdict::Fatal,
        Growth::Overflow => Failure::StackOverflow,
        Growth::NoMemory(_) => Failure::OutOfMemory,
    };
    if cpu.in_section() {
        throw!("expected {:?} of stack to suffice for a no-safepoint section, found {failure} at {}", stack::SECTION_RESERVE, fault.address);
    }
    report!("runtime: goroutine {} stack exceeds {}-byte limit\n{failure}", thread.id.get(), thread.stack().limit().0);
    write_backtrace(registers.rip, registers.rbp);
    thread.failure.set(Some(failure));
    cpu.set_in_section(true);
    registers.rip = end_failed as *const () as usize;
    registers.rbp = 0;
    registers.rsp = cpu.system_stack_top() - 8;
    Verdict::Resume
}

/// Ends the calling thread without a result; ends the program if it is the main thread.
pub(crate) fn fail_current(failure: Failure) -> ! {
    core::mem::forget(SafepointsHeld::enter());
    // SAFETY: just entered, never left.
    let held = unsafe { SafepointsHeld::assume() };
    current_in(&held).failure.set(Some(failure));
    leave_stack(end_failed)
}

/// On the system stack, in a section: the current thread is over before its end.
extern "sysv64" fn end_failed() -> ! {
    // SAFETY: both ways here are in a section.
    let held = unsafe { SafepointsHeld::assume() };
    let thread = current_in(&held);
    if thread.id.get() == MAIN {
        platform().exit(2);
    }
    // SAFETY: the thread's closure lies on its stack and still holds the packet.
    if let (Some(failure), Some(packet)) = (thread.failure.take(), unsafe { (*thread.slots.get()).packet }) {
        // SAFETY: see above.
        unsafe { (*packet).fail(failure) };
    }
    retire_current()
}

/// Calls `f` with every record in use; for the collector.
pub(crate) fn for_each_thread(mut f: impl FnMut(&Thread)) {
    let threads = THREADS.lock();
    threads.records.all().filter(|thread| thread.state.get() != State::Free).for_each(|thread| f(thread));
}

/// Go's words for it, and Go's status.
fn deadlock() -> ! {
    report!("fatal error: all goroutines are asleep - deadlock!");
    for_each_thread(|thread| {
        if let State::Parked(reason) = thread.state.get() {
            report!("\ngoroutine {} [{}]:", thread.id.get(), reason.words());
            // SAFETY: a parked thread's frame is as `switch` left it: six registers, then the return address.
            let (rip, rbp) = unsafe { switch::saved_frame(thread.saved_sp().get()) };
            write_backtrace(rip, rbp);
        }
    });
    platform().exit(2)
}

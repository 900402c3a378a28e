//! The collector: mark-sweep; it marks in one stop of the world, and sweeps while the program runs. Go: mgc.go under
//! `GODEBUG=gcstoptheworld=1`. With `=2` it sweeps within the stop: the textbook's collector.
//!
//! 1. *When.* An allocation that finds the heap at its trigger comes back and collects first (allocator.rs); so does
//!    [`collect`]; the timer's tick starts one when there was none for two minutes. After each, the pacer sets the next trigger
//!    (pacer.rs): with GOGC=100 the heap may double what was found live.
//! 2. *Stop.* The thread that collects is in a no-safepoint section, on the CPU's own stack; with one CPU nobody else runs. Every other
//!    thread's registers are saved: on its stack, or in the handler's frame if the timer's tick collects.
//! 3. *Mark.* All objects are white: no mark. The roots are made grey (roots.rs): marked, and waiting in [`GreyWork`]. Then, until none
//!    is left, a grey object's references are made grey and it is black (mark.rs). What may hold a reference but need not, a stack word
//!    say, is looked up in the span tables, and believed if it points into an allocated object.
//! 4. *Sweep.* What is white is garbage, and all spans are unswept. The program runs again; whoever needs a span sweeps
//!    some, and what is left a CPU with nothing to do, or who collects next, before its stop. Each span's mark bits
//!    become its allocation bits; a span without a mark goes back to the page heap (heap/sweep.rs).
//!
//! A second, slow collector's first half judges the marks when asked to, and other switches make mistakes show early (verify/).
//!
//! The collector runs no drop glue: what a dead object owned in the heap is dead too, and found by the same collection. Objects never move.
//!
//! A later, concurrent collector keeps this one as its reference. It brings the write barrier, for which there are two places: [`GcCell`],
//! and typed_memory.rs.
//!
//! Unsafe here: the access to this CPU's cache and grey objects.
#![allow(unsafe_code)]

mod ahead;
mod cell;
mod grey;
mod handle;
mod mark;
mod pacer;
#[cfg(feature = "switch-off")]
mod preview;
mod roots;
mod scavenger;
mod slice;
pub mod trace;
pub(crate) mod typed_memory;
pub(crate) mod verify;
mod zeroable;

pub use cell::{GcCell, Reference};
pub use handle::Gc;
pub use trace::{Noscan, Scan, Trace};
pub use zeroable::Zeroable;

pub(crate) use grey::GreyWork;
#[cfg(feature = "switch-off")]
pub(crate) use preview::clobber_unreachable;
pub(crate) use scavenger::scavenge_if_due;

use crate::addr::Bytes;
use crate::cpu::SafepointsHeld;
use crate::heap::{Heap, Portion};
use crate::platform::{free_at_start, mapped, platform};
use crate::report::{Cycle, gctrace};
use crate::settings::Settings;
use crate::switch_off::{self, Mechanism};
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};
use pacer::{Found, Pacer};
use spin::Mutex;

/// Go: `forcegcperiod`.
const FORCED_PERIOD_NS: u64 = 120_000_000_000;

#[unsafe(link_section = ".data.runtime")]
pub(crate) static HEAP: Heap = Heap::new();

/// What outlives a collection.
struct State {
    pacer: Pacer,
    traces: bool,
    sweeps_in_stop: bool,
    forced_period_ns: u64,
    last_end_ns: u64,
    total: Totals,
    pauses_ns: [u64; PAUSES],
    pause_ends_ns: [u64; PAUSES],
    stacks: Bytes,
    /// Free slots in spans when the last cycle began.
    slack: Bytes,
}

impl State {
    /// Sets all that goes by GOGC, the memory limit and what the last cycle has found.
    fn pace(&self) {
        let heap = HEAP.with_memory().0;
        let found = Found {
            live: self.total.live,
            stacks: self.stacks,
            globals: roots::globals(),
            overhead: Bytes(mapped().0.saturating_sub(heap) + self.slack.0),
        };
        let (goal, limit) = (self.pacer.goal(found), self.pacer.memory_limit);
        HEAP.set_trigger(goal);
        HEAP.set_least_free(Bytes(limit.map_or(0, |limit| free_at_start().0.saturating_sub(limit.0))));
        scavenger::set_goals(scavenger::retained(goal, self.slack), limit);
    }
}

/// How many pauses are remembered.
pub(crate) const PAUSES: usize = 256;

/// Sums over all collections.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) forced: u32,
    pub(crate) pause_ns: u64,
    /// What the last one found live.
    pub(crate) live: Bytes,
}

#[unsafe(link_section = ".data.runtime")]
static STATE: Mutex<State> = Mutex::new(State {
    pacer: Pacer::new(),
    traces: false,
    sweeps_in_stop: false,
    forced_period_ns: FORCED_PERIOD_NS,
    last_end_ns: 0,
    total: Totals { forced: 0, pause_ns: 0, live: Bytes(0) },
    pauses_ns: [0; PAUSES],
    pause_ends_ns: [0; PAUSES],
    stacks: Bytes(0),
    slack: Bytes(0),
});

/// Collections ended so far: lock-free, so that a thread in a loop can watch it.
#[unsafe(link_section = ".bss.runtime")]
static CYCLES: AtomicU64 = AtomicU64::new(0);

/// Why a collection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The heap has reached its trigger, or its end.
    Allocation,
    /// Somebody asked.
    Forced,
    /// Two minutes have passed.
    Periodic,
}

/// Prepares heap and collector.
pub(crate) fn set_up(settings: &Settings) {
    if HEAP.init(platform()).is_err() {
        crate::throw!("expected the address plan to have room for one arena and its records, found none");
    }
    // SAFETY: boot is a section.
    let held = unsafe { SafepointsHeld::assume() };
    // SAFETY: nobody collects yet.
    unsafe { held.grey() }.set_up(platform());
    let mut state = STATE.lock();
    state.pacer.percent = settings.gc_percent;
    state.pacer.memory_limit = settings.memory_limit;
    state.traces = settings.gc_trace;
    state.sweeps_in_stop = settings.gc_stop_the_world > 1;
    verify::set_up(settings);
    state.pace();
}

/// Collects all garbage now, and returns when it is done: marked and swept. Go: `runtime.GC`.
///
/// Marking blocks every thread of this CPU for as long as it takes: about as many steps as there are live words that may be references.
pub fn collect() {
    collect_for(Reason::Forced);
    finish_sweep();
}

/// Sweeps what the last cycle left, with safepoints in between.
pub(crate) fn finish_sweep() {
    while SafepointsHeld::enter().on_system_stack(|| HEAP.sweep_some()) {}
}

/// For a CPU that has nothing else to do; `false`: nor has it this. Not on a thread's stack, in a section. Go: `bgsweep`.
pub(crate) fn sweep_when_idle(_: &SafepointsHeld) -> bool {
    HEAP.sweep_some()
}

/// [`collect`], and then all memory of free pages goes back to the machine: stacks can have it, say. Go: `debug.FreeOSMemory`.
///
/// Costs what a collection does, and about as much as the same memory cost when it was first taken.
pub fn free_os_memory() {
    collect();
    release_free_pages();
}

/// Gives the memory of the heap's free pages back to the platform, and of those that only wait to be swept, or hold nothing but what was
/// freed by hand.
pub(crate) fn release_free_pages() {
    finish_sweep();
    let held = SafepointsHeld::enter();
    // SAFETY: the only reference in this section, and no allocation is under way in it.
    held.on_system_stack(|| unsafe { held.cache() }.flush(&HEAP));
    drop(held);
    let mut classes = 0..;
    while SafepointsHeld::enter().on_system_stack(|| classes.next().is_some_and(|nth| HEAP.relist(nth))) {}
    let mut end = usize::MAX;
    loop {
        // A section for each run: none is longer than 4 MiB.
        let held = SafepointsHeld::enter();
        if held.on_system_stack(|| HEAP.release_below(&mut end, Portion::Any)).is_none() {
            return;
        }
    }
}

/// Gives the memory of one run of free pages back, at most 4 MiB, for a stack whose growth found no frames; `false`: there is none. In a
/// handler that has interrupted no section.
pub(crate) fn release_for_growth() -> bool {
    let mut end = usize::MAX;
    !switch_off::is_off(Mechanism::ReleaseForGrowth) && HEAP.release_below(&mut end, Portion::Any).is_some()
}

/// Collections that have ended. Go: `MemStats.NumGC`.
pub fn cycles() -> u64 {
    CYCLES.load(Ordering::Acquire)
}

/// Sets GOGC: the heap may grow by so many percent of what was live; `None` is off. Returns the old value. Go: `debug.SetGCPercent`.
pub fn set_gc_percent(percent: Option<u32>) -> Option<u32> {
    let _held = SafepointsHeld::enter();
    let mut state = STATE.lock();
    let old = mem::replace(&mut state.pacer.percent, percent);
    state.pace();
    old
}

/// Sets GOMEMLIMIT: all that the runtime takes from the machine together, heap, stacks and records, stays below so many bytes, if what is
/// live allows it; `None` is off. Returns the old value. Go: `debug.SetMemoryLimit`.
pub fn set_memory_limit(bytes: Option<usize>) -> Option<usize> {
    let _held = SafepointsHeld::enter();
    let mut state = STATE.lock();
    let old = mem::replace(&mut state.pacer.memory_limit, bytes.map(Bytes));
    state.pace();
    old.map(|limit| limit.0)
}

/// How long without a collection until the timer's tick starts one; two minutes unless a test is in a hurry.
pub fn set_forced_period(ns: u64) {
    let _held = SafepointsHeld::enter();
    STATE.lock().forced_period_ns = ns;
}

/// Returns when all is marked. What the last cycle left to sweep is swept before the stop.
pub(crate) fn collect_for(reason: Reason) {
    if !switch_off::is_off(Mechanism::SweepTermination) {
        finish_sweep();
    }
    let held = SafepointsHeld::enter();
    held.on_system_stack(|| collect_stopped(&held, reason));
}

/// The tick's question. Go: `sysmon`, which asks `gcTriggerTime`.
pub(crate) fn collect_if_due(held: &SafepointsHeld, now_ns: u64) {
    let state = STATE.lock();
    let due = state.pacer.percent.is_some() && now_ns.saturating_sub(state.last_end_ns) >= state.forced_period_ns;
    drop(state);
    if due {
        collect_stopped(held, Reason::Periodic);
    }
}

/// Whether no collection starts unless [`collect`] is called: GOGC=off, and no memory limit.
pub(crate) fn is_off() -> bool {
    let _held = SafepointsHeld::enter();
    STATE.lock().pacer.is_off()
}

/// Whether one is under way on this CPU; in any context.
pub(crate) fn is_collecting() -> bool {
    STATE.is_locked()
}

pub(crate) fn totals() -> Totals {
    STATE.lock().total
}

/// The last cycles' pauses, and when each ended: that of cycle n, counted from 0, is at n % [`PAUSES`].
pub(crate) fn pauses_ns() -> ([u64; PAUSES], [u64; PAUSES]) {
    let state = STATE.lock();
    (state.pauses_ns, state.pause_ends_ns)
}

/// When the last cycle ended.
pub(crate) fn last_end_ns() -> u64 {
    STATE.lock().last_end_ns
}

pub(crate) fn goal() -> Bytes {
    HEAP.trigger()
}

/// One cycle. Not on a thread's stack, in a section: the world is stopped.
pub(crate) fn collect_stopped(held: &SafepointsHeld, reason: Reason) {
    let mut state = STATE.lock();
    let start_ns = platform().now();
    if !switch_off::is_off(Mechanism::SweepTermination) {
        HEAP.sweep_all();
    }
    // SAFETY: the section is ours, and no allocation is under way in it.
    let cache = unsafe { held.cache() };
    cache.flush(&HEAP);
    let heap_at_start = HEAP.live(cache);
    state.slack = Bytes(HEAP.pages_in_use(cache).bytes().0.saturating_sub(heap_at_start.0));

    let mark_ns = platform().now();
    // SAFETY: one collection at a time: `state` is locked.
    let grey = unsafe { held.grey() };
    let marked = mark::mark_all(&HEAP, grey, held.cpu());
    verify::check_marks(&HEAP, held.cpu());
    let sweep_ns = platform().now();
    if switch_off::is_off(Mechanism::Sweep) {
        HEAP.clear_marks();
    } else {
        state.total.live = marked.objects;
        HEAP.begin_sweep(marked.objects);
    }
    if state.sweeps_in_stop {
        HEAP.sweep_all();
    }
    grey.shrink(platform());

    let goal_before = HEAP.trigger();
    state.stacks = marked.stacks;
    let end_ns = platform().now();
    let last_end_ns = state.last_end_ns;
    state.pacer.note_cycle(end_ns - start_ns, start_ns.saturating_sub(last_end_ns));
    state.pace();
    state.last_end_ns = end_ns;
    state.total.pause_ns += end_ns - start_ns;
    state.total.forced += u32::from(reason == Reason::Forced);
    let number = CYCLES.fetch_add(1, Ordering::Release) + 1;
    let place = (number - 1) as usize % PAUSES;
    state.pauses_ns[place] = end_ns - start_ns;
    state.pause_ends_ns[place] = end_ns;
    if state.traces {
        let cycle = Cycle {
            number,
            start_ns,
            mark_ns,
            sweep_ns,
            end_ns,
            total_pause_ns: state.total.pause_ns,
            cpus: platform().cpu_count(),
            heap_at_start,
            heap_at_end: heap_at_start,
            heap_live: state.total.live,
            goal: goal_before,
            stacks: marked.stacks,
            globals: roots::globals(),
            forced: reason == Reason::Forced,
        };
        gctrace(&cycle);
    }
}

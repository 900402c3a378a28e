//! The clock, and the timer's signal: CLOCK_MONOTONIC, and a POSIX timer that signals one thread alone.

use core::mem::zeroed;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use libc::{CLOCK_MONOTONIC, c_void, timespec};

use crate::signals::TIMER;

const SECOND_NS: u64 = 1_000_000_000;

/// What CLOCK_MONOTONIC said when we began; it counts from the host's boot.
#[unsafe(link_section = ".bss.runtime")]
static BEGAN_NS: AtomicU64 = AtomicU64::new(0);
/// The CPU's timer, and what it was last set to.
#[unsafe(link_section = ".bss.runtime")]
static TIMER_ID: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
#[unsafe(link_section = ".bss.runtime")]
static DUE_NS: AtomicU64 = AtomicU64::new(0);

/// Starts the clock and makes this thread's timer.
pub(crate) fn start() {
    BEGAN_NS.store(monotonic_ns(), Relaxed);
    // SAFETY: all zero is a value of it.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = TIMER;
    // SAFETY: asks who we are.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = ptr::null_mut();
    // SAFETY: both outlive the call.
    let made = unsafe { libc::timer_create(CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    assert_eq!(made, 0, "a process may have a timer");
    TIMER_ID.store(timer, Relaxed);
}

pub(crate) fn now() -> u64 {
    monotonic_ns() - BEGAN_NS.load(Relaxed)
}

/// So long at least the interrupted code runs before the next signal. Linux delivers one that is due as the last one's
/// handler returns: code whose handler always asks for another at once would not get on by one instruction.
const LEAST_NS: u64 = 50_000;

/// One signal at `at_ns`, or soon.
pub(crate) fn set_timer(at_ns: u64) {
    let at_ns = at_ns.max(now() + LEAST_NS);
    DUE_NS.store(at_ns, Relaxed);
    ask(at_ns);
}

/// The setting once more, after a signal that was not due: had it been this setting's own, early by some clock, no other would come, and
/// who waits for one would wait for ever.
pub(crate) fn ask_again() {
    ask(DUE_NS.load(Relaxed));
}

fn ask(at_ns: u64) {
    let at_ns = BEGAN_NS.load(Relaxed) + at_ns;
    let it_value = timespec { tv_sec: (at_ns / SECOND_NS) as i64, tv_nsec: (at_ns % SECOND_NS) as i64 };
    let once = libc::itimerspec { it_interval: timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    // SAFETY: the timer is ours, the setting outlives the call. It fails only for settings that are no times.
    unsafe { libc::timer_settime(TIMER_ID.load(Relaxed), libc::TIMER_ABSTIME, &raw const once, ptr::null_mut()) };
}

/// Whether the signal is that of the last setting: an earlier one may have been on its way.
pub(crate) fn timer_is_due() -> bool {
    now() >= DUE_NS.load(Relaxed)
}

fn monotonic_ns() -> u64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call; the clock exists wherever we run.
    unsafe { libc::clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * SECOND_NS + time.tv_nsec as u64
}

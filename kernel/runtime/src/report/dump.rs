//! What the threads are doing, in the format of Go's goroutine dumps, so that whatever reads those reads these. Go: traceback.go.
//!
//! ```text
//! goroutine 7 [sleep, 2 minutes]:
//! programs::spinner::wait(...)
//! \t0xffffffff80012345 +0x25             the tool on the host makes this: \tkernel/programs/src/spinner.rs:31 +0x25
//! created by programs::spinner::spinner in goroutine 1
//! \t0xffffffff80010101 +0x101
//! ```
//!
//! It runs when things are broken: it takes no lock that could be held for ever, and allocates nothing.

use super::backtrace;
use crate::cpu;
use crate::platform::platform;
use crate::report;
use crate::sched::{State, Thread, for_each_thread_at_the_end};
use core::fmt;

const MINUTE_NS: u64 = 60_000_000_000;

/// The thread that this CPU runs, from `rip` and `rbp` on; the scheduler's own stack if it runs none.
pub(crate) fn current(rip: usize, rbp: usize) {
    match cpu::reported_thread() {
        Some(thread) => one(thread, (rip, rbp)),
        None => {
            report!("\nruntime stack:");
            chain(rip, rbp);
        }
    }
}

/// All threads but the one that runs.
pub(crate) fn others() {
    for_each_thread_at_the_end(|thread| {
        if thread.state.get() != State::Running {
            one(thread, thread.resumes_at());
        }
    });
}

fn one(thread: &Thread, (rip, rbp): (usize, usize)) {
    let state = thread.state.get();
    let header = Header {
        id: thread.id.get(),
        words: match state {
            State::Free => "dead",
            State::Runnable if thread.is_preempted() => "preempted",
            State::Runnable => "runnable",
            State::Running => "running",
            State::Parked(reason) => reason.words(),
        },
        waited_ns: match state {
            State::Parked(_) if thread.waiting_since_ns.get() != 0 => {
                platform().now().saturating_sub(thread.waiting_since_ns.get())
            }
            _ => 0,
        },
    };
    report!("\n{header}");
    chain(rip, rbp);
    if let (creator @ 1.., created_at) = (thread.creator.get(), thread.created_at.get()) {
        let (name, offset) = backtrace::function_at(platform(), created_at - 1).unwrap_or(("?", 0));
        report!("created by {name} in goroutine {creator}\n\t{:#x} +{:#x}", created_at - 1, offset + 1);
    }
}

fn chain(rip: usize, rbp: usize) {
    backtrace::write(platform(), rip, rbp, &mut |line| report!("{line}"));
}

struct Header {
    id: u64,
    words: &'static str,
    waited_ns: u64,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waited_ns / MINUTE_NS {
            0 => write!(f, "goroutine {} [{}]:", self.id, self.words),
            minutes => write!(f, "goroutine {} [{}, {minutes} minutes]:", self.id, self.words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn only_whole_minutes_of_waiting_are_told() {
        let header = |waited_ns| Header { id: 7, words: "sleep", waited_ns }.to_string();
        assert_eq!(header(MINUTE_NS - 1), "goroutine 7 [sleep]:");
        assert_eq!(header(MINUTE_NS), "goroutine 7 [sleep, 1 minutes]:");
        assert_eq!(header(121 * MINUTE_NS), "goroutine 7 [sleep, 121 minutes]:");
    }
}

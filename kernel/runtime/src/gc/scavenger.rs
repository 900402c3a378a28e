//! The scavenger: gives the memory of free pages back in the background. Go: mgcscavenge.go.
//!
//! 1. After each collection there are two goals: the heap keeps what it will need until the next one, and a tenth more ([`retained`]); and
//!    where there is a memory limit, all memory together stays 5 % below it.
//! 2. The timer's tick, which comes to an idle CPU too, releases at most one portion when a goal is exceeded
//!    (heap/release.rs): a huge page, or for the limit any run of at most 4 MiB. After each it rests 99 times as long
//!    as that took: 1 % of a CPU.
//! 3. It goes down from the highest page, and begins again at the top a second after it has found nothing more.
//!
//! It is never a green thread: one in a loop could keep it from running.
//!
//! Unsafe here: one static in a section of its own.
#![allow(unsafe_code)]

use super::HEAP;
use crate::addr::Bytes;
use crate::heap::Portion;
use crate::platform::{mapped, platform};
use crate::switch_off::{self, Mechanism};
use spin::Mutex;

/// How long it looks for nothing when there was nothing.
const PAUSE_NS: u64 = 1_000_000_000;

struct Scavenger {
    retained: Bytes,
    mapped: Bytes,
    /// Pages from here on have been looked at.
    end: usize,
    next_ns: u64,
}

#[unsafe(link_section = ".data.runtime")]
static SCAVENGER: Mutex<Scavenger> =
    Mutex::new(Scavenger { retained: Bytes(usize::MAX), mapped: Bytes(usize::MAX), end: usize::MAX, next_ns: 0 });

/// What the heap keeps if it may grow to `goal`, and has so many bytes of free slots in its spans when it is full. Go: `gcPercentGoal`.
pub(super) fn retained(goal: Bytes, slack: Bytes) -> Bytes {
    let in_use = goal.0.saturating_add(slack.0);
    Bytes(in_use.saturating_add(in_use / 10))
}

/// The goals from now on. Go: `gcPaceScavenger`.
pub(super) fn set_goals(retained: Bytes, limit: Option<Bytes>) {
    let mut scavenger = SCAVENGER.lock();
    scavenger.retained = retained;
    scavenger.mapped = limit.map_or(Bytes(usize::MAX), |limit| Bytes(limit.0 - limit.0 / 20));
    scavenger.end = usize::MAX;
}

/// The tick's part here. Not on a thread's stack, in a section.
pub(crate) fn scavenge_if_due(now_ns: u64) {
    let mut scavenger = SCAVENGER.lock();
    if now_ns < scavenger.next_ns || switch_off::is_off(Mechanism::Scavenger) {
        return;
    }
    let portion = match () {
        _ if mapped() > scavenger.mapped => Portion::Any,
        _ if HEAP.with_memory() > scavenger.retained => Portion::Huge,
        _ => return,
    };
    let start_ns = platform().now();
    let rest_ns = match HEAP.release_below(&mut scavenger.end, portion) {
        Some(_) => 99 * (platform().now() - start_ns),
        None => {
            scavenger.end = usize::MAX;
            PAUSE_NS
        }
    };
    scavenger.next_ns = start_ns + rest_ns;
}

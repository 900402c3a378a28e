//! Switches that make a collector's mistakes show where they are made. Go: mcheckmark.go, `debug` in runtime1.go.
//!
//! | GODEBUG=        | what it does                                                                  | where                |
//! |-----------------|-------------------------------------------------------------------------------|----------------------|
//! | `gccheckmark=1` | marks everything again, slowly, and compares                                    | checkmark.rs         |
//! | `invalidptr=1`  | a reference in an object that leads to free memory is fatal; on unless `=0`     | bad_reference.rs     |
//! | `gcstress=N`    | a collection at every N-th allocation                                           | here, allocator.rs   |
//! | `clobberfree=1` | freed memory is filled with junk                                                | heap/clobber.rs      |
//!
//! With gcstress no allocation finds a free slot in its CPU's cache: the slow path that fills the cache has the section of that very
//! allocation flush it again. So the fast path asks nothing, and costs nothing when the switch is off.
//!
//! Unsafe here: the switches' link section.
#![allow(unsafe_code)]

mod bad_reference;
mod checkmark;
mod side_bits;

pub(super) use bad_reference::no_object;

use super::HEAP;
use crate::cpu::Cpu;
use crate::heap::{Heap, Object};
use crate::settings::Settings;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use spin::Mutex;

struct Switches {
    checkmark: AtomicBool,
    invalid_pointers: AtomicBool,
    /// A collection every so many allocations; 0: none.
    stress: AtomicU32,
    /// Allocations since.
    allocations: AtomicU32,
}

#[unsafe(link_section = ".data.runtime")]
static SWITCHES: Switches = Switches {
    checkmark: AtomicBool::new(false),
    invalid_pointers: AtomicBool::new(true),
    stress: AtomicU32::new(0),
    allocations: AtomicU32::new(0),
};

#[unsafe(link_section = ".data.runtime")]
static CHECKER: Mutex<checkmark::Checker> = Mutex::new(checkmark::Checker::new());

pub(super) fn set_up(settings: &Settings) {
    SWITCHES.checkmark.store(settings.gc_checkmark, Relaxed);
    SWITCHES.invalid_pointers.store(settings.invalid_pointers, Relaxed);
    SWITCHES.stress.store(settings.gc_stress, Relaxed);
    HEAP.set_clobbers(settings.clobber_free);
}

pub(crate) fn is_stressed() -> bool {
    SWITCHES.stress.load(Relaxed) != 0
}

/// Counts an allocation; whether a collection is due before it. Always `false` without gcstress.
pub(crate) fn stress_is_due() -> bool {
    let every = SWITCHES.stress.load(Relaxed);
    if every == 0 {
        return false;
    }
    let due = SWITCHES.allocations.fetch_add(1, Relaxed) + 1 >= every;
    if due {
        SWITCHES.allocations.store(0, Relaxed);
    }
    due
}

/// After marking, before the sweep: under gccheckmark the second opinion.
pub(super) fn check_marks(heap: &Heap, cpu: &Cpu) {
    if SWITCHES.checkmark.load(Relaxed) {
        CHECKER.lock().check(heap, cpu);
    }
}

/// "object 0x… (48 bytes, Precise, slot 3 of the 1-page span at 0x…)".
struct Named(Object);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Object { span, slot, base } = self.0;
        let (bytes, kind, pages) = (span.slot_bytes().0, span.kind(), span.pages().0);
        write!(f, "object {base} ({bytes} bytes, {kind:?}, slot {slot} of the {pages}-page span at {})", span.base())
    }
}

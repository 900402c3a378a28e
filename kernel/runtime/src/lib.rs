//! Go's runtime in `no_std` Rust. It knows no hardware and no operating system: what is under it is a [`platform::Platform`].
//!
//! Rooms, each with its story at the head of its `mod.rs`; imports go down:
//!
//! | room      | what is in it                                                         | Go                     |
//! |-----------|-----------------------------------------------------------------------|------------------------|
//! | `report`  | gctrace, memory statistics, dumps of all threads                       | mstats.go, traceback.go |
//! | `collections` | `GcVec`, `GcString`, `GcMap`                                      | slice.go, internal/runtime/maps |
//! | `gc`      | `Gc`, roots, marking, pacing                                           | mgc*.go                |
//! | `sched`   | green threads, the switch, preemption                                 | proc.go, asm_amd64.s   |
//! | `stack`   | slots, guard pages, growth by page fault                               | stack.go               |
//! | `heap`    | pages, spans, size classes, the CPU's cache, the sweep                 | m*.go                  |
//! | `platform`| what the runtime asks of the machine                                   | mem.go, os_*.go        |
//!
//! Above the rooms stand the facade's files: `allocator` (the heap never calls the collector; this decides when to), `settings`, `upcall`,
//! `program`, and two that the rooms know: `cpu` (each CPU's header) and `tick` (what the timer does), composed of the rooms' parts.
#![cfg_attr(not(test), no_std)]
#![feature(coerce_unsized, offset_of_enum, unsize)]
#![deny(unsafe_code)]

extern crate alloc;
extern crate self as runtime;
#[cfg(test)]
extern crate std;

pub mod addr;
mod allocator;
mod collections;
mod cpu;
pub mod fatal;
mod gc;
mod heap;
pub mod inspect;
pub mod platform;
pub mod prelude;
pub mod program;
mod report;
mod sched;
pub mod settings;
mod stack;
pub mod switch_off;
pub mod testing;
mod tick;
pub mod upcall;

pub use allocator::{Collected, Exhausted, out_of_memory};
pub use collections::{GcMap, GcString, GcVec, IntoIter};
pub use gc::trace::{self, Scan, Trace};
pub use gc::{
    Gc, GcCell, Noscan, Reference, Zeroable, collect, cycles, free_os_memory, set_forced_period, set_gc_percent,
    set_memory_limit,
};
pub use report::{
    BySize, ClassFigures, HeapLevels, HeapTable, MemoryStats, backtrace, exception, heap_levels, heap_table,
    memory_stats, symbols,
};
pub use runtime_derive::{Trace, kernel_test, program};
pub use sched::{
    Builder, Failure, JoinHandle, Panic, ThreadRef, catch_unwind, contain, current, go, park, set_preemption, sleep,
    yield_now,
};
pub use start::{Start, start};
pub use tick::ticks;

mod start;

/// Nanoseconds since boot; never goes back. Go: `nanotime`.
pub fn now() -> u64 {
    platform::platform().now()
}

//! What a program sees.

pub use crate::collections::{GcMap, GcString, GcVec};
pub use crate::gc::{Gc, GcCell, Scan, Trace, Zeroable, collect, free_os_memory, set_gc_percent, set_memory_limit};
pub use crate::report::{MemoryStats, memory_stats};
pub use crate::sched::{
    Builder, Failure, JoinHandle, Panic, ThreadRef, catch_unwind, current, go, park, sleep, yield_now,
};
pub use crate::{Exhausted, now, print, println};
pub use runtime_derive::{Trace, program};

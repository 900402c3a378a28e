//! What the runtime tells of itself, in Go's own formats.

pub(crate) mod dump;
mod gctrace;
mod memory_stats;

pub(crate) use gctrace::{Cycle, gctrace};
pub use memory_stats::{MemoryStats, memory_stats};

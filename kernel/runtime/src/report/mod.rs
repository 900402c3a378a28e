//! What the runtime tells of itself, in Go's own formats.

pub mod backtrace;
pub(crate) mod dump;
pub mod exception;
mod gctrace;
mod memory_stats;
pub mod symbols;

pub(crate) use gctrace::{Cycle, gctrace};
pub use memory_stats::{MemoryStats, memory_stats};

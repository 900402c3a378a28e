//! What the runtime tells of itself, in Go's own formats.

pub mod backtrace;
pub(crate) mod dump;
pub mod exception;
mod gctrace;
mod heap_table;
mod memory_stats;
pub mod symbols;

pub(crate) use gctrace::{Cycle, gctrace};
pub use heap_table::{ClassFigures, HeapLevels, HeapTable, heap_levels, heap_table};
pub use memory_stats::{BySize, MemoryStats, memory_stats};

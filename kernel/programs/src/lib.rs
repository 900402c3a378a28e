//! Programs to run in the kernel, written against the runtime alone.
//!
//! One file each. A program registers itself with `#[program("usage", "what it shows")]`: a new one needs its file and its `mod`
//! line here, nothing else. A binary that wants them says `use programs as _;`, else the linker leaves them all out.
//!
//! - [`tour`]: each mechanism in turn, with figures; what runs when nothing else is asked for
//! - [`heap_tour`]: an object of each kind, and the way that each takes through the heap
//! - [`bench`]: the rows of the benchmarks in Go that we stand beside
//! - [`binary_trees`]: the Benchmarks Game's program, allocation and collection and nothing else
//! - [`spinner`]: a thread that never gives up the processor loses it, and does not stand in the collector's way
//! - [`deep_recursion`]: a stack grows under a thread, and no frame moves
//! - [`costs`]: what a stack's growth, a stop by the timer and an empty collection take
//! - [`panics`]: what a panic costs, by the frames it crosses
//! - [`shadow`]: random programs, checked against a model of what they should do
//! - [`churn`]: garbage of every kind around a live set that is checked all the time
#![no_std]
// For `derive(Trace)` on enums.
#![feature(offset_of_enum)]

extern crate alloc;

pub mod bench;
pub mod binary_trees;
pub mod churn;
pub mod costs;
pub mod deep_recursion;
pub mod heap_tour;
pub mod panics;
mod random;
pub mod shadow;
pub mod spinner;
pub mod tour;

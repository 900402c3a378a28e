//! What only a process has: code that uses vector registers and the red zone, a limit on mappings, and addresses
//! that cost nothing.

mod many_spans;
mod mappings;
mod stepped;
mod vectors;

//! What only a process has: code that uses vector registers and the red zone, and a limit on mappings.

mod mappings;
mod stepped;
mod vectors;

//! The kernel as a process: the platform, the runtime, and the program that the command line names, or the tour.

#![cfg_attr(hosted, no_std, no_main)]

#[cfg(hosted)]
mod process {
    // Programs register themselves; a crate that nobody names is not linked.
    use programs as _;

    hosted::entry_point!(run);

    fn run(line: &'static str) -> u8 {
        runtime::program::run(if line.is_empty() { "tour" } else { line })
    }
}

/// Built like any other program there is nothing to run; so the workspace can be checked as a whole.
#[cfg(not(hosted))]
fn main() {}

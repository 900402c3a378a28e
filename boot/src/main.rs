//! The host's side of Tricolor, behind `./x`: builds the disk image, drives QEMU, decodes what comes back.
//!
//! 1. `compile` has Cargo build a bare-metal ELF file; `image` makes a disk and a table of `symbols` from it.
//! 2. `hosted` starts a process that is the machine; `qemu` starts a `machine` on that disk and watches it; `console`
//!    tells its two streams apart and puts `lines` into call chains; `monitor` asks it for its registers when it hangs,
//!    and for its picture, which `screen` reads.
//! 3. `run`, `debug`, `profile`, `image`, `test`, `soak`, `bench`, `fuzz`, `miri` and `doctor` are the commands. Ends
//!    with the program's status, 1 if something went wrong on the way, 2 if it was asked for the wrong way, 124 if it
//!    took too long.

mod bench;
mod compile;
mod console;
mod debug;
mod doctor;
mod fuzz;
mod hidden;
mod hosted;
mod image;
mod lines;
mod machine;
mod miri;
mod monitor;
mod profile;
mod qemu;
mod run;
mod screen;
mod symbols;
mod test;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "./x", bin_name = "./x", disable_help_subcommand = true)]
enum Command {
    /// Boot a program in QEMU; end with its status (0, 1; 2 for a fatal runtime error; 124 for a timeout)
    Run(run::Options),
    /// Start gdb on a machine that stands at the kernel's entry
    Debug(debug::Options),
    /// Run a program in QEMU and draw a flame graph of where its time goes
    Profile(profile::Options),
    /// Write the image of a USB stick, from which a machine of metal runs the tour on its screen
    Image {
        /// How that machine starts
        #[arg(long, value_enum)]
        firmware: machine::Firmware,
        /// The file to write
        out: std::path::PathBuf,
    },
    /// Run the host's tests and the machine's; with FILTER only those whose names contain it
    Test {
        /// Part of a test's name
        filter: Option<String>,
    },
    /// Boot all of the machine's tests, again and again: what happens once in a hundred boots shows
    Soak {
        /// How often the whole suite is booted
        #[arg(default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
        boots: u32,
        /// Part of a test's name: only the boots with such tests, each so often
        filter: Option<String>,
    },
    /// Measure what things cost, and what they cost in Go
    Bench(bench::Options),
    /// Feed bad input to whatever reads the firmware's, the host's or the user's words
    Fuzz(fuzz::Options),
    /// Run the runtime's own tests under Miri, which notices undefined behaviour
    Miri {
        /// Part of a test's name; without it a choice that takes a minute or two
        filter: Option<String>,
    },
    /// Check what building and booting need, and name the fix for what is missing
    Doctor,
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => {
            let message = error.to_string();
            let lines = message.trim_start_matches("error: ").lines().take_while(|line| !line.is_empty());
            eprintln!("x: {}", lines.map(str::trim).collect::<Vec<_>>().join(" "));
            return ExitCode::from(2);
        }
    };
    let ended = match command {
        Command::Run(options) => run::run(options),
        Command::Debug(options) => debug::run(options),
        Command::Profile(options) => profile::run(options),
        Command::Image { firmware, out } => image::write(firmware, &out),
        Command::Test { filter } => test::run(filter.as_deref().unwrap_or_default()),
        Command::Soak { boots, filter } => test::soak::run(boots as usize, filter.as_deref()),
        Command::Bench(options) => bench::run(options),
        Command::Fuzz(options) => fuzz::run(options),
        Command::Miri { filter } => miri::run(filter),
        Command::Doctor => Ok(doctor::run()),
    };
    ExitCode::from(ended.unwrap_or_else(|message| {
        eprintln!("x: {message}");
        1
    }))
}

//! `./x run`: one boot, or one process, one program, its status.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use crate::compile;
use crate::console::Stream;
use crate::hosted;
use crate::image::Image;
use crate::machine::Machine;
use crate::qemu::{Ending, Patience};

/// Settings that reach the kernel from the environment, by Go's names.
const SETTINGS: [&str; 5] = ["GOGC", "GOMEMLIMIT", "GODEBUG", "GOMAXPROCS", "GOTRACEBACK"];

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    machine: Machine,
    /// Run it as a process of this Linux instead of booting it
    #[arg(long, conflicts_with_all = ["firmware", "accel", "cpus"])]
    hosted: bool,
    /// End with status 124 if the program has not ended by then, counted from power-on
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// List the programs
    #[arg(long)]
    list: bool,
    /// What to run, of those that --list names
    program: Option<String>,
    /// What it is given
    arguments: Vec<String>,
}

/// Runs, and returns the status to end with.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    let image = Image::of(if options.hosted { compile::hosted("hosted")? } else { compile::bare_metal("kernel")? });
    if options.list {
        for line in image.lines("program_list")? {
            let (usage, shows) = line.split_once('\t').unwrap_or((&line, ""));
            println!("{usage:<24} {shows}");
        }
        return Ok(0);
    }
    let Some(command_line) = command_line(options.program, options.arguments) else { return Ok(2) };
    let mut guest = match options.hosted {
        true => hosted::start(&image, &options.machine.mem, &command_line)?,
        false => image.boot(&options.machine, &[("cmdline", &command_line)])?,
    };
    let patience = Patience { in_all: options.timeout.map(Duration::from_secs), silence: None };
    let ending = guest.watch(patience, print);
    match ending {
        Ending::Status(status) => return Ok(status),
        Ending::TimedOut { .. } | Ending::Died(_) => eprint!("x: {}", guest.account(&ending)),
    }
    Ok(if matches!(ending, Ending::Died(_)) { 1 } else { 124 })
}

/// The settings, the program and its arguments as the kernel gets them. `None`, and a message, if one cannot be passed on.
pub(crate) fn command_line(program: Option<String>, arguments: Vec<String>) -> Option<String> {
    match settings(env::var_os) {
        Ok(settings) => Some([settings, program.into_iter().collect(), arguments].concat().join(" ")),
        Err(message) => {
            eprintln!("x: {message}");
            None
        }
    }
}

/// The program's words to our output, the runtime's to our error output.
pub(crate) fn print(stream: Stream, bytes: &[u8]) {
    // Nobody may be reading any more; the program's status is still wanted.
    let _ = match stream {
        Stream::Firmware => Ok(()),
        Stream::Program => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
        Stream::Report => std::io::stderr().write_all(bytes),
    };
}

/// The settings that are set, as words of the kernel's command line, which is split at white space.
fn settings(value_of: impl Fn(&'static str) -> Option<OsString>) -> Result<Vec<String>, String> {
    let set = SETTINGS.iter().filter_map(|name| Some((name, value_of(name).filter(|value| !value.is_empty())?)));
    set.map(|(name, value)| match value.into_string() {
        Ok(value) if !value.contains(char::is_whitespace) => Ok(format!("{name}={value}")),
        Ok(_) => Err(format!("{name} contains white space")),
        Err(_) => Err(format!("{name} is not UTF-8")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::settings;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn only_settings_that_are_one_word_are_passed_on() {
        let set = settings(|name| (name == "GOGC").then(|| "50".into()));
        assert_eq!(set, Ok(vec!["GOGC=50".to_string()]));
        assert_eq!(settings(|_| Some("".into())), Ok(vec![]));
        assert_eq!(settings(|_| Some("a b".into())), Err("GOGC contains white space".into()));
        assert_eq!(settings(|_| Some(OsString::from_vec(vec![0xff]))), Err("GOGC is not UTF-8".into()));
    }
}

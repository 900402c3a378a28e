//! `./x fuzz [TARGET] [LIMIT]`: bad input for everything that reads what others wrote, and random programs for the runtime; far more of
//! both than `./x test` takes time for.
//!
//! A random program is the program `shadow`, in a process of its own for each seed, with each of [`SETTINGS`] in turn. An operation counts
//! as an input.

use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::image::Image;
use crate::qemu::{Ending, Patience};
use crate::{compile, hosted};

/// The tests of kernel/machine/tests/fuzz.rs, and random programs.
const TARGETS: [&str; 6] = ["memory_map", "command_line", "directory", "symbols", "acpi", PROGRAMS];
const PROGRAMS: &str = "programs";
/// One seed takes seconds.
const SILENCE: Duration = Duration::from_secs(300);

/// The operations of one seed.
const OPERATIONS: u64 = 1_000_000;
const SETTINGS: [&str; 4] = [
    "asyncpreemptoff=0",
    "asyncpreemptoff=0,clobberfree=1,gcstoptheworld=2",
    "clobberfree=1,gccheckmark=1",
    "asyncpreemptoff=0,clobberfree=1,gccheckmark=1,gcstress=20000",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to feed; without it everything
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How many inputs, or for how many seconds (60s), per target; a million, and ten million of the programs' operations
    #[arg(value_parser = limit)]
    limit: Option<Limit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Inputs(u64),
    Seconds(u64),
}

/// Runs, and returns the status to end with. The seed of an input that fails is printed.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    let parsers = match options.target.as_deref() {
        Some(PROGRAMS) => 0,
        target => parsers(target, options.limit.unwrap_or(Limit::Inputs(1_000_000)))?,
    };
    match options.target.as_deref() {
        None | Some(PROGRAMS) if parsers == 0 => programs(options.limit.unwrap_or(Limit::Inputs(10_000_000))),
        _ => Ok(parsers),
    }
}

fn parsers(target: Option<&str>, limit: Limit) -> Result<u8, String> {
    let mut cargo = compile::cargo();
    cargo.args(["test", "-p", "machine", "--test", "fuzz", "--target-dir", "target", "--", "--exact"]);
    cargo.args(target);
    match limit {
        Limit::Inputs(inputs) => cargo.env("BOLERO_RANDOM_ITERATIONS", inputs.to_string()),
        Limit::Seconds(seconds) => cargo
            .env("BOLERO_RANDOM_ITERATIONS", usize::MAX.to_string())
            .env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1000).to_string()),
    };
    let status = cargo.status().map_err(|error| format!("cargo does not start: {error}"))?;
    Ok(u8::from(!status.success()))
}

fn programs(limit: Limit) -> Result<u8, String> {
    let image = Image::of(compile::hosted("hosted")?);
    let (start, first) = (Instant::now(), UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64 >> 8));
    let mut done = 0;
    for (seed, settings) in (first..).zip(SETTINGS.iter().cycle()) {
        let operations = match limit {
            Limit::Inputs(inputs) => OPERATIONS.min(inputs - done),
            Limit::Seconds(seconds) if start.elapsed() < Duration::from_secs(seconds) => OPERATIONS,
            Limit::Seconds(_) => 0,
        };
        if operations == 0 {
            break;
        }
        let line = format!("GODEBUG={settings} shadow {operations} {seed}");
        let mut process = hosted::start(&image, "512M", &line)?;
        let ending = process.watch(Patience { in_all: None, silence: Some(SILENCE) }, |_, _| {});
        if !matches!(ending, Ending::Status(0)) {
            eprint!("x: GODEBUG={settings} ./x run --hosted shadow {operations} {seed}: {}", process.account(&ending));
            return Ok(1);
        }
        done += operations;
    }
    println!(
        "{PROGRAMS}: {done} operations from seed {first} on in {} seconds, no difference",
        start.elapsed().as_secs()
    );
    Ok(0)
}

fn limit(text: &str) -> Result<Limit, String> {
    let (digits, is_time) = text.strip_suffix('s').map_or((text, false), |digits| (digits, true));
    let number = digits.parse::<u32>().ok().filter(|&number| number > 0).map(u64::from);
    let number = number.ok_or("expected a number of inputs, or seconds with an s behind: 60s")?;
    Ok(if is_time { Limit::Seconds(number) } else { Limit::Inputs(number) })
}

#[cfg(test)]
mod tests {
    use super::{Limit, PROGRAMS, TARGETS, limit};

    #[test]
    fn a_limit_is_a_count_or_a_time() {
        assert_eq!((limit("10"), limit("60s")), (Ok(Limit::Inputs(10)), Ok(Limit::Seconds(60))));
        for wrong in ["", "s", "0", "0s", "-1", "1m", "99999999999"] {
            assert!(limit(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn every_target_is_a_test_and_every_test_a_target() {
        let source = include_str!("../../kernel/machine/tests/fuzz.rs");
        let tests: Vec<&str> =
            source.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split("()").next()).collect();
        assert_eq!([&tests[..], &[PROGRAMS]].concat(), TARGETS);
    }
}

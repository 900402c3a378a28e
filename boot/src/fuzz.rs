//! `./x fuzz [TARGET] [LIMIT]`: bad input for everything that reads what others wrote, far more of it than `./x test` takes time for.

use crate::compile;

/// The tests of kernel/machine/tests/fuzz.rs.
const TARGETS: [&str; 5] = ["memory_map", "command_line", "directory", "symbols", "acpi"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to feed; without it everything
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How many inputs, or for how many seconds (60s); per target
    #[arg(default_value = "1000000", value_parser = limit)]
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Inputs(u64),
    Seconds(u64),
}

/// Runs, and returns the status to end with. The seed of an input that fails is printed.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    let mut cargo = compile::cargo();
    cargo.args(["test", "-p", "machine", "--test", "fuzz", "--target-dir", "target", "--", "--exact"]);
    cargo.args(options.target);
    match options.limit {
        Limit::Inputs(inputs) => cargo.env("BOLERO_RANDOM_ITERATIONS", inputs.to_string()),
        Limit::Seconds(seconds) => cargo
            .env("BOLERO_RANDOM_ITERATIONS", usize::MAX.to_string())
            .env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1000).to_string()),
    };
    let status = cargo.status().map_err(|error| format!("cargo does not start: {error}"))?;
    Ok(u8::from(!status.success()))
}

fn limit(text: &str) -> Result<Limit, String> {
    let (digits, is_time) = text.strip_suffix('s').map_or((text, false), |digits| (digits, true));
    let number = digits.parse::<u32>().ok().filter(|&number| number > 0).map(u64::from);
    let number = number.ok_or("expected a number of inputs, or seconds with an s behind: 60s")?;
    Ok(if is_time { Limit::Seconds(number) } else { Limit::Inputs(number) })
}

#[cfg(test)]
mod tests {
    use super::{Limit, TARGETS, limit};

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
        assert_eq!(tests, TARGETS);
    }
}

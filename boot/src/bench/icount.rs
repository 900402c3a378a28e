//! `./x bench --icount`: instructions instead of nanoseconds. They repeat to the digit, so a change is a change of the code.
//!
//! Under `-icount shift=0` QEMU's only clock counts the instructions that the machine executes, one nanosecond each, and every timer goes
//! by it: the kernel's nanoseconds are instructions, and the timer's interrupts come at the same ones in each run. What each row of
//! the program does so many times as it always does (`fixed`) then costs the same, however busy the host is.
//!
//! A record of the figures lies beside the source. `--check` fails where a row needs more than [`SLACK`] above it; who makes a row
//! dearer changes the record in the same commit and says why there.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::{CPU, Options, arguments};
use crate::compile;
use crate::console::Stream;
use crate::image::Image;
use crate::machine::{Accel, Firmware, Machine};
use crate::qemu::{Ending, Patience};

const RECORD: &str = "boot/bench.icount";
const HEAD: &str = "# Instructions of each row of the benchmark; written by ./x bench --icount --record, read by ./x bench --icount --check.\n";
/// Nothing is left to chance.
const SETTINGS: &str = "GODEBUG=randseed=1";
/// How much dearer a row may become.
const SLACK: f64 = 0.05;
const PATIENCE: Patience = Patience { in_all: None, silence: Some(Duration::from_secs(300)) };

#[derive(clap::Args)]
pub(super) struct Gate {
    /// Count instructions in QEMU instead of time, with small sizes; they repeat exactly
    #[arg(long, conflicts_with_all = ["quick", "hosted", "qemu", "against_go", "runs"])]
    pub(super) icount: bool,
    /// Fail where a row needs over 5 % more instructions than are recorded in boot/bench.icount
    #[arg(long, requires = "icount", conflicts_with_all = ["record", "rows"])]
    check: bool,
    /// Record the instructions in boot/bench.icount
    #[arg(long, requires = "icount", conflicts_with = "rows")]
    record: bool,
}

#[cfg(test)]
impl Gate {
    pub(super) const OFF: Gate = Gate { icount: false, check: false, record: false };
}

/// Counts by row.
pub(crate) type Counts = BTreeMap<String, f64>;

/// Counts, prints, checks or records; the status to end with.
pub(super) fn run(options: &Options) -> Result<u8, String> {
    let mut counts = Counts::new();
    for (name, count, unit) in count(&Image::of(compile::bare_metal("kernel")?), &options.rows)? {
        println!("{name} {} {unit}", shown(count));
        counts.insert(name, count);
    }
    let path = compile::root().join(RECORD);
    let failed = |error| format!("{RECORD}: {error}");
    if options.gate.record {
        fs::write(&path, HEAD.to_owned() + &text(&counts)).map_err(failed)?;
    } else if options.gate.check {
        let record = fs::read_to_string(&path).map_err(failed)?;
        let (dearer, other) = compare(&parse(&record), &counts);
        other.iter().chain(&dearer).for_each(|line| eprintln!("x: {line}"));
        if !dearer.is_empty() {
            return Err(format!(
                "{} of the rows in {RECORD} need more instructions now. If that is meant, ./x bench --icount --record writes it \
                 anew: commit it with the change, and say in the message why",
                dearer.len()
            ));
        }
    }
    Ok(0)
}

/// Boots the program for the rows whose names contain one of these, for all if there are none; name, instructions and unit of each.
pub(crate) fn count(image: &Image, rows: &[String]) -> Result<Vec<(String, f64, String)>, String> {
    let machine = Machine { firmware: Firmware::Bios, accel: Accel::Icount, cpus: 1, mem: "1G".into() };
    let line = [format!("{SETTINGS} bench fixed")]
        .into_iter()
        .chain(arguments(true, "quick", "rows=", rows))
        .collect::<Vec<_>>();
    let mut guest = image.boot_with(&machine, &[("cmdline", &line.join(" "))], |qemu| _ = qemu.args(CPU))?;
    let mut said = Vec::new();
    let ending = guest.watch(PATIENCE, |stream, bytes| {
        if stream == Stream::Program {
            said.extend_from_slice(bytes);
        }
    });
    match ending {
        Ending::Status(0) => Ok(String::from_utf8_lossy(&said).lines().filter_map(instructions).collect()),
        ending => Err(guest.account(&ending)),
    }
}

/// A row whose unit is a time; nothing of other lines.
fn instructions(line: &str) -> Option<(String, f64, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, value, unit] = words[..] else { return None };
    let (time, per) = unit.split_once('/').map_or((unit, String::new()), |(time, per)| (time, format!("/{per}")));
    let factor = match time {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        _ => return None,
    };
    Some((name.into(), value.parse::<f64>().ok()? * factor, format!("instructions{per}")))
}

fn shown(count: f64) -> String {
    if count < 1000.0 { format!("{count:.2}") } else { format!("{count:.0}") }
}

fn text(counts: &Counts) -> String {
    counts.iter().map(|(name, count)| format!("{name} {}\n", shown(*count))).collect()
}

fn parse(text: &str) -> Counts {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
}

/// What is worse than recorded, and what else differs.
pub(crate) fn compare(record: &Counts, counts: &Counts) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut other) = (Vec::new(), Vec::new());
    for (name, &old) in record {
        let Some(&new) = counts.get(name) else {
            worse.push(format!("{name} is recorded, and there is no such row"));
            continue;
        };
        let line = format!(
            "{name}: {} instructions, {} are recorded, {:+.1} %",
            shown(new),
            shown(old),
            100.0 * (new / old - 1.0)
        );
        if new > old * (1.0 + SLACK) {
            worse.push(line);
        } else if new < old * (1.0 - SLACK) {
            other.push(line + ": better; --record keeps it so");
        }
    }
    let unrecorded = counts.keys().filter(|name| !record.contains_key(*name));
    other.extend(unrecorded.map(|name| format!("{name} is not recorded yet; --record does")));
    (worse, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_grew_by_more_than_a_twentieth_fails_the_check() {
        let record = parse("# head\nalloc/a 100.00\nalloc/b 2000\nalloc/c 40.00\nalloc/gone 7.00\n");
        let judge = |b: f64| {
            compare(&record, &parse(&format!("alloc/a 95.00\nalloc/b {b}\nalloc/c 30\nalloc/gone 7\nalloc/new 1\n")))
        };
        let (worse, other) = judge(2100.0);
        assert_eq!(worse, [""; 0]);
        assert_eq!(
            other,
            [
                "alloc/c: 30.00 instructions, 40.00 are recorded, -25.0 %: better; --record keeps it so",
                "alloc/new is not recorded yet; --record does"
            ]
        );
        assert_eq!(judge(2110.0).0, ["alloc/b: 2110 instructions, 2000 are recorded, +5.5 %"]);
        let (worse, _) = compare(&record, &parse("alloc/a 100\nalloc/b 2000\nalloc/c 40\n"));
        assert_eq!(worse, ["alloc/gone is recorded, and there is no such row"]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let counts = parse("a/b 3.25\nc/d 123456\n");
        assert_eq!((parse(&(HEAD.to_owned() + &text(&counts))), counts.len()), (counts, 2));
    }

    #[test]
    fn times_are_instructions_and_nothing_else_is() {
        assert_eq!(
            instructions("alloc/tiny/8 32.6 ns/op"),
            Some(("alloc/tiny/8".into(), 32.6, "instructions/op".into()))
        );
        assert_eq!(
            instructions("stw/runtime.GC 1.5 us"),
            Some(("stw/runtime.GC".into(), 1500.0, "instructions".into()))
        );
        for line in ["# total 2.1 s", "stack/frame 64.0 bytes", "machine/clear/64 1.5 GB/s", "alloc/tiny/8 x ns/op"] {
            assert_eq!(instructions(line), None, "{line}");
        }
    }
}

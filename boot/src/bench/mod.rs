//! `./x bench`: what things cost here, and what the same things cost in Go.
//!
//! 1. Our program `bench` runs as a Linux process or on a machine of QEMU's; Go's (boot/bench-go), which `go` builds, as a process
//!    too, or in `linux`'s guest on the same machine.
//! 2. They take turns, so that whatever else the host does disturbs both; Go's measures only the rows that ours has.
//! 3. `side` listens to each; `rows` gathers what they print, and sets the medians beside one another.

mod go;
pub(crate) mod icount;
mod linux;
mod rows;
mod side;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::image::Image;
use crate::machine::{Accel, Firmware, Machine};
use crate::{compile, hosted, run};
use side::Side;

/// No run is begun that would probably end later than this, unless their number is asked for.
const ENOUGH: Duration = Duration::from_secs(18 * 60);
const ENOUGH_QUICK: Duration = Duration::from_secs(3 * 60);
const USUAL_RUNS: u32 = 3;

/// Memory is cleared and copied by stores: TCG carries `rep stosb` out byte by byte, and Linux uses it wherever the CPU
/// says that it is fast.
const CPU: [&str; 2] = ["-cpu", "max,-erms,-fsrm"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the rows whose names contain one of these
    rows: Vec<String>,
    /// Smaller sizes, and less time for each row
    #[arg(long)]
    quick: bool,
    /// Measure a Linux process, which is the default
    #[arg(long, conflicts_with = "qemu")]
    hosted: bool,
    /// Measure a machine that QEMU emulates
    #[arg(long)]
    qemu: bool,
    /// Measure the same rows in Go, and print the ratio
    #[arg(long)]
    against_go: bool,
    /// How often to run everything; without it three times, or less often where that takes too long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    #[command(flatten)]
    gate: icount::Gate,
}

/// Measures, prints; the status to end with.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    if options.gate.icount {
        return icount::run(&options);
    }
    let machine = Machine { firmware: Firmware::Bios, accel: Accel::Tcg, cpus: 4, mem: "8G".into() };
    let mut ours = ours(options.qemu, machine.clone())?;
    let program = options.against_go.then(go::build).transpose()?;
    let rows_of_go = program.as_ref().map_or(Ok(Vec::new()), |program| names(program, &options))?;
    let mut go = match program {
        Some(program) if options.qemu => Some(linux::guest(machine.clone(), &program)?),
        program => program.map(go::process),
    };
    warn_of_load();
    let measured = measure(&options, &mut ours, go.as_mut(), &rows_of_go);
    if options.qemu {
        println!("# qemu-system-x86_64 {} {}", machine.options()?.join(" "), CPU.join(" "));
    }
    match &go {
        _ if ours.rows.names().is_empty() => {}
        Some(go) => print_both(&ours, go, &rows_of_go),
        None => ours.rows.table().iter().for_each(|line| println!("{line}")),
    }
    for noise in [Some(&ours), go.as_ref()].into_iter().flatten().filter_map(Side::noise) {
        eprintln!("x: noise: {noise}");
    }
    measured.map(|()| 0)
}

/// Our program: as a process of Linux, or on a machine of QEMU's.
fn ours(qemu: bool, machine: Machine) -> Result<Side, String> {
    let image = Image::of(if qemu { compile::bare_metal("kernel")? } else { compile::hosted("hosted")? });
    let start = move |arguments: &[String]| {
        let line =
            run::command_line(Some("bench".into()), arguments.to_vec()).ok_or("a setting cannot be passed on")?;
        match qemu {
            true => image.boot_with(&machine, &[("cmdline", &line)], |qemu| _ = qemu.args(CPU)),
            false => hosted::start(&image, &machine.mem, &line),
        }
    };
    Ok(Side::new("ours", Box::new(start)))
}

/// Lets the two take turns.
fn measure(options: &Options, ours: &mut Side, mut go: Option<&mut Side>, rows_of_go: &[String]) -> Result<(), String> {
    let (started, enough) = (Instant::now(), if options.quick { ENOUGH_QUICK } else { ENOUGH });
    for done in 0..options.runs.unwrap_or(USUAL_RUNS) {
        if options.runs.is_none() && takes_too_long(done, started.elapsed(), enough) {
            eprintln!("x: {done} of {USUAL_RUNS} runs: another would take too long; --runs {USUAL_RUNS} takes all");
            break;
        }
        ours.run(&arguments(options.quick, "quick", "rows=", &options.rows))?;
        if ours.rows.names().is_empty() {
            return Err("no such row".into());
        }
        if let Some(go) = &mut go {
            let both: Vec<String> = rows_of_go.iter().filter(|name| ours.rows.has(name)).cloned().collect();
            if both.is_empty() {
                return Err("Go has no such row".into());
            }
            go.run(&arguments(options.quick, "-quick", "-rows=", &both))?;
        }
    }
    Ok(())
}

/// Whether another run after these, if it is like them, ends too late.
fn takes_too_long(done: u32, elapsed: Duration, enough: Duration) -> bool {
    done > 0 && elapsed / done * (done + 1) > enough
}

fn arguments(is_quick: bool, quick: &str, rows: &str, names: &[String]) -> Vec<String> {
    let quick = is_quick.then(|| quick.to_owned());
    quick.into_iter().chain((!names.is_empty()).then(|| format!("{rows}{}", names.join(",")))).collect()
}

fn print_both(ours: &Side, go: &Side, rows_of_go: &[String]) {
    println!(
        "# name ours go ratio unit ours-least..greatest go-least..greatest; ratio = ours/go, of rates (/s) go/ours: below 1 is better for us"
    );
    for line in ours.rows.beside(&go.rows) {
        println!("{line}");
    }
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in rows_of_go.iter().filter(|name| !ours.rows.has(name)) {
        missing.entry(ours.reason(name)).or_default().push(name);
    }
    for (why, names) in missing {
        println!("# missing in ours, {why}: {}", names.join(" "));
    }
    let is_gos = |name: &str| rows_of_go.iter().any(|row| row == name);
    let only_ours: Vec<&str> = ours.rows.names().into_iter().filter(|name| !is_gos(name)).collect();
    if !only_ours.is_empty() {
        println!("# missing in Go, which has no such thing: {}", only_ours.join(" "));
    }
}

/// The rows that Go's program would measure.
fn names(program: &Path, options: &Options) -> Result<Vec<String>, String> {
    let mut list = Command::new(program);
    list.arg("-list").args(arguments(options.quick, "-quick", "-rows=", &options.rows));
    Ok(side::answer(&mut list)?.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

fn warn_of_load() {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if load >= cores as f64 {
        eprintln!(
            "x: noise: the load average is {load} on {cores} CPUs: other programs take the time that is to be measured"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::side::tests::script;
    use super::*;

    const QUICK: Options = Options {
        rows: Vec::new(),
        quick: true,
        hosted: false,
        qemu: false,
        against_go: true,
        runs: Some(2),
        gate: icount::Gate::OFF,
    };

    #[test]
    fn the_two_take_turns_and_go_measures_what_ours_has() {
        let folder = tempfile::tempdir().expect("a folder for a moment");
        let asked = folder.path().join("asked");
        let side = |name, rows: &str| {
            script(name, format!("echo {name} $* >> {}; printf '{rows}# total 1 s\\n'", asked.display()))
        };
        let mut ours = side("ours", "a/b 1 ns\\na/c 1 ns\\nours/only 1 ns\\n");
        let mut go = side("Go", "a/b 2 ns\\na/c 2 ns\\n");
        let options = Options { rows: vec!["a/".into(), "only".into()], ..QUICK };
        let rows_of_go = ["a/b", "a/c", "a/d"].map(str::to_owned);
        assert_eq!(measure(&options, &mut ours, Some(&mut go), &rows_of_go), Ok(()));
        let turns = "ours quick rows=a/,only\nGo -quick -rows=a/b,a/c\n";
        assert_eq!(fs::read_to_string(&asked).ok(), Some([turns, turns].concat()));
        assert_eq!(ours.rows.beside(&go.rows).len(), 2);
        assert_eq!(measure(&QUICK, &mut ours, Some(&mut go), &["a/d".into()]), Err("Go has no such row".into()));
    }

    #[test]
    fn another_run_that_would_take_too_long_is_not_begun() {
        let second = Duration::from_secs(1);
        assert!(takes_too_long(1, second * 100, second * 180));
        assert!(!takes_too_long(1, second * 80, second * 180));
        assert!(takes_too_long(2, second * 130, second * 180));
        assert!(!takes_too_long(0, second * 200, second * 180), "one there is always");
    }
}

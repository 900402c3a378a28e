//! `./x profile`: a flame graph of where a program in QEMU spends its time.
//!
//! Some two hundred times a second the machine is stopped through QEMU's gdb stub, each CPU's chain of frames is read, and it goes on;
//! the guest's clocks stand still meanwhile. Chains become stacks of functions, the inlined ones too, which are counted in the
//! form that flame graphs are made from, "outermost;…;innermost count".

pub(crate) mod stub;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use inferno::flamegraph;

use crate::compile;
use crate::console::Stream;
use crate::image::Image;
use crate::lines::Lines;
use crate::machine::{Machine, escaped};
use crate::qemu::Ending;
use crate::run;
use stub::{MOST_FRAMES, Stub};

/// Out of step with the timer's ticks, every 10 ms.
const INTERVAL: Duration = Duration::from_micros(4_700);
const LISTED: usize = 12;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    machine: Machine,
    /// End after so many seconds, if the program has not ended by then
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// What to run, of those that ./x run --list names
    program: String,
    /// What it is given
    arguments: Vec<String>,
}

/// Stacks of functions, outermost first, `;` between them, and how often each was met.
pub(crate) type Stacks = BTreeMap<String, usize>;

/// Runs the program to its end or for the time given, draws, and says where most of the time went.
pub(crate) fn run(options: Options) -> Result<u8, String> {
    let image = Image::of(compile::bare_metal("kernel")?);
    let name = options.program.clone();
    let Some(line) = run::command_line(Some(options.program), options.arguments) else { return Ok(2) };
    let limit = options.seconds.map(Duration::from_secs);
    let (stacks, status) = sampled(&image, &options.machine, &line, limit, run::print)?;
    if stacks.is_empty() {
        return if status != 0 { Ok(status) } else { Err("the program ended before it was looked at".into()) };
    }
    let folder = compile::root().join("target/profile");
    let (folded, drawing) = (folder.join(format!("{name}.folded")), folder.join(format!("{name}.svg")));
    let failed = |path: &Path, error: String| format!("{}: {error}", path.display());
    let text: Vec<String> = stacks.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&folded, text.join("\n") + "\n"));
    written.map_err(|error| failed(&folded, error.to_string()))?;
    let mut options = flamegraph::Options::default();
    options.title = line;
    let svg = fs::File::create(&drawing).map_err(|error| failed(&drawing, error.to_string()))?;
    let drawn = flamegraph::from_lines(&mut options, text.iter().map(String::as_str), svg);
    drawn.map_err(|error| failed(&drawing, error.to_string()))?;
    list(&stacks);
    eprintln!("x: {} and {}", drawing.display(), folded.display());
    Ok(status)
}

/// The stacks that were met, and the program's status, 0 if it was still running after `limit`.
pub(crate) fn sampled(
    image: &Image,
    machine: &Machine,
    command_line: &str,
    limit: Option<Duration>,
    mut sink: impl FnMut(Stream, &[u8]),
) -> Result<(Stacks, u8), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for the stub's socket: {error}"))?;
    let socket = folder.path().join("gdb");
    let mut guest = image.boot_with(machine, &[("cmdline", command_line)], |qemu| {
        let socket = format!("socket,id=gdb,path={},server=on,wait=off", escaped(&socket));
        qemu.args(["-chardev", &socket, "-gdb", "chardev:gdb"]);
    })?;
    let mut chains: HashMap<Vec<u64>, usize> = HashMap::new();
    let mut connection: Option<(Stub, Instant)> = None;
    let ending = loop {
        if let Some(ending) = guest.listen(INTERVAL, &mut sink) {
            break Some(ending);
        }
        let sampled = match &mut connection {
            Some((_, started)) if limit.is_some_and(|limit| started.elapsed() >= limit) => break None,
            // The firmware and the boot loader are not what is asked about.
            None if guest.console.text().is_empty() => continue,
            None => Stub::connect(&socket).and_then(|mut stub| {
                stub.go_on()?;
                connection = Some((stub, Instant::now()));
                Ok(())
            }),
            Some((stub, _)) => stub.stop().and_then(|()| {
                for cpu in 0..machine.cpus {
                    *chains.entry(stub.chain(cpu)?).or_default() += 1;
                }
                stub.go_on()
            }),
        };
        if let Err(error) = sampled {
            break match guest.listen(Duration::from_secs(10), &mut sink) {
                None => return Err(format!("QEMU's gdb stub does not answer: {error}")),
                ended => ended,
            };
        }
    };
    match ending {
        Some(Ending::Status(status)) => Ok((named(image.elf(), chains), status)),
        None => Ok((named(image.elf(), chains), 0)),
        Some(ending) => Err(guest.account(&ending)),
    }
}

/// Functions for addresses, outermost first.
fn named(elf: &Path, chains: HashMap<Vec<u64>, usize>) -> Stacks {
    let mut lines = Lines::of(elf);
    let mut known: HashMap<u64, String> = HashMap::new();
    let mut stacks = Stacks::new();
    for (chain, count) in chains.into_iter().filter(|(chain, _)| !chain.is_empty()) {
        let mut functions = Vec::new();
        if chain.len() == MOST_FRAMES {
            functions.push("[deeper]");
        }
        for &address in &chain {
            known.entry(address).or_insert_with(|| {
                let mut names = lines.functions(address);
                names.reverse();
                names.join("\0").replace(';', ",").replace('\0', ";")
            });
        }
        functions.extend(chain.iter().rev().map(|address| &*known[address]));
        *stacks.entry(functions.join(";")).or_default() += count;
    }
    stacks
}

/// Where most of the time went: in the function itself (with what it calls of Rust's library), and in what it called too.
fn list(stacks: &Stacks) {
    let mut times: HashMap<&str, (usize, usize)> = HashMap::new();
    for (stack, count) in stacks {
        let mut functions: Vec<&str> = stack.split(';').filter(|function| is_ours(function)).collect();
        times.entry(functions.last().copied().unwrap_or("?")).or_default().0 += count;
        functions.sort_unstable();
        functions.dedup();
        functions.into_iter().for_each(|function| times.entry(function).or_default().1 += count);
    }
    let all: usize = stacks.values().sum();
    let mut times: Vec<_> = times.into_iter().filter(|(_, (own, _))| *own > 0).collect();
    times.sort_unstable_by_key(|&(name, (own, _))| (std::cmp::Reverse(own), name));
    eprintln!("x: {all} samples\n    itself  in all");
    for (function, (own, total)) in times.into_iter().take(LISTED) {
        let percent = |part: usize| 100.0 * part as f64 / all as f64;
        eprintln!("    {:5.1} %  {:5.1} %  {function}", percent(own), percent(total));
    }
}

/// Whether a function is none of Rust's library: the graph shows them all, but the list would be full of `wrapping_sub`.
fn is_ours(function: &str) -> bool {
    let path = function.trim_start_matches(['<', '&']).trim_start_matches("mut ");
    let first = path.split("::").next().unwrap_or_default();
    !["core", "alloc", "compiler_builtins"].contains(&first) && first.chars().all(|c| c.is_alphanumeric() || c == '_')
}

//! `./x test [FILTER]`: the host's tests, then the machine's, every one by name in libtest's format.
//!
//! 1. `host_tests` has Cargo run the unit tests of the crates that need no machine.
//! 2. `kernel_tests` and `program_tests` plan boots, `program_tests` and `process_tests` processes: a boot answers one test or many.
//!    `gdb_tests` looks into one with gdb, `profile_tests` into one as it runs; `icount_tests` counts
//!    its instructions.
//! 3. Boots of some tests out of many, those with settings of their own or one that ends the kernel, begin at the kernel's entry, where
//!    `head_start` keeps a machine. The others begin with the firmware.
//! 4. Boots run in the background, a few at a time; a trial of libtest-mimic waits for its own test's verdict, so that
//!    names come in order however the boots overtake one another.
//!
//! `./x soak` ([`soak`]) boots the same tests again and again.
//!
//! A boot that ends without a verdict for a test is that test's failure; a run without any test is one, too.

mod dump;
mod gctrace;
mod gdb_tests;
mod head_start;
mod heap_tour;
mod icount_tests;
mod kernel_tests;
mod process_tests;
mod profile_tests;
mod program_tests;
pub(crate) mod soak;

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libtest_mimic::{Arguments, Trial};

use crate::compile;
use crate::image::Image;
use crate::machine::{Accel, Firmware, Machine};
use head_start::HeadStart;
use kernel_tests::On;

const HOST_CRATES: [&str; 4] = ["runtime", "runtime-derive", "machine", "programs"];
const BOOTS_AT_ONCE: usize = 4;

/// What a test came to; a failure says why, and shows the console.
type Verdict = Result<(), String>;

/// Where a boot says what a test came to, by the test's name.
type Report<'a> = &'a mut dyn FnMut(&str, Verdict);

/// One boot (or more, if a test kills the machine under the others) and the tests that it answers.
struct Boot {
    tests: Vec<String>,
    run: Box<dyn Fn(Report) + Send + Sync>,
}

/// Runs the tests whose names contain `filter`; returns the status to end with.
pub(crate) fn run(filter: &str) -> Result<u8, String> {
    let (host_count, host_passed) = host_tests(filter)?;
    let kernel = Arc::new(Image::of(compile::bare_metal("kernel")?));
    let process = Arc::new(Image::of(compile::hosted("hosted")?));
    let tests = Arc::new(Image::of(compile::bare_metal("qemu-tests")?));
    let hosted_tests = Arc::new(Image::of(compile::hosted("qemu-tests")?));
    let wanted = |name: &str| name.contains(filter);
    let mut boots = kernel_tests::plan(&hosted_tests, &[On::Process], "", None, &wanted)?;
    let head_start = |image| Some(Arc::new(HeadStart::new(image, machine(Firmware::Bios, kernel_tests::MEMORY))));
    boots.extend(kernel_tests::plan(&tests, &[On::Bios, On::Uefi], "", head_start(&tests), &wanted)?);
    if kernel_tests::has(&tests, kernel_tests::LSR, &wanted)? {
        let with_lsr = Arc::new(Image::of(compile::bare_metal_with_lsr("qemu-tests")?));
        with_lsr.disk(Firmware::Bios)?;
        boots.extend(kernel_tests::plan(
            &with_lsr,
            &[On::Bios, On::Uefi],
            kernel_tests::LSR,
            head_start(&with_lsr),
            &wanted,
        )?);
    }
    boots.extend(program_tests::plan(&kernel, &process, &wanted));
    boots.extend(process_tests::plan(&process, &wanted));
    let (debugged, without_gdb) = gdb_tests::plan(&kernel, &wanted);
    boots.extend(debugged);
    boots.extend(icount_tests::plan(&kernel, &wanted));
    boots.extend(profile_tests::plan(&kernel, &wanted));
    if host_count == 0 && boots.is_empty() && without_gdb.is_empty() {
        return Err(format!("no test matches \"{filter}\""));
    }
    let mut passed = true;
    if !boots.is_empty() || !without_gdb.is_empty() {
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            kernel.disk(firmware)?;
            tests.disk(firmware)?;
        }
        let arguments = Arguments { test_threads: Some(1), ..Arguments::default() };
        passed = !libtest_mimic::run(&arguments, start(boots).into_iter().chain(without_gdb).collect()).has_failed();
    }
    if !host_passed {
        return Err("tests on the host failed, see above".into());
    }
    Ok(if passed { 0 } else { 1 })
}

/// Runs the boots in the background; the trials wait for what they say.
fn start(boots: Vec<Boot>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut queue = VecDeque::new();
    for boot in boots {
        let mut waiting = HashMap::new();
        for name in &boot.tests {
            let (sender, receiver) = mpsc::channel::<Verdict>();
            waiting.insert(name.clone(), sender);
            trials.push(Trial::test(name, move || match receiver.recv() {
                Ok(verdict) => Ok(verdict?),
                Err(_) => Err("its boot ended without a word about it".into()),
            }));
        }
        queue.push_back((boot, waiting));
    }
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..boots_at_once() {
        let queue = queue.clone();
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::spawn(move || {
            while let Some((boot, waiting)) = next() {
                (boot.run)(&mut |name, verdict| {
                    if let Some(trial) = waiting.get(name) {
                        let _ = trial.send(verdict); // a trial that has its verdict takes no second one
                    }
                });
            }
        });
    }
    trials
}

fn boots_at_once() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(BOOTS_AT_ONCE)
}

/// Relays what Cargo's test runs say; how many tests ran, and whether all passed.
fn host_tests(filter: &str) -> Result<(u64, bool), String> {
    let (mut count, mut passed) = (0, true);
    let packages = HOST_CRATES.map(|package| ["-p", package]).concat();
    for (packages, folder) in [(packages.as_slice(), "target"), (&["-p", "boot"], "target/boot")] {
        let mut cargo = compile::cargo();
        cargo.args(["test", "--no-fail-fast", "--target-dir", folder]).args(packages);
        cargo.args(["--", filter]).stdout(Stdio::piped());
        let mut cargo = cargo.spawn().map_err(|error| format!("cargo does not start: {error}"))?;
        let output = cargo.stdout.take().expect("stdout was asked for as a pipe");
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
            count += executed(&line);
        }
        passed &= cargo.wait().is_ok_and(|status| status.success());
    }
    Ok((count, passed))
}

/// How many tests a line of libtest's says were run: those of `test result: ok. 3 passed; 1 failed; …`.
fn executed(line: &str) -> u64 {
    let Some(counts) = line.strip_prefix("test result: ") else { return 0 };
    let words: Vec<&str> = counts.split([' ', ';']).collect();
    let of = |what| words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse::<u64>().ok());
    of("passed").unwrap_or(0) + of("failed").unwrap_or(0)
}

/// The machine that tests boot.
fn machine(firmware: Firmware, mem: &str) -> Machine {
    Machine { firmware, accel: Accel::Auto, cpus: 1, mem: mem.into() }
}

fn prefix(firmware: Firmware) -> &'static str {
    if firmware == Firmware::Uefi { "uefi" } else { "bios" }
}

#[cfg(test)]
mod tests {
    use super::executed;

    #[test]
    fn the_tests_that_ran_are_counted_failed_or_not() {
        assert_eq!(executed("test result: FAILED. 12 passed; 3 failed; 7 ignored; 0 measured; 9 filtered out"), 15);
        assert_eq!(executed("test a::b ... ok"), 0);
    }
}

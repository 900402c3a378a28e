//! `./x soak [BOOTS [FILTER]]`: the whole in-kernel suite in one boot, so many times, in search of what happens once in a hundred boots.
//!
//! BIOS and UEFI take turns; after each such boot comes one of the boots with fewer tests, those that end their kernel among them, in
//! turn. With a filter each boot with tests that bear its words is repeated so often. A failure is told at once, the sums at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use super::kernel_tests::{self, On};
use super::{Boot, boots_at_once};
use crate::image::Image;
use crate::machine::Firmware;
use crate::{compile, qemu};

/// Boots, and returns the status to end with.
pub(crate) fn run(boots: usize, filter: Option<&str>) -> Result<u8, String> {
    let started = Instant::now();
    let image = Arc::new(Image::of(compile::bare_metal("qemu-tests")?));
    let suites = [kernel_tests::suite(&image, On::Bios)?, kernel_tests::suite(&image, On::Uefi)?];
    let is_plain = |name: &str| suites.iter().any(|suite| suite.tests.iter().any(|test| test == name));
    let is_wanted = |name: &str| filter.map_or(!is_plain(name), |words| name.contains(words));
    let others = kernel_tests::plan(&image, &[On::Bios, On::Uefi], "", None, &is_wanted)?;
    if others.is_empty() {
        return Err(format!("no test matches \"{}\"", filter.unwrap_or_default()));
    }
    image.disk(Firmware::Bios)?;
    image.disk(Firmware::Uefi)?;
    let turns: Vec<&Boot> = match filter {
        None => (0..boots).flat_map(|turn| [&suites[turn % 2], &others[turn % others.len()]]).collect(),
        Some(_) => (0..boots).flat_map(|_| &others).collect(),
    };
    let (next, tests, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            let Some(boot) = turns.get(number) else { return };
            failures.fetch_add(count_failures(number, boot, &tests), Relaxed);
        }
    };
    thread::scope(|scope| (0..boots_at_once()).for_each(|_| drop(scope.spawn(work))));
    let (failures, resets) = (failures.into_inner(), qemu::RESET.load(Relaxed));
    println!(
        "{} boots, {} tests, {failures} failures, {resets} resets, {} s",
        qemu::STARTED.load(Relaxed),
        tests.into_inner(),
        started.elapsed().as_secs()
    );
    Ok(u8::from(failures + resets > 0))
}

/// Boots once and adds up its tests; how many of them failed, or had no verdict. Each is told.
fn count_failures(number: usize, boot: &Boot, tests: &AtomicUsize) -> usize {
    let (mut passed, mut failed) = (0, 0);
    (boot.run)(&mut |name, verdict| match verdict {
        Ok(()) => passed += 1,
        Err(account) => {
            failed += 1;
            println!("boot {number}: {name} failed: {}", account.trim_end());
        }
    });
    tests.fetch_add(passed + failed, Relaxed);
    let silent = boot.tests.len().saturating_sub(passed + failed);
    if silent > 0 {
        println!("boot {number}: {silent} tests had no verdict, in the boot of {}", boot.tests[0]);
    }
    failed + silent
}

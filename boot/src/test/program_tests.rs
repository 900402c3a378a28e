//! The real kernel and its programs, booted and as a process, judged by what a user sees: both streams and the status.

use std::sync::Arc;
use std::time::Duration;

use super::{Boot, Verdict, gctrace, heap_tour, machine, prefix};
use crate::console::Stream;
use crate::hosted;
use crate::image::Image;
use crate::machine::Firmware;
use crate::qemu::{Ending, Guest, Patience};
use crate::screen::Screen;

const PATIENCE: Patience = Patience { in_all: Some(Duration::from_secs(300)), silence: None };

/// What a boot printed: the program's stream and the runtime's.
struct Output {
    program: String,
    report: String,
}

struct Case {
    name: &'static str,
    machines: &'static [(Firmware, &'static str)],
    command_line: &'static str,
    status: u8,
    /// What is wrong with the output, if anything.
    fault: fn(&Output) -> Option<String>,
}

const BIOS: Firmware = Firmware::Bios;
const SIZES: &[(Firmware, &str)] = &[(BIOS, "64M"), (BIOS, "512M"), (BIOS, "4G")];
const SMALL: &[(Firmware, &str)] = &[(BIOS, "64M")];
const USUAL: &[(Firmware, &str)] = &[(BIOS, "512M")];
/// With which a machine is not refused.
const LEAST: &[(Firmware, &str)] = &[(BIOS, "32M"), (Firmware::Uefi, "64M")];

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "binary_trees_is_exact", machines: &[(BIOS, "64M"), (BIOS, "512M"), (BIOS, "4G"), (Firmware::Uefi, "512M")],
        command_line: "binary-trees 10", status: 0, fault: |output| differs(&output.program, &binary_trees(10)) },
    Case { name: "spinner_ends", machines: SIZES, command_line: "spinner", status: 0, fault: |_| None },
    Case { name: "deep_recursion_of_16_mib", machines: SIZES, command_line: "deep-recursion 16777216", status: 0, fault: |_| None },
    Case { name: "churn_for_a_second", machines: SIZES, command_line: "churn 1", status: 0, fault: |_| None },
    Case { name: "random_programs_do_what_their_shadow_does", machines: SMALL,
        command_line: "GODEBUG=asyncpreemptoff=0,gccheckmark=1,clobberfree=1 shadow 200000 1", status: 0,
        fault: |output| odd_shadow(&output.program) },
    Case { name: "random_programs_find_a_planted_bug", machines: SMALL, command_line: "shadow-of-a-bug 20000 1", status: 1,
        fault: |output| (!output.program.contains("difference: a block has changed")).then(|| output.program.clone()) },
    Case { name: "gctrace_is_gos_and_the_heap_is_the_live_data", machines: USUAL,
        command_line: "GODEBUG=gctrace=1 binary-trees 14", status: 0, fault: |output| odd_gctrace(&output.report) },
    Case { name: "out_of_memory_in_trees", machines: SMALL, command_line: "GOGC=off binary-trees 16", status: 2, fault: |output| unsaid(output, "out of memory") },
    Case { name: "out_of_memory_in_churn", machines: SMALL, command_line: "GOGC=off churn 60", status: 2, fault: |output| unsaid(output, "out of memory") },
    Case { name: "bench_prints_the_rows_that_are_asked_for", machines: USUAL, status: 0, fault: |output| differing_rows(&output.program),
        command_line: "bench quick fixed rows=tiny/8/,scan/64/p1,stack/64KiB,create+finish,dead/512,chase/32K" },
    Case { name: "bench_says_what_does_not_fit", machines: SMALL, command_line: "bench quick fixed rows=16MiB/gogc=off", status: 0,
        fault: |output| (!output.program.contains("# alloc/large/16MiB/gogc=off: needs 72 MiB, ")).then(|| output.program.clone()) },
    Case { name: "bench_without_such_a_row_says_so", machines: USUAL, command_line: "bench quick rows=nosuchrow", status: 2,
        fault: |output| unsaid(output, "no row has such a name") },
    Case { name: "an_unknown_setting_is_one_warning", machines: USUAL, command_line: "GODEBUG=nosuch=1 binary-trees 6", status: 0,
        fault: |output| not_once(&output.report, "nosuch").or_else(|| differs(&output.program, &binary_trees(6))) },
    Case { name: "a_malformed_setting_is_one_warning", machines: USUAL, command_line: "GOGC=abc binary-trees 6", status: 0,
        fault: |output| not_once(&output.report, "GOGC").or_else(|| differs(&output.program, &binary_trees(6))) },
    Case { name: "the_tour_runs_when_no_program_is_named", machines: SIZES, command_line: "", status: 0, fault: |output| odd_tour(&output.program) },
    Case { name: "the_heaps_tour_adds_up", machines: SIZES, command_line: "heap-tour", status: 0, fault: |output| heap_tour::odd(&output.program) },
    Case { name: "the_heaps_tour_adds_up_when_every_allocation_collects", machines: SIZES, command_line: "GODEBUG=gcstress=1 heap-tour",
        status: 0, fault: |output| heap_tour::odd(&output.program) },
    Case { name: "the_heaps_tour_adds_up_when_every_third_allocation_collects", machines: USUAL, command_line: "GODEBUG=gcstress=3 heap-tour",
        status: 0, fault: |output| heap_tour::odd(&output.program) },
    Case { name: "an_unknown_program_is_named", machines: LEAST, command_line: "nosuchprogram", status: 2, fault: |output| unsaid(output, "nosuchprogram") },
];

/// From a stick the tour runs, and a person in front of the machine reads all that the wire says.
fn judge_screen(image: &Image, firmware: Firmware) -> Verdict {
    let mut guest = Guest::start_from_stick(&machine(firmware, "512M"), &image.disk(firmware)?)?;
    let fault = match guest.screen_at("may be switched off\n", PATIENCE) {
        Err(ending) => return Err(guest.account(&ending)),
        Ok(picture) => Screen::read(&picture).map(|screen| screen.differs(&guest.console.text())),
    };
    let said = guest.console.text();
    match fault {
        None => Err("QEMU's picture is none".into()),
        Some(Some(fault)) => Err(format!("{fault}\nthe wire says\n{said}")),
        Some(None) => odd_tour(&said).map_or(Ok(()), Err),
    }
}

/// One boot for each case and machine, and one process for each case and size, whose names are wanted.
pub(crate) fn plan(kernel: &Arc<Image>, process: &Arc<Image>, wanted: &dyn Fn(&str) -> bool) -> Vec<Boot> {
    let mut boots = Vec::new();
    for case in CASES {
        for &(firmware, mem) in case.machines {
            let (name, image) = (format!("{}::programs::{}::{mem}", prefix(firmware), case.name), kernel.clone());
            boots
                .push(boot(name, case, move || image.boot(&machine(firmware, mem), &[("cmdline", case.command_line)])));
            let (name, image) = (format!("hosted::programs::{}::{mem}", case.name), process.clone());
            if firmware == BIOS {
                boots.push(boot(name, case, move || hosted::start(&image, mem, case.command_line)));
            }
        }
    }
    boots.extend([BIOS, Firmware::Uefi].map(|firmware| {
        let (name, image) = (format!("{}::screen::a_stick_shows_the_tour", prefix(firmware)), kernel.clone());
        Boot { tests: vec![name.clone()], run: Box::new(move |report| report(&name, judge_screen(&image, firmware))) }
    }));
    boots.retain(|boot| wanted(&boot.tests[0]));
    boots
}

fn boot(name: String, case: &'static Case, start: impl Fn() -> Result<Guest, String> + Send + Sync + 'static) -> Boot {
    Boot {
        tests: vec![name.clone()],
        run: Box::new(move |report| report(&name, start().and_then(|guest| judge(guest, case)))),
    }
}

fn judge(mut guest: Guest, case: &Case) -> Verdict {
    let (mut program, mut report) = (Vec::new(), Vec::new());
    let ending = guest.watch(PATIENCE, |stream, bytes| match stream {
        Stream::Firmware => {}
        Stream::Program => program.extend_from_slice(bytes),
        Stream::Report => report.extend_from_slice(bytes),
    });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\r', "");
    let output = Output { program: text(program), report: text(report) };
    let fault = match ending {
        Ending::Status(status) if status == case.status => (case.fault)(&output),
        _ => Some(format!("status {} was expected", case.status)),
    };
    fault.map_or(Ok(()), |fault| Err(format!("{}: {fault}; {}", case.command_line, guest.account(&ending))))
}

/// The output of the Benchmarks Game's program: a tree of depth d has 2^(d+1) - 1 nodes.
fn binary_trees(depth: u32) -> String {
    let nodes = |depth: u32| (1u64 << (depth + 1)) - 1;
    let deepest = depth.max(6);
    let mut text = format!("stretch tree of depth {}\t check: {}\n", deepest + 1, nodes(deepest + 1));
    for depth in (4..=deepest).step_by(2) {
        let trees = 1u64 << (deepest - depth + 4);
        text += &format!("{trees}\t trees of depth {depth}\t check: {}\n", trees * nodes(depth));
    }
    text + &format!("long lived tree of depth {deepest}\t check: {}\n", nodes(deepest))
}

fn differs(printed: &str, expected: &str) -> Option<String> {
    (printed != expected).then(|| format!("printed\n{printed}instead of\n{expected}"))
}

/// The tour checks its own figures; here, that it came to its end, in time to be watched and on a screen of its own.
fn odd_tour(said: &str) -> Option<String> {
    let chapters = said.lines().filter(|line| line.contains(". ") && line.contains("kernel/")).count();
    let ends =
        said.contains("10 destructors") && said.contains("learns: stack overflow") && !said.contains("do not show");
    (!ends || chapters < 6 || said.lines().count() > 80).then(|| format!("{chapters} chapters of the tour in\n{said}"))
}

/// What is printed besides remarks are the rows that were asked for, in order, each a name, a value and a unit.
fn differing_rows(printed: &str) -> Option<String> {
    const ROWS: [&str; 15] = [
        "machine/chase/32KiB ns/op",
        "alloc/tiny/8/gogc=off ns/op",
        "alloc/tiny/8/gogc=100 ns/op",
        "alloc-parallel/noscan/64/p1/gogc=off Mops/s",
        "alloc-parallel/noscan/64/p1/gogc=100 Mops/s",
        "alloc-parallel/noscan/64/p1/gogc=100-64MiB-live Mops/s",
        "alloc-parallel/scan/64/p1/gogc=off Mops/s",
        "alloc-parallel/scan/64/p1/gogc=100 Mops/s",
        "alloc-parallel/scan/64/p1/gogc=100-64MiB-live Mops/s",
        "sweep/dead/512/p1 ns/object",
        "sweep/dead/512/p1/page ns/8KiB-page",
        "stack/64KiB/growing ns/frame",
        "stack/64KiB/grown ns/frame",
        "stack/64KiB/growth-total us",
        "goroutine/create+finish/p1 ns/op",
    ];
    let rows = printed.lines().filter(|line| !line.starts_with('#'));
    let names = rows.map(|row| match row.split(' ').collect::<Vec<_>>()[..] {
        [name, value, unit] if value.parse::<f64>().is_ok() => format!("{name} {unit}"),
        _ => row.to_string(),
    });
    (!names.eq(ROWS.map(String::from))).then(|| format!("printed\n{printed}"))
}

/// Every class had objects, and the heap walker looked at them.
fn odd_shadow(said: &str) -> Option<String> {
    let is_right = said.contains("\n0 classes without an object") && !said.contains("\n0 walks ");
    (!is_right).then(|| said.into())
}

fn unsaid(output: &Output, words: &str) -> Option<String> {
    (!output.report.contains(words)).then(|| format!("the runtime does not say \"{words}\""))
}

fn not_once(report: &str, words: &str) -> Option<String> {
    let count = report.lines().filter(|line| line.contains(words)).count();
    (count != 1).then(|| format!("{count} lines name {words}"))
}

/// The long-lived tree has half a mebibyte; the runtime must never hold on to much more than that and the tree at hand.
fn odd_gctrace(report: &str) -> Option<String> {
    let lines: Vec<&str> = report.lines().filter(|line| line.starts_with("gc ")).collect();
    let collections: Vec<_> = lines.iter().map_while(|line| gctrace::parse(line)).collect();
    if collections.len() < lines.len() {
        return Some(format!("Go would not print {}", lines[collections.len()]));
    }
    let in_order = collections.iter().zip(1..).all(|(collection, number)| collection.number == number);
    let most = collections.iter().map(|collection| collection.live).max();
    (!in_order || most.is_none_or(|live| live > 3))
        .then(|| format!("{} collections, at most {most:?} MB live", lines.len()))
}

#[cfg(test)]
mod tests {
    use super::binary_trees;

    #[test]
    fn the_expected_trees_are_the_benchmarks_games() {
        let expected = "stretch tree of depth 11\t check: 4095\n1024\t trees of depth 4\t check: 31744\n\
            256\t trees of depth 6\t check: 32512\n64\t trees of depth 8\t check: 32704\n16\t trees of depth 10\t check: 32752\n\
            long lived tree of depth 10\t check: 2047\n";
        assert_eq!(binary_trees(10), expected);
    }
}

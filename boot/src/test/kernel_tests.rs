//! The tests in the crate qemu-tests: which run together in one boot, and what their boots say. The same source is a
//! kernel for the machine and a process, whose start is a boot here too.
//!
//! The binary's section `test_names` has a line for each: its path, then `key=value` words. `status=2` makes that exit the
//! pass (a boot of its own), `says=WORDS|WORDS` (underscores for blanks) must be on its console then (`!WORDS` must not),
//! `cmdline=A=B,C=D` are its settings, `mem=64M` its memory. `uefi` boots one that is alone under UEFI, `resets` makes a triple fault the
//! pass, `nmis` sends NMIs to it all the time. `build=lsr` is for the kernel compiled with loop strength reduction, and for no other.
//! Tests that need nothing of that run again while the collector is under stress ([`STRESS`]), but for those that break the collector
//! (`off`) or for which it would take too long (`unstressed`). While they run the kernel reports `@start NAME`, `@ok NAME` or
//! `@fail NAME: reason`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::head_start::HeadStart;
use super::{Boot, Report, Verdict, dump, machine, prefix};
use crate::console::Stream;
use crate::hosted;
use crate::image::Image;
use crate::machine::Firmware;
use crate::qemu::{Ending, Guest, Patience};

pub(super) const MEMORY: &str = "256M";
/// The build in which loops may lose what they read.
pub(crate) const LSR: &str = "lsr";
/// Silence is the only clock: a loaded host may slow a boot down tenfold, but not to this.
const PATIENCE: Patience = Patience { in_all: None, silence: Some(Duration::from_secs(60)) };

/// How tests run again: what stands before their names, on what they run, the settings, and how the names begin that take part.
/// As a process at every allocation; but not what makes threads or objects by the hundred thousand.
const STRESS: [(&str, On, &str, &[&str]); 4] = [
    ("stress", On::Bios, NOW_AND_THEN, &[""]),
    ("stress::always", On::Bios, ALWAYS, &["roots::", "stacks::", "verify::"]),
    ("hosted::stress", On::Process, NOW_AND_THEN, &["collector::", "threads::"]),
    ("hosted::stress::always", On::Process, ALWAYS, &SMALL),
];
const NOW_AND_THEN: &str = "GODEBUG=gcstress=500,gccheckmark=1,clobberfree=1";
const ALWAYS: &str = "GODEBUG=gcstress=1,gccheckmark=1,clobberfree=1";
const SMALL: [&str; 8] =
    ["exceptions::", "interruptions::", "panics::", "preemption::", "process::", "roots", "stacks::", "verify::"];

/// What a boot is a boot of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum On {
    Bios,
    Uefi,
    /// A process of Linux, whose image is another.
    Process,
}

impl On {
    fn prefix(self) -> &'static str {
        match self {
            On::Bios => prefix(Firmware::Bios),
            On::Uefi => prefix(Firmware::Uefi),
            On::Process => "hosted",
        }
    }

    /// Starts the kernel of tests.
    fn start(
        self,
        image: &Image,
        head_start: Option<&HeadStart>,
        mem: &str,
        settings: &str,
        tests: &[String],
    ) -> Result<Guest, String> {
        let command_line = format!("{settings} {}", tests.join(" "));
        if let (On::Bios, MEMORY, Some(head_start)) = (self, mem, head_start) {
            return head_start.start(&command_line);
        }
        let firmware = match self {
            On::Bios => Firmware::Bios,
            On::Uefi => Firmware::Uefi,
            On::Process => return hosted::start(image, mem, &command_line),
        };
        image.boot(&machine(firmware, mem), &[("cmdline", &command_line)])
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Test {
    name: String,
    /// Not under stress.
    calm: bool,
    status: Option<u8>,
    says: String,
    settings: String,
    mem: String,
    build: String,
    /// It boots under UEFI.
    uefi: bool,
    /// The pass is a reset of the machine.
    resets: bool,
    /// NMIs are sent from its start to its end.
    nmis: bool,
}

/// Whether there is a test for this build among those that are wanted.
pub(crate) fn has(image: &Image, build: &str, wanted: &dyn Fn(&str) -> bool) -> Result<bool, String> {
    let tests = tests(image)?;
    Ok(tests.iter().any(|test| test.build == build && wanted(&shown(prefix(Firmware::Bios), &test.name))))
}

fn tests(image: &Image) -> Result<Vec<Test>, String> {
    image.lines("test_names")?.iter().map(|line| Test::parse(line)).collect()
}

/// The boots of a build's image for its tests whose names are wanted: under UEFI only those that need nothing special, elsewhere all.
pub(crate) fn plan(
    image: &Arc<Image>,
    platforms: &[On],
    build: &str,
    head_start: Option<Arc<HeadStart>>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Boot>, String> {
    let mut together = BTreeMap::<(&str, On, String, String), Vec<Test>>::new();
    let mut boots = Vec::new();
    for &on in platforms {
        for test in tests(image)?.into_iter().filter(|test| test.build == build) {
            let under = if test.uefi { On::Uefi } else { on };
            if !wanted(&shown(under.prefix(), &test.name)) || on == On::Uefi && !test.is_plain() {
                continue;
            }
            let group = (on.prefix(), on, test.mem.clone(), test.settings.clone());
            match test.status {
                Some(status) => boots.push(alone(image, head_start.clone(), under, test, status)),
                None if test.resets => boots.push(alone(image, head_start.clone(), under, test, 0)),
                None => together.entry(group).or_default().push(test),
            }
        }
    }
    for (prefix, on, settings, groups) in STRESS.into_iter().filter(|(_, on, ..)| platforms.contains(on)) {
        for test in tests(image)?.into_iter().filter(|test| test.build == build) {
            let takes_part = groups.iter().any(|group| test.name.starts_with(group));
            if test.is_plain() && !test.calm && takes_part && wanted(&shown(prefix, &test.name)) {
                let group = (prefix, on, test.mem.clone(), settings.to_owned());
                together.entry(group).or_default().push(test);
            }
        }
    }
    let groups = together.into_iter().map(|((prefix, on, mem, settings), tests)| {
        let names = tests.into_iter().map(|test| test.name).collect();
        // The usual boot is a whole one.
        let head_start = head_start.clone().filter(|_| !settings.is_empty());
        in_one_boot(image, head_start, on, prefix, mem, settings, names)
    });
    Ok(groups.chain(boots).collect())
}

/// The boot of all tests that need nothing special.
pub(crate) fn suite(image: &Arc<Image>, on: On) -> Result<Boot, String> {
    let names = tests(image)?.into_iter().filter(Test::is_plain).map(|test| test.name).collect();
    Ok(in_one_boot(image, None, on, on.prefix(), MEMORY.into(), String::new(), names))
}

fn in_one_boot(
    image: &Arc<Image>,
    head_start: Option<Arc<HeadStart>>,
    on: On,
    prefix: &'static str,
    mem: String,
    settings: String,
    names: Vec<String>,
) -> Boot {
    let image = image.clone();
    Boot {
        tests: names.iter().map(|name| shown(prefix, name)).collect(),
        run: Box::new(move |report| {
            let start = |left: &[String]| on.start(&image, head_start.as_deref(), &mem, &settings, left);
            run(start, names.clone(), &mut |name, verdict| report(&shown(prefix, name), verdict));
        }),
    }
}

fn shown(prefix: &str, name: &str) -> String {
    format!("{prefix}::{name}")
}

/// The boot of a test whose pass is the kernel's end.
fn alone(image: &Arc<Image>, head_start: Option<Arc<HeadStart>>, on: On, test: Test, status: u8) -> Boot {
    let (image, name) = (image.clone(), shown(on.prefix(), &test.name));
    let judge = move || -> Verdict {
        let name = std::slice::from_ref(&test.name);
        let mut guest = on.start(&image, head_start.as_deref(), &test.mem, &test.settings, name)?;
        let mut monitor = guest.monitor.take_if(|_| test.nmis);
        let mut nmis = None;
        let ending = guest.watch(PATIENCE, |_, bytes| {
            if String::from_utf8_lossy(bytes).starts_with("@start")
                && let Some(monitor) = monitor.take()
            {
                nmis = Some(thread::spawn(move || monitor.send_nmis()));
            }
        });
        match ending {
            Ending::Died(why) if test.resets && why.contains("triple fault") => Ok(()),
            Ending::Status(ended) if ended == status && has_said(&guest.console.text(), &test.says) => {
                match dump::oddity(&guest.console.text()) {
                    None => Ok(()),
                    Some(odd) => Err(format!("Go would not print {odd:?} in a dump; {}", guest.account(&ending))),
                }
            }
            _ => {
                let account = guest.account(&ending);
                drop(guest); // ends the NMIs, if nothing else has
                let end = nmis.and_then(|nmis| nmis.join().ok()).map(|error| format!("NMIs came until: {error}\n"));
                let end = end.unwrap_or_default();
                Err(format!("status {status} and \"{}\" were expected, but {account}{end}", test.says))
            }
        }
    };
    Boot { tests: vec![name.clone()], run: Box::new(move |report| report(&name, judge())) }
}

/// Whether each of the phrases between bars is in the text; one with a `!` before it must not be.
fn has_said(text: &str, says: &str) -> bool {
    let text = text.replace('_', " ");
    says.split('|').all(|phrase| match phrase.strip_prefix('!') {
        Some(unwanted) => !text.contains(unwanted),
        None => text.contains(phrase),
    })
}

/// Boots until each test has its verdict: one that kills its machine fails, and the rest go into a new one.
fn run(start: impl Fn(&[String]) -> Result<Guest, String>, tests: Vec<String>, report: Report) {
    let mut session = Session { left: tests, running: None, said: Vec::new() };
    while !session.left.is_empty() {
        let before = session.left.len();
        let mut guest = match start(&session.left) {
            Ok(guest) => guest,
            Err(error) => return session.left.iter().for_each(|test| report(test, Err(error.clone()))),
        };
        let mut lines = [String::new(), String::new()]; // a report may come in the middle of a program's line
        let ending = guest.watch(PATIENCE, |stream, bytes| {
            if stream == Stream::Firmware {
                return;
            }
            let line = &mut lines[usize::from(stream == Stream::Report)];
            for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
                line.push_str(piece);
                if line.ends_with('\n') {
                    session.hear(line.trim_end(), report);
                    line.clear();
                }
            }
        });
        if session.running.is_none() && session.left.len() < before && !matches!(ending, Ending::Status(0)) {
            continue; // died between two tests
        }
        let account = guest.account(&ending);
        match session.running.take() {
            Some(test) => session.judged(&test, Err(account), report),
            None => return session.left.iter().for_each(|test| report(test, Err(format!("never started: {account}")))),
        }
    }
}

/// Where a boot stands in its list of tests.
struct Session {
    left: Vec<String>,
    running: Option<String>,
    said: Vec<String>,
}

impl Session {
    fn hear(&mut self, line: &str, report: Report) {
        if let Some(test) = line.strip_prefix("@start ") {
            self.running = Some(test.to_owned());
            self.said.clear();
        } else if let Some(test) = line.strip_prefix("@ok ") {
            self.judged(test, Ok(()), report);
        } else if let Some((test, reason)) = line.strip_prefix("@fail ").and_then(|rest| rest.split_once(": ")) {
            let said: String = self.said.iter().map(|line| format!("    {line}\n")).collect();
            self.judged(test, Err(format!("{reason}\n{said}")), report);
        } else {
            self.said.push(line.to_owned());
        }
    }

    fn judged(&mut self, test: &str, verdict: Verdict, report: Report) {
        self.left.retain(|left| left != test);
        self.running = None;
        report(test, verdict);
    }
}

impl Test {
    /// Whether it may run with any others, on any machine.
    fn is_plain(&self) -> bool {
        self.status.is_none() && !self.resets && self.settings.is_empty() && self.mem == MEMORY && self.build.is_empty()
    }

    fn parse(line: &str) -> Result<Test, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let mut test = Test {
            name,
            calm: false,
            status: None,
            says: String::new(),
            settings: String::new(),
            mem: MEMORY.into(),
            build: String::new(),
            uefi: false,
            resets: false,
            nmis: false,
        };
        for word in words {
            match word.split_once('=') {
                Some(("status", value)) => test.status = Some(value.parse().map_err(|_| format!("no status: {line}"))?),
                Some(("says", value)) => test.says = value.replace('_', " "),
                Some(("cmdline", value)) => test.settings = value.replace(",GO", " GO"),
                Some(("mem", value)) => test.mem = value.into(),
                Some(("build", value @ LSR)) => test.build = value.into(),
                Some(("off" | "unstressed", _)) => test.calm = true,
                Some(("uefi", _)) => test.uefi = true,
                Some(("resets", _)) => test.resets = true,
                Some(("nmis", _)) => test.nmis = true,
                _ => return Err(format!("test_names: {word} is no key=value of a test: {line}")),
            }
        }
        Ok(test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_line_is_read_and_an_unknown_key_refused() {
        let test =
            Test::parse("guard::null status=2 says=page_fault cmdline=GOGC=off,GODEBUG=gctrace=1,gcstress=4 mem=64M");
        let test = test.expect("a good line");
        assert_eq!((test.status, test.says.as_str(), test.mem.as_str()), (Some(2), "page fault", "64M"));
        assert_eq!(test.settings, "GOGC=off GODEBUG=gctrace=1,gcstress=4");
        assert_eq!(shown(prefix(Firmware::Uefi), &test.name), "uefi::guard::null");
        assert_eq!(Test::parse("a::b build=lsr").map(|test| test.build), Ok("lsr".into()));
        assert!(Test::parse("a::b build=rls").is_err());
        assert!(Test::parse("a::b sttaus=2").is_err() && Test::parse("a::b status=x").is_err());
    }

    #[test]
    fn all_phrases_are_wanted_and_none_behind_a_mark() {
        assert!(has_said("a_b c", "a b|c|!d") && has_said("x", ""));
        assert!(!has_said("a_b c", "a b|d") && !has_said("a b", "a|!b"));
    }

    #[test]
    fn a_session_gives_each_test_its_verdict_and_knows_who_is_running() {
        let mut session = Session { left: vec!["a".into(), "b".into(), "c".into()], running: None, said: vec![] };
        let mut verdicts = Vec::new();
        for line in ["tricolor", "@start a", "@ok a", "@start b", "x=1", "@fail b: 2: 3", "@start c"] {
            session.hear(line, &mut |test, verdict| verdicts.push((test.to_owned(), verdict)));
        }
        assert_eq!(verdicts, [("a".into(), Ok(())), ("b".into(), Err("2: 3\n    x=1\n".into()))]);
        assert_eq!((session.left, session.running), (vec!["c".to_string()], Some("c".into())));
    }
}

//! The settings that Go reads from its environment, by their Go names, on the kernel's command line. Go: runtime1.go, extern.go.
//!
//! `GOGC=50 GODEBUG=gctrace=1,asyncpreemptoff=0 binary-trees 16`: words with a `=` come first, then the program and its arguments.
//! What cannot be understood gets one warning that names it, and its default.

use crate::addr::Bytes;
use core::fmt;

/// What was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// GOGC; `None` is `off`.
    pub gc_percent: Option<u32>,
    /// GOMEMLIMIT; `None` is `off`.
    pub memory_limit: Option<Bytes>,
    /// GODEBUG=gctrace=1.
    pub gc_trace: bool,
    /// GODEBUG=gcstoptheworld=2: spans are swept in the stop in which they were marked. 1, marking in a stop, is what 0 is so far.
    pub gc_stop_the_world: u8,
    /// GODEBUG=asyncpreemptoff=0. Unlike Go's, threads are cooperative unless they are told otherwise.
    pub preempts: bool,
    /// GODEBUG=gccheckmark=1: a second mark, independent of the first, judges it.
    pub gc_checkmark: bool,
    /// GODEBUG=gcstress=N: a collection at every N-th allocation; 0: none. Not Go's.
    pub gc_stress: u32,
    /// GODEBUG=clobberfree=1: freed memory is filled with junk.
    pub clobber_free: bool,
    /// GODEBUG=invalidptr=0 switches it off: a reference that leads to free memory of the heap is fatal.
    pub invalid_pointers: bool,
    /// GODEBUG=randseed=N: what else is left to chance, the order in which maps are iterated, is computed from it. Not Go's.
    pub random_seed: Option<u64>,
    /// GOTRACEBACK.
    pub traceback: Traceback,
}

/// Whom a report of a fatal error shows. Go: `gotraceback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Traceback {
    /// Nobody.
    None,
    /// The thread that failed; all of them if the runtime itself failed, or nobody in particular.
    Single,
    /// All threads. Go's `system` and `crash` are the same here: the runtime's own frames are always shown, and there is no core.
    All,
}

/// One thing that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning<'a> {
    word: &'a str,
    wanted: &'static str,
}

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: setting {:?} is ignored: {}", self.word, self.wanted)
    }
}

impl Settings {
    pub const DEFAULT: Settings = Settings {
        gc_percent: Some(100),
        memory_limit: None,
        gc_trace: false,
        gc_stop_the_world: 0,
        preempts: false,
        gc_checkmark: false,
        gc_stress: 0,
        clobber_free: false,
        invalid_pointers: true,
        random_seed: None,
        traceback: Traceback::Single,
    };

    /// Splits `line` into settings and the rest, which starts with the program's name.
    pub fn parse<'a>(line: &'a str, warn: &mut dyn FnMut(Warning<'a>)) -> (Settings, &'a str) {
        let mut settings = Settings::DEFAULT;
        let mut rest = line.trim_ascii();
        loop {
            let (word, after) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
            let Some((name, value)) = word.split_once('=') else { return (settings, rest) };
            settings.set(word, name, value, warn);
            rest = after.trim_ascii_start();
        }
    }

    fn set<'a>(&mut self, word: &'a str, name: &str, value: &'a str, warn: &mut dyn FnMut(Warning<'a>)) {
        let wanted = match name {
            "GOGC" => match percent(value) {
                Some(percent) => return self.gc_percent = percent,
                None => "expected GOGC=PERCENT or GOGC=off",
            },
            "GOMEMLIMIT" => match bytes(value) {
                Some(limit) => return self.memory_limit = limit,
                None => "expected GOMEMLIMIT=BYTES, with B, KiB, MiB, GiB or TiB behind the number, or GOMEMLIMIT=off",
            },
            "GOMAXPROCS" => match value.parse() {
                Ok(1u32) => return,
                Ok(2..) => "this kernel runs threads on one CPU",
                _ => "expected GOMAXPROCS=NUMBER, at least 1",
            },
            "GOTRACEBACK" => match value {
                "none" => return self.traceback = Traceback::None,
                "single" => return self.traceback = Traceback::Single,
                "all" | "system" | "crash" => return self.traceback = Traceback::All,
                _ => "expected GOTRACEBACK=none, single, all, system or crash",
            },
            "GODEBUG" => {
                for item in value.split(',').filter(|item| !item.is_empty()) {
                    self.set_debug(item, warn);
                }
                return;
            }
            _ => "known are GOGC, GOMEMLIMIT, GODEBUG, GOMAXPROCS and GOTRACEBACK",
        };
        warn(Warning { word, wanted });
    }

    fn set_debug<'a>(&mut self, item: &'a str, warn: &mut dyn FnMut(Warning<'a>)) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        if let ("randseed", Ok(seed)) = (name, value.parse()) {
            return self.random_seed = Some(seed);
        }
        let wanted = match (name, value.parse::<i32>()) {
            ("gctrace", Ok(level)) => return self.gc_trace = level > 0,
            ("gcstoptheworld", Ok(level @ 0..=2)) => return self.gc_stop_the_world = level as u8,
            ("gcstoptheworld", Ok(_)) => "expected gcstoptheworld=0, 1 or 2",
            ("asyncpreemptoff", Ok(off)) => return self.preempts = off == 0,
            ("gccheckmark", Ok(on)) => return self.gc_checkmark = on > 0,
            ("gcstress", Ok(every @ 0..)) => return self.gc_stress = every as u32,
            ("clobberfree", Ok(on)) => return self.clobber_free = on > 0,
            ("invalidptr", Ok(on)) => return self.invalid_pointers = on > 0,
            (
                "gctrace" | "gcstoptheworld" | "asyncpreemptoff" | "gccheckmark" | "gcstress" | "clobberfree"
                | "invalidptr" | "randseed",
                _,
            ) => "expected a number behind the =",
            _ => {
                "GODEBUG knows gctrace, gcstoptheworld, asyncpreemptoff, gccheckmark, gcstress, clobberfree, invalidptr and randseed"
            }
        };
        warn(Warning { word: item, wanted });
    }
}

/// `Some(None)` is `off`.
fn percent(value: &str) -> Option<Option<u32>> {
    match value {
        "off" => Some(None),
        // Go: a negative percentage is off.
        _ => value.parse::<i32>().ok().map(|percent| u32::try_from(percent).ok()),
    }
}

/// `Some(None)` is `off`. Go: `parseByteCount`.
fn bytes(value: &str) -> Option<Option<Bytes>> {
    if value == "off" {
        return Some(None);
    }
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &value[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let bytes = digits.parse::<usize>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes <= isize::MAX as usize)?;
    Some(Some(Bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn parse(line: &str) -> (Settings, String, Vec<String>) {
        let mut warnings = Vec::new();
        let (settings, rest) = Settings::parse(line, &mut |warning| warnings.push(warning.to_string()));
        (settings, rest.to_string(), warnings)
    }

    #[test]
    fn settings_come_first_and_the_rest_is_the_program() {
        let (settings, rest, warnings) =
            parse(" GOGC=50  GOMEMLIMIT=64MiB GODEBUG=gctrace=1,asyncpreemptoff=0 binary-trees 16 a=b");
        assert_eq!(settings.gc_percent, Some(50));
        assert_eq!(settings.memory_limit, Some(Bytes(64 << 20)));
        assert!(settings.gc_trace && settings.preempts);
        assert_eq!(rest, "binary-trees 16 a=b");
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn off_and_negative_switch_the_collector_off() {
        assert_eq!(parse("GOGC=off").0.gc_percent, None);
        assert_eq!(parse("GOGC=-1").0.gc_percent, None);
        assert_eq!(parse("GOMEMLIMIT=off").0.memory_limit, None);
    }

    #[test]
    fn each_thing_that_is_not_understood_gets_one_warning_that_names_it() {
        for bad in [
            "GOGC=abc",
            "GOGC=",
            "GOGC=99999999999",
            "GOMEMLIMIT=1e999GiB",
            "GOMEMLIMIT=64MB",
            "GOMEMLIMIT=9999999TiB",
            "GOMEMLIMIT=é",
            "GOMAXPROCS=0",
            "GOMAXPROCS=x",
            "GOMAXPROCS=4",
            "GOTRACEBACK=some",
            "GODEBUG=nosuch=1",
            "GODEBUG=gctrace",
            "GODEBUG=gcstoptheworld=3",
            "GODEBUG=gcstress=often",
            "GODEBUG=gcstress=-1",
            "GODEBUG=gccheckmark=",
            "GODEBUG=invalidptr=off",
            "GODEBUG=randseed=-1",
            "NOSUCH=1",
            "=",
        ] {
            let (settings, rest, warnings) = parse(&std::format!("{bad} spinner"));
            assert_eq!(settings, Settings::DEFAULT, "{bad}");
            assert_eq!(rest, "spinner", "{bad}");
            assert_eq!(warnings.len(), 1, "{bad}: {warnings:?}");
            let name = bad.strip_prefix("GODEBUG=").unwrap_or(bad);
            assert!(warnings[0].contains(name), "{bad}: {warnings:?}");
        }
    }

    #[test]
    fn the_verifiers_are_off_and_invalidptr_is_on_unless_they_are_set() {
        let (settings, ..) = parse("GODEBUG=gccheckmark=1,gcstress=500,clobberfree=1,invalidptr=0,gcstoptheworld=2");
        assert_eq!(settings.gc_stop_the_world, 2);
        assert!(settings.gc_checkmark && settings.clobber_free && !settings.invalid_pointers);
        assert_eq!(settings.gc_stress, 500);
        assert_eq!(parse("GODEBUG=randseed=18446744073709551615").0.random_seed, Some(u64::MAX));
        let (settings, ..) = parse(
            "GODEBUG=gccheckmark=1,gcstress=5,clobberfree=1,invalidptr=0,gccheckmark=0,gcstress=0,clobberfree=0,invalidptr=1",
        );
        assert_eq!(settings, Settings::DEFAULT);
    }

    #[test]
    fn one_bad_item_of_godebug_spoils_no_other() {
        let (settings, _, warnings) = parse("GODEBUG=nosuch=1,gctrace=1,,");
        assert!(settings.gc_trace);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn an_empty_line_is_the_default_and_no_program() {
        assert_eq!(parse(""), (Settings::DEFAULT, String::new(), Vec::new()));
        assert_eq!(parse("  \n "), (Settings::DEFAULT, String::new(), Vec::new()));
    }
}

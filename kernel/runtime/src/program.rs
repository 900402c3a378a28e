//! What can be run: programs register themselves, each by one attribute in one file.
//!
//! `#[program("binary-trees DEPTH", "what it shows")]` puts a [`Program`] into the link section `programs`; the linker says
//! where that begins and ends. Nobody lists the programs anywhere, and a binary has those of the crates it names.
//!
//! Unsafe here: the section is read as the array that it is.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;

/// The status of a program that was called wrongly, as in Go.
pub const MISUSED: u8 = 2;

/// One entry of the section `programs`.
#[repr(C)]
pub struct Program {
    /// The name, and the names of the arguments: `binary-trees DEPTH`.
    pub usage: &'static str,
    /// One line for the list.
    pub shows: &'static str,
    /// Runs on thread 0; what it returns is the kernel's exit status.
    pub run: fn(&Arguments) -> u8,
}

impl Program {
    /// The first word of the usage.
    pub fn name(&self) -> &'static str {
        first_word(self.usage)
    }
}

fn first_word(usage: &'static str) -> &'static str {
    usage.split_ascii_whitespace().next().unwrap_or_default()
}

/// Every program in this binary, by name (link order differs between builds).
pub fn all() -> Vec<&'static Program> {
    let mut programs: Vec<&Program> = linked().iter().collect();
    programs.sort_unstable_by_key(|program| program.name());
    programs
}

/// Runs what a line says, `binary-trees 16`, and returns its status. A line that names no program gets a report
/// of those that there are.
pub fn run(line: &str) -> u8 {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let Some((name, arguments)) = words.split_first() else {
        crate::report!("no program was named; there are: {}", Names);
        return MISUSED;
    };
    match linked().iter().find(|program| program.name() == *name) {
        Some(program) => (program.run)(&Arguments { usage: program.usage, words: arguments }),
        None => {
            crate::report!("there is no program `{name}`; there are: {Names}");
            MISUSED
        }
    }
}

struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, program) in all().iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, program.name())?;
        }
        Ok(())
    }
}

#[cfg(any(target_os = "none", hosted))]
fn linked() -> &'static [Program] {
    unsafe extern "C" {
        static __start_programs: [u8; 0];
        static __stop_programs: [u8; 0];
    }
    let (start, stop) = (&raw const __start_programs, &raw const __stop_programs);
    let count = (stop.addr() - start.addr()) / size_of::<Program>();
    // SAFETY: the linker puts these two around the section; all that is in it are the `static ENTRY: Program`s of the attribute.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// Any other binary has no section of that name.
#[cfg(not(any(target_os = "none", hosted)))]
fn linked() -> &'static [Program] {
    &[]
}

/// The words after the program's name.
pub struct Arguments<'a> {
    usage: &'static str,
    words: &'a [&'a str],
}

impl Arguments<'_> {
    /// All arguments as numbers, each with the least and the most that it may be; `64M` is 64 · 2²⁰, so with `K` and `G`.
    ///
    /// Too few, too many, none, or one out of its range: reports what was wrong and what would be right in one line, and
    /// returns `None`; the program then returns [`MISUSED`].
    pub fn numbers<const N: usize>(&self, limits: [(u64, u64); N]) -> Option<[u64; N]> {
        self.parse(limits).map_err(|wrong| self.refuse(wrong)).ok()
    }

    /// The words themselves, for a program that reads them in a way of its own.
    pub fn words(&self) -> &[&str] {
        self.words
    }

    /// Reports what is wrong with them and what would be right in one line; the status to end with.
    pub fn refuse(&self, wrong: impl fmt::Display) -> u8 {
        crate::report!("{}: {wrong} (usage: {})", first_word(self.usage), self.usage);
        MISUSED
    }

    fn parse<const N: usize>(&self, limits: [(u64, u64); N]) -> Result<[u64; N], Misuse<'_>> {
        if let Some(word) = self.words.get(N) {
            return Err(Misuse::Unexpected(word));
        }
        let mut names = self.usage.split_ascii_whitespace().skip(1);
        let mut numbers = [0; N];
        for (index, (least, most)) in limits.into_iter().enumerate() {
            let name = names.next().unwrap_or("a number");
            let word = self.words.get(index).copied();
            let number = word.and_then(number).filter(|number| (least..=most).contains(number));
            numbers[index] = number.ok_or(Misuse::Wrong { name, word, least, most })?;
        }
        Ok(numbers)
    }
}

fn number(word: &str) -> Option<u64> {
    let (digits, shift) = match word.as_bytes().last()? {
        b'K' => (&word[..word.len() - 1], 10),
        b'M' => (&word[..word.len() - 1], 20),
        b'G' => (&word[..word.len() - 1], 30),
        _ => (word, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[derive(Debug)]
enum Misuse<'a> {
    Unexpected(&'a str),
    Wrong { name: &'a str, word: Option<&'a str>, least: u64, most: u64 },
}

impl fmt::Display for Misuse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::Unexpected(word) => write!(f, "unexpected `{word}`"),
            Misuse::Wrong { name, word, least, most } => {
                write!(f, "{name} must be a number from {least} to {most}, ")?;
                match word {
                    Some(word) => write!(f, "not `{word}`"),
                    None => f.write_str("and is missing"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn parse<const N: usize>(words: &[&str], limits: [(u64, u64); N]) -> Result<[u64; N], String> {
        Arguments { usage: "program DEPTH BYTES", words }.parse(limits).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn numbers_are_read_with_their_suffixes() {
        assert_eq!(parse(&["7", "64M"], [(0, 9), (0, u64::MAX)]), Ok([7, 64 << 20]));
        assert_eq!(parse(&["1K", "2G"], [(0, 1024), (0, u64::MAX)]), Ok([1024, 2 << 30]));
        assert_eq!(parse(&[], []), Ok([]));
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_would_be_right() {
        for word in ["x", "-1", "M", "10", "é", "99999999999G", "99999999999999999999"] {
            assert_eq!(
                parse(&[word, "1"], [(2, 9), (0, 1)]),
                Err(alloc::format!("DEPTH must be a number from 2 to 9, not `{word}`"))
            );
        }
        assert_eq!(
            parse(&["2"], [(2, 9), (0, 1)]),
            Err("BYTES must be a number from 0 to 1, and is missing".to_string())
        );
        assert_eq!(parse(&["2", "1", "3"], [(2, 9), (0, 1)]), Err("unexpected `3`".to_string()));
        assert_eq!(parse(&["3"], []), Err("unexpected `3`".to_string()));
    }
}

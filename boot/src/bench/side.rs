//! One of the two that are compared: a program that prints rows. Starts it, and listens.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::rows::{NOISY, Rows};
use crate::console::Stream;
use crate::lines::Lines;
use crate::qemu::{Ending, Guest, Host, Patience};
use crate::run;

/// A program may be silent for so long.
const PATIENCE: Patience = Patience { in_all: None, silence: Some(Duration::from_secs(600)) };

/// Starts the program with these arguments.
type Start = Box<dyn Fn(&[String]) -> Result<Guest, String>>;

pub(super) struct Side {
    name: &'static str,
    start: Start,
    pub(super) rows: Rows,
    /// Why there is no row whose name contains the first, as the program says it: `# missing chan/: no channels yet`.
    reasons: Vec<(String, String)>,
    /// What else it has said, which is passed on once.
    remarks: HashSet<String>,
}

impl Side {
    pub(super) fn new(name: &'static str, start: Start) -> Side {
        Side { name, start, rows: Rows::default(), reasons: Vec::new(), remarks: HashSet::new() }
    }

    /// Runs the program once, and takes its rows.
    pub(super) fn run(&mut self, arguments: &[String]) -> Result<(), String> {
        let mut guest = (self.start)(arguments).map_err(|why| format!("{}: {why}", self.name))?;
        let (mut line, mut is_whole) = (Vec::new(), false);
        let ending = guest.watch(PATIENCE, |stream, bytes| {
            if stream == Stream::Report {
                return run::print(stream, bytes);
            }
            for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                line.extend(piece);
                if piece.ends_with(b"\n") {
                    let text = String::from_utf8_lossy(&line);
                    is_whole |= text.contains("# total ");
                    self.hear(text.trim_end());
                    line.clear();
                }
            }
        });
        match ending {
            Ending::Status(0) if is_whole => Ok(()),
            Ending::Status(0) => Err(format!("{}: ended before its last line", self.name)),
            Ending::Status(status) => Err(format!("{}: ended with status {status}", self.name)),
            ending => Err(format!("{}: {}", self.name, guest.account(&ending))),
        }
    }

    fn hear(&mut self, line: &str) {
        let missing = line.strip_prefix("# missing ").and_then(|line| line.split_once(": "));
        if let Some((part, why)) = missing {
            self.reasons.push((part.to_owned(), why.to_owned()));
        } else if !self.rows.take(line) && self.remarks.insert(line.to_owned()) {
            eprintln!("# {}: {}", self.name, line.trim_start_matches("# "));
        }
    }

    /// Why there is no row of this name.
    pub(super) fn reason(&self, name: &str) -> &str {
        let reason = self.reasons.iter().find(|(part, _)| name.contains(part.as_str()));
        reason.map_or("not measured yet", |(_, why)| why)
    }

    /// A warning, if it is due.
    pub(super) fn noise(&self) -> Option<String> {
        let (noisy, all) = (self.rows.noisy(), self.rows.names().len());
        (noisy > 0).then(|| format!("{noisy} of {all} rows of {} moved by more than {NOISY}x between runs", self.name))
    }
}

/// Starts a process that is listened to on both its outputs, and may keep files in the folder.
pub(super) fn spawn(command: &Command, folder: tempfile::TempDir) -> Result<Guest, String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(command.get_program()).args(command.get_args());
    Guest::spawn(Host::Linux, shell, folder, Vec::new(), Lines::none())
}

/// What a command that says little says; an error with the last thing that it says, if it fails.
pub(super) fn answer(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} does not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("{name}: {}", said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("failed without a word")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shell's script in the place of a program; the arguments are `$*`.
    pub(crate) fn script(name: &'static str, script: String) -> Side {
        Side::new(
            name,
            Box::new(move |arguments| {
                let mut shell = Command::new("sh");
                shell.args(["-c", &script, "sh"]).args(arguments);
                spawn(&shell, tempfile::tempdir().expect("a folder for a moment"))
            }),
        )
    }

    #[test]
    fn a_program_says_rows_and_why_others_are_missing() {
        let said = "# go1.27.3\na/x 2 ns/op\r\n# missing chan/: no channels: yet\n# missing /p4: one CPU\na/y 4 ns/op\n# total 1 s\n";
        let mut side = script("ours", format!("printf '{said}'"));
        assert_eq!(side.run(&[]), Ok(()));
        assert_eq!(side.rows.names(), ["a/x", "a/y"]);
        assert_eq!(side.reason("chan/unbuffered/p4"), "no channels: yet");
        assert_eq!(side.reason("sieve/500/p4"), "one CPU");
        assert_eq!(side.reason("sieve/500/p1"), "not measured yet");
    }

    #[test]
    fn a_program_that_ends_badly_or_before_its_last_line_has_failed() {
        for (text, why) in [
            ("echo a/x 1 ns", "ours: ended before its last line"),
            ("echo a/x 1 ns; echo '# total 1 s'; exit 2", "ours: ended with status 2"),
        ] {
            let mut side = script("ours", text.into());
            assert_eq!(side.run(&[]), Err(why.into()));
            assert_eq!(side.rows.names(), ["a/x"], "what came is kept");
        }
        let failed = answer(Command::new("sh").args(["-c", "echo why >&2; exit 1"]));
        assert_eq!(failed, Err("sh: why".into()));
    }
}

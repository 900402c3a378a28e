//! What a process alone shows: that a limit of Linux's is named, and that one that hangs says where.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{Boot, Verdict, dump};
use crate::hosted;
use crate::image::Image;
use crate::qemu::{Ending, Patience};

type Test = (&'static str, fn(&Image) -> Verdict);

const TESTS: [Test; 4] = [
    ("one_that_takes_too_long_says_where_it_is", takes_too_long),
    ("a_memory_that_is_no_size_is_refused", no_size),
    ("signals_that_the_parent_has_blocked_come_all_the_same", blocked_signals),
    ("a_limit_on_addresses_leaves_fewer_and_is_named_when_too_few", few_addresses),
];

pub(crate) fn plan(process: &Arc<Image>, wanted: &dyn Fn(&str) -> bool) -> Vec<Boot> {
    let named = TESTS.map(|(name, test)| (format!("hosted::process::{name}"), test));
    let boots = named.into_iter().filter(|(name, _)| wanted(name)).map(|(name, test)| {
        let process = process.clone();
        Boot { tests: vec![name.clone()], run: Box::new(move |report| report(&name, test(&process))) }
    });
    boots.collect()
}

fn takes_too_long(process: &Image) -> Verdict {
    let mut guest = hosted::start(process, "512M", "churn 3600")?;
    let patience = Patience { in_all: Some(Duration::from_secs(2)), silence: None };
    let ending = guest.watch(patience, |_, _| {});
    let said = guest.console.text();
    let is_named = said.contains("SIGQUIT: quit\n") && said.contains("goroutine 1 [running]:\n");
    let is_placed = said.contains("programs::churn::churn(...)\n\tkernel/programs/src/churn.rs:");
    match dump::oddity(&said) {
        Some(line) => Err(format!("Go would not print {line}")),
        None if matches!(ending, Ending::TimedOut { .. }) && is_named && is_placed => Ok(()),
        None => Err(guest.account(&ending)),
    }
}

fn no_size(process: &Image) -> Verdict {
    // No number, and more bytes than addresses have a sign for.
    ["many", "9999999999G"].into_iter().try_for_each(|memory| {
        says(
            Command::new(process.elf()).args(["binary-trees", "4"]).env("TRICOLOR_MEMORY", memory),
            2,
            "TRICOLOR_MEMORY is",
        )
    })
}

/// A blocked SIGSEGV ends whoever faults, handler or not. Rust's own `Command` unblocks all, before the child's last step.
fn blocked_signals(process: &Image) -> Verdict {
    let mut command = Command::new(process.elf());
    command.args(["deep-recursion", "1000000"]);
    // SAFETY: between fork and exec a set on the stack is filled, and one system call made.
    unsafe {
        command.pre_exec(|| {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            match libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    says(&mut command, 0, "1 CPU")
}

/// In KiB, as `ulimit` has it.
fn few_addresses(process: &Image) -> Verdict {
    let under = |limit: u64| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {limit}; exec \"$0\" binary-trees 4")]).arg(process.elf());
        shell
    };
    says(&mut under(100_000_000), 0, "1 CPU")?;
    says(&mut under(1_000_000), 2, "ulimit -v")
}

/// Whether the command ends with that status, having said those words on its standard error.
fn says(command: &mut Command, status: i32, words: &str) -> Verdict {
    let output = command.output().map_err(|error| format!("it does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() == Some(status) && said.contains(words) {
        true => Ok(()),
        false => Err(format!("{} and \"{words}\" were expected, not {} and\n{said}", status, output.status)),
    }
}

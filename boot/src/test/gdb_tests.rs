//! `./x debug` as a script: gdb stops the tour in its midst and is asked for threads, spans, objects.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::{Boot, Verdict, machine};
use crate::debug;
use crate::image::Image;
use crate::machine::Firmware;
use crate::qemu::host_load;

const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "bios::debug::gdb_shows_threads_spans_and_objects";

/// While the tour's stack grows, main waits for that; the first object is in a span that the CPU allocates from. In its
/// overflow a thread stands in its loop, the one that will overflow runs (and main may be waiting yet or not, for the
/// timer takes turns by then); the lists of the chapter before fill some spans.
const COMMANDS: &[&str] = &[
    "echo @entry\\n",
    "bt 1",
    "thbreak programs::tour::descend",
    "continue",
    "echo @two goroutines\\n",
    "info goroutines",
    "echo @waiting\\n",
    "goroutine 1 bt",
    "echo @first object\\n",
    "python first = next(span for span in Span.all() if span.slot_bytes == 16 and span.kind == 'noscan')",
    "python gdb.execute('heapobj 0x%x' % first.base)",
    "thbreak programs::tour::recurse",
    "continue",
    "echo @goroutines\\n",
    "info goroutines",
    "echo @interrupted\\n",
    "goroutine 3 bt",
    "echo @running\\n",
    "bt",
    "echo @spans\\n",
    "info spans",
    "echo @some spans\\n",
    "info spans 16",
    "echo @object\\n",
    "python full = next(span for span in Span.all() if span.slot_bytes == 16 and span.allocated() == span.slots)",
    "python gdb.execute('heapobj 0x%x' % (full.base + 24))",
    "echo @no object\\n",
    "heapobj $rsp",
    "echo @no goroutine\\n",
    "goroutine 99 bt",
];

/// What each part of gdb's answer must have, in this order.
const ANSWERS: &[(&str, &[&str])] = &[
    ("entry", &["kernel::kernel::boot"]),
    (
        "two goroutines",
        &["  1 waiting  programs::tour::growing_stack (Join)\n", "* 2 running  programs::tour::descend"],
    ),
    ("waiting", &["Packet::wait", "programs::tour::growing_stack", "programs::tour::tour", "enter_main"]),
    ("first object", &[" +0x0, 16 bytes, allocated: slot 0 of 512", "noscan, cached"]),
    ("goroutines", &["  3 runnable programs::tour::stopped_loop", "\n* ", " running  programs::tour::recurse"]),
    ("interrupted", &["programs::tour::stopped_loop", "thread_start"]),
    ("running", &["programs::tour::recurse", "programs::tour::overflow", "thread_start"]),
    ("spans", &["slot bytes", "ambiguous", "precise", "noscan"]),
    ("some spans", &["          16  precise"]),
    (
        "object",
        &[
            "object 0xffff9000",
            " +0x8, 16 bytes, allocated: slot 1 of 504 in the span at 0xffff9000",
            ", precise",
            "\n0xffff9000",
        ],
    ),
    ("no object", &["is in no object of the heap"]),
    ("no goroutine", &["there is no goroutine 99"]),
];

/// The boot, if gdb is here; otherwise the test that says that it is not.
pub(crate) fn plan(image: &Arc<Image>, wanted: &dyn Fn(&str) -> bool) -> (Option<Boot>, Vec<Trial>) {
    if !wanted(NAME) {
        return (None, Vec::new());
    }
    if debug::version().is_none() {
        return (None, vec![Trial::test(format!("{NAME} (there is no gdb here)"), || Ok(())).with_ignored_flag(true)]);
    }
    let image = image.clone();
    (Some(Boot { tests: vec![NAME.into()], run: Box::new(move |report| report(NAME, judge(&image))) }), Vec::new())
}

fn judge(image: &Image) -> Verdict {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let answer = ask(image, &folder.path().join("gdb"))?;
    let part = |name: &str| {
        let (_, after) = answer.split_once(&format!("@{name}\n"))?;
        Some(after.split_once("\n@").map_or(after, |(part, _)| part))
    };
    for (name, words) in ANSWERS {
        let mut rest = part(name).unwrap_or_default();
        for words in *words {
            let Some(at) = rest.find(words) else {
                return Err(format!("\"{words}\" is missing from {name} in gdb's\n{answer}"));
            };
            rest = &rest[at + words.len() - 1..];
        }
    }
    Ok(())
}

/// All that gdb says. It would wait for ever for a breakpoint that is never met; then it is ended, and that is an error.
fn ask(image: &Image, socket: &Path) -> Result<String, String> {
    let _guest = debug::stopped(image, &machine(Firmware::Bios, "512M"), "tour", socket)?;
    let no_file = |error: io::Error| format!("no file for gdb's words: {error}");
    let mut said = tempfile::tempfile().map_err(no_file)?;
    let mut gdb = debug::gdb(image, socket);
    gdb.args(["--batch", "-nx", "-ex", "set width 0"]);
    for command in COMMANDS {
        gdb.args(["-ex", command]);
    }
    gdb.stdin(Stdio::null()).stdout(said.try_clone().map_err(no_file)?).stderr(said.try_clone().map_err(no_file)?);
    let mut gdb = gdb.spawn().map_err(|error| format!("gdb does not start: {error}"))?;
    let end = Instant::now() + PATIENCE;
    while matches!(gdb.try_wait(), Ok(None)) && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    let is_late = matches!(gdb.try_wait(), Ok(None));
    // Both fail only if it has ended already.
    let _ = gdb.kill();
    let _ = gdb.wait();
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).map_err(no_file)?;
    let said = String::from_utf8_lossy(&text).into_owned();
    match is_late {
        true => Err(format!("gdb had not ended after {} s{}; it said\n{said}", PATIENCE.as_secs(), host_load())),
        false => Ok(said),
    }
}

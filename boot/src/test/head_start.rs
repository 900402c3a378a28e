//! A machine kept as it stands at the kernel's entry. The way there, through firmware and boot loader, is the same for
//! every test that has a boot of its own, and ten times as long as most of these take.
//!
//! 1. gdb's stub lets a machine run up to the kernel's first instruction. QEMU hands no machine over that stands at a
//!    breakpoint, only one that ran when it was stopped: so it runs on the spot, by a jump to itself in that
//!    instruction's place, and the monitor stops it.
//! 2. The instruction is put back, and the machine's state goes into a file: QEMU's migration.
//! 3. A test's machine begins with that state. What is its own comes through fw_cfg, of which the kernel has read nothing by then.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::debug;
use crate::image::Image;
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::profile::stub::Stub;
use crate::qemu::Guest;

const STATE: &str = "state";
/// `jmp` to itself.
const ON_THE_SPOT: [u8; 2] = [0xeb, 0xfe];

/// The machines with one image.
pub(super) struct HeadStart {
    image: Arc<Image>,
    machine: Machine,
    /// Where the state is, once somebody has asked for it; `None`: this QEMU does not do it.
    kept: OnceLock<Option<TempDir>>,
}

impl HeadStart {
    pub(super) fn new(image: &Arc<Image>, machine: Machine) -> HeadStart {
        HeadStart { image: image.clone(), machine, kept: OnceLock::new() }
    }

    /// Starts a machine at the kernel's entry, or at its power-on if there is no other way.
    pub(super) fn start(&self, command_line: &str) -> Result<Guest, String> {
        let or_say = |error| eprintln!("x: all machines start at their power-on, which takes longer: {error}");
        match self.kept.get_or_init(|| self.keep().map_err(or_say).ok()) {
            Some(folder) => self.go_on(folder, command_line),
            None => self.image.boot(&self.machine, &[("cmdline", command_line)]),
        }
    }

    fn keep(&self) -> Result<TempDir, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder for a machine's state: {error}"))?;
        let socket = folder.path().join("gdb");
        let mut guest = debug::stopped(&self.image, &self.machine, "", &socket)?;
        let monitor = guest.monitor.as_mut().ok_or("QEMU has ended")?;
        let saved = save(&socket, self.image.entry()?, monitor, &folder.path().join(STATE));
        saved.map_err(|error| format!("QEMU does not save a machine's state: {error}"))?;
        self.go_on(&folder, "")?;
        Ok(folder)
    }

    fn go_on(&self, folder: &TempDir, command_line: &str) -> Result<Guest, String> {
        let state = format!("exec:cat '{}'", folder.path().join(STATE).display());
        let begin_with = |qemu: &mut std::process::Command| _ = qemu.args(["-incoming", &state]);
        let mut guest = self.image.boot_with(&self.machine, &[("cmdline", command_line)], begin_with)?;
        let monitor = guest.monitor.as_mut().ok_or("QEMU has ended")?;
        wait(monitor, "query-status", "paused")
            .map_err(|error| format!("QEMU does not take over a machine's state: {error}"))?;
        // A kernel may be at its end before QEMU has answered.
        let _ = ask(monitor, "cont");
        Ok(guest)
    }
}

fn save(socket: &Path, entry: u64, monitor: &mut Monitor, state: &Path) -> io::Result<()> {
    let mut stub = Stub::connect(socket)?;
    stub.run_to(entry)?;
    let first = stub.replace(entry, ON_THE_SPOT)?;
    stub.go_on()?;
    wait(monitor, "query-status", "running")?;
    ask(monitor, "stop")?;
    stub.replace(entry, first)?;
    let uri = format!("exec:cat > '{}'", state.display());
    monitor.ask(&json!({"execute": "migrate", "arguments": {"uri": uri}}))?;
    wait(monitor, "query-migrate", "completed")
}

fn ask(monitor: &mut Monitor, command: &str) -> io::Result<()> {
    monitor.ask(&json!({"execute": command})).map(drop)
}

/// Asks until the status is that one; one that will not change any more is an error.
fn wait(monitor: &mut Monitor, question: &str, wanted: &str) -> io::Result<()> {
    loop {
        let answer = monitor.ask(&json!({"execute": question}))?;
        match answer["status"].as_str() {
            Some(status) if status == wanted => return Ok(()),
            Some("failed" | "cancelled") => return Err(io::Error::other(answer.to_string())),
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

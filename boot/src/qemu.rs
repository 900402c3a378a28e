//! One guest, mostly a QEMU process: what it is given, how long it may take, how it ended.

use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::console::{Console, Stream};
use crate::lines::Lines;
use crate::machine::{Machine, escaped};
use crate::monitor::Monitor;
use crate::symbols;

/// How long a machine may take in all, and how long it may be silent: of that only the time in which we ourselves run counts, not a host
/// that stalls.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) in_all: Option<Duration>,
    pub(crate) silence: Option<Duration>,
}

/// How a machine ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The kernel ended itself with this status.
    Status(u8),
    /// Patience ran out, and QEMU was killed.
    TimedOut { waited: String, registers: String },
    /// QEMU ended without a status from the kernel.
    Died(String),
}

/// What the guest runs in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Qemu,
    /// It is a process itself.
    Linux,
}

/// How long a process may take for the report of its threads.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Silence is measured in these.
const MOMENT: Duration = Duration::from_secs(1);

/// Where QEMU notes the CPUs' resets.
const RESETS: &str = "resets";

/// Machines started so far, and resets of CPUs that had run.
pub(crate) static STARTED: AtomicUsize = AtomicUsize::new(0);
pub(crate) static RESET: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Guest {
    host: Host,
    process: Child,
    folder: tempfile::TempDir,
    pub(crate) monitor: Option<Monitor>,
    output: Receiver<Vec<u8>>,
    log: fs::File,
    symbols: Vec<u8>,
    pub(crate) console: Console,
}

impl Guest {
    /// Starts `machine` on `disk`, which it does not write to. The kernel finds `files`, and its `symbols`, in fw_cfg under
    /// `opt/org.tricolor/`. `more` may add options.
    pub(crate) fn start(
        machine: &Machine,
        disk: &Path,
        symbols: Vec<u8>,
        lines: Lines,
        files: &[(&str, &str)],
        more: impl FnOnce(&mut Command),
    ) -> Result<Guest, String> {
        let folder = tempfile::tempdir().map_err(no_folder)?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(machine.options()?)
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
            .args(["-drive", &format!("format=raw,snapshot=on,file={}", escaped(disk))]);
        more(&mut qemu);
        let files = files.iter().map(|(name, text)| (*name, text.as_bytes()));
        for (name, bytes) in files.chain([("symbols", &*symbols)]) {
            let path = folder.path().join(name);
            fs::write(&path, bytes).map_err(no_folder)?;
            qemu.args(["-fw_cfg", &format!("name=opt/org.tricolor/{name},file={}", escaped(&path))]);
        }
        Guest::launch(qemu, symbols, lines)
    }

    /// Starts `machine` from a USB stick with this image, as if it were made of metal: it does not look like a virtual one, so
    /// the kernel asks it for no files, and nothing but its switch ends it.
    pub(crate) fn start_from_stick(machine: &Machine, disk: &Path) -> Result<Guest, String> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(machine.options()?)
            .args(["-cpu", "max,-hypervisor", "-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"])
            .args(["-drive", &format!("if=none,id=stick,format=raw,snapshot=on,file={}", escaped(disk))]);
        Guest::launch(qemu, Vec::new(), Lines::none())
    }

    fn launch(mut qemu: Command, symbols: Vec<u8>, lines: Lines) -> Result<Guest, String> {
        let folder = tempfile::tempdir().map_err(no_folder)?;
        let socket = folder.path().join("monitor");
        qemu.args(["-vga", "std", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .args(["-d", "cpu_reset", "-D", &folder.path().join(RESETS).to_string_lossy()])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", escaped(&socket))]);
        let mut guest = Guest::spawn(Host::Qemu, qemu, folder, symbols, lines)?;
        STARTED.fetch_add(1, Relaxed);
        // QEMU answers once its main loop runs.
        while guest.monitor.is_none() && matches!(guest.process.try_wait(), Ok(None)) {
            guest.monitor = Monitor::connect(&socket).ok();
            thread::sleep(Duration::from_millis(2));
        }
        Ok(guest)
    }

    /// Starts the command, whose output is the guest's. `folder` is there as long as the guest is.
    pub(crate) fn spawn(
        host: Host,
        mut command: Command,
        folder: tempfile::TempDir,
        symbols: Vec<u8>,
        lines: Lines,
    ) -> Result<Guest, String> {
        let log = tempfile::tempfile().map_err(no_folder)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone().map_err(no_folder)?);
        end_with_parent(&mut command);
        let process = command.spawn();
        let name = command.get_program().display();
        let mut process = process.map_err(|error| format!("{name} does not start: {error}"))?;
        let output = read_in_background(process.stdout.take().expect("stdout was asked for as a pipe"));
        Ok(Guest { host, process, folder, monitor: None, output, log, symbols, console: Console::new(lines) })
    }

    /// Hands on what comes within `time`; how the machine ended, if it did.
    pub(crate) fn listen(&mut self, time: Duration, mut sink: impl FnMut(Stream, &[u8])) -> Option<Ending> {
        let end = Instant::now() + time;
        loop {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.console.feed(&bytes, &mut sink),
                Err(RecvTimeoutError::Disconnected) => return Some(self.ended()),
                Err(RecvTimeoutError::Timeout) => return None,
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    /// Waits until the console has said these words; what the screen shows then. Without them, how the machine ended.
    pub(crate) fn screen_at(&mut self, words: &str, patience: Patience) -> Result<Vec<u8>, Ending> {
        let started = Instant::now();
        while !self.console.text().contains(words) {
            if let Some(ending) = self.listen(Duration::from_millis(50), |_, _| {}) {
                return Err(ending);
            }
            if patience.in_all.is_some_and(|limit| started.elapsed() >= limit) {
                return Err(self.timed_out("no such words", patience.in_all, |_, _| {}));
            }
        }
        let picture = self.monitor.as_mut().and_then(|monitor| monitor.screen().ok());
        picture.ok_or(Ending::Died("QEMU gives no picture of the screen".into()))
    }

    /// Hands all output on until the machine ends or patience runs out.
    pub(crate) fn watch(&mut self, patience: Patience, mut sink: impl FnMut(Stream, &[u8])) -> Ending {
        let ending = self.watch_until_end(patience, &mut sink);
        self.console.end(sink);
        ending
    }

    fn watch_until_end(&mut self, patience: Patience, mut sink: impl FnMut(Stream, &[u8])) -> Ending {
        let (started, mut silence) = (Instant::now(), Duration::ZERO);
        loop {
            let left = patience.in_all.map(|limit| limit.saturating_sub(started.elapsed()));
            if left == Some(Duration::ZERO) {
                return self.timed_out("no end", patience.in_all, sink);
            }
            let wait = left.unwrap_or(MOMENT).min(MOMENT);
            match self.output.recv_timeout(wait) {
                Ok(bytes) => {
                    silence = Duration::ZERO;
                    self.console.feed(&bytes, &mut sink);
                }
                Err(RecvTimeoutError::Disconnected) => return self.ended(),
                Err(RecvTimeoutError::Timeout) => silence += wait,
            }
            if patience.silence.is_some_and(|limit| silence >= limit) {
                return self.timed_out("no output", patience.silence, sink);
            }
        }
    }

    fn timed_out(&mut self, what: &str, limit: Option<Duration>, sink: impl FnMut(Stream, &[u8])) -> Ending {
        let waited = format!("{what} after {} s{}", limit.unwrap_or_default().as_secs(), host_load());
        if self.host == Host::Linux {
            // SAFETY: sends a signal to a child that nobody has waited for. It says itself where it is, and ends.
            unsafe { libc::kill(self.process.id() as i32, libc::SIGQUIT) };
            self.listen(LAST_WORDS, sink);
            return Ending::TimedOut { waited, registers: String::new() };
        }
        let registers = self.monitor.as_mut().and_then(|monitor| monitor.registers().ok());
        let registers = registers.map(|text| text.lines().map(|line| self.named(line)).collect());
        Ending::TimedOut { waited, registers: registers.unwrap_or("    QEMU does not answer\n".into()) }
    }

    /// A line of registers; behind one that begins with the instruction pointer, the function that it is in.
    fn named(&self, line: &str) -> String {
        let pointer = line.strip_prefix("RIP=").and_then(|rest| u64::from_str_radix(rest.get(..16)?, 16).ok());
        let function = pointer.and_then(|pointer| symbols::name_at(&self.symbols, pointer));
        format!("    {line}{}\n", function.map(|name| format!("  in {name}")).unwrap_or_default())
    }

    /// What to tell about an ending: one line, the console's last ones, the registers if there are any.
    pub(crate) fn account(&self, ending: &Ending) -> String {
        let (what, registers) = match ending {
            Ending::Status(status) => (format!("the kernel ended with status {status}"), String::new()),
            Ending::TimedOut { waited, registers } if registers.is_empty() => (waited.clone(), String::new()),
            Ending::TimedOut { waited, registers } => (waited.clone(), format!("registers:\n{registers}")),
            Ending::Died(why) => (why.clone(), String::new()),
        };
        match self.console.tail() {
            tail if tail.is_empty() => format!("{what}; the console is empty\n{registers}"),
            tail => format!("{what}; the console's last lines:\n{tail}{registers}"),
        }
    }

    fn ended(&mut self) -> Ending {
        let status = self.process.wait().ok();
        // Without QEMU's notes there is no QEMU either.
        let notes = fs::read_to_string(self.folder.path().join(RESETS)).unwrap_or_default();
        let resets = resets(&notes);
        RESET.fetch_add(resets, Relaxed);
        match status.and_then(|status| status.code()) {
            _ if resets > 0 => Ending::Died(format!("a CPU was reset while it ran, {resets} times")),
            Some(code) if self.host == Host::Linux => Ending::Status(code as u8),
            // isa-debug-exit: (value << 1) | 1, and the kernel writes 0x10 + status.
            Some(code @ 0x21..=0xff) if code & 1 == 1 => Ending::Status((code >> 1) as u8 - 0x10),
            Some(0) if notes.contains("Triple fault") => {
                Ending::Died("the machine reset itself: a triple fault".into())
            }
            Some(0) => Ending::Died("the machine reset itself".into()),
            _ => {
                let mut log = String::new();
                // Without it the message is shorter.
                let _ = self.log.rewind().and_then(|()| self.log.read_to_string(&mut log));
                let how = status.map_or("was lost".into(), |status| format!("ended with {status}"));
                let who = if self.host == Host::Qemu { "QEMU" } else { "the process" };
                Ending::Died(format!("{who} {how} {}", log.trim_end()).trim_end().into())
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a message about a timeout adds: whether the host may be to blame.
pub(crate) fn host_load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    averages
        .split(' ')
        .next()
        .filter(|load| !load.is_empty())
        .map_or(String::new(), |load| format!(" (the host's load is {load}, on {cpus} CPUs)"))
}

/// How often QEMU's notes tell of the reset of a CPU that had run: at power-on it stands at 0, then at the first instruction.
fn resets(notes: &str) -> usize {
    let dumps = notes.split("CPU Reset").skip(1);
    dumps.filter(|dump| !["EIP=00000000 ", "EIP=0000fff0 "].iter().any(|start| dump.contains(start))).count()
}

fn no_folder(error: io::Error) -> String {
    format!("no folder for QEMU's files: {error}")
}

fn read_in_background(mut stdout: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A QEMU whose parent was killed would run on for ever. Elsewhere than on Linux only Ctrl-C, which reaches both, ends it.
fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only the system call `prctl` is made, which is async-signal-safe and touches no memory.
    unsafe {
        use std::os::unix::process::CommandExt;
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

#[cfg(test)]
mod tests {
    use super::resets;

    #[test]
    fn a_reset_is_one_of_a_cpu_that_had_run() {
        let dump = |registers: &str| format!("CPU Reset (CPU 0)\nEAX=00000000\n{registers} EFL=00000002\n");
        let power_on = dump("EIP=00000000") + &dump("EIP=0000fff0");
        assert_eq!(resets(&power_on), 0);
        assert_eq!(resets(&(power_on.clone() + "Triple fault\n")), 0, "after that the machine is off");
        assert_eq!(resets(&(power_on + &dump("RIP=ffffffff80001234") + &dump("EIP=0000e05b"))), 2);
    }
}

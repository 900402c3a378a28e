//! QEMU's monitor (QMP, JSON lines over a unix socket): asks a machine that does not answer what its CPUs are doing.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    pub(crate) fn connect(socket: &Path) -> io::Result<Monitor> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut monitor = Monitor(BufReader::new(stream));
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// The registers of every CPU, as the human monitor prints them, but for those of floating point, which the kernel does
    /// not use. Blocks for 5 s at most.
    pub(crate) fn registers(&mut self) -> io::Result<String> {
        let command = json!({"command-line": "info registers -a"});
        let answer = self.ask(&json!({"execute": "human-monitor-command", "arguments": command}))?;
        let unused = |line: &str| ["FCW", "FPR", "XMM", "YMM", "ZMM"].iter().any(|name| line.starts_with(name));
        let lines = answer.as_str().unwrap_or_default().lines();
        Ok(lines.filter(|line| !line.is_empty() && !unused(line)).collect::<Vec<_>>().join("\n"))
    }

    /// What the screen shows, as a PPM picture.
    pub(crate) fn screen(&mut self) -> io::Result<Vec<u8>> {
        let picture = tempfile::NamedTempFile::new()?;
        let arguments = json!({"filename": picture.path()});
        self.ask(&json!({"execute": "screendump", "arguments": arguments}))?;
        std::fs::read(picture.path())
    }

    /// Interrupts the CPUs, one NMI after another, until the machine has ended; why it could not go on. A host that stalls delays the next.
    pub(crate) fn send_nmis(mut self) -> io::Error {
        if let Err(error) = self.0.get_ref().set_read_timeout(None) {
            return error;
        }
        loop {
            if let Err(error) = self.ask(&json!({"execute": "inject-nmi"})) {
                return error;
            }
        }
    }

    /// The answer to a request; the greeting and events, which come unasked, are skipped.
    pub(crate) fn ask(&mut self, request: &Value) -> io::Result<Value> {
        self.0.get_mut().write_all(request.to_string().as_bytes())?;
        let mut line = String::new();
        while self.0.read_line(&mut line)? > 0 {
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            line.clear();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

//! The serial console: two streams in one line of bytes, told apart by shift-out and shift-in.
//!
//! The kernel wraps what the runtime says (reports) in 0x0E … 0x0F; the rest is the program's. What comes before the
//! first 0x0E is the firmware's and belongs to neither.

use crate::lines::{self, Lines};

/// Who wrote a piece of console output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    Firmware,
    Program,
    Report,
}

const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;
/// A report's line that is longer than this is no frame.
const LONGEST_HELD: usize = 4096;
const KEPT_BYTES: usize = 1 << 20;
const TAIL_LINES: usize = 40;

/// Everything a machine has said (the last mebibyte of it), and which stream is speaking.
pub(crate) struct Console {
    speaking: Stream,
    transcript: Vec<u8>,
    lines: Lines,
    /// A line of the report that may be the first of a frame's two.
    first: Vec<u8>,
    /// A line of the report as far as it has come.
    line: Vec<u8>,
}

impl Console {
    /// `lines` are those of the kernel that speaks.
    pub(crate) fn new(lines: Lines) -> Console {
        Console { speaking: Stream::Firmware, transcript: Vec::new(), lines, first: Vec::new(), line: Vec::new() }
    }

    /// Takes bytes as they came from the port, hands each piece on under the stream it belongs to, without the marks.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Stream, &[u8])) {
        let mut rest = bytes;
        loop {
            let end = rest.iter().position(|&b| b == SHIFT_OUT || b == SHIFT_IN).unwrap_or(rest.len());
            match self.speaking {
                Stream::Report => self.report(&rest[..end], &mut sink),
                stream => self.pass_on(stream, &rest[..end], &mut sink),
            }
            let Some(mark) = rest.get(end) else { break };
            self.speaking = match (*mark, self.speaking) {
                (SHIFT_OUT, before) => {
                    if before == Stream::Firmware {
                        self.transcript.clear();
                    }
                    Stream::Report
                }
                (_, Stream::Firmware) => Stream::Firmware,
                _ => Stream::Program,
            };
            rest = &rest[end + 1..];
        }
        if self.transcript.len() > 2 * KEPT_BYTES {
            self.transcript.drain(..self.transcript.len() - KEPT_BYTES);
        }
    }

    /// Nothing more will come: hands on what was held back.
    pub(crate) fn end(&mut self, mut sink: impl FnMut(Stream, &[u8])) {
        let held = [std::mem::take(&mut self.first), std::mem::take(&mut self.line)].concat();
        self.pass_on(Stream::Report, &held, &mut sink);
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8], sink: &mut impl FnMut(Stream, &[u8])) {
        if !bytes.is_empty() {
            self.transcript.extend_from_slice(bytes);
            sink(stream, bytes);
        }
    }

    /// Reports are handed on by whole lines, and a call chain's two lines a frame together, with file and line put in.
    fn report(&mut self, bytes: &[u8], sink: &mut impl FnMut(Stream, &[u8])) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") && self.line.len() < LONGEST_HELD {
                continue;
            }
            let (line, first) = (std::mem::take(&mut self.line), std::mem::take(&mut self.first));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
            if let Some(frame) = self.lines.frame(&text(&first), &text(&line)) {
                self.pass_on(Stream::Report, frame.as_bytes(), sink);
                continue;
            }
            self.pass_on(Stream::Report, &first, sink);
            match lines::begins_frame(&text(&line)) {
                true => self.first = line,
                false => self.pass_on(Stream::Report, &line, sink),
            }
        }
    }

    /// All that is kept, both streams as they came, control characters left out.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.transcript);
        text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
    }

    /// The last lines, indented, for a message about an end that nobody expected.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(chunks: &[&[u8]]) -> (Vec<(Stream, String)>, Console) {
        let (mut console, mut heard) = (Console::new(Lines::none()), Vec::new());
        for chunk in chunks {
            console.feed(chunk, |stream, bytes| heard.push((stream, String::from_utf8_lossy(bytes).into_owned())));
        }
        (heard, console)
    }

    #[test]
    fn the_streams_are_told_apart_and_the_marks_removed() {
        let (heard, console) = heard(&[b"SeaBIOS\r\n\x0ehello\n\x0fout", b"put\n\x0egc", b" 1\n\x0f"]);
        let said =
            |stream| heard.iter().filter(|piece| piece.0 == stream).map(|piece| piece.1.as_str()).collect::<String>();
        assert_eq!(said(Stream::Firmware), "SeaBIOS\r\n");
        assert_eq!(said(Stream::Report), "hello\ngc 1\n");
        assert_eq!(said(Stream::Program), "output\n");
        assert_eq!(console.text(), "hello\noutput\ngc 1\n");
    }

    #[test]
    fn the_firmwares_words_are_kept_only_until_the_kernel_speaks() {
        assert_eq!(heard(&[b"\x1b[2Jno disk\r\n"]).1.text(), "[2Jno disk\n");
        assert_eq!(heard(&[b"noise\x0f\x0e", b"\x0fx"]).1.text(), "x");
    }

    #[test]
    fn the_tail_is_the_last_forty_lines() {
        let many: String = (0..100).map(|n| format!("{n}\n")).collect();
        let tail = heard(&[b"\x0e", many.as_bytes()]).1.tail();
        assert!(tail.starts_with("    60\n") && tail.ends_with("    99\n"), "{tail}");
    }
}

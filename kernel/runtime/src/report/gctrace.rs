//! `GODEBUG=gctrace=1`: one line per collection, Go's to the byte. Go: mgc.go, `gcMarkTermination`; format in extern.go.
//!
//! `gc 1 @0.012s 3%: 0.010+1.2+0.31 ms clock, 0.010+0/1.2/0+0.31 ms cpu, 4->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 1 P`
//!
//! The three times are Go's phases: stopping and flushing the caches, marking, and what ends the cycle: with gcstoptheworld=2 the whole
//! sweep. Assists and idle marking are zero, as they are in Go when the world is stopped.

use crate::addr::{Bytes, MIB};
use crate::report;
use core::fmt;

/// One collection's figures; times in nanoseconds since boot.
pub(crate) struct Cycle {
    pub(crate) number: u64,
    pub(crate) start_ns: u64,
    pub(crate) mark_ns: u64,
    pub(crate) sweep_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) total_pause_ns: u64,
    pub(crate) cpus: usize,
    pub(crate) heap_at_start: Bytes,
    pub(crate) heap_at_end: Bytes,
    pub(crate) heap_live: Bytes,
    pub(crate) goal: Bytes,
    pub(crate) stacks: Bytes,
    pub(crate) globals: Bytes,
    pub(crate) forced: bool,
}

pub(crate) fn gctrace(cycle: &Cycle) {
    report!("{cycle}");
}

/// Nanoseconds as milliseconds, with two digits that count below 10 ms. Go: `fmtNSAsMS`.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 10_000_000 {
            return write!(f, "{}", self.0 / 1_000_000);
        }
        let (mut value, mut decimals) = (self.0 / 1000, 3);
        if value == 0 {
            return f.write_str("0");
        }
        while value >= 100 {
            value /= 10;
            decimals -= 1;
        }
        fixed(f, value, decimals)
    }
}

/// `value` divided by ten to the `decimals`. Go: `itoaDiv`.
fn fixed(f: &mut fmt::Formatter<'_>, value: u64, decimals: u32) -> fmt::Result {
    let unit = 10u64.pow(decimals);
    match decimals {
        0 => write!(f, "{value}"),
        _ => write!(f, "{}.{:0width$}", value / unit, value % unit, width = decimals as usize),
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stop, mark, end) =
            (self.mark_ns - self.start_ns, self.sweep_ns - self.mark_ns, self.end_ns - self.sweep_ns);
        let ms = Milliseconds;
        let cpus = self.cpus as u64;
        write!(f, "gc {} @", self.number)?;
        fixed(f, self.start_ns / 1_000_000, 3)?;
        write!(
            f,
            "s {}%: {}+{}+{} ms clock, ",
            100 * self.total_pause_ns / self.end_ns.max(1),
            ms(stop),
            ms(mark),
            ms(end)
        )?;
        write!(f, "{}+0/{}/0+{} ms cpu, ", ms(stop * cpus), ms(mark), ms(end * cpus))?;
        let mb = |bytes: Bytes| bytes.0 / MIB;
        write!(
            f,
            "{}->{}->{} MB, {} MB goal, ",
            mb(self.heap_at_start),
            mb(self.heap_at_end),
            mb(self.heap_live),
            mb(self.goal)
        )?;
        write!(f, "{} MB stacks, {} MB globals, {} P", mb(self.stacks), mb(self.globals), self.cpus)?;
        f.write_str(if self.forced { " (forced)" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn milliseconds_read_as_gos_do() {
        for (ns, text) in [
            (0, "0"),
            (999, "0"),
            (1_000, "0.001"),
            (12_345, "0.012"),
            (99_999, "0.099"),
            (100_000, "0.10"),
            (123_456, "0.12"),
            (1_234_567, "1.2"),
            (9_999_999, "9.9"),
            (10_000_000, "10"),
            (123_456_789, "123"),
        ] {
            assert_eq!(Milliseconds(ns).to_string(), text, "{ns} ns");
        }
    }

    #[test]
    fn a_line_is_gos_to_the_byte() {
        let mib = |mib| Bytes(mib * MIB);
        let cycle = Cycle {
            number: 7,
            start_ns: 1_234_000_000,
            mark_ns: 1_234_012_000,
            sweep_ns: 1_235_512_000,
            end_ns: 1_235_632_000,
            total_pause_ns: 37_068_960,
            cpus: 1,
            heap_at_start: mib(4),
            heap_at_end: mib(4),
            heap_live: mib(1),
            goal: mib(4),
            stacks: mib(0),
            globals: mib(0),
            forced: true,
        };
        assert_eq!(
            cycle.to_string(),
            "gc 7 @1.234s 3%: 0.012+1.5+0.12 ms clock, 0.012+0/1.5/0+0.12 ms cpu, 4->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 1 P (forced)"
        );
    }
}

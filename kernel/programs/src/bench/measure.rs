//! How a row is measured and printed: bench-go's `perOp`, `perOpNoGC`, `repeat`, `withGC` and `report`.
//!
//! A row's loop runs until it takes long enough for the clock, then three times, and the median is printed. With `fixed` it runs once, so
//! many times as the row says: then the figure depends on nothing but the code, if the clock counts instructions.

use super::value::{Thousandths, median};
use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;
use runtime::inspect::free_memory;
use runtime::prelude::*;

pub(super) const MIB: usize = 1 << 20;

/// What perOpNoGC allocates between two collections, at most.
const BATCH_BYTES: usize = 256 * MIB;
/// What a row with fixed counts allocates.
const FIXED_BYTES: usize = 64 * MIB;

/// What was asked for.
pub(super) struct Bench<'a> {
    pub(super) quick: bool,
    pub(super) fixed: bool,
    rows: Vec<&'a str>,
    pub(super) target_ns: u64,
    /// How many rows have been printed, and whether there was one of those names at all.
    pub(super) printed: Cell<usize>,
    pub(super) has_met: Cell<bool>,
}

impl<'a> Bench<'a> {
    /// The error is the word that means nothing here.
    pub(super) fn parse(words: &[&'a str]) -> Result<Bench<'a>, &'a str> {
        let (printed, has_met) = (Cell::new(0), Cell::new(false));
        let mut bench =
            Bench { quick: false, fixed: false, rows: Vec::new(), target_ns: 300_000_000, printed, has_met };
        for &word in words {
            match (word, word.strip_prefix("rows=")) {
                (_, Some(rows)) => bench.rows.extend(rows.split(',').filter(|row| !row.is_empty())),
                ("quick", _) => (bench.quick, bench.target_ns) = (true, 60_000_000),
                ("fixed", _) => bench.fixed = true,
                _ => return Err(word),
            }
        }
        Ok(bench)
    }

    /// Whether the row is wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        let is_wanted = self.rows.is_empty() || self.rows.iter().any(|part| name.contains(part));
        self.has_met.set(self.has_met.get() || is_wanted);
        is_wanted
    }

    /// Whether one of the rows is wanted that are measured together.
    pub(super) fn wants_any(&self, name: &str, ends: &[&str]) -> bool {
        ends.iter().any(|end| self.wants(&format!("{name}{end}")))
    }

    pub(super) fn report(&self, name: &str, value: Thousandths, unit: &str) {
        if self.wants(name) {
            println!("{name} {value} {unit}");
            self.printed.set(self.printed.get() + 1);
        }
    }

    pub(super) fn report_us(&self, name: &str, ns: u64) {
        self.report(name, Thousandths::each(ns, 1000), "us");
    }

    /// A row of nanoseconds per operation; `f` does so many. Go: `bench`.
    pub(super) fn row(&self, name: &str, fixed: u64, mut f: impl FnMut(u64)) {
        if self.wants(name) {
            self.report(name, self.per_op(fixed, &mut f), "ns/op");
        }
    }

    /// Nanoseconds per operation: the median of three runs of about a third of the target each.
    pub(super) fn per_op(&self, fixed: u64, f: &mut dyn FnMut(u64)) -> Thousandths {
        if self.fixed {
            collect(); // whatever ran before, the next collection comes after as many bytes
            return Thousandths::each(time(|| f(fixed)), fixed);
        }
        let mut scale = Scale { count: 1, goal_ns: self.target_ns / 3, is_found: false };
        while !scale.is_found {
            scale = scale.after(time(|| f(scale.count)));
        }
        median((0..3).map(|_| Thousandths::each(time(|| f(scale.count)), scale.count)).collect())
    }

    /// [`per_op`](Bench::per_op) for an `f` that allocates `size` bytes per operation with the collector off: batches of at most
    /// [`BATCH_BYTES`], collected between the timings.
    pub(super) fn per_op_no_gc(&self, size: usize, f: &mut dyn FnMut(u64)) -> Thousandths {
        if self.fixed {
            let count = fixed_count(size);
            f(count); // the heap grows now
            collect();
            return Thousandths::each(time(|| f(count)), count);
        }
        let batch = (BATCH_BYTES / size.max(8)).max(1) as u64;
        let mut count = batch.min(64);
        loop {
            let ns = time(|| f(count));
            collect();
            if count == batch || ns > self.target_ns / 6 {
                break;
            }
            count = batch.min(count * 4);
        }
        let (mut values, mut spent_ns) = (Vec::new(), 0);
        while values.len() < 3 || spent_ns < self.target_ns {
            let ns = time(|| f(count));
            spent_ns += ns;
            values.push(Thousandths::each(ns, count));
            collect();
        }
        median(values)
    }

    /// The memory that `per_op_no_gc` needs.
    pub(super) fn batch_bytes(&self, size: usize) -> usize {
        if self.fixed { fixed_count(size) as usize * size } else { BATCH_BYTES }
    }

    /// The median of what `f` measures, called at least once, and until three targets are spent or `most` is reached.
    pub(super) fn repeat(&self, most: usize, mut f: impl FnMut() -> u64) -> u64 {
        let (mut values, start_ns) = (Vec::new(), now());
        while values.is_empty() || !self.fixed && values.len() < most && now() - start_ns < 3 * self.target_ns {
            values.push(f());
        }
        median(values)
    }

    /// Runs `f` and prints what it took and what the collector did meanwhile. A pause is a cycle's.
    #[inline(never)] // 6 KiB of figures on the stack, which a collection would scan with every row
    pub(super) fn with_gc(&self, name: &str, f: impl FnOnce()) {
        let ends = ["/wall", "/cycles", "/pause-total", "/pause-max", "/allocated", "/heap-sys"];
        if !self.wants_any(name, &ends) {
            return;
        }
        collect();
        let before = memory_stats();
        let wall_ns = time(f);
        let after = memory_stats();
        let remembered = after.pause_ns.len() as u64;
        let cycles = before.num_gc.max(after.num_gc.saturating_sub(remembered))..after.num_gc;
        let worst_ns = cycles.map(|cycle| after.pause_ns[(cycle % remembered) as usize]).max().unwrap_or(0);
        let million = |amount: usize| Thousandths::each(amount as u64, 1_000_000);
        let row = |end: &str, value, unit| self.report(&format!("{name}/{end}"), value, unit);
        row("wall", Thousandths::each(wall_ns, 1_000_000), "ms");
        row("cycles", Thousandths::each(after.num_gc - before.num_gc, 1), "count");
        row("pause-total", Thousandths::each(after.pause_total_ns - before.pause_total_ns, 1000), "us");
        row("pause-max", Thousandths::each(worst_ns, 1000), "us");
        row("allocated", million(after.total_alloc - before.total_alloc), "MB");
        row("heap-sys", million(after.heap_sys), "MB");
    }

    /// Whether the machine has so much memory that nobody uses; a remark if not.
    #[inline(never)] // as `with_gc`
    pub(super) fn fits(&self, name: &str, bytes: usize) -> bool {
        let free = || {
            let stats = memory_stats();
            free_memory().0 + stats.heap_sys - stats.heap_inuse
        };
        let needed = bytes + bytes / 8;
        if free() >= needed {
            return true;
        }
        collect();
        let free = free();
        if free < needed {
            println!("# {name}: needs {} MiB, {} MiB are free", needed.div_ceil(MIB), free / MIB);
        }
        free >= needed
    }
}

/// How many objects of a size a row with fixed counts allocates.
pub(super) fn fixed_count(size: usize) -> u64 {
    (FIXED_BYTES / size).clamp(4, 100_000) as u64
}

pub(super) fn time(f: impl FnOnce()) -> u64 {
    let start_ns = now();
    f();
    now() - start_ns
}

/// The search for a count that takes about `goal_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    count: u64,
    goal_ns: u64,
    is_found: bool,
}

impl Scale {
    const MOST: u64 = 1 << 30;

    fn after(self, elapsed_ns: u64) -> Scale {
        let Scale { count, goal_ns, .. } = self;
        let elapsed_ns = elapsed_ns.max(1);
        let scaled = count * goal_ns / elapsed_ns;
        match elapsed_ns >= goal_ns / 2 || count >= Scale::MOST {
            true => Scale { count: scaled.max(1), goal_ns, is_found: true },
            false => Scale { count: scaled.min(50 * count).max(count + 1), goal_ns, is_found: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_mean_nothing_are_named() {
        let Ok(bench) = Bench::parse(&["quick", "rows=alloc/tiny,switch", "fixed"]) else { panic!("all are known") };
        assert!(bench.quick && bench.fixed && bench.target_ns == 60_000_000);
        assert!(
            bench.wants("alloc/tiny/8/gogc=off") && bench.wants("gosched/switch/p1") && !bench.wants("stack/frame")
        );
        assert!(bench.wants_any("gosched", &["/other", "/switch/p1"]) && !bench.wants_any("gosched", &["/other"]));
        assert!(Bench::parse(&[]).is_ok_and(|bench| bench.wants("anything") && bench.target_ns == 300_000_000));
        assert_eq!(Bench::parse(&["quick", "quik"]).err(), Some("quik"));
    }

    /// How often an operation of `op_ns` is asked for until the count is found.
    fn runs(op_ns: u64, goal_ns: u64) -> (u32, u64) {
        let mut scale = Scale { count: 1, goal_ns, is_found: false };
        let mut runs = 0;
        while !scale.is_found {
            scale = scale.after(scale.count * op_ns);
            runs += 1;
        }
        (runs, scale.count)
    }

    #[test]
    fn a_count_is_found_that_takes_the_goal_within_a_few_runs() {
        for op_ns in [1, 3, 50, 7_000, 900_000] {
            let (runs, count) = runs(op_ns, 20_000_000);
            assert!(runs <= 8 && (count * op_ns).abs_diff(20_000_000) <= op_ns, "{op_ns} ns: {count} in {runs} runs");
        }
        assert_eq!(runs(30_000_000, 20_000_000), (1, 1));
    }

    #[test]
    fn a_count_always_grows_and_never_without_end() {
        let scale = Scale { count: 5, goal_ns: 100, is_found: false };
        assert_eq!(scale.after(49), Scale { count: 10, ..scale });
        assert_eq!(scale.after(0).count, 250);
        assert!(Scale { count: Scale::MOST, ..scale }.after(0).is_found);
    }

    #[test]
    fn fixed_counts_allocate_what_every_machine_has() {
        for size in [1, 8, 64, 4096, 32_768, MIB, 16 * MIB] {
            assert!(fixed_count(size) >= 4 && fixed_count(size) as usize * size <= FIXED_BYTES);
        }
    }
}

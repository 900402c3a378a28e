//! Rows of figures: read as a program prints them, gathered over its runs, set beside another program's.

/// By what factor a row may move between runs before one cannot tell from it.
pub(super) const NOISY: f64 = 1.3;

/// One row, and what the runs found, in order of size.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    values: Vec<f64>,
    unit: String,
}

/// Rows in the order of their first appearance.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    /// Takes a line of the form `name value unit`; whether it is one.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, value, unit] = words[..] else { return false };
        let Some(value) = value.parse().ok().filter(|value: &f64| name.contains('/') && value.is_finite()) else {
            return false;
        };
        match self.0.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.insert(row.values.partition_point(|&other| other < value), value),
            None => self.0.push(Row { name: name.into(), values: vec![value], unit: unit.into() }),
        }
        true
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|row| row.name.as_str()).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.name == name)
    }

    /// How many rows moved so much between runs that one cannot tell from them.
    pub(super) fn noisy(&self) -> usize {
        self.0.iter().filter(|row| row.is_noisy()).count()
    }

    /// `name value unit`, and the least and the greatest value where there are several.
    pub(super) fn table(&self) -> Vec<String> {
        let width = widest(self.names());
        self.0
            .iter()
            .map(|row| format!("{:width$} {:>9} {:14} {}", row.name, shown(row.median()), row.unit, row.range()))
            .map(trimmed)
            .collect()
    }

    /// `name ours go ratio unit`, and both ranges, for each row of both.
    pub(super) fn beside(&self, go: &Rows) -> Vec<String> {
        let width = widest(self.names());
        let both = self.0.iter().filter_map(|ours| Some((ours, go.find(&ours.name)?)));
        both.map(|(ours, go)| {
            let (value, against) = (ours.median(), go.median());
            let noisy = if ours.is_noisy() || go.is_noisy() { "noisy" } else { "" };
            format!(
                "{:width$} {:>9} {:>9} {:>6} {:14} {:20} {:20} {noisy}",
                ours.name,
                shown(value),
                shown(against),
                ratio(value, against, &ours.unit),
                ours.unit,
                ours.range(),
                go.range(),
            )
        })
        .map(trimmed)
        .collect()
    }
}

impl Row {
    /// The middle one, or the mean of the middle two.
    fn median(&self) -> f64 {
        let count = self.values.len();
        (self.values[(count - 1) / 2] + self.values[count / 2]) / 2.0
    }

    fn range(&self) -> String {
        match self.values[..] {
            [least, .., greatest] => format!("{}..{}", shown(least), shown(greatest)),
            _ => String::new(),
        }
    }

    fn is_noisy(&self) -> bool {
        matches!(self.values[..], [least, .., greatest] if greatest > NOISY * least)
    }
}

/// As Go's program prints a value.
fn shown(value: f64) -> String {
    match value {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Ours by Go's; of a rate, which is the better the higher it is, Go's by ours. So below 1 is better for us everywhere.
fn ratio(ours: f64, go: f64, unit: &str) -> String {
    let ratio = if unit.ends_with("/s") { go / ours } else { ours / go };
    match ratio {
        _ if !ratio.is_finite() || ratio < 0.0 => "-".into(),
        0.1.. => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    }
}

fn widest(names: Vec<&str>) -> usize {
    names.iter().map(|name| name.len()).max().unwrap_or(0)
}

fn trimmed(line: String) -> String {
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's program printed on two runs, shortened.
    const RECORDED: [&str; 2] = [
        "# go1.27.3 linux/amd64 ncpu=4 target=60ms quick=true\n# cpu\t: AMD EPYC\nmachine/call 1.44 ns/op\n\
        machine/clear/32KiB 190.0 GB/s\nmem/filled/heap-alloc 1.06 x-live\nsweep/empty/p1 1218 us\n# total 2.5 s\n",
        "[    0.000000] Linux version 6.1.0\nmachine/call 1.94 ns/op\nmachine/clear/32KiB 179.4 GB/s\n\
        mem/filled/heap-alloc 1.06 x-live\nsweep/empty/p1 1422 us\nstack/64KiB/growth-total -0.12 us\n# total 2.5 s\n",
    ];

    fn rows(runs: &[&str]) -> Rows {
        let mut rows = Rows::default();
        runs.iter().flat_map(|run| run.lines()).for_each(|line| {
            rows.take(line);
        });
        rows
    }

    #[test]
    fn gos_output_is_read_and_what_is_no_row_is_not() {
        let read = rows(&RECORDED);
        let names = [
            "machine/call",
            "machine/clear/32KiB",
            "mem/filled/heap-alloc",
            "sweep/empty/p1",
            "stack/64KiB/growth-total",
        ];
        assert_eq!(read.names(), names);
        assert_eq!(read.find("machine/call").map(|row| row.values.clone()), Some(vec![1.44, 1.94]));
        assert_eq!(read.noisy(), 1, "only machine/call moved by more than {NOISY}");
        for line in ["", "a/b", "a/b 1", "ab 1 ns", "a/b x ns", "a/b nan ns", "a/b 1 ns more", "# a/b 1 ns"] {
            assert!(!Rows::default().take(line), "{line:?}");
        }
    }

    #[test]
    fn a_rows_value_is_the_median_and_its_range_is_shown() {
        let columns = |runs: &[&str]| -> Vec<String> {
            rows(runs).table().iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(columns(&["a/b 3 ns", "a/b 1200 ns", "a/b 20 ns"]), ["a/b 20.0 ns 3.00..1200"]);
        assert_eq!(columns(&["a/b 1 ns\nlonger/b 5 us", "a/b 2 ns"]), ["a/b 1.50 ns 1.00..2.00", "longer/b 5.00 us"]);
    }

    #[test]
    fn below_one_is_better_for_us_whether_little_or_much_is_good() {
        assert_eq!(ratio(2.0, 4.0, "ns/op"), "0.50");
        assert_eq!(ratio(2.0, 4.0, "Mops/s"), "2.00");
        assert_eq!(ratio(4.0, 2.0, "GB/s"), "0.50");
        assert_eq!(ratio(1.0, 80.0, "us"), "0.013");
        for (ours, go) in [(1.0, 0.0), (0.0, 0.0), (-0.12, 5.0)] {
            assert_eq!(ratio(ours, go, "us"), "-");
        }
    }

    #[test]
    fn only_rows_of_both_stand_beside_one_another() {
        let ours = rows(&["machine/call 1 ns/op\nours/only 1 ns", "machine/call 1.2 ns/op"]);
        let table = ours.beside(&rows(&RECORDED));
        let words: Vec<&str> = table.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words, ["machine/call", "1.10", "1.69", "0.65", "ns/op", "1.00..1.20", "1.44..1.94", "noisy"]);
    }
}

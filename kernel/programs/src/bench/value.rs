//! A measured value: thousandths of its unit, for a target without floating point. Printed as bench-go's `report` prints.

use alloc::vec::Vec;
use core::fmt;

/// Of nanoseconds: picoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thousandths(pub(super) i64);

impl Thousandths {
    /// `numerator / denominator`, the sign the numerator's.
    pub(super) fn ratio(numerator: i128, denominator: u64) -> Thousandths {
        Thousandths((numerator * 1000 / i128::from(denominator.max(1))) as i64)
    }

    /// How much each of `per` takes, of work that takes `ns` in all.
    pub(super) fn each(ns: u64, per: u64) -> Thousandths {
        Thousandths::ratio(ns.into(), per)
    }

    /// `amount` in the time that this is, in nanoseconds: GB/s of bytes, thousands of Mops/s of operations.
    pub(super) fn rate(self, amount: u64) -> Thousandths {
        Thousandths::ratio(i128::from(amount) * 1000, self.0.max(1) as u64)
    }
}

/// Go: `%.0f` from 1000 on, `%.1f` from 10 on, else `%.2f`.
impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, digits) = match self.0 {
            1_000_000.. => (1000, 0),
            10_000.. => (100, 1),
            _ => (10, 2),
        };
        let (rounded, unit) = ((self.0.unsigned_abs() + step / 2) / step, 1000 / step);
        let sign = if self.0 < 0 { "-" } else { "" };
        match digits {
            0 => write!(f, "{sign}{rounded}"),
            _ => write!(f, "{sign}{}.{:0digits$}", rounded / unit, rounded % unit),
        }
    }
}

/// The upper one of two in the middle, as bench-go takes it.
pub(super) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The least value that so many percent of all do not exceed.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn values_are_printed_with_as_many_digits_as_go_prints() {
        let printed = [
            (0, "0.00"),
            (4, "0.00"),
            (5, "0.01"),
            (320, "0.32"),
            (9_994, "9.99"),
            (9_999, "10.00"),
            (10_000, "10.0"),
            (99_949, "99.9"),
            (999_949, "999.9"),
            (999_950, "1000.0"),
            (1_000_000, "1000"),
            (1_234_567_499, "1234567"),
            (1_234_567_500, "1234568"),
            (-5_678, "-5.68"),
            (-56_780_000, "-56780.00"),
        ];
        for (thousandths, text) in printed {
            assert_eq!(Thousandths(thousandths).to_string(), text);
        }
    }

    #[test]
    fn a_rate_is_the_amount_by_the_time() {
        assert_eq!(Thousandths::each(7, 2), Thousandths(3500));
        assert_eq!(Thousandths::each(10_000, 1).rate(32 << 10), Thousandths(3276));
        assert_eq!(Thousandths(0).rate(1), Thousandths(1_000_000));
        assert_eq!(Thousandths::ratio(-3, 2), Thousandths(-1500));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper_one() {
        assert_eq!((median(vec![3]), median(vec![9, 1, 4]), median(vec![4, 1, 3, 2])), (3, 4, 3));
    }

    #[test]
    fn a_percentile_is_the_least_value_that_covers_so_many() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 90, 99, 100].map(|percent| percentile(&values, percent)), [100, 180, 198, 200]);
        assert_eq!([50, 100].map(|percent| percentile(&[7], percent)), [7, 7]);
    }
}

//! A few runs of physical memory, in a fixed space: where the image's frames are, which frames hold code.

use super::frames::PhysicalAddress;

/// Runs that are kept apart. The loader maps the file as it lies and moves single pages: a handful.
pub const CAPACITY: usize = 128;

/// Neighbours are joined as they come.
pub struct Runs {
    runs: [(PhysicalAddress, PhysicalAddress); CAPACITY],
    len: usize,
}

/// More than [`CAPACITY`] runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scattered;

impl Runs {
    pub const fn new() -> Runs {
        Runs { runs: [(PhysicalAddress(0), PhysicalAddress(0)); CAPACITY], len: 0 }
    }

    /// Adds `start` to `end`. O(runs).
    pub fn add(&mut self, start: PhysicalAddress, end: PhysicalAddress) -> Result<(), Scattered> {
        let runs = &mut self.runs[..self.len];
        if let Some(run) = runs.iter_mut().find(|run| run.1 == start) {
            run.1 = end;
        } else if let Some(run) = runs.iter_mut().find(|run| run.0 == end) {
            run.0 = start;
        } else {
            *self.runs.get_mut(self.len).ok_or(Scattered)? = (start, end);
            self.len += 1;
        }
        Ok(())
    }

    /// Whether any of `start` to `end` was added. O(runs).
    pub fn overlap(&self, start: PhysicalAddress, end: PhysicalAddress) -> bool {
        self.runs[..self.len].iter().any(|run| run.0 < end && start < run.1)
    }
}

impl Default for Runs {
    fn default() -> Runs {
        Runs::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_the_rest_stays_apart() {
        let mut runs = Runs::new();
        let at = |page: u64| PhysicalAddress(page * 4096);
        for page in [5, 6, 4, 9, 20, 19] {
            runs.add(at(page), at(page + 1)).expect("room");
        }
        assert_eq!(runs.len, 3);
        let seen: std::vec::Vec<u64> = (0..30).filter(|&page| runs.overlap(at(page), at(page + 1))).collect();
        assert_eq!(seen, [4, 5, 6, 9, 19, 20]);
        assert!(runs.overlap(at(0), at(512)) && !runs.overlap(at(10), at(19)));
        assert!(
            (0..).map(|i| at(100 + 2 * i)).any(|page| runs.add(page, PhysicalAddress(page.0 + 4096)) == Err(Scattered))
        );
    }
}

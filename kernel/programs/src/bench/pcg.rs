//! Go's generator, number for number, so that the graphs and sizes are the same ones. Go: math/rand/v2, pcg.go and rand.go.

use alloc::vec::Vec;

/// PCG-DXSM with 128 bits of state. Go: `rand.New(rand.NewPCG(high, low))`.
pub(super) struct Pcg(u128);

impl Pcg {
    pub(super) fn new(high: u64, low: u64) -> Pcg {
        Pcg(u128::from(high) << 64 | u128::from(low))
    }

    fn number(&mut self) -> u64 {
        const MULTIPLIER: u128 = 2_549_297_995_355_413_924 << 64 | 4_865_540_595_714_422_341;
        const INCREMENT: u128 = 6_364_136_223_846_793_005 << 64 | 1_442_695_040_888_963_407;
        const CHEAP: u64 = 0xda94_2042_e4dd_58b5;
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        let (mut high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        high = (high ^ high >> 32).wrapping_mul(CHEAP);
        (high ^ high >> 48).wrapping_mul(low | 1)
    }

    /// Uniform below `end`, which is not zero. Go: `IntN`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        if end.is_power_of_two() {
            return (self.number() & (end - 1)) as usize;
        }
        let unfair = end.wrapping_neg() % end;
        loop {
            let product = u128::from(self.number()) * u128::from(end);
            if product as u64 >= unfair {
                return (product >> 64) as usize;
            }
        }
    }

    pub(super) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }

    /// The numbers below `end` in random order. Go: `Perm`.
    pub(super) fn permutation(&mut self, end: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..end).collect();
        self.shuffle(&mut numbers);
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_gos_generator() {
        let mut random = Pcg::new(1, 2);
        let numbers = [(); 3].map(|()| random.number());
        assert_eq!(numbers, [0xc4f5_a586_56ee_f510, 0x9dce_c3ad_077d_ec6c, 0xc8d0_4605_312f_8088]);
        let mut random = Pcg::new(3, 4);
        assert_eq!([(); 6].map(|()| random.below(1017)), [896, 930, 473, 621, 950, 796]);
        assert_eq!(random.below(1 << 20), 671_113);
        assert_eq!(random.permutation(10), [9, 2, 8, 5, 7, 3, 1, 6, 4, 0]);
    }
}

//! How much room an append makes. Go: `nextslicecap` in slice.go.

/// Below, room doubles; above, the factor goes from 2 down to 1.25.
const THRESHOLD: usize = 256;

/// Room for `needed` elements, more than there is now; before it is rounded up to the memory that it gets anyway.
pub(super) fn next_capacity(needed: usize, now: usize) -> usize {
    if now == 0 || needed > now.saturating_mul(2) {
        return needed;
    }
    if now < THRESHOLD {
        return 2 * now;
    }
    let mut capacity = now;
    while capacity < needed {
        // 1.25 of what there is, and a part that counts less and less: the factor has no jump.
        match capacity.checked_add(capacity / 4 + 3 * THRESHOLD / 4) {
            Some(more) => capacity = more,
            None => return needed,
        }
    }
    capacity
}

#[cfg(test)]
mod tests {
    use super::next_capacity;
    use crate::allocator::usable;
    use crate::gc::{Gc, Trace};

    /// The capacities that one after another is appended in.
    fn capacities<T: Trace>(last: usize) -> Vec<usize> {
        let next = |now: &usize| Some(usable::<T>(next_capacity(now + 1, *now)));
        std::iter::successors(next(&0), next).take_while(|capacity| *capacity <= last).collect()
    }

    // Go 1.27.3's own, printed by a loop of `append`.

    #[test]
    fn numbers_grow_as_gos_do() {
        let bytes = [8, 16, 32, 64, 128, 256, 512, 896, 1408, 2048, 3072, 4096, 5376, 6912, 9472, 12288, 16384, 21760];
        assert_eq!(capacities::<u8>(21760), bytes);
        let threes =
            [2, 5, 10, 21, 42, 85, 170, 341, 682, 1066, 1621, 2261, 3157, 4522, 6144, 8192, 10922, 16384, 21845];
        assert_eq!(capacities::<[u8; 3]>(21845), threes);
        let words =
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 848, 1280, 1792, 2560, 3408, 5120, 7168, 9216, 12288, 16384];
        assert_eq!(capacities::<u64>(16384), words);
        let fives =
            [1, 2, 4, 8, 16, 32, 67, 134, 272, 544, 1024, 1638, 2252, 3072, 4096, 5324, 6963, 9011, 11468, 14540];
        assert_eq!(capacities::<[u64; 5]>(14540), fives);
        assert_eq!(capacities::<[u8; 100]>(3000), [1, 2, 4, 8, 17, 34, 69, 143, 286, 573, 983, 1474, 2048, 2785]);
        assert_eq!(capacities::<[u8; 600]>(1310), [1, 2, 4, 8, 16, 34, 68, 136, 273, 546, 887, 1310]);
    }

    #[test]
    fn references_grow_as_gos_do_header_and_all() {
        type R = Gc<u64>;
        let words =
            [1, 2, 4, 8, 16, 32, 64, 143, 287, 607, 1023, 1535, 2303, 3071, 4095, 6144, 8192, 11264, 14336, 18432];
        assert_eq!(capacities::<R>(18432), words);
        let pairs =
            [1, 2, 4, 8, 16, 32, 71, 143, 303, 591, 1023, 1535, 2560, 3584, 5120, 6656, 8704, 11264, 14336, 18432];
        assert_eq!(capacities::<(R, u64)>(18432), pairs);
        let triples = [1, 2, 4, 8, 16, 37, 74, 170, 341, 682, 1135, 1706, 2389, 3413, 4778, 6485, 8533, 10922, 13994];
        assert_eq!(capacities::<(R, [u64; 2])>(13994), triples);
        let fives =
            [1, 2, 4, 8, 17, 35, 76, 153, 307, 614, 1024, 1638, 2252, 3072, 4096, 5324, 6963, 9011, 11468, 14540];
        assert_eq!(capacities::<(R, [u64; 4])>(14540), fives);
        assert_eq!(capacities::<(R, [u64; 74])>(1310), [1, 2, 4, 8, 16, 34, 68, 136, 273, 546, 887, 1310]);
    }

    #[test]
    fn many_at_once_get_what_they_need_rounded_up() {
        let of = |count| usable::<u64>(next_capacity(count, 0));
        assert_eq!([3, 5, 9, 33, 65, 513, 1000, 4097].map(of), [3, 6, 10, 36, 72, 608, 1024, 5120]);
        let of = |count| usable::<(Gc<u64>, [u64; 2])>(next_capacity(count, 0));
        assert_eq!([3, 33, 64, 65, 257, 513, 1000, 4097].map(of), [3, 37, 74, 74, 271, 565, 1023, 4437]);
        assert_eq!(next_capacity(1000, 400), 1000);
        assert_eq!(next_capacity(600, 400), 692);
        assert_eq!(next_capacity(usize::MAX, usize::MAX - 1), usize::MAX);
    }
}

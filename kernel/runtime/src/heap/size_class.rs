//! Go's 68 size classes: how large slots are, and how many pages are cut into them.
//! Go: `internal/runtime/gc/sizeclasses.go`, whose rule is `mksizeclasses.go`.
//!
//! Class 0 stands for objects too large for any slot. The others are chosen so that neither rounding a request up to
//! its slot nor cutting a span into slots wastes more than about an eighth.

use crate::addr::{KIB, PAGE};

/// With the one for large objects.
pub(crate) const SIZE_CLASSES: usize = 68;
/// Requests above this many bytes are large. Go leaves the last word of 32 KiB to a type header; the boundary is kept.
pub(super) const LARGEST_SMALL: usize = 32 * KIB - 8;
/// Larger objects have no pointer map: one word of mask says it all up to here, and every such span is one page.
pub(super) const LARGEST_PRECISE: usize = 512;
/// The word in which larger precise objects have a pattern instead ([`super::pattern`]).
pub(super) const HEADER: usize = 8;
/// Slots of the smallest class in a span.
pub(super) const MOST_SLOTS: usize = 1024;

/// Slot sizes are looked up by eighths of a request up to here, by 128ths above.
pub(super) const FINE_LIMIT: usize = 1024;
const FINE_STEP: usize = 8;
const COARSE_STEP: usize = 128;

pub(super) const SLOT_BYTES: [u16; SIZE_CLASSES] = generate().0;
pub(super) const SPAN_PAGES: [u8; SIZE_CLASSES] = generate().1;
/// `offset * RECIPROCAL >> 32` is `offset / slot bytes` for every offset into a span (Lemire, Kaser, Kurz 2019).
/// 0 for large objects: every offset is in slot 0.
pub(super) const RECIPROCAL: [u32; SIZE_CLASSES] = {
    let mut reciprocal = [0; SIZE_CLASSES];
    let mut class = 1;
    while class < SIZE_CLASSES {
        reciprocal[class] = u32::MAX / SLOT_BYTES[class] as u32 + 1;
        class += 1;
    }
    reciprocal
};
static FINE: [u8; FINE_LIMIT / FINE_STEP + 1] = class_by_size(0, FINE_STEP);
static COARSE: [u8; (32 * KIB - FINE_LIMIT) / COARSE_STEP + 1] = class_by_size(FINE_LIMIT, COARSE_STEP);

/// The smallest class whose slots hold so many bytes, at most [`LARGEST_SMALL`].
pub(super) const fn holding(bytes: usize) -> u8 {
    match bytes {
        ..=FINE_LIMIT => holding_few(bytes),
        _ => COARSE[(bytes - FINE_LIMIT).div_ceil(COARSE_STEP)],
    }
}

/// The same for at most [`FINE_LIMIT`] bytes.
#[inline(always)]
pub(super) const fn holding_few(bytes: usize) -> u8 {
    FINE[bytes.div_ceil(FINE_STEP)]
}

/// The smallest class, from `class` on, whose slots are all at multiples of `align`. Slots lie at multiples of their
/// size from a page's start, so they are aligned to whatever divides both.
pub(super) const fn aligned(mut class: u8, align: usize) -> Option<u8> {
    if align > PAGE.0 {
        return None;
    }
    while (class as usize) < SIZE_CLASSES {
        if SLOT_BYTES[class as usize] as usize & (align - 1) == 0 {
            return Some(class);
        }
        class += 1;
    }
    None
}

/// Slot bytes and span pages of each class.
const fn generate() -> ([u16; SIZE_CLASSES], [u8; SIZE_CLASSES]) {
    let mut sizes = [0; SIZE_CLASSES];
    let mut pages = [0; SIZE_CLASSES];
    let mut last = 0;
    let mut size = 8;
    while size <= 32 * KIB {
        // The fewest pages of which less than an eighth is left over.
        let mut span = 1;
        while span * PAGE.0 % size > span * PAGE.0 / 8 {
            span += 1;
        }
        // A class that would have as many slots in as many pages as the one before replaces it.
        let same = last > 0 && span == pages[last] && span * PAGE.0 / size == span * PAGE.0 / sizes[last];
        if !same {
            last += 1;
        }
        sizes[last] = size;
        pages[last] = span;
        // Sizes stay multiples of 16 from 32 on, then about an eighth apart.
        size += match 1 << size.ilog2() {
            0..32 => 8,
            32..128 => 16,
            power @ 128..2048 => power / 8,
            _ => 256,
        };
    }
    assert!(last + 1 == SIZE_CLASSES, "the rule gives 67 classes");
    let mut out = ([0; SIZE_CLASSES], [0; SIZE_CLASSES]);
    let mut class = 1;
    while class < SIZE_CLASSES {
        // Slots grow into what the last of them would leave over, in steps that the coarse table can tell apart.
        let span = pages[class] * PAGE.0;
        let stretched = span / (span / sizes[class]) / COARSE_STEP * COARSE_STEP;
        let bytes = if stretched > sizes[class] { stretched } else { sizes[class] };
        assert!(bytes > LARGEST_PRECISE || pages[class] == 1);
        out.0[class] = bytes as u16;
        out.1[class] = pages[class] as u8;
        class += 1;
    }
    out
}

/// The smallest class that holds `from + index * step` bytes, for each index.
const fn class_by_size<const N: usize>(from: usize, step: usize) -> [u8; N] {
    let mut classes = [0; N];
    let mut class = 1;
    let mut index = 0;
    while index < N {
        while (SLOT_BYTES[class] as usize) < from + index * step {
            class += 1;
        }
        classes[index] = class as u8;
        index += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go 1.27, `SizeClassToSize`.
    const GO_BYTES: [u16; 68] = [
        0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416,
        448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456,
        4096, 4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432,
        19072, 20480, 21760, 24576, 27264, 28672, 32768,
    ];
    /// `SizeClassToNPages`.
    const GO_PAGES: [u8; 68] = [
        0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1,
        2, 1, 2, 1, 3, 2, 3, 1, 3, 2, 3, 4, 5, 6, 1, 7, 6, 5, 4, 3, 5, 7, 2, 9, 7, 5, 8, 3, 10, 7, 4,
    ];
    /// The column "objects" of the table in its head comment.
    const GO_OBJECTS: [usize; 68] = [
        0, 1024, 512, 341, 256, 170, 128, 102, 85, 73, 64, 56, 51, 46, 42, 39, 36, 34, 32, 28, 25, 23, 21, 19, 18, 17,
        16, 14, 12, 11, 10, 9, 8, 7, 6, 11, 5, 9, 4, 7, 3, 8, 5, 7, 2, 5, 3, 4, 5, 6, 7, 1, 6, 5, 4, 3, 2, 3, 4, 1, 4,
        3, 2, 3, 1, 3, 2, 1,
    ];

    #[test]
    fn the_rule_gives_the_table_that_go_publishes() {
        assert_eq!(SLOT_BYTES, GO_BYTES);
        assert_eq!(SPAN_PAGES, GO_PAGES);
        for class in 1..SIZE_CLASSES {
            assert_eq!(SPAN_PAGES[class] as usize * PAGE.0 / SLOT_BYTES[class] as usize, GO_OBJECTS[class]);
        }
    }

    #[test]
    fn every_size_gets_the_smallest_slot_that_holds_it() {
        for bytes in 0..=LARGEST_SMALL {
            let smallest = GO_BYTES.iter().skip(1).position(|&slot| slot as usize >= bytes).map(|at| at + 1);
            assert_eq!(Some(holding(bytes) as usize), smallest, "{bytes} bytes");
        }
    }

    #[test]
    fn the_reciprocal_divides_every_offset_of_a_span() {
        for class in 1..SIZE_CLASSES {
            let (bytes, span) = (SLOT_BYTES[class] as usize, SPAN_PAGES[class] as usize * PAGE.0);
            for offset in 0..=span {
                assert_eq!((offset * RECIPROCAL[class] as usize) >> 32, offset / bytes);
            }
        }
    }
}

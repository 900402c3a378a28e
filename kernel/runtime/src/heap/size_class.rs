//! Which slot a request gets: Go's 68 size classes, times what the collector may assume of the words inside.
//! Go: `internal/runtime/gc/sizeclasses.go`, whose rule is `mksizeclasses.go`; `spanClass` in mheap.go.
//!
//! Class 0 stands for objects too large for any slot. The others are chosen so that neither rounding a request up to
//! its slot nor cutting a span into slots wastes more than about an eighth.

use crate::addr::{KIB, PAGE, Pages};

/// What the collector may assume of the words of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// No word is a reference; never read.
    Noscan = 0,
    /// A bit per word says whether it may hold a reference ([`super::pointer_map`]).
    Precise = 1,
    /// Any aligned word may hold one.
    Ambiguous = 2,
}

/// With the one for large objects.
pub(crate) const SIZE_CLASSES: usize = 68;
/// Requests above this many bytes are large. Go leaves the last word of 32 KiB to a type header; the boundary is kept.
pub(crate) const LARGEST_SMALL: usize = 32 * KIB - 8;
/// Larger objects have no pointer map: one word of mask says it all up to here, and every such span is one page.
pub(crate) const LARGEST_PRECISE: usize = 512;
/// Slots of the smallest class in a span.
pub(crate) const MOST_SLOTS: usize = 1024;

/// Slot sizes are looked up by eighths of a request up to here, by 128ths above.
const FINE_LIMIT: usize = 1024;
const FINE_STEP: usize = 8;
const COARSE_STEP: usize = 128;

const SLOT_BYTES: [u16; SIZE_CLASSES] = generate().0;
const SPAN_PAGES: [u8; SIZE_CLASSES] = generate().1;
/// `offset * RECIPROCAL >> 32` is `offset / slot bytes` for every offset into a span (Lemire, Kaser, Kurz 2019).
/// 0 for large objects: every offset is in slot 0.
const RECIPROCAL: [u32; SIZE_CLASSES] = {
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

/// A size class and a [`Kind`] in one byte, `kind * 68 + size class`, so that with a constant kind the class of a request is a
/// lookup and an addition, and the kind of a class two comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpanClass(u8);

impl SpanClass {
    pub(crate) const COUNT: usize = 3 * SIZE_CLASSES;

    /// The class for an object of so many bytes at so aligned an address (a power of two), or `None` if it is large.
    /// A request for 0 bytes gets the smallest slot. A precise one that needs more than [`LARGEST_PRECISE`] comes back
    /// ambiguous. Constant arguments give a constant.
    #[inline(always)]
    pub(crate) const fn for_request(bytes: usize, align: usize, kind: Kind) -> Option<SpanClass> {
        if bytes > LARGEST_SMALL {
            return None;
        }
        let mut class = if bytes <= FINE_LIMIT - FINE_STEP {
            FINE[bytes.div_ceil(FINE_STEP)]
        } else {
            COARSE[(bytes + (COARSE_STEP - 1) - FINE_LIMIT) / COARSE_STEP]
        };
        if align > 8 {
            class = match class_aligned(class, align) {
                Some(class) => class,
                None => return None,
            };
        }
        let kind = match kind {
            Kind::Precise if SLOT_BYTES[class as usize] as usize > LARGEST_PRECISE => Kind::Ambiguous,
            kind => kind,
        };
        Some(SpanClass::new(class, kind))
    }

    pub(crate) const fn large(kind: Kind) -> SpanClass {
        SpanClass::new(0, kind)
    }

    const fn new(size_class: u8, kind: Kind) -> SpanClass {
        SpanClass((kind as u8 * SIZE_CLASSES as u8).wrapping_add(size_class))
    }

    /// The class with this [`index`](SpanClass::index), which is below [`COUNT`](SpanClass::COUNT).
    pub(crate) const fn from_index(index: u8) -> SpanClass {
        debug_assert!((index as usize) < SpanClass::COUNT);
        SpanClass(index)
    }

    pub(crate) const fn index(self) -> u8 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> Kind {
        const PRECISE: u8 = SpanClass::large(Kind::Precise).0;
        const AMBIGUOUS: u8 = SpanClass::large(Kind::Ambiguous).0;
        match self.0 {
            AMBIGUOUS.. => Kind::Ambiguous,
            PRECISE.. => Kind::Precise,
            _ => Kind::Noscan,
        }
    }

    const fn size_class(self) -> usize {
        self.0 as usize % SIZE_CLASSES
    }

    pub(crate) const fn is_large(self) -> bool {
        self.size_class() == 0
    }

    /// The size of a slot; 0 for large objects, of which each has its own.
    pub(crate) const fn slot_bytes(self) -> usize {
        SLOT_BYTES[self.size_class()] as usize
    }

    /// The length of a span; 0 for large objects.
    pub(crate) const fn pages(self) -> Pages {
        Pages(SPAN_PAGES[self.size_class()] as usize)
    }

    pub(crate) const fn reciprocal(self) -> u32 {
        RECIPROCAL[self.size_class()]
    }

    /// How many slots a span is cut into. Precise spans keep a bit per word, a 64th of the span, at their end.
    pub(crate) const fn slots(self) -> usize {
        let span = self.pages().bytes().0;
        let map = if matches!(self.kind(), Kind::Precise) { span / 64 } else { 0 };
        if self.is_large() { 1 } else { (span - map) / self.slot_bytes() }
    }
}

/// Slots lie at multiples of their size from a page's start, so they are aligned to whatever divides both.
const fn class_aligned(mut class: u8, align: usize) -> Option<u8> {
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
        1, 1024, 512, 341, 256, 170, 128, 102, 85, 73, 64, 56, 51, 46, 42, 39, 36, 34, 32, 28, 25, 23, 21, 19, 18, 17,
        16, 14, 12, 11, 10, 9, 8, 7, 6, 11, 5, 9, 4, 7, 3, 8, 5, 7, 2, 5, 3, 4, 5, 6, 7, 1, 6, 5, 4, 3, 2, 3, 4, 1, 4,
        3, 2, 3, 1, 3, 2, 1,
    ];

    #[test]
    fn the_rule_gives_the_table_that_go_publishes() {
        assert_eq!(SLOT_BYTES, GO_BYTES);
        assert_eq!(SPAN_PAGES, GO_PAGES);
        for class in 0..SIZE_CLASSES as u8 {
            assert_eq!(SpanClass::new(class, Kind::Noscan).slots(), GO_OBJECTS[class as usize]);
        }
    }

    #[test]
    fn every_size_gets_the_smallest_slot_that_holds_it() {
        for bytes in 0..=LARGEST_SMALL {
            let smallest = GO_BYTES.iter().skip(1).position(|&slot| slot as usize >= bytes).map(|at| at + 1);
            let class = SpanClass::for_request(bytes, 8, Kind::Noscan);
            assert_eq!(class.map(SpanClass::size_class), smallest, "{bytes} bytes");
        }
        assert_eq!(SpanClass::for_request(LARGEST_SMALL + 1, 8, Kind::Noscan), None);
        assert_eq!(SpanClass::for_request(usize::MAX, 8, Kind::Noscan), None);
    }

    #[test]
    fn the_reciprocal_divides_every_offset_of_a_span() {
        for class in 1..SIZE_CLASSES as u8 {
            let class = SpanClass::new(class, Kind::Noscan);
            for offset in 0..=class.pages().bytes().0 {
                assert_eq!(offset * class.reciprocal() as usize >> 32, offset / class.slot_bytes());
            }
        }
    }

    #[test]
    fn alignment_picks_a_slot_size_that_it_divides_or_makes_the_object_large() {
        for align in (4..=14).map(|shift| 1 << shift) {
            for bytes in [1, 24, 40, 100, 513, 1025, 5000, 20_000, LARGEST_SMALL] {
                match SpanClass::for_request(bytes, align, Kind::Noscan) {
                    Some(class) => assert!(class.slot_bytes() >= bytes && class.slot_bytes().is_multiple_of(align)),
                    None => assert!(align > PAGE.0),
                }
            }
        }
    }

    #[test]
    fn a_span_class_is_its_size_class_and_its_kind() {
        for kind in [Kind::Noscan, Kind::Precise, Kind::Ambiguous] {
            for bytes in 0..=LARGEST_PRECISE {
                let class = SpanClass::for_request(bytes, 8, kind).expect("small");
                assert_eq!((class.kind(), class.slot_bytes() >= bytes), (kind, true));
            }
            assert!(SpanClass::large(kind).is_large());
            assert_eq!(SpanClass::large(kind).kind(), kind);
        }
        let above = SpanClass::for_request(LARGEST_PRECISE + 1, 8, Kind::Precise).map(SpanClass::kind);
        assert_eq!(above, Some(Kind::Ambiguous));
    }

    #[test]
    fn precise_slots_leave_room_for_their_map() {
        for bytes in (8..=LARGEST_PRECISE).step_by(8) {
            let class = SpanClass::for_request(bytes, 8, Kind::Precise).expect("small");
            assert!(class.slots() * class.slot_bytes() + PAGE.0 / 64 <= PAGE.0);
            assert!((class.slots() + 1) * class.slot_bytes() + PAGE.0 / 64 > PAGE.0);
        }
    }
}

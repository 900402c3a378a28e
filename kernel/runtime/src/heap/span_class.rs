//! SpanClass: which spans an object may be in: its size class, times what the collector may assume of its words.
//! Go: spanClass in mheap.go.

use super::size_class::{
    self, FINE_LIMIT, HEADER, LARGEST_PRECISE, LARGEST_SMALL, RECIPROCAL, SIZE_CLASSES, SLOT_BYTES, SPAN_PAGES,
};
use crate::addr::Pages;

/// What the collector may assume of the words of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// No word is a reference; never read.
    Noscan = 0,
    /// A bit per word says whether it may hold a reference ([`super::pointer_map`], [`super::pattern`]).
    Precise = 1,
    /// Any aligned word may hold one.
    Ambiguous = 2,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Noscan => "noscan",
            Kind::Precise => "precise",
            Kind::Ambiguous => "ambiguous",
        }
    }
}

/// Where it says which words of an object may be references.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum References {
    /// Nowhere: none may.
    None,
    /// In the span, a mask for each object.
    Masks,
    /// In each object's [pattern](super::Pattern).
    Patterns,
}

/// A size class and a [`Kind`] in one byte, so that with a constant kind the class of a request is a lookup and an
/// addition, and for the marker the kind of a class two comparisons: `kind * 68 + size class`; but precise classes
/// without masks, those for large objects and for more than [`LARGEST_PRECISE`] bytes, come behind all the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpanClass(u8);

/// Above are the classes of precise slots without a mask; size class 0 would come just before.
const MASKED: u8 = size_class::holding(LARGEST_PRECISE);
/// The one for large precise objects.
const PATTERNED: u8 = 3 * SIZE_CLASSES as u8;

static BY_SIZE: [SpanClass; 3 * SIZE_CLASSES] = {
    let mut classes = [SpanClass(0); _];
    let mut number = 0;
    while number < classes.len() {
        let kind = [Kind::Noscan, Kind::Precise, Kind::Ambiguous][number % 3];
        classes[number] = SpanClass::new((number / 3) as u8, kind);
        number += 1;
    }
    classes
};

impl SpanClass {
    pub(crate) const COUNT: usize = 4 * SIZE_CLASSES - MASKED as usize;

    /// The class for an object of so many bytes at so aligned an address (a power of two), or `None` if it is large.
    /// A request for 0 bytes gets the smallest slot; a precise one for more than [`LARGEST_PRECISE`] gets a slot with a
    /// header. Constant arguments give a constant, up to [`FINE_LIMIT`] bytes outside constants, too.
    #[inline(always)]
    pub(crate) const fn for_request(bytes: usize, align: usize, kind: Kind) -> Option<SpanClass> {
        if bytes > FINE_LIMIT || align > 8 || matches!(kind, Kind::Precise) && bytes > LARGEST_PRECISE {
            return SpanClass::for_rare_request(bytes, align, kind);
        }
        Some(SpanClass::new(size_class::holding_few(bytes), kind))
    }

    /// The rest of [`for_request`](SpanClass::for_request), which is inlined wherever plain Rust makes or frees a block.
    #[cold]
    #[inline(never)]
    const fn for_rare_request(bytes: usize, align: usize, kind: Kind) -> Option<SpanClass> {
        if bytes > LARGEST_SMALL {
            return None;
        }
        let header = if matches!(kind, Kind::Precise) && bytes > LARGEST_PRECISE { HEADER } else { 0 };
        match size_class::aligned(size_class::holding(bytes + header), align) {
            Some(class) => Some(SpanClass::new(class, kind)),
            None => None,
        }
    }

    pub(crate) const fn large(kind: Kind) -> SpanClass {
        SpanClass::new(0, kind)
    }

    const fn new(size_class: u8, kind: Kind) -> SpanClass {
        match kind {
            Kind::Precise if size_class == 0 => SpanClass(PATTERNED),
            Kind::Precise if size_class > MASKED => SpanClass(PATTERNED + (size_class - MASKED)),
            kind => SpanClass((kind as u8 * SIZE_CLASSES as u8).wrapping_add(size_class)),
        }
    }

    /// Whether this is some class's index.
    pub(super) fn is_index(index: u8) -> bool {
        let class = SpanClass(index);
        (index as usize) < SpanClass::COUNT && SpanClass::new(class.size_class() as u8, class.kind()) == class
    }

    /// Every class has a number in this order: the large ones first, then by the size of their slots.
    pub(crate) fn by_size(number: usize) -> Option<SpanClass> {
        BY_SIZE.get(number).copied()
    }

    /// The class of so large slots, 0 for large objects, and this kind.
    pub(crate) const fn of(size_class: usize, kind: Kind) -> SpanClass {
        debug_assert!(size_class < SIZE_CLASSES);
        SpanClass::new(size_class as u8, kind)
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
        match self.references() {
            References::None => Kind::Noscan,
            References::Masks => Kind::Precise,
            References::Patterns if self.0 >= PATTERNED => Kind::Precise,
            References::Patterns => Kind::Ambiguous,
        }
    }

    #[inline(always)]
    pub(crate) const fn references(self) -> References {
        const PRECISE: u8 = Kind::Precise as u8 * SIZE_CLASSES as u8;
        const AMBIGUOUS: u8 = Kind::Ambiguous as u8 * SIZE_CLASSES as u8;
        match self.0 {
            AMBIGUOUS.. => References::Patterns,
            PRECISE.. => References::Masks,
            _ => References::None,
        }
    }

    pub(crate) const fn size_class(self) -> usize {
        match self.0.checked_sub(PATTERNED) {
            None => self.0 as usize % SIZE_CLASSES,
            Some(0) => 0,
            Some(above) => (MASKED + above) as usize,
        }
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

    /// Whether its spans keep a mask of each object.
    pub(crate) const fn has_masks(self) -> bool {
        matches!(self.references(), References::Masks)
    }

    /// Whether its slots keep a word for the pattern of the object.
    pub(crate) const fn has_header(self) -> bool {
        self.0 > PATTERNED
    }

    /// How many slots a span is cut into. Masks take a bit per word, a 64th of the span, at its end.
    pub(crate) const fn slots(self) -> usize {
        let span = self.pages().bytes().0;
        let map = if self.has_masks() { span / 64 } else { 0 };
        if self.is_large() { 1 } else { (span - map) / self.slot_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGE;

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
    }

    #[test]
    fn precise_slots_leave_room_for_their_map() {
        for bytes in (8..=LARGEST_PRECISE).step_by(8) {
            let class = SpanClass::for_request(bytes, 8, Kind::Precise).expect("small");
            assert!(class.slots() * class.slot_bytes() + PAGE.0 / 64 <= PAGE.0);
            assert!((class.slots() + 1) * class.slot_bytes() + PAGE.0 / 64 > PAGE.0);
        }
    }

    #[test]
    fn larger_precise_slots_leave_room_for_a_header_and_only_they() {
        for bytes in (LARGEST_PRECISE + 1..=LARGEST_SMALL).step_by(7) {
            let class = |kind| SpanClass::for_request(bytes, 8, kind).expect("small");
            let (precise, plain) = (class(Kind::Precise), class(Kind::Ambiguous));
            assert!(precise.has_header() && !precise.has_masks() && precise.usable_bytes() >= bytes);
            assert!(precise.slot_bytes() == plain.slot_bytes() || plain.slot_bytes() < bytes + HEADER);
            assert_eq!((plain.has_header(), plain.usable_bytes()), (false, plain.slot_bytes()));
        }
        assert!(!SpanClass::large(Kind::Precise).has_header() && !SpanClass::large(Kind::Precise).has_masks());
    }

    #[test]
    fn what_is_too_large_for_a_slot_has_no_class() {
        assert!(SpanClass::for_request(LARGEST_SMALL, 8, Kind::Noscan).is_some());
        for bytes in [LARGEST_SMALL + 1, 32 * 1024, usize::MAX] {
            assert_eq!(SpanClass::for_request(bytes, 8, Kind::Noscan), None);
        }
    }
}

//! Which words of an object over 512 bytes may be references: a mask of up to 64 words, repeated. Go: the malloc header, and `typePointers`
//! in mbitmap.go.
//!
//! A pattern is a constant of a type, in the image. An object says which is its own in the last word of its slot (Go: in the first, which
//! costs an object its alignment); a large one, in its span's record, in a word of bits that a single slot does not need. Every page of a
//! large array is then read by the mask of one element.
//!
//! Unsafe here: following the address of a pattern.
#![allow(unsafe_code)]

use super::size_class::HEADER;
use super::span::{Object, Span};
use super::span_class::{Kind, SpanClass};
use crate::addr::{Address, Bytes, Range};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const MASK_WORDS: usize = u64::BITS as usize;

/// From word `first` up to `end`, elements of `words` words lie side by side. Of their words those in `mask` may be
/// references; no others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    first: usize,
    /// Past the end of every object: up to there.
    end: usize,
    /// At most 64.
    words: usize,
    /// Of as many elements as 64 words hold, and the beginning of one more.
    mask: u64,
}

impl Pattern {
    /// No object has more words.
    const TO_THE_END: usize = usize::MAX;
    const EVERY_WORD: Pattern = Pattern::of_words(0, u64::MAX).with_end(Pattern::TO_THE_END);

    /// `mask`, which is not 0, once, from word `first` on.
    pub(crate) const fn of_words(first: usize, mask: u64) -> Pattern {
        let (before, end) = (mask.trailing_zeros() as usize, MASK_WORDS - mask.leading_zeros() as usize);
        Pattern { first: first + before, end: first + end, words: MASK_WORDS, mask: mask >> before }
    }

    /// `count` elements of `words` words each, at most 64, side by side.
    pub(crate) const fn of_elements(words: usize, mask: u64, count: usize) -> Pattern {
        let (mut repeated, mut at) = (0, 0);
        while at < MASK_WORDS {
            repeated |= mask << at;
            at += words;
        }
        Pattern { first: 0, end: words * count, words, mask: repeated }
    }

    const fn with_end(self, end: usize) -> Pattern {
        Pattern { end, ..self }
    }

    /// As many more words before it.
    pub(crate) const fn after(self, words: usize) -> Pattern {
        Pattern { first: self.first + words, end: self.end + words, ..self }
    }

    /// `count` objects of this pattern and of `words` words each, side by side; `None`: they would not repeat.
    pub(crate) const fn repeated(self, words: usize, count: usize) -> Option<Pattern> {
        if count == 1 {
            Some(self)
        } else if self.first == 0 && self.end == words && words.is_multiple_of(self.words) {
            Some(self.with_end(words * count))
        } else {
            None
        }
    }

    /// The same elements up to the object's end, however many those are.
    pub(crate) const fn to_the_end(self) -> Pattern {
        self.with_end(Pattern::TO_THE_END)
    }

    /// Both in one object; `None`: neither are they the same nor do 64 words hold both.
    pub(crate) const fn union(self, other: Pattern) -> Option<Pattern> {
        if self.first == other.first && self.words == other.words && self.mask == other.mask {
            return Some(if self.end > other.end { self } else { other });
        }
        let first = if self.first < other.first { self.first } else { other.first };
        match (self.window(first), other.window(first)) {
            (Some(mask), Some(more)) => Some(Pattern::of_words(first, mask | more)),
            _ => None,
        }
    }

    /// All of it as a mask of the 64 words from `first` on, where its own first is not before.
    pub(crate) const fn window(self, first: usize) -> Option<u64> {
        if self.end - first > MASK_WORDS {
            return None;
        }
        let (mut mask, mut word) = (0, self.first);
        while word < self.end {
            mask |= (self.mask >> ((word - self.first) % self.words) & 1) << (word - first);
            word += 1;
        }
        Some(mask)
    }

    /// What is looked at together of an object of `total` words, from `word` on, which is 0 or where the last piece said to go on.
    fn piece(&self, word: usize, total: usize) -> Option<Piece<usize>> {
        let (start, end) = (word.max(self.first), self.end.min(total));
        let rest = end.checked_sub(start).filter(|&rest| rest > 0)?;
        let whole = MASK_WORDS / self.words * self.words;
        let next = (whole < rest).then_some(start + whole);
        Some(Piece { start, mask: self.mask & lowest(whole.min(rest)), next })
    }

    /// As a mask of all `words` words of a slot, at most 64. For patterns that begin with the object.
    pub(super) fn mask(&self, words: usize) -> u64 {
        debug_assert!(self.first == 0);
        self.mask & lowest(words.min(self.end))
    }

    /// Whether word `word` is one of those that may be references: for who does not trust [`piece`](Pattern::piece).
    pub(super) fn has(&self, word: usize) -> bool {
        (self.first..self.end).contains(&word) && self.mask >> ((word - self.first) % self.words) & 1 == 1
    }
}

/// So many of the lowest bits, at least one.
const fn lowest(bits: usize) -> u64 {
    u64::MAX >> (MASK_WORDS - bits)
}

/// How the collector reads an object.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    /// Of a precise one.
    pub(crate) pattern: &'static Pattern,
    /// Every word that the pattern names holds a reference or null, nothing else.
    pub(crate) sure: bool,
}

impl Reading {
    /// Of a block of which nothing is known but its kind, [`Kind::Noscan`] or [`Kind::Ambiguous`].
    pub(crate) const fn of_block(kind: Kind) -> Reading {
        Reading { kind, pattern: &Pattern::EVERY_WORD, sure: false }
    }
}

/// Up to 64 words of an object: the first, which of them may be references, and where there are more.
pub(crate) struct Piece<Place> {
    pub(crate) start: Place,
    pub(crate) mask: u64,
    pub(crate) next: Option<Place>,
}

impl Span {
    /// Says how to read the object in `slot`, before anyone can see it.
    #[inline(always)]
    pub(super) fn write_reading(&self, slot: u32, reading: Reading) {
        self.pattern_word(slot).store(ptr::from_ref(reading.pattern).expose_provenance() as u64, Relaxed);
        if !reading.sure {
            self.set_unsure();
        }
    }

    /// Where that is said. For precise spans without a map.
    #[inline(always)]
    fn pattern_word(&self, slot: u32) -> &AtomicU64 {
        if self.class().is_large() {
            return &self.bits[1].allocated;
        }
        debug_assert!(self.class().has_header());
        let end = self.slot_base(slot).0.wrapping_add(self.slot_bytes().0);
        // SAFETY: the last word of a slot of a committed span, which no object of this class reaches (SpanClass::usable_bytes); slots are
        // multiples of 8 at multiples of 8.
        unsafe { &*ptr::with_exposed_provenance(end.wrapping_sub(HEADER)) }
    }

    /// For the walker: whether a large object has a pattern, which only precise ones have.
    pub(super) fn has_pattern(&self) -> bool {
        self.bits[1].allocated.load(Relaxed) != 0
    }

    /// As a record is opened.
    pub(super) fn clear_pattern(&self) {
        self.bits[1].allocated.store(0, Relaxed);
    }
}

impl Object {
    /// Of a precise object without a mask of its own, or an ambiguous one.
    fn pattern(self) -> &'static Pattern {
        if self.span.kind() == Kind::Ambiguous {
            return &Pattern::EVERY_WORD;
        }
        let pattern = self.span.pattern_word(self.slot).load(Relaxed) as usize;
        // SAFETY: `write_reading` put the address of a constant there before the object could be seen, and nothing else
        // is ever written there: the word is beyond what its owner has (`contents`).
        unsafe { &*ptr::with_exposed_provenance(pattern) }
    }

    /// Of an ambiguous object of at most 64 words, all its words; of others 0: they are looked at by pieces.
    #[inline(always)]
    pub(crate) fn short_mask(self) -> u64 {
        match self.bytes().0 / 8 {
            words @ 1..=MASK_WORDS => lowest(words),
            _ => 0,
        }
    }

    /// If its pattern has no gaps: the words of it from `start` on.
    pub(crate) fn every_word(self, start: Address) -> Option<Range> {
        let Pattern { first, end, mask, .. } = *self.pattern();
        let address = |word: usize| self.base.plus(Bytes(word * 8));
        let rest = || Range { start: start.max(address(first)), end: address(end.min(self.contents().0 / 8)) };
        (mask == u64::MAX).then(rest)
    }

    /// What is looked at together from `start` on, which is the object's base or where the last piece said to go on.
    pub(crate) fn piece(self, start: Address) -> Option<Piece<Address>> {
        let address = |word: usize| self.base.plus(Bytes(word * 8));
        let piece = self.pattern().piece((start.0 - self.base.0) / 8, self.contents().0 / 8)?;
        Some(Piece { start: address(piece.start), mask: piece.mask, next: piece.next.map(address) })
    }

    /// How many of its slot's bytes are its own.
    pub(crate) fn contents(self) -> Bytes {
        Bytes(self.bytes().0 - if self.span.class().has_header() { HEADER } else { 0 })
    }

    /// Whether word `word` may hold a reference.
    pub(crate) fn may_refer(self, word: usize) -> bool {
        match self.span.kind() {
            Kind::Noscan => false,
            Kind::Precise if self.span.class().has_masks() => word < MASK_WORDS && self.pointer_mask() >> word & 1 == 1,
            _ => word < self.contents().0 / 8 && self.pattern().has(word),
        }
    }
}

impl SpanClass {
    /// How many bytes of a slot an object may have.
    pub(crate) const fn usable_bytes(self) -> usize {
        self.slot_bytes() - if self.has_header() { HEADER } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::pretend::Random;

    /// The words that the pieces name, of an object of `total` words.
    fn pieces(pattern: &Pattern, total: usize) -> Vec<usize> {
        let (mut named, mut next) = (Vec::new(), Some(0));
        while let Some(piece) = next.and_then(|next| pattern.piece(next, total)) {
            named.extend((0..64).filter(|bit| piece.mask >> bit & 1 == 1).map(|bit| piece.start + bit));
            assert!(piece.next.is_none_or(|next| piece.start < next && next < total));
            next = piece.next;
        }
        named
    }

    #[test]
    fn pieces_name_the_words_of_each_element_and_none_beyond_the_last() {
        let mut random = Random::new();
        for words in (1..=64).step_by(if cfg!(miri) { 21 } else { 1 }) {
            let mask = random.word() >> (64 - words) | 1 << (words - 1);
            for (count, before) in [(1, 0), (2, 0), (7, 3), (64, 0), (100, 9)] {
                let pattern = Pattern::of_elements(words, mask, count).after(before);
                let end = before + count * words;
                let expected: Vec<_> =
                    (before..end).filter(|word| mask >> ((word - before) % words) & 1 == 1).collect();
                assert_eq!(pieces(&pattern, end + 1000), expected);
                assert!((0..end + 1000).filter(|&word| pattern.has(word)).eq(expected.iter().copied()));
                // The slot may be shorter than a whole number of elements.
                let total = random.below(end + 100);
                let open = Pattern::of_elements(words, mask, 1).to_the_end();
                let all = (0..total).filter(|word| mask >> (word % words) & 1 == 1);
                assert!(pieces(&open, total).into_iter().eq(all));
            }
        }
    }

    #[test]
    fn two_patterns_are_one_if_they_are_the_same_or_64_words_hold_both() {
        let node = Pattern::of_words(100, 0b101);
        let both = Pattern::of_words(100, 0b101 | 1 << 63);
        assert_eq!(node.union(Pattern::of_words(163, 1)), Some(both));
        assert_eq!(Pattern::of_words(163, 1).union(node), Some(both));
        assert_eq!(node.union(Pattern::of_words(164, 1)), None);
        let array = Pattern::of_elements(3, 0b10, 50);
        assert_eq!((array.union(array), array.union(node)), (Some(array), None));
        assert_eq!(array.repeated(150, 4), Some(Pattern::of_elements(3, 0b10, 200)));
        assert_eq!((array.repeated(151, 4), array.after(1).repeated(151, 4)), (None, None), "a gap is in between");
        assert_eq!(array.after(1).repeated(151, 1), Some(array.after(1)));
    }
}

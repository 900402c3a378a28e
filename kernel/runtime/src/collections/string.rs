//! `GcString`: text that grows. Go: `strings.Builder`, and `string` for what came of it.
//!
//! Unsafe here: that the bytes are UTF-8, of which this file is the keeper.
#![allow(unsafe_code)]

use super::GcVec;
use crate::{Gc, Trace};
use alloc::string::String;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::{Add, AddAssign, Deref, DerefMut};
use core::str::Utf8Error;

/// A string in memory that the collector never reads, growing as a [`GcVec<u8>`] does; three words.
///
/// All of `str` is there; it may be formatted into (`write!`). A `Gc<str>` is made of it without a copy. What grows asks for memory as
/// [`GcVec::push`] does.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Trace)]
pub struct GcString {
    bytes: GcVec<u8>,
}

impl GcString {
    /// Empty, and without memory.
    pub const fn new() -> GcString {
        GcString { bytes: GcVec::new() }
    }

    /// With room for as many bytes, or a few more. May grow.
    pub fn with_capacity(capacity: usize) -> GcString {
        GcString { bytes: GcVec::with_capacity(capacity) }
    }

    /// The bytes as text, if they are UTF-8. O(n), nothing is copied.
    pub fn from_utf8(bytes: GcVec<u8>) -> Result<GcString, Utf8Error> {
        core::str::from_utf8(&bytes)?;
        Ok(GcString { bytes })
    }

    pub fn as_str(&self) -> &str {
        self
    }

    pub fn into_bytes(self) -> GcVec<u8> {
        self.bytes
    }

    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Room for so many more bytes, as [`GcVec::reserve`] makes it.
    pub fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    pub fn push(&mut self, char: char) {
        self.push_str(char.encode_utf8(&mut [0; 4]));
    }

    /// O(appended), amortised. Go: `WriteString`.
    pub fn push_str(&mut self, text: &str) {
        self.bytes.append(text.as_bytes());
    }

    pub fn pop(&mut self) -> Option<char> {
        let last = self.chars().next_back()?;
        self.bytes.truncate(self.len() - last.len_utf8());
        Some(last)
    }

    /// Keeps the first `length` bytes.
    ///
    /// # Panics
    /// A character goes on there.
    pub fn truncate(&mut self, length: usize) {
        if length < self.len() {
            assert!(self.is_char_boundary(length), "a character goes on at byte {length}");
            self.bytes.truncate(length);
        }
    }

    /// The capacity stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Puts `text` at byte `index`. O(n).
    ///
    /// # Panics
    /// A character goes on there.
    pub fn insert_str(&mut self, index: usize, text: &str) {
        assert!(self.is_char_boundary(index), "a character goes on at byte {index}");
        self.bytes.append(text.as_bytes());
        self.bytes[index..].rotate_right(text.len());
    }

    /// Takes out the character at byte `index`. O(n).
    ///
    /// # Panics
    /// None begins there.
    pub fn remove(&mut self, index: usize) -> char {
        let char = self[index..].chars().next().expect("a character to remove");
        self.bytes[index..].rotate_left(char.len_utf8());
        self.bytes.truncate(self.len() - char.len_utf8());
        char
    }
}

impl Deref for GcString {
    type Target = str;

    fn deref(&self) -> &str {
        // SAFETY: only whole strings are put in and whole characters taken out; `from_utf8` looks.
        unsafe { core::str::from_utf8_unchecked(&self.bytes) }
    }
}

impl DerefMut for GcString {
    fn deref_mut(&mut self) -> &mut str {
        // SAFETY: as above; a `&mut str` stays UTF-8.
        unsafe { core::str::from_utf8_unchecked_mut(&mut self.bytes) }
    }
}

/// Nothing is copied.
impl From<GcString> for Gc<str> {
    fn from(text: GcString) -> Gc<str> {
        let bytes = Gc::<[u8]>::from(text.bytes);
        // SAFETY: the bytes of a string.
        unsafe { Gc::from_utf8_unchecked(bytes) }
    }
}

impl From<&str> for GcString {
    fn from(text: &str) -> GcString {
        GcString { bytes: text.as_bytes().into() }
    }
}

impl From<String> for GcString {
    fn from(text: String) -> GcString {
        text.as_str().into()
    }
}

impl<'a> Extend<&'a str> for GcString {
    fn extend<I: IntoIterator<Item = &'a str>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push_str(text));
    }
}

impl Extend<char> for GcString {
    fn extend<I: IntoIterator<Item = char>>(&mut self, chars: I) {
        chars.into_iter().for_each(|char| self.push(char));
    }
}

impl<'a> FromIterator<&'a str> for GcString {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> GcString {
        let mut new = GcString::new();
        new.extend(texts);
        new
    }
}

impl FromIterator<char> for GcString {
    fn from_iter<I: IntoIterator<Item = char>>(chars: I) -> GcString {
        let mut new = GcString::new();
        new.extend(chars);
        new
    }
}

impl fmt::Write for GcString {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl fmt::Display for GcString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for GcString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Add<&str> for GcString {
    type Output = GcString;

    fn add(mut self, text: &str) -> GcString {
        self.push_str(text);
        self
    }
}

impl AddAssign<&str> for GcString {
    fn add_assign(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl AsRef<str> for GcString {
    fn as_ref(&self) -> &str {
        self
    }
}

/// So a map with such keys is asked with a `&str`.
impl Borrow<str> for GcString {
    fn borrow(&self) -> &str {
        self
    }
}

impl Hash for GcString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for GcString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for GcString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd<str> for GcString {
    fn partial_cmp(&self, other: &str) -> Option<Ordering> {
        self.as_str().partial_cmp(other)
    }
}

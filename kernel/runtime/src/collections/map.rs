//! `GcMap<K, V>`: hashbrown's table in our heap. Go: `map[K]V`, since 1.24 a Swiss table too.

use super::map_hash::MapHash;
use super::map_memory::MapMemory;
use crate::gc::trace::{Scan, Trace};
use core::borrow::Borrow;
use core::fmt;
use core::hash::Hash;
use core::ops::Index;
use hashbrown::hash_map::{self, HashMap};

type Table<K, V> = HashMap<K, V, MapHash, MapMemory<K, V>>;

/// A hash map whose memory the collector never reads if keys and values hold no references; else every word of it may be one.
///
/// The hash is foldhash with a seed that is another at every boot, so that strangers who choose the keys cannot make it
/// slow. It is the same for all maps of a boot: two with the same history are iterated in the same order (Go's are
/// not). `GODEBUG=randseed=N` sets it, for a run to repeat.
///
/// O(1) for each operation, amortised; what inserts may grow the table to twice its size, in one go, and then asks for
/// memory as [`GcVec::push`](crate::GcVec::push) does. Nothing blocks. Entries are dropped as those of a `HashMap` are;
/// see the room's head for what a collected object owns. Not for several threads at once without a lock, which the
/// compiler sees to.
pub struct GcMap<K: Trace, V: Trace>(Table<K, V>);

// SAFETY: a table is a pointer to its memory and numbers, each in words of their own, and changes through `&mut` only; which word is the
// pointer hashbrown does not say, so each may be.
#[allow(unsafe_code)]
unsafe impl<K: Trace, V: Trace> Trace for GcMap<K, V> {
    const SCAN: Scan = {
        assert!(size_of::<Self>().is_multiple_of(8) && size_of::<Self>() <= 512);
        Scan::Precise(u64::MAX >> (64 - size_of::<Self>() / 8))
    };
    const SURE: bool = false;
}

impl<K: Trace, V: Trace> GcMap<K, V> {
    /// Empty, and without memory.
    pub const fn new() -> GcMap<K, V> {
        GcMap(HashMap::with_hasher_in(MapHash, MapMemory::new()))
    }

    /// How many entries there are. Go: `len(m)`.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The entries, in no order that means anything, and another after each boot.
    pub fn iter(&self) -> hash_map::Iter<'_, K, V> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> hash_map::IterMut<'_, K, V> {
        self.0.iter_mut()
    }

    pub fn keys(&self) -> hash_map::Keys<'_, K, V> {
        self.0.keys()
    }

    pub fn values(&self) -> hash_map::Values<'_, K, V> {
        self.0.values()
    }

    pub fn values_mut(&mut self) -> hash_map::ValuesMut<'_, K, V> {
        self.0.values_mut()
    }

    /// Drops all entries; the memory stays. O(capacity). Go: `clear(m)`.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Drops the entries of which `keep` does not say `true`. O(capacity).
    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain(keep);
    }
}

impl<K: Trace + Eq + Hash, V: Trace> GcMap<K, V> {
    /// With room for as many entries. Go: `make(map[K]V, capacity)`.
    pub fn with_capacity(capacity: usize) -> GcMap<K, V> {
        let mut new = GcMap::new();
        new.reserve(capacity);
        new
    }

    /// Room for so many more entries, at once. May grow, O(capacity) then.
    pub fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    /// Gives back memory that so many entries do not need. O(capacity).
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Go: `m[key] = value`. Returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Go: `value, ok := m[key]`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Go: `delete(m, key)`. Returns what was there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key)
    }

    /// [`remove`](GcMap::remove), and the key as well.
    pub fn remove_entry<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.0.remove_entry(key)
    }

    /// The place for a key, looked up once: `*map.entry(word).or_insert(0) += 1`. May grow.
    pub fn entry(&mut self, key: K) -> hash_map::Entry<'_, K, V, MapHash, MapMemory<K, V>> {
        self.0.entry(key)
    }
}

impl<K: Trace, V: Trace> Default for GcMap<K, V> {
    fn default() -> GcMap<K, V> {
        GcMap::new()
    }
}

impl<K: Trace + Clone, V: Trace + Clone> Clone for GcMap<K, V> {
    fn clone(&self) -> GcMap<K, V> {
        GcMap(self.0.clone())
    }
}

impl<K: Trace + Eq + Hash, V: Trace> Extend<(K, V)> for GcMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.0.extend(entries);
    }
}

impl<K: Trace + Eq + Hash, V: Trace> FromIterator<(K, V)> for GcMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> GcMap<K, V> {
        let mut new = GcMap::new();
        new.extend(entries);
        new
    }
}

impl<K: Trace + Eq + Hash, V: Trace, const N: usize> From<[(K, V); N]> for GcMap<K, V> {
    fn from(entries: [(K, V); N]) -> GcMap<K, V> {
        entries.into_iter().collect()
    }
}

impl<K: Trace, V: Trace> IntoIterator for GcMap<K, V> {
    type Item = (K, V);
    type IntoIter = hash_map::IntoIter<K, V, MapMemory<K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K: Trace, V: Trace> IntoIterator for &'a GcMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = hash_map::Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Trace + Borrow<Q> + Eq + Hash, V: Trace, Q: Hash + Eq + ?Sized> Index<&Q> for GcMap<K, V> {
    type Output = V;

    /// Panics if there is no such key; Go gives a zero value then.
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry for the key")
    }
}

impl<K: Trace + fmt::Debug, V: Trace + fmt::Debug> fmt::Debug for GcMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Trace + Eq + Hash, V: Trace + PartialEq> PartialEq for GcMap<K, V> {
    fn eq(&self, other: &GcMap<K, V>) -> bool {
        self.0 == other.0
    }
}

impl<K: Trace + Eq + Hash, V: Trace + Eq> Eq for GcMap<K, V> {}

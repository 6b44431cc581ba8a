//! A hash map for keys that an attacker may choose.

use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::Rng;

/// A hash map keyed by a secret from the seed (SipHash-1-3), for hot paths whose keys come from the
/// network. It cannot be iterated: the order of a hash map would leak into behaviour.
pub struct SeededMap<K, V> {
    entries: HashMap<K, V, Keyed>,
}

#[derive(Clone)]
struct Keyed(u64, u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

impl<K: Hash + Eq, V> SeededMap<K, V> {
    /// An empty map whose hash key is drawn from `rng`.
    pub fn new(rng: &mut Rng) -> Self {
        Self { entries: HashMap::with_hasher(Keyed(rng.u64(), rng.u64())) }
    }

    /// Stores `value` under `key`; returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.entries.insert(key, value)
    }

    /// Looks `key` up.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Looks `key` up, for change.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key)
    }

    /// Whether `key` is there.
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// Removes `key`.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key)
    }

    /// Keeps only the entries for which `keep` holds. The order of the calls is unspecified, so
    /// `keep` decides from its arguments alone.
    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain(keep);
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K, V> fmt::Debug for SeededMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeededMap({} entries)", self.entries.len())
    }
}

//! A sorted map whose versions share what they have in common.
//!
//! Endpoints of one backend among 100,000 change, and the configuration that follows is a new map.
//! This one is cut into chunks that are shared by pointer: a new version copies one chunk, is told
//! from the last one by looking at the chunks that are not the same, and frees one when it goes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A persistent map in order of its keys; a clone costs nothing.
#[derive(Debug)]
pub struct SortedMap<K, V> {
    /// None of them empty, each with keys greater than those of the one before.
    chunks: Arc<Vec<Arc<Chunk<K, V>>>>,
    len: usize,
}

type Chunk<K, V> = Vec<(K, V)>;

/// A key whose value differs between two maps.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the first map, if it has one.
    pub before: Option<&'a V>,
    /// Its value in the second map, if it has one.
    pub after: Option<&'a V>,
}

impl<K, V> SortedMap<K, V> {
    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is the very same map, not merely an equal one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// Entries in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        let entries = self.chunks.iter().flat_map(|chunk| &**chunk);
        entries.map(|(key, value)| (key, value))
    }

    /// Keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// Values in order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.place(key))?;
        let place = position(chunk, key).ok()?;
        chunk.get(place).map(|(_, value)| value)
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Entries from this key on, in order.
    pub fn range_from<'a, Q: Ord + ?Sized>(
        &'a self,
        first: &Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let place = self.place(first);
        let chunk = self.chunks.get(place).map_or(&[][..], |chunk| &**chunk);
        let (Ok(skipped) | Err(skipped)) = position(chunk, first);
        let later = self.chunks.iter().skip(place + 1);
        let entries = chunk.iter().skip(skipped);
        let entries = entries.chain(later.flat_map(|chunk| &**chunk));
        entries.map(|(key, value)| (key, value))
    }

    /// What differs from this map in `after`, in order of keys. Nothing is looked at that both
    /// share, and values that are equal are no difference.
    pub fn differences<'a>(&'a self, after: &'a Self) -> Vec<Difference<'a, K, V>>
    where
        V: PartialEq,
    {
        let mut differences = Vec::new();
        if self.is(after) {
            return differences;
        }
        let (mut before, mut after) = (Cursor::new(self), Cursor::new(after));
        loop {
            before.skip_shared(&mut after);
            let order = match (before.entry(), after.entry()) {
                (Some((key, _)), Some((other, _))) => key.cmp(other),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return differences,
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            let Some((key, _)) = old.or(new) else {
                return differences;
            };
            let (before, after) = (old.map(|(_, old)| old), new.map(|(_, new)| new));
            if before != after {
                differences.push(Difference { key, before, after });
            }
        }
    }

    /// The chunk that has the key if any has.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let begins_before = |chunk: &Arc<Chunk<K, V>>| {
            let first = chunk.first();
            first.is_some_and(|(first, _)| first.borrow() <= key)
        };
        let after = self.chunks.partition_point(begins_before);
        after.saturating_sub(1)
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    /// Gives a key this value; copies what other versions share of its chunk.
    pub fn insert(&mut self, key: K, value: V) {
        let place = self.place(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(place) else {
            chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match position(chunk, &key) {
            Ok(known) => {
                if let Some(entry) = chunk.get_mut(known) {
                    entry.1 = value;
                }
                return;
            }
            Err(next) => chunk.insert(next, (key, value)),
        }
        self.len += 1;
        if chunk.len() > CHUNK_MAX {
            let second = chunk.split_off(CHUNK_MAX / 2);
            chunks.insert(place + 1, Arc::new(second));
        }
    }
}

/// The place of a key among sorted entries, or where it would stand.
fn position<K, V, Q>(chunk: &[(K, V)], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    chunk.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

/// Where in a map the comparison stands.
struct Cursor<'a, K, V> {
    chunks: &'a [Arc<Chunk<K, V>>],
    /// Of the first chunk.
    done: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SortedMap<K, V>) -> Self {
        Self {
            chunks: &map.chunks,
            done: 0,
        }
    }

    fn entry(&self) -> Option<(&'a K, &'a V)> {
        let (key, value) = self.chunks.first()?.get(self.done)?;
        Some((key, value))
    }

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        let entry = self.entry();
        self.done += 1;
        if let Some((chunk, rest)) = self.chunks.split_first()
            && self.done >= chunk.len()
        {
            self.chunks = rest;
            self.done = 0;
        }
        entry
    }

    /// Leaves out the chunks that both have here.
    fn skip_shared(&mut self, other: &mut Self) {
        if (self.done, other.done) != (0, 0) {
            return;
        }
        let pairs = self.chunks.iter().zip(other.chunks);
        let shared = pairs.take_while(|(a, b)| Arc::ptr_eq(a, b)).count();
        self.chunks = self.chunks.get(shared..).unwrap_or_default();
        other.chunks = other.chunks.get(shared..).unwrap_or_default();
    }
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: Arc::clone(&self.chunks),
            len: self.len,
        }
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for SortedMap<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        let len = map.len();
        let mut entries = map.into_iter();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_FILLED));
        loop {
            let chunk: Chunk<K, V> = entries.by_ref().take(CHUNK_FILLED).collect();
            if chunk.is_empty() {
                let chunks = Arc::new(chunks);
                return Self { chunks, len };
            }
            chunks.push(Arc::new(chunk));
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        BTreeMap::from_iter(entries).into()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

impl<K: Ord, V: Eq> Eq for SortedMap<K, V> {}

/// Entries of a chunk; one of more is cut in two.
const CHUNK_MAX: usize = 128;
/// Entries of a chunk of a map that is made as a whole.
const CHUNK_FILLED: usize = CHUNK_MAX / 2;

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn map(entries: impl IntoIterator<Item = (u16, u8)>) -> SortedMap<u16, u8> {
        entries.into_iter().collect()
    }

    fn has_full_chunks(map: &SortedMap<u16, u8>) -> bool {
        let mut sizes = map.chunks.iter().map(|chunk| chunk.len());
        sizes.all(|size| (1..=CHUNK_MAX).contains(&size))
    }

    proptest! {
        #[test]
        fn it_is_what_a_tree_is(
            start in btree_map(0u16..400, any::<u8>(), 0..300),
            inserted in vec((0u16..400, any::<u8>()), 0..300),
            asked in 0u16..400,
        ) {
            let mut tree = start.clone();
            let mut sorted = SortedMap::from(start);
            for (key, value) in inserted {
                tree.insert(key, value);
                sorted.insert(key, value);
            }
            prop_assert!(sorted.iter().eq(&tree));
            prop_assert_eq!(sorted.len(), tree.len());
            prop_assert_eq!(sorted.get(&asked), tree.get(&asked));
            prop_assert!(sorted.range_from(&asked).eq(tree.range(asked..)));
            prop_assert!(has_full_chunks(&sorted));
        }

        #[test]
        fn differences_are_what_turns_one_into_the_other(
            before in btree_map(0u16..400, 0u8..3, 0..300),
            inserted in vec((0u16..400, 0u8..3), 0..10),
            other in btree_map(0u16..400, 0u8..3, 0..300),
            is_related in any::<bool>(),
        ) {
            let first = SortedMap::from(before.clone());
            let mut second = if is_related { first.clone() } else { SortedMap::from(other) };
            for (key, value) in inserted {
                second.insert(key, value);
            }
            let mut tree = before;
            for Difference { key, before, after } in first.differences(&second) {
                prop_assert_eq!(tree.get(key), before);
                prop_assert_ne!(before, after);
                match after {
                    Some(value) => tree.insert(*key, *value),
                    None => tree.remove(key),
                };
            }
            prop_assert!(second.iter().eq(&tree));
            prop_assert_eq!(first == second, first.iter().eq(second.iter()));
        }
    }

    #[test]
    fn a_new_version_copies_one_chunk() {
        let before = map((0..10_000).map(|key| (key, 0)));
        let mut after = before.clone();
        assert!(after.is(&before));
        after.insert(5_000, 1);
        let pairs = before.chunks.iter().zip(&*after.chunks);
        assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!(before.get(&5_000), Some(&0));
        assert_eq!(after.get(&5_000), Some(&1));
    }
}

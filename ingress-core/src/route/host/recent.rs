//! What one reader of a map asked for lately, close together.
//!
//! Hosts among 100,000 are on as many pages as there are hosts, and each page costs the translation
//! of its address: several hundred cycles where the machine is virtual. Those that are asked for all
//! the time are copied to a few pages: a cache of sets, each of which remembers some hosts that it
//! does not have. Once a set is full, only what is asked for again while it is remembered is copied, so
//! that requests for all hosts alike copy next to nothing.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::{HostMap, Place, Shard, find, shard};
use crate::prefetch::prefetch;

/// Copies of some of a map's values. Empty, without memory of its own, for a map of few hosts.
pub(in super::super) struct Recent<V> {
    /// Of the map whose values they are.
    of: Option<Arc<[Shard<V>]>>,
    sets: Box<[Set]>,
    /// The first of each set, then the second of each, and so on.
    copies: Box<[Place<V>]>,
}

/// Parts of hashes, which are never 0, of the hosts that belong here.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set {
    /// Of those that are here.
    present: [u32; WAYS],
    /// Of others that were asked for lately.
    absent: [u32; REMEMBERED],
    /// Hosts that were asked for and were not here: tells who is next to make room or be forgotten.
    misses: u32,
}

impl Set {
    fn way(&self, tag: u32) -> Option<usize> {
        self.present.iter().position(|present| *present == tag)
    }

    /// A host was asked for that is not here: makes room for it, or remembers it.
    fn miss(&mut self, tag: u32) -> Option<usize> {
        let misses = self.misses as usize;
        self.misses = self.misses.wrapping_add(1);
        let empty = self.way(0);
        let way = empty.or_else(|| {
            *self.absent.iter_mut().find(|absent| **absent == tag)? = 0;
            Some(misses % WAYS)
        });
        if let Some(present) = way.and_then(|way| self.present.get_mut(way)) {
            *present = tag;
        } else if let Some(forgotten) = self.absent.get_mut(misses % REMEMBERED) {
            *forgotten = tag;
        }
        way
    }
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            of: None,
            sets: Box::default(),
            copies: Box::default(),
        }
    }
}

impl<V> fmt::Debug for Recent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Recent");
        text.field("hosts", &self.len()).finish_non_exhaustive()
    }
}

impl<V> Recent<V> {
    /// Becomes that of another map, and forgets the last one's.
    fn begin(&mut self, shards: &Arc<[Shard<V>]>) {
        self.of = Some(Arc::clone(shards));
        if self.sets.is_empty() {
            self.sets = vec![Set::default(); SETS].into();
            self.copies = (0..SETS * WAYS).map(|_| Place(None)).collect();
        } else {
            self.sets.fill(Set::default());
            self.copies.fill_with(|| Place(None));
        }
    }

    /// How many hosts it has.
    fn len(&self) -> usize {
        let present = self.copies.iter().filter(|copy| copy.0.is_some());
        present.count()
    }

    fn is_of(&self, shards: &Arc<[Shard<V>]>) -> bool {
        (self.of.as_ref()).is_some_and(|of| Arc::ptr_eq(of, shards))
    }
}

impl<V: Clone> HostMap<V> {
    /// The value of a host, given in lower case, as [`HostMap::get`] gives it.
    pub(in super::super) fn get_recent<'a>(
        &'a self,
        recent: &'a mut Recent<V>,
        host: &str,
    ) -> Option<&'a V> {
        if self.hosts < HOSTS_MIN {
            return self.get(host);
        }
        if !recent.is_of(&self.shards) {
            recent.begin(&self.shards);
        }
        let hash = self.hasher.hash_one(host);
        let (index, tag) = home(hash);
        let set = recent.sets.get_mut(index)?;
        let named = || find(self.shards.get(shard(hash))?, hash, host);
        let way = if let Some(way) = set.way(tag) {
            way
        } else {
            let named = named()?;
            let Some(way) = set.miss(tag) else {
                return Some(&named.value);
            };
            *recent.copies.get_mut(index + way * SETS)? = Place(Some(named.clone()));
            way
        };
        match recent.copies.get(index + way * SETS)?.0.as_ref() {
            Some(copy) if copy.is_of(host) => Some(&copy.value),
            // Another one whose hash has the same parts.
            _ => named().map(|named| &named.value),
        }
    }

    /// Drops the copies of other maps, and makes room for this one's.
    pub(in super::super) fn adopt(&self, recent: &mut Recent<V>) {
        if self.hosts < HOSTS_MIN {
            *recent = Recent::default();
        } else if !recent.is_of(&self.shards) {
            recent.begin(&self.shards);
        }
    }

    /// Asks for the memory that [`HostMap::get_recent`] of this host is likely to look at.
    pub(in super::super) fn prefetch(&self, recent: &Recent<V>, host: &str) {
        let hash = self.hasher.hash_one(host);
        let (index, tag) = home(hash);
        if let Some(way) = recent.sets.get(index).and_then(|set| set.way(tag))
            && let Some(copy) = recent.copies.get(index + way * SETS)
        {
            prefetch(copy);
        } else if let Some(place) = self.first_place(hash) {
            prefetch(place);
        }
    }
}

/// The set of a host with this hash, and what it is known by there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bits that are left say enough"
)]
fn home(hash: u64) -> (usize, u32) {
    (hash as usize % SETS, (hash >> 16) as u32 | 1)
}

/// Sets of a line each: four pages.
const SETS: usize = 256;
/// Hosts that a set has at most: two thousand in all, on 64 pages.
const WAYS: usize = 8;
/// Hosts that a set remembers without having them.
const REMEMBERED: usize = 7;
/// Fewer hosts are on few pages anyway.
const HOSTS_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Host;

    const MANY: usize = HOSTS_MIN + 1;

    fn name(n: usize) -> Host {
        Host::parse(&format!("h{n}.test")).unwrap()
    }

    fn map(hosts: usize) -> HostMap<Arc<usize>> {
        let mut edit = HostMap::default().edit();
        for n in 0..hosts {
            edit.set(&name(n), Some(Arc::new(n)));
        }
        edit.finish()
    }

    #[test]
    fn a_host_that_is_asked_for_is_copied_once_and_goes_with_its_map() {
        let map = map(MANY);
        let mut recent = Recent::default();
        let host = name(7);
        let value = Arc::clone(map.get(host.as_str()).unwrap());
        for count in [3, 3, 3] {
            let found = map.get_recent(&mut recent, host.as_str()).unwrap();
            assert!(Arc::ptr_eq(found, &value));
            assert_eq!(Arc::strong_count(&value), count, "the map, `value`, a copy");
        }
        map.adopt(&mut recent);
        assert_eq!(Arc::strong_count(&value), 3);
        let mut edit = map.edit();
        edit.set(&host, None);
        let next = edit.finish();
        assert_eq!(next.get_recent(&mut recent, host.as_str()), None);
        assert_eq!(Arc::strong_count(&value), 2, "the first map and `value`");
        for _ in 0..2 {
            map.get_recent(&mut recent, host.as_str());
            assert_eq!(Arc::strong_count(&value), 3);
            next.adopt(&mut recent);
            assert_eq!(Arc::strong_count(&value), 2);
            assert!(recent.len() == 0 && recent.is_of(&next.shards));
        }
        HostMap::default().adopt(&mut recent);
        assert!(recent.of.is_none() && recent.copies.is_empty());
    }

    #[test]
    fn few_hosts_are_not_copied() {
        let map = map(HOSTS_MIN - 1);
        let mut recent = Recent::default();
        for _ in 0..3 {
            let found = map.get_recent(&mut recent, "h7.test");
            assert_eq!(found.map(Arc::strong_count), Some(1));
        }
        assert!(recent.copies.is_empty());
    }

    /// Asks for each of so many hosts in turn.
    fn ask(map: &HostMap<Arc<usize>>, recent: &mut Recent<Arc<usize>>, hosts: usize) {
        for n in 0..hosts {
            let host = name(n);
            map.prefetch(recent, host.as_str());
            let found = map.get_recent(recent, host.as_str());
            assert_eq!(found.map(|found| **found), Some(n));
        }
    }

    #[test]
    fn hosts_asked_for_in_turn_are_copied_if_there_is_room() {
        let (map, mut recent) = (map(MANY), Recent::default());
        ask(&map, &mut recent, 1000);
        assert!(recent.len() > 950, "{}", recent.len());
    }

    #[test]
    fn all_hosts_alike_are_copied_no_more_once_there_is_no_room() {
        let hosts = 100 * SETS;
        let (map, mut recent) = (map(hosts), Recent::default());
        ask(&map, &mut recent, hosts);
        assert_eq!(recent.len(), SETS * WAYS);
        let before: Vec<_> = recent.sets.iter().map(|set| set.present).collect();
        ask(&map, &mut recent, hosts);
        let after: Vec<_> = recent.sets.iter().map(|set| set.present).collect();
        assert!(before == after, "a set has a hundred hosts in turn");
    }

    #[test]
    fn newly_requested_hosts_replace_others() {
        let (map, mut recent) = (map(MANY), Recent::default());
        ask(&map, &mut recent, MANY);
        for _ in 0..3 {
            ask(&map, &mut recent, 500);
        }
        let copied = (0..500).filter(|n| {
            let copies = recent.copies.iter().filter_map(|copy| copy.0.as_ref());
            copies.into_iter().any(|copy| *copy.value == *n)
        });
        assert!(copied.count() > 475);
    }

    #[test]
    fn another_host_of_the_same_parts_is_not_taken_for_it() {
        let (map, mut recent) = (map(MANY), Recent::default());
        let home = |n: usize| home(map.hasher.hash_one(name(n).as_str()));
        let (set, tag) = home(0);
        let other = (1..MANY).find(|n| home(*n).0 == set).unwrap();
        map.get_recent(&mut recent, name(0).as_str());
        let way = recent.sets[set].way(tag).unwrap();
        recent.sets[set].present[way] = home(other).1;
        let found = map.get_recent(&mut recent, name(other).as_str());
        assert_eq!(found.map(|found| **found), Some(other));
    }

    proptest! {
        #[test]
        fn it_answers_as_the_map_does(
            steps in proptest::collection::vec((0..6_usize, 0..40_usize, any::<bool>()), 0..200),
        ) {
            // Hosts of one set first.
            let mut map = map(MANY);
            let set_of = |map: &HostMap<_>, n: usize| home(map.hasher.hash_one(name(n).as_str())).0;
            let mut all: Vec<_> = (0..MANY + 100).collect();
            let first = set_of(&map, 0);
            all.sort_by_key(|n| set_of(&map, *n) != first);
            let mut recent = Recent::default();
            for (action, n, sets) in steps {
                let host = name(all[n % 20 + n / 20]);
                if action == 0 {
                    let mut edit = map.edit();
                    edit.set(&host, sets.then(|| Arc::new(n + 100_000)));
                    map = edit.finish();
                }
                map.prefetch(&recent, host.as_str());
                let found = map.get_recent(&mut recent, host.as_str()).cloned();
                prop_assert_eq!(found, map.get(host.as_str()).cloned());
            }
        }
    }
}

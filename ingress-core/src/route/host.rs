//! From an authority to the routes of its host, in constant time.
//!
//! The map is cut into shards that are copied when one of their hosts changes, so that a change
//! of one host among 100,000 copies some four hundred entries and not all of them.
//!
//! Among many hosts a look-up costs what it misses in the cache, so that it follows two pointers
//! and no more: to the shard, an open-addressing table of hashes with linear probing, and to the
//! host, whose name stands beside its routes. Both may be asked for before, one after the other.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::ir::Host;
use crate::prefetch::prefetch;

/// A persistent map from host names.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    /// Shared by all descendants of a map, as they share shards.
    hasher: DefaultHashBuilder,
    shards: Arc<[Shard<V>]>,
}

/// Each host at the place that its tag tells or, where others are, soon after. Half of it is empty.
type Shard<V> = Arc<[Option<Entry<V>>]>;

#[derive(Debug)]
struct Entry<V> {
    /// A part of the hash.
    tag: u32,
    host: Arc<Named<V>>,
}

#[derive(Debug)]
struct Named<V> {
    name: Name,
    value: V,
}

/// The bytes of a name, in place unless they are unusually many.
#[derive(Debug)]
enum Name {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Host),
}

impl Name {
    fn new(host: &Host) -> Self {
        let text = host.as_str().as_bytes();
        let mut bytes = [0; SHORT_MAX];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(length), Some(start)) => {
                start.copy_from_slice(text);
                Self::Short { length, bytes }
            }
            _ => Self::Long(host.clone()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(host) => host.as_str().as_bytes(),
        }
    }
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        let empty: Shard<V> = Arc::new([]);
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: vec![empty; SHARDS].into(),
        }
    }
}

impl<V> HostMap<V> {
    /// The value of a host, given in lower case.
    pub(super) fn get(&self, host: &str) -> Option<&V> {
        let hash = self.hasher.hash_one(host);
        let shard = self.shards.get(shard(hash))?;
        Some(&find(shard, tag(hash), host)?.value)
    }

    /// Asks for the place where a host, given in lower case, will be looked up first, and gives
    /// what [`HostMap::approach`] takes.
    pub(super) fn seek(&self, host: &str) -> u64 {
        let hash = self.hasher.hash_one(host);
        if let Some(place) = self.likely(hash) {
            prefetch(place);
        }
        hash
    }

    /// Asks for the routes of the host with this hash.
    pub(super) fn approach(&self, hash: u64) {
        if let Some(Some(entry)) = self.likely(hash) {
            prefetch(&entry.host.name);
            prefetch(&entry.host.value);
        }
    }

    fn likely(&self, hash: u64) -> Option<&Option<Entry<V>>> {
        let shard = self.shards.get(shard(hash))?;
        shard.get(probe(tag(hash), shard.len()).next()?)
    }

    /// Starts a new version of this map.
    pub(super) fn edit(&self) -> Edit<V> {
        Edit {
            hasher: self.hasher.clone(),
            shards: Arc::clone(&self.shards),
            copies: HashMap::new(),
        }
    }
}

/// A new version of a map in the making.
pub(super) struct Edit<V> {
    hasher: DefaultHashBuilder,
    /// As they were.
    shards: Arc<[Shard<V>]>,
    /// Of the shards that change, by their number.
    copies: HashMap<usize, HashTable<Entry<V>>>,
}

impl<V> Edit<V> {
    /// Sets or removes the value of a host. Copies the host's shard once for each version.
    pub(super) fn set(&mut self, host: &Host, value: Option<V>) {
        let hash = self.hasher.hash_one(host.as_str());
        let number = shard(hash);
        let copy = self.copies.entry(number).or_insert_with(|| {
            let mut copy = HashTable::new();
            for entry in self
                .shards
                .get(number)
                .into_iter()
                .flat_map(|shard| shard.iter().flatten())
            {
                copy.insert_unique(entry.spread(), entry.clone(), Entry::spread);
            }
            copy
        });
        let spread = spread(tag(hash));
        let is_host = |entry: &Entry<V>| entry.host.name.as_bytes() == host.as_str().as_bytes();
        if let Ok(known) = copy.find_entry(spread, is_host) {
            known.remove();
        }
        if let Some(value) = value {
            let entry = Entry {
                tag: tag(hash),
                host: Arc::new(Named {
                    name: Name::new(host),
                    value,
                }),
            };
            copy.insert_unique(spread, entry, Entry::spread);
        }
    }

    pub(super) fn finish(self) -> HostMap<V> {
        let Self {
            hasher,
            mut shards,
            copies,
        } = self;
        if !copies.is_empty() {
            let shards = Arc::make_mut(&mut shards);
            for (number, copy) in copies {
                if let Some(shard) = shards.get_mut(number) {
                    *shard = arrange(copy);
                }
            }
        }
        HostMap { hasher, shards }
    }
}

impl<V> Entry<V> {
    fn spread(&self) -> u64 {
        spread(self.tag)
    }
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            tag: self.tag,
            host: Arc::clone(&self.host),
        }
    }
}

/// A shard of these hosts, of which no two are the same.
fn arrange<V>(
    entries: impl IntoIterator<Item = Entry<V>, IntoIter: ExactSizeIterator>,
) -> Shard<V> {
    let entries = entries.into_iter();
    let mut places: Vec<_> = (0..entries.len() * 2).map(|_| None).collect();
    for entry in entries {
        let mut free =
            probe(entry.tag, places.len()).filter(|place| matches!(places.get(*place), Some(None)));
        if let Some(place) = free.next().and_then(|place| places.get_mut(place)) {
            *place = Some(entry);
        }
    }
    places.into()
}

/// Hosts whose hashes have the same tag, or lead to the same place, cost a step each.
fn find<'a, V>(places: &'a [Option<Entry<V>>], tag: u32, host: &str) -> Option<&'a Named<V>> {
    for place in probe(tag, places.len()) {
        let entry = places.get(place)?.as_ref()?;
        if entry.tag == tag && entry.host.name.as_bytes() == host.as_bytes() {
            return Some(&entry.host);
        }
    }
    None
}

/// The places where a host with this tag may be, the likeliest first.
fn probe(tag: u32, places: usize) -> impl Iterator<Item = usize> {
    let first = (u64::from(tag) * places as u64) >> u32::BITS;
    let first = usize::try_from(first).unwrap_or_default();
    (first..places).chain(0..first)
}

/// The host name in an authority or `Host` header: without port and trailing dot. `None` for an
/// address in brackets and for what no host name can be.
pub(super) fn name(authority: &str) -> Option<&str> {
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = !name.is_empty() && name.len() <= HOST_BYTES_MAX && !port.contains(':');
    is_name.then_some(name)
}

/// The domain after the first label; `None` when there is no label before it.
pub(super) fn parent(name: &str) -> Option<&str> {
    let (label, parent) = name.split_once('.')?;
    (!label.is_empty()).then_some(parent)
}

/// Calls `look_up` with the name in lower case, copied to the stack only if it is not already.
pub(super) fn with_lower_case<R>(name: &str, look_up: impl FnOnce(&str) -> Option<R>) -> Option<R> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return look_up(name);
    }
    let mut buffer = [0; HOST_BYTES_MAX];
    let buffer = buffer.get_mut(..name.len())?;
    buffer.copy_from_slice(name.as_bytes());
    buffer.make_ascii_lowercase();
    look_up(str::from_utf8(buffer).ok()?)
}

/// Of the upper half of a hash.
fn shard(hash: u64) -> usize {
    usize::try_from((hash >> u32::BITS) % (SHARDS as u64)).unwrap_or_default()
}

/// The lower half of a hash.
#[expect(clippy::cast_possible_truncation, reason = "it is that half")]
fn tag(hash: u64) -> u32 {
    hash as u32
}

/// Makes a hash of a tag, in which some bits count more than others.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Few enough for the pointers to them to stay in the cache.
const SHARDS: usize = 256;
/// Bytes of a name that stand in place: as many as make a host with its routes fill two lines of the
/// cache that are fetched together.
const SHORT_MAX: usize = 54;
/// Longest host name of DNS.
const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn name_leaves_out_port_and_trailing_dot() {
        for authority in [
            "foo.com",
            "foo.com:80",
            "foo.com.",
            "foo.com.:8443",
            "foo.com:",
        ] {
            assert_eq!(name(authority), Some("foo.com"), "{authority}");
        }
    }

    #[test]
    fn addresses_and_nonsense_have_no_name() {
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for authority in ["", ".", ":80", "[::1]", "[::1]:80", "::1", "a:1:2", &long] {
            assert_eq!(name(authority), None, "{authority}");
        }
    }

    #[test]
    fn parent_needs_a_label_before_it() {
        assert_eq!(parent("a.foo.com"), Some("foo.com"));
        assert_eq!(parent(".foo.com"), None);
        assert_eq!(parent("com"), None);
    }

    #[test]
    fn an_edit_copies_only_the_shards_of_its_hosts() {
        let hosts: Vec<_> = (0..5000)
            .map(|n| Host::parse(&format!("h{n}.test")).unwrap())
            .collect();
        let mut edit = HostMap::default().edit();
        for (n, host) in hosts.iter().enumerate() {
            edit.set(host, Some(n));
        }
        let before = edit.finish();
        let mut edit = before.edit();
        edit.set(&hosts[7], None);
        edit.set(&hosts[8], Some(0));
        let after = edit.finish();

        let copied = before
            .shards
            .iter()
            .zip(&*after.shards)
            .filter(|(a, b)| !Arc::ptr_eq(a, b));
        assert!((1..=2).contains(&copied.count()));
        assert_eq!(before.get("h7.test"), Some(&7));
        assert_eq!(after.get("h7.test"), None);
        assert_eq!(after.get("h8.test"), Some(&0));
        assert_eq!(after.get("h9.test"), Some(&9));
    }

    #[test]
    fn names_in_place_and_elsewhere_are_found() {
        let hosts: Vec<_> = (1..60)
            .map(|length| Host::parse(&"a".repeat(length)).unwrap())
            .collect();
        let mut edit = HostMap::default().edit();
        for (n, host) in hosts.iter().enumerate() {
            edit.set(host, Some(n));
        }
        let map = edit.finish();
        for (n, host) in hosts.iter().enumerate() {
            assert_eq!(map.get(host.as_str()), Some(&n), "{host}");
        }
    }

    #[test]
    fn names_of_one_tag_and_beyond_the_last_place_are_found() {
        let entries: Vec<_> = ["a.test", "b.test", "c.test", "d.test"]
            .map(|name| Host::parse(name).unwrap())
            .iter()
            .zip([u32::MAX, u32::MAX, u32::MAX, 9])
            .map(|(host, tag)| Entry {
                tag,
                host: Arc::new(Named {
                    name: Name::new(host),
                    value: (),
                }),
            })
            .collect();
        let shard = arrange(entries);
        for (name, tag) in [
            ("a.test", u32::MAX),
            ("b.test", u32::MAX),
            ("c.test", u32::MAX),
            ("d.test", 9),
        ] {
            let found = find(&shard, tag, name).unwrap();
            assert_eq!(found.name.as_bytes(), name.as_bytes());
        }
        assert!(find(&shard, u32::MAX, "d.test").is_none(), "of another tag");
        assert!(find(&shard, 0, "a.test").is_none());
        assert!(find(&[] as &[Option<Entry<()>>], 0, "a.test").is_none());
    }

    proptest! {
        #[test]
        fn edits_do_what_a_map_does(
            edits in proptest::collection::vec(
                proptest::collection::vec((0..40_usize, any::<Option<u8>>()), 0..30),
                0..6,
            )
        ) {
            let name = |n: usize| Host::parse(&format!("h{n}.test")).unwrap();
            let mut map = HostMap::default();
            let mut naive = std::collections::BTreeMap::new();
            for edit in edits {
                let mut next = map.edit();
                for (n, value) in edit {
                    next.set(&name(n), value);
                    match value {
                        Some(value) => naive.insert(n, value),
                        None => naive.remove(&n),
                    };
                }
                map = next.finish();
                for n in 0..40 {
                    prop_assert_eq!(map.get(name(n).as_str()), naive.get(&n));
                }
            }
        }
    }
}

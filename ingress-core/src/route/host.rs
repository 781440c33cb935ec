//! From an authority to the routes of its host, in constant time.
//!
//! The map is cut into shards that are copied when one of their hosts changes, so that a change
//! of one host among 100,000 copies some two hundred entries and not all of them.
//!
//! Among many hosts a look-up costs what it misses in the cache, and a miss is dear. So a shard is an
//! open-addressing table with linear probing, in which a host's name and its routes stand together
//! in place, on two lines that are fetched together. They may be asked for before they are needed, and
//! a reader keeps those that it needs all the time (`recent`).

mod recent;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::ir::Host;
pub(super) use recent::Recent;

/// A persistent map from host names.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    /// Shared by all descendants of a map, as they share shards.
    hasher: DefaultHashBuilder,
    shards: Arc<[Shard<V>]>,
    /// How many there are.
    hosts: usize,
}

/// Each host at the place that its hash tells or, where others are, soon after. Half of it is empty.
type Shard<V> = Arc<[Place<V>]>;

#[derive(Debug)]
#[repr(align(128))]
struct Place<V>(Option<Named<V>>);

#[derive(Clone, Debug)]
struct Named<V> {
    name: Name,
    value: V,
}

impl<V> Named<V> {
    fn is_of(&self, host: &str) -> bool {
        self.name.as_bytes() == host.as_bytes()
    }
}

/// The bytes of a name, in place unless they are unusually many.
#[derive(Clone, Debug)]
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

    fn as_str(&self) -> &str {
        match self {
            Self::Short { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(host) => host.as_str(),
        }
    }
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        let empty: Shard<V> = Arc::new([]);
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: vec![empty; SHARDS].into(),
            hosts: 0,
        }
    }
}

impl<V> HostMap<V> {
    /// The value of a host, given in lower case.
    pub(super) fn get(&self, host: &str) -> Option<&V> {
        let hash = self.hasher.hash_one(host);
        let shard = self.shards.get(shard(hash))?;
        find(shard, hash, host).map(|named| &named.value)
    }

    /// Where a host with this hash is, or near it.
    fn first_place(&self, hash: u64) -> Option<&Place<V>> {
        let shard = self.shards.get(shard(hash))?;
        shard.get(probe(hash, shard.len()).next()?)
    }

    /// Starts a new version of this map.
    pub(super) fn edit(&self) -> Edit<V> {
        Edit {
            hasher: self.hasher.clone(),
            shards: Arc::clone(&self.shards),
            copies: HashMap::new(),
            hosts: self.hosts,
        }
    }
}

/// A new version of a map in the making.
pub(super) struct Edit<V> {
    hasher: DefaultHashBuilder,
    /// As they were.
    shards: Arc<[Shard<V>]>,
    /// Of the shards that change, by their number.
    copies: HashMap<usize, HashTable<Hashed<V>>>,
    hosts: usize,
}

impl<V: Clone> Edit<V> {
    /// Sets or removes the value of a host. Copies the host's shard once for each version.
    pub(super) fn set(&mut self, host: &Host, value: Option<V>) {
        let hash = self.hasher.hash_one(host.as_str());
        let number = shard(hash);
        let hasher = &self.hasher;
        let copy = self.copies.entry(number).or_insert_with(|| {
            let shard = self.shards.get(number).map_or(&[][..], |shard| shard);
            let mut copy = HashTable::with_capacity(shard.len() / 2 + 1);
            for named in shard.iter().filter_map(|place| place.0.as_ref()) {
                let hash = hasher.hash_one(named.name.as_str());
                let named = named.clone();
                copy.insert_unique(hash, Hashed { hash, named }, Hashed::hash);
            }
            copy
        });
        let is_host = |known: &Hashed<V>| known.named.name.as_bytes() == host.as_str().as_bytes();
        if let Ok(known) = copy.find_entry(hash, is_host) {
            known.remove();
            self.hosts -= 1;
        }
        if let Some(value) = value {
            self.hosts += 1;
            let name = Name::new(host);
            let named = Named { name, value };
            copy.insert_unique(hash, Hashed { hash, named }, Hashed::hash);
        }
    }

    pub(super) fn finish(self) -> HostMap<V> {
        let Self {
            hasher,
            mut shards,
            copies,
            hosts,
        } = self;
        if !copies.is_empty() {
            let shards = Arc::make_mut(&mut shards);
            for (number, copy) in copies {
                if let Some(shard) = shards.get_mut(number) {
                    *shard = arrange(copy);
                }
            }
        }
        HostMap {
            hasher,
            shards,
            hosts,
        }
    }
}

/// A host in an edit, hashed once.
struct Hashed<V> {
    hash: u64,
    named: Named<V>,
}

impl<V> Hashed<V> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

/// A shard of these hosts, of which no two are the same.
fn arrange<V>(hosts: HashTable<Hashed<V>>) -> Shard<V> {
    let mut places: Vec<_> = (0..hosts.len() * 2).map(|_| Place(None)).collect();
    for Hashed { hash, named } in hosts {
        let mut probed = probe(hash, places.len());
        let free = probed.find(|place| matches!(places.get(*place), Some(Place(None))));
        if let Some(place) = free.and_then(|place| places.get_mut(place)) {
            place.0 = Some(named);
        }
    }
    places.into()
}

/// Hosts whose hashes lead to the same place cost a step each.
fn find<'a, V>(places: &'a [Place<V>], hash: u64, host: &str) -> Option<&'a Named<V>> {
    for place in probe(hash, places.len()) {
        let named = places.get(place)?.0.as_ref()?;
        if named.is_of(host) {
            return Some(named);
        }
    }
    None
}

/// The places where a host with this hash may be, the likeliest first.
fn probe(hash: u64, places: usize) -> impl Iterator<Item = usize> {
    let first = ((hash & u64::from(u32::MAX)) * places as u64) >> u32::BITS;
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

/// Few enough for the pointers to them to stay in the cache.
const SHARDS: usize = 512;
/// Bytes of a name that stand in place: as many as leave room for its routes on two lines.
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
        assert_eq!((before.hosts, after.hosts), (5000, 4999));
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
    fn hosts_of_one_place_and_beyond_the_last_are_found() {
        let hosts: Vec<_> = (0..200)
            .map(|n| Host::parse(&format!("h{n}.test")).unwrap())
            .collect();
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::new();
        for (n, host) in hosts.iter().enumerate() {
            let name = Name::new(host);
            let named = Named { name, value: n };
            let hash = hasher.hash_one(host.as_str());
            table.insert_unique(hash, Hashed { hash, named }, Hashed::hash);
        }
        let shard = arrange(table);
        let mut beyond = 0;
        for (n, host) in hosts.iter().enumerate() {
            let hash = hasher.hash_one(host.as_str());
            let found = |hash, host| find(&shard, hash, host).map(|named| named.value);
            assert_eq!(found(hash, host.as_str()), Some(n));
            // Wherever a look-up begins, it ends where the host is or finds nothing.
            let last = found(u64::from(u32::MAX), host.as_str());
            assert!(last.is_none_or(|found| found == n));
            beyond += usize::from(last.is_some());
            assert_eq!(found(hash, "else.test"), None);
        }
        assert!(beyond < hosts.len());
        assert!(find(&[] as &[Place<()>], 7, "h0.test").is_none());
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

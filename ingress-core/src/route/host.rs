//! From an authority to the routes of its host, in constant time.
//!
//! The map is cut into shards that are copied when one of their hosts changes, so that a change
//! of one host among 100,000 copies about a hundred entries and not all of them.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::ir::Host;

/// A persistent map from host names.
#[derive(Debug)]
pub(super) struct HostMap<V> {
    /// Shared by all descendants of a map, as they share shards.
    hasher: DefaultHashBuilder,
    shards: Vec<Arc<Shard<V>>>,
}

type Shard<V> = HashTable<(Host, Arc<V>)>;

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::new());
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: vec![empty; SHARDS],
        }
    }
}

impl<V> HostMap<V> {
    /// The value of a host, given in lower case.
    pub(super) fn get(&self, host: &str) -> Option<&V> {
        let hash = self.hasher.hash_one(host);
        let entry = self
            .shards
            .get(shard(hash))?
            .find(hash, |(key, _)| key.as_str() == host);
        entry.map(|(_, value)| &**value)
    }

    /// Starts a new version of this map.
    pub(super) fn edit(&self) -> Edit<V> {
        Edit {
            hasher: self.hasher.clone(),
            shards: self.shards.clone(),
        }
    }
}

/// A new version of a map in the making.
pub(super) struct Edit<V> {
    hasher: DefaultHashBuilder,
    shards: Vec<Arc<Shard<V>>>,
}

impl<V> Edit<V> {
    /// Sets or removes the value of a host. Copies the host's shard once for each version.
    pub(super) fn set(&mut self, host: &Host, value: Option<Arc<V>>) {
        let hash = self.hasher.hash_one(host.as_str());
        let Some(shard) = self.shards.get_mut(shard(hash)) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        let entry = shard.find_entry(hash, |(key, _)| key == host);
        match (entry, value) {
            (Ok(mut entry), Some(value)) => entry.get_mut().1 = value,
            (Ok(entry), None) => drop(entry.remove()),
            (Err(_), Some(value)) => {
                let rehash = |(key, _): &(Host, Arc<V>)| self.hasher.hash_one(key.as_str());
                shard.insert_unique(hash, (host.clone(), value), rehash);
            }
            (Err(_), None) => {}
        }
    }

    pub(super) fn finish(self) -> HostMap<V> {
        let Self { hasher, shards } = self;
        HostMap { hasher, shards }
    }
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

/// Hash bits that neither the bucket (low bits) nor the tag (high bits) of a `HashTable` uses.
fn shard(hash: u64) -> usize {
    usize::try_from((hash >> 32) % (SHARDS as u64)).unwrap_or_default()
}

const SHARDS: usize = 1024;
/// Longest host name of DNS.
const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
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
            edit.set(host, Some(Arc::new(n)));
        }
        let before = edit.finish();
        let mut edit = before.edit();
        edit.set(&hosts[7], None);
        edit.set(&hosts[8], Some(Arc::new(0)));
        let after = edit.finish();

        let copied = before
            .shards
            .iter()
            .zip(&after.shards)
            .filter(|(a, b)| !Arc::ptr_eq(a, b));
        assert!((1..=2).contains(&copied.count()));
        assert_eq!(before.get("h7.test"), Some(&7));
        assert_eq!(after.get("h7.test"), None);
        assert_eq!(after.get("h8.test"), Some(&0));
        assert_eq!(after.get("h9.test"), Some(&9));
    }
}

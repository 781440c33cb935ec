//! Consistent hashing with bounded loads: the same key leads to the same endpoint, endpoints that
//! come or go move few keys, and none gets much more than its share.
//!
//! Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads (2016). Every node makes
//! the same ring of the same endpoints: hashes are fixed, not seeded.

use std::net::{IpAddr, SocketAddr};

/// Where keys lead.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Points in order, each with the index of its endpoint.
    points: Vec<(u64, u32)>,
    count: usize,
}

impl Ring {
    /// A ring of these endpoints; indexes are those of this list.
    pub fn new(endpoints: &[SocketAddr]) -> Self {
        let mut points = Vec::with_capacity(endpoints.len() * POINTS);
        for (index, endpoint) in (0..).zip(endpoints) {
            let base = hash_of_address(*endpoint);
            points.extend((0..POINTS as u64).map(|point| (mix(base ^ mix(point)), index)));
        }
        points.sort_unstable();
        Self {
            points,
            count: endpoints.len(),
        }
    }

    /// The endpoint that a key leads to, whatever it has to do.
    pub fn find(&self, key: u64) -> Option<usize> {
        self.walk(key).next()
    }

    /// A key that leads to an endpoint of this kind.
    pub fn point_of(&self, is_wanted: impl Fn(usize) -> bool) -> Option<u64> {
        let mut points = self.points.iter();
        let found = points.find(|(_, index)| is_wanted(*index as usize));
        found.map(|(point, _)| *point)
    }

    /// The first endpoint from the key on that is acceptable and has not more than 5/4 of its
    /// share of all requests, this one included; else the first that is acceptable.
    pub fn find_bounded(
        &self,
        key: u64,
        in_flight: impl Fn(usize) -> u32,
        is_acceptable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = self.find(key)?;
        // Nobody is busy with nothing to do: sums are not needed.
        if in_flight(first) == 0 && is_acceptable(first) {
            return Some(first);
        }
        let all: u64 = (0..self.count)
            .map(|index| u64::from(in_flight(index)))
            .sum();
        let bound = ((all + 1) * 5).div_ceil(4 * self.count as u64);
        let has_room = |index: &usize| u64::from(in_flight(*index)) < bound;
        let acceptable = || self.walk(key).filter(|index| is_acceptable(*index));
        acceptable().find(has_room).or_else(|| acceptable().next())
    }

    /// The first endpoints from the key on that are acceptable: as many as `size`, if there are.
    pub fn subset(
        &self,
        key: u64,
        size: usize,
        is_acceptable: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let size = size.min(self.count);
        let mut subset = Vec::with_capacity(size);
        for index in self.walk(key) {
            if subset.len() == size {
                break;
            }
            if !subset.contains(&index) && is_acceptable(index) {
                subset.push(index);
            }
        }
        subset
    }

    /// Endpoints in the order in which a key prefers them; some more than once.
    fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}

/// A key of these bytes: the same on every node and with every version.
pub fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a, and a finisher for its weak high bits.
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// A key of an endpoint's address.
pub fn hash_of_address(endpoint: SocketAddr) -> u64 {
    let ip = match endpoint.ip() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    };
    mix(ip ^ u64::from(endpoint.port()))
}

/// The finisher of `SplitMix64`.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Points of each endpoint: shares differ by about an eighth.
const POINTS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        let address = |last| SocketAddr::from(([10, 0, 0, last], 80));
        (1..=count).map(address).collect()
    }

    #[test]
    fn shares_are_about_even() {
        let ring = Ring::new(&endpoints(10));
        let mut counts = [0; 10];
        for key in 0..100_000_u64 {
            counts[ring.find(mix(key)).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (6_000..15_000).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_empty_ring_leads_nowhere() {
        assert_eq!(Ring::new(&[]).find(7), None);
        assert_eq!(Ring::default().find_bounded(7, |_| 0, |_| true), None);
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
    }

    proptest! {
        #[test]
        fn who_leaves_takes_only_its_own_keys_along(count in 2..20_u8, gone in any::<prop::sample::Index>(), key in any::<u64>()) {
            let all = endpoints(count);
            let gone = gone.index(all.len());
            let mut rest = all.clone();
            rest.remove(gone);
            let before = all[Ring::new(&all).find(key).unwrap()];
            let after = rest[Ring::new(&rest).find(key).unwrap()];
            prop_assert!(before == after || before == all[gone]);
        }

        #[test]
        fn nobody_gets_much_more_than_its_share(count in 1..10_u8, keys in prop::collection::vec(0..5_u64, 1..200)) {
            let ring = Ring::new(&endpoints(count));
            let mut loads = vec![0_u32; usize::from(count)];
            for (sent, key) in (1_u64..).zip(keys) {
                let index = ring.find_bounded(mix(key), |index| loads[index], |_| true).unwrap();
                loads[index] += 1;
                let bound = (sent * 5).div_ceil(4 * u64::from(count));
                prop_assert!(u64::from(loads[index]) <= bound, "{loads:?}");
            }
        }

        #[test]
        fn a_subset_has_its_size_and_loses_only_endpoints_that_leave(
            count in 2..20_u8, size in 1..8_usize, gone in any::<prop::sample::Index>(), key in any::<u64>()
        ) {
            let all = endpoints(count);
            let gone = gone.index(all.len());
            let mut rest = all.clone();
            rest.remove(gone);
            let subset = |of: &[SocketAddr]| {
                let found = Ring::new(of).subset(key, size, |_| true);
                found.into_iter().map(|index| of[index]).collect::<std::collections::BTreeSet<_>>()
            };
            let (before, after) = (subset(&all), subset(&rest));
            prop_assert_eq!(before.len(), size.min(all.len()));
            prop_assert_eq!(after.len(), size.min(rest.len()));
            let lost: Vec<_> = before.difference(&after).collect();
            prop_assert!(lost.is_empty() || lost == [&all[gone]], "{:?}", lost);
        }

        #[test]
        fn who_is_not_acceptable_gets_nothing(key in any::<u64>(), bad in 0..4_usize, busy in 0..100_u32) {
            let ring = Ring::new(&endpoints(4));
            let found = ring.find_bounded(key, |index| if index == bad { 0 } else { busy }, |index| index != bad);
            prop_assert!(found.is_some_and(|index| index != bad));
        }
    }
}

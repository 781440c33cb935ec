//! The rate limits' table of clients: one for all workers, without a lock.
//!
//! Each client of a zone has a slot with the time at which its bucket is empty, or with the number
//! of its open requests. A slot is found by a keyed hash of zone and client among a few neighbours,
//! and changed by compare-and-swap, so that rates are exact whichever worker a request comes to.
//! Where all neighbours are taken, the bucket that is empty soonest makes room; a client whose bucket
//! was lost begins a new one. Memory is fixed.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ingress_core::ir::{Rate, RateLimit};

/// The buckets and open requests of all clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct RateTable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Made by the first request that is counted.
    table: OnceLock<Table>,
}

#[derive(Debug)]
struct Table {
    hash: RandomState,
    begun: Instant,
    buckets: Box<[Slot]>,
    /// Hashes of zones and clients, with the numbers of their open requests in the last 16 bits.
    open: Box<[AtomicU64]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The hash of zone and client; 0: free.
    tag: AtomicU64,
    value: AtomicU64,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Rate,
    Connections,
}

/// The result of counting one more open request.
enum Opening {
    Counted(usize),
    /// There is no room to count it: it is admitted.
    NoRoom,
    Exceeded,
}

/// One of the requests that a client has open; it ends when this is dropped.
pub(crate) struct OpenRequest {
    shared: Arc<Shared>,
    index: usize,
}

impl RateTable {
    /// Admits a request of a client, or says which bound it exceeds.
    pub(crate) fn admit(
        &self,
        limit: &RateLimit,
        client: IpAddr,
    ) -> Result<Option<OpenRequest>, Exceeded> {
        let table = self.0.table.get_or_init(Table::new);
        let now = u64::try_from(table.begun.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        // As in nginx, a request counts for each rate up to the one that refuses it.
        for (number, rate) in limit.rates.iter().enumerate() {
            let tag = table.tag(&limit.zone, client, number);
            if !table.take(tag, *rate, now) {
                return Err(Exceeded::Rate);
            }
        }
        if limit.connections == 0 {
            return Ok(None);
        }
        let tag = table.tag(&limit.zone, client, usize::MAX);
        match table.open(tag, limit.connections) {
            Opening::Counted(index) => Ok(Some(OpenRequest {
                shared: Arc::clone(&self.0),
                index,
            })),
            Opening::NoRoom => Ok(None),
            Opening::Exceeded => Err(Exceeded::Connections),
        }
    }
}

impl Table {
    fn new() -> Self {
        Self {
            hash: RandomState::new(),
            begun: Instant::now(),
            buckets: (0..BUCKETS).map(|_| Slot::default()).collect(),
            open: (0..OPEN_CLIENTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn tag(&self, zone: &str, client: IpAddr, number: usize) -> u64 {
        let hash = self.hash.hash_one((zone, client.to_canonical(), number));
        hash.max(1)
    }

    /// Takes room for a request out of a bucket, if there is room.
    fn take(&self, tag: u64, rate: Rate, now: u64) -> bool {
        let slot = self.bucket(tag, now);
        let mut empty_at = slot.value.load(Ordering::Relaxed);
        loop {
            let Some(next) = rate.admit(empty_at, now) else {
                return false;
            };
            let swapped = slot.value.compare_exchange_weak(
                empty_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return true,
                Err(current) => empty_at = current,
            }
        }
    }

    /// The bucket of a client: its own, else a free one, else the one that is empty soonest.
    fn bucket(&self, tag: u64, now: u64) -> &Slot {
        let neighbours = neighbours(&self.buckets, tag);
        if let Some(own) = neighbours.iter().find(|slot| slot.is_of(tag)) {
            return own;
        }
        let ends = |slot: &&Slot| {
            let end = slot.value.load(Ordering::Relaxed);
            // Free ones and empty buckets come first.
            if slot.is_of(0) { 0 } else { end.max(now) }
        };
        let Some(slot) = neighbours.iter().min_by_key(ends) else {
            return &self.buckets[0];
        };
        // Two workers may choose the same one; then two clients share a bucket for a moment.
        slot.value.store(0, Ordering::Relaxed);
        slot.tag.store(tag, Ordering::Relaxed);
        slot
    }

    /// Counts one more open request of a client.
    fn open(&self, tag: u64, max: u32) -> Opening {
        let client = tag & !COUNT_MASK;
        let max = u64::from(max).min(COUNT_MASK);
        let first = first_neighbour(self.open.len(), tag);
        let neighbours = first..first + NEIGHBOURS;
        let load = |index: usize| self.open[index].load(Ordering::SeqCst);
        // Another worker may take the slot in between; then the search begins again.
        loop {
            let is_own = |index: &usize| {
                let entry = load(*index);
                entry & !COUNT_MASK == client && entry & COUNT_MASK > 0
            };
            let is_free = |index: &usize| load(*index) & COUNT_MASK == 0;
            let own = neighbours.clone().find(is_own);
            let Some(index) = own.or_else(|| neighbours.clone().find(is_free)) else {
                return Opening::NoRoom;
            };
            let entry = load(index);
            let count = entry & COUNT_MASK;
            if count > 0 && entry & !COUNT_MASK != client {
                continue;
            }
            if count >= max {
                return Opening::Exceeded;
            }
            let counted = self.open[index].compare_exchange(
                entry,
                client | (count + 1),
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            if counted.is_err() {
                continue;
            }
            // Two workers that take a slot for a client at the same time may take two. The one that
            // counts last sees both: what it adds up has every request that was counted before.
            let of_client = neighbours.clone().map(load);
            let of_client = of_client.filter(|entry| entry & !COUNT_MASK == client);
            if of_client.map(|entry| entry & COUNT_MASK).sum::<u64>() > max {
                self.open[index].fetch_sub(1, Ordering::SeqCst);
                return Opening::Exceeded;
            }
            return Opening::Counted(index);
        }
    }
}

impl Slot {
    fn is_of(&self, tag: u64) -> bool {
        self.tag.load(Ordering::Relaxed) == tag
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if let Some(table) = self.shared.table.get() {
            // The slot is the client's for as long as it counts.
            table.open[self.index].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn first_neighbour(slots: usize, tag: u64) -> usize {
    let groups = (slots / NEIGHBOURS) as u64;
    ((tag >> 32) % groups) as usize * NEIGHBOURS
}

fn neighbours(slots: &[Slot], tag: u64) -> &[Slot] {
    let first = first_neighbour(slots.len(), tag);
    &slots[first..first + NEIGHBOURS]
}

/// Buckets at a time: 4 MiB. nginx's zones have room for some 80,000 clients each.
const BUCKETS: usize = 1 << 18;
/// Clients with open requests at a time: half a mebibyte.
const OPEN_CLIENTS: usize = 1 << 16;
/// Slots in which a client may be: a cache line and its neighbour.
const NEIGHBOURS: usize = 8;
const COUNT_MASK: u64 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(count: u32, connections: u32) -> RateLimit {
        let rate = Rate {
            interval: 1_000_000_000 * 3600,
            burst: count.saturating_sub(1),
        };
        RateLimit {
            zone: "a/b".into(),
            rates: if count > 0 {
                [rate].into()
            } else {
                Box::default()
            },
            connections,
            exempt: Box::default(),
            rate_status: 503,
            connections_status: 503,
        }
    }

    fn client(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn each_client_has_its_own_bucket_in_each_zone() {
        let table = RateTable::default();
        let three = limit(3, 0);
        for number in 0..100 {
            for _ in 0..3 {
                assert!(table.admit(&three, client(number)).is_ok());
            }
            assert_eq!(
                table.admit(&three, client(number)).err(),
                Some(Exceeded::Rate)
            );
        }
        let mut other = limit(3, 0);
        other.zone = "a/c".into();
        assert!(table.admit(&other, client(0)).is_ok());
    }

    #[test]
    fn several_threads_admit_no_more_than_the_rate() {
        let table = RateTable::default();
        let thousand = limit(1000, 0);
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let all = || (0..1000).filter(|_| table.admit(&thousand, client(1)).is_ok());
                    scope.spawn(move || all().count())
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }

    #[test]
    fn several_threads_open_no_more_than_they_may() {
        let table = RateTable::default();
        let eight = limit(0, 8);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let open = || table.admit(&eight, client(1)).ok().flatten();
                    scope.spawn(move || (0..100).filter_map(|_| open()).collect::<Vec<_>>())
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|one| one.join().unwrap())
                .collect()
        });
        assert_eq!(opened.len(), 8);
    }

    #[test]
    fn open_requests_are_counted_until_they_end() {
        let table = RateTable::default();
        let two = limit(0, 2);
        let first = table.admit(&two, client(1)).ok().flatten();
        let second = table.admit(&two, client(1)).ok().flatten();
        assert!(first.is_some() && second.is_some());
        assert_eq!(
            table.admit(&two, client(1)).err(),
            Some(Exceeded::Connections)
        );
        assert!(table.admit(&two, client(2)).is_ok());
        drop(first);
        assert!(table.admit(&two, client(1)).ok().flatten().is_some());
    }
}

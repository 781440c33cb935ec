//! The numbers of one series, written by one worker and read by any thread without a lock.
//!
//! With many routes, the cost of counting is the cache lines that it touches. To touch one line for
//! nearly every request, values are added to sums, and histogram buckets are stored as deviations from
//! the buckets of the first request: only a value in another bucket touches a second line.
//!
//! A reader retries until it has seen one consistent state (a sequence lock). Otherwise a bucket that is
//! computed as a difference could seem to shrink, which Prometheus takes for a restart.

use std::array;
use std::hint;
use std::ops::AddAssign;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;
use std::time::Duration;

use ingress_core::prefetch::prefetch;

use super::exemplars::TraceNumber;
use super::histogram::{Bounds, Lengths, Seconds, Sizes, Total};
use crate::proxy::runtime::counters::Counter;

/// What one request adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// From its head to the end of its response.
    pub(crate) took: Duration,
    /// Bytes of the request.
    pub(crate) received: u64,
    /// Bytes of the response.
    pub(crate) sent: u64,
    /// How long a connection to its endpoint took, if there was an endpoint for it.
    pub(crate) connected: Option<Duration>,
    /// When its endpoint had sent the head of the response, and the end; from its choice.
    pub(crate) answered: Option<(Duration, Duration)>,
    /// The trace that it belongs to, if that is sampled.
    pub(crate) trace: Option<TraceNumber>,
}

/// Requests, and histograms of what they took.
#[derive(Debug, Default)]
pub(crate) struct SeriesStats {
    near: Near,
    /// Of each [`Measure`] in its order, its buckets and one more for requests that have no value.
    /// Those of the first request stay empty, and nothing is here while every request falls there.
    others: OnceLock<Box<[Counter; OTHERS]>>,
}

/// What every request changes, on one line of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Near {
    /// Twice the requests; one more while one is being counted.
    version: AtomicU64,
    /// The buckets of the first request, a byte for each histogram.
    usual: AtomicU64,
    /// Of each [`Measure`] in its order; the last two share one.
    sums: [Counter; HISTOGRAMS - 1],
}

const _: () = assert!(size_of::<Near>() == LINE);

impl SeriesStats {
    /// Counts a request. Only the owning worker's thread calls this.
    pub(crate) fn count(&self, ended: &Ended) {
        let took = micros(ended.took);
        let response = ended.answered.map(|(_, whole)| micros(whole));
        let header = ended.answered.map(|(head, _)| micros(head));
        let connect = ended.connected.map(micros);
        let buckets = [
            Seconds::bucket(took),
            response.map_or(Seconds::UPPER.len() + 1, Seconds::bucket),
            header.map_or(Seconds::UPPER.len() + 1, Seconds::bucket),
            connect.map_or(Seconds::UPPER.len() + 1, Seconds::bucket),
            Lengths::bucket(ended.received),
            Lengths::bucket(ended.sent),
            Sizes::bucket(ended.sent),
        ];
        let packed = pack(buckets);
        let near = &self.near;
        let version = near.version.load(Ordering::Relaxed);
        near.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        if version == 0 {
            near.usual.store(packed, Ordering::Relaxed);
        } else {
            let usual = near.usual.load(Ordering::Relaxed);
            if usual != packed {
                self.count_others(usual, buckets);
            }
        }
        let response = response.unwrap_or_default();
        let header = header.unwrap_or_default();
        let connect = connect.unwrap_or_default();
        let values = [took, response, header, connect, ended.received, ended.sent];
        for (sum, value) in near.sums.iter().zip(values) {
            sum.add(value);
        }
        near.version.store(version + 2, Ordering::Release);
    }

    fn count_others(&self, usual: u64, buckets: [usize; HISTOGRAMS]) {
        let none = || Box::new(array::from_fn(|_| Counter::default()));
        let others = self.others.get_or_init(none);
        for ((usual, bucket), first) in unpack(usual).into_iter().zip(buckets).zip(FIRSTS) {
            if usual != bucket
                && let Some(other) = others.get(first + bucket)
            {
                other.increment();
            }
        }
    }

    /// What was counted until now.
    pub(crate) fn read(&self) -> Totals {
        let mut attempts = 0;
        loop {
            if let Some(totals) = self.try_read() {
                return totals;
            }
            if attempts < ATTEMPTS {
                attempts += 1;
                hint::spin_loop();
            } else {
                // The worker may have been interrupted on the core of this thread.
                thread::yield_now();
            }
        }
    }

    /// `None` while a request is being counted.
    fn try_read(&self) -> Option<Totals> {
        let near = &self.near;
        let version = near.version.load(Ordering::Acquire);
        if !version.is_multiple_of(2) {
            return None;
        }
        let usual = near.usual.load(Ordering::Relaxed);
        let sums = array::from_fn(|index| near.sums[index].value());
        let others = self.others.get().map_or([0; OTHERS], |others| {
            array::from_fn(|index| others[index].value())
        });
        fence(Ordering::Acquire);
        let is_of_one_moment = near.version.load(Ordering::Relaxed) == version;
        is_of_one_moment.then(|| Totals::new(version / 2, usual, sums, &others))
    }

    /// Asks for the line that a request will change.
    pub(crate) fn prefetch(&self) {
        prefetch(&self.near);
    }
}

/// What the tallies of several workers come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    /// Of each [`Measure`] in its order.
    histograms: [Total; HISTOGRAMS],
}

/// What there is a histogram of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    RequestDuration,
    ResponseDuration,
    HeaderDuration,
    ConnectDuration,
    RequestSize,
    ResponseSize,
    BytesSent,
}

impl Totals {
    pub(crate) fn of(&self, measure: Measure) -> &Total {
        &self.histograms[measure as usize]
    }

    fn new(requests: u64, usual: u64, sums: [u64; HISTOGRAMS - 1], others: &[u64; OTHERS]) -> Self {
        let usual = unpack(usual);
        let histogram = |index: usize| {
            let all = FIRSTS[index]..FIRSTS[index] + BUCKETS[index] + 1;
            let mut buckets = others[all].to_vec();
            let elsewhere: u64 = buckets.iter().sum();
            buckets[usual[index]] = requests - elsewhere;
            buckets.truncate(BUCKETS[index]);
            let sum = sums[index.min(sums.len() - 1)];
            Total { buckets, sum }
        };
        Self {
            requests,
            histograms: array::from_fn(histogram),
        }
    }
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        self.requests += other.requests;
        for (total, more) in self.histograms.iter_mut().zip(&other.histograms) {
            *total += more;
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "there are few buckets")]
fn pack(buckets: [usize; HISTOGRAMS]) -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    for (byte, bucket) in bytes.iter_mut().zip(buckets) {
        *byte = bucket as u8;
    }
    u64::from_le_bytes(bytes)
}

fn unpack(buckets: u64) -> [usize; HISTOGRAMS] {
    let bytes = buckets.to_le_bytes();
    array::from_fn(|index| usize::from(bytes[index]))
}

const HISTOGRAMS: usize = 7;
/// How many buckets each has: one more than there are bounds, for what is above all of them.
const BUCKETS: [usize; HISTOGRAMS] = [12, 12, 12, 12, 11, 11, 8];
/// Where its buckets begin in [`SeriesStats::others`].
const FIRSTS: [usize; HISTOGRAMS] = [0, 13, 26, 39, 52, 64, 76];
const OTHERS: usize = 85;
const _: () = {
    let mut index = 0;
    let mut first = 0;
    while index < HISTOGRAMS {
        assert!(FIRSTS[index] == first);
        first += BUCKETS[index] + 1;
        index += 1;
    }
    assert!(OTHERS == first);
};

/// Bytes of a line of the cache.
const LINE: usize = 64;
/// How often a reader tries again before it lets others run.
const ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    /// The same, counted one by one.
    fn naive(all: &[Ended]) -> Totals {
        let mut totals = Totals {
            requests: all.len() as u64,
            histograms: array::from_fn(|index| Total {
                buckets: vec![0; BUCKETS[index]],
                sum: 0,
            }),
        };
        for ended in all {
            let times = [
                Some(ended.took),
                ended.answered.map(|(_, whole)| whole),
                ended.answered.map(|(head, _)| head),
                ended.connected,
            ];
            for (total, time) in totals.histograms.iter_mut().zip(times) {
                if let Some(time) = time {
                    total.buckets[Seconds::bucket(micros(time))] += 1;
                    total.sum += micros(time);
                }
            }
            let [.., received, sent, coarse] = &mut totals.histograms;
            received.buckets[Lengths::bucket(ended.received)] += 1;
            received.sum += ended.received;
            sent.buckets[Lengths::bucket(ended.sent)] += 1;
            sent.sum += ended.sent;
            coarse.buckets[Sizes::bucket(ended.sent)] += 1;
            coarse.sum += ended.sent;
        }
        totals
    }

    fn ended() -> impl Strategy<Value = Ended> {
        let time = || (0..12_000_u64).prop_map(Duration::from_millis);
        let size = || prop_oneof![0..120_u64, 0..20_000_000_u64];
        (
            time(),
            size(),
            size(),
            proptest::option::of(time()),
            proptest::option::of((time(), time())),
        )
            .prop_map(|(took, received, sent, connected, answered)| Ended {
                took,
                received,
                sent,
                connected,
                answered,
                trace: None,
            })
    }

    proptest! {
        #[test]
        fn it_counts_as_one_by_one(all in proptest::collection::vec(ended(), 0..20)) {
            let tally = SeriesStats::default();
            for ended in &all {
                tally.count(ended);
            }
            prop_assert_eq!(tally.read(), naive(&all));
        }

        #[test]
        fn tallies_add_up(all in proptest::collection::vec(ended(), 0..20), cut in 0..20_usize) {
            let (these, those) = all.split_at(cut.min(all.len()));
            let mut sum = Totals::default();
            for part in [these, those] {
                let tally = SeriesStats::default();
                for ended in part {
                    tally.count(ended);
                }
                sum += &tally.read();
            }
            prop_assert_eq!(sum, naive(&all));
        }
    }

    #[test]
    fn a_reader_sees_whole_requests_and_no_bucket_shrink() {
        let tally = SeriesStats::default();
        let is_over = AtomicBool::new(false);
        let fast = Ended {
            took: Duration::from_micros(1),
            received: 1,
            sent: 1,
            ..Ended::default()
        };
        let slow = Ended {
            took: Duration::from_secs(1),
            received: 1,
            sent: 50,
            answered: Some((Duration::ZERO, Duration::from_secs(1))),
            ..Ended::default()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    tally.count(&fast);
                    tally.count(&slow);
                }
                is_over.store(true, Ordering::Relaxed);
            });
            let mut last = tally.read();
            while !is_over.load(Ordering::Relaxed) {
                let now = tally.read();
                for (before, after) in last.histograms.iter().zip(&now.histograms) {
                    let mut pairs = before.buckets.iter().zip(&after.buckets);
                    assert!(pairs.all(|(before, after)| before <= after));
                }
                let [took, response, .., received, _, sent] = &now.histograms;
                assert_eq!(received.sum, now.requests);
                assert_eq!(took.buckets.iter().sum::<u64>(), now.requests);
                let slow: u64 = response.buckets.iter().sum();
                assert_eq!(sent.sum, now.requests + 49 * slow);
                assert_eq!(took.sum, now.requests - slow + 1_000_000 * slow);
                last = now;
            }
        });
        assert_eq!(tally.read().requests, 400_000);
        let bytes = std::ptr::from_ref(&tally.near).addr();
        assert!(bytes.is_multiple_of(LINE), "on one line");
    }
}

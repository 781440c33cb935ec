//! Which endpoint of a backend a request goes to, and which ones are better left alone.
//!
//! Pure: random numbers, turns and the time are arguments, and what is known about endpoints is
//! asked for by index. So a worker picks among thousands without a list being made for it.
//!
//! Invariant: an endpoint is always found if there is one. Ejection and earlier tries only say
//! which is to be preferred; if most are ejected, it is more likely that we are wrong than they.

mod budget;
mod ejection;
mod ewma;
mod health;
mod ring;

pub use budget::RetryBudget;
pub use ejection::Ejection;
pub use ewma::PeakEwma;
pub use health::Health;
pub use ring::{Ring, hash, hash_of_address};

/// How endpoints take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one with less load of two drawn at random (power of two choices): as good as looking at
    /// all of them, and no herd when workers know only their own requests.
    #[default]
    LeastLoad,
    /// One after another.
    RoundRobin,
}

/// What a pick knows about an endpoint. The less, the better: fields are in order of weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// This very request has failed there.
    pub was_tried: bool,
    /// It has refused connections or answered with errors lately.
    pub is_ejected: bool,
    /// It has as many requests as it may have.
    pub is_full: bool,
    /// What it has to do, in whatever the caller measures that.
    pub load: u64,
}

/// What distinguishes one pick from the next.
#[derive(Clone, Copy, Debug)]
pub struct PickSeed {
    /// How many picks there were before.
    pub turn: u64,
    /// A random number.
    pub random: u64,
}

/// Picks one of `count` endpoints by its index.
pub fn pick(
    policy: Policy,
    count: usize,
    draw: PickSeed,
    standing: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let first = match policy {
        Policy::LeastLoad => least_load(count, draw.random, &standing)?,
        Policy::RoundRobin => remainder(draw.turn, count)?,
    };
    let found = standing(first);
    if found.was_tried || found.is_ejected || found.is_full {
        return Some(search(policy, count, first, &standing));
    }
    Some(first)
}

fn least_load(count: usize, random: u64, standing: &impl Fn(usize) -> Candidate) -> Option<usize> {
    if count < 2 {
        return count.checked_sub(1);
    }
    let one = remainder(random >> 32, count)?;
    // Any but the first: an endpoint does not compete with itself.
    let other = (one + 1 + remainder(random & u64::from(u32::MAX), count - 1)?) % count;
    Some(if standing(other) < standing(one) {
        other
    } else {
        one
    })
}

/// The best of all, and of equals the first from `start` on.
fn search(
    policy: Policy,
    count: usize,
    start: usize,
    standing: &impl Fn(usize) -> Candidate,
) -> usize {
    let ejected = (0..count).filter(|index| standing(*index).is_ejected);
    let is_panic = ejected.count() * 100 > count * EJECTED_PERCENT_MAX;
    let all = (start..count).chain(0..start);
    let found = all.min_by_key(|index| {
        let mut standing = standing(*index);
        standing.is_ejected &= !is_panic;
        if policy == Policy::RoundRobin {
            standing.load = 0;
        }
        standing
    });
    found.unwrap_or(start)
}

fn remainder(number: u64, count: usize) -> Option<usize> {
    usize::try_from(number.checked_rem(count as u64)?).ok()
}

/// Above this share of ejected endpoints, ejection is not heeded (the panic threshold of Envoy).
const EJECTED_PERCENT_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Candidate = Candidate {
        was_tried: false,
        is_ejected: false,
        is_full: false,
        load: 0,
    };

    fn draws() -> impl Iterator<Item = PickSeed> {
        // Any two halves; the multiplier is that of Knuth's MMIX generator.
        (0..1000_u64).map(|turn| PickSeed {
            turn,
            random: turn.wrapping_mul(6_364_136_223_846_793_005),
        })
    }

    fn picks(policy: Policy, standings: &[Candidate]) -> Vec<usize> {
        let mut counts = vec![0; standings.len()];
        for draw in draws() {
            let index = pick(policy, standings.len(), draw, |index| standings[index]);
            counts[index.unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn nothing_is_found_among_none_and_everything_is_used() {
        for policy in [Policy::LeastLoad, Policy::RoundRobin] {
            let draw = PickSeed { turn: 7, random: 9 };
            assert_eq!(pick(policy, 0, draw, |_| IDLE), None);
            assert_eq!(pick(policy, 1, draw, |_| IDLE), Some(0));
            assert!(picks(policy, &[IDLE; 5]).iter().all(|count| *count > 100));
        }
    }

    #[test]
    fn round_robin_is_even() {
        assert_eq!(picks(Policy::RoundRobin, &[IDLE; 5]), [200; 5]);
    }

    #[test]
    fn the_busiest_gets_nothing_from_least_load() {
        let mut standings = [IDLE; 4];
        standings[2].load = 1;
        let counts = picks(Policy::LeastLoad, &standings);
        assert_eq!(counts[2], 0);
        assert!(
            counts[0] > 200 && counts[1] > 200 && counts[3] > 200,
            "{counts:?}"
        );
    }

    #[test]
    fn the_ejected_and_the_tried_come_last() {
        for policy in [Policy::LeastLoad, Policy::RoundRobin] {
            let mut standings = [IDLE; 4];
            standings[0].is_ejected = true;
            standings[1].was_tried = true;
            standings[3].load = 50;
            let counts = picks(policy, &standings);
            assert_eq!((counts[0], counts[1]), (0, 0), "{policy:?}");
            standings[2].was_tried = true;
            standings[3].was_tried = true;
            let counts = picks(policy, &standings);
            assert_eq!(
                counts,
                [1000, 0, 0, 0],
                "ejected is better than tried: {policy:?}"
            );
        }
    }

    #[test]
    fn ejection_of_most_is_ignored() {
        for policy in [Policy::LeastLoad, Policy::RoundRobin] {
            let mut standings = [IDLE; 5];
            for standing in &mut standings[..3] {
                standing.is_ejected = true;
            }
            let counts = picks(policy, &standings);
            assert!(
                counts[..3].iter().all(|count| *count > 50),
                "{policy:?} {counts:?}"
            );
        }
    }
}

//! When a certificate is ordered: renewal, back-off and the number of orders an hour. All times are in
//! seconds since 1970; randomness comes from a seed.

use super::Wanted;
use super::state::Failure;

/// A certificate as its Secret has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Name of its issuer, from the annotation [`ISSUER_MARK`](super::ISSUER_MARK) of its Secret.
    pub issuer: String,
    /// The names that it is for, in lower case.
    pub names: Vec<String>,
    /// When it is renewed.
    pub renews_at: i64,
}

/// The next step for a wanted certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is ordered.
    Order,
    /// Nothing before this time.
    Wait(i64),
}

/// Decides the next step for one certificate. `held` is the certificate in its Secret; `None` if the Secret
/// is missing or its certificate cannot be read. Callers leave out Secrets that Sluice did not make.
pub fn decide(wanted: &Wanted, held: Option<&Held>, failure: Option<&Failure>, now: i64) -> Step {
    let renewal = held.filter(|held| {
        let is_covered = |host: &str| held.names.iter().any(|name| name == host);
        *held.issuer == *wanted.issuer && wanted.hosts.iter().all(|host| is_covered(host.as_str()))
    });
    let renewal = renewal.map_or(now, |held| held.renews_at);
    let failure = failure.filter(|failure| failure.wanted == wanted.fingerprint());
    let due = renewal.max(failure.map_or(i64::MIN, |failure| failure.retry_at));
    if due <= now {
        Step::Order
    } else {
        Step::Wait(due)
    }
}

/// When a certificate that is valid between these times is renewed: at two thirds of its life.
pub fn renewal_after(not_before: i64, not_after: i64) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0);
    not_before.saturating_add(life / 3 * 2 + life % 3 * 2 / 3)
}

/// A time within the window that the issuer suggests (RFC 9773 §4.2), evenly distributed by `seed`.
pub fn renewal_within(start: i64, end: i64, seed: u64) -> i64 {
    let width = u64::try_from(end.saturating_sub(start)).unwrap_or(0);
    let offset = seed.checked_rem(width).unwrap_or(0);
    start.saturating_add(i64::try_from(offset).unwrap_or(0))
}

/// The pause in seconds after `failures` failed attempts in a row. It starts at `first` and doubles with
/// each failure, up to a day; `seed` shortens it by up to an eighth.
///
/// With five minutes as the first pause there are four attempts in the first hour: Let's Encrypt
/// refuses an account after five failed validations of a host in an hour.
pub fn retry_pause(failures: u32, first: i64, seed: u64) -> i64 {
    let doublings = failures.saturating_sub(1).min(32);
    let first = first.max(1);
    let pause = first.saturating_mul(1_i64 << doublings);
    let pause = pause.min(RETRY_PAUSE_MAX.max(first));
    let eighth = u64::try_from(pause / 8).unwrap_or(0);
    let less = seed.checked_rem(eighth).unwrap_or(0);
    pause - i64::try_from(less).unwrap_or(0)
}

/// Bounds that the operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Orders at one issuer in any hour.
    pub orders_per_hour: u32,
    /// The pause after the first failed attempt, in seconds.
    pub first_retry: i64,
}

/// The earliest time of the next order, given the times of `recent` ones: `now` if fewer than `per_hour`
/// of them are within the last hour.
pub fn next_order(recent: &[i64], per_hour: u32, now: i64) -> i64 {
    let in_force = recent.iter().copied();
    let mut in_force: Vec<i64> = in_force
        .filter(|at| *at > now.saturating_sub(HOUR) && *at <= now)
        .collect();
    in_force.sort_unstable();
    let most = usize::try_from(per_hour.max(1)).unwrap_or(usize::MAX);
    match in_force.len().checked_sub(most) {
        None => now,
        Some(first) => in_force[first].saturating_add(HOUR),
    }
}

pub(super) const HOUR: i64 = 3600;
/// The longest pause between two attempts, in seconds.
const RETRY_PAUSE_MAX: i64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::{Host, ObjectRef};

    fn wanted(hosts: &[&str]) -> Wanted {
        let object = |kind| ObjectRef {
            kind,
            namespace: "shop".into(),
            name: "web".into(),
        };
        Wanted {
            secret: object("Secret"),
            issuer: "le".into(),
            hosts: hosts
                .iter()
                .map(|host| Host::parse(host).unwrap())
                .collect(),
            ingress: object("Ingress"),
            field: String::new(),
        }
    }

    fn held(names: &[&str], renews_at: i64) -> Held {
        Held {
            issuer: "le".to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            renews_at,
        }
    }

    #[test]
    fn certificate_is_ordered_if_missing_due_or_for_other_hosts() {
        let wanted = wanted(&["a.test", "b.test"]);
        let decide = |held: Option<&Held>| decide(&wanted, held, None, 100);
        assert_eq!(decide(None), Step::Order);
        let good = held(&["b.test", "a.test"], 200);
        assert_eq!(decide(Some(&good)), Step::Wait(200));
        assert_eq!(decide(Some(&held(&["a.test"], 200))), Step::Order);
        assert_eq!(decide(Some(&held(&["a.test", "b.test"], 100))), Step::Order);
        let issuer = "other".to_owned();
        assert_eq!(decide(Some(&Held { issuer, ..good })), Step::Order);
    }

    #[test]
    fn failures_of_the_same_order_postpone_it() {
        let wanted = wanted(&["a.test"]);
        let mut failure = Failure {
            wanted: wanted.fingerprint(),
            attempts: 1,
            error: String::new(),
            retry_at: 150,
        };
        assert_eq!(decide(&wanted, None, Some(&failure), 100), Step::Wait(150));
        assert_eq!(decide(&wanted, None, Some(&failure), 150), Step::Order);
        failure.wanted = failure.wanted.wrapping_add(1);
        assert_eq!(decide(&wanted, None, Some(&failure), 100), Step::Order);
    }

    #[test]
    fn failed_attempts_stay_below_five_an_hour() {
        let mut at = 0;
        let retries = (1..20).take_while(|failures| {
            at += retry_pause(*failures, 300, 36);
            at < HOUR
        });
        assert!(1 + retries.count() < 5);
    }

    proptest! {
        #[test]
        fn renewal_is_at_two_thirds_of_life(start in 0_i64..1 << 40, life in 0_i64..1 << 32) {
            let at = renewal_after(start, start + life);
            prop_assert!((at - start) * 3 <= life * 2);
            prop_assert!((at - start) * 3 + 3 > life * 2);
        }

        #[test]
        fn any_validity_has_a_renewal(start: i64, end: i64) {
            let at = renewal_after(start, end);
            prop_assert!(at >= start && (at <= end || at == start));
        }

        #[test]
        fn suggested_renewal_is_within_its_window(start: i64, end: i64, seed: u64) {
            let at = renewal_within(start, end, seed);
            prop_assert!(at >= start);
            prop_assert!(at == start || at < end);
        }

        #[test]
        fn pauses_grow_to_a_day(failures in 0_u32.., first in 1_i64..HOUR, seed: u64) {
            let pause = retry_pause(failures, first, seed);
            let later = retry_pause(failures.saturating_add(1), first, seed);
            prop_assert!((1..=RETRY_PAUSE_MAX).contains(&pause));
            prop_assert!(later * 8 >= pause * 7);
            prop_assert!(pause >= first - first / 8);
        }

        #[test]
        fn no_hour_has_more_orders_than_the_limit(
            limit in 1_u32..6,
            steps in prop::collection::vec(0_i64..2 * HOUR, 1..60),
        ) {
            let mut orders: Vec<i64> = Vec::new();
            let mut now = 1_000_000;
            for step in steps {
                now += step;
                let next = next_order(&orders, limit, now);
                prop_assert!(next >= now && next <= now + HOUR);
                if next == now {
                    orders.push(now);
                }
                let recent = orders.iter().filter(|at| **at > now - HOUR).count();
                prop_assert!(recent <= usize::try_from(limit).unwrap());
            }
        }
    }
}

//! Backends that get some of the requests of another one.

use std::sync::Arc;

use regex::bytes::Regex;

/// Which requests a canary gets.
///
/// Source: ingress-nginx, annotations `canary-*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canary {
    /// By a field of the request.
    pub header: Option<CanaryHeader>,
    /// By a cookie whose value is `always` or `never`.
    pub cookie: Option<Arc<str>>,
    /// Its share of the others, of [`total`](Self::total).
    pub weight: u32,
    /// The sum of all shares; never 0.
    pub total: u32,
    /// Whether its sessions are those that its own Ingress asks for, in place of those of the main
    /// rule, which follow a client to the backend that it had before.
    pub has_own_sessions: bool,
}

/// A field that sends requests to a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryHeader {
    /// In lower case.
    pub name: Arc<str>,
    /// Which values do.
    pub value: CanaryValue,
}

/// Which values of a field send requests to a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryValue {
    /// `always` does, `never` keeps them away.
    Switch,
    /// This one.
    Equal(Arc<str>),
    /// Those that an expression is found in.
    Pattern(CanaryPattern),
}

/// An expression for values of a field.
#[derive(Clone, Debug)]
pub struct CanaryPattern(Regex);

impl PartialEq for CanaryPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for CanaryPattern {}

impl CanaryPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong with the expression. The linear-time engine also refuses
    /// look-around, back-references, and expressions that are too large.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = regex::bytes::RegexBuilder::new(text)
            .size_limit(PATTERN_BYTES_MAX)
            .unicode(false)
            .build();
        regex.map(Self).map_err(|error| error.to_string())
    }

    /// Whether it is found in a value.
    pub fn is_found_in(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

/// Whether a request goes to a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryVote {
    /// It goes there.
    Yes,
    /// It does not go there, whatever the weights are.
    No,
    /// The weights decide.
    Undecided,
}

impl Canary {
    /// The vote on a request with these values of the canary's field and cookie.
    pub fn vote(&self, field: Option<&[u8]>, cookie: Option<&[u8]>) -> CanaryVote {
        if let (Some(header), Some(value)) = (&self.header, field) {
            match &header.value {
                CanaryValue::Switch if value == b"always" => return CanaryVote::Yes,
                CanaryValue::Switch if value == b"never" => return CanaryVote::No,
                CanaryValue::Equal(wanted) if value == wanted.as_bytes() => return CanaryVote::Yes,
                CanaryValue::Pattern(pattern) if pattern.is_found_in(value) => {
                    return CanaryVote::Yes;
                }
                CanaryValue::Switch | CanaryValue::Equal(_) | CanaryValue::Pattern(_) => {}
            }
        }
        match cookie {
            Some(b"always") => CanaryVote::Yes,
            Some(b"never") => CanaryVote::No,
            Some(_) | None => CanaryVote::Undecided,
        }
    }
}

/// Chooses among canaries: the first whose field or cookie asks for it, else by weights, of those
/// that none has refused. `None`: the main backend. `random` is any number.
///
/// `vote` tells what the canary at an index says about the request.
pub fn choose(
    canaries: &[&Canary],
    mut vote: impl FnMut(usize) -> CanaryVote,
    random: u64,
) -> Option<usize> {
    let votes: Vec<CanaryVote> = (0..canaries.len()).map(&mut vote).collect();
    if let Some(chosen) = votes.iter().position(|vote| *vote == CanaryVote::Yes) {
        return Some(chosen);
    }
    // Each draws from what the ones before it have left, in units of 2^-32.
    let mut point = random & u64::from(u32::MAX);
    for (index, canary) in canaries.iter().enumerate() {
        if votes[index] == CanaryVote::No || canary.weight == 0 {
            continue;
        }
        let weight = u64::from(canary.weight.min(canary.total));
        let share = (weight << 32) / u64::from(canary.total.max(1));
        if point < share {
            return Some(index);
        }
        point -= share;
    }
    None
}

const PATTERN_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_counts_before_cookie_and_cookie_before_weight() {
        let header = |value| {
            Some(CanaryHeader {
                name: "x-canary".into(),
                value,
            })
        };
        let switch = Canary {
            header: header(CanaryValue::Switch),
            cookie: Some("canary".into()),
            weight: 0,
            total: 100,
            has_own_sessions: false,
        };
        let vote = |canary: &Canary, field: &str, cookie: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
            canary.vote(some(field).as_deref(), some(cookie).as_deref())
        };
        assert_eq!(vote(&switch, "always", "never"), CanaryVote::Yes);
        assert_eq!(vote(&switch, "never", "always"), CanaryVote::No);
        assert_eq!(vote(&switch, "Always", "always"), CanaryVote::Yes);
        assert_eq!(vote(&switch, "", "never"), CanaryVote::No);
        assert_eq!(vote(&switch, "other", ""), CanaryVote::Undecided);
        let equal = Canary {
            header: header(CanaryValue::Equal("eu".into())),
            ..switch.clone()
        };
        assert_eq!(vote(&equal, "eu", ""), CanaryVote::Yes);
        assert_eq!(vote(&equal, "always", ""), CanaryVote::Undecided);
        assert_eq!(vote(&equal, "never", "always"), CanaryVote::Yes);
        let pattern = CanaryPattern::new("^(de|fr)$").unwrap();
        let pattern = Canary {
            header: header(CanaryValue::Pattern(pattern)),
            ..switch
        };
        assert_eq!(vote(&pattern, "fr", ""), CanaryVote::Yes);
        assert_eq!(vote(&pattern, "fri", ""), CanaryVote::Undecided);
        CanaryPattern::new("(?=a)").unwrap_err();
    }

    #[test]
    fn weights_are_shares_of_their_totals() {
        let canary = |weight, total| Canary {
            weight,
            total,
            ..Canary::default()
        };
        let (first, second) = (canary(10, 100), canary(300, 1000));
        let all = [&first, &second];
        let mut counts = [0; 3];
        for number in 0..1000_u64 {
            let random = number * (u64::from(u32::MAX) / 1000);
            let chosen = choose(&all, |_| CanaryVote::Undecided, random);
            counts[chosen.map_or(2, |index| index)] += 1;
        }
        assert!((95..=105).contains(&counts[0]), "{counts:?}");
        assert!((295..=305).contains(&counts[1]), "{counts:?}");
        let only_second = |index| match index {
            0 => CanaryVote::No,
            _ => CanaryVote::Undecided,
        };
        assert_eq!(choose(&all, only_second, 0), Some(1));
        assert_eq!(choose(&all, |_| CanaryVote::No, 0), None);
        assert_eq!(
            choose(&[&canary(100, 100)], |_| CanaryVote::Undecided, u64::MAX),
            Some(0)
        );
    }
}

//! What was found out about objects that have not changed since.
//!
//! Some steps are functions of a few objects each: what an Ingress claims, what certificate a
//! Secret holds, and what a Service and its slices give for a backend. Their results are kept for
//! as long as those objects are the very same allocations, which a source sees to for objects that
//! did not change. A result that was not asked for in a round is forgotten.
//!
//! Architecture invariant: a memo changes how long a translation takes and nothing else.

use std::borrow::Borrow;
use std::hash::Hash;

use hashbrown::HashMap;

/// The results `R` of one step in earlier rounds, by key, with the sources `S` that each was made
/// from.
pub(super) struct Memo<K, S, R> {
    round: u64,
    known: HashMap<K, Known<S, R>>,
}

struct Known<S, R> {
    sources: S,
    result: R,
    round: u64,
}

impl<K, S, R> Default for Memo<K, S, R> {
    fn default() -> Self {
        Self {
            round: 0,
            known: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash, S, R> Memo<K, S, R> {
    /// Begins a round that asks for at most `expected` results.
    pub(super) fn begin(&mut self, expected: usize) {
        self.round += 1;
        // A table that grows by doubling leaves as much behind as it holds.
        let missing = expected.saturating_sub(self.known.len());
        self.known.reserve(missing);
    }

    /// Ends it: what it did not ask for is forgotten.
    pub(super) fn end(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
    }

    /// The result for a key, if it was made from the same sources. Sources that are equal and not
    /// the same may be replaced by `is_same`.
    pub(super) fn get<Q>(&mut self, key: &Q, is_same: impl FnOnce(&mut S) -> bool) -> Option<&R>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let known = self.known.get_mut(key)?;
        if !is_same(&mut known.sources) {
            return None;
        }
        known.round = self.round;
        Some(&known.result)
    }

    /// The source of the last result, and that result.
    pub(super) fn last<Q>(&self, key: &Q) -> Option<(&S, &R)>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let known = self.known.get(key)?;
        Some((&known.sources, &known.result))
    }

    /// Keeps a result.
    pub(super) fn keep(&mut self, key: K, sources: S, result: R) {
        let known = Known {
            sources,
            result,
            round: self.round,
        };
        self.known.insert(key, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_while_each_round_asks_for_it() {
        let mut memo = Memo::default();
        memo.begin(1);
        memo.keep("key", 1, "result");
        memo.end();
        memo.begin(1);
        assert_eq!(memo.get("key", |sources| *sources == 1), Some(&"result"));
        memo.end();
        memo.begin(1);
        memo.end();
        assert_eq!(memo.last("key"), None, "the last round did not ask");
    }

    #[test]
    fn a_result_of_other_sources_is_not_given() {
        let mut memo = Memo::default();
        memo.keep("key", 1, "result");
        assert_eq!(memo.get("key", |sources| *sources == 2), None);
        assert_eq!(memo.last("key"), Some((&1, &"result")));
    }
}

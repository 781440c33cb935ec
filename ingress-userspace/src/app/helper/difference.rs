//! How one set of addresses differs from another: what travels between daemon and helper when one of
//! 10,000 endpoints changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What was added to a set of addresses, and what was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Difference<T> {
    added: Vec<T>,
    removed: Vec<T>,
}

impl<T: Copy + Ord> Difference<T> {
    /// What makes `after` of `before`.
    pub(super) fn between(before: &BTreeSet<T>, after: &BTreeSet<T>) -> Self {
        Self {
            added: after.difference(before).copied().collect(),
            removed: before.difference(after).copied().collect(),
        }
    }

    /// Whether the sets are the same.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Makes the same change to another copy of the set.
    pub(super) fn apply(self, set: &mut BTreeSet<T>) {
        for item in self.removed {
            set.remove(&item);
        }
        set.extend(self.added);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = BTreeSet<IpAddr>> {
        proptest::collection::btree_set(any::<[u8; 4]>().prop_map(IpAddr::from), 0..20)
    }

    proptest! {
        #[test]
        fn a_copy_follows_the_set(before in addresses(), after in addresses()) {
            let mut copy = before.clone();
            Difference::between(&before, &after).apply(&mut copy);
            prop_assert_eq!(&copy, &after);
            prop_assert!(Difference::between(&copy, &after).is_empty());
        }
    }
}

//! Which external names are looked up where there are more than may be: each namespace has an equal
//! share, so that the names of one namespace take no endpoints from another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// External names by the namespace of the Services that have them.
#[derive(Debug, Default)]
pub(super) struct NameShares(BTreeMap<Arc<str>, BTreeSet<Arc<str>>>);

impl NameShares {
    /// The names of one namespace.
    pub(super) fn of(&mut self, namespace: &Arc<str>) -> &mut BTreeSet<Arc<str>> {
        self.0.entry(Arc::clone(namespace)).or_default()
    }

    /// At most `max` of all names: one of each namespace, then another one of each, and so on.
    pub(super) fn fair(&self, max: usize) -> BTreeSet<Arc<str>> {
        let mut fair = BTreeSet::new();
        let mut left: Vec<_> = self.0.values().map(BTreeSet::iter).collect();
        while fair.len() < max && !left.is_empty() {
            left.retain_mut(|names| match names.next() {
                Some(name) if fair.len() < max => {
                    fair.insert(Arc::clone(name));
                    true
                }
                Some(_) | None => false,
            });
        }
        fair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(namespaces: &[(&str, usize)]) -> NameShares {
        let mut shares = NameShares::default();
        for (namespace, count) in namespaces {
            let names = (0..*count).map(|number| format!("{namespace}{number:04}.example").into());
            shares.of(&Arc::from(*namespace)).extend(names);
        }
        shares
    }

    #[test]
    fn a_namespace_with_many_names_takes_none_of_others() {
        let fair = shares(&[("a", 5000), ("b", 10), ("c", 30)]).fair(100);
        let count = |namespace| {
            fair.iter()
                .filter(|name| name.starts_with(namespace))
                .count()
        };
        assert_eq!([count('a'), count('b'), count('c')], [60, 10, 30]);
    }

    #[test]
    fn all_names_are_looked_up_where_there_is_room() {
        let shares = shares(&[("a", 3), ("b", 2)]);
        assert_eq!(shares.fair(5).len(), 5);
        assert_eq!(shares.fair(0).len(), 0);
        assert_eq!(NameShares::default().fair(5).len(), 0);
    }
}

//! Whether an endpoint fails its probes, by how many have passed or failed in a row.

use std::num::NonZeroU32;

/// What the probes of an endpoint have told so far. It is healthy before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    is_failing: bool,
    /// Probes in a row that say the opposite.
    against: u32,
}

impl Health {
    /// Whether the endpoint fails its probes.
    pub fn is_failing(self) -> bool {
        self.is_failing
    }

    /// A probe has passed or failed. Returns whether this changes what [`Self::is_failing`] says.
    ///
    /// `healthy` and `unhealthy` are the numbers of probes in a row that it takes.
    pub fn note(&mut self, has_passed: bool, healthy: NonZeroU32, unhealthy: NonZeroU32) -> bool {
        if has_passed != self.is_failing {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let threshold = if self.is_failing { healthy } else { unhealthy };
        let has_changed = self.against >= threshold.get();
        if has_changed {
            self.is_failing = !self.is_failing;
            self.against = 0;
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_changes_after_as_many_probes_in_a_row_as_it_takes() {
        let [two, three] = [2, 3].map(|number| NonZeroU32::new(number).unwrap());
        let mut health = Health::default();
        // Each letter is a probe; what follows is whether the endpoint fails after it.
        let probes = "F- F- P- F- F- F! F! P! F! P! P- P- F-";
        for probe in probes.split(' ') {
            let was_failing = health.is_failing();
            let has_changed = health.note(probe.starts_with('P'), two, three);
            assert_eq!(health.is_failing(), probe.ends_with('!'), "{probe}");
            assert_eq!(has_changed, was_failing != health.is_failing());
        }
    }
}

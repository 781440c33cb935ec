//! Subjects that take turns: the runs of one round stand next to each other in time, so a ratio
//! within a round is not one between two moods of the machine.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Pairs of each comparison.
    pub pairs: u32,
    /// Seconds of each run.
    pub seconds: u32,
}

/// What each subject's run gave, a map for each round.
pub(super) type Rounds<S, F> = Vec<BTreeMap<S, F>>;

/// Lets `subjects` take turns, `effort.pairs` times after one that does not count. `measure` runs a
/// subject for some seconds, and gives nothing where the run does not count.
pub(super) fn take_turns<S: Copy + Ord, F>(
    subjects: &[S],
    effort: Effort,
    measure: impl Fn(S, u32) -> Result<Option<F>>,
) -> Result<Rounds<S, F>> {
    let mut rounds = Rounds::new();
    let mut rejected = 0;
    for subject in subjects {
        measure(*subject, WARM_UP_SECONDS)?;
    }
    while rounds.len() < effort.pairs as usize {
        let mut round = BTreeMap::new();
        for subject in subjects {
            match measure(*subject, effort.seconds)? {
                Some(figure) => {
                    round.insert(*subject, figure);
                }
                None => rejected += 1,
            }
        }
        if round.len() == subjects.len() {
            rounds.push(round);
        }
        if rejected > effort.pairs * REJECTED_MAX {
            bail!("other programs keep taking too much of the core");
        }
    }
    Ok(rounds)
}

/// The figures of one subject.
pub(super) fn figures<S: Copy + Ord, F>(
    rounds: &Rounds<S, F>,
    subject: S,
    value: impl Fn(&F) -> f64,
) -> Vec<f64> {
    rounds.iter().map(|round| value(&round[&subject])).collect()
}

/// How much larger the figures of a subject are than those of another.
pub(super) fn differences<S: Copy + Ord, F>(
    rounds: &Rounds<S, F>,
    subject: S,
    baseline: S,
    value: impl Fn(&F) -> f64,
) -> Vec<f64> {
    let difference = |round: &BTreeMap<S, F>| value(&round[&subject]) - value(&round[&baseline]);
    rounds.iter().map(difference).collect()
}

/// The ratios of two subjects' figures.
pub(super) fn ratios<S: Copy + Ord, F>(
    rounds: &Rounds<S, F>,
    subject: S,
    baseline: S,
    value: impl Fn(&F) -> f64,
) -> Vec<f64> {
    let ratio = |round: &BTreeMap<S, F>| value(&round[&subject]) / value(&round[&baseline]);
    rounds.iter().map(ratio).collect()
}

const WARM_UP_SECONDS: u32 = 1;
/// Rejected runs for each pair before the bench gives up.
const REJECTED_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_round_counts_only_as_a_whole() -> Result<()> {
        let runs = Cell::new(0);
        let effort = Effort {
            pairs: 2,
            seconds: 2,
        };
        let rounds = take_turns(&['a', 'b'], effort, |subject, seconds| {
            runs.set(runs.get() + 1);
            let is_rejected = runs.get() == 4;
            let figure = f64::from(seconds) * if subject == 'a' { 1.0 } else { 2.0 };
            Ok((!is_rejected).then_some(figure))
        })?;
        assert_eq!(runs.get(), 2 + 6);
        assert_eq!(figures(&rounds, 'a', |figure| *figure), [2.0, 2.0]);
        assert_eq!(ratios(&rounds, 'b', 'a', |figure| *figure), [2.0, 2.0]);
        assert_eq!(differences(&rounds, 'b', 'a', |figure| *figure), [2.0, 2.0]);
        Ok(())
    }

    #[test]
    fn a_busy_machine_ends_the_bench() {
        let effort = Effort {
            pairs: 1,
            seconds: 1,
        };
        assert!(take_turns(&['a'], effort, |_, _| Ok(None::<f64>)).is_err());
    }
}

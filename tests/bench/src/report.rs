//! What a bench found, as data: the same shape for every suite.

use std::fs;

use anyhow::{Result, ensure};
use serde::Serialize;

/// Everything that one run of a suite found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Figures by subject.
    pub rows: Vec<Row>,
    /// Comparisons.
    pub ratios: Vec<Ratio>,
    /// What was aimed at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub goals: Vec<Goal>,
}

/// What a figure is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure<'a> {
    pub(super) suite: &'static str,
    pub(super) workload: &'a str,
    pub(super) metric: &'static str,
    pub(super) unit: &'static str,
}

impl Report {
    /// Nothing found so far, here.
    pub(super) fn new() -> Self {
        Self {
            machine: Machine::here(),
            rows: Vec::new(),
            ratios: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds the figures of a subject.
    pub(super) fn add_row(&mut self, measure: Measure<'_>, subject: &str, figures: &[f64]) {
        let (median, min, max) = spread(figures);
        self.rows.push(Row {
            suite: measure.suite,
            workload: measure.workload.to_owned(),
            subject: subject.to_owned(),
            metric: measure.metric,
            unit: measure.unit,
            median,
            min,
            max,
            runs: figures.len(),
        });
    }

    /// Adds the ratios of a subject's figures to a baseline's.
    pub(super) fn add_ratio(
        &mut self,
        measure: Measure<'_>,
        (subject, baseline): (&str, &str),
        ratios: &[f64],
    ) {
        let (median, min, max) = spread(ratios);
        self.ratios.push(Ratio {
            suite: measure.suite,
            workload: measure.workload.to_owned(),
            metric: measure.metric,
            subject: subject.to_owned(),
            baseline: baseline.to_owned(),
            median,
            min,
            max,
        });
    }
}

impl Report {
    /// An error if a comparison came out above `bound`, or if there is none.
    ///
    /// # Errors
    ///
    /// An error that names the comparison.
    pub(crate) fn hold_to(&self, bound: f64) -> Result<()> {
        ensure!(!self.ratios.is_empty(), "nothing was compared");
        for ratio in &self.ratios {
            ensure!(
                ratio.median <= bound,
                "{}: {} takes {:.3} of {}, at most {bound} is allowed",
                ratio.workload,
                ratio.subject,
                ratio.median,
                ratio.baseline
            );
        }
        Ok(())
    }
}

/// Where a bench ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Cores of the machine. A suite that compares CPU time uses one of them.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
    /// Version of Sluice.
    pub sluice: &'static str,
    /// How it was built.
    pub build: String,
}

/// A figure of one subject.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Suite.
    pub suite: &'static str,
    /// What was done.
    pub workload: String,
    /// Who did it.
    pub subject: String,
    /// What was measured.
    pub metric: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Median of the runs.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Runs that count.
    pub runs: usize,
}

/// One subject in terms of another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// Suite.
    pub suite: &'static str,
    /// What was done.
    pub workload: String,
    /// What was measured.
    pub metric: &'static str,
    /// Whose figure is divided.
    pub subject: String,
    /// By whose.
    pub baseline: String,
    /// Median of the pairs' ratios.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// What was aimed at, and what it came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// What was done.
    pub workload: String,
    /// What was measured, and in terms of whom.
    pub what: String,
    /// The largest figure that is good.
    pub at_most: f64,
    /// The median.
    pub median: f64,
    /// Whether it is reached.
    pub met: bool,
}

impl Machine {
    /// The machine that this runs on.
    pub(crate) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model
            .and_then(|rest| rest.split_once(':'))
            .map_or("unknown", |(_, name)| name);
        Self {
            cpu: model.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            sluice: env!("CARGO_PKG_VERSION"),
            build: String::new(),
        }
    }
}

/// Median of some figures; zero of none.
pub(super) fn median(figures: &[f64]) -> f64 {
    spread(figures).0
}

/// Median, smallest and largest of some figures; zeros of none.
fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    };
    let first = sorted.first().copied().unwrap_or(0.0);
    let last = sorted.last().copied().unwrap_or(0.0);
    (median, first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_figures_is_their_median_and_range() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
        assert_eq!(spread(&[]), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_ratio_above_the_bound_is_an_error_that_names_it() {
        let mut report = Report::new();
        assert!(report.hold_to(2.0).is_err(), "nothing was compared");
        let measure = Measure {
            suite: "instructions",
            workload: "1 KiB kept alive",
            metric: "whole machine",
            unit: "instructions a request",
        };
        report.add_ratio(measure, ("netns", "bare"), &[1.09]);
        assert!(report.hold_to(1.1).is_ok());
        let error = report.hold_to(1.06).unwrap_err().to_string();
        assert!(error.contains("netns takes 1.090 of bare"), "{error}");
    }
}

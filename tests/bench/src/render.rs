//! A table for a person.

use std::fmt::Write as _;

use crate::report::Report;

/// Renders figures and ratios.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    let machine = &report.machine;
    let _ = writeln!(
        out,
        "\n{}, {} cores, Linux {}, sluice {} ({})\n",
        machine.cpu, machine.cores, machine.kernel, machine.sluice, machine.build
    );
    // Characters of the widest name, and a space.
    let names = report.rows.iter().map(|row| row.workload.chars().count());
    let width = names.max().unwrap_or_default().max(WORKLOAD_WIDTH_MIN) + 1;
    let _ = writeln!(
        out,
        "{:<width$}{:<28}{:>10}{:>20}  UNIT",
        "WORKLOAD", "SUBJECT", "MEDIAN", "MIN–MAX"
    );
    for row in &report.rows {
        let range = format!("{:.1}–{:.1}", row.min, row.max);
        let _ = writeln!(
            out,
            "{:<width$}{:<28}{:>10.1}{range:>20}  {} ({})",
            row.workload, row.subject, row.median, row.unit, row.metric
        );
    }
    let _ = writeln!(
        out,
        "\n{:<width$}{:<28}{:>10}{:>20}",
        "WORKLOAD", "RATIO", "MEDIAN", "MIN–MAX"
    );
    for ratio in &report.ratios {
        let pair = format!("{} / {}", ratio.subject, ratio.baseline);
        let range = format!("{:.2}–{:.2}", ratio.min, ratio.max);
        let _ = writeln!(
            out,
            "{:<width$}{pair:<28}{:>10.2}{range:>20}",
            ratio.workload, ratio.median
        );
    }
    if report.goals.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "\n{:<width$}{:<48}{:>10}{:>10}",
        "WORKLOAD", "GOAL", "AT MOST", "MEDIAN"
    );
    for goal in &report.goals {
        let verdict = if goal.met { "met" } else { "NOT MET" };
        let _ = writeln!(
            out,
            "{:<width$}{:<48}{:>10.2}{:>10.2}  {verdict}",
            goal.workload, goal.what, goal.at_most, goal.median
        );
    }
    out
}

const WORKLOAD_WIDTH_MIN: usize = 39;

//! The alerts: each fires and stays quiet as its unit test says, has a section in the runbook, and asks
//! only for metrics that there are.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

#[test]
fn alerts_pass_their_unit_tests() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::copy(root().join(ALERTS), directory.path().join("alerts.yaml"))?;
    fs::copy(root().join(TESTS), directory.path().join("tests.yaml"))?;
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "tests.yaml"],
    ] {
        let output = Command::new("promtool")
            .current_dir(directory.path())
            .args(arguments)
            .output()
            .context("failed to run promtool, of Debian's package `prometheus`")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_a_unit_test() -> Result<()> {
    let alerts = fs::read_to_string(root().join(ALERTS))?;
    let tests = fs::read_to_string(root().join(TESTS))?;
    let runbook = fs::read_to_string(root().join("docs/runbook.md"))?;
    let names = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.collect();
    ensure!(names.len() > 10, "{names:?}");
    for name in &names {
        ensure!(
            runbook.contains(&format!("## {name}\n")),
            "{name} in the runbook"
        );
        let anchor = format!("docs/runbook.md#{}", name.to_ascii_lowercase());
        ensure!(alerts.contains(&anchor), "{name} names its section");
        // One that fires, and one that stays quiet.
        ensure!(
            tests.matches(&format!("alertname: {name}\n")).count() >= 2,
            "{name} in the tests"
        );
    }
    let sections = runbook.lines().filter(|line| line.starts_with("## "));
    ensure!(
        sections.count() == names.len(),
        "a section without an alert"
    );
    Ok(())
}

#[test]
fn alerts_ask_for_metrics_that_there_are() -> Result<()> {
    let alerts = fs::read_to_string(root().join(ALERTS))?;
    let metrics = fs::read_to_string(root().join("docs/metrics.md"))?;
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = alerts.split(|character| !is_part(character));
    let asked = words.filter(|word| word.starts_with("sluice_") || word.starts_with("nginx_"));
    let mut count = 0;
    for name in asked {
        let series = name.trim_end_matches("_bucket");
        ensure!(
            metrics.contains(&format!("| `{series}` |")),
            "no metric `{series}`"
        );
        count += 1;
    }
    ensure!(count > 15, "{count} metrics");
    Ok(())
}

#[test]
fn chart_and_overlay_have_the_same_alerts() -> Result<()> {
    let without_comments = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let chart = fs::read_to_string(root().join(ALERTS))?;
    let chart = without_comments(&chart);
    let overlay = root().join("deploy/kustomize/overlays/prometheus/rules.yaml");
    let overlay = fs::read_to_string(overlay)?;
    let (_, rules) = overlay.split_once("spec:\n").context("it has a spec")?;
    let overlay: Vec<_> = rules
        .lines()
        .map(|line| line.get(2..).unwrap_or("").to_owned())
        .collect();
    assert_eq!(overlay, chart);
    Ok(())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

const ALERTS: &str = "deploy/helm/sluice/files/alerts.yaml";
const TESTS: &str = "deploy/prometheus/tests.yaml";

//! `sluice check`: everything that is wrong with objects, without serving them.

mod compare;
mod report;

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, ensure};
use ingress_core::diagnostic::{Diagnostic, Reason, Severity};
use ingress_core::translate::translate;
use serde_json::json;

use super::objects;
use crate::proxy::{DefaultCertificate, Table};
use crate::settings::{Check, ReportFormat};
use crate::source::Observation;

/// Gives the findings, and whether everything can be served.
pub async fn run(flags: &Check) -> Result<(String, bool)> {
    let is_cluster = flags.objects.cluster;
    ensure!(
        is_cluster || !flags.objects.files.is_empty(),
        "nothing to check: name files, or --cluster"
    );
    let is_unclassed_ours = flags.meaning.watch_ingress_without_class;
    let options = flags
        .meaning
        .options(is_unclassed_ours.unwrap_or(!is_cluster), None);
    let mut observation = if is_cluster {
        objects::of_cluster(&flags.api_server, &options).await?
    } else {
        objects::of_manifests(&flags.objects.files)?
    };
    objects::look_up_names(&mut observation, &options).await;
    let Observation {
        snapshot,
        diagnostics: mut found,
        problems,
    } = observation;
    let translation = translate(&snapshot, &options);
    if let (Some(old), Some(new)) = (&flags.compare, &flags.compare_with) {
        let probes = compare::probes(&translation.config);
        return Ok((compare::run(&probes, old, new).await?, true));
    }
    found.extend(translation.diagnostics);
    found.extend(certificate_findings(translation.config)?);
    found.sort_unstable();
    found.dedup();
    let accepted = translation.accepted.len();
    let is_faultless =
        problems.is_empty() && found.iter().all(|one| one.severity() != Severity::Error);
    // A directory whose Ingresses are all of another class is hardly what was meant.
    let is_of_others = accepted == 0 && found.iter().any(|one| one.reason == Reason::UnknownClass);
    let is_faultless = is_faultless && !is_of_others;
    let text = match flags.output {
        ReportFormat::Text => text(&found, &problems, accepted),
        ReportFormat::Table => report::table(&report::entries(&snapshot, &options, &found)),
        ReportFormat::Markdown => report::markdown(&report::entries(&snapshot, &options, &found)),
        ReportFormat::Json => {
            let entries = report::entries(&snapshot, &options, &found);
            json(&found, &problems, accepted, &entries)?
        }
    };
    Ok((text, is_faultless))
}

/// What the TLS library says of the certificates.
fn certificate_findings(config: ingress_core::ir::Config) -> Result<Vec<Diagnostic>> {
    let default = DefaultCertificate::generate()?;
    let (_, problems) = Table::build(None, Arc::new(config), 1, &default);
    Ok(problems.into_iter().map(Diagnostic::from).collect())
}

fn text(found: &[Diagnostic], problems: &[String], accepted: usize) -> String {
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "error: {problem}");
    }
    for diagnostic in found {
        let _ = writeln!(out, "{diagnostic}");
    }
    let errors = found
        .iter()
        .filter(|one| one.severity() == Severity::Error)
        .count();
    let errors = errors + problems.len();
    let warnings = found
        .iter()
        .filter(|one| one.severity() == Severity::Warning)
        .count();
    let _ = writeln!(
        out,
        "{}: {}, {}",
        count(accepted, "Ingress", "Ingresses"),
        count(errors, "error", "errors"),
        count(warnings, "warning", "warnings"),
    );
    out
}

fn count(number: usize, one: &str, several: &str) -> String {
    let noun = if number == 1 { one } else { several };
    format!("{number} {noun}")
}

fn json(
    found: &[Diagnostic],
    problems: &[String],
    accepted: usize,
    entries: &[report::Entry],
) -> Result<String> {
    let findings = found.iter().map(|one| {
        json!({
            "severity": one.severity().to_string(),
            "kind": one.object.kind,
            "namespace": &*one.object.namespace,
            "name": &*one.object.name,
            "field": one.field,
            "reason": one.reason.as_str(),
            "message": one.message,
        })
    });
    let all = json!({
        "ingresses": accepted,
        "results": report::json(entries),
        "findings": findings.collect::<Vec<_>>(),
        "problems": problems,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

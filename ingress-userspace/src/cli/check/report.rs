//! The report of `check`: which Ingresses would be served as before, differently, or not at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ingress_core::diagnostic::{Diagnostic, Severity};
use ingress_core::ir::{Config, HostPattern, ObjectRef};
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Compat, Options, translate};
use serde_json::{Value, json};

/// How Sluice would serve an Ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Everything that it asks for.
    Supported,
    /// Served, and something is done differently or left out.
    Differs,
    /// Something is not served, or answered with an error.
    Refused,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Differs => "differs",
            Self::Refused => "refused",
        }
    }
}

/// One Ingress and what is to be known about it.
pub(super) struct Entry {
    pub(super) object: ObjectRef,
    pub(super) verdict: Verdict,
    pub(super) notes: Vec<String>,
}

/// All Ingresses of ours, by namespace and name.
pub(super) fn entries(snapshot: &Snapshot, options: &Options, found: &[Diagnostic]) -> Vec<Entry> {
    let accepted = translate(snapshot, options).accepted;
    let mut entries: BTreeMap<ObjectRef, Entry> = accepted
        .iter()
        .map(|ingress| {
            let object = ingress.meta.reference("Ingress");
            let entry = Entry {
                object: object.clone(),
                verdict: Verdict::Supported,
                notes: Vec::new(),
            };
            (object, entry)
        })
        .collect();
    for diagnostic in found {
        let Some(entry) = entries.get_mut(&diagnostic.object) else {
            continue;
        };
        let verdict = match diagnostic.severity() {
            Severity::Error => Verdict::Refused,
            Severity::Warning => Verdict::Differs,
        };
        entry.verdict = entry.verdict.max(verdict);
        let field = &diagnostic.field;
        entry.notes.push(format!("{field}: {}", diagnostic.message));
    }
    for (object, note) in compat_differences(snapshot, options) {
        if let Some(entry) = entries.get_mut(&object) {
            entry.verdict = entry.verdict.max(Verdict::Differs);
            entry.notes.push(note);
        }
    }
    entries.into_values().collect()
}

/// Ingresses whose paths mean something else by the specification than with ingress-nginx.
fn compat_differences(snapshot: &Snapshot, options: &Options) -> Vec<(ObjectRef, String)> {
    let config = |compat| {
        let options = Options {
            compat,
            ..options.clone()
        };
        translate(snapshot, &options).config
    };
    let (strict, nginx) = (config(Compat::Strict), config(Compat::IngressNginx));
    let mut differences = Vec::new();
    for (host, rules) in &*nginx.hosts {
        for rule in &rules.rules {
            if has_rule(&strict, host, rule) {
                continue;
            }
            let path = &rule.origin.path;
            let note = format!(
                "host `{host}` path `{path}`: an expression with --compat=ingress-nginx, a path \
                 with --compat=strict"
            );
            differences.push((rule.origin.ingress.clone(), note));
        }
    }
    differences
}

fn has_rule(config: &Config, host: &HostPattern, rule: &ingress_core::ir::Rule) -> bool {
    let rules = config.hosts.get(host);
    rules.is_some_and(|rules| rules.rules.iter().any(|one| one.matches == rule.matches))
}

/// Numbers of supported, different and refused Ingresses.
fn totals(entries: &[Entry]) -> [usize; 3] {
    let verdicts = [Verdict::Supported, Verdict::Differs, Verdict::Refused];
    verdicts.map(|verdict| {
        let of_it = entries.iter().filter(|entry| entry.verdict == verdict);
        of_it.count()
    })
}

/// A table for a terminal.
pub(super) fn table(entries: &[Entry]) -> String {
    let name = |entry: &Entry| format!("{}/{}", entry.object.namespace, entry.object.name);
    let width = entries.iter().map(|entry| name(entry).len()).max();
    let width = width.unwrap_or_default().max("INGRESS".len());
    let mut text = format!("{:width$}  {:9}  NOTE\n", "INGRESS", "RESULT");
    for entry in entries {
        let mut notes = entry.notes.iter();
        let first = notes.next().map_or("", String::as_str);
        let verdict = entry.verdict.name();
        let line = format!("{:width$}  {verdict:9}  {first}", name(entry));
        let _ = writeln!(text, "{}", line.trim_end());
        for note in notes {
            let _ = writeln!(text, "{:width$}  {:9}  {note}", "", "");
        }
    }
    let [supported, differs, refused] = totals(entries);
    let _ = writeln!(
        text,
        "\n{} in all: {supported} supported, {differs} differ, {refused} refused",
        entries.len()
    );
    text
}

/// A report to hand on.
pub(super) fn markdown(entries: &[Entry]) -> String {
    let [supported, differs, refused] = totals(entries);
    let mut text = format!(
        "# Ingresses\n\n| supported | differ | refused | all |\n|---|---|---|---|\n\
         | {supported} | {differs} | {refused} | {} |\n\n| Ingress | result | notes |\n|---|---|---|\n",
        entries.len()
    );
    for entry in entries {
        let notes = entry.notes.join("<br>").replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {}/{} | {} | {notes} |",
            entry.object.namespace,
            entry.object.name,
            entry.verdict.name()
        );
    }
    text
}

/// The same for programs.
pub(super) fn json(entries: &[Entry]) -> Value {
    let all = entries.iter().map(|entry| {
        json!({
            "namespace": &*entry.object.namespace,
            "name": &*entry.object.name,
            "result": entry.verdict.name(),
            "notes": entry.notes,
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, verdict: Verdict, notes: &[&str]) -> Entry {
        Entry {
            object: ObjectRef {
                kind: "Ingress",
                namespace: "shop".into(),
                name: name.into(),
            },
            verdict,
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        }
    }

    #[test]
    fn reports_have_a_line_for_each_note_and_totals() {
        let entries = [
            entry("a", Verdict::Supported, &[]),
            entry("long-name", Verdict::Refused, &["one", "a|b"]),
        ];
        let expected = "\
INGRESS         RESULT     NOTE
shop/a          supported
shop/long-name  refused    one
                           a|b

2 in all: 1 supported, 0 differ, 1 refused
";
        assert_eq!(table(&entries), expected);
        let markdown = markdown(&entries);
        assert!(markdown.contains("| 1 | 0 | 1 | 2 |"), "{markdown}");
        assert!(
            markdown.contains("| shop/long-name | refused | one<br>a\\|b |"),
            "{markdown}"
        );
    }
}

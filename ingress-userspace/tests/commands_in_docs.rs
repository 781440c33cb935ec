//! Every command of `sluice` and `kubectl sluice` in the documentation is one that the program takes, with the flags
//! that it names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use ingress_userspace::settings::CommandLine;
use ingress_userspace::settings::plugin::Plugin;

#[test]
fn commands_in_the_documentation_are_valid() {
    let mut faults = Vec::new();
    let mut count = 0;
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        for command in commands(&text) {
            count += 1;
            if let Err(fault) = check(&command) {
                faults.push(format!("{}: `{command}`: {fault}", file.display()));
            }
        }
    }
    assert!(count > 60, "only {count} commands were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The documentation that users read.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension() == Some("md".as_ref()));
    let others = [
        "README.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
    ];
    docs.chain(others.map(|name| root.join(name))).collect()
}

/// Commands in fenced blocks, by their lines, and in spans of code.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in text.split("\n```").enumerate() {
        if number % 2 == 1 {
            let lines = part.replace("\\\n", " ");
            // Not the lines of a picture.
            let lines = lines.lines().filter(|line| !line.contains('─'));
            found.extend(lines.flat_map(in_line));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            let spans = spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
            found.extend(spans.filter(|span| is_ours(span)));
        }
    }
    found
}

fn is_ours(command: &str) -> bool {
    command.starts_with("sluice ") || command.starts_with("kubectl sluice ")
}

/// The commands of a line of shell.
fn in_line(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split([';', '|', '>', '&']);
    let parts = parts.map(|part| {
        let part = part.trim().trim_start_matches("$ ");
        part.trim_start_matches("if ").trim().to_owned()
    });
    parts.filter(|part| is_ours(part)).collect()
}

fn check(command: &str) -> Result<(), String> {
    let words: Vec<String> = command
        .split_whitespace()
        .map(|word| word.trim_end_matches('…').trim_end_matches(','))
        .filter(|word| !word.is_empty())
        .map(|word| word.trim_matches(['\'', '"', '[', ']']).to_owned())
        .map(|word| {
            PLACEHOLDERS
                .iter()
                .fold(word, |word, (from, to)| word.replace(from, to))
        })
        .collect();
    let parsed = match words.split_first() {
        Some((first, rest)) if first == "kubectl" => {
            let names = ["kubectl-sluice".to_owned()].into_iter();
            let plugin = Plugin::try_parse_from(names.chain(rest[1..].iter().cloned()));
            plugin.and_then(|plugin| {
                let names = ["sluice".to_owned()].into_iter();
                CommandLine::try_parse_from(names.chain(plugin.verb)).map(drop)
            })
        }
        _ => CommandLine::try_parse_from(&words).map(drop),
    };
    match parsed.map_err(|error| (error.kind(), error.to_string())) {
        Ok(()) | Err((ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _)) => Ok(()),
        // The name of a verb, not a command to type.
        Err((ErrorKind::MissingRequiredArgument, _)) if words.len() == 2 => Ok(()),
        Err((_, text)) => Err(text.lines().next().unwrap_or_default().to_owned()),
    }
}

/// Placeholders for values that users choose, each with a valid value.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("VERB", "status"),
    ("ADDRESS", "192.0.2.1"),
    ("CIDR", "192.0.2.0/24"),
    ("SECONDS", "10"),
];

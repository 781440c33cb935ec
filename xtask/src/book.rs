//! The verb `book`: the documentation as a book that browsers show, and the check of its links.
//!
//! The pages are those of the repository, at the same places, so that their links work in both.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compile;
use crate::setup::{self, MDBOOK};
use crate::shell::{root, say, step};

/// Checks all links and builds the book.
pub(crate) fn run() -> Result<()> {
    setup::mdbook()?;
    let directory = compile::target().join("book");
    let source = directory.join("src");
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    let pages = pages()?;
    let faults = faults(&pages)?;
    if !faults.is_empty() {
        bail!(
            "{} faults in the book\n  {}",
            faults.len(),
            faults.join("\n  ")
        );
    }
    for page in &pages {
        let to = source.join(page);
        fs::create_dir_all(to.with_file_name(""))?;
        fs::copy(root().join(page), to)?;
    }
    // Links of the summary are relative to the root of the book.
    let summary = fs::read_to_string(root().join(SUMMARY))?;
    let summary = summary.replace("](", "](docs/").replace("](docs/../", "](");
    fs::write(source.join("SUMMARY.md"), summary)?;
    fs::write(directory.join("book.toml"), BOOK)?;
    let mut build = Command::new("mdbook");
    build.args(["build", "--dest-dir"]);
    build.arg(directory.join("html")).arg(&directory);
    step(&format!("build the book with mdbook {MDBOOK}"), &mut build)?;
    say(&format!(
        "    {}",
        directory.join("html/index.html").display()
    ));
    Ok(())
}

/// All pages, by their paths in the repository.
fn pages() -> Result<BTreeSet<PathBuf>> {
    let mut pages: BTreeSet<PathBuf> = ROOT_PAGES.iter().map(PathBuf::from).collect();
    for entry in fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        let name = path.file_name().context("a directory has names")?;
        if path.extension().is_some_and(|it| it == "md") && name != "SUMMARY.md" {
            pages.insert(Path::new("docs").join(name));
        }
    }
    Ok(pages)
}

/// The faults of the summary and of links.
fn faults(pages: &BTreeSet<PathBuf>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let summary = fs::read_to_string(root().join(SUMMARY))?;
    let listed: BTreeSet<_> = links(&summary)
        .filter_map(|link| resolve(Path::new(SUMMARY), link.split('#').next()?))
        .collect();
    for page in pages.difference(&listed) {
        faults.push(format!("{SUMMARY} does not list {}", page.display()));
    }
    for page in pages.iter().chain([&PathBuf::from(SUMMARY)]) {
        let text = fs::read_to_string(root().join(page))?;
        for link in links(&text).filter(|link| !link.contains("://")) {
            faults.extend(fault(page, link)?);
        }
    }
    Ok(faults)
}

/// The fault of a link of a page, if it has one.
fn fault(page: &Path, link: &str) -> Result<Option<String>> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        Some(page.to_owned())
    } else {
        resolve(page, path)
    };
    let Some(target) = target.filter(|target| root().join(target).exists()) else {
        return Ok(Some(format!("{}: {link} leads nowhere", page.display())));
    };
    if anchor.is_empty() || target.extension().is_none_or(|it| it != "md") {
        return Ok(None);
    }
    let text = fs::read_to_string(root().join(&target))?;
    let is_there = anchors(&text).any(|known| known == anchor);
    Ok((!is_there).then(|| format!("{}: {link} names no heading", page.display())))
}

/// The targets of links and pictures, outside code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    let prose = text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    let spans = prose.flat_map(|line| line.split('`').step_by(2));
    let links = spans.flat_map(|span| span.split("](").skip(1));
    // A link's text may be code, which ends the span before it.
    links.filter_map(|link| link.split_once(')').map(|(target, _)| target))
}

/// The anchors of headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|heading| {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    })
}

/// A relative path of a page, from the root of the repository; `None` if it leads out of it.
fn resolve(page: &Path, path: &str) -> Option<PathBuf> {
    let mut resolved = page.with_file_name("");
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                if !resolved.pop() {
                    return None;
                }
            }
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved.components().collect())
}

const SUMMARY: &str = "docs/SUMMARY.md";
const ROOT_PAGES: [&str; 5] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
];
const BOOK: &str = "[book]
title = \"Sluice\"
language = \"en\"
src = \"src\"

[output.html]
no-section-label = true
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_do_not_count() {
        let text = "[a](b.md) `[c](d.md)` [`e`](f.md#g)\n```\n[h](i.md)\n```\n";
        assert_eq!(links(text).collect::<Vec<_>>(), ["b.md", "f.md#g"]);
    }

    #[test]
    fn headings_have_the_anchors_that_readers_link_to() {
        let found: Vec<_> = anchors("# Start in ten minutes\ntext\n## kubectl sluice\n").collect();
        assert_eq!(found, ["start-in-ten-minutes", "kubectl-sluice"]);
    }

    #[test]
    fn paths_are_resolved_within_the_repository() {
        let resolve = |path| resolve(Path::new("docs/a.md"), path);
        assert_eq!(resolve("b.md"), Some("docs/b.md".into()));
        assert_eq!(resolve("../README.md"), Some("README.md".into()));
        assert_eq!(resolve("../../etc/passwd"), None);
    }
}

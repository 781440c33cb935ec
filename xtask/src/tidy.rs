//! Layout and dependency rules that the compiler does not know: those of ARCHITECTURE.md.

mod floors;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{output, root, say};

/// Checks all Rust files that git knows.
pub(crate) fn run() -> Result<()> {
    let mut faults = Vec::new();
    let mut files = Vec::new();
    for file in rust_files()? {
        let text = fs::read_to_string(root().join(&file))
            .with_context(|| format!("failed to read {}", file.display()))?;
        faults.extend(check(&file, &text));
        files.push((file, text));
    }
    let (climbing, circle) = floors::check(&files);
    faults.extend(climbing);
    if faults.is_empty() {
        say(&format!(
            "==> tidy: {} files, {circle} in the largest import circle",
            files.len()
        ));
        return Ok(());
    }
    bail!("{} faults\n  {}", faults.len(), faults.join("\n  "))
}

fn rust_files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let listed = output(&mut git).context("git did not list the files")?;
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect())
}

/// The faults of one file.
fn check(path: &Path, text: &str) -> Vec<String> {
    let name = path.display();
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX && !is_test(path) {
        faults.push(format!(
            "{name}: {lines} lines, at most {LINES_MAX} are allowed"
        ));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{name}: does not open with `//!`"));
    }
    if path.file_name().is_some_and(|file| file == "mod.rs") {
        faults.push(format!(
            "{name}: modules are named after their file, not mod.rs"
        ));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for rule in RULES {
            if rule.applies_to(path) && rule.forbidden.iter().any(|word| names(code, word)) {
                faults.push(format!("{name}:{number}: {}", rule.reason));
            }
        }
        for word in BANNED_TYPE_NAMES {
            if declares_type_ending_in(code, word) {
                faults.push(format!(
                    "{name}:{number}: a type named …{word} says nothing"
                ));
            }
        }
    }
    faults
}

/// Whether code names `word` outside of a string.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = &code[..at];
        before.matches('"').count().is_multiple_of(2)
    })
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

fn declares_type_ending_in(code: &str, word: &str) -> bool {
    let code = code.strip_prefix("pub ").unwrap_or(code);
    ["struct ", "enum ", "trait "].iter().any(|keyword| {
        code.strip_prefix(keyword).is_some_and(|rest| {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            name.ends_with(word)
        })
    })
}

/// What files below a path must not name.
struct Rule {
    below: &'static str,
    forbidden: &'static [&'static str],
    reason: &'static str,
}

impl Rule {
    fn applies_to(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        // `proxy` stands for `proxy.rs` and everything in `proxy/`.
        path.strip_prefix(self.below)
            .is_some_and(|rest| rest.starts_with(['.', '/']))
    }
}

const LINES_MAX: usize = 500;

const BANNED_TYPE_NAMES: [&str; 5] = ["Manager", "Handler", "Util", "Helper", "Data"];

const RULES: &[Rule] = &[
    Rule {
        below: "ingress-core/src",
        forbidden: &[
            "std::net::Tcp",
            "std::fs",
            "std::env",
            "std::time::Instant",
            "SystemTime",
            "std::thread",
            "tokio",
            "hyper::",
            "kube::",
            "aya::",
            "rustls::",
        ],
        reason: "core decides and does no I/O",
    },
    Rule {
        below: "ingress-core/src/ir",
        forbidden: &[
            "crate::route",
            "crate::translate",
            "crate::snapshot",
            "k8s_openapi",
        ],
        reason: "ir imports nothing of ours and no Kubernetes type",
    },
    Rule {
        below: "ingress-core/src/route",
        forbidden: &["crate::translate", "crate::snapshot", "k8s_openapi"],
        reason: "route knows the intermediate representation only",
    },
    Rule {
        below: "ingress-core/src/plan",
        forbidden: &[
            "crate::translate",
            "crate::snapshot",
            "crate::route",
            "k8s_openapi",
        ],
        reason: "plan knows the intermediate representation only",
    },
    Rule {
        below: "ingress-userspace/src/source",
        forbidden: &["crate::control", "crate::datapath", "crate::proxy"],
        reason: "source, control, datapath and proxy never import each other",
    },
    Rule {
        below: "ingress-userspace/src/control",
        forbidden: &["crate::source", "crate::datapath", "crate::proxy"],
        reason: "source, control, datapath and proxy never import each other",
    },
    Rule {
        below: "ingress-userspace/src/datapath",
        forbidden: &["crate::source", "crate::control", "crate::proxy"],
        reason: "source, control, datapath and proxy never import each other",
    },
    Rule {
        below: "ingress-userspace/src/proxy",
        forbidden: &["crate::source", "crate::control", "crate::datapath"],
        reason: "source, control, datapath and proxy never import each other",
    },
    Rule {
        below: "xtask/src",
        forbidden: &["ingress_core::", "ingress_userspace::", "ingress_common::"],
        reason: "xtask depends on none of our crates",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> usize {
        check(Path::new(path), text).len()
    }

    #[test]
    fn a_file_without_a_header_is_a_fault() {
        assert_eq!(faults("a/src/b.rs", "fn f() {}\n"), 1);
        assert_eq!(faults("a/src/b.rs", "//! What it is for.\nfn f() {}\n"), 0);
    }

    #[test]
    fn core_must_not_do_io() {
        let text = "//! Header.\nuse std::fs;\n";
        assert_eq!(faults("ingress-core/src/route.rs", text), 1);
        assert_eq!(faults("ingress-userspace/src/app.rs", text), 0);
    }

    #[test]
    fn neighbours_in_userspace_must_not_meet() {
        let text = "//! Header.\nuse crate::proxy::Table;\n";
        assert_eq!(
            faults("ingress-userspace/src/control/reconcile.rs", text),
            1
        );
        assert_eq!(faults("ingress-userspace/src/control.rs", text), 1);
        assert_eq!(faults("ingress-userspace/src/app.rs", text), 0);
    }

    #[test]
    fn a_long_file_is_a_fault_unless_it_is_a_test() {
        let text = format!("//! Header.\n{}", "x\n".repeat(LINES_MAX));
        assert_eq!(faults("a/src/b.rs", &text), 1);
        assert_eq!(faults("a/tests/b.rs", &text), 0);
    }

    #[test]
    fn empty_names_are_faults() {
        assert_eq!(
            faults("a/src/b.rs", "//! Header.\npub struct PoolManager;\n"),
            1
        );
        assert_eq!(faults("a/src/b.rs", "//! Header.\npub struct Pool;\n"), 0);
    }
}

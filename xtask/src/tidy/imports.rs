//! Lists the imports between the files of a crate.
//!
//! Reads `use` items and paths in code that begin with `crate`, `super`, `self` or a child module. A
//! path belongs to the file of its longest prefix that is a module; declarations (`mod`) are no
//! imports, and the inline tests at the end of a file are free to use what they need.

use std::collections::{BTreeMap, BTreeSet};

/// The files of one crate, by their module path (`""` for the root).
pub(super) struct Crate<'a> {
    /// Text of each module.
    modules: BTreeMap<String, &'a str>,
}

/// An import of one module by another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: String,
    pub(super) to: String,
}

impl<'a> Crate<'a> {
    /// The crate whose sources are at these paths below `src/`.
    pub(super) fn new(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let modules = files.into_iter().map(|(path, text)| {
            let name = path.trim_end_matches(".rs");
            let name = if matches!(name, "lib" | "main") {
                ""
            } else {
                name
            };
            (name.replace('/', "::"), text)
        });
        Self {
            modules: modules.collect(),
        }
    }

    /// Every import of another file, once.
    pub(super) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (from, text) in &self.modules {
            let code = without_comments(without_tests(text));
            for path in paths(&code) {
                if let Some(to) = self.resolve(from, &path)
                    && to != *from
                {
                    let from = from.clone();
                    imports.insert(Import { from, to });
                }
            }
        }
        imports
    }

    /// The module that a path in `from` leads to, if it is one of this crate.
    fn resolve(&self, from: &str, path: &[String]) -> Option<String> {
        let mut base: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
        let mut rest = path.iter().map(String::as_str).peekable();
        match rest.peek().copied()? {
            "crate" => {
                base.clear();
                rest.next();
            }
            "self" => drop(rest.next()),
            "super" => {
                while rest.next_if_eq(&"super").is_some() {
                    base.pop();
                }
            }
            child => {
                let mut module = base.clone();
                module.push(child);
                if !self.modules.contains_key(&module.join("::")) {
                    return None;
                }
            }
        }
        for part in rest {
            base.push(part);
            if !self.modules.contains_key(&base.join("::")) {
                base.pop();
                break;
            }
        }
        Some(base.join("::"))
    }
}

/// The largest set of files of which each imports each other one, directly or not.
pub(super) fn largest_circle(imports: &BTreeSet<Import>) -> Vec<String> {
    let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Import { from, to } in imports {
        targets.entry(from).or_default().push(to);
    }
    let reach = |start: &str| -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = targets.get(start).into_iter().flatten().copied().collect();
        while let Some(module) = open.pop() {
            if found.insert(module.to_owned()) {
                open.extend(targets.get(module).into_iter().flatten());
            }
        }
        found
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = targets
        .keys()
        .map(|module| (*module, reach(module)))
        .collect();
    let circle_of = |module: &str| -> Vec<String> {
        let others = reached.get(module).into_iter().flatten();
        let comes_back = |other: &&String| {
            let back = reached.get(other.as_str());
            back.is_some_and(|back| back.contains(module))
        };
        others.filter(comes_back).cloned().collect()
    };
    let circles = reached.keys().map(|module| circle_of(module));
    circles.max_by_key(Vec::len).unwrap_or_default()
}

/// The text before the inline tests of a file.
fn without_tests(text: &str) -> &str {
    let mut marks = text.match_indices("\n#[cfg(test)]\nmod ");
    let tests = marks.find(|(at, mark)| {
        let name = &text[at + mark.len()..];
        name.find(['{', ';'])
            .is_some_and(|end| name[end..].starts_with('{'))
    });
    tests.map_or(text, |(at, _)| &text[..at])
}

/// The text without comments, as far as a line tells them.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let end = line
            .match_indices("//")
            .map(|(at, _)| at)
            .find(|at| line[..*at].matches('"').count().is_multiple_of(2));
        code.push_str(&line[..end.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

/// All paths that may lead to another file.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = code;
    while let Some((before, item)) = split_use(rest) {
        all.extend(paths_in_code(before));
        let (tree, after) = item.split_once(';').unwrap_or((item, ""));
        flatten(&[], tree, &mut all);
        rest = after;
    }
    all.extend(paths_in_code(rest));
    all
}

/// Splits before and after the next `use` that begins an item.
fn split_use(code: &str) -> Option<(&str, &str)> {
    code.match_indices("use ").find_map(|(at, word)| {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let is_item = line.is_empty() || line.starts_with("pub");
        is_item.then(|| (&code[..at], &code[at + word.len()..]))
    })
}

/// Paths outside of `use` items that say where they begin.
fn paths_in_code(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_start = !code[..at].ends_with(|c| is_word(c) || c == ':');
            if is_start {
                let end = code[at..].find(|c| !is_word(c) && c != ':');
                let path = &code[at..end.map_or(code.len(), |end| at + end)];
                found.push(segments(path));
            }
        }
    }
    found
}

/// The paths of a tree such as `a::{b, c::{d, e}}`.
fn flatten(prefix: &[String], tree: &str, into: &mut Vec<Vec<String>>) {
    for branch in split_branches(tree) {
        let (path, inner) = match branch.split_once('{') {
            Some((path, inner)) => (path, inner.rsplit_once('}').map(|(inner, _)| inner)),
            None => (branch, None),
        };
        let path = path.split(" as ").next().unwrap_or_default();
        let mut whole = prefix.to_vec();
        whole.extend(segments(path));
        match inner {
            Some(inner) => flatten(&whole, inner, into),
            None => into.push(whole),
        }
    }
}

/// The branches of a list, which are separated by the commas outside of braces.
fn split_branches(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let separates = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    let branches = list.split(separates).map(str::trim);
    branches.filter(|branch| !branch.is_empty()).collect()
}

fn segments(path: &str) -> Vec<String> {
    let parts = path.split("::").map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let all = Crate::new(files.iter().copied()).imports();
        all.into_iter()
            .map(|import| (import.from, import.to))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        expected.iter().map(owned).collect()
    }

    #[test]
    fn a_path_belongs_to_the_longest_module_that_it_names() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b::{self, c::{D, E as F}, G};\n"),
            ("b.rs", "mod c;\npub use c::D;\n"),
            (
                "b/c.rs",
                "use super::G;\n// use crate::a::X;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
            ),
        ];
        assert_eq!(
            imports(&files),
            pairs(&[("a", "b"), ("a", "b::c"), ("b", "b::c"), ("b::c", "b")])
        );
    }

    #[test]
    fn paths_in_code_are_imports_too() {
        let files = [
            ("main.rs", "fn main() { crate::a::run() }\n"),
            ("a.rs", "fn f() -> super::b::X { std::mem::take(x) }\n"),
            ("b.rs", ""),
        ];
        assert_eq!(imports(&files), pairs(&[("", "a"), ("a", "b")]));
    }

    #[test]
    fn a_circle_has_every_file_that_leads_back_to_itself() {
        let import = |from: &str, to: &str| Import {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let mut all = BTreeSet::from([import("a", "b"), import("b", "c"), import("d", "a")]);
        assert!(largest_circle(&all).is_empty());
        all.insert(import("c", "a"));
        assert_eq!(largest_circle(&all), ["a", "b", "c"]);
    }
}

//! The floors of the proxy, and the bound of import circles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::imports::{Crate, Import, largest_circle};

/// The floors of `ingress-userspace/src/proxy/`, the lowest first. A floor imports from those below.
const FLOORS: [&str; 9] = [
    "runtime",
    "observe",
    "tls",
    "table",
    "upstream",
    "l4",
    "request",
    "downstream",
    "worker",
];

/// The parts of user space, except `app`, which builds and connects them.
const NEIGHBOURS: [&str; 5] = ["acme", "source", "control", "datapath", "proxy"];

const USERSPACE: &str = "ingress-userspace";

/// Files of the largest import circle of a crate.
const CIRCLE_MAX: usize = 18;

/// The faults of all crates, and the size of the largest circle.
pub(super) fn check(files: &[(PathBuf, String)]) -> (Vec<String>, usize) {
    let mut crates: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (path, text) in files {
        if let Some((name, file)) = source_of(path) {
            crates.entry(name).or_default().push((file, text));
        }
    }
    let mut faults = Vec::new();
    let mut largest = 0;
    for (name, files) in crates {
        let imports = Crate::new(files).imports();
        let climbing = imports.iter().filter(|import| climbs(import));
        faults.extend(climbing.map(|import| {
            let Import { from, to } = import;
            format!("{name}: {from} imports {to}, which is on a higher floor")
        }));
        let meeting = imports
            .iter()
            .filter(|import| name == USERSPACE && meets(import));
        faults.extend(meeting.map(|import| {
            let Import { from, to } = import;
            format!("{name}: {from} imports {to}; neighbours never import each other")
        }));
        let circle = largest_circle(&imports);
        largest = largest.max(circle.len());
        if circle.len() > CIRCLE_MAX {
            faults.push(format!(
                "{name}: {} files import each other, at most {CIRCLE_MAX} may: {}",
                circle.len(),
                circle.join(" ")
            ));
        }
    }
    (faults, largest)
}

/// The crate of a source file, and its path below `src`.
fn source_of(path: &Path) -> Option<(&str, &str)> {
    let (name, file) = path.to_str()?.split_once("/src/")?;
    (!name.contains('/') && !file.starts_with("bin/")).then_some((name, file))
}

/// Whether an import leads from one of the neighbours to another one.
fn meets(import: &Import) -> bool {
    let neighbour = |module: &str| {
        let name = module.split("::").next()?;
        NEIGHBOURS.iter().position(|neighbour| *neighbour == name)
    };
    let from = neighbour(&import.from);
    from.is_some() && neighbour(&import.to).is_some_and(|to| from != Some(to))
}

/// Whether an import leads to a higher floor of the proxy, or to the proxy's front door.
fn climbs(import: &Import) -> bool {
    let floor = |module: &str| {
        let inner = module.strip_prefix("proxy::")?;
        let name = inner.split("::").next()?;
        FLOORS.iter().position(|floor| *floor == name)
    };
    let Some(from) = floor(&import.from) else {
        return false;
    };
    import.to == "proxy" || floor(&import.to).is_some_and(|to| to > from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> usize {
        let file = |path: &str, text: &str| {
            let path = format!("ingress-userspace/src/{path}");
            (PathBuf::from(path), text.to_owned())
        };
        let files = [
            file("proxy.rs", ""),
            file("proxy/upstream.rs", ""),
            file("proxy/upstream/pool.rs", text),
            file("proxy/request.rs", ""),
            file("proxy/request/route.rs", ""),
            file("proxy/runtime.rs", ""),
            file("proxy/runtime/timer.rs", ""),
        ];
        check(&files).0.len()
    }

    #[test]
    fn a_floor_imports_from_lower_floors_only() {
        assert_eq!(faults("use crate::proxy::runtime::timer::Timers;\n"), 0);
        assert_eq!(faults("use crate::proxy::request::route::route;\n"), 1);
        assert_eq!(faults("use super::super::request::route::route;\n"), 1);
        assert_eq!(faults("fn f() { crate::proxy::request::route::f() }\n"), 1);
    }

    #[test]
    fn neighbours_do_not_meet_by_super_either() {
        let faults = |text: &str| {
            let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
            let files = [
                file("ingress-userspace/src/control/report.rs", text),
                file("ingress-userspace/src/datapath.rs", ""),
                file("ingress-userspace/src/app.rs", ""),
            ];
            check(&files).0.len()
        };
        assert_eq!(faults("use super::super::datapath::X;\n"), 1);
        assert_eq!(faults("use super::super::app::X;\n"), 0);
    }

    #[test]
    fn too_many_files_that_import_each_other_are_a_fault() {
        let ring = |count: usize| {
            let file = |number: usize| {
                let next = (number + 1) % count;
                let path = PathBuf::from(format!("a/src/m{number}.rs"));
                (path, format!("use crate::m{next}::X;\n"))
            };
            check(&(0..count).map(file).collect::<Vec<_>>())
        };
        assert_eq!(ring(CIRCLE_MAX), (Vec::new(), CIRCLE_MAX));
        assert_eq!(ring(CIRCLE_MAX + 1).0.len(), 1);
    }
}

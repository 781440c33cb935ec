//! Which rule a request belongs to: `location` blocks as ingress-nginx writes them for `Prefix` and
//! `Exact` paths, and the route table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use ingress_core::ir::{
    HostPattern, HostRules, ObjectRef, PathPattern, RoutePolicy, Rule, RuleOrigin, Target,
};
use ingress_core::route::{RouteTable, normalise};

use nginx_rig::{Nginx, Random};

/// At least this many pairs of a location set and a path are compared.
const PAIRS: usize = 100_000;
const SETS: usize = 100;

/// At least this many of the paths belong to a rule.
const MATCHED_MIN: usize = 20_000;

/// The pieces of rules: all that nginx decodes, resolves or could take for an expression.
const NAMES: &[&str] = &["a", "b", "ab", "A", "a-b", "a_b", "c.d", "a.b", "~a"];

#[test]
fn rules_are_chosen_as_nginx_chooses_locations() {
    let mut random = Random(1);
    let mut compared = 0;
    let (mut refused, mut matched) = (0, 0);
    for _ in 0..SETS {
        let rules = rules(&mut random);
        let nginx = Nginx::start(&config(&rules));
        let table = table(&rules);
        let paths: Vec<String> = (0..PAIRS / SETS).map(|_| path(&mut random)).collect();
        let requests: Vec<String> = paths
            .iter()
            .map(|path| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .collect();
        for (path, answer) in paths.iter().zip(nginx.ask(&requests)) {
            let expected = match answer.status {
                200 => answer.body.clone(),
                status => status.to_string(),
            };
            let found = choose(&table, path);
            if found == "400" && is_ambiguous(path) {
                refused += 1;
                continue;
            }
            compared += 1;
            matched += usize::from(answer.status == 200);
            assert_eq!(found, expected, "{path} of {rules:?}");
        }
    }
    assert_eq!(compared + refused, PAIRS);
    assert!(refused < PAIRS / 10, "{refused}");
    assert!(matched >= MATCHED_MIN, "{matched}");
}

/// Paths that endpoints could read in two ways are refused here: an encoded slash, backslash or NUL
/// beside dot segments.
fn is_ambiguous(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2f", "%5c", "%00"].iter().any(|part| path.contains(part))
}

fn choose(table: &RouteTable<String>, path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let Ok(path) = normalise(path.as_bytes()) else {
        return "400".to_owned();
    };
    let found = table.find("a.test", &path);
    found.map_or_else(|| "404".to_owned(), |route| route.payload.clone())
}

/// Paths and whether they are exact.
fn rules(random: &mut Random) -> BTreeMap<(String, bool), usize> {
    let mut rules = BTreeMap::new();
    for number in 0..12 {
        let mut path = String::new();
        for _ in 0..random.below(4) {
            let _ = write!(path, "/{}", random.pick(NAMES));
        }
        if path.is_empty() {
            rules.insert(("/".to_owned(), false), number);
        } else {
            rules.insert((path, random.below(3) == 0), number);
        }
    }
    rules
}

/// A path made of pieces that occur in rules and of those that normalising changes.
fn path(random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "/a", "/b", "/ab", "/A", "/a-b", "/c.d", "/", "//", "/.", "/..", "/a", "/b", "/%61",
        "/%2e", "/%2e%2e", "/a%2fb", "/%41", "/x", "/a%20b", "/c%2ed", "/...", "/..a", "/a.",
        "/a_b", "/a.b", "/~a", "/%62", "/a%62", "/%2E%2e", "/%7Ea", "/a%2Db", "/a;x", "/a,b",
        "/.a", "/a%2eb",
    ];
    let mut path = String::new();
    for _ in 0..=random.below(5) {
        path.push_str(random.pick(PIECES));
    }
    if random.below(8) == 0 {
        path.push_str("?q=/../b");
    }
    path
}

fn config(rules: &BTreeMap<(String, bool), usize>) -> String {
    let mut locations = String::new();
    for ((path, is_exact), number) in rules {
        let text = format!("{{ return 200 \"{number}\"; }}");
        if path == "/" {
            let _ = writeln!(locations, "location / {text}");
        } else if *is_exact {
            let _ = writeln!(locations, "location = \"{path}\" {text}");
        } else {
            // A path with both kinds has its exact location already.
            if !rules.contains_key(&(path.clone(), true)) {
                let _ = writeln!(locations, "location = \"{path}\" {text}");
            }
            let _ = writeln!(locations, "location \"{path}/\" {text}");
        }
    }
    if !rules.contains_key(&("/".to_owned(), false)) {
        locations.push_str("location / { return 404; }");
    }
    format!("server {{ listen {{socket}}; {locations} }}")
}

fn table(rules: &BTreeMap<(String, bool), usize>) -> RouteTable<String> {
    let mut host = HostRules::default();
    for (path, is_exact) in rules.keys() {
        let pattern = if *is_exact {
            PathPattern::Exact(path.as_str().into())
        } else {
            PathPattern::prefix(path)
        };
        host.rules.push(Arc::new(Rule {
            matches: pattern.into(),
            target: Target::Unavailable,
            policy: Arc::new(RoutePolicy::default()),
            origin: RuleOrigin {
                ingress: ObjectRef {
                    kind: "Ingress",
                    namespace: "a".into(),
                    name: "a".into(),
                },
                path: path.as_str().into(),
            },
        }));
    }
    host.rules.sort_by(|a, b| a.matches.cmp(&b.matches));
    let hosts: BTreeMap<_, _> = [(HostPattern::parse("a.test").unwrap(), Arc::new(host))].into();
    RouteTable::compile(&hosts, None, |_, rule| {
        let is_exact = matches!(rule.matches.path, PathPattern::Exact(_));
        rules[&(rule.origin.path.to_string(), is_exact)].to_string()
    })
}

//! `RouteTable` against a naive reading of the Ingress specification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_core::ir::{
    BackendKey, BackendPolicy, HostPattern, HostRules, ObjectRef, PathPattern, Rule, RuleOrigin,
    Target,
};
use ingress_core::route::{Recent, RouteTable};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

type Hosts = BTreeMap<HostPattern, Arc<HostRules>>;

fn table(hosts: &Hosts, default: Option<&Arc<Rule>>) -> RouteTable<Arc<Rule>> {
    RouteTable::compile(hosts, default, |_, rule| Arc::clone(rule))
}

fn find<'a>(table: &'a RouteTable<Arc<Rule>>, host: &str, path: &str) -> Option<&'a Rule> {
    let route = table.find(host, path);
    let mut recent = Recent::default();
    assert_eq!(
        table.find_recent(&mut recent, host, path.as_bytes(), |_| false),
        route
    );
    let route = route?;
    assert!(
        Arc::ptr_eq(&route.rule, &route.payload),
        "the payload is of its rule"
    );
    Some(&route.rule)
}

/// The specification, read word for word and searched without any cleverness.
fn naive<'a>(
    hosts: &'a Hosts,
    default: Option<&'a Rule>,
    host: &str,
    path: &str,
) -> Option<&'a Rule> {
    let labels: Vec<_> = host.split('.').collect();
    let exact = hosts.iter().find(|(pattern, _)| match pattern {
        HostPattern::Exact(name) => name.as_str() == host,
        HostPattern::Wildcard(_) | HostPattern::Any => false,
    });
    let wildcard = || {
        hosts.iter().find(|(pattern, _)| match pattern {
            HostPattern::Wildcard(parent) => {
                let parent: Vec<_> = parent.as_str().split('.').collect();
                labels.len() == parent.len() + 1 && labels[1..] == parent
            }
            HostPattern::Exact(_) | HostPattern::Any => false,
        })
    };
    let any = || {
        hosts
            .iter()
            .find(|(pattern, _)| **pattern == HostPattern::Any)
    };
    let Some((_, rules)) = exact.or_else(wildcard).or_else(any) else {
        return default;
    };
    let matching = rules.rules.iter().filter(|rule| match &rule.matches.path {
        PathPattern::Exact(text) => **text == *path,
        PathPattern::Prefix(text) => {
            let wanted: Vec<_> = text.split('/').collect();
            let given: Vec<_> = path.split('/').collect();
            given.starts_with(&wanted)
        }
        PathPattern::Regex(regex) => regex.is_match(path.as_bytes()),
    });
    let length = |rule: &Rule| match &rule.matches.path {
        PathPattern::Exact(text) => (text.len(), true),
        PathPattern::Prefix(text) => (text.len(), false),
        PathPattern::Regex(regex) => (regex.as_str().len(), false),
    };
    let best = matching.max_by_key(|rule| length(rule));
    best.or(rules.default.as_ref()).map(|rule| &**rule)
}

fn rule(path: PathPattern, number: u16) -> Arc<Rule> {
    let ingress = ObjectRef {
        kind: "Ingress",
        namespace: "test".into(),
        name: "it".into(),
    };
    let port = ingress_core::ir::ServicePort::Number(number);
    let target = Target::backend(Arc::new(BackendKey {
        namespace: "test".into(),
        service: "web".into(),
        port,
        policy: BackendPolicy::default(),
    }));
    Arc::new(Rule {
        matches: path.into(),
        target,
        policy: Arc::default(),
        origin: RuleOrigin {
            ingress,
            path: "".into(),
        },
    })
}

fn host_name() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "ab"]), 1..=3).prop_map(|labels| labels.join("."))
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        4 => host_name(),
        3 => host_name().prop_map(|name| format!("*.{name}")),
        1 => Just(String::new()),
    ]
    .prop_map(|text| HostPattern::parse(&text).unwrap())
}

/// Paths of few elements, empty ones among them, with or without a slash at the end.
fn path() -> impl Strategy<Value = String> {
    let element = select(vec!["a", "b", "ab", "A", ""]);
    (vec(element, 0..=4), any::<bool>()).prop_map(|(elements, slash)| {
        let mut path: String = elements.iter().flat_map(|element| ["/", element]).collect();
        if slash || path.is_empty() {
            path.push('/');
        }
        path
    })
}

fn path_pattern() -> impl Strategy<Value = PathPattern> {
    (path(), any::<bool>()).prop_map(|(path, exact)| {
        if exact {
            PathPattern::Exact(path.into())
        } else {
            PathPattern::prefix(&path)
        }
    })
}

/// Few rules, which are scanned, or many, which are indexed.
fn host_rules() -> impl Strategy<Value = Arc<HostRules>> {
    let paths = prop_oneof![
        3 => btree_set(path_pattern(), 0..6),
        1 => btree_set(path_pattern(), 0..60),
    ];
    (paths, option::of(any::<u16>()), 0..1000_u16).prop_map(|(paths, default, first)| {
        let rules = paths
            .into_iter()
            .zip(first..)
            .map(|(path, number)| rule(path, number));
        let default = default.map(|number| rule(PathPattern::prefix("/"), number));
        Arc::new(HostRules {
            rules: rules.collect(),
            default,
            ..HostRules::default()
        })
    })
}

fn hosts() -> impl Strategy<Value = Hosts> {
    btree_map(host_pattern(), host_rules(), 0..6)
}

fn default() -> impl Strategy<Value = Option<Arc<Rule>>> {
    option::of(any::<u16>().prop_map(|number| rule(PathPattern::prefix("/"), number)))
}

/// Requests as (host name, path); half of the paths come from a pattern of the table.
fn requests() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((host_name(), path()), 20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn find_is_the_naive_reading_of_the_specification(
        hosts in hosts(), default in default(), requests in requests(),
    ) {
        let table = table(&hosts, default.as_ref());
        for (host, path) in requests {
            let expected = naive(&hosts, default.as_deref(), &host, &path);
            prop_assert_eq!(find(&table, &host, &path), expected, "{} {}", host, path);
        }
    }

    #[test]
    fn many_paths_of_one_host_are_found_as_the_specification_says(
        paths in btree_set(path_pattern(), 17..200), requests in vec(path(), 50),
    ) {
        let rules = paths.into_iter().zip(0..).map(|(path, number)| rule(path, number)).collect();
        let any = Arc::new(HostRules { rules, ..HostRules::default() });
        let hosts = Hosts::from([(HostPattern::Any, any)]);
        let table = table(&hosts, None);
        for path in requests {
            prop_assert_eq!(find(&table, "", &path), naive(&hosts, None, "", &path), "{}", path);
        }
    }

    #[test]
    fn changes_give_the_table_that_compiling_gives(
        before in hosts(),
        steps in vec((btree_map(host_pattern(), option::of(host_rules()), 0..4), default()), 1..4),
        requests in requests(),
    ) {
        let mut hosts = before;
        let mut table = table(&hosts, None);
        for (changes, default) in steps {
            let changed: BTreeSet<_> = (changes.values().flatten())
                .flat_map(|rules| rules.rules.iter().chain(&rules.default))
                .chain(&default)
                .map(Arc::as_ptr)
                .collect();
            table = table.with_changes(
                changes.iter().map(|(host, rules)| (host, rules.as_ref())),
                default.as_ref(),
                |_, rule| {
                    assert!(changed.contains(&Arc::as_ptr(rule)), "{rule:?} did not change");
                    Arc::clone(rule)
                },
            );
            for (host, rules) in changes {
                match rules {
                    Some(rules) => drop(hosts.insert(host, rules)),
                    None => drop(hosts.remove(&host)),
                }
            }
            let compiled = self::table(&hosts, default.as_ref());
            for (host, path) in &requests {
                prop_assert_eq!(find(&table, host, path), find(&compiled, host, path));
            }
        }
    }

    #[test]
    fn a_host_has_no_say_in_the_answers_for_another(
        hosts in hosts(), name in host_name(), rules in host_rules(), requests in requests(),
    ) {
        let before = table(&hosts, None);
        let host = HostPattern::parse(&name).unwrap();
        let after = before.with_changes([(&host, Some(&rules))], None, |_, rule| Arc::clone(rule));
        for (host, path) in requests.into_iter().filter(|(host, _)| *host != name) {
            prop_assert_eq!(find(&after, &host, &path), find(&before, &host, &path));
        }
    }

    #[test]
    fn port_case_and_trailing_dot_do_not_matter(
        hosts in hosts(), name in host_name(), path in path(),
        upper in any::<bool>(), dot in any::<bool>(), port in option::of(any::<u16>()),
    ) {
        let mut authority = if upper { name.to_ascii_uppercase() } else { name.clone() };
        authority.extend(dot.then_some('.'));
        authority.extend(port.map(|port| format!(":{port}")));
        let table = table(&hosts, None);
        prop_assert_eq!(find(&table, &authority, &path), find(&table, &name, &path));
    }

    #[test]
    fn nothing_panics_on_any_text(hosts in hosts(), texts in vec((any::<String>(), any::<String>()), 20)) {
        let table = table(&hosts, None);
        for (a, b) in texts {
            find(&table, &a, &b);
            let _ = HostPattern::parse(&a);
            let _ = a.parse::<BackendKey>();
            let path = PathPattern::prefix(&a);
            prop_assert!(path.matches(&a) || !a.ends_with('/') || a.trim_end_matches('/') == path.as_str());
        }
    }
}

#[test]
fn a_path_of_many_elements_is_found_among_many_rules() {
    let rules = (0..100)
        .map(|n| rule(PathPattern::prefix(&"/a".repeat(100 - n)), 0))
        .collect();
    let any = Arc::new(HostRules {
        rules,
        default: None,
        ..HostRules::default()
    });
    let hosts = Hosts::from([(HostPattern::Any, any)]);
    let table = table(&hosts, None);
    let path = "/a".repeat(100_000);
    let found = find(&table, "", &path).unwrap();
    assert_eq!(found.matches.path, PathPattern::prefix(&"/a".repeat(100)));
}

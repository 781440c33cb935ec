//! Pods that come and go: a translator follows without looking at anything else, and gives what
//! it would have given otherwise.

use ingress_core::list::List;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Translator, translate};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use crate::fixture::{Fixture, rule};

const SERVICES: [&str; 4] = ["s0", "s1", "unused", "missing"];
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "nonsense"];

/// Two hosts with Services of their own; the second one has two backends.
fn fixture() -> Fixture {
    let spec = json!({"rules": [
        rule("a.test", &[("Prefix", "/", "s0"), ("Prefix", "/gone", "missing")]),
        rule("b.test", &[("Prefix", "/", "s1")]),
    ]});
    let by_name = json!({"rules": [{"host": "b.test", "http": {"paths": [{
        "path": "/named", "pathType": "Prefix",
        "backend": {"service": {"name": "s1", "port": {"name": "http"}}},
    }]}}]});
    let ports = json!([{"name": "http", "port": 80}]);
    Fixture::new()
        .ingress("it", spec)
        .ingress("by-name", by_name)
        .service_with("s0", &ports)
        .service_with("s1", &ports)
        .service_with("unused", &ports)
}

fn with_slice(fixture: Fixture, service: &str, addresses: &[&str]) -> Fixture {
    fixture.slice(service, &json!([{"name": "http", "port": 8080}]), addresses)
}

/// What happens to the slices in one step.
#[derive(Clone, Debug)]
enum Step {
    Add(&'static str, Vec<&'static str>),
    Remove(usize),
    /// In place, as sources do that keep objects in order.
    Replace(usize, &'static str, Vec<&'static str>),
}

fn step() -> impl Strategy<Value = Step> {
    let slice = || (select(&SERVICES[..]), vec(select(&ADDRESSES[..]), 0..3));
    prop_oneof![
        slice().prop_map(|(service, addresses)| Step::Add(service, addresses)),
        any::<usize>().prop_map(Step::Remove),
        (any::<usize>(), slice())
            .prop_map(|(at, (service, addresses))| Step::Replace(at, service, addresses)),
    ]
}

fn apply(step: Step, snapshot: &mut Snapshot) {
    let last_of = |service: &str, addresses: &[&str]| {
        let fixture = with_slice(Fixture::new(), service, addresses);
        let mut slices = fixture.snapshot.endpoint_slices.iter().cloned();
        slices.next().unwrap()
    };
    let last = &snapshot.endpoint_slices;
    let mut slices: Vec<_> = last.iter().cloned().collect();
    match step {
        Step::Add(service, addresses) => slices.push(last_of(service, &addresses)),
        Step::Remove(at) if !slices.is_empty() => {
            let at = at % slices.len();
            slices.remove(at);
        }
        Step::Replace(at, service, addresses) if !slices.is_empty() => {
            let at = at % slices.len();
            slices[at] = last_of(service, &addresses);
        }
        Step::Remove(_) | Step::Replace(..) => {}
    }
    snapshot.endpoint_slices = last.following(slices);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_short_way_leads_where_the_long_one_does(
        steps in vec(vec(step(), 1..3), 1..12), other in vec(any::<bool>(), 12),
        unused in prop_oneof![4 => Just(0), 1 => 100_usize..400],
    ) {
        let with_unused = |fixture, _| with_slice(fixture, "unused", &["10.0.0.9"]);
        let Fixture { mut snapshot, options } = (0..unused).fold(fixture(), with_unused);
        let mut translator = Translator::new(options.clone());
        for (steps, other) in steps.into_iter().zip(other) {
            for step in steps {
                apply(step, &mut snapshot);
            }
            if other {
                let mut services: Vec<_> = snapshot.services.iter().cloned().collect();
                services.reverse();
                snapshot.services = List::from_iter(services);
            }
            prop_assert_eq!(translator.translate(&snapshot), translate(&snapshot, &options));
        }
    }
}

#[test]
fn a_change_of_slices_alone_looks_at_nothing_else() {
    let mut fixture = with_slice(fixture(), "s0", &["10.0.0.1"]);
    let mut translator = Translator::new(fixture.options.clone());
    let before = translator.translate(&fixture.snapshot);

    fixture = with_slice(fixture, "s1", &["10.0.0.2"]);
    let after = translator.translate(&fixture.snapshot);
    assert!(after.config.hosts.is(&before.config.hosts));
    assert!(after.accepted.is(&before.accepted));
    let changed: Vec<_> = (before.config.backends.iter())
        .zip(after.config.backends.iter())
        .filter(|((_, before), (_, after))| before != after)
        .map(|((key, _), (_, after))| (key.to_string(), after.endpoints.len()))
        .collect();
    let expected = [("test/s1:80", 1), ("test/s1:http", 1)];
    assert_eq!(
        changed,
        expected.map(|(key, endpoints)| (key.to_owned(), endpoints))
    );

    fixture = with_slice(fixture, "unused", &["10.0.0.3"]);
    let last = translator.translate(&fixture.snapshot);
    assert!(last.config.backends.is(&after.config.backends));
}

//! `sluice routes`, `endpoints`, `certificates` and `datapath` of a daemon that runs.

use std::process::Output;

use ingress_userspace::api::{Certificate, Endpoint, Route, RouteTarget};
use serde_json::Value;

use crate::daemon::{Place, origin, wait_for};

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn routes_and_endpoints_are_listed_as_they_are_served() {
    let endpoint = origin();
    let place = Place::new(endpoint);
    let _daemon = place.start("a", &[]);
    let output = place.sluice(&["routes", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let routes: Vec<Route> = serde_json::from_slice(&output.stdout).unwrap();
    let [route] = &routes[..] else {
        panic!("{routes:?}")
    };
    assert_eq!((&*route.host, &*route.path), ("one.test", "/"));
    assert_eq!(route.object.to_string(), "web/shop");
    let RouteTarget::Backends { backends } = &route.target else {
        panic!("{route:?}")
    };
    assert_eq!(
        (&*backends[0].backend, backends[0].endpoints),
        ("web/cart:80", 1)
    );
    let output = place.sluice(&["endpoints", "-o", "yaml"]);
    let yaml = text(&output);
    assert!(yaml.contains(&endpoint.to_string()), "{yaml}");
    let output = place.sluice(&["endpoints", "-o", "json", "cart"]);
    let endpoints: Vec<Endpoint> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(endpoints[0].address, endpoint);
    let table = text(&place.sluice(&["routes", "one"]));
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.starts_with("HOST"), "{table}");
    assert_eq!(
        text(&place.sluice(&["routes", "nobody"])).lines().count(),
        1
    );
    let output = place.sluice(&["datapath", "-o", "json"]);
    let datapath: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(datapath["mode"], "host");
}

#[test]
fn exit_status_shows_problems() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    place.change(|manifest| manifest.replace("endpoints: [", "endpoints: [] #"));
    wait_for("the route to have no endpoint", || {
        place.sluice(&["routes"]).status.code() == Some(1)
    });
    place.change(|manifest| {
        manifest.replace(
            "spec:\n  rules:",
            "spec:\n  tls: [{hosts: [one.test], secretName: gone}]\n  rules:",
        )
    });
    wait_for("the certificate", || {
        let output = place.sluice(&["certificates", "-o", "json"]);
        let certificates: Vec<Certificate> = serde_json::from_slice(&output.stdout).unwrap();
        let absent = certificates
            .iter()
            .all(|certificate| certificate.days_left.is_none());
        certificates.len() == 1 && absent && output.status.code() == Some(1)
    });
}

#[test]
fn a_daemon_that_is_not_there_has_an_exit_status_of_its_own() {
    let place = Place::new(origin());
    for verb in [
        "routes",
        "endpoints",
        "certificates",
        "datapath",
        "status",
        "tail",
        "top",
        "report",
    ] {
        let output = place.sluice(&[verb]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }
    let output = place.sluice(&["routes", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

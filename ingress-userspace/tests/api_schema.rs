//! `docs/schema/v1` is what the types say.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use ingress_userspace::api::{
    Certificate, Endpoint, Generation, LastUse, Node, PacketReason, Problem, Route, Sample,
    TailEvent, Traffic,
};
use schemars::{JsonSchema, schema_for};

/// `UPDATE_DOCS=1 cargo test -p ingress-userspace --test api_schema` writes them anew.
#[test]
fn schemas_are_those_of_the_types() {
    check::<Vec<Route>>("routes");
    check::<Vec<Endpoint>>("endpoints");
    check::<Vec<Certificate>>("certificates");
    check::<TailEvent>("tail");
    check::<Vec<Traffic>>("traffic");
    check::<Vec<Sample>>("samples");
    check::<Vec<Problem>>("problems");
    check::<Vec<Generation>>("generations");
    check::<Vec<LastUse>>("uses");
    check::<Vec<PacketReason>>("reasons");
    check::<Vec<Node>>("nodes");
}

fn check<T: JsonSchema>(name: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/v1");
    let file = directory.join(format!("{name}.json"));
    let schema = serde_json::to_string_pretty(&schema_for!(T)).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(&file, &schema).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        written, schema,
        "docs/schema/v1/{name}.json is stale: UPDATE_DOCS=1 cargo test -p ingress-userspace --test api_schema"
    );
}

//! Property tests over arbitrary annotations and requests.

use proptest::prelude::*;

use crate::any_annotations::{Scene, check, read};

/// A value of an annotation: of the kinds that occur, or anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("basic".to_owned()),
        Just("any".to_owned()),
        Just("http://auth.test/$host".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("/a(/|$)(.*)".to_owned()),
        Just("add_header X-A b;".to_owned()),
        "[0-9]{1,6}",
        "[ -~]{0,30}",
        ".{0,20}",
    ]
}

fn scene() -> impl Strategy<Value = Scene> {
    let keys: Vec<&'static str> = ingress_core::annotation::known_keys().collect();
    let key = prop::sample::select(keys).prop_map(str::to_owned);
    let annotations = prop::collection::btree_map(key, value(), 0..8);
    let method = prop_oneof![Just("GET".to_owned()), Just("OPTIONS".to_owned())];
    let path = prop_oneof![Just("/".to_owned()), "/[ -~]{0,20}"];
    let field = ("(cookie|origin|x-canary|authorization)", "[ -~]{0,20}");
    let fields = prop::collection::vec(field, 0..4);
    (annotations, method, "[a-z.:0-9]{0,12}", path, fields).prop_map(
        |(annotations, method, authority, path, fields)| Scene {
            annotations,
            method,
            authority,
            path: path.into_bytes(),
            fields,
        },
    )
}

proptest! {
    #[test]
    fn restrictions_hold_whatever_annotations_say(scene in scene()) {
        check(&scene);
    }

    #[test]
    fn any_text_is_a_scene(text in "[ -~\n]{0,200}") {
        check(&read(&text));
    }
}

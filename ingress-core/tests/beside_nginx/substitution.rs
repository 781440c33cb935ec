//! Texts in response bodies: `sub_filter` of a real nginx, and the replacer.

use std::fmt::Write as _;
use std::sync::Arc;

use ingress_core::filter::substitution::Replacer;
use ingress_core::ir::Substitution;

use nginx_rig::{Nginx, Random};

const SETS: usize = 60;
const BODIES: usize = 40;

#[test]
fn texts_are_replaced_as_nginx_replaces_them() {
    let mut random = Random(4);
    let mut changed = 0;
    for _ in 0..SETS {
        let substitution = substitution(&mut random);
        let bodies: Vec<String> = (0..BODIES).map(|_| text(&mut random, 30)).collect();
        let nginx = Nginx::start(&config(&substitution, &bodies));
        let requests = (0..BODIES).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let requests: Vec<String> = requests.collect();
        for (body, answer) in bodies.iter().zip(nginx.ask(&requests)) {
            let found = replaced(&substitution, body);
            changed += usize::from(found != *body);
            assert_eq!(found, answer.body, "{body} by {substitution:?}");
        }
    }
    assert!(changed > SETS * BODIES / 4, "{changed}");
}

/// Up to three texts, none of which is the start of another one.
fn substitution(random: &mut Random) -> Arc<Substitution> {
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
    for _ in 0..=random.below(3) {
        let wanted = text(random, 4).to_ascii_lowercase();
        let begins = |(one, _): &(Box<str>, Box<str>)| {
            one.starts_with(&wanted) || wanted.starts_with(&**one)
        };
        if !wanted.is_empty() && !pairs.iter().any(begins) {
            pairs.push((
                wanted.into(),
                random.pick(&["", "x", "ab", "<long>"]).into(),
            ));
        }
    }
    Arc::new(Substitution {
        pairs: pairs.into(),
        is_once: random.below(2) == 0,
        types: Arc::default(),
        keeps_last_modified: false,
    })
}

fn text(random: &mut Random, pieces_max: usize) -> String {
    let pieces = (0..random.below(pieces_max + 1)).map(|_| random.pick(&["a", "b", "A", "B", "c"]));
    pieces.collect()
}

fn config(substitution: &Substitution, bodies: &[String]) -> String {
    let mut server = "server { listen {socket}; default_type text/html;\n".to_owned();
    for (text, replacement) in &substitution.pairs {
        let _ = writeln!(server, "sub_filter '{text}' '{replacement}';");
    }
    if !substitution.is_once {
        server.push_str("sub_filter_once off;\n");
    }
    for (at, body) in bodies.iter().enumerate() {
        let _ = writeln!(server, "location = /{at} {{ return 200 '{body}'; }}");
    }
    server + "}"
}

/// The body, which comes in pieces of three bytes.
fn replaced(substitution: &Arc<Substitution>, body: &str) -> String {
    let mut replacer = Replacer::new(Arc::clone(substitution));
    let mut out = Vec::new();
    for piece in body.as_bytes().chunks(3) {
        replacer.write(piece, &mut out);
    }
    replacer.finish(&mut out);
    String::from_utf8(out).unwrap()
}

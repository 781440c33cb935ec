//! Texts in response bodies that are replaced (`sub_filter` of a snippet).

use std::io::Read as _;
use std::sync::Arc;

use flate2::read::GzDecoder;
use ingress_core::ir::{Compression, CompressionMethod, Config, Substitution};

use crate::rig::{Origin, Proxy, Reply, config, with_policy};

/// Replaces the address of the endpoint, everywhere in HTML.
fn replacing(config: Config) -> Config {
    let substitution = Arc::new(Substitution {
        pairs: [("http://inner/".into(), "https://one.test/".into())].into(),
        is_once: false,
        types: Arc::default(),
        keeps_last_modified: false,
    });
    let compression = Arc::new(Compression {
        gzip: Some(CompressionMethod {
            level: 1,
            bytes_min: 1_000_000_000,
            types: ["text/html".into()].into(),
        }),
        brotli: None,
        zstd: None,
    });
    with_policy(config, |policy| {
        policy.substitution = Some(Arc::clone(&substitution));
        policy.compression = Some(Arc::clone(&compression));
    })
}

/// An endpoint whose body comes in pieces that end within a text.
fn origin(fields: &'static str, pieces: Vec<String>) -> Origin {
    Origin::start(move |mut connection| {
        while connection.read_head().is_some() {
            connection.write(&format!(
                "HTTP/1.1 200 OK\r\n{fields}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for piece in &pieces {
                connection.write(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            connection.write("0\r\n\r\n");
        }
    })
}

fn get(proxy: &Proxy, accepted: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!(
        "GET / HTTP/1.1\r\nHost: one.test\r\nAccept-Encoding: {accepted}\r\n\r\n"
    ));
    client.read_reply()
}

#[test]
fn texts_are_replaced_across_pieces_and_before_compression() {
    let link = "<a href=\"http://inner/x\">";
    let text = link.repeat(10_000);
    let pieces = text.as_bytes().chunks(7777);
    let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
    let origin = origin("Content-Type: text/html\r\nETag: \"a\"", pieces.collect());
    let proxy = Proxy::start(replacing(config(&[("one.test", "/", &[origin.address])])));
    let expected = text.replace("http://inner/", "https://one.test/");
    let plain = get(&proxy, "identity");
    assert_eq!(plain.head.field("etag"), None);
    assert!(plain.text() == expected, "{} bytes", plain.body.len());
    let reply = get(&proxy, "gzip");
    assert_eq!(reply.head.field("content-encoding"), Some("gzip"));
    let mut decoded = String::new();
    GzDecoder::new(&reply.body[..])
        .read_to_string(&mut decoded)
        .unwrap();
    assert!(decoded == expected, "{} bytes", decoded.len());
    assert_eq!(origin.connections(), 1, "connections are kept");
}

#[test]
fn compressed_bodies_and_other_types_stay_as_they_are() {
    for fields in [
        "Content-Type: text/html\r\nContent-Encoding: br\r\nETag: \"a\"",
        "Content-Type: application/json\r\nETag: \"a\"",
    ] {
        let body = "http://inner/".to_owned();
        let origin = origin(fields, vec![body.clone()]);
        let proxy = Proxy::start(replacing(config(&[("one.test", "/", &[origin.address])])));
        let reply = get(&proxy, "identity");
        assert_eq!(reply.text(), body, "{fields}");
        assert_eq!(reply.head.field("etag"), Some("\"a\""), "{fields}");
    }
}

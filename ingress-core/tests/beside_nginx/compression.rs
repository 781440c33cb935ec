//! Which responses are compressed: nginx's `gzip` as ingress-nginx sets it, and the choice made here.
//!
//! One difference is meant: `*` in Accept-Encoding stands for gzip, too (RFC 9110 §12.5.3); nginx takes
//! no notice of it.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, StatusCode};
use ingress_core::filter::compression::choose;
use ingress_core::ir::{Coding, Compression, CompressionMethod};

use nginx_rig::Nginx;

const ACCEPTED: &[Option<&str>] = &[
    None,
    Some(""),
    Some("gzip"),
    Some("GZIP"),
    Some("gzip, deflate, br"),
    Some("deflate,gzip"),
    Some("br;q=1.0, gzip;q=0.8"),
    Some("gzip;q=0"),
    Some("gzip;q=0.0"),
    Some("gzip;q=0.001"),
    Some("gzip; q=0"),
    Some("gzip;q=1"),
    Some("x-gzip"),
    Some("br"),
    Some("identity"),
    Some("deflate, identity;q=0.5"),
];
const STATUSES: &[u16] = &[200, 201, 403, 404, 500];
const TYPES: &[&str] = &[
    "text/html",
    "text/html; charset=utf-8",
    "application/json",
    "image/png",
];
const LENGTHS: &[usize] = &[1, 255, 256, 3000];

#[test]
fn responses_are_compressed_where_nginx_would_compress_them() {
    let nginx = Nginx::start(&config());
    let compression = Compression {
        gzip: Some(CompressionMethod {
            level: 1,
            bytes_min: 256,
            types: ["application/json".into(), "text/html".into()].into(),
        }),
        brotli: None,
        zstd: None,
    };
    let mut compressed = 0;
    for (number, (status, media_type, length)) in responses().enumerate() {
        let request = |accepted: Option<&str>| {
            let field = accepted.map(|value| format!("Accept-Encoding: {value}\r\n"));
            let field = field.unwrap_or_default();
            format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n{field}\r\n")
        };
        let requests: Vec<String> = ACCEPTED.iter().copied().map(request).collect();
        for (accepted, answer) in ACCEPTED.iter().zip(nginx.ask(&requests)) {
            let expected = answer.field("content-encoding") == Some("gzip");
            let mut fields = HeaderMap::new();
            fields.insert("content-type", HeaderValue::from_static(media_type));
            let accepted = accepted.map(HeaderValue::from_static);
            let chosen = choose(
                &compression,
                accepted.as_ref(),
                StatusCode::from_u16(status).unwrap(),
                &mut fields,
                Some(length as u64),
            );
            let found = chosen.map(|(coding, _)| coding) == Some(Coding::Gzip);
            let what = format!("{accepted:?}, {status}, {media_type}, {length} bytes");
            assert_eq!(found, expected, "{what}");
            let vary = answer.field("vary").is_some();
            assert_eq!(fields.contains_key("vary"), vary, "Vary: {what}");
            compressed += usize::from(expected);
        }
    }
    assert!(compressed > 50, "{compressed}");
}

fn responses() -> impl Iterator<Item = (u16, &'static str, usize)> {
    let of_type = |status: u16, media_type| {
        LENGTHS
            .iter()
            .map(move |length| (status, media_type, *length))
    };
    let of_status = move |status: u16| {
        TYPES
            .iter()
            .flat_map(move |media_type| of_type(status, *media_type))
    };
    STATUSES.iter().flat_map(move |status| of_status(*status))
}

fn config() -> String {
    let mut server = "server { listen {socket}; gzip on; gzip_comp_level 1; gzip_min_length 256;\n\
                      gzip_types application/json; gzip_proxied any; gzip_vary on;\n"
        .to_owned();
    for (number, (status, media_type, length)) in responses().enumerate() {
        let body = "x".repeat(length);
        let (media_type, charset) = media_type
            .split_once("; charset=")
            .unwrap_or((media_type, "off"));
        let _ = writeln!(
            server,
            "location = /{number} {{ default_type '{media_type}'; charset {charset}; return {status} '{body}'; }}"
        );
    }
    server + "}"
}

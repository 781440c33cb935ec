//! Our reader of requests beside hyper's server, on the same bytes.
//!
//! What hyper refuses, we refuse, but for targets that it has no place for. What we take, hyper takes
//! too, and both find the same requests in it. `compare::is_stricter` lists why we refuse what hyper takes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compare;

use compare::compare;
use ingress_wire::corpus;
use proptest::prelude::*;

#[test]
fn requests_that_servers_disagree_about() {
    for (_, request) in corpus::all() {
        compare(request.as_bytes());
        let good = "GET /first HTTP/1.1\r\nHost: one.test\r\n\r\n";
        compare(format!("{good}{request}{good}").as_bytes());
    }
}

/// Bytes that come near to being requests.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\nHost: a\r\n"[..],
        b"GET /a?b=c HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=y\r\nabc\r\n",
        b"0\r\nX-Y: z\r\n\r\n",
        b"GET http://a/b HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get / HTTP/1.1\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Host : a\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 3, 3\r\n",
        b"content-length: +3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Connection: close\r\n",
        b"Upgrade: x\r\n",
        b"X: y\n",
        b"X: y\r\n z\r\n",
        b"X:\ty \t\r\n",
        b"X\0: y\r\n",
        b"X: \x7f\r\n",
        b"X: \xff\r\n",
        b"\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"0",
        b"3",
        b"abc",
        b":",
    ]);
    prop::collection::vec(pieces, 0..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn both_find_the_same_requests(bytes in near_requests()) {
        compare(&bytes);
    }

    #[test]
    fn both_find_the_same_after_a_byte_has_changed(
        mut bytes in near_requests(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        if !bytes.is_empty() {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        compare(&bytes);
    }
}

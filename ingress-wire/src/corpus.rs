//! Requests that servers disagree about, which are the material of request smuggling: each is to be
//! refused. Tests of this crate, of the proxy and beside other servers share them.

/// Heads, each in the place of `@` of a request that is good but for it.
pub const FIELDS: &[(&str, &str)] = &[
    (
        "CL.TE",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "TE.CL",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ),
    (
        "CL.0.TE",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "TE.TE",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    (
        "TE.TE twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("TE list", "Transfer-Encoding: chunked, chunked\r\n"),
    (
        "TE identity first",
        "Transfer-Encoding: identity, chunked\r\n",
    ),
    ("TE gzip first", "Transfer-Encoding: gzip, chunked\r\n"),
    (
        "TE chunked first",
        "Transfer-Encoding: chunked, identity\r\n",
    ),
    ("TE prefix", "Transfer-Encoding: xchunked\r\n"),
    ("TE parameter", "Transfer-Encoding: chunked;x=y\r\n"),
    ("TE quoted", "Transfer-Encoding: \"chunked\"\r\n"),
    ("TE vertical tab", "Transfer-Encoding: \x0bchunked\r\n"),
    ("TE NUL", "Transfer-Encoding: chunked\0\r\n"),
    ("TE empty", "Transfer-Encoding:\r\n"),
    ("TE space before colon", "Transfer-Encoding : chunked\r\n"),
    ("TE tab before colon", "Transfer-Encoding\t: chunked\r\n"),
    ("TE folded", "Transfer-Encoding:\r\n chunked\r\n"),
    ("TE after bare LF", "X: y\nTransfer-Encoding: chunked\r\n"),
    ("TE after bare CR", "X: y\rTransfer-Encoding: chunked\r\n"),
    (
        "CL twice, different",
        "Content-Length: 6\r\nContent-Length: 5\r\n",
    ),
    (
        "CL twice, the same",
        "Content-Length: 6\r\nContent-Length: 6\r\n",
    ),
    ("CL list", "Content-Length: 6, 6\r\n"),
    ("CL plus", "Content-Length: +6\r\n"),
    ("CL minus", "Content-Length: -6\r\n"),
    ("CL hexadecimal", "Content-Length: 0x6\r\n"),
    ("CL exponent", "Content-Length: 6e0\r\n"),
    ("CL fraction", "Content-Length: 6.0\r\n"),
    ("CL space within", "Content-Length: 6 0\r\n"),
    ("CL empty", "Content-Length:\r\n"),
    ("CL too large", "Content-Length: 18446744073709551622\r\n"),
    ("CL space before colon", "Content-Length : 6\r\n"),
    ("CL underlined digits", "Content-Length: 1_0\r\n"),
    ("bare LF after a field", "X: y\n"),
    (
        "bare LF for the end",
        "X: y\r\n\nGET /smuggled HTTP/1.1\r\n",
    ),
    ("obs-fold", "X: y\r\n z\r\n"),
    ("obs-fold by tab", "X: y\r\n\tz\r\n"),
    ("NUL in a value", "X: y\0z\r\n"),
    ("NUL in a name", "X\0: y\r\n"),
    ("CR in a value", "X: y\rz\r\n"),
    ("space in a name", "X Y: z\r\n"),
    ("space before a name", " X: z\r\n"),
    ("no name", ": z\r\n"),
    ("no colon", "X\r\n"),
    ("control in a name", "X\x01: y\r\n"),
    ("second host", "Host: two.test\r\n"),
    ("host with a space", "Host: one.test two.test\r\n"),
];

/// Whole requests.
pub const REQUESTS: &[(&str, &str)] = &[
    (
        "bare LF after the request line",
        "GET / HTTP/1.1\nHost: one.test\r\n\r\n",
    ),
    ("bare LF everywhere", "GET / HTTP/1.1\nHost: one.test\n\n"),
    (
        "TE with HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two spaces in the request line",
        "GET  / HTTP/1.1\r\nHost: one.test\r\n\r\n",
    ),
    (
        "three words before the version",
        "GET / x HTTP/1.1\r\nHost: one.test\r\n\r\n",
    ),
    (
        "tab in the request line",
        "GET\t/ HTTP/1.1\r\nHost: one.test\r\n\r\n",
    ),
    (
        "NUL in the target",
        "GET /\0 HTTP/1.1\r\nHost: one.test\r\n\r\n",
    ),
    (
        "unknown version",
        "GET / HTTP/1.2\r\nHost: one.test\r\n\r\n",
    ),
    ("HTTP/0.9", "GET /\r\nHost: one.test\r\n\r\n"),
    (
        "HTTP/2 without its preface",
        "GET / HTTP/2.0\r\nHost: one.test\r\n\r\n",
    ),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    (
        "a tunnel",
        "CONNECT one.test:80 HTTP/1.1\r\nHost: one.test\r\n\r\n",
    ),
];

/// Chunked bodies that are malformed.
pub const BODIES: &[(&str, &str)] = &[
    ("bare LF", "3\nabc\r\n0\r\n\r\n"),
    ("bare LF after an extension", "3;x\nabc\r\n0\r\n\r\n"),
    ("no number", "x\r\nabc\r\n0\r\n\r\n"),
    ("signed", "+3\r\nabc\r\n0\r\n\r\n"),
    ("prefixed", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("too large", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("longer than said", "3\r\nabcd\r\n0\r\n\r\n"),
];

/// All heads and requests as whole requests, with their names.
pub fn all() -> Vec<(&'static str, String)> {
    let with_fields = FIELDS.iter().map(|(name, fields)| {
        let head =
            format!("POST / HTTP/1.1\r\nHost: one.test\r\n{fields}Connection: close\r\n\r\n");
        (*name, format!("{head}0\r\n\r\nX"))
    });
    let whole = REQUESTS
        .iter()
        .map(|(name, request)| (*name, (*request).to_owned()));
    with_fields.chain(whole).collect()
}

/// Returns true for a request that a reader takes and that a server behind it has to refuse: a
/// tunnel is well-formed.
pub fn is_for_the_proxy(name: &str) -> bool {
    name == "a tunnel"
}

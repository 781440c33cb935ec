//! The same requests to Sluice, and to Debian's nginx and HAProxy as proxies in front of the same endpoint. Sluice
//! refuses every request that both others refuse; the table of differences gives the reason for every other one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ingress_wire::corpus;
use nginx_rig::Nginx;
use tempfile::TempDir;

use crate::rig::{Origin, Proxy, config, wait_until};

/// Whether an endpoint's answer came back for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused,
}

use Verdict::{Refused, Taken};

/// Of Sluice, nginx and HAProxy.
type Verdicts = [Verdict; 3];

#[test]
fn requests_that_two_other_servers_refuse_are_refused() {
    let origin = Origin::echo(MARK);
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    let nginx = Nginx::start(&format!(
        "client_body_timeout 1s; client_header_timeout 1s;\n\
         server {{ listen {{socket}}; location / {{\n\
         proxy_http_version 1.1; proxy_pass http://{}; }} }}",
        origin.address
    ));
    let haproxy = Haproxy::start(&origin);
    let listed = DIFFERENCES.iter();
    let listed = listed.flat_map(|(_, all, names)| names.iter().map(|name| (*name, *all)));
    let mut differences: BTreeMap<_, _> = listed.collect();
    let mut faults = Vec::new();
    for (name, request) in requests() {
        let verdicts = [
            verdict(TcpStream::connect(proxy.http).unwrap(), &request),
            verdict(UnixStream::connect(nginx.path("socket")).unwrap(), &request),
            verdict(haproxy.connect(), &request),
        ];
        if verdicts == [Taken, Refused, Refused] {
            faults.push(format!("only Sluice takes `{name}`"));
        }
        let is_same = verdicts.iter().all(|verdict| *verdict == verdicts[0]);
        let expected = differences.remove(&*name);
        if !is_same && expected != Some(verdicts) || is_same && expected.is_some() {
            faults.push(format!("`{name}`: {verdicts:?}, not {expected:?}"));
        }
    }
    faults.extend(
        differences
            .keys()
            .map(|name| format!("`{name}` was not sent")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn requests() -> Vec<(String, Vec<u8>)> {
    let refused = corpus::all().into_iter();
    let refused = refused.map(|(name, request)| (name.to_owned(), request.into_bytes()));
    let chunked = corpus::BODIES.iter().chain(CHUNKED);
    let chunked = chunked.map(|(name, body)| {
        let head = "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        (
            format!("chunk: {name}"),
            format!("{head}{body}").into_bytes(),
        )
    });
    let odd = ODD.iter();
    let odd = odd.map(|(name, request)| ((*name).to_owned(), request.to_vec()));
    refused.chain(chunked).chain(odd).collect()
}

fn verdict(mut stream: impl Read + Write + SetTimeout, request: &[u8]) -> Verdict {
    stream.set_timeout(Duration::from_secs(10));
    // A server that refuses the head may have closed the connection before the body is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => answer.extend_from_slice(&buffer[..length]),
            Ok(0) | Err(_) => return Refused,
        }
        let text = String::from_utf8_lossy(&answer);
        // An interim response comes first.
        let text = text.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        if text.contains(MARK) {
            return Taken;
        }
        let status = text.split(' ').nth(1).unwrap_or_default();
        if status.starts_with(['3', '4', '5']) && text.contains("\r\n\r\n") {
            return Refused;
        }
    }
}

trait SetTimeout {
    fn set_timeout(&self, timeout: Duration);
}

impl SetTimeout for TcpStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
}

impl SetTimeout for UnixStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
}

/// A running HAProxy on a Unix socket; it ends when this is dropped.
struct Haproxy {
    directory: TempDir,
    process: Child,
}

impl Haproxy {
    fn start(origin: &Origin) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        let socket = directory.path().join("socket");
        let config = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 1s\n timeout server 5s\n \
             timeout http-request 1s\n\
             listen all\n bind unix@{}\n server origin {}\n",
            socket.display(),
            origin.address
        );
        fs::write(&file, config).unwrap();
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("HAProxy is installed: `cargo xtask setup` does it");
        let haproxy = Self { directory, process };
        wait_until("HAProxy to listen", || UnixStream::connect(&socket).is_ok());
        haproxy
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("socket")).unwrap()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The start of every answer of the endpoint.
const MARK: &str = "of-the-endpoint";

/// Bodies in chunks that a recipient may take (RFC 9112 §7.1).
const CHUNKED: &[(&str, &str)] = &[
    ("plain", "3\r\nabc\r\n0\r\n\r\n"),
    ("an extension", "3;x=y\r\nabc\r\n0\r\n\r\n"),
    ("a quoted extension", "3;x=\"y;z\"\r\nabc\r\n0\r\n\r\n"),
    ("an extension after a space", "3 ;x=y\r\nabc\r\n0\r\n\r\n"),
    ("leading zeros", "0003\r\nabc\r\n0\r\n\r\n"),
    ("capital digits", "A\r\n0123456789\r\n0\r\n\r\n"),
    ("a trailer", "3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
    (
        "a trailer that is a length",
        "3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    ),
    ("a trailer after bare LF", "3\r\nabc\r\n0\r\nX: y\n\r\n"),
    ("a trailer without colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"),
    ("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
    ("bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
    ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
];

/// Requests that real clients send, or that a server may take.
const ODD: &[(&str, &[u8])] = &[
    ("plain", b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("HTTP/1.0 without host", b"GET / HTTP/1.0\r\n\r\n"),
    ("absolute form", b"GET http://one.test/a HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("absolute form of another host", b"GET http://two.test/a HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("asterisk with GET", b"GET * HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("no slash before the path", b"GET a HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("TRACE", b"TRACE / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("lower-case method", b"get / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("method of its own", b"PROPFIND / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("method with a hyphen", b"VERSION-CONTROL / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("raw quotes and brackets", b"GET /\"<>`{}|^ HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("UTF-8 in the target", "GET /ü HTTP/1.1\r\nHost: one.test\r\n\r\n".as_bytes()),
    ("Latin-1 in the target", b"GET /\xfc HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("control character in the target", b"GET /\x01 HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("fragment in the target", b"GET /#a HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("invalid percent encoding", b"GET /%zz HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("encoded NUL", b"GET /%00 HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("above the root", b"GET /../a HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("host with a port", b"GET / HTTP/1.1\r\nHost: one.test:80\r\n\r\n"),
    ("host with a dot at its end", b"GET / HTTP/1.1\r\nHost: one.test.\r\n\r\n"),
    ("host with an underscore", b"GET / HTTP/1.1\r\nHost: one_x.test\r\n\r\n"),
    ("host with user information", b"GET / HTTP/1.1\r\nHost: user@one.test\r\n\r\n"),
    ("host with a path", b"GET / HTTP/1.1\r\nHost: one.test/x\r\n\r\n"),
    ("host that is empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("host that is an IPv6 address", b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"),
    ("host with an invalid port", b"GET / HTTP/1.1\r\nHost: one.test:x\r\n\r\n"),
    ("value that is empty", b"GET / HTTP/1.1\r\nHost: one.test\r\nX:\r\n\r\n"),
    ("value in tabs", b"GET / HTTP/1.1\r\nHost: one.test\r\nX:\t y\t\r\n\r\n"),
    ("value in Latin-1", b"GET / HTTP/1.1\r\nHost: one.test\r\nX: \xfc\r\n\r\n"),
    ("value with a control character", b"GET / HTTP/1.1\r\nHost: one.test\r\nX: a\x01b\r\n\r\n"),
    ("value with DEL", b"GET / HTTP/1.1\r\nHost: one.test\r\nX: a\x7fb\r\n\r\n"),
    ("name with an underscore", b"GET / HTTP/1.1\r\nHost: one.test\r\nx_y: z\r\n\r\n"),
    ("name with a dot", b"GET / HTTP/1.1\r\nHost: one.test\r\nx.y: z\r\n\r\n"),
    ("name with all token characters", b"GET / HTTP/1.1\r\nHost: one.test\r\n!#$%&'*+-.^_`|~: z\r\n\r\n"),
    ("name in Latin-1", b"GET / HTTP/1.1\r\nHost: one.test\r\nx\xfc: z\r\n\r\n"),
    ("empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("bare LF first", b"\nGET / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("space first", b" GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
    ("lower-case version", b"GET / http/1.1\r\nHost: one.test\r\n\r\n"),
    ("version with a zero", b"GET / HTTP/1.01\r\nHost: one.test\r\n\r\n"),
    ("HTTP/1.9", b"GET / HTTP/1.9\r\nHost: one.test\r\n\r\n"),
    ("body with GET", b"GET / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 3\r\n\r\nabc"),
    ("length in tabs", b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length:\t3\t\r\n\r\nabc"),
    ("length with zeros", b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 0003\r\n\r\nabc"),
    ("capital coding", b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n"),
    ("coding in spaces", b"POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding:  chunked \r\n\r\n0\r\n\r\n"),
    ("100-continue", b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"),
    ("unknown expectation", b"GET / HTTP/1.1\r\nHost: one.test\r\nExpect: x\r\n\r\n"),
    ("connection that names fields", b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: x, content-length\r\nX: y\r\n\r\n"),
    ("connection that names the host", b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: host\r\n\r\n"),
    ("PRI", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
];

/// Requests about which the three disagree: why ours is right, all verdicts, and the names.
const DIFFERENCES: &[(&str, Verdicts, &[&str])] = &[
    (
        "HAProxy repairs it; other servers find another length or another field (RFC 9112 §5.2, §6.1, §6.3)",
        [Refused, Refused, Taken],
        &[
            "CL.TE",
            "TE.CL",
            "CL.0.TE",
            "TE folded",
            "TE with HTTP/1.0",
            "CL twice, the same",
            "CL list",
            "obs-fold",
            "obs-fold by tab",
            "NUL in a value",
            "space before a name",
            "tab in the request line",
        ],
    ),
    (
        "it names no resource here: there is no host, no path, or a protocol of its own (RFC 9112 §3.2)",
        [Refused, Refused, Taken],
        &[
            "no host",
            "host with a path",
            "a tunnel",
            "asterisk form",
            "asterisk with GET",
            "HTTP/2 without its preface",
        ],
    ),
    (
        "nginx refuses it too, so no user of ingress-nginx depends on it",
        [Refused, Refused, Taken],
        &["TRACE", "lower-case method"],
    ),
    (
        "the path means two things, or none: rules for it could be bypassed",
        [Refused, Refused, Taken],
        &["invalid percent encoding", "encoded NUL", "above the root"],
    ),
    (
        "a recipient may take bare LF (RFC 9112 §2.2), and another one may not find an end there",
        [Refused, Taken, Taken],
        &[
            "TE after bare LF",
            "bare LF after a field",
            "bare LF for the end",
            "bare LF after the request line",
            "bare LF everywhere",
            "bare LF first",
            "chunk: bare LF",
            "chunk: bare LF after an extension",
            "chunk: bare LF after the data",
            "chunk: a trailer after bare LF",
        ],
    ),
    (
        "the grammar has no place for it (RFC 9112 §2.3, §3; RFC 9110 §5.5, §7.2), and nobody sends it",
        [Refused, Taken, Taken],
        &[
            "two spaces in the request line",
            "unknown version",
            "HTTP/1.9",
            "host with user information",
            "value with a control character",
            "value with DEL",
        ],
    ),
    (
        "nginx ignores what it cannot read; an endpoint may read it",
        [Refused, Taken, Refused],
        &[
            "no colon",
            "name in Latin-1",
            "chunk: a trailer without colon",
        ],
    ),
    (
        "HAProxy refuses it too: the version has no head, or two spellings, or two hosts are named",
        [Refused, Taken, Refused],
        &[
            "HTTP/0.9",
            "version with a zero",
            "absolute form of another host",
        ],
    ),
    (
        "real clients send it, and nginx takes it",
        [Taken, Taken, Refused],
        &["UTF-8 in the target", "fragment in the target"],
    ),
    (
        "the field's grammar allows it (RFC 9110 §5.6.3, §7.2)",
        [Taken, Refused, Taken],
        &["host that is empty", "length in tabs"],
    ),
];

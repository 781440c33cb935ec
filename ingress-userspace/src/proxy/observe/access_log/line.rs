//! Writes one line: the template's text with a request's values in it.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::address::Addresses;
use super::block::{Cursor, TooLong};
use super::entry::Entry;
use super::escape;
use super::template::{Escape, Template, Variable};
use super::time::Clock;
use crate::proxy::observe::metrics::record::{AttemptOutcome, NO_STATUS, Outcome};
use crate::proxy::runtime::transport::{Downstream, Scheme};

/// Writes the line of a request that has just ended to the beginning of a block. Returns its
/// length in bytes.
pub(crate) fn write(
    template: &Template,
    entry: &Entry,
    outcome: &Outcome<'_>,
    clock: &Clock,
    addresses: &mut Addresses,
    block: &mut [u8],
) -> Result<usize, TooLong> {
    let mut writer = Writer {
        escape: template.escape,
        entry,
        outcome,
        clock,
        addresses,
        line: Cursor::new(block),
    };
    for segment in &template.segments {
        writer.line.copy_piece(segment.text, segment.length);
        writer.variable(segment.variable);
    }
    writer.line.end()
}

struct Writer<'a> {
    escape: Escape,
    entry: &'a Entry,
    outcome: &'a Outcome<'a>,
    clock: &'a Clock,
    addresses: &'a mut Addresses,
    line: Cursor<'a>,
}

impl Writer<'_> {
    #[inline]
    fn value(&mut self, value: &[u8]) {
        escape::push(self.escape, value, &mut self.line);
    }

    fn number(&mut self, number: u64) {
        self.line.number(number);
    }

    fn seconds(&mut self, time: Duration) {
        self.line.seconds(time);
    }

    fn variable(&mut self, variable: Variable) {
        let Self { entry, outcome, .. } = *self;
        let key = || &outcome.labels.key;
        match variable {
            // An address that we spelled, and a token (RFC 9110 §9.1), have nothing to escape.
            Variable::RemoteAddr => self.line.copy(entry.client()),
            Variable::RemoteUser(place) => self.remote_user(place),
            Variable::TimeLocal => self.line.copy(self.clock.local().as_bytes()),
            Variable::TimeIso8601 => self.line.copy(self.clock.iso().as_bytes()),
            Variable::Msec => self.seconds(self.clock.since_1970(outcome.ended)),
            Variable::Request => self.request_line(),
            Variable::RequestMethod => self.line.copy(outcome.method.as_str().as_bytes()),
            Variable::RequestUri => self.target(),
            Variable::Uri => self.value(path_and_query(entry.target()).0),
            Variable::Args => self.value(path_and_query(entry.target()).1),
            Variable::ServerProtocol => self.line.copy_array(protocol(entry.downstream)),
            Variable::ServerPort => self.value(entry.port()),
            Variable::Scheme => self.value(match entry.scheme {
                Scheme::Http => b"http",
                Scheme::Https => b"https",
            }),
            Variable::Host(place) => match entry.host() {
                [] => self.value(without_port(entry.field(place))),
                host => self.value(host),
            },
            Variable::Status => self.number(outcome.status.into()),
            Variable::BodyBytesSent => self.number(outcome.body_sent),
            Variable::BytesSent => self.number(outcome.sent),
            Variable::RequestLength => self.number(outcome.received),
            Variable::RequestTime => self.seconds(outcome.took),
            Variable::UpstreamName => self.upstream_name(),
            Variable::UpstreamAddr => self.attempts(Self::endpoint),
            Variable::UpstreamStatus => self.attempts(|this, one| match one.status {
                NO_STATUS => this.value(b""),
                status => this.number(status.into()),
            }),
            Variable::UpstreamResponseLength => self.attempts(|this, one| this.number(one.length)),
            Variable::UpstreamResponseTime => self.attempts(|this, one| this.seconds(one.took)),
            Variable::UpstreamHeaderTime => self.attempts(|this, one| match one.answered {
                Some(answered) => this.seconds(answered),
                None => this.value(b""),
            }),
            Variable::UpstreamConnectTime => self.attempts(|this, one| this.seconds(one.connected)),
            Variable::RequestId => match entry.own_request_id() {
                Some(id) => self.line.copy_array(*id),
                None => self.value(entry.request_id()),
            },
            Variable::TraceId(place) => self.value(trace_id(entry.field(place))),
            Variable::Namespace => self.value(key().namespace.as_bytes()),
            Variable::Ingress => self.value(key().ingress.as_bytes()),
            Variable::Service => self.value(key().service.as_bytes()),
            Variable::ServicePort => match &key().port {
                Some(port) => self.value(port.to_string().as_bytes()),
                None => self.value(b""),
            },
            Variable::Path => self.value(key().path.as_bytes()),
            Variable::Field(place) => self.value(entry.field(place)),
            Variable::Nothing => {}
        }
    }

    fn request_line(&mut self) {
        self.line.copy(self.outcome.method.as_str().as_bytes());
        self.line.copy_array(*b" ");
        self.target();
        self.line.copy_array(*b" ");
        self.line.copy_array(protocol(self.entry.downstream));
    }

    fn target(&mut self) {
        match self.entry.target() {
            [] => self.line.copy_array(*b"*"),
            target => self.value(target),
        }
    }

    /// The user of basic authentication (RFC 7617), never the password.
    fn remote_user(&mut self, place: usize) {
        let user = basic_user(self.entry.field(place)).unwrap_or_default();
        self.value(&user);
    }

    fn upstream_name(&mut self) {
        let upstream = &self.outcome.labels.upstream;
        self.line.copy(upstream.as_bytes());
    }

    fn endpoint(&mut self, attempt: &AttemptOutcome) {
        match attempt.endpoint {
            SocketAddr::V4(endpoint) => self.addresses.write(endpoint, &mut self.line),
            SocketAddr::V6(endpoint) => {
                self.line.copy(endpoint.to_string().as_bytes());
            }
        }
    }

    /// One value for each try, as nginx lists them.
    fn attempts(&mut self, mut push: impl FnMut(&mut Self, &AttemptOutcome)) {
        let (failed, last) = (&self.outcome.failed, self.outcome.last);
        // Nearly always.
        if failed.is_empty() {
            return match last {
                Some(last) => push(self, &last),
                None => self.value(b""),
            };
        }
        for (index, attempt) in failed.iter().chain(&last).enumerate() {
            if index > 0 {
                self.line.copy_array(*b", ");
            }
            push(self, attempt);
        }
    }
}

fn protocol(downstream: Downstream) -> [u8; 8] {
    *match downstream {
        Downstream::Http10 => b"HTTP/1.0",
        Downstream::Http11 => b"HTTP/1.1",
        Downstream::Http2 => b"HTTP/2.0",
    }
}

/// A target's two parts, without the `?` between them.
fn path_and_query(target: &[u8]) -> (&[u8], &[u8]) {
    let mark = target.iter().position(|byte| *byte == b'?');
    match mark.map(|mark| target.split_at(mark)) {
        Some((path, query)) => (path, &query[1..]),
        None => (target, b""),
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &[u8]) -> &[u8] {
    let colon = host.iter().rposition(|byte| *byte == b':');
    match colon {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        Some(_) | None => host,
    }
}

/// The trace's id in a `traceparent` (W3C Trace Context §3.2).
fn trace_id(parent: &[u8]) -> &[u8] {
    let mut parts = parent.split(|byte| *byte == b'-');
    let id = parts.nth(1).unwrap_or_default();
    let is_id = id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit);
    if is_id { id } else { b"" }
}

fn basic_user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut credentials = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    credentials.truncate(colon);
    Some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        for (host, name) in [
            ("one.test:80", "one.test"),
            ("one.test", "one.test"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn a_user_is_told_and_no_password() {
        let user = |text: &str| basic_user(text.as_bytes());
        assert_eq!(
            user("Basic YWxhZGRpbjpvcGVuc2VzYW1l"),
            Some(b"aladdin".to_vec())
        );
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic ?",
            "Bearer YTpi",
            "Basic YWI=",
        ] {
            assert_eq!(user(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_trace_id_is_one() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            trace_id(parent.as_bytes()),
            b"4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(trace_id(b"00-nothing-1-01"), b"");
        assert_eq!(trace_id(b""), b"");
    }
}

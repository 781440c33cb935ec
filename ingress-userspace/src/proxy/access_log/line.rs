//! Writes one line: the template's text with a request's values in it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Version;

use super::entry::{AttemptOutcome, Entry, Outcome};
use super::escape;
use super::template::{Escape, Segment, Template, Variable};
use super::time::Clock;
use crate::proxy::listen::Scheme;

/// Appends the line of a request that has just ended.
pub(super) fn push(
    template: &Template,
    entry: &Entry,
    outcome: &Outcome<'_>,
    clock: &Clock,
    now: Duration,
    line: &mut Vec<u8>,
) {
    let mut writer = Writer {
        escape: template.escape,
        entry,
        outcome,
        clock,
        now,
        line,
    };
    for segment in &template.segments {
        match segment {
            Segment::Text(text) => writer.line.extend_from_slice(text.as_bytes()),
            Segment::Field(place) => writer.value(entry.field(*place)),
            Segment::Variable(variable) => writer.variable(*variable),
        }
    }
    writer.line.push(b'\n');
}

struct Writer<'a> {
    escape: Escape,
    entry: &'a Entry,
    outcome: &'a Outcome<'a>,
    clock: &'a Clock,
    now: Duration,
    line: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, value: &[u8]) {
        escape::push(self.escape, value, self.line);
    }

    fn number(&mut self, number: u64) {
        let mut buffer = itoa::Buffer::new();
        self.line
            .extend_from_slice(buffer.format(number).as_bytes());
    }

    /// Seconds with three digits after the point.
    fn seconds(&mut self, time: Duration) {
        self.number(time.as_secs());
        let millis = time.subsec_millis();
        let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or(0);
        let digits = [digit(millis / 100), digit(millis / 10), digit(millis)];
        self.line.push(b'.');
        self.line.extend(digits);
    }

    fn variable(&mut self, variable: Variable) {
        let Self { entry, outcome, .. } = *self;
        let key = &outcome.labels.key;
        match variable {
            Variable::RemoteAddr => self.value(entry.client.as_bytes()),
            Variable::RemoteUser(place) => self.remote_user(place),
            Variable::TimeLocal => self.line.extend_from_slice(self.clock.local().as_bytes()),
            Variable::TimeIso8601 => self.line.extend_from_slice(self.clock.iso().as_bytes()),
            Variable::Msec => self.seconds(self.now),
            Variable::Request => self.request_line(),
            Variable::RequestMethod => self.value(outcome.method.as_bytes()),
            Variable::RequestUri => self.target(),
            Variable::Uri => self.value(entry.target.path().as_bytes()),
            Variable::Args => self.value(entry.target.query().unwrap_or_default().as_bytes()),
            Variable::ServerProtocol => self.line.extend_from_slice(protocol(entry.version)),
            Variable::ServerPort => self.value(entry.port.as_bytes()),
            Variable::Scheme => self.value(match entry.scheme {
                Scheme::Http => b"http",
                Scheme::Https => b"https",
            }),
            Variable::Host(place) => match entry.target.authority() {
                Some(authority) => self.value(authority.host().as_bytes()),
                None => self.value(without_port(entry.field(place))),
            },
            Variable::Status => self.number(outcome.status.into()),
            Variable::BodyBytesSent => self.number(outcome.body_sent),
            Variable::BytesSent => self.number(outcome.sent),
            Variable::RequestLength => self.number(outcome.received),
            Variable::RequestTime => self.seconds(outcome.took),
            Variable::UpstreamName => self.upstream_name(),
            Variable::UpstreamAddr => self.attempts(Self::endpoint),
            Variable::UpstreamStatus => self.attempts(|this, one| this.number(one.status.into())),
            Variable::UpstreamResponseLength => self.attempts(|this, one| this.number(one.length)),
            Variable::UpstreamResponseTime => self.attempts(|this, one| this.seconds(one.took)),
            Variable::UpstreamHeaderTime => self.attempts(|this, one| match one.answered {
                Some(answered) => this.seconds(answered),
                None => this.value(b""),
            }),
            Variable::UpstreamConnectTime => self.attempts(|this, one| this.seconds(one.connected)),
            Variable::RequestId => self.value(entry.request_id.as_bytes()),
            Variable::TraceId(place) => self.value(trace_id(entry.field(place))),
            Variable::Namespace => self.value(key.namespace.as_bytes()),
            Variable::Ingress => self.value(key.ingress.as_bytes()),
            Variable::Service => self.value(key.service.as_bytes()),
            Variable::ServicePort => match &key.port {
                Some(port) => self.value(port.to_string().as_bytes()),
                None => self.value(b""),
            },
            Variable::Path => self.value(key.path.as_bytes()),
            // In brackets that nginx leaves empty.
            Variable::Nothing => {}
        }
    }

    fn request_line(&mut self) {
        self.value(self.outcome.method.as_bytes());
        self.line.push(b' ');
        self.target();
        self.line.push(b' ');
        self.line.extend_from_slice(protocol(self.entry.version));
    }

    fn target(&mut self) {
        let target = self.entry.target.path_and_query();
        self.value(target.map_or(b"*", |target| target.as_str().as_bytes()));
    }

    /// The user of basic authentication (RFC 7617), never the password.
    fn remote_user(&mut self, place: usize) {
        let user = basic_user(self.entry.field(place)).unwrap_or_default();
        self.value(&user);
    }

    fn upstream_name(&mut self) {
        let upstream = &self.outcome.labels.upstream;
        self.line.extend_from_slice(upstream.as_bytes());
    }

    fn endpoint(&mut self, attempt: &AttemptOutcome) {
        match attempt.endpoint {
            // By hand: formatting it takes as long as half of the line.
            SocketAddr::V4(endpoint) => {
                for (index, octet) in endpoint.ip().octets().into_iter().enumerate() {
                    if index > 0 {
                        self.line.push(b'.');
                    }
                    self.number(octet.into());
                }
                self.line.push(b':');
                self.number(endpoint.port().into());
            }
            SocketAddr::V6(endpoint) => {
                // Writing to a vector does not fail.
                let _ = write!(self.line, "{endpoint}");
            }
        }
    }

    /// One value for each try, as nginx lists them.
    fn attempts(&mut self, mut push: impl FnMut(&mut Self, &AttemptOutcome)) {
        let attempts = self.outcome.attempts;
        if attempts.is_empty() {
            return self.value(b"");
        }
        for (index, attempt) in attempts.iter().enumerate() {
            if index > 0 {
                self.line.extend_from_slice(b", ");
            }
            push(self, attempt);
        }
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        _ => b"HTTP/1.1",
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

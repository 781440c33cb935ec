//! The deadline that a gRPC client gives a call.
//!
//! Clients give up by themselves; that we do too keeps endpoints from working for those that have
//! gone without a word. It is late by a tick of the worker's clock at most.

use std::time::{Duration, Instant};

use http::{HeaderValue, Request};

use crate::proxy::request::response::ErrorFormat;

/// When a call has to be over, if its client says so.
pub(crate) fn of<B>(request: &Request<B>, now: Instant) -> Option<Instant> {
    // Says no at once to what is no POST, as nearly everything is.
    if ErrorFormat::of(request) != ErrorFormat::Grpc {
        return None;
    }
    let timeout = request.headers().get("grpc-timeout")?;
    now.checked_add(parse(timeout)?)
}

/// `TimeoutValue TimeoutUnit` of gRPC's `PROTOCOL-HTTP2.md`: up to eight digits and a unit.
fn parse(timeout: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = timeout.as_bytes().split_last()?;
    let is_number =
        !digits.is_empty() && digits.len() <= 8 && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 60 * 60),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    is_number.then_some(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("100u", Some(Duration::from_micros(100))),
            ("0n", Some(Duration::ZERO)),
            ("100000000S", None),
            ("1s", None),
            ("+1S", None),
            ("S", None),
            ("", None),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), expected, "{text}");
        }
    }
}

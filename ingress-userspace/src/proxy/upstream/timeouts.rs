//! How long the endpoints of one backend are waited for.

use std::num::NonZeroU32;
use std::time::Duration;

use ingress_core::ir::RouteTimeouts;

use crate::proxy::runtime::limits::Timeouts;

/// What an Ingress says, and where it says nothing, what is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveTimeouts {
    /// Between two reads of a request body before there is an endpoint.
    pub(crate) client_body: Duration,
    /// For a connection.
    pub(crate) connect: Duration,
    /// Without a byte while the client still sends a body.
    pub(crate) send: Duration,
    /// Without a byte before the response head.
    pub(crate) head: Duration,
    /// Without a byte after it.
    pub(crate) body: Duration,
    /// Without a byte in either direction of a tunnel.
    pub(crate) tunnel: Duration,
    /// For all of a request and its response, if there is a limit.
    pub(crate) request: Option<Duration>,
}

impl EffectiveTimeouts {
    pub(crate) fn new(usual: &Timeouts, said: RouteTimeouts) -> Self {
        let RouteTimeouts {
            client_body,
            connect,
            send,
            read,
            request,
        } = said;
        let or = |said: Option<NonZeroU32>, usual| said.map_or(usual, seconds);
        Self {
            client_body: or(client_body, usual.client_body),
            connect: or(connect, usual.upstream_connect),
            send: or(send, usual.upstream_send),
            head: or(read, usual.response_head),
            body: or(read, usual.body_idle),
            tunnel: or(read, usual.tunnel_idle),
            request: request.map(seconds).or(usual.request),
        }
    }
}

fn seconds(number: NonZeroU32) -> Duration {
    Duration::from_secs(number.get().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_timeouts_override_defaults() {
        let usual = Timeouts::default();
        let waits = EffectiveTimeouts::new(&usual, RouteTimeouts::default());
        assert_eq!(waits.connect, Duration::from_secs(5));
        assert_eq!(waits.request, None);
        for other in [waits.send, waits.head, waits.body, waits.tunnel] {
            assert_eq!(other, Duration::from_mins(1));
        }
        let said = RouteTimeouts {
            read: NonZeroU32::new(3600),
            ..RouteTimeouts::default()
        };
        let hour = Duration::from_hours(1);
        let expected = EffectiveTimeouts {
            head: hour,
            body: hour,
            tunnel: hour,
            ..waits
        };
        assert_eq!(EffectiveTimeouts::new(&usual, said), expected);
    }
}

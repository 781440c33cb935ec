//! Requests that ask to leave HTTP: what they ask for, and what an endpoint's consent means.
//!
//! Towards an endpoint it is always an HTTP/1.1 Upgrade (RFC 9110 §7.8). A client asks with one
//! over HTTP/1.1, or with an extended CONNECT over HTTP/2 (RFC 8441), which is translated.
//!
//! Invariant: bytes leave HTTP only if the client has asked for a protocol by name and the endpoint
//! has agreed to that one. `h2c` is never passed on: it would let a client speak HTTP/2 past us.

use std::rc::Rc;

use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, Response, StatusCode, request, response};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::rt::Executor as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::body::Carrier;
use super::connection::{Connection, Switched};
use super::error::Failure;
use super::executor::LocalExecutor;
use super::metrics::account::Account;
use super::response::rewrite;
use super::tunnel::{self, Side};
use super::websocket::{self, Accept};

/// What a client asks to switch to.
pub(super) struct Upgrade {
    /// The value of the `Upgrade` field towards the endpoint.
    protocols: HeaderValue,
    asked: Asked,
}

/// How the client has asked, and so how it is told.
enum Asked {
    /// By HTTP/1.1: with 101, after which its connection is the tunnel.
    Http1,
    /// By an extended CONNECT: with 200, after which the stream is the tunnel.
    Http2 {
        stream: OnUpgrade,
        /// What the endpoint has to prove, for a WebSocket.
        accept: Option<Accept>,
    },
}

impl Upgrade {
    /// What an HTTP/1.1 request asks for by its `Upgrade` field, which `Connection` names too.
    pub(super) fn of_http1(protocols: HeaderValue) -> Option<Self> {
        may_pass(&protocols).then_some(Self {
            protocols,
            asked: Asked::Http1,
        })
    }

    /// Turns an extended CONNECT into the request that an HTTP/1.1 endpoint understands
    /// (RFC 8441 §5). `None` if it is a CONNECT of another kind.
    pub(super) fn of_connect(head: &mut request::Parts, random: [u8; 16]) -> Option<Self> {
        let protocol = head.extensions.remove::<Protocol>()?;
        let stream = head.extensions.remove::<OnUpgrade>()?;
        let protocols = HeaderValue::from_str(protocol.as_str()).ok()?;
        if !may_pass(&protocols) {
            return None;
        }
        head.method = Method::GET;
        let accept = protocol
            .as_str()
            .eq_ignore_ascii_case("websocket")
            .then(|| {
                let key = websocket::key(random);
                let accept = Accept::of(&key);
                head.headers.insert(SEC_WEBSOCKET_KEY, key);
                accept
            });
        Some(Self {
            protocols,
            asked: Asked::Http2 { stream, accept },
        })
    }

    /// Asks the endpoint.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocols.clone());
    }

    /// Begins the tunnel that the endpoint has agreed to, and says so to the client.
    pub(super) fn accept(
        self,
        agreed: Response<Incoming>,
        carrier: Carrier,
        connection: &Rc<Connection>,
        account: &Rc<Account>,
    ) -> Result<response::Parts, Failure> {
        let (mut head, _) = agreed.into_parts();
        let chosen = head.headers.remove(UPGRADE);
        let chosen = chosen.filter(|chosen| self.offers(chosen));
        let chosen = chosen.ok_or(Failure::Switched)?;
        let upstream = carrier.into_upstream();
        let endpoint = upstream.and_then(|upstream| upstream.into_side());
        let endpoint = endpoint.ok_or(Failure::Switched)?;
        rewrite(&mut head);
        let account = Rc::clone(account);
        match self.asked {
            Asked::Http1 => {
                let upgrade = HeaderValue::from_static("upgrade");
                head.headers.insert(CONNECTION, upgrade);
                head.headers.insert(UPGRADE, chosen);
                // Taken up when the head has been written.
                connection.switch(Switched { endpoint, account });
            }
            Asked::Http2 { stream, accept } => {
                let proof = head.headers.remove(SEC_WEBSOCKET_ACCEPT);
                if accept.is_some_and(|accept| !accept.is_met_by(proof.as_ref())) {
                    return Err(Failure::Switched);
                }
                head.status = StatusCode::OK;
                let switched = Switched { endpoint, account };
                let tunnel = carry(stream, switched, Rc::clone(connection));
                LocalExecutor::new(&connection.worker).execute(tunnel);
            }
        }
        Ok(head)
    }

    /// Whether an answer other than 101 may go to the client as it is. A success would tell an
    /// HTTP/2 client that the tunnel is open (RFC 8441 §5).
    pub(super) fn may_be_refused_with(&self, status: StatusCode) -> bool {
        matches!(self.asked, Asked::Http1) || !status.is_success()
    }

    fn offers(&self, chosen: &HeaderValue) -> bool {
        let is_offered =
            |name: &[u8]| names(&self.protocols).any(|offered| offered.eq_ignore_ascii_case(name));
        names(chosen).next().is_some() && names(chosen).all(is_offered)
    }
}

/// The tunnel of one HTTP/2 stream.
async fn carry(stream: OnUpgrade, switched: Switched, connection: Rc<Connection>) {
    let Switched { endpoint, account } = switched;
    let in_flight = connection.begin(account);
    if let Ok(upgraded) = stream.await {
        let client = Side::new(TokioIo::new(upgraded));
        let worker = &connection.worker;
        let limit = worker.timeouts.tunnel_idle;
        let tunnelled = tunnel::run(client, endpoint, limit, worker).await;
        in_flight.account().add_tunnelled(tunnelled);
    }
}

fn may_pass(protocols: &HeaderValue) -> bool {
    let is_http2 = |name: &[u8]| {
        let name = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
    };
    names(protocols).next().is_some() && !names(protocols).any(is_http2)
}

/// The elements of a list (RFC 9110 §5.6.1).
fn names(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let elements = list.as_bytes().split(|byte| *byte == b',');
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_agreed_to() {
        let asked = HeaderValue::from_static("websocket, Other/2");
        let upgrade = Upgrade::of_http1(asked).unwrap();
        for (chosen, is_offered) in [
            ("WebSocket", true),
            ("other/2", true),
            ("other/1", false),
            ("websocket, evil", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(chosen);
            assert_eq!(upgrade.offers(&value), is_offered, "{chosen}");
        }
    }

    #[test]
    fn http_2_is_no_upgrade() {
        for protocols in ["h2c", "websocket, H2C", "h2c/1", "h2", "", " , "] {
            let value = HeaderValue::from_static(protocols);
            assert!(Upgrade::of_http1(value).is_none(), "{protocols}");
        }
    }
}

//! Requests that ask to leave HTTP: what they ask for, and what an endpoint's consent means.
//!
//! A client asks by an Upgrade over HTTP/1.1 (RFC 9110 §7.8) or by an extended CONNECT over HTTP/2
//! (RFC 8441); the endpoint is asked in its own protocol, so each form is translated to the other.
//! Towards HTTP/2 endpoints only WebSocket is translated: other upgrades may be ignored, but a CONNECT
//! may not. A tunnel that an HTTP/2 endpoint's settings do not allow is answered with 501.
//!
//! Invariant: bytes leave HTTP only if the client has asked for a protocol by name and the endpoint
//! has agreed to that one. `h2c` is never passed on: it would let a client speak HTTP/2 past us.

use std::rc::Rc;
use std::time::Duration;

use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{Method, Response, StatusCode, request, response};
use hyper::ext::Protocol;
use hyper::rt::Executor as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ingress_wire::websocket::{self, Accept};

use crate::proxy::l4::tunnel;
use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::response::rewrite;
use crate::proxy::runtime::executor::LocalExecutor;
use crate::proxy::runtime::stream::{ClientTunnel, Joined, Side, UpstreamStream};
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::response_source::ResponseSource;

/// What a client asks to switch to.
pub(crate) struct Upgrade {
    /// The value of the `Upgrade` field towards the endpoint.
    protocols: HeaderValue,
    asked: Asked,
    /// Whether the endpoint is asked by an extended CONNECT.
    by_connect: bool,
}

/// How the client has asked, and so how it is told.
enum Asked {
    /// By HTTP/1.1: with 101, after which its connection is the tunnel.
    Http1 {
        /// What we have to prove, for a WebSocket to an HTTP/2 endpoint.
        proof: Option<Accept>,
    },
    /// By an extended CONNECT: with 200, after which the stream is the tunnel.
    Http2 {
        tunnel: Box<dyn ClientTunnel>,
        /// What the endpoint has to prove, for a WebSocket.
        accept: Option<Accept>,
    },
}

impl Upgrade {
    /// What an HTTP/1.1 request asks for by its `Upgrade` field, which `Connection` names too.
    pub(crate) fn of_http1(protocols: HeaderValue) -> Option<Self> {
        may_pass(&protocols).then_some(Self {
            protocols,
            asked: Asked::Http1 { proof: None },
            by_connect: false,
        })
    }

    /// A WebSocket that an HTTP/1.1 request asks for, and that an HTTP/2 endpoint can be asked for.
    pub(crate) fn of_websocket(protocols: HeaderValue, headers: &HeaderMap) -> Option<Self> {
        let key = headers.get(SEC_WEBSOCKET_KEY)?;
        let is_websocket = protocols.as_bytes().eq_ignore_ascii_case(WEBSOCKET);
        is_websocket.then(|| Self {
            protocols,
            asked: Asked::Http1 {
                proof: Some(Accept::of(key)),
            },
            by_connect: false,
        })
    }

    /// Turns an extended CONNECT into the request that an HTTP/1.1 endpoint understands
    /// (RFC 8441 §5). `None` if it is a CONNECT of another kind.
    pub(crate) fn of_connect(
        head: &mut request::Parts,
        tunnel: Box<dyn ClientTunnel>,
        random: [u8; 16],
    ) -> Option<Self> {
        let protocol = head.extensions.remove::<Protocol>()?;
        let protocols = HeaderValue::from_str(protocol.as_str()).ok()?;
        if !may_pass(&protocols) {
            return None;
        }
        head.method = Method::GET;
        let accept = protocol
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(WEBSOCKET)
            .then(|| {
                let key = websocket::key(random);
                let accept = Accept::of(&key);
                head.headers.insert(SEC_WEBSOCKET_KEY, key);
                accept
            });
        Some(Self {
            protocols,
            asked: Asked::Http2 { tunnel, accept },
            by_connect: false,
        })
    }

    /// Asks the endpoint.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocols.clone());
    }

    /// Asks an endpoint that speaks HTTP/2 (RFC 8441 §4), which proves nothing.
    pub(crate) fn connect(&mut self, head: &mut request::Parts) {
        let protocol = self.protocols.to_str().unwrap_or_default();
        let protocol = Protocol::from(&*protocol.to_ascii_lowercase());
        head.method = Method::CONNECT;
        head.extensions.insert(protocol);
        head.headers.remove(SEC_WEBSOCKET_KEY);
        if let Asked::Http2 { accept, .. } = &mut self.asked {
            *accept = None;
        }
        self.by_connect = true;
    }

    /// What an endpoint has agreed to by this status, if it was asked for anything.
    pub(crate) fn agreed(
        asked: Option<Self>,
        status: StatusCode,
    ) -> Result<Option<Self>, ProxyError> {
        let has_switched = status == StatusCode::SWITCHING_PROTOCOLS;
        match asked {
            Some(upgrade) if upgrade.by_connect && status == StatusCode::OK => Ok(Some(upgrade)),
            Some(upgrade) if !upgrade.by_connect && has_switched => Ok(Some(upgrade)),
            _ if has_switched => Err(UpstreamError::Switched.into()),
            Some(upgrade) if !upgrade.may_be_refused_with(status) => {
                Err(UpstreamError::NotSwitched.into())
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Begins the tunnel that the endpoint has agreed to, and says so to the client.
    pub(crate) fn accept(
        self,
        agreed: Response<()>,
        source: ResponseSource,
        connection: &Rc<Connection>,
        record: &RequestRecord,
        limit: Duration,
    ) -> Result<response::Parts, ProxyError> {
        let (mut head, ()) = agreed.into_parts();
        let chosen = if self.by_connect {
            Some(self.protocols.clone())
        } else {
            let chosen = head.headers.remove(UPGRADE);
            chosen.filter(|chosen| self.offers(chosen))
        };
        let chosen = chosen.ok_or(UpstreamError::Switched)?;
        let endpoint = FarEnd::of(source, &mut head).ok_or(UpstreamError::Switched)?;
        rewrite(&mut head);
        let record = record.clone();
        match self.asked {
            Asked::Http1 { proof } => {
                let upgrade = HeaderValue::from_static("upgrade");
                head.status = StatusCode::SWITCHING_PROTOCOLS;
                head.headers.insert(CONNECTION, upgrade);
                head.headers.insert(UPGRADE, chosen);
                if let Some(proof) = proof {
                    head.headers.insert(SEC_WEBSOCKET_ACCEPT, proof.into());
                }
                // Taken up when the head has been written.
                connection.switch(Switched {
                    endpoint,
                    record,
                    limit,
                });
            }
            Asked::Http2 { tunnel, accept } => {
                let proof = head.headers.remove(SEC_WEBSOCKET_ACCEPT);
                if accept.is_some_and(|accept| !accept.is_met_by(proof.as_ref())) {
                    return Err(UpstreamError::Switched.into());
                }
                head.status = StatusCode::OK;
                let switched = Switched {
                    endpoint,
                    record,
                    limit,
                };
                let connection = Rc::clone(connection);
                let executor = LocalExecutor::new(&connection.worker.runtime.counters);
                executor.execute(async move {
                    let begun = std::future::poll_fn(|cx| tunnel.poll_begun(cx));
                    if begun.await.is_ok() {
                        switched.carry(Side::new(tunnel), &connection).await;
                    }
                });
            }
        }
        Ok(head)
    }

    /// Whether an answer that agrees to nothing may go to the client as it is. A success would
    /// tell an HTTP/2 client that the tunnel is open, and says so of a CONNECT (RFC 8441 §5).
    fn may_be_refused_with(&self, status: StatusCode) -> bool {
        let is_http1 = matches!(self.asked, Asked::Http1 { .. });
        is_http1 && !self.by_connect || !status.is_success()
    }

    fn offers(&self, chosen: &HeaderValue) -> bool {
        let is_offered =
            |name: &[u8]| names(&self.protocols).any(|offered| offered.eq_ignore_ascii_case(name));
        names(chosen).next().is_some() && names(chosen).all(is_offered)
    }
}

/// A tunnel that an endpoint has agreed to.
pub(crate) struct Switched {
    endpoint: FarEnd,
    /// The request that asked for it.
    record: RequestRecord,
    /// Without a byte in either direction.
    limit: Duration,
}

/// Where it leads.
enum FarEnd {
    /// A connection of its own.
    Connection(Side<UpstreamStream>),
    /// A stream among others.
    Stream(OnUpgrade, ResponseSource),
}

impl FarEnd {
    fn of(source: ResponseSource, agreed: &mut response::Parts) -> Option<Self> {
        if let ResponseSource::Shared(_) = source {
            let stream = agreed.extensions.remove::<OnUpgrade>()?;
            return Some(Self::Stream(stream, source));
        }
        let upstream = source.into_upstream()?;
        Some(Self::Connection(upstream.into_side()))
    }
}

impl Switched {
    /// Carries bytes between the client and the endpoint to their end.
    pub(crate) async fn carry<S>(self, client: Side<S>, connection: &Rc<Connection>)
    where
        S: Joined,
    {
        let in_flight = connection.begin(self.record);
        let runtime = &connection.worker.runtime;
        let limit = self.limit;
        let tunnelled = match self.endpoint {
            FarEnd::Connection(endpoint) => tunnel::run(client, endpoint, limit, runtime).await,
            FarEnd::Stream(stream, _carrier) => {
                // It is there already: the endpoint has agreed.
                let Ok(upgraded) = stream.await else { return };
                let endpoint = Side::new(TokioIo::new(upgraded));
                tunnel::run(client, endpoint, limit, runtime).await
            }
        };
        in_flight.record().add_tunnelled(tunnelled);
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

const WEBSOCKET: &[u8] = b"websocket";

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

//! The prepare phase: makes the head of a client's request the one for an endpoint.

use std::rc::Rc;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, request};
use ingress_core::ir::UpstreamProtocol;

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::client::Client;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::{BadRequest, ProxyError};
use crate::proxy::request::head::{self, Rewritten};
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::runtime::field::X_REQUEST_ID;
use crate::proxy::runtime::stream::ClientTunnel;
use crate::proxy::runtime::transport::Downstream;
use crate::proxy::tls::client_auth::ClientCertVerdict;
use crate::proxy::upstream::forwarded::ForwardedHeaders;

/// A request, apart from its head.
pub(crate) struct Prepare<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) client: &'a Client,
    pub(crate) record: &'a RequestRecord,
    pub(crate) downstream: Downstream,
    pub(crate) is_bodyless: bool,
    /// What the client has shown, where that matters.
    pub(crate) shown: Option<Rc<ClientCertVerdict>>,
    /// The host that the endpoint is told in place of the client's.
    pub(crate) host: Option<HeaderValue>,
    /// Fields that the endpoint gets, whatever the client says.
    pub(crate) fields: HeaderMap,
}

impl Prepare<'_> {
    /// Rewrites the head, and returns what to switch to if the endpoint agrees, and the fields that
    /// are written beside the head.
    ///
    /// # Errors
    ///
    /// [`ProxyError::BadRequest`] for a CONNECT that asks for no protocol, and for a host that HTTP/2
    /// cannot carry.
    pub(crate) fn run(
        self,
        head: &mut request::Parts,
        protocol: UpstreamProtocol,
        tunnel: Option<Box<dyn ClientTunnel>>,
    ) -> Result<(Option<Upgrade>, Option<ForwardedHeaders>), ProxyError> {
        let mut upgrade = None;
        if head.method == Method::CONNECT {
            let nonce = self.connection.worker.runtime.nonce();
            upgrade = tunnel.and_then(|tunnel| Upgrade::of_connect(head, tunnel, nonce));
            upgrade.as_ref().ok_or(BadRequest::Connect)?;
        }
        let (connection, client) = (self.connection, self.client);
        let Rewritten {
            protocols,
            mut lines,
        } = head::rewrite(head, connection, client, self.record, protocol);
        let protocols = protocols.filter(|_| self.downstream.can_upgrade());
        if let Some(host) = self.host {
            // It is written once: in the head, or beside it.
            match lines.as_mut().and_then(|lines| lines.host.as_mut()) {
                Some(beside) => *beside = host,
                None => drop(head.headers.insert(HOST, host)),
            }
        }
        if self.fields.contains_key(X_REQUEST_ID)
            && let Some(lines) = &mut lines
        {
            lines.request_id = None;
        }
        // Empty for most requests; what clients may not say themselves has been removed by now.
        for (name, value) in &self.fields {
            head.headers.insert(name, value.clone());
        }
        if let Some(shown) = &self.shown {
            shown.write(&mut head.headers);
        }
        if protocol.is_multiplexed() {
            // Other upgrades are not for HTTP/2 (RFC 9113 §8.2.2), and a client may be ignored.
            if let Some(protocols) = protocols.filter(|_| self.is_bodyless) {
                upgrade = Upgrade::of_websocket(protocols, &head.headers);
            }
            head::rewrite_for_http2(head, protocol)?;
            if let Some(upgrade) = &mut upgrade {
                upgrade.connect(head);
            }
            return Ok((upgrade, None));
        }
        // Where a request with a body ends and a tunnel begins is for the endpoint to say; so the
        // client may not ask (RFC 9110 §7.8 lets anybody ignore it).
        if let Some(protocols) = protocols.filter(|_| self.is_bodyless) {
            upgrade = Upgrade::of_http1(protocols);
        }
        if let Some(upgrade) = &upgrade {
            upgrade.write(&mut head.headers);
        }
        Ok((upgrade, lines))
    }
}

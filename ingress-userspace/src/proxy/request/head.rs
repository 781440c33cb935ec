//! The head of a request: who it is for, and what of it an endpoint gets to see.
//!
//! Headers follow ingress-nginx: what the client says about itself is replaced by what we know.
//! Hop-by-hop fields end here (RFC 9110 §7.6.1). Fields with `_` in their name are dropped as
//! nginx does, because CGI and WSGI cannot tell `X_Forwarded_For` from `X-Forwarded-For`.

use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, HOST, HeaderMap, HeaderName, HeaderValue, TE,
};
use http::uri::Authority;
use http::{Method, Request, Uri, Version, request, uri};
use hyper::ext::Protocol;
use ingress_core::ir::UpstreamProtocol;
use ingress_wire::http1::is_authority;
use memchr::memchr;

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::client::{Client, forwarded_element, forwarded_list};
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::BadRequest;
use crate::proxy::runtime::field::{
    FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
    X_FORWARDED_SCHEME, X_ORIGINAL_FORWARDED_FOR, X_ORIGINAL_FORWARDED_HOST, X_REAL_IP,
    X_REQUEST_ID, X_SCHEME, lines_in_one, remove_connection_fields, scheme_value,
};
use crate::proxy::runtime::transport::Downstream;
use crate::proxy::tls::client_auth;
use crate::proxy::upstream::forwarded::ForwardedHeaders;

/// The authority that a request is for, to route by. Empty if an HTTP/1.0 client named none, or
/// an HTTP/1.1 client an empty one.
pub(crate) fn authority(head: &request::Parts, downstream: Downstream) -> Result<&str, BadRequest> {
    if head.method == Method::CONNECT && head.extensions.get::<Protocol>().is_none() {
        return Err(BadRequest::Connect);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(BadRequest::SeveralHosts);
    }
    if downstream.has_pseudo_fields() {
        check_pseudo_fields(head, host)?;
    } else if host.is_none() && downstream.needs_host() {
        return Err(BadRequest::NoHost);
    }
    // A request target in absolute form overrules `Host` (RFC 9112 §3.2.2), as `:authority` does.
    let text = match (head.uri.authority(), host) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| BadRequest::MalformedHost)?,
        (None, None) if downstream.needs_host() => return Err(BadRequest::NoHost),
        (None, None) => "",
    };
    if is_authority(text.as_bytes()) {
        Ok(text)
    } else {
        Err(BadRequest::MalformedHost)
    }
}

/// What a request will be routed by if it is a good one.
pub(crate) fn host_in<B>(request: &Request<B>) -> &str {
    let field = || request.headers().get(HOST)?.to_str().ok();
    let authority = request.uri().authority().map(Authority::as_str);
    authority.or_else(field).unwrap_or_default()
}

/// What is no fault of the frames although endpoints that speak HTTP/1.1 may take it in several ways.
fn check_pseudo_fields(
    head: &request::Parts,
    host: Option<&HeaderValue>,
) -> Result<(), BadRequest> {
    // RFC 9113 §8.3.1.
    if let (Some(authority), Some(host)) = (head.uri.authority(), host)
        && !authority
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(BadRequest::SeveralHosts);
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if lengths.nth(1).is_some() {
        return Err(BadRequest::SeveralLengths);
    }
    Ok(())
}

/// A head that came from a client as it is for an endpoint.
pub(crate) struct Rewritten {
    /// The protocols that an HTTP/1.1 client asks to switch to.
    pub(crate) protocols: Option<HeaderValue>,
    /// What is written beside the head; only towards HTTP/1.1.
    pub(crate) lines: Option<ForwardedHeaders>,
}

/// Rewrites a head that came from a client to the one for an endpoint.
pub(crate) fn rewrite(
    head: &mut request::Parts,
    connection: &Connection,
    client: &Client,
    record: &RequestRecord,
    protocol: UpstreamProtocol,
) -> Rewritten {
    let (host, is_there) = if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str());
        head.uri = origin_form(&head.uri);
        (host.ok(), false)
    } else {
        let host = head.headers.get(HOST).cloned();
        let is_there = host.is_some();
        (host, is_there)
    };
    let host = host.unwrap_or(HeaderValue::from_static(""));
    head.version = Version::HTTP_11;
    let headers = &mut head.headers;
    let is_special = headers.keys().any(is_special);
    let taken = is_special.then(|| Taken::out_of(headers));
    let taken = taken.unwrap_or_default();
    let policy = connection.worker.clients();
    if policy.forwarded_for != X_FORWARDED_FOR && client.forwarded_info.is_none() {
        headers.remove(&policy.forwarded_for);
    }
    let takes_lines =
        !protocol.is_multiplexed() && client.forwarded_info.is_none() && !policy.add_forwarded;
    let mut lines = None;
    if takes_lines {
        let has_id = headers.contains_key(X_REQUEST_ID);
        if !is_there {
            headers.remove(HOST);
        } else if is_special {
            headers.insert(HOST, host.clone());
        }
        lines = Some(ForwardedHeaders {
            connection: connection.lines(),
            host: (!is_there).then(|| host.clone()),
            forwarded_host: host,
            request_id: (!has_id).then(|| record.request_id()),
        });
    } else {
        // One allocation at most for all that follows.
        headers.reserve(ADDED_FIELDS);
        let host = introduce(headers, host, connection, client);
        if let Entry::Vacant(place) = headers.entry(X_REQUEST_ID) {
            let id = HeaderValue::from_bytes(&record.request_id());
            place.insert(id.unwrap_or(HeaderValue::from_static("")));
        }
        if !is_there || is_special || client.forwarded_info.is_some() {
            headers.insert(HOST, host);
        }
    }
    if let Some(original) = taken.forwarded_for {
        headers.insert(X_ORIGINAL_FORWARDED_FOR, original);
    }
    if let Some(original) = taken.forwarded_host {
        headers.insert(X_ORIGINAL_FORWARDED_HOST, original);
    }
    if let Some(span) = record.span() {
        span.write(headers);
    }
    if taken.accepts_trailers {
        // We pass trailers on. Whoever sends `TE` names it in `Connection` (RFC 9110 §10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Rewritten {
        protocols: taken.protocols,
        lines,
    }
}

/// What a head had that few have, and that does not stay in it.
#[derive(Default)]
struct Taken {
    /// What to switch to, if the client asks for it as it should.
    protocols: Option<HeaderValue>,
    accepts_trailers: bool,
    forwarded_for: Option<HeaderValue>,
    forwarded_host: Option<HeaderValue>,
}

impl Taken {
    fn out_of(headers: &mut HeaderMap) -> Self {
        let accepts_trailers = headers.get(TE).is_some_and(accepts_trailers);
        let protocols = remove_connection_fields(headers);
        let taken = Self {
            protocols,
            accepts_trailers,
            forwarded_for: lines_in_one(headers, &X_FORWARDED_FOR),
            forwarded_host: headers.get(X_FORWARDED_HOST).cloned(),
        };
        remove_request_fields(headers);
        taken
    }
}

/// Tells the endpoint who asks and how. Returns the host that it is asked for.
fn introduce(
    headers: &mut HeaderMap,
    host: HeaderValue,
    connection: &Connection,
    client: &Client,
) -> HeaderValue {
    let forwarded_info = client.forwarded_info.as_deref();
    let scheme = forwarded_info.and_then(|forwarded_info| forwarded_info.scheme);
    let scheme = scheme.unwrap_or(connection.forwarded_scheme);
    let host = forwarded_info
        .and_then(|forwarded_info| forwarded_info.host.clone())
        .unwrap_or(host);
    let port = forwarded_info.and_then(|forwarded_info| forwarded_info.port.clone());
    let chain = forwarded_info.and_then(|forwarded_info| forwarded_info.chain.clone());
    if connection.worker.clients().add_forwarded {
        let list = forwarded_info.and_then(|forwarded_info| forwarded_info.forwarded.as_ref());
        let node = list.map_or(&client.address, |_| &connection.client);
        let element = forwarded_element(node, &host, scheme);
        headers.insert(FORWARDED, forwarded_list(list, &element));
    }
    let scheme = scheme_value(scheme);
    headers.insert(X_REAL_IP, client.address.clone());
    let chain = chain.unwrap_or_else(|| client.address.clone());
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_FORWARDED_HOST, host.clone());
    let port = port.unwrap_or_else(|| connection.port.clone());
    headers.insert(X_FORWARDED_PORT, port);
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    headers.insert(X_FORWARDED_SCHEME, scheme.clone());
    headers.insert(X_SCHEME, scheme);
    host
}

/// Turns a rewritten head into one for HTTP/2: the host is in the target, and nothing is about the
/// connection (RFC 9113 §8.2.2).
pub(crate) fn rewrite_for_http2(
    head: &mut request::Parts,
    protocol: UpstreamProtocol,
) -> Result<(), BadRequest> {
    head.version = Version::HTTP_2;
    head.headers.remove(CONNECTION);
    let host = head.headers.remove(HOST).ok_or(BadRequest::NoHost)?;
    let scheme = if protocol == UpstreamProtocol::Http2Tls {
        uri::Scheme::HTTPS
    } else {
        uri::Scheme::HTTP
    };
    let authority = Authority::try_from(host.as_bytes());
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority.map_err(|_| BadRequest::MalformedHost)?);
    parts.path_and_query = head.uri.path_and_query().cloned();
    head.uri = Uri::from_parts(parts).map_err(|_| BadRequest::MalformedHost)?;
    Ok(())
}

/// Path and query alone (RFC 9112 §3.2.1).
fn origin_form(target: &Uri) -> Uri {
    let mut parts = uri::Parts::default();
    parts.path_and_query = target.path_and_query().cloned();
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    let mut codings = te.as_bytes().split(|byte| *byte == b',');
    codings.any(|coding| {
        let name = coding
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

/// Whether a field is looked at on the way, or does not stay as it is.
fn is_special(name: &HeaderName) -> bool {
    *name == CONNECTION || is_unwanted(name.as_str())
}

/// Removes what ends at this hop and what only we may say, in one look through the names.
fn remove_request_fields(headers: &mut HeaderMap) {
    let unwanted = |name: &&HeaderName| is_unwanted(name.as_str());
    // Nearly always none: the vector does not allocate then.
    let names: Vec<HeaderName> = headers.keys().filter(unwanted).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Tells names apart by their first letter: it is asked of every field of every request.
fn is_unwanted(name: &str) -> bool {
    let is_named = match name.as_bytes().first() {
        // Claims about the client that only we may make; `Proxy` is what httpoxy.org is about.
        Some(b'x') => {
            let is_claim = matches!(
                name,
                "x-real-ip" | "x-scheme" | "x-original-forwarded-for" | "x-original-forwarded-host"
            );
            is_claim || name.starts_with("x-forwarded-")
        }
        Some(b's') => client_auth::is_claim(name),
        Some(b'f' | b'p') => matches!(name, "forwarded" | "proxy" | "proxy-connection"),
        // Hop by hop (RFC 9110 §7.6.1), and `Expect`, which we answer ourselves.
        Some(b'e' | b'h' | b'k' | b't' | b'u') => matches!(
            name,
            "keep-alive" | "te" | "transfer-encoding" | "upgrade" | "expect" | "http2-settings"
        ),
        Some(_) | None => false,
    };
    is_named || memchr(b'_', name.as_bytes()).is_some()
}

/// How many fields `rewrite` adds.
const ADDED_FIELDS: usize = 14;

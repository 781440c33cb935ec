//! Answers of a default backend in place of errors.
//!
//! Source: ingress-nginx, `custom-http-errors` and `default-backend`: the default backend is asked for
//! `/` with the status and the rule in fields of the request, and its status is the one of the
//! response. Answers of our own to clients that may not pass are never replaced, so that no page
//! turns a refusal into something else.

use std::time::Instant;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::uri::{self, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};
use ingress_core::ir::{RequestBuffering, Retries, RouteTimeouts};

use crate::proxy::request::error::{ProxyError, Side};
use crate::proxy::request::phases::{Answer, Entered, Phases};
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::table::slot::ErrorRoute;
use crate::proxy::upstream::error::UpstreamError;

/// The parts of a request that the request for an error page needs.
struct KeptHead {
    headers: HeaderMap,
    uri: Uri,
    version: Version,
    target: HeaderValue,
}

impl Phases<'_> {
    /// Sends a request, and asks the default backend where the answer is to be replaced.
    pub(super) async fn send_or_replace(
        &self,
        pages: &ErrorRoute,
        entered: Entered,
        head: request::Parts,
        incoming: Incoming,
        deadline: Option<Instant>,
    ) -> Result<Answer, ProxyError> {
        let kept = KeptHead::of(&head, &incoming);
        let downstream = incoming.downstream();
        let host = entered.host.clone();
        let answer = self.send(entered, head, incoming, deadline).await;
        let Some(status) = replaced(pages, &answer) else {
            return answer;
        };
        drop(answer);
        let worker = &self.connection.worker;
        let now = worker.runtime.timers.now();
        let entered = Entered {
            backend: worker.upstreams.pool.backend(&pages.backend, now),
            shown: None,
            host,
            fields: HeaderMap::new(),
            extras: None,
            tap: None,
            timeouts: RouteTimeouts::default(),
            retries: Retries::default(),
            body_bytes_max: u64::MAX,
            request_buffering: RequestBuffering::default(),
        };
        let head = kept.into_request(status, pages);
        let incoming = Incoming::empty(downstream);
        self.send(entered, head, incoming, deadline).await
    }
}

/// The status of an answer that is to be replaced.
fn replaced(pages: &ErrorRoute, answer: &Result<Answer, ProxyError>) -> Option<u16> {
    let is_listed = |status: &u16| pages.statuses.contains(status);
    match answer {
        Ok(Answer::Response { response, .. }) => Some(response.status().as_u16()).filter(is_listed),
        Err(ProxyError::Upstream(UpstreamError::NoEndpoint)) if pages.replaces_unavailable => {
            Some(503)
        }
        Err(failure)
            if failure.side() == Side::Upstream
                && !matches!(failure, ProxyError::AuthService(_)) =>
        {
            Some(failure.status().as_u16()).filter(is_listed)
        }
        Ok(Answer::Switched(_)) | Err(_) => None,
    }
}

impl KeptHead {
    fn of(head: &request::Parts, incoming: &Incoming) -> Self {
        let target = incoming.original().target(&head.uri);
        Self {
            headers: head.headers.clone(),
            uri: head.uri.clone(),
            version: head.version,
            target: HeaderValue::from_bytes(&target).unwrap_or(HeaderValue::from_static("/")),
        }
    }

    fn into_request(self, status: u16, pages: &ErrorRoute) -> request::Parts {
        let mut headers = self.headers;
        for name in [CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        let accept = headers.get(ACCEPT).cloned();
        let mut set = |name: &'static str, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let origin = &pages.origin;
        let text = |text: &str| HeaderValue::from_str(text).ok();
        set("x-code", Some(HeaderValue::from(status)));
        set("x-format", accept);
        set("x-original-uri", Some(self.target));
        set("x-namespace", text(&origin.namespace));
        set("x-ingress-name", text(&origin.ingress));
        set("x-service-name", text(&origin.service));
        set("x-service-port", text(&origin.port));
        let mut parts = uri::Parts::from(self.uri);
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        let mut request = Request::new(());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"));
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        request.into_parts().0
    }
}

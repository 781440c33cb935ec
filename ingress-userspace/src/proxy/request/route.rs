//! The route phase: which rule a request belongs to, by its authority and its normalised path.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, request};
use http_body::Body as _;
use ingress_core::filter::Answer;
use ingress_core::filter::cookie_value;
use ingress_core::ir::{
    Canary, Conditions, Filter, RequestBuffering, Retries, RouteTimeouts, choose_canary,
};
use ingress_core::route::normalise;

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::{BadRequest, ProxyError};
use crate::proxy::request::head;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::table::slot::{
    BackendHandle, CanaryRoute, Destination, RouteAction, RouteExtras,
};
use crate::proxy::tls::client_auth::Policy;
use crate::proxy::upstream::affinity::session_backend;
use crate::proxy::upstream::pool::Backend;

/// What the rule of a request says about it.
pub(crate) struct RouteDecision<'a> {
    /// The host and maybe a port, as the client sent it.
    pub(crate) authority: &'a str,
    /// The path after normalisation.
    pub(crate) path: Cow<'a, [u8]>,
    pub(crate) destination: Routed,
    /// What clients have to show.
    pub(crate) client_auth: Option<Arc<Policy>>,
    /// `None`, as for most routes: there is nothing to do.
    pub(crate) filters: Option<Arc<[Filter]>>,
    /// Settings that few routes have.
    pub(crate) extras: Option<Arc<RouteExtras>>,
    pub(crate) timeouts: RouteTimeouts,
    pub(crate) retries: Retries,
    /// Bytes that the body may have.
    pub(crate) body_bytes_max: u64,
    pub(crate) request_buffering: RequestBuffering,
}

/// Where a request goes.
pub(crate) enum Routed {
    Backend(Rc<Backend>),
    Respond(Answer),
    Unavailable,
}

/// Finds the rule of a request.
///
/// # Errors
///
/// [`ProxyError::BadRequest`] for a host or path that two readers could take differently,
/// [`ProxyError::Challenge`] for the request of an ACME server,
/// [`ProxyError::NoRoute`] where no rule matches, [`ProxyError::BodyTooLarge`] for a body that says of
/// itself that it is.
pub(crate) fn route<'a>(
    connection: &Connection,
    head: &'a request::Parts,
    incoming: &'a Incoming,
    record: &RequestRecord,
) -> Result<RouteDecision<'a>, ProxyError> {
    let worker = &connection.worker;
    let authority = head::authority(head, incoming.downstream())?;
    let original = incoming.original();
    let path = normalise(original.path(&head.uri)).map_err(BadRequest::Path)?;
    let mut table = worker.tables.current.borrow_mut();
    let table = table.load();
    if let Some(challenges) = table.challenges()
        && let Some(answer) = challenges.answer(authority, &path)
    {
        return Err(ProxyError::Challenge(Arc::clone(answer)));
    }
    let mut recent = worker.tables.recent_routes.borrow_mut();
    let meets = |conditions: &Conditions| is_met(conditions, head, original);
    let route = table
        .routes()
        .find_recent(&mut recent, authority, &path, meets)
        .ok_or(ProxyError::NoRoute)?;
    let RouteAction {
        destination,
        client_auth,
        filters,
        extras,
        labels,
        slot,
    } = &route.payload;
    record.routed(labels, *slot);
    let policy = &route.rule.policy;
    if extras.as_ref().is_some_and(|extras| extras.is_unlogged) {
        record.leave_out_of_log();
    }
    let body_bytes_max = body_bytes_max(connection, policy.body_bytes_max, incoming)?;
    Ok(RouteDecision {
        authority,
        path,
        destination: match destination {
            Destination::Backend(slot) => Routed::Backend(
                worker
                    .upstreams
                    .pool
                    .backend(slot, worker.runtime.timers.now()),
            ),
            Destination::Split(split) => {
                let slot = split.pick(worker.runtime.random());
                Routed::Backend(
                    worker
                        .upstreams
                        .pool
                        .backend(slot, worker.runtime.timers.now()),
                )
            }
            Destination::Canaries(route) => {
                let slot = canary(route, &head.headers, worker.runtime.random());
                Routed::Backend(
                    worker
                        .upstreams
                        .pool
                        .backend(slot, worker.runtime.timers.now()),
                )
            }
            Destination::Respond(answer) => Routed::Respond(answer.clone()),
            Destination::Unavailable => Routed::Unavailable,
        },
        client_auth: client_auth.clone(),
        filters: filters.clone(),
        extras: extras.clone(),
        timeouts: policy.timeouts,
        retries: policy.retries,
        body_bytes_max,
        request_buffering: policy.request_buffering,
    })
}

/// The backend of a request among a main one and its canaries.
fn canary<'a>(route: &'a CanaryRoute, headers: &HeaderMap, random: u64) -> &'a Arc<BackendHandle> {
    if let Some(found) = session_backend(route, headers) {
        return found;
    }
    let canaries: Vec<&Canary> = route.canaries.iter().map(|(canary, _)| &**canary).collect();
    let vote = |index: usize| {
        let canary = canaries[index];
        let field = canary.header.as_ref();
        let field = field.and_then(|header| headers.get(&*header.name));
        let cookie = canary.cookie.as_ref();
        let cookie = cookie.and_then(|name| cookie_value(headers, name));
        canary.vote(field.map(HeaderValue::as_bytes), cookie)
    };
    let chosen = choose_canary(&canaries, vote, random);
    chosen.map_or(&route.main, |index| &route.canaries[index].1)
}

/// Bytes that the body of a request may have; most requests have none, and nothing is looked up.
fn body_bytes_max(
    connection: &Connection,
    configured: Option<u64>,
    incoming: &Incoming,
) -> Result<u64, ProxyError> {
    if incoming.is_end_stream() {
        return Ok(u64::MAX);
    }
    let default = connection.worker.limits.body_bytes_max;
    let max = match configured.unwrap_or(default) {
        0 => u64::MAX,
        max => max,
    };
    if incoming.size_hint().lower() > max {
        return Err(ProxyError::BodyTooLarge);
    }
    Ok(max)
}

/// Whether a request meets the conditions of a rule beside its path.
fn is_met(conditions: &Conditions, head: &request::Parts, original: &OriginalHead) -> bool {
    let Conditions {
        method,
        headers,
        query,
    } = conditions;
    let is_method = method
        .as_deref()
        .is_none_or(|method| method == head.method.as_str());
    let has_field = |name: &str, value: &str| {
        let mut lines = head.headers.get_all(name).iter();
        lines.any(|line| line.as_bytes() == value.as_bytes())
    };
    let parameters = original.query(&head.uri).unwrap_or_default();
    let has_parameter = |name: &str, value: &str| {
        let mut all = parameters.split(|byte| *byte == b'&');
        all.any(|parameter| {
            let rest = parameter.strip_prefix(name.as_bytes());
            rest.and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes())
        })
    };
    is_method
        && headers
            .iter()
            .all(|field| has_field(&field.name, &field.value))
        && query.iter().all(|one| has_parameter(&one.name, &one.value))
}

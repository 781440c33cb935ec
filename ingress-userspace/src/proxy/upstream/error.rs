//! Why an endpoint gives no response, or breaks one off.

use std::io;

use ingress_core::ir::RetryCause;
use thiserror::Error;

use crate::proxy::upstream::http1::Fault;

/// Why a request has no response from an endpoint.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    /// The backend has no ready endpoint.
    #[error("backend has no endpoint")]
    NoEndpoint,
    /// It speaks HTTP/2 and its settings allow no tunnel (RFC 8441 §3).
    #[error("upstream takes no extended CONNECT")]
    NoTunnel,
    /// As many connections as there may be.
    #[error("upstream has no room for another request")]
    Full,
    /// No connection.
    #[error("upstream connection failed")]
    Connect(#[source] io::Error),
    /// No connection in time.
    #[error("upstream connection timed out")]
    ConnectTimedOut,
    /// No connection by a time by which others have theirs, and there are others.
    #[error("upstream is slow to connect")]
    Overtaken,
    /// No connection for another request, which this one has waited for.
    #[error("upstream could not be connected to")]
    Unreached,
    /// The endpoint was removed while it was being connected to.
    #[error("endpoint has left its backend")]
    Left,
    /// The connection broke before a response head.
    #[error("upstream connection broke before a response")]
    Broken(#[source] Fault),
    /// Every connection was closed before the request could be sent.
    #[error("upstream closes connections before they can be used")]
    Unsent,
    /// It switched protocols without being asked, or to others (RFC 9110 §7.8).
    #[error("upstream switched to a protocol that it was not asked for")]
    Switched,
    /// It took a request for a tunnel as an ordinary one.
    #[error("upstream did not switch protocols")]
    NotSwitched,
    /// No response head in time.
    #[error("upstream response timed out")]
    ResponseTimedOut,
}

/// Whether another attempt may follow an error, and at what cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    /// The outcome that an Ingress names where it asks for retries, if there is a name for it.
    pub(crate) cause: Option<RetryCause>,
    pub(crate) cost: RetryCost,
}

/// The cost of another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RetryCost {
    /// A try, and a part of the backend's retry budget.
    #[default]
    Try,
    /// A part of the budget only: a refused connection has cost next to nothing, and when most
    /// pods of a backend end at once, the one that stays has to be found.
    Budget,
    /// Nothing: the endpoint has not answered at all.
    Nothing,
    /// Nothing, and the endpoint may be tried again: it has left its backend.
    Left,
}

impl UpstreamError {
    /// Whether another attempt may follow this error, and at what cost.
    pub(crate) fn retry(&self) -> Retry {
        let (cause, cost) = match self {
            Self::Overtaken | Self::Unreached => (None, RetryCost::Nothing),
            Self::Connect(_) => (None, RetryCost::Budget),
            Self::Left => (None, RetryCost::Left),
            Self::ResponseTimedOut => (Some(RetryCause::Timeout), RetryCost::Try),
            Self::Broken(Fault::Gone) => (Some(RetryCause::Error), RetryCost::Nothing),
            Self::Broken(fault) => (cause(fault), RetryCost::Try),
            Self::NoEndpoint
            | Self::NoTunnel
            | Self::Full
            | Self::ConnectTimedOut
            | Self::Unsent
            | Self::Switched
            | Self::NotSwitched => (None, RetryCost::Try),
        };
        Retry { cause, cost }
    }
}

fn cause(fault: &Fault) -> Option<RetryCause> {
    match fault {
        Fault::RequestBody => None,
        Fault::Head(_) => Some(RetryCause::InvalidHeader),
        Fault::Broken(_) | Fault::Closed | Fault::Gone | Fault::Body(_) | Fault::Http2(_) => {
            Some(RetryCause::Error)
        }
    }
}

/// Why a response ends before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// It could not be compressed for the client.
    #[error("response body could not be compressed")]
    Compression,
    /// The endpoint broke off.
    #[error("upstream response body broke off")]
    Upstream(#[source] Fault),
    /// The endpoint sent nothing for too long.
    #[error("upstream sent no body for too long")]
    TimedOut,
}

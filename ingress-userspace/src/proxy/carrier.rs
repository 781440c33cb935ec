//! What a response body comes over: a connection of its own, or a stream among others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::BodyError;
use super::conduit::{Chunk, Conduit};
use super::endpoint::{Endpoint, Load};
use super::io::Activity;
use super::multiplex::Place;
use super::patience::Patience;
use super::upstream::{Fault, Upstream};
use super::worker::WorkerState;

/// What a response body comes over, and the load that it is on its endpoint.
pub(super) enum Carrier {
    /// A connection of its own, until the end of the body.
    Own {
        upstream: Option<Box<Upstream>>,
        load: Load,
    },
    /// A stream of a connection that others drive.
    Shared(Box<SharedCarrier>),
}

pub(super) struct SharedCarrier {
    incoming: Incoming,
    activity: Rc<Activity>,
    _place: Place,
    load: Load,
}

impl Carrier {
    pub(super) fn own(upstream: Box<Upstream>, load: Load) -> Self {
        Self::Own {
            upstream: Some(upstream),
            load,
        }
    }

    pub(super) fn shared(
        incoming: Incoming,
        place: Place,
        activity: Rc<Activity>,
        load: Load,
    ) -> Self {
        Self::Shared(Box::new(SharedCarrier {
            incoming,
            activity,
            _place: place,
            load,
        }))
    }

    /// The endpoint at its other end.
    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Own { load, .. } => load,
            Self::Shared(shared) => &shared.load,
        }
    }

    /// Whether nothing more comes over it.
    pub(super) fn is_body_over(&self) -> bool {
        match self {
            Self::Own { upstream, .. } => upstream.as_ref().is_none_or(|one| one.is_body_over()),
            Self::Shared(shared) => shared.incoming.is_end_stream(),
        }
    }

    /// Whether there is so much of the body to come that it is worth a pipe.
    pub(super) fn may_be_piped(&self) -> bool {
        match self {
            Self::Own { upstream, .. } => upstream.as_ref().is_some_and(|one| one.may_be_piped()),
            Self::Shared(_) => false,
        }
    }

    /// How long the rest of the body is.
    pub(super) fn body_size(&self) -> SizeHint {
        match self {
            Self::Own { upstream, .. } => upstream
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), |one| one.body_size()),
            Self::Shared(shared) => shared.incoming.size_hint(),
        }
    }

    /// The next piece of the body, or its trailer fields; `None` is its end. What may go through
    /// `conduit` does. An error too, when the endpoint sends nothing for longer than `patience`.
    pub(super) fn poll_body(
        &mut self,
        conduit: Option<&Conduit>,
        patience: &mut Patience,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        match self {
            Self::Own { upstream, .. } => {
                let Some(upstream) = upstream else {
                    return Poll::Ready(None);
                };
                let poll = upstream.poll_body(conduit, cx);
                let is_clients_turn = conduit.is_some_and(Conduit::is_full);
                if poll.is_pending() && !is_clients_turn && upstream.is_stuck(patience, cx) {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                poll.map_err(BodyError::Upstream)
            }
            Self::Shared(shared) => {
                let poll = Pin::new(&mut shared.incoming).poll_frame(cx);
                if poll.is_ready() {
                    shared.activity.touch();
                } else if patience.is_over(&shared.activity, cx) {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                poll.map_ok(|frame| frame.map_data(Chunk::Bytes))
                    .map_err(|error| BodyError::Upstream(Fault::Http2(error)))
            }
        }
    }

    /// The connection, if it is no one else's.
    pub(super) fn into_upstream(self) -> Option<Box<Upstream>> {
        match self {
            Self::Own { upstream, .. } => upstream,
            Self::Shared(_) => None,
        }
    }

    /// Hands a connection back whose exchange is over.
    pub(super) fn release(&mut self, worker: &WorkerState) {
        if let Self::Own { upstream, load } = self
            && let Some(upstream) = upstream.take()
        {
            worker.release(load, upstream);
        }
    }
}

//! The body of a request, whatever it comes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use ingress_wire::http1::BodyError;
use thiserror::Error;

use crate::proxy::downstream::http1::RequestStream as Http1Stream;
use crate::proxy::downstream::http2::{Reason, RequestStream as Http2Stream, Tunnel};
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::pipe::Pipe;

/// The body of a request from a client, and what of its head a `Request` does not hold.
pub(crate) struct Incoming {
    source: Source,
    original: OriginalHead,
    /// Whether an HTTP/1 request has an `Upgrade` field.
    asks_upgrade: bool,
}

enum Source {
    Nothing,
    Http1(Http1Stream),
    Http2(Http2Stream),
}

/// Why a body breaks off.
#[derive(Debug, Error)]
pub(crate) enum IncomingError {
    /// The connection broke.
    #[error("connection of the client broke")]
    Io(#[from] io::Error),
    /// The connection carried something that is not a body.
    #[error("request body is malformed")]
    Http1(#[from] BodyError),
    /// The client has reset the stream, or its connection has ended.
    #[error("stream was reset")]
    Http2(#[source] h2::Error),
}

impl From<Reason> for IncomingError {
    /// As h2 says it, so that an endpoint that speaks HTTP/2 is told the same.
    fn from(reason: Reason) -> Self {
        Self::Http2(h2::Reason::from(reason.code()).into())
    }
}

impl Incoming {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::new(Source::Nothing)
    }

    /// The body of an HTTP/1 request.
    pub(crate) fn http1(stream: Http1Stream) -> Self {
        Self::new(Source::Http1(stream))
    }

    /// The body of an HTTP/2 request.
    pub(crate) fn http2(stream: Http2Stream) -> Self {
        Self::new(Source::Http2(stream))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            original: OriginalHead::default(),
            asks_upgrade: false,
        }
    }

    /// Adds what of the head the request does not hold.
    pub(crate) fn with_original(mut self, original: OriginalHead) -> Self {
        self.original = original;
        self
    }

    /// Notes that the request has an `Upgrade` field.
    pub(crate) fn with_upgrade(mut self, asks_upgrade: bool) -> Self {
        self.asks_upgrade = asks_upgrade;
        self
    }

    /// What of the head the request does not hold.
    pub(crate) fn original(&self) -> &OriginalHead {
        &self.original
    }

    /// The same, to be changed or taken out.
    pub(crate) fn original_mut(&mut self) -> &mut OriginalHead {
        &mut self.original
    }

    /// Whether an HTTP/1 request has an `Upgrade` field.
    pub(crate) fn asks_upgrade(&self) -> bool {
        self.asks_upgrade
    }

    /// Both directions of the stream of an extended CONNECT; nothing is left of the body then.
    pub(crate) fn take_tunnel(&mut self, method: &Method) -> Option<Tunnel> {
        if *method != Method::CONNECT {
            return None;
        }
        match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Http2(stream) => stream.into_tunnel(),
            Source::Nothing | Source::Http1(_) => None,
        }
    }

    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, IncomingError>>> {
        match &mut self.source {
            Source::Http1(stream) => stream.poll_splice(cx),
            Source::Nothing | Source::Http2(_) => Poll::Ready(None),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match &mut self.get_mut().source {
            Source::Nothing => Poll::Ready(None),
            Source::Http1(body) => body.poll_frame(cx),
            Source::Http2(body) => {
                let poll = Pin::new(body).poll_frame(cx);
                poll.map_err(IncomingError::from)
            }
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::Http1(body) => body.is_over(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Nothing => SizeHint::with_exact(0),
            Source::Http1(body) => body
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Http2(body) => body.size_hint(),
        }
    }
}

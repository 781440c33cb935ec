//! The body of a request, whatever it comes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use ingress_wire::http1::BodyError;
use ingress_wire::http2::frame::Reason;
use thiserror::Error;

use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::pipe::Pipe;
use crate::proxy::runtime::stream::ClientTunnel;
use crate::proxy::runtime::transport::Downstream;

/// The body of a request from a client, and what of its head a `Request` does not hold.
pub(crate) struct Incoming {
    downstream: Downstream,
    /// `None`: there is no body.
    source: Option<Box<dyn RequestStream>>,
    original: OriginalHead,
    /// Whether an HTTP/1 request has an `Upgrade` field.
    asks_upgrade: bool,
}

/// The source of a request body: an HTTP/1 connection, or an HTTP/2 stream.
pub(crate) trait RequestStream {
    /// The next piece of it, or its trailer fields; `None` is its end.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>>;

    /// Whether all of it was read.
    fn is_over(&self) -> bool;

    /// How many bytes are still to come, if that is known.
    fn left(&self) -> Option<u64>;

    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    fn poll_splice(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Pipe, IncomingError>>> {
        Poll::Ready(None)
    }

    /// Both directions of the stream, if its request is an extended CONNECT.
    fn into_tunnel(self: Box<Self>) -> Option<Box<dyn ClientTunnel>> {
        None
    }
}

/// Why a body breaks off.
#[derive(Debug, Error)]
pub(crate) enum IncomingError {
    /// The connection broke.
    #[error("client connection failed")]
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
    pub(crate) fn empty(downstream: Downstream) -> Self {
        Self::new(downstream, None)
    }

    /// The body that comes over `stream`.
    pub(crate) fn from_stream(
        downstream: Downstream,
        stream: impl RequestStream + 'static,
    ) -> Self {
        Self::new(downstream, Some(Box::new(stream)))
    }

    fn new(downstream: Downstream, source: Option<Box<dyn RequestStream>>) -> Self {
        Self {
            downstream,
            source,
            original: OriginalHead::default(),
            asks_upgrade: false,
        }
    }

    /// The version of HTTP that its client speaks.
    pub(crate) fn downstream(&self) -> Downstream {
        self.downstream
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
    pub(crate) fn take_tunnel(&mut self, method: &Method) -> Option<Box<dyn ClientTunnel>> {
        if *method != Method::CONNECT {
            return None;
        }
        self.source.take()?.into_tunnel()
    }

    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, IncomingError>>> {
        match &mut self.source {
            Some(stream) => stream.poll_splice(cx),
            None => Poll::Ready(None),
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
            Some(stream) => stream.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|stream| stream.is_over())
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Some(stream) => stream
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            None => SizeHint::with_exact(0),
        }
    }
}

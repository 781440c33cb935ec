//! The body of a request, over whatever it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::proxy::downstream::http2::{Reason, RequestStream, Tunnel};

/// The body of a request from a client.
pub(crate) enum Incoming {
    Nothing,
    Http1(hyper::body::Incoming),
    Http2(RequestStream),
}

/// Why one breaks off.
#[derive(Debug, Error)]
pub(crate) enum IncomingError {
    /// The connection broke, or what it carried was no body.
    #[error(transparent)]
    Http1(hyper::Error),
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
    /// Both directions of the stream of an extended CONNECT; nothing is left of the body then.
    pub(crate) fn take_tunnel(&mut self, method: &Method) -> Option<Tunnel> {
        if *method != Method::CONNECT {
            return None;
        }
        match std::mem::replace(self, Self::Nothing) {
            Self::Http2(stream) => stream.into_tunnel(),
            Self::Nothing | Self::Http1(_) => None,
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
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => {
                let poll = Pin::new(body).poll_frame(cx);
                poll.map_err(IncomingError::Http1)
            }
            Self::Http2(body) => {
                let poll = Pin::new(body).poll_frame(cx);
                poll.map_err(IncomingError::from)
            }
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

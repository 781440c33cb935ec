//! The body of a request that came over HTTP/1: a hold on the socket that it comes from.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::client_io::ClientIo;
use crate::proxy::downstream::client_body::IncomingError;
use crate::proxy::runtime::pipe::Pipe;

/// The body of the request that is answered.
pub(crate) struct RequestStream(Rc<ClientIo>);

impl RequestStream {
    pub(super) fn new(io: &Rc<ClientIo>) -> Self {
        Self(Rc::clone(io))
    }

    /// The next piece of it, or its trailer fields; `None` is its end.
    pub(crate) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        self.0.poll_body(cx)
    }

    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, IncomingError>>> {
        self.0.poll_splice(cx)
    }

    /// Whether all of it was read.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_body_over()
    }

    /// How many bytes are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.0.body_left()
    }
}

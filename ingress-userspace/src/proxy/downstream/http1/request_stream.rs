//! The body of a request that came over HTTP/1: a hold on the socket that it comes from.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::client_io::ClientIo;
use crate::proxy::runtime::client_body::{IncomingError, RequestStream};
use crate::proxy::runtime::pipe::Pipe;

/// The body of the request that is answered.
pub(crate) struct Http1Stream(Rc<ClientIo>);

impl Http1Stream {
    pub(super) fn new(io: &Rc<ClientIo>) -> Self {
        Self(Rc::clone(io))
    }
}

impl RequestStream for Http1Stream {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        self.0.poll_body(cx)
    }

    fn is_over(&self) -> bool {
        self.0.is_body_over()
    }

    fn left(&self) -> Option<u64> {
        self.0.body_left()
    }

    fn poll_splice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Pipe, IncomingError>>> {
        self.0.poll_splice(cx)
    }
}

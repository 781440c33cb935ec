//! The body of a request that came over HTTP/2, for whoever sends it on.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::session::SharedState;
use super::stream::{Part, Stream};
use super::tunnel::Tunnel;
use crate::proxy::runtime::client_body::{IncomingError, RequestStream};
use crate::proxy::runtime::stream::ClientTunnel;

/// A request body. Dropping it tells the connection that nobody reads the rest.
pub(crate) struct Http2Stream {
    stream: Rc<Stream>,
    session: Rc<SharedState>,
    /// Whether a tunnel reads it in its place.
    is_taken: bool,
}

impl Http2Stream {
    pub(crate) fn new(stream: &Rc<Stream>, session: &Rc<SharedState>) -> Self {
        Self {
            stream: Rc::clone(stream),
            session: Rc::clone(session),
            is_taken: false,
        }
    }
}

impl RequestStream for Http2Stream {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        let part = self.stream.poll_part(cx);
        if part.is_pending() {
            self.session.send_continue(&self.stream);
        }
        Poll::Ready(match ready!(part)? {
            Part::Data(bytes) => {
                self.session.release(Some(&self.stream), bytes.len());
                Some(Ok(Frame::data(bytes)))
            }
            Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Part::End => None,
        })
    }

    fn is_over(&self) -> bool {
        self.stream.is_body_over()
    }

    fn left(&self) -> Option<u64> {
        self.stream.length_left()
    }

    fn into_tunnel(mut self: Box<Self>) -> Option<Box<dyn ClientTunnel>> {
        self.is_taken = self.stream.is_connect;
        let tunnel = self
            .is_taken
            .then(|| Tunnel::new(&self.stream, &self.session));
        tunnel.map(|tunnel| Box::new(tunnel) as Box<dyn ClientTunnel>)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if !self.is_taken {
            let unread = self.stream.abandon();
            if unread > 0 {
                self.session.release(None, unread);
            }
        }
    }
}

//! The body of a request that came over HTTP/2, for whoever sends it on.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ingress_wire::http2::frame::Reason;

use super::session::Session;
use super::stream::{Part, Stream};
use super::tunnel::Tunnel;

/// A request body. Dropping it tells the connection that nobody reads the rest.
pub(crate) struct RequestStream {
    stream: Rc<Stream>,
    session: Rc<Session>,
    /// Whether a tunnel reads it in its place.
    is_taken: bool,
}

impl RequestStream {
    pub(crate) fn new(stream: &Rc<Stream>, session: &Rc<Session>) -> Self {
        Self {
            stream: Rc::clone(stream),
            session: Rc::clone(session),
            is_taken: false,
        }
    }

    /// Both directions of a stream that an extended CONNECT asks for.
    pub(crate) fn into_tunnel(mut self) -> Option<Tunnel> {
        self.is_taken = self.stream.is_connect;
        self.is_taken
            .then(|| Tunnel::new(&self.stream, &self.session))
    }
}

impl Body for RequestStream {
    type Data = Bytes;
    type Error = Reason;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        let part = self.stream.poll_part(cx);
        if part.is_pending() {
            self.session.tell_to_go_on(&self.stream);
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

    fn is_end_stream(&self) -> bool {
        self.stream.is_body_over()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.stream.length_left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        if !self.is_taken {
            let unread = self.stream.abandon();
            if unread > 0 {
                self.session.release(None, unread);
            }
        }
    }
}

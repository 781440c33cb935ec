//! One stream: what has come of its request, and how much its response may have of the window.
//!
//! It is known to the connection, to the task that answers it, and to whoever reads its body; each
//! of them may be the last.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;

use ingress_wire::http2::frame::{Reason, WINDOW_MAX};

/// A stream that a client has begun.
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// Whether it asks for a tunnel by extended CONNECT (RFC 8441).
    pub(crate) is_connect: bool,
    /// Bytes that may be sent; less than none after the client has made its windows smaller.
    send_window: Cell<i64>,
    /// Bytes that the client may send.
    receive_window: Cell<u32>,
    /// Bytes that were read since the client was last told.
    released: Cell<u32>,
    /// Whether the client waits for 100 before it sends the body.
    pub(crate) expects_continue: Cell<bool>,
    /// Whether it has become a tunnel.
    is_tunnel: Cell<bool>,
    /// Whether the head of the response was handed over.
    has_response_head: Cell<bool>,
    /// Whether all of the response was handed over.
    is_answered: Cell<bool>,
    /// Whether the connection is to wake it when there is room.
    pub(crate) is_queued: Cell<bool>,
    /// Whether it has done so.
    pub(crate) is_admitted: Cell<bool>,
    reset: Cell<Option<Reason>>,
    /// Of who answers.
    answers: RefCell<Option<Waker>>,
    body: RefCell<Received>,
}

/// The received part of a request body.
#[derive(Default)]
struct Received {
    /// None of them is empty.
    chunks: VecDeque<Vec<u8>>,
    trailers: Option<HeaderMap>,
    is_complete: bool,
    /// Whether nobody reads it any more.
    is_abandoned: bool,
    /// Bytes that are still to come, where the client has said how many.
    length_left: Option<u64>,
    /// Of who reads it.
    reads: Option<Waker>,
}

/// What a body consists of.
pub(crate) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Stream {
    pub(crate) fn new(id: u32, head: &RequestMeta, send_window: i64, receive_window: u32) -> Self {
        Self {
            id,
            is_connect: head.is_connect,
            send_window: Cell::new(send_window),
            receive_window: Cell::new(receive_window),
            released: Cell::new(0),
            expects_continue: Cell::new(head.expects_continue && !head.is_complete),
            is_tunnel: Cell::new(false),
            has_response_head: Cell::new(false),
            is_answered: Cell::new(false),
            is_queued: Cell::new(false),
            is_admitted: Cell::new(false),
            reset: Cell::new(None),
            answers: RefCell::new(None),
            body: RefCell::new(Received {
                is_complete: head.is_complete,
                length_left: head.length,
                ..Received::default()
            }),
        }
    }

    /// Why it has ended before its end, if it has.
    pub(crate) fn is_reset(&self) -> Option<Reason> {
        self.reset.get()
    }

    /// Ends it, and tells all who wait for something.
    pub(crate) fn end(&self, reason: Reason) {
        if self.reset.get().is_none() {
            self.reset.set(Some(reason));
        }
        self.wake_answering();
        let reads = self.body.borrow_mut().reads.take();
        reads.into_iter().for_each(Waker::wake);
    }

    /// Whether all of the request has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.body.borrow().is_complete
    }

    pub(crate) fn has_response_head(&self) -> bool {
        self.has_response_head.get()
    }

    pub(crate) fn set_response_head(&self) {
        self.has_response_head.set(true);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered.get()
    }

    pub(crate) fn set_answered(&self) {
        self.is_answered.set(true);
    }

    /// The client knows that it is a tunnel.
    pub(crate) fn begin_tunnel(&self) {
        self.is_tunnel.set(true);
        let reads = self.body.borrow_mut().reads.take();
        reads.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.is_tunnel.get()
    }

    /// Waits until it is one.
    pub(crate) fn poll_tunnel(&self, cx: &Context<'_>) -> Poll<Result<(), Reason>> {
        if self.is_tunnel.get() {
            return Poll::Ready(Ok(()));
        }
        if let Some(reason) = self.reset.get() {
            return Poll::Ready(Err(reason));
        }
        self.body.borrow_mut().reads = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Bytes that its window lets be sent.
    pub(crate) fn send_window(&self) -> usize {
        usize::try_from(self.send_window.get()).unwrap_or(0)
    }

    /// Makes the window larger or smaller. An error if it becomes larger than one may be.
    pub(crate) fn increase_window(&self, bytes: i64) -> Result<(), Reason> {
        let window = self.send_window.get() + bytes;
        if window > i64::from(WINDOW_MAX) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        self.send_window.set(window);
        if window > 0 && bytes > 0 {
            self.wake_answering();
        }
        Ok(())
    }

    /// Notes that so many bytes are sent.
    pub(crate) fn sent(&self, bytes: usize) {
        let window = &self.send_window;
        window.set(window.get() - i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Registers the responder task's waker.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let mut answers = self.answers.borrow_mut();
        match &mut *answers {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *answers = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn wake_answering(&self) {
        if let Some(waker) = &*self.answers.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Takes so many bytes of a DATA frame out of the window that the client has.
    pub(crate) fn receives(&self, flow: u32, data: usize) -> Result<(), Reason> {
        let mut body = self.body.borrow_mut();
        if body.is_complete {
            return Err(Reason::STREAM_CLOSED);
        }
        let window = self.receive_window.get().checked_sub(flow);
        self.receive_window
            .set(window.ok_or(Reason::FLOW_CONTROL_ERROR)?);
        if let Some(left) = &mut body.length_left {
            let after = left.checked_sub(data as u64);
            *left = after.ok_or(Reason::PROTOCOL_ERROR)?;
        }
        Ok(())
    }

    /// Adds to the body. Returns whether anybody will read it.
    pub(crate) fn add(&self, bytes: &[u8]) -> bool {
        let mut body = self.body.borrow_mut();
        if body.is_abandoned {
            return false;
        }
        match body.chunks.back_mut() {
            // Many small frames are one piece for who does not read them at once.
            Some(last) if last.len() + bytes.len() <= CHUNK_BYTES_MAX => {
                last.extend_from_slice(bytes);
            }
            _ => body.chunks.push_back(bytes.to_vec()),
        }
        let reads = body.reads.take();
        drop(body);
        reads.into_iter().for_each(Waker::wake);
        true
    }

    /// All of the request has come. An error if it is not as long as the client has said.
    pub(crate) fn complete(&self, trailers: Option<HeaderMap>) -> Result<(), Reason> {
        let mut body = self.body.borrow_mut();
        if body.length_left.is_some_and(|left| left > 0) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        body.is_complete = true;
        body.trailers = trailers.filter(|_| !body.is_abandoned);
        let reads = body.reads.take();
        drop(body);
        reads.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The next part of the body.
    pub(crate) fn poll_part(&self, cx: &Context<'_>) -> Poll<Result<Part, Reason>> {
        let mut body = self.body.borrow_mut();
        if let Some(chunk) = body.chunks.pop_front() {
            if body.chunks.is_empty() {
                body.chunks = VecDeque::new();
            }
            return Poll::Ready(Ok(Part::Data(chunk.into())));
        }
        if let Some(trailers) = body.trailers.take() {
            return Poll::Ready(Ok(Part::Trailers(trailers)));
        }
        if body.is_complete {
            return Poll::Ready(Ok(Part::End));
        }
        if let Some(reason) = self.reset.get() {
            return Poll::Ready(Err(reason));
        }
        body.reads = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether nothing more of the body comes.
    pub(crate) fn is_body_over(&self) -> bool {
        let body = self.body.borrow();
        body.is_complete && body.chunks.is_empty() && body.trailers.is_none()
    }

    /// Bytes of the body that have not been read, where it is known how many there are: the client
    /// has said so, or all of them are here. Who knows the length of a body expects no trailers.
    pub(crate) fn length_left(&self) -> Option<u64> {
        let body = self.body.borrow();
        let is_here = body.is_complete && body.trailers.is_none();
        let left = if is_here { 0 } else { body.length_left? };
        let here: usize = body.chunks.iter().map(Vec::len).sum();
        Some(left + here as u64)
    }

    /// Nobody reads the body any more. Returns how many bytes of it nobody has read.
    pub(crate) fn abandon(&self) -> usize {
        let mut body = self.body.borrow_mut();
        body.is_abandoned = true;
        body.reads = None;
        body.trailers = None;
        let chunks = mem::take(&mut body.chunks);
        chunks.iter().map(Vec::len).sum()
    }

    /// Notes that so many bytes were read; how many the client is to be told of, if it is.
    pub(crate) fn release(&self, bytes: u32, window_max: u32) -> Option<u32> {
        let released = self.released.get() + bytes;
        if self.is_complete() || self.reset.get().is_some() || released < window_max / 2 {
            self.released.set(released);
            return None;
        }
        self.released.set(0);
        self.receive_window
            .set(self.receive_window.get() + released);
        Some(released)
    }
}

/// What the head of a request says about its stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestMeta {
    pub(crate) is_connect: bool,
    pub(crate) expects_continue: bool,
    /// Whether there is no body.
    pub(crate) is_complete: bool,
    /// Of the body in bytes.
    pub(crate) length: Option<u64>,
}

/// Bytes of a piece that small frames are put together to.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(length: Option<u64>) -> Stream {
        let head = RequestMeta {
            length,
            ..RequestMeta::default()
        };
        Stream::new(1, &head, 10, 100)
    }

    fn part(stream: &Stream) -> Poll<Result<Vec<u8>, Reason>> {
        let part = stream.poll_part(&Context::from_waker(Waker::noop()));
        part.map_ok(|part| match part {
            Part::Data(bytes) => bytes.to_vec(),
            Part::Trailers(_) => b"trailers".to_vec(),
            Part::End => b"end".to_vec(),
        })
    }

    #[test]
    fn a_body_is_read_as_it_came() {
        let stream = stream(Some(7));
        assert!(part(&stream).is_pending());
        stream.receives(7, 7).unwrap();
        assert!(stream.add(b"abcd") && stream.add(b"efg"));
        assert_eq!(stream.length_left(), Some(7));
        let unknown = self::stream(None);
        assert!(unknown.add(b"abcd") && unknown.length_left().is_none());
        unknown.complete(None).unwrap();
        assert_eq!(unknown.length_left(), Some(4));
        stream.complete(Some(HeaderMap::new())).unwrap();
        assert!(!stream.is_body_over());
        assert_eq!(part(&stream), Poll::Ready(Ok(b"abcdefg".to_vec())));
        assert_eq!(part(&stream), Poll::Ready(Ok(b"trailers".to_vec())));
        assert!(stream.is_body_over());
        assert_eq!(part(&stream), Poll::Ready(Ok(b"end".to_vec())));
    }

    #[test]
    fn a_body_is_as_long_as_it_says() {
        let stream = stream(Some(7));
        assert_eq!(stream.receives(8, 8), Err(Reason::PROTOCOL_ERROR));
        let stream = self::stream(Some(7));
        stream.receives(6, 6).unwrap();
        assert_eq!(stream.complete(None), Err(Reason::PROTOCOL_ERROR));
    }

    #[test]
    fn a_client_keeps_to_its_window() {
        let stream = stream(None);
        stream.receives(60, 60).unwrap();
        assert_eq!(stream.release(49, 100), None);
        assert_eq!(stream.release(1, 100), Some(50));
        stream.receives(90, 90).unwrap();
        assert_eq!(stream.receives(1, 1), Err(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn a_window_may_be_less_than_nothing_and_not_more_than_there_is() {
        let stream = stream(None);
        stream.sent(10);
        stream.increase_window(-5).unwrap();
        assert_eq!(stream.send_window(), 0);
        stream.increase_window(6).unwrap();
        assert_eq!(stream.send_window(), 1);
        let max = i64::from(WINDOW_MAX);
        assert_eq!(stream.increase_window(max), Err(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn unread_data_is_dropped() {
        let stream = stream(None);
        assert!(stream.add(b"abcd"));
        assert_eq!(stream.abandon(), 4);
        assert!(!stream.add(b"efg"));
        assert!(stream.body.borrow().chunks.is_empty());
    }

    #[test]
    fn small_pieces_do_not_add_up_to_more_memory_than_bytes() {
        let stream = stream(None);
        for _ in 0..5 * CHUNK_BYTES_MAX {
            stream.add(b"x");
        }
        let body = stream.body.borrow();
        let room: usize = body.chunks.iter().map(Vec::capacity).sum();
        assert!(body.chunks.len() == 5 && room <= 10 * CHUNK_BYTES_MAX);
    }
}

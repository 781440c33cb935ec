//! What a connection and its streams share: what is to be written, and the windows.
//!
//! Whoever has something to write puts it into the output, as long as there is room, and wakes the
//! connection, which writes what all have put there at once. Who finds no room waits in a queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response};
use ingress_wire::hpack;
use ingress_wire::http2::SendQueue;
use ingress_wire::http2::frame::{PAYLOAD_BYTES_MAX, Reason, WINDOW_DEFAULT, WINDOW_MAX};

use super::stream::Stream;
use crate::proxy::runtime::limits::{
    HTTP2_CONNECTION_BYTES_MAX, HTTP2_OUTPUT_BYTES_MAX, HTTP2_STREAM_BYTES_MAX,
};

/// The shared part of a connection.
pub(crate) struct SharedState {
    pub(crate) output: RefCell<SendQueue>,
    /// In the order of their identifiers, which is that of their beginnings.
    streams: RefCell<Vec<Rc<Stream>>>,
    /// Those that wait for room.
    queue: RefCell<VecDeque<Rc<Stream>>>,
    /// Bytes that all streams together may send.
    send_window: Cell<u32>,
    /// Bytes that a new stream may send.
    stream_send_window: Cell<u32>,
    /// Bytes that the client may send.
    receive_window: Cell<u32>,
    /// Bytes that were read since the client was last told.
    released: Cell<u32>,
    /// Streams that we have reset and for which something may still be on its way.
    forgotten: RefCell<VecDeque<u32>>,
    /// Whether the next field block begins with the size of our table.
    is_table_to_be_named: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    is_woken: Cell<bool>,
}

impl SharedState {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            output: RefCell::default(),
            streams: RefCell::default(),
            queue: RefCell::default(),
            send_window: Cell::new(WINDOW_DEFAULT),
            stream_send_window: Cell::new(WINDOW_DEFAULT),
            receive_window: Cell::new(HTTP2_CONNECTION_BYTES_MAX),
            released: Cell::new(0),
            forgotten: RefCell::default(),
            is_table_to_be_named: Cell::new(false),
            waker: RefCell::default(),
            is_woken: Cell::new(false),
        })
    }

    /// Has the connection polled.
    pub(crate) fn wake(&self) {
        if !self.is_woken.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The connection is polled.
    pub(crate) fn poll_begins(&self, cx: &Context<'_>) {
        self.is_woken.set(false);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn stream(&self, id: u32) -> Option<Rc<Stream>> {
        let streams = self.streams.borrow();
        let place = streams.binary_search_by_key(&id, |stream| stream.id).ok()?;
        streams.get(place).map(Rc::clone)
    }

    pub(crate) fn streams_open(&self) -> usize {
        self.streams.borrow().len()
    }

    /// Adds a stream, the identifier of which is larger than any there was.
    pub(crate) fn add(&self, stream: Rc<Stream>) {
        self.streams.borrow_mut().push(stream);
    }

    fn remove(&self, id: u32) {
        let mut streams = self.streams.borrow_mut();
        if let Ok(place) = streams.binary_search_by_key(&id, |stream| stream.id) {
            if streams.remove(place).is_queued.get() {
                self.queue.borrow_mut().retain(|stream| stream.id != id);
            }
            if streams.is_empty() {
                *streams = Vec::new();
            }
        }
    }

    /// Ends a stream by a frame of ours. What comes for it from now on is ignored.
    pub(crate) fn reset(&self, id: u32, reason: Reason) {
        if let Some(stream) = self.stream(id) {
            stream.end(reason);
            self.remove(id);
        }
        let mut forgotten = self.forgotten.borrow_mut();
        if forgotten.len() == FORGOTTEN_MAX {
            forgotten.pop_front();
        }
        forgotten.push_back(id);
        self.output.borrow_mut().reset(id, reason);
        self.wake();
    }

    /// The client has ended a stream.
    pub(crate) fn reset_by_client(&self, stream: &Stream, reason: Reason) {
        stream.end(reason);
        self.remove(stream.id);
    }

    /// Whether we have reset a stream.
    pub(crate) fn has_forgotten(&self, id: u32) -> bool {
        self.forgotten.borrow().contains(&id)
    }

    /// All of the response was handed over. What comes of the request after it is of no use, as the
    /// client is told (RFC 9113 §8.1).
    pub(crate) fn answered(&self, stream: &Stream) {
        self.ended(stream);
        if !stream.is_complete() {
            self.reset(stream.id, Reason::NO_ERROR);
        }
    }

    /// Nothing more is sent to the client.
    pub(crate) fn ended(&self, stream: &Stream) {
        stream.set_answered();
        self.completed(stream);
        self.wake();
    }

    /// Forgets a stream of which nothing more is sent or comes.
    pub(crate) fn completed(&self, stream: &Stream) {
        if stream.is_answered() && stream.is_complete() {
            self.remove(stream.id);
        }
    }

    /// The connection has ended, with all its streams.
    pub(crate) fn end(&self) {
        for stream in self.streams.take() {
            stream.end(Reason::CANCEL);
        }
        self.queue.take();
    }

    /// Waits for room for a head.
    pub(crate) fn poll_room(
        &self,
        stream: &Rc<Stream>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Reason>> {
        self.poll_turn(stream, cx, usize::MAX).map_ok(drop)
    }

    /// Waits for room for bytes of a body, and returns for how many there is.
    pub(crate) fn poll_window(
        &self,
        stream: &Rc<Stream>,
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Reason>> {
        let window = stream.send_window();
        if window == 0 && stream.is_reset().is_none() {
            stream.wait(cx);
            return Poll::Pending;
        }
        let shared = self.send_window.get() as usize;
        let turn = self.poll_turn(stream, cx, shared);
        turn.map_ok(|()| shared.min(window).min(PAYLOAD_BYTES_MAX))
    }

    /// Bytes that a stream may send at once or one after the other.
    pub(crate) fn window(&self, stream: &Stream) -> usize {
        stream.send_window().min(self.send_window.get() as usize)
    }

    fn poll_turn(
        &self,
        stream: &Rc<Stream>,
        cx: &Context<'_>,
        window: usize,
    ) -> Poll<Result<(), Reason>> {
        if stream.is_admitted.take() {
            // There may be room for others too, if this one makes no use of it.
            self.wake();
        }
        if let Some(reason) = stream.is_reset() {
            return Poll::Ready(Err(reason));
        }
        if window > 0 && self.output.borrow().length() < HTTP2_OUTPUT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        stream.wait(cx);
        if !stream.is_queued.replace(true) {
            self.queue.borrow_mut().push_back(Rc::clone(stream));
        }
        Poll::Pending
    }

    /// Lets those have their turn for whom there is room now.
    pub(crate) fn admit(&self) {
        let length = self.output.borrow().length();
        let room = HTTP2_OUTPUT_BYTES_MAX.saturating_sub(length);
        let mut room = room.min(self.send_window.get() as usize);
        while room > 0
            && let Some(stream) = self.queue.borrow_mut().pop_front()
        {
            stream.is_queued.set(false);
            stream.is_admitted.set(true);
            stream.wake_answering();
            room = room.saturating_sub(PAYLOAD_BYTES_MAX);
        }
    }

    /// Begins the response of a stream, with fields beside those of its head.
    pub(crate) fn respond(
        &self,
        stream: &Stream,
        head: &response::Parts,
        is_end: bool,
        added: &HeaderMap,
    ) {
        stream.expects_continue.set(false);
        stream.set_response_head();
        self.block(stream.id, is_end, |block| {
            hpack::encode_status(head.status, block);
            let fields = head.headers.iter().chain(added);
            fields.for_each(|(name, value)| hpack::encode_field(name, value, block));
        });
    }

    /// Answers a request that no stream was made for.
    pub(crate) fn refuse(&self, id: u32, status: StatusCode) {
        self.block(id, true, |block| hpack::encode_status(status, block));
    }

    /// Tells a client that it may send its body (RFC 9110 §15.2.1).
    pub(crate) fn send_continue(&self, stream: &Stream) {
        if stream.expects_continue.take() {
            self.block(stream.id, false, |block| {
                hpack::encode_status(StatusCode::CONTINUE, block);
            });
        }
    }

    /// Ends a response with fields.
    pub(crate) fn send_trailers(&self, stream: &Stream, trailers: &HeaderMap) {
        self.block(stream.id, true, |block| {
            let fields = trailers.iter();
            fields.for_each(|(name, value)| hpack::encode_field(name, value, block));
        });
    }

    fn block(&self, id: u32, is_end: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        let is_table_to_be_named = self.is_table_to_be_named.take();
        self.output.borrow_mut().block(id, is_end, |block| {
            if is_table_to_be_named {
                hpack::encode_no_table(block);
            }
            encode(block);
        });
        self.wake();
    }

    /// The client has said how large a table it keeps for us, and wants to hear how much of it we
    /// use (RFC 7541 §4.2).
    pub(crate) fn set_table(&self) {
        self.is_table_to_be_named.set(true);
    }

    /// Sends bytes of a body for which [`poll_window`](Self::poll_window) has found room.
    pub(crate) fn send(&self, stream: &Stream, bytes: Bytes, is_end: bool) {
        stream.sent(bytes.len());
        let sent = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let window = &self.send_window;
        window.set(window.get().saturating_sub(sent));
        let mut output = self.output.borrow_mut();
        output.data(stream.id, bytes, is_end);
        drop(output);
        self.wake();
    }

    /// The client takes so many bytes more of all streams.
    pub(crate) fn increase_window(&self, bytes: u32) -> Result<(), Reason> {
        let window = self.send_window.get().checked_add(bytes);
        let window = window.filter(|window| *window <= WINDOW_MAX);
        self.send_window
            .set(window.ok_or(Reason::FLOW_CONTROL_ERROR)?);
        Ok(())
    }

    /// The client takes so many bytes of each stream, from its beginning.
    pub(crate) fn set_stream_window(&self, bytes: u32) -> Result<(), Reason> {
        let before = self.stream_send_window.replace(bytes);
        let streams = self.streams.borrow();
        let mut open = streams.iter();
        open.try_for_each(|stream| stream.increase_window(i64::from(bytes) - i64::from(before)))
    }

    pub(crate) fn stream_window(&self) -> i64 {
        i64::from(self.stream_send_window.get())
    }

    /// Takes so many bytes out of the window that the client has.
    pub(crate) fn receives(&self, bytes: u32) -> Result<(), Reason> {
        let window = self.receive_window.get().checked_sub(bytes);
        self.receive_window
            .set(window.ok_or(Reason::FLOW_CONTROL_ERROR)?);
        Ok(())
    }

    /// So many bytes have found their end, and their room is free again: that of the connection,
    /// and that of a stream of which more is to come.
    pub(crate) fn release(&self, stream: Option<&Stream>, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let of_stream = stream.and_then(|stream| {
            let released = stream.release(bytes, HTTP2_STREAM_BYTES_MAX)?;
            Some((stream.id, released))
        });
        let released = self.released.get() + bytes;
        let is_due = released >= HTTP2_CONNECTION_BYTES_MAX / 2;
        self.released.set(if is_due { 0 } else { released });
        if let Some((id, released)) = of_stream {
            self.output.borrow_mut().window_update(id, released);
            self.wake();
        }
        if is_due {
            let window = &self.receive_window;
            window.set(window.get() + released);
            self.output.borrow_mut().window_update(0, released);
            self.wake();
        }
    }
}

/// How many identifiers of reset streams are remembered, so that late frames for them are ignored:
/// twice the default limit of concurrent streams.
const FORGOTTEN_MAX: usize = 256;

#[cfg(test)]
mod tests;

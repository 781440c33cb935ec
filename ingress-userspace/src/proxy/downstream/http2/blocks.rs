//! Frames of field blocks: requests, and what comes after their bodies.

use std::rc::Rc;

use http::{Method, StatusCode};
use hyper::rt::Executor as _;
use ingress_wire::hpack::DecodeError;
use ingress_wire::http2::frame::{END_HEADERS, END_STREAM, FrameHead, PRIORITY, Reason};

use super::body::Http2Stream;
use super::data::unpadded;
use super::frames::{Frames, depends_on_itself};
use super::head::Fields;
use super::respond::Responder;
use super::stream::Stream;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::executor::LocalExecutor;
use crate::proxy::runtime::limits::{HTTP2_CONTINUATIONS_MAX, HTTP2_STREAM_BYTES_MAX};
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::transport::Downstream;

/// A field block that has not come to its end.
pub(crate) struct Block {
    pub(crate) head: FrameHead,
    bytes: Vec<u8>,
    continuations: usize,
}

impl Frames {
    pub(crate) fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let mut block = unpadded(head, payload)?;
        if head.has(PRIORITY) {
            let (priority, rest) = block
                .split_first_chunk::<5>()
                .ok_or(Reason::FRAME_SIZE_ERROR)?;
            block = rest;
            if depends_on_itself(*priority, head.stream) {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        if head.has(END_HEADERS) {
            return self.fields(head, block);
        }
        self.block = Some(Box::new(Block {
            head,
            bytes: block.to_vec(),
            continuations: 0,
        }));
        Ok(())
    }

    pub(crate) fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let Some(mut block) = self.block.take() else {
            return Err(Reason::PROTOCOL_ERROR);
        };
        let bytes_max = 2 * self.worker().limits.head_bytes_max as usize;
        block.continuations += 1;
        // CVE-2024-27316.
        if block.continuations > HTTP2_CONTINUATIONS_MAX
            || block.bytes.len() + payload.len() > bytes_max
        {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        block.bytes.extend_from_slice(payload);
        if head.has(END_HEADERS) {
            return self.fields(block.head, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A complete field block: a request, or what comes after its body.
    fn fields(&mut self, head: FrameHead, block: &[u8]) -> Result<(), Reason> {
        let mut fields = Fields::default();
        let list_bytes_max = self.worker().limits.head_bytes_max as usize;
        let is_too_large = self
            .decoder
            .decode(block, list_bytes_max, |field| fields.add(field))
            .map_err(reason)?
            || fields.is_too_many();
        let id = head.stream;
        if let Some(stream) = self.session.stream(id) {
            return self.trailers(&stream, head, fields, is_too_large);
        }
        if self.is_ignored(id) {
            return self.ignore_new_stream(id);
        }
        if id.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if id <= self.last {
            return Err(Reason::STREAM_CLOSED);
        }
        self.last = id;
        self.enforce_goodbye();
        let streams_max = self.worker().limits.http2_streams_max as usize;
        if self.session.streams_open() >= streams_max {
            return self.refuse_stream(id);
        }
        if is_too_large {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return self.refuse(id, head.has(END_STREAM), status);
        }
        match fields.into_request(head.has(END_STREAM)) {
            // It shows a client what we add for endpoints.
            Ok((request, ..)) if *request.method() == Method::TRACE => {
                self.refuse(id, head.has(END_STREAM), StatusCode::METHOD_NOT_ALLOWED)
            }
            Ok((request, beginning, raw_target)) => {
                let session = &self.session;
                let window = session.stream_window();
                let stream = Stream::new(id, &beginning, window, HTTP2_STREAM_BYTES_MAX);
                let stream = Rc::new(stream);
                session.add(Rc::clone(&stream));
                let request = request.map(|()| {
                    let incoming = if beginning.is_complete && !beginning.is_connect {
                        Incoming::empty(Downstream::Http2)
                    } else {
                        let stream = Http2Stream::new(&stream, session);
                        Incoming::from_stream(Downstream::Http2, stream)
                    };
                    incoming.with_original(OriginalHead::of(raw_target, None))
                });
                let answering = Responder::new(stream, Rc::clone(session));
                let connection = Rc::clone(&self.connection);
                LocalExecutor::new(&self.worker().runtime.counters)
                    .execute(answering.run(connection, request));
                Ok(())
            }
            Err(reason) => {
                self.connection.counters().malformed.increment();
                self.fault(id, reason)
            }
        }
    }

    fn trailers(
        &mut self,
        stream: &Stream,
        head: FrameHead,
        fields: Fields,
        is_too_large: bool,
    ) -> Result<(), Reason> {
        if stream.is_complete() {
            return self.fault(stream.id, Reason::STREAM_CLOSED);
        }
        if is_too_large {
            return self.fault(stream.id, Reason::ENHANCE_YOUR_CALM);
        }
        match fields.into_trailers() {
            Ok(trailers) if head.has(END_STREAM) => self.complete(stream, Some(trailers)),
            Ok(_) => self.fault(stream.id, Reason::PROTOCOL_ERROR),
            Err(reason) => self.fault(stream.id, reason),
        }
    }

    /// Answers a request that goes nowhere.
    fn refuse(&mut self, id: u32, is_complete: bool, status: StatusCode) -> Result<(), Reason> {
        self.connection.counters().malformed.increment();
        self.session.refuse(id, status);
        if is_complete {
            self.spend()
        } else {
            self.fault(id, Reason::NO_ERROR)
        }
    }
}

fn reason(error: DecodeError) -> Reason {
    if error == DecodeError::Excess {
        Reason::ENHANCE_YOUR_CALM
    } else {
        Reason::COMPRESSION_ERROR
    }
}

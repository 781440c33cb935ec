//! Frames of bodies.

use std::rc::Rc;

use http::HeaderMap;
use ingress_wire::http2::frame::{END_STREAM, FrameHead, PADDED, Reason};

use super::frames::Frames;
use super::stream::Stream;

impl Frames {
    pub(crate) fn padded_data(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Reason> {
        let data = unpadded(head, payload)?;
        self.begin_data(head, data.len())?;
        let padding = head.length - data.len();
        if padding > 0 {
            self.session.release(self.sink.as_deref(), padding);
        }
        if !data.is_empty() {
            self.add(data);
        }
        self.finish()
    }

    /// A DATA frame begins, with so many bytes that are no padding.
    pub(crate) fn begin_data(&mut self, head: FrameHead, data: usize) -> Result<(), Reason> {
        let flow = u32::try_from(head.length).map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        self.session.receives(flow)?;
        self.is_last = head.has(END_STREAM);
        self.sink = self.known(head.stream)?;
        let Some(stream) = &self.sink else {
            return Ok(());
        };
        if let Err(reason) = stream.receives(flow, data) {
            self.sink = None;
            return self.fault(head.stream, reason);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let is_read = self.sink.as_ref().is_some_and(|stream| stream.add(bytes));
        if !is_read {
            self.session.release(None, bytes.len());
        }
    }

    /// The DATA frame has come to its end.
    pub(crate) fn finish(&mut self) -> Result<(), Reason> {
        if let Some(stream) = self.sink.take()
            && self.is_last
        {
            return self.complete(&stream, None);
        }
        Ok(())
    }

    /// The client has sent all of a request. A body that is shorter than it said is a fault of its
    /// own (CVE-2025-8671).
    pub(crate) fn complete(
        &mut self,
        stream: &Stream,
        trailers: Option<HeaderMap>,
    ) -> Result<(), Reason> {
        if stream.is_reset().is_some() {
            return Ok(());
        }
        match stream.complete(trailers) {
            Ok(()) => {
                self.session.completed(stream);
                Ok(())
            }
            Err(reason) => self.fault(stream.id, reason),
        }
    }

    /// The stream that a frame is for. `None`: one of which nothing is known any more, and the
    /// frame is ignored, or has cost the client something.
    fn known(&mut self, id: u32) -> Result<Option<Rc<Stream>>, Reason> {
        if id == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let stream = self.session.stream(id);
        if stream.is_some() || self.is_ignored(id) {
            return Ok(stream);
        }
        if id > self.last || id.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.fault(id, Reason::STREAM_CLOSED)?;
        Ok(None)
    }
}

/// What is between the padding (RFC 9113 §6.1).
pub(crate) fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Reason> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (length, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
    let data = rest.len().checked_sub(usize::from(*length));
    data.and_then(|data| rest.get(..data))
        .ok_or(Reason::PROTOCOL_ERROR)
}

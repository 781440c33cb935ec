//! The body of a request on its way to an endpoint.
//!
//! Bytes pass from one connection to the other as they were read. Nothing is buffered here: the
//! body reads from its client only when its endpoint asks.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::client_body::IncomingError;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::pipe::Pipe;
use crate::proxy::runtime::upload::Progress;
use crate::proxy::runtime::upload::Upload;
use crate::proxy::upstream::forwarded::Lines;
use crate::proxy::upstream::replay_buffer::ReplayBody;
use crate::proxy::upstream::replay_buffer::ReplayBuffer;

/// The body of a request on its way to an endpoint, and what is written beside its head.
#[derive(Default)]
pub(crate) struct RequestBody {
    source: RequestSource,
    lines: Option<Lines>,
    original: OriginalHead,
}

#[derive(Default)]
enum RequestSource {
    #[default]
    Nothing,
    /// The client.
    Uploading(Uploading),
    /// A copy of what the client has sent.
    Replayed(Box<ReplayBody>),
}

struct Uploading {
    incoming: Incoming,
    upload: Rc<Upload>,
    /// Notes down what moves, where no socket can tell.
    activity: Option<Rc<Activity>>,
    /// Where it is copied to, if it may have to be sent again.
    kept: Option<Rc<ReplayBuffer>>,
    /// What else gets a copy of it.
    tap: Option<Tap>,
}

/// Collects a body while it is read, and hands it on when all of it has been.
pub(crate) struct Tap {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// `None` once it was handed on, or is too large.
    take: Option<Box<dyn FnOnce(Bytes)>>,
}

impl Tap {
    /// One that gives bodies of more bytes up.
    pub(crate) fn new(bytes_max: usize, take: Box<dyn FnOnce(Bytes)>) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max,
            take: Some(take),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.take.is_none() {
            return;
        }
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.take = None;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn finish(&mut self) {
        if let Some(take) = self.take.take() {
            take(std::mem::take(&mut self.bytes).into());
        }
    }
}

/// Why a request body ends before its end.
#[derive(Debug, Error)]
pub(crate) enum UploadError {
    /// The client broke off, or sent what is no body.
    #[error(transparent)]
    Client(IncomingError),
    /// It has more bytes than it may have.
    #[error("request body is too large")]
    TooLarge,
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty(original: OriginalHead) -> Self {
        Self {
            original,
            ..Self::default()
        }
    }

    /// Has lines written after the fields of the head.
    pub(crate) fn introduce(&mut self, lines: Option<Lines>) {
        self.lines = lines;
    }

    /// Keeps a copy of what is sent, unless it is known to be too large for that.
    pub(crate) fn keep(&mut self) -> Option<Rc<ReplayBuffer>> {
        let kept = ReplayBuffer::new(&self.size_hint())?;
        if let RequestSource::Uploading(uploading) = &mut self.source {
            uploading.kept = Some(Rc::clone(&kept));
        }
        Some(kept)
    }

    /// Gives something else a copy of what is sent.
    pub(crate) fn tap(&mut self, tap: Option<Tap>) {
        if let RequestSource::Uploading(uploading) = &mut self.source {
            uploading.tap = tap;
        }
    }

    /// What was sent before, once more.
    pub(crate) fn replayed(copied: ReplayBody, original: OriginalHead) -> Self {
        Self {
            source: RequestSource::Replayed(Box::new(copied)),
            lines: None,
            original,
        }
    }

    /// What is written after the fields of the head.
    pub(crate) fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    /// What of the client's head the request does not hold.
    pub(crate) fn original(&self) -> &OriginalHead {
        &self.original
    }

    /// The body of a downstream request, and where to look what has come of it (`None`: there is
    /// none). Nothing of it goes beyond so many bytes.
    pub(crate) fn new(
        mut incoming: Incoming,
        activity: Option<&Rc<Activity>>,
        bytes_max: u64,
    ) -> (Self, Option<Rc<Upload>>) {
        let original = std::mem::take(incoming.original_mut());
        if incoming.is_end_stream() {
            return (Self::empty(original), None);
        }
        let upload = Upload::new(bytes_max);
        let uploading = Uploading {
            incoming,
            upload: Rc::clone(&upload),
            activity: activity.map(Rc::clone),
            kept: None,
            tap: None,
        };
        let body = Self {
            source: RequestSource::Uploading(uploading),
            lines: None,
            original,
        };
        (body, Some(upload))
    }
}

impl RequestBody {
    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, UploadError>>> {
        let RequestSource::Uploading(uploading) = &mut self.source else {
            return Poll::Ready(None);
        };
        if uploading.kept.is_some() || uploading.tap.is_some() {
            return Poll::Ready(None);
        }
        let poll = uploading.incoming.poll_splice(cx);
        match ready!(poll) {
            Some(Ok(pipe)) => {
                let is_end = uploading.incoming.is_end_stream();
                uploading.upload.note_bytes(pipe.length(), is_end);
                if uploading.upload.progress() == Progress::TooLarge {
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                }
                Poll::Ready(Some(Ok(pipe)))
            }
            Some(Err(error)) => {
                uploading.upload.fail();
                Poll::Ready(Some(Err(UploadError::Client(error))))
            }
            None => Poll::Ready(None),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let uploading = match &mut self.source {
            RequestSource::Nothing => return Poll::Ready(None),
            RequestSource::Uploading(uploading) => uploading,
            RequestSource::Replayed(copied) => return Poll::Ready(copied.next().map(Ok)),
        };
        let poll = Pin::new(&mut uploading.incoming).poll_frame(cx);
        if let Some(activity) = &uploading.activity
            && poll.is_ready()
        {
            activity.touch();
        }
        let is_end = uploading.incoming.is_end_stream();
        uploading.upload.note(&poll, is_end);
        if uploading.upload.progress() == Progress::TooLarge {
            return Poll::Ready(Some(Err(UploadError::TooLarge)));
        }
        if let Some(tap) = &mut uploading.tap {
            if let Poll::Ready(Some(Ok(frame))) = &poll
                && let Some(bytes) = frame.data_ref()
            {
                tap.add(bytes);
            }
            if is_end || matches!(poll, Poll::Ready(None)) {
                tap.finish();
            }
        }
        if let (Some(kept), Poll::Ready(Some(Ok(frame)))) = (&uploading.kept, &poll) {
            kept.add(frame);
        }
        poll.map_err(UploadError::Client)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            RequestSource::Nothing => true,
            RequestSource::Uploading(uploading) => uploading.incoming.is_end_stream(),
            RequestSource::Replayed(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            RequestSource::Nothing => SizeHint::with_exact(0),
            RequestSource::Uploading(uploading) => uploading.incoming.size_hint(),
            RequestSource::Replayed(copied) => copied.size_hint(),
        }
    }
}

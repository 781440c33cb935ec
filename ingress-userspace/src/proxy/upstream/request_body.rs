//! The body of a request on its way to an endpoint.
//!
//! Bytes pass from one connection to the other as they were read. Beyond what was gathered before
//! there was an endpoint, nothing is buffered here: the body reads from its client only when its
//! endpoint asks.

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
use crate::proxy::runtime::upload::{Pace, Progress, Upload};
use crate::proxy::upstream::forwarded::ForwardedHeaders;
use crate::proxy::upstream::replay_buffer::ReplayBody;
use crate::proxy::upstream::replay_buffer::ReplayBuffer;

/// The body of a request on its way to an endpoint, and what is written beside its head.
#[derive(Default)]
pub(crate) struct RequestBody {
    source: RequestSource,
    lines: Option<ForwardedHeaders>,
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
    /// The part that was read before an endpoint was chosen.
    gathered: Option<Box<ReplayBody>>,
    /// Notes down what moves, where no socket can tell.
    activity: Option<Rc<Activity>>,
    /// Where it is copied to, if it may have to be sent again.
    kept: Option<Rc<ReplayBuffer>>,
    /// A second receiver of the body.
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
    /// Fewer bytes a second have come than have to.
    #[error("request body comes too slowly")]
    TooSlow,
}

/// Why a body goes no further, as far as that is known from its progress.
fn refusal(progress: Progress) -> Option<UploadError> {
    match progress {
        Progress::TooLarge => Some(UploadError::TooLarge),
        Progress::TooSlow => Some(UploadError::TooSlow),
        Progress::Streaming | Progress::Done | Progress::Failed => None,
    }
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
    pub(crate) fn introduce(&mut self, lines: Option<ForwardedHeaders>) {
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

    /// A body that was sent before and is sent again.
    pub(crate) fn replayed(copied: ReplayBody, original: OriginalHead) -> Self {
        Self {
            source: RequestSource::Replayed(Box::new(copied)),
            lines: None,
            original,
        }
    }

    /// The field lines that are written after those of the head.
    pub(crate) fn lines(&self) -> Option<&ForwardedHeaders> {
        self.lines.as_ref()
    }

    /// The parts of the client's head that the types of `http` cannot hold.
    pub(crate) fn original(&self) -> &OriginalHead {
        &self.original
    }

    /// The body of a downstream request, and where to look what has come of it (`None`: there is
    /// none). Nothing of it goes beyond so many bytes, or is slower than `pace`.
    pub(crate) fn new(
        mut incoming: Incoming,
        bytes_max: u64,
        pace: Option<Pace>,
    ) -> (Self, Option<Rc<Upload>>) {
        let original = std::mem::take(incoming.original_mut());
        if incoming.is_end_stream() {
            return (Self::empty(original), None);
        }
        let upload = Upload::new(bytes_max, pace);
        let uploading = Uploading {
            incoming,
            upload: Rc::clone(&upload),
            gathered: None,
            activity: None,
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
    /// Has what moves be noted.
    pub(crate) fn watch(&mut self, activity: Option<&Rc<Activity>>) {
        if let RequestSource::Uploading(uploading) = &mut self.source {
            uploading.activity = activity.map(Rc::clone);
        }
    }

    /// Reads from the client once, before there is an endpoint; whether `bytes_max` are there then,
    /// or the end is.
    ///
    /// # Errors
    ///
    /// How far the body has come, if it will not come to its end.
    pub(crate) fn poll_gather(
        &mut self,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Progress>> {
        let RequestSource::Uploading(uploading) = &mut self.source else {
            return Poll::Ready(Ok(true));
        };
        // Over HTTP/2 the end of a body whose length is known may come after it.
        let is_whole = uploading.incoming.size_hint().exact() == Some(0);
        let gathered = uploading.gathered.get_or_insert_default();
        let is_enough = gathered.length() >= bytes_max;
        if is_whole || is_enough || uploading.incoming.is_end_stream() {
            return Poll::Ready(Ok(true));
        }
        let frame = ready!(uploading.poll_incoming(cx));
        match frame {
            Some(Ok(frame)) => uploading.gathered.get_or_insert_default().add(frame),
            Some(Err(_)) => return Poll::Ready(Err(uploading.upload.progress())),
            None => return Poll::Ready(Ok(true)),
        }
        Poll::Ready(Ok(false))
    }

    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, UploadError>>> {
        let RequestSource::Uploading(uploading) = &mut self.source else {
            return Poll::Ready(None);
        };
        if uploading.kept.is_some() || uploading.tap.is_some() || !uploading.is_gathered_over() {
            return Poll::Ready(None);
        }
        let poll = uploading.incoming.poll_splice(cx);
        match ready!(poll) {
            Some(Ok(pipe)) => {
                let is_end = uploading.incoming.is_end_stream();
                uploading.upload.note_bytes(pipe.length(), is_end);
                let refusal = refusal(uploading.upload.progress());
                Poll::Ready(Some(refusal.map_or(Ok(pipe), Err)))
            }
            Some(Err(error)) => {
                uploading.upload.fail();
                Poll::Ready(Some(Err(UploadError::Client(error))))
            }
            None => Poll::Ready(None),
        }
    }
}

impl Uploading {
    /// Whether nothing is left of what was gathered.
    fn is_gathered_over(&self) -> bool {
        self.gathered.as_ref().is_none_or(|all| all.is_over())
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let poll = Pin::new(&mut self.incoming).poll_frame(cx);
        let is_end = self.incoming.is_end_stream();
        self.upload.note(&poll, is_end);
        match refusal(self.upload.progress()) {
            Some(refusal) => Poll::Ready(Some(Err(refusal))),
            None => poll.map_err(UploadError::Client),
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
        let gathered = uploading.gathered.as_mut().and_then(|all| all.next());
        let poll = match gathered {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => uploading.poll_incoming(cx),
        };
        if let Some(activity) = &uploading.activity
            && poll.is_ready()
        {
            activity.touch();
        }
        let is_end = uploading.is_gathered_over() && uploading.incoming.is_end_stream();
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
        poll
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            RequestSource::Nothing => true,
            RequestSource::Uploading(uploading) => {
                uploading.is_gathered_over() && uploading.incoming.is_end_stream()
            }
            RequestSource::Replayed(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            RequestSource::Nothing => SizeHint::with_exact(0),
            RequestSource::Uploading(uploading) => {
                let gathered = uploading.gathered.as_ref();
                let gathered = gathered.map_or(Some(0), |all| all.size_hint().exact());
                let left = uploading.incoming.size_hint().exact();
                let both = gathered.zip(left);
                both.map_or_else(SizeHint::default, |(gathered, left)| {
                    SizeHint::with_exact(gathered + left)
                })
            }
            RequestSource::Replayed(copied) => copied.size_hint(),
        }
    }
}

//! Copies of request bodies, for requests that may have to be sent again.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::proxy::runtime::limits::KEPT_BYTES_MAX;

/// The part of a body that was sent so far.
///
/// A copy and not the pieces themselves: each of those would hold all that was read with it.
pub(crate) struct ReplayBuffer(RefCell<State>);

enum State {
    /// All of it.
    Whole {
        data: BytesMut,
        trailers: Option<HeaderMap>,
    },
    /// It has become too large.
    Lost,
}

/// A body on its way to another endpoint, or one that was read before there was any.
#[derive(Default)]
pub(crate) struct ReplayBody {
    data: BytesMut,
    trailers: Option<HeaderMap>,
}

impl ReplayBuffer {
    /// Room for a body. `None` if it is known to be too large.
    pub(crate) fn new(size: &SizeHint) -> Option<Rc<Self>> {
        let is_large = size.lower() > KEPT_BYTES_MAX as u64;
        let state = State::Whole {
            data: BytesMut::new(),
            trailers: None,
        };
        (!is_large).then(|| Rc::new(Self(RefCell::new(state))))
    }

    /// Adds what is sent next.
    pub(crate) fn add(&self, frame: &Frame<Bytes>) {
        let mut state = self.0.borrow_mut();
        let State::Whole { data, trailers } = &mut *state else {
            return;
        };
        if let Some(piece) = frame.data_ref() {
            if data.len() + piece.len() > KEPT_BYTES_MAX {
                *state = State::Lost;
                return;
            }
            data.extend_from_slice(piece);
        } else if let Some(fields) = frame.trailers_ref() {
            *trailers = Some(fields.clone());
        }
    }

    /// The body, if nothing of it is missing. It must have been sent to its end.
    pub(crate) fn copy(&self) -> Option<ReplayBody> {
        match &*self.0.borrow() {
            State::Whole { data, trailers } => Some(ReplayBody {
                data: data.clone(),
                trailers: trailers.clone(),
            }),
            State::Lost => None,
        }
    }
}

impl ReplayBody {
    /// Adds what follows it.
    pub(crate) fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(piece) => self.data.extend_from_slice(&piece),
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }

    /// Bytes of it that are left.
    pub(crate) fn length(&self) -> usize {
        self.data.len()
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) fn next(&mut self) -> Option<Frame<Bytes>> {
        if !self.data.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.data).freeze()));
        }
        self.trailers.take().map(Frame::trailers)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.trailers {
            // Only a body of unknown length can have some after it.
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.data.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pieces: &[&[u8]]) -> Rc<ReplayBuffer> {
        let kept = ReplayBuffer::new(&SizeHint::default()).expect("nothing is known");
        for piece in pieces {
            kept.add(&Frame::data(Bytes::copy_from_slice(piece)));
        }
        kept
    }

    #[test]
    fn a_body_is_the_same_each_time() {
        let kept = kept(&[b"one", b"", b"two"]);
        kept.add(&Frame::trailers(HeaderMap::new()));
        for _ in 0..2 {
            let mut copied = kept.copy().expect("it is small");
            assert_eq!(copied.size_hint().exact(), None);
            let data = copied.next().map(Frame::into_data);
            assert_eq!(data.unwrap().ok(), Some(Bytes::from("onetwo")));
            assert!(!copied.is_over());
            assert!(copied.next().is_some_and(|frame| frame.is_trailers()));
            assert!(copied.is_over() && copied.next().is_none());
        }
    }

    #[test]
    fn a_large_body_is_not_kept() {
        let large = vec![0; KEPT_BYTES_MAX];
        let all = kept(&[&large]).copy().map(|copied| copied.size_hint());
        assert_eq!(
            all.and_then(|hint| hint.exact()),
            Some(KEPT_BYTES_MAX as u64)
        );
        assert!(kept(&[&large, b"1"]).copy().is_none());
        assert!(kept(&[&large, b"1", b""]).copy().is_none());
        let exactly = |length: usize| ReplayBuffer::new(&SizeHint::with_exact(length as u64));
        assert!(exactly(KEPT_BYTES_MAX).is_some() && exactly(KEPT_BYTES_MAX + 1).is_none());
    }
}

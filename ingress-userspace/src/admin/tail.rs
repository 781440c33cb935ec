//! The requests that a client of the admin socket follows: JSON, one object a line, as they end.
//!
//! Invariant: a client that does not read holds one frame and the queues of its watcher, and delays
//! no request. The requests that it misses are counted, and it gets the count.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::TAIL_FILTER;
use super::routes::Answer;
use super::scrape::Progress;
use crate::api::{TailEvent, TailLine};
use crate::proxy::{Tail, TailReader};

/// Follows the requests that the filter in the request's header names, until the client leaves.
pub(super) fn follow(
    request: &Request<Incoming>,
    tail: &Tail,
    progress: &Progress,
) -> Response<Answer> {
    let filter = request.headers().get(TAIL_FILTER);
    let filter = filter.map_or(&b"{}"[..], HeaderValue::as_bytes);
    let refuse = |status, problem: String| {
        let mut response = Response::new(Full::from(problem).boxed_unsync());
        *response.status_mut() = status;
        response
    };
    let filter = match serde_json::from_slice(filter) {
        Ok(filter) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match tail.watch(filter) {
        Ok(reader) => {
            progress.follow();
            let mut looks = interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Response::new(TailBody { reader, looks }.boxed_unsync())
        }
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// The body of the answer.
struct TailBody {
    reader: TailReader,
    looks: Interval,
}

impl Body for TailBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            ready!(self.looks.poll_tick(cx));
            let (requests, dropped) = self.reader.take(REQUESTS_PER_LOOK_MAX);
            let now = (Instant::now(), Timestamp::now());
            let lines = requests.iter().map(|one| Box::new(TailLine::of(one, now)));
            let lines = lines.map(TailEvent::Request);
            let dropped = (dropped > 0).then_some(TailEvent::Dropped { requests: dropped });
            let mut text = Vec::new();
            for event in lines.chain(dropped) {
                // Writing to memory does not fail.
                let _ = serde_json::to_writer(&mut text, &event);
                text.push(b'\n');
            }
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
    }
}

/// Between two looks at the queues of workers.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Requests that are taken at one look: some 1.5 MiB with the longest paths.
const REQUESTS_PER_LOOK_MAX: usize = 1024;

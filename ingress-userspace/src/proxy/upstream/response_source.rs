//! What a response body comes over: a connection of its own, or a stream among others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use ingress_wire::http1::Spelling;

use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::pipe::Pipes;
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::endpoint::{Endpoint, InFlightGuard};
use crate::proxy::upstream::error::BodyError;
use crate::proxy::upstream::http1::{Fault, Upstream};
use crate::proxy::upstream::http2::StreamPermit;
use crate::proxy::upstream::response_timeout::ResponseTimeout;

/// What a response body comes over, and the load that it is on its endpoint.
pub(crate) enum ResponseSource {
    /// A connection of its own, until the end of the body.
    Own {
        upstream: Option<Box<Upstream>>,
        load: InFlightGuard,
    },
    /// A stream of a connection that others drive.
    Shared(Box<SharedSource>),
}

pub(crate) struct SharedSource {
    incoming: Incoming,
    activity: Rc<Activity>,
    place: StreamPermit,
    load: InFlightGuard,
}

impl Drop for SharedSource {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.place.finish();
        }
    }
}

impl ResponseSource {
    pub(crate) fn own(upstream: Box<Upstream>, load: InFlightGuard) -> Self {
        Self::Own {
            upstream: Some(upstream),
            load,
        }
    }

    pub(crate) fn shared(
        incoming: Incoming,
        place: StreamPermit,
        activity: Rc<Activity>,
        load: InFlightGuard,
    ) -> Self {
        Self::Shared(Box::new(SharedSource {
            incoming,
            activity,
            place,
            load,
        }))
    }

    /// The endpoint at its other end.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Own { load, .. } => load,
            Self::Shared(shared) => &shared.load,
        }
    }

    /// Whether nothing more comes over it.
    pub(crate) fn is_body_over(&self) -> bool {
        match self {
            Self::Own { upstream, .. } => upstream.as_ref().is_none_or(|one| one.is_body_over()),
            Self::Shared(shared) => shared.incoming.is_end_stream(),
        }
    }

    /// The names of a response's fields as its endpoint has written them, once.
    pub(crate) fn take_spelling(&mut self) -> Option<Spelling> {
        match self {
            Self::Own { upstream, .. } => upstream.as_mut()?.take_spelling(),
            Self::Shared(_) => None,
        }
    }

    /// Whether there is so much of the body to come that it is worth a pipe.
    pub(crate) fn may_be_piped(&self) -> bool {
        match self {
            Self::Own { upstream, .. } => upstream.as_ref().is_some_and(|one| one.may_be_piped()),
            Self::Shared(_) => false,
        }
    }

    /// How long the rest of the body is.
    pub(crate) fn body_size(&self) -> SizeHint {
        match self {
            Self::Own { upstream, .. } => upstream
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), |one| one.body_size()),
            Self::Shared(shared) => shared.incoming.size_hint(),
        }
    }

    /// The next piece of the body, or its trailer fields; `None` is its end. What may go through
    /// `pipes` does; what is read comes by at most `bytes_max`. An error too, when the endpoint sends
    /// nothing for longer than `timeout`.
    pub(crate) fn poll_body(
        &mut self,
        pipes: Option<&Rc<Pipes>>,
        bytes_max: usize,
        timeout: &mut ResponseTimeout,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        match self {
            Self::Own { upstream, .. } => {
                let Some(upstream) = upstream else {
                    return Poll::Ready(None);
                };
                let poll = upstream.poll_body(pipes, bytes_max, cx);
                if poll.is_pending() && upstream.is_stuck(timeout, cx) {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                poll.map_err(BodyError::Upstream)
            }
            Self::Shared(shared) => {
                let poll = Pin::new(&mut shared.incoming).poll_frame(cx);
                if poll.is_ready() {
                    shared.activity.touch();
                    if !matches!(poll, Poll::Ready(Some(Ok(_)))) {
                        shared.place.finish();
                    }
                } else if timeout.is_over(&shared.activity, cx) {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                poll.map_ok(|frame| frame.map_data(Chunk::Bytes))
                    .map_err(|error| BodyError::Upstream(Fault::Http2(error)))
            }
        }
    }

    /// Keeps no memory that can be done without while the client does not read; returns how many
    /// bytes are left.
    pub(crate) fn let_go(&mut self) -> usize {
        match self {
            Self::Own { upstream, .. } => upstream.as_mut().map_or(0, |one| one.let_go()),
            Self::Shared(_) => 0,
        }
    }

    /// The connection, if it is no one else's.
    pub(crate) fn into_upstream(self) -> Option<Box<Upstream>> {
        match self {
            Self::Own { upstream, .. } => upstream,
            Self::Shared(_) => None,
        }
    }

    /// Hands a connection back whose exchange is over.
    pub(crate) fn release(&mut self, upstreams: &Upstreams) {
        if let Self::Own { upstream, load } = self
            && let Some(upstream) = upstream.take()
        {
            upstreams.release(load, upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::task::ready;
    use std::thread;
    use std::time::Duration;

    use http::Request;
    use ingress_core::ir::{RouteTimeouts, UpstreamProtocol};
    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::*;
    use crate::proxy::runtime::counters::Counters;
    use crate::proxy::runtime::limits::Timeouts;
    use crate::proxy::runtime::original_head::OriginalHead;
    use crate::proxy::runtime::pipe::{Pipe, Pipes};
    use crate::proxy::runtime::stream::UpstreamStream;
    use crate::proxy::runtime::timer::Timers;
    use crate::proxy::upstream::queue::Room;
    use crate::proxy::upstream::request_body::RequestBody;
    use crate::proxy::upstream::timeouts::EffectiveTimeouts;

    const PATIENCE: Duration = Duration::from_millis(100);

    /// Sends more than a pipe takes, and then nothing more for as long as its peer is there.
    fn begin_a_large_response(mut peer: std::net::TcpStream) {
        let mut request = [0; 1024];
        assert!(peer.read(&mut request).unwrap() > 0);
        peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
            .unwrap();
        peer.write_all(&vec![1; 1_000_000]).unwrap();
        let _ = peer.read(&mut request);
    }

    /// Connects to somebody who does this with the connection.
    async fn connect_to(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(listener.accept().unwrap().0));
        TcpStream::connect(address).await.unwrap()
    }

    struct Scene {
        source: ResponseSource,
        pipes: Rc<Pipes>,
        timeout: ResponseTimeout,
    }

    impl Scene {
        /// The beginning of a response, whose endpoint has all the time until `PATIENCE` is set.
        async fn open() -> Self {
            let timers = Timers::new();
            tokio::task::spawn_local(Rc::clone(&timers).run());
            let waits = EffectiveTimeouts::new(&Timeouts::default(), RouteTimeouts::default());
            let mut timeout = ResponseTimeout::new(&timers, &waits, None, None);
            let stream = connect_to(begin_a_large_response).await;
            let address = stream.peer_addr().unwrap();
            let mut upstream = Upstream::new(UpstreamStream::Tcp(stream), &timers);
            let request = Request::new(RequestBody::empty(OriginalHead::default()));
            let Ok(response) = upstream.send(request, &mut timeout).await else {
                panic!("no response");
            };
            assert_eq!(response.status(), 200);
            timeout.set_limit(PATIENCE);
            timeout.begin_again();
            let room = Rc::new(Room::default());
            let endpoint = Endpoint::new(address, UpstreamProtocol::Http1, None, &room);
            Self {
                source: ResponseSource::own(upstream, InFlightGuard::new(&endpoint)),
                pipes: Pipes::new(&Arc::new(Counters::default())),
                timeout,
            }
        }

        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
            let pipes = Some(&self.pipes);
            let frame = ready!(
                self.source
                    .poll_body(pipes, usize::MAX, &mut self.timeout, cx)
            );
            Poll::Ready(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
        }

        /// Reads until a pipe has something in it.
        async fn fill(&mut self) -> Pipe {
            loop {
                let chunk = std::future::poll_fn(|cx| self.poll(cx)).await;
                if let Chunk::Spliced(pipe) = chunk.unwrap().unwrap() {
                    return pipe;
                }
            }
        }

        /// Has a client take all of it.
        async fn drain(mut pipe: Pipe) {
            let drop_all = |mut peer| {
                let _ = std::io::copy(&mut peer, &mut std::io::sink());
            };
            let client = connect_to(drop_all).await;
            while pipe.length() > 0 {
                let drain = |cx: &mut Context<'_>| pipe.poll_drain(&client, usize::MAX, cx);
                std::future::poll_fn(drain).await.unwrap();
            }
        }

        /// What comes within a multiple of what there is patience for, looked for all the time.
        async fn watch(&mut self) -> Option<Result<Chunk, BodyError>> {
            for _ in 0..40 {
                let poll = std::future::poll_fn(|cx| Poll::Ready(self.poll(cx))).await;
                if let Poll::Ready(outcome) = poll {
                    return outcome;
                }
                tokio::time::sleep(PATIENCE / 10).await;
            }
            None
        }
    }

    #[tokio::test]
    async fn an_endpoint_is_not_blamed_for_a_client_that_takes_nothing() {
        let waiting = async {
            let mut scene = Scene::open().await;
            let pipe = scene.fill().await;
            // It is the client's turn for longer than the endpoint has.
            tokio::time::sleep(4 * PATIENCE).await;
            Scene::drain(pipe).await;
            loop {
                match scene.watch().await {
                    Some(Ok(Chunk::Spliced(pipe))) => Scene::drain(pipe).await,
                    Some(Err(BodyError::TimedOut)) => break,
                    other => panic!("{other:?}, but the endpoint is silent"),
                }
            }
        };
        LocalSet::new().run_until(waiting).await;
    }
}

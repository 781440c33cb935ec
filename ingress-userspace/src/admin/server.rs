//! One HTTP server for both admin sockets.
//!
//! The number and the age of its connections are bounded.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::debug;

use super::routes::{Audience, Routes};
use super::scrape::Progress;

/// A socket that connections are accepted from.
pub trait Listen {
    /// An accepted connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The clients of this socket.
    const AUDIENCE: Audience;

    /// Waits for the next connection.
    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    const AUDIENCE: Audience = Audience::Root;

    async fn accept_one(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    const AUDIENCE: Audience = Audience::Network;

    async fn accept_one(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Answers until it is dropped.
pub(super) async fn serve<L: Listen>(listener: L, routes: Routes) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut spare = spare_descriptor();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok(stream) = listener.accept_one().await else {
            // Out of descriptors, which clients may hold: probes get the spare one.
            if spare.take().is_none() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            continue;
        };
        if spare.is_none() {
            spare = spare_descriptor();
        }
        let routes = routes.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let progress = Progress::default();
            let service = service_fn(async |request: Request<Incoming>| {
                Ok::<_, Infallible>(routes.answer(request, L::AUDIENCE, &progress).await)
            });
            let connection = http1::Builder::new()
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let limit = async {
                let _ = tokio::time::timeout(CONNECTION_TIME_MAX, progress.stalled()).await;
                if progress.is_following() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                outcome = connection => if let Err(error) = outcome {
                    debug!(%error, "admin connection failed");
                },
                () = limit => debug!("closed an admin connection"),
            }
        });
    }
}

/// A descriptor that is given back when there are none for a connection.
fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// How long no connection is accepted after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are buffered for one connection; larger parts of a body are not copied.
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// Connections to one socket; further ones wait.
const CONNECTIONS_MAX: usize = 64;

/// For which one connection is served, idle or not; requests are followed for longer (`sluice tail`).
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);

//! HTTP/2 as literally as a test likes: origins and clients on the `h2` crate.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream, client};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request as it came to an origin, with the way to answer it.
pub struct Asked {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
}

/// An origin that speaks HTTP/2 and nothing else.
pub struct H2Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    /// Hands every request to `serve`, each in a task of its own.
    pub fn start<F>(serve: impl Fn(Asked) -> F + Send + Clone + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start_with(serve, None, h2::server::Builder::new())
    }

    pub fn start_with<F>(
        serve: impl Fn(Asked) -> F + Send + Clone + 'static,
        tls: Option<TlsAcceptor>,
        builder: h2::server::Builder,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            run(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    stream.set_nodelay(true).unwrap();
                    let (serve, tls, builder) = (serve.clone(), tls.clone(), builder.clone());
                    tokio::task::spawn_local(async move {
                        match tls {
                            None => accept(stream, serve, builder).await,
                            Some(tls) => {
                                let stream = tls.accept(stream).await.unwrap();
                                accept(stream, serve, builder).await;
                            }
                        }
                    });
                }
            });
        });
        Self {
            address,
            connections,
        }
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept<S, F>(stream: S, serve: impl Fn(Asked) -> F, builder: h2::server::Builder)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()> + 'static,
{
    let Ok(mut connection) = builder.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(serve(Asked { request, respond }));
    }
}

/// Runs a test, or an origin, on a runtime of its own.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    run_within(crate::rig::PATIENCE, future)
}

/// The same for what takes longer than a wait should.
pub fn run_within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        tokio::time::timeout(limit, future)
            .await
            .expect("a test that would wait for ever fails instead")
    })
}

/// A connection to a port of the proxy, by prior knowledge.
pub async fn connect(address: SocketAddr) -> client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    handshake(stream).await
}

pub async fn handshake<S>(stream: S) -> client::SendRequest<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::task::spawn_local(async move {
        // The test sees on its streams what it has to see.
        let _ = connection.await;
    });
    client.ready().await.unwrap()
}

/// A gRPC request, open at the client's end.
pub async fn call(
    client: &client::SendRequest<Bytes>,
    path: &str,
) -> (client::ResponseFuture, SendStream<Bytes>) {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::post(format!("http://one.test{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap();
    client.send_request(request, false).unwrap()
}

/// A response to its end.
pub async fn read(response: Response<RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    (bytes, body.trailers().await.unwrap())
}

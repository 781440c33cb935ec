//! Kinds of traffic, in the mix that an ingress sees.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, TE, UPGRADE, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{CALLS, WEB};

/// Whom clients connect to.
#[derive(Clone)]
pub(super) struct Target {
    http: SocketAddr,
    https: SocketAddr,
    tls: TlsConnector,
    tls_of_http2: TlsConnector,
}

/// Something that clients do.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    pub(super) name: &'static str,
    transport: Transport,
    protocol: Protocol,
    what: What,
    /// Clients at once.
    clients: u32,
    /// Connections of each client, one after another.
    connections: u32,
    /// Requests of each connection.
    requests: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Tls,
}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    /// With so many requests at a time.
    Http2 {
        streams: u32,
    },
    /// Messages in place of requests.
    WebSocket,
}

#[derive(Clone, Copy)]
enum What {
    /// An answer of so many bytes.
    Get(usize),
    /// A body of so many bytes.
    Post(usize),
    /// A gRPC call.
    Call,
    /// A host that is not there.
    Nobody,
}

impl Target {
    pub(super) fn new(http: SocketAddr, https: SocketAddr, tls: ClientConfig) -> Self {
        let mut tls_of_http2 = tls.clone();
        tls_of_http2.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            http,
            https,
            tls: TlsConnector::from(Arc::new(tls)),
            tls_of_http2: TlsConnector::from(Arc::new(tls_of_http2)),
        }
    }
}

impl Traffic {
    /// Sees to it that the daemon serves what it is to serve.
    pub(super) const PROBE: Self = kept("", Transport::Tcp, What::Get(1), 1, 1);

    pub(super) const ALL: [Self; 14] = [
        kept("kept alive", Transport::Tcp, What::Get(1 << 10), 8, 3_000),
        Self {
            connections: 1_000,
            ..kept("new connections", Transport::Tcp, What::Get(1 << 10), 4, 1)
        },
        kept("64 KiB", Transport::Tcp, What::Get(64 << 10), 4, 300),
        kept("1 MiB", Transport::Tcp, What::Get(1 << 20), 2, 60),
        kept("small uploads", Transport::Tcp, What::Post(1 << 10), 4, 500),
        kept("uploads", Transport::Tcp, What::Post(1 << 20), 2, 60),
        kept("TLS", Transport::Tls, What::Get(1 << 10), 4, 2_000),
        Self {
            connections: 100,
            ..kept(
                "new TLS connections",
                Transport::Tls,
                What::Get(1 << 10),
                4,
                1,
            )
        },
        many("HTTP/2", Transport::Tcp, What::Get(1 << 10), 4, 6_000),
        many(
            "HTTP/2 over TLS",
            Transport::Tls,
            What::Get(1 << 10),
            2,
            2_000,
        ),
        many("gRPC", Transport::Tcp, What::Call, 4, 4_000),
        many("gRPC over TLS", Transport::Tls, What::Call, 1, 1_000),
        Self {
            protocol: Protocol::WebSocket,
            ..kept("WebSockets", Transport::Tcp, What::Get(0), 4, 1_000)
        },
        kept("nobody", Transport::Tcp, What::Nobody, 2, 100),
    ];

    /// Does it, so many percent of it; at least once.
    pub(super) async fn run(self, target: &Target, percent: u32) -> Result<()> {
        let share = |count: u32| (count * percent / 100).max(1);
        let (connections, requests) = (share(self.connections), share(self.requests));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let target = target.clone();
            clients.spawn(async move {
                for _ in 0..connections {
                    self.connect(&target, requests).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn connect(self, target: &Target, requests: u32) -> Result<()> {
        let address = match self.transport {
            Transport::Tcp => target.http,
            Transport::Tls => target.https,
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if self.transport == Transport::Tcp {
            return self.speak(stream, requests).await;
        }
        let connector = match self.protocol {
            Protocol::Http2 { .. } => &target.tls_of_http2,
            Protocol::Http1 | Protocol::WebSocket => &target.tls,
        };
        let name = ServerName::try_from(self.what.host())?;
        self.speak(connector.connect(name, stream).await?, requests)
            .await
    }

    async fn speak<S>(self, stream: S, requests: u32) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.protocol {
            Protocol::Http1 => one_by_one(stream, self.what, requests).await,
            Protocol::Http2 { streams } => side_by_side(stream, self.what, requests, streams).await,
            Protocol::WebSocket => echo(stream, requests).await,
        }
    }
}

async fn one_by_one<S>(stream: S, what: What, requests: u32) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    for _ in 0..requests {
        sender.ready().await?;
        let mut request = what.request()?;
        let host = what.host().parse()?;
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = origin_form(request.uri())?;
        what.look_at(sender.send_request(request).await?).await?;
    }
    drop(sender);
    Ok(driver.await??)
}

async fn side_by_side<S>(stream: S, what: What, requests: u32, streams: u32) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let executor = TokioExecutor::new();
    let (sender, connection) = http2::handshake(executor, TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut lanes = JoinSet::new();
    for _ in 0..streams {
        let mut sender = sender.clone();
        lanes.spawn(async move {
            for _ in 0..requests.div_ceil(streams) {
                sender.ready().await?;
                what.look_at(sender.send_request(what.request()?).await?)
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

/// Messages of a WebSocket that come back. The pod minds no frames.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, messages: u32) -> Result<()> {
    // The key is RFC 6455's example.
    let request = format!(
        "GET /echo HTTP/1.1\r\n{HOST}: {WEB}\r\n{CONNECTION}: Upgrade\r\n{UPGRADE}: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        ensure!(head.len() <= HEAD_MAX, "the head has no end");
    }
    ensure!(head.starts_with(b"HTTP/1.1 101"), "no WebSocket");
    let mut answer = MESSAGE;
    for _ in 0..messages {
        stream.write_all(&MESSAGE).await?;
        answer.fill(0);
        stream.read_exact(&mut answer).await?;
        ensure!(answer == MESSAGE, "something else came back");
    }
    Ok(())
}

impl What {
    fn host(self) -> &'static str {
        match self {
            Self::Get(_) | Self::Post(_) => WEB,
            Self::Call => CALLS,
            Self::Nobody => "nobody.train.test",
        }
    }

    fn request(self) -> Result<Request<Full<Bytes>>> {
        let path = match self {
            Self::Get(bytes) => format!("/bytes/{bytes}"),
            Self::Post(_) | Self::Nobody => "/".to_owned(),
            Self::Call => "/train.Echo/Call".to_owned(),
        };
        let request = Request::builder()
            .uri(format!("http://{}{path}", self.host()))
            .header(USER_AGENT, "sluice-train/1.0")
            .header(ACCEPT, "*/*");
        Ok(match self {
            Self::Get(_) | Self::Nobody => request.body(Full::default()),
            Self::Post(bytes) => request.method("POST").body(vec![b'x'; bytes].into()),
            Self::Call => request
                .method("POST")
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers")
                .body(Bytes::from_static(CALL).into()),
        }?)
    }

    async fn look_at(self, response: Response<Incoming>) -> Result<()> {
        let status = response.status();
        let body = response.into_body().collect().await?;
        let is_good = match self {
            Self::Nobody => status == StatusCode::NOT_FOUND,
            Self::Get(_) | Self::Post(_) => status == StatusCode::OK,
            Self::Call => {
                let trailers = body.trailers().context("no trailers")?;
                trailers.get("grpc-status").is_some_and(|code| code == "0")
            }
        };
        let length = body.to_bytes().len();
        match self {
            _ if !is_good => bail!("answered {status}"),
            Self::Get(bytes) if length != bytes => bail!("{length} bytes for {bytes}"),
            Self::Get(_) | Self::Post(_) | Self::Call | Self::Nobody => Ok(()),
        }
    }
}

fn origin_form(target: &Uri) -> Result<Uri> {
    let path = target.path_and_query().context("no path")?;
    Ok(path.as_str().parse()?)
}

const fn kept(
    name: &'static str,
    transport: Transport,
    what: What,
    clients: u32,
    requests: u32,
) -> Traffic {
    Traffic {
        name,
        transport,
        protocol: Protocol::Http1,
        what,
        clients,
        connections: 1,
        requests,
    }
}

const fn many(
    name: &'static str,
    transport: Transport,
    what: What,
    clients: u32,
    requests: u32,
) -> Traffic {
    Traffic {
        protocol: Protocol::Http2 { streams: 16 },
        ..kept(name, transport, what, clients, requests)
    }
}

/// A masked text frame (RFC 6455 §5.2) of 64 bytes, with the mask 0.
const MESSAGE: [u8; 70] = {
    let mut frame = [b'x'; 70];
    let head = [0x81, 0x80 | 64, 0, 0, 0, 0];
    let mut at = 0;
    while at < head.len() {
        frame[at] = head[at];
        at += 1;
    }
    frame
};
/// Not compressed, 16 bytes: a field with 14 bytes of text.
const CALL: &[u8] = b"\0\0\0\0\x10\x0a\x0efourteen bytes";
const HEAD_MAX: usize = 4 * 1024;

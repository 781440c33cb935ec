//! Requests of our own to services that objects name by URL: those that decide about clients, and
//! mirrors.
//!
//! They run on a thread of their own in the host's network namespace, where names are looked up and
//! Services have addresses. Workers hand requests over and wait for answers without blocking.

use std::cell::OnceCell;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::proxy::tls::upstream::{unverified_client_config, verified_client_config};

/// Sends requests to services by their URLs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceClient(Arc<OnceLock<mpsc::Sender<Job>>>);

#[derive(Debug)]
struct Job {
    request: Request<Full<Bytes>>,
    reply: Reply,
}

/// What becomes of an answer.
#[derive(Debug)]
enum Reply {
    /// It is dropped.
    Nobody,
    /// Its head goes here, its body is dropped.
    Head(oneshot::Sender<Result<response::Parts, ServiceError>>),
    /// All of it goes here, if it is from whom it says and not longer than this.
    Whole(
        usize,
        oneshot::Sender<Result<Response<Bytes>, ServiceError>>,
    ),
}

/// Why a service has not answered.
#[derive(Debug, Error)]
pub(crate) enum ServiceError {
    /// As many requests wait as may.
    #[error("too many requests wait for services")]
    Full,
    /// Its thread has ended.
    #[error("requests to services are not running")]
    Ended,
    /// No answer in time.
    #[error("service did not answer in time")]
    TimedOut,
    /// No connection, or one that broke.
    #[error("request to the service failed")]
    Failed(#[source] hyper_util::client::legacy::Error),
    /// The body of the answer broke off, or is too long.
    #[error("failed to read the answer of the service")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No TLS towards services.
    #[error("TLS is unavailable")]
    Tls(#[source] io::Error),
}

impl ServiceClient {
    /// Starts its thread in the network namespace of the caller, unless it runs already.
    ///
    /// # Errors
    ///
    /// An I/O error where the thread or its runtime cannot be started, or TLS cannot be set up.
    pub(crate) fn start(&self) -> io::Result<()> {
        if self.0.get().is_some() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let any = client(unverified_client_config().map_err(io::Error::other)?);
        let clients = Clients {
            any,
            verified: OnceCell::new(),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("service-client".to_owned())
            .spawn(move || runtime.block_on(run(clients, receiver)))?;
        // Another caller may have been first; its thread serves.
        let _ = self.0.set(sender);
        Ok(())
    }

    /// Sends a request and waits for the head of the answer, whose body is dropped.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<response::Parts, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(request, Reply::Head(reply))?;
        answer.await.unwrap_or(Err(ServiceError::Ended))
    }

    /// Sends a request and waits for the whole answer. Over TLS, the system has to trust the
    /// service's certificate.
    pub(crate) async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(request, Reply::Whole(bytes_max, reply))?;
        answer.await.unwrap_or(Err(ServiceError::Ended))
    }

    /// Sends a request whose answer does not matter.
    pub(crate) fn send_and_forget(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(), ServiceError> {
        self.hand_over(request, Reply::Nobody)
    }

    fn hand_over(&self, request: Request<Full<Bytes>>, reply: Reply) -> Result<(), ServiceError> {
        self.start().map_err(|_| ServiceError::Ended)?;
        let sender = self.0.get().ok_or(ServiceError::Ended)?;
        let sent = sender.try_send(Job { request, reply });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ServiceError::Full,
            mpsc::error::TrySendError::Closed(_) => ServiceError::Ended,
        })
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The clients of the thread.
struct Clients {
    /// Takes every certificate: for answers about one request, as ingress-nginx asks for them.
    any: HttpClient,
    /// Takes certificates that the system trusts: for answers that others are judged by.
    verified: OnceCell<HttpClient>,
}

impl Clients {
    /// Reads the authorities that the system trusts when it is first needed.
    fn verified(&self) -> Result<HttpClient, ServiceError> {
        if let Some(client) = self.verified.get() {
            return Ok(client.clone());
        }
        let config = verified_client_config().map_err(io::Error::other);
        let made = client(config.map_err(ServiceError::Tls)?);
        Ok(self.verified.get_or_init(|| made).clone())
    }
}

fn client(tls: ClientConfig) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(connector)
}

async fn run(clients: Clients, mut jobs: mpsc::Receiver<Job>) {
    let room = Arc::new(Semaphore::new(OPEN_MAX));
    while let Some(Job { request, reply }) = jobs.recv().await {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        // Whoever waits for an answer may have gone when it comes.
        match reply {
            Reply::Whole(bytes_max, reply) => match clients.verified() {
                Ok(client) => drop(tokio::spawn(async move {
                    let _place = place;
                    let _ = reply.send(in_time(read(&client, request, bytes_max)).await);
                })),
                Err(error) => drop(reply.send(Err(error))),
            },
            Reply::Head(reply) => {
                let client = clients.any.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = reply.send(in_time(ask(&client, request)).await);
                });
            }
            Reply::Nobody => {
                let client = clients.any.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = in_time(ask(&client, request)).await;
                });
            }
        }
    }
}

async fn in_time<T>(
    answer: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    answer.unwrap_or(Err(ServiceError::TimedOut))
}

async fn ask(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<response::Parts, ServiceError> {
    let response: Response<_> = client
        .request(request)
        .await
        .map_err(ServiceError::Failed)?;
    let (head, body) = response.into_parts();
    // A short body is read, so that the connection can be used again.
    let rest = Limited::new(body, DRAINED_BYTES_MAX).collect();
    tokio::spawn(tokio::time::timeout(DRAIN_TIMEOUT, rest));
    Ok(head)
}

async fn read(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, ServiceError> {
    let response = client.request(request).await;
    let (head, body) = response.map_err(ServiceError::Failed)?.into_parts();
    let body = Limited::new(body, bytes_max).collect().await;
    let body = body.map_err(ServiceError::Body)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

/// Requests that wait for the thread.
const QUEUE_MAX: usize = 4096;
/// Requests that wait for answers.
const OPEN_MAX: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As nginx waits for an endpoint by default.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const IDLE_PER_HOST_MAX: usize = 256;
const HEAD_BYTES_MAX: usize = 64 << 10;
const DRAINED_BYTES_MAX: usize = 64 << 10;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

//! What can be asked of a running daemon: HTTP over a Unix socket in the run directory, for
//! `sluice status`, and over TCP for probes and metrics.
//!
//! Both only read. Questions go to the app's loop as messages, so that nothing is shared.

mod probes;
mod scrape;
mod status;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingress_core::explain::Explanation;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

pub use probes::{MetricsSlot, Probes, Readiness};
pub use status::{DatapathStatus, Status};

/// A question for the app's loop, and where the answer goes.
#[derive(Debug)]
pub enum Question {
    /// How it is.
    Status(oneshot::Sender<Status>),
    /// Who serves a request, `None` before anything is served.
    Explain {
        /// Host, maybe with a port.
        authority: String,
        /// Path.
        path: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Explanation>>,
    },
}

/// The file name of the socket in the run directory.
pub const SOCKET: &str = "admin.sock";

/// Binds the socket, readable for root only, in place of what an earlier daemon left.
pub fn bind(run_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(run_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Where the socket of a run directory is.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET)
}

/// Answers until it is dropped.
pub async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the status can wait.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let questions = questions.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &questions));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "admin connection ended");
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    questions: &mpsc::Sender<Question>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match request.uri().path() {
        "/status" => status_response(questions).await,
        "/explain" => explain_response(&request, questions).await,
        _ => None,
    };
    Ok(response.unwrap_or_else(|| {
        let mut response = Response::new(Full::from("not found\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }))
}

async fn status_response(questions: &mpsc::Sender<Question>) -> Option<Response<Full<Bytes>>> {
    let (question, answer) = oneshot::channel();
    questions.send(Question::Status(question)).await.ok()?;
    json(&answer.await.ok()?)
}

/// Host and path of the request to explain are headers: they need no escaping there.
async fn explain_response(
    request: &Request<Incoming>,
    questions: &mpsc::Sender<Question>,
) -> Option<Response<Full<Bytes>>> {
    let header = |name| {
        request
            .headers()
            .get(name)?
            .to_str()
            .ok()
            .map(str::to_owned)
    };
    let (answer, explanation) = oneshot::channel();
    let question = Question::Explain {
        authority: header(EXPLAIN_HOST)?,
        path: header(EXPLAIN_PATH)?,
        answer,
    };
    questions.send(question).await.ok()?;
    json(&explanation.await.ok()?)
}

fn json(answer: &impl Serialize) -> Option<Response<Full<Bytes>>> {
    let json = serde_json::to_vec(answer).ok()?;
    Some(Response::new(Full::from(json)))
}

/// Header of a question to `/explain`: the host.
pub const EXPLAIN_HOST: &str = "explain-host";
/// Header of a question to `/explain`: the path.
pub const EXPLAIN_PATH: &str = "explain-path";

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

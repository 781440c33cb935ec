//! The admin socket: HTTP over a Unix socket in the run directory, for `sluice status`.
//!
//! It only reads. Questions go to the app's loop as messages, so that nothing is shared.

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
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

pub use status::{DatapathStatus, Status};

/// A question for the app's loop.
pub type Question = oneshot::Sender<Status>;

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
    questions.send(question).await.ok()?;
    let json = serde_json::to_vec(&answer.await.ok()?).ok()?;
    Some(Response::new(Full::from(json)))
}

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

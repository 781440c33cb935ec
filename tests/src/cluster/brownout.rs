//! An API server that is there and good for nothing: it answers everything with 503.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::control::{API_PORT, ControlPlane};

/// Stands in for the API server, under its certificate, for as long as this lives.
pub struct Brownout {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Ends the API server and has something in its place that answers everything with 503.
    pub fn brown_out(&self) -> Result<Brownout> {
        let (certificate, key) = self.api_certificate();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate)?],
                PrivateKeyDer::from_pem_file(key)?,
            )?;
        self.stop_api();
        let listener = self
            .host()
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, API_PORT)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = thread::spawn(move || serve(&listener, &Arc::new(config), &is_over, &count));
        Ok(Brownout {
            stop,
            answered,
            thread: Some(thread),
        })
    }
}

impl Brownout {
    /// Requests that were answered with 503 so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Brownout {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    is_over: &AtomicBool,
    answered: &AtomicU64,
) {
    while !is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            // Whoever breaks off has no answer, which is his business.
            Ok((stream, _)) => {
                if answer(stream, config).is_ok() {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
            Err(_) => return,
        }
    }
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let stream = reader.get_mut();
    let length = BROWNOUT.len();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json";
    write!(
        stream,
        "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BROWNOUT}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What an API server says that can't reach its storage.
const BROWNOUT: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"etcdserver: leader changed","reason":"ServiceUnavailable","code":503}"#;
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(2);

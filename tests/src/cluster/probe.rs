//! Readiness: what a kubelet asks a container, from the node or inside the container.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::host::Host;

/// A question that can be asked again and again.
#[derive(Clone, Debug)]
pub(super) struct Readiness {
    question: Question,
    /// Between the container's start and the first question.
    pub(super) delay: Duration,
    /// Between questions.
    pub(super) period: Duration,
    timeout: Duration,
    /// Refusals in a row that make a ready container unready.
    pub(super) failures: u32,
}

#[derive(Clone, Debug)]
enum Question {
    Http {
        address: SocketAddr,
        path: String,
    },
    Tcp {
        address: SocketAddr,
    },
    /// A command in the container whose first process this is.
    Exec {
        process: u32,
        command: Vec<String>,
    },
}

impl Readiness {
    /// The container's readiness probe, if it has one; `pod` is where it listens, `process` its
    /// first process.
    pub(super) fn of(container: &Container, pod: IpAddr, process: u32) -> Result<Option<Self>> {
        let Some(probe) = &container.readiness_probe else {
            return Ok(None);
        };
        let question = Question::of(container, probe, pod, process)?;
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .and_then(|value| value.try_into().ok())
                    .unwrap_or(default),
            )
        };
        Ok(Some(Self {
            question,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            failures: probe.failure_threshold.map_or(3, i32::unsigned_abs),
        }))
    }

    /// Asks once.
    pub(super) fn ask(&self, node: &Host) -> bool {
        let ask = || match &self.question {
            Question::Http { address, path } => http_get(*address, path, self.timeout),
            Question::Tcp { address } => {
                TcpStream::connect_timeout(address, self.timeout).map(|_| true)
            }
            Question::Exec { process, command } => exec(*process, command, self.timeout),
        };
        matches!(node.run(ask), Ok(Ok(true)))
    }
}

impl Question {
    fn of(container: &Container, probe: &Probe, pod: IpAddr, process: u32) -> Result<Self> {
        if let Some(http) = &probe.http_get {
            if http.scheme.as_deref().unwrap_or("HTTP") != "HTTP" {
                bail!("the rig has no probes over HTTPS");
            }
            return Ok(Self::Http {
                address: SocketAddr::new(pod, port(container, &http.port)?),
                path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            });
        }
        if let Some(tcp) = &probe.tcp_socket {
            let address = SocketAddr::new(pod, port(container, &tcp.port)?);
            return Ok(Self::Tcp { address });
        }
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return Ok(Self::Exec { process, command });
        }
        bail!("the rig has readiness probes by HTTP, TCP and exec only");
    }
}

fn port(container: &Container, port: &IntOrString) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_ref() == Some(name));
            found
                .with_context(|| format!("the container has no port `{name}`"))?
                .container_port
        }
    };
    Ok(u16::try_from(number)?)
}

/// Whether a command in a container ends with status 0.
fn exec(process: u32, command: &[String], timeout: Duration) -> io::Result<bool> {
    let status = Command::new("timeout")
        .arg(timeout.as_secs().to_string())
        .args(["nsenter", "--mount", "--net", "--root", "--target"])
        .arg(process.to_string())
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// Whether a GET is answered by a status from 200 to 399, as a kubelet counts.
fn http_get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/rig\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // "HTTP/1.1 200"
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(matches!(status[9], b'2' | b'3'))
}

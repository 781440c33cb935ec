//! Pebble, Let's Encrypt's small ACME server, with names that lead where a test wants them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use crate::host::{Host, Process};
use crate::rig::wait_until;

/// How it runs.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Its files.
    pub directory: &'a Path,
    /// The network namespace that it runs in.
    pub host: Option<&'a Host>,
    /// Where it and the name server listen.
    pub address: Ipv4Addr,
    /// The address of every host that it validates.
    pub hosts_at: Ipv4Addr,
    /// Ports of its own, its management and the name server.
    pub ports: [u16; 3],
    /// Where it validates HTTP-01.
    pub http_port: u16,
    /// Where it validates TLS-ALPN-01.
    pub tls_port: u16,
    /// Whether accounts need the external account [`KEY_ID`].
    pub needs_external_account: bool,
    /// Share of requests in percent whose nonce it refuses.
    pub refused_nonces: u8,
}

/// A server that runs.
pub struct Pebble {
    _process: Process,
    directory: PathBuf,
    address: Ipv4Addr,
    ports: [u16; 3],
    host: Option<String>,
    names: Arc<Names>,
}

/// The names that the name server answers for.
struct Names {
    /// The address of all names but those that are unreachable.
    address: Ipv4Addr,
    unreachable: Mutex<BTreeSet<String>>,
}

impl Pebble {
    /// Starts it and waits until it answers.
    pub fn start(settings: &Settings<'_>) -> Result<Self> {
        let Settings {
            directory,
            host,
            ports,
            ..
        } = settings;
        fs::create_dir_all(directory)?;
        let config = write_files(settings)?;
        let names = Arc::new(Names {
            address: settings.hosts_at,
            unreachable: Mutex::default(),
        });
        let address = settings.address;
        let [port, _, dns_port] = *ports;
        let bind = move || {
            let stream = TcpListener::bind((address, dns_port))?;
            io::Result::Ok((stream, UdpSocket::bind((address, dns_port))?))
        };
        let (stream, datagrams) = match host {
            Some(host) => host.run(bind)?,
            None => bind(),
        }?;
        serve_names(stream, datagrams, &names);
        let program = env::var_os("SLUICE_PEBBLE").context("SLUICE_PEBBLE is not set")?;
        let mut command = match host {
            Some(host) => host.command(program),
            None => Command::new(program),
        };
        command.arg("-config").arg(&config);
        command.arg(format!("-dnsserver={address}:{dns_port}"));
        command.env("PEBBLE_VA_NOSLEEP", "1");
        command.env("PEBBLE_AUTHZREUSE", "0");
        let refused = settings.refused_nonces.to_string();
        command.env("PEBBLE_WFE_NONCEREJECT", refused);
        let log = directory.join("log");
        let pebble = Self {
            _process: Process::spawn(command, &log)?,
            directory: directory.to_path_buf(),
            address,
            ports: *ports,
            host: host.map(|host| host.name().to_owned()),
            names,
        };
        wait_until("Pebble to answer", || {
            let url = format!("https://{address}:{port}/dir");
            Ok(pebble.curl(&url).is_ok() && pebble.root().is_ok())
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(pebble)
    }

    /// The flag for an issuer at this server, with further parts.
    pub fn flag(&self, name: &str, further: &str) -> String {
        let (url, ca) = (self.url(), self.authority());
        format!(
            "--acme-issuer={name}={url},terms=agreed,ca-file={}{further}",
            ca.display()
        )
    }

    /// The URL of its directory.
    pub fn url(&self) -> String {
        format!("https://{}:{}/dir", self.address, self.ports[0])
    }

    /// The file with the certificate that it shows to clients.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// The file with the key of the external account.
    pub fn external_key(&self) -> PathBuf {
        self.directory.join("external.key")
    }

    /// The file with the root of the certificates that it issues.
    pub fn root(&self) -> Result<PathBuf> {
        let root = self.curl(&format!(
            "https://{}:{}/roots/0",
            self.address, self.ports[1]
        ))?;
        let file = self.directory.join("root.pem");
        fs::write(&file, root)?;
        Ok(file)
    }

    /// Decides whether it reaches a host.
    pub fn reach(&self, host: &str, is_reachable: bool) {
        let names = self.names.unreachable.lock();
        let mut names = names.unwrap_or_else(PoisonError::into_inner);
        if is_reachable {
            names.remove(host);
        } else {
            names.insert(host.to_owned());
        }
    }

    fn curl(&self, url: &str) -> Result<Vec<u8>> {
        let mut curl = match &self.host {
            Some(name) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", name, "curl"]);
                ip
            }
            None => Command::new("curl"),
        };
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5"]);
        let output = curl.args(["--insecure", "--noproxy", "*", url]).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    }
}

fn write_files(settings: &Settings<'_>) -> Result<PathBuf> {
    let directory = settings.directory;
    let key = KeyPair::generate()?;
    let address = settings.address;
    let names = vec!["localhost".to_owned(), address.to_string()];
    let certificate = CertificateParams::new(names)?.self_signed(&key)?;
    let [certificate_file, key_file] =
        ["server.crt", "server.key"].map(|name| directory.join(name));
    fs::write(&certificate_file, certificate.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    fs::write(directory.join("external.key"), KEY)?;
    let [port, management, _] = settings.ports;
    let config = json!({"pebble": {
        "listenAddress": format!("{address}:{port}"),
        "managementListenAddress": format!("{address}:{management}"),
        "certificate": certificate_file,
        "privateKey": key_file,
        "httpPort": settings.http_port,
        "tlsPort": settings.tls_port,
        "externalAccountBindingRequired": settings.needs_external_account,
        "externalAccountMACKeys": {KEY_ID: KEY},
        "retryAfter": {"authz": 1, "order": 1},
        "keyAlgorithm": "ecdsa",
        "profiles": {"default": {"description": "", "validityPeriod": 7_776_000}},
    }});
    let file = directory.join("config.json");
    fs::write(&file, config.to_string())?;
    Ok(file)
}

/// Serves names over TCP, by which Pebble asks, and over UDP, in threads that end with the test.
fn serve_names(stream: TcpListener, datagrams: UdpSocket, names: &Arc<Names>) {
    let of_stream = Arc::clone(names);
    thread::spawn(move || {
        for client in stream.incoming().flatten() {
            let names = Arc::clone(&of_stream);
            thread::spawn(move || answer_questions(client, &names));
        }
    });
    let names = Arc::clone(names);
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = datagrams.recv_from(&mut packet) {
            if let Some(answer) = answer(&packet[..length], &names) {
                // The client asks again if this is lost.
                let _ = datagrams.send_to(&answer, client);
            }
        }
    });
}

/// Answers the questions of a client over TCP (RFC 1035 §4.2.2).
fn answer_questions(mut client: TcpStream, names: &Names) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        client.read_exact(&mut length)?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut packet)?;
        let Some(answer) = answer(&packet, names) else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        client.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
}

/// Every name has the same address, or none.
fn answer(packet: &[u8], names: &Names) -> Option<Vec<u8>> {
    let question = packet.get(12..)?;
    let mut labels = Vec::new();
    let mut at = 0;
    while let Some(&size) = question.get(at).filter(|size| **size > 0) {
        let end = at + 1 + usize::from(size);
        labels.push(String::from_utf8_lossy(question.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let unreachable = names.unreachable.lock();
    let unreachable = unreachable.unwrap_or_else(PoisonError::into_inner);
    let is_known = !unreachable.contains(&labels.join("."));
    let is_address = is_known && question.get(at + 1..at + 5)? == [0, 1, 0, 1];
    let mut answer = packet.get(..2)?.to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question.get(..at + 5)?);
    if is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(names.address.octets());
    }
    Some(answer)
}

/// The external account.
pub const KEY_ID: &str = "external";
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

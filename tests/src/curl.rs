//! The real client: curl, on a host of the rig.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::host::Host;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    arguments: Vec<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// HTTP version, as curl spells it: `1.1`, `2`.
    pub version: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Request {
    /// A GET of `url` for `host`.
    pub fn get(url: &str, host: &str) -> Self {
        let arguments = [
            "--silent",
            "--show-error",
            "--globoff",
            "--insecure",
            "--max-time",
            "20",
            "--header",
            &format!("Host: {host}"),
            "--write-out",
            "\\n%{http_code} %{http_version}",
            url,
        ];
        Self {
            arguments: arguments.map(str::to_owned).to_vec(),
        }
    }

    /// A GET over TLS of `path` at `address`, with `host` as SNI and Host.
    pub fn get_tls(address: &str, host: &str, path: &str) -> Self {
        let mut request = Self::get(&format!("https://{host}{path}"), host);
        let address = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        request = request.with(&["--connect-to", &format!("::{address}:443")]);
        request
    }

    /// The same with more of curl's arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The same, with no other server than one with this certificate, for its host.
    #[must_use]
    pub fn trusting(mut self, certificate: &Path) -> Self {
        self.arguments.retain(|argument| argument != "--insecure");
        self.with(&["--cacert", &certificate.to_string_lossy()])
    }

    /// Sends it from `client`; no answer at all is an error with curl's words.
    pub fn send(&self, client: &Host) -> Result<Response> {
        let output = client.command("curl").args(&self.arguments).output()?;
        if !output.status.success() {
            bail!(
                "curl {:?}: {}",
                self.arguments,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let mut body = output.stdout;
        let end = body
            .iter()
            .rposition(|byte| *byte == b'\n')
            .context("curl wrote no status")?;
        let summary = String::from_utf8_lossy(&body[end + 1..]).into_owned();
        body.truncate(end);
        let (status, version) = summary.split_once(' ').context("curl wrote no version")?;
        Ok(Response {
            status: status.parse()?,
            version: version.to_owned(),
            body,
        })
    }
}

impl Response {
    /// Head and body of a response to a request `--include`; of the last one, after redirects.
    pub fn split_head(&self) -> Result<(&str, &[u8])> {
        let mut rest = self.body.as_slice();
        let mut head = &[][..];
        while rest.starts_with(b"HTTP/") {
            let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            let end = end.context("the response has no head")?;
            (head, rest) = (&rest[..end], &rest[end + 4..]);
        }
        Ok((str::from_utf8(head)?, rest))
    }

    /// The body as the report of an origin: who answered, and what it saw.
    pub fn report(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no report: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The pod that answered.
    pub fn pod(&self) -> Result<String> {
        let report = self.report()?;
        Ok(report["pod"].as_str().unwrap_or_default().to_owned())
    }

    /// The client's address as the pod was told it.
    pub fn client_address(&self) -> Result<String> {
        let report = self.report()?;
        Ok(report["headers"]["x-forwarded-for"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }
}

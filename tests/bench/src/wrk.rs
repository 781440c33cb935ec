//! The load generator for HTTP/1.1: wrk, one thread, on a host of the rig.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use ingress_tests::host::Host;
use ingress_tests::load::Reuse;

/// What is asked, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrk<'a> {
    url: &'a str,
    host: &'a str,
    reuse: Reuse,
    script: Option<&'a Path>,
    names: Option<&'a Path>,
    openssl: Option<&'a Path>,
}

impl<'a> Wrk<'a> {
    /// GETs of `url` with this Host.
    pub(super) fn new(url: &'a str, host: &'a str, reuse: Reuse) -> Self {
        Self {
            url,
            host,
            reuse,
            script: None,
            names: None,
            openssl: None,
        }
    }

    /// The same with a Lua script that makes the requests.
    pub(super) fn with_script(self, script: &'a Path) -> Self {
        Self {
            script: Some(script),
            ..self
        }
    }

    /// The same with this file in place of `/etc/hosts`: the name in the URL is the one that TLS
    /// tells the server.
    pub(super) fn with_names(self, names: &'a Path) -> Self {
        Self {
            names: Some(names),
            ..self
        }
    }

    /// The same with this configuration of OpenSSL.
    pub(super) fn with_openssl(self, openssl: &'a Path) -> Self {
        Self {
            openssl: Some(openssl),
            ..self
        }
    }

    /// The command that does it from `client`.
    pub(super) fn command(&self, client: &Host, seconds: u32) -> Command {
        let mut wrk = match self.names {
            Some(names) => with_names(client, names),
            None => client.command("timeout"),
        };
        wrk.args([&(seconds + GRACE_SECONDS).to_string(), "wrk"]);
        wrk.args(["--threads=1", &format!("--connections={CONNECTIONS}")]);
        wrk.arg(format!("--duration={seconds}s"));
        wrk.args(["--header", &format!("Host: {}", self.host)]);
        if self.reuse == Reuse::NewConnection {
            wrk.args(["--header", "Connection: close"]);
        }
        if let Some(script) = self.script {
            wrk.arg("--script").arg(script);
        }
        if let Some(openssl) = self.openssl {
            wrk.env("OPENSSL_CONF", openssl);
        }
        wrk.arg(self.url);
        wrk
    }

    /// Asks for `seconds`; gives the number of requests answered. Any failure is an error.
    pub(super) fn run(&self, client: &Host, seconds: u32) -> Result<u64> {
        self.tally(client, seconds).map(|tally| tally.answered)
    }

    /// Asks for `seconds`; gives the requests answered a second. Any failure is an error.
    pub(super) fn rate(&self, client: &Host, seconds: u32) -> Result<f64> {
        self.tally(client, seconds).map(|tally| tally.rate)
    }

    fn tally(&self, client: &Host, seconds: u32) -> Result<Tally> {
        let output = self.command(client, seconds).output();
        let output = output.context("failed to start wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("wrk {}: {text}{errors}", self.url);
        }
        let tally = Tally::parse(&text)?;
        // Of socket errors, wrk counts a close that it asked for as one of reading.
        let failed = match self.reuse {
            Reuse::KeepAlive => tally.refused + tally.broken,
            Reuse::NewConnection => tally.refused,
        };
        if tally.answered == 0 || failed != 0 {
            bail!("wrk {}: {text}{errors}", self.url);
        }
        Ok(tally)
    }
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tally {
    /// Requests with an answer, whatever it was.
    pub(super) answered: u64,
    /// The same a second.
    rate: f64,
    /// Answers with a status other than 2xx and 3xx.
    pub(super) refused: u64,
    /// Connections that failed in any way.
    pub(super) broken: u64,
}

impl Tally {
    /// Reads what wrk prints.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::trim);
        let answered = lines
            .clone()
            .find_map(|line| line.split_once(" requests in "));
        let (answered, _) =
            answered.with_context(|| format!("wrk said nothing of requests: {text}"))?;
        let rate = lines
            .clone()
            .find_map(|line| line.strip_prefix("Requests/sec:"));
        let rate = rate.with_context(|| format!("wrk said nothing of a rate: {text}"))?;
        let refused = lines
            .clone()
            .find_map(|line| line.strip_prefix("Non-2xx or 3xx responses:"));
        let broken = lines.find_map(|line| line.strip_prefix("Socket errors:"));
        let broken = broken.unwrap_or_default().split([' ', ',']);
        Ok(Self {
            answered: answered.trim().parse()?,
            rate: rate.trim().parse()?,
            refused: refused.map_or(Ok(0), |count| count.trim().parse())?,
            broken: broken.filter_map(|word| word.parse::<u64>().ok()).sum(),
        })
    }
}

/// `timeout` on `client`, for which `names` is `/etc/hosts`.
fn with_names(client: &Host, names: &Path) -> Command {
    let mut command = client.command("unshare");
    let line = "mount --bind \"$0\" /etc/hosts && exec timeout \"$@\"";
    command.args(["--mount", "sh", "-c", line]).arg(names);
    command
}

/// Seconds after its time in which a load generator should have ended.
pub(super) const GRACE_SECONDS: u32 = 20;
/// Connections of one run.
pub(super) const CONNECTIONS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_output_is_parsed() -> Result<()> {
        let good = "  47 requests in 2.00s, 1MB read\nRequests/sec:     23.51\n";
        let bad = format!(
            "{good}  Socket errors: connect 1, read 20, write 0, timeout 3\n  \
             Non-2xx or 3xx responses: 7\n"
        );
        let tally = Tally {
            answered: 47,
            rate: 23.51,
            refused: 0,
            broken: 0,
        };
        assert_eq!(Tally::parse(good)?, tally);
        let tally = Tally {
            refused: 7,
            broken: 24,
            ..tally
        };
        assert_eq!(Tally::parse(&bad)?, tally);
        assert!(Tally::parse("").is_err());
        Ok(())
    }
}

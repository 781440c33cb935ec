//! A real nginx with one worker, on a Unix socket in a directory of its own.
//!
//! Needs `nginx` on the path (`cargo xtask setup` installs Debian's).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running nginx; it ends when this is dropped.
pub struct Nginx {
    directory: TempDir,
    process: Child,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    /// Its body, with U+FFFD in place of what is not UTF-8.
    pub body: String,
}

impl Answer {
    /// The value of a field, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Nginx {
    /// Starts one whose `http` block holds this. `{socket}` is the address to listen at, `{other}` one
    /// more, and `{directory}` a directory for its files.
    ///
    /// # Panics
    ///
    /// If there is no nginx, or if it does not listen, as with an invalid configuration.
    pub fn start(http: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let http = http
            .replace("{socket}", &format!("unix:{}", path("socket")))
            .replace("{other}", &format!("unix:{}", path("other")))
            .replace("{directory}", &path(""));
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {} crit;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\nkeepalive_requests 1000000;\n\
             client_body_temp_path {};\nproxy_temp_path {};\nfastcgi_temp_path {};\n\
             uwsgi_temp_path {};\nscgi_temp_path {};\n{http}\n}}\n",
            path("pid"),
            path("error.log"),
            path("body"),
            path("proxy"),
            path("fastcgi"),
            path("uwsgi"),
            path("scgi"),
        );
        fs::write(path("nginx.conf"), config).unwrap();
        let process = Command::new("nginx")
            .args(["-p", &path(""), "-c", &path("nginx.conf")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed: `cargo xtask setup` does it");
        let nginx = Self { directory, process };
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(nginx.directory.path().join("socket")).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::yield_now();
        }
        nginx
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sends requests one after the other on one connection; nginx may close it in between.
    ///
    /// # Panics
    ///
    /// If a request gets no answer.
    pub fn ask(&self, requests: &[String]) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < requests.len() {
            let stream = UnixStream::connect(self.directory.path().join("socket")).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut reader = BufReader::new(stream);
            let before = answers.len();
            for batch in requests[before..].chunks(64) {
                let all = batch.concat();
                if reader.get_mut().write_all(all.as_bytes()).is_err() {
                    break;
                }
                let read = batch.iter().map_while(|_| read(&mut reader));
                let read: Vec<Answer> = read.collect();
                let is_whole = read.len() == batch.len();
                answers.extend(read);
                if !is_whole {
                    break;
                }
            }
            assert!(answers.len() > before, "{}", requests[before]);
        }
        answers
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(reader: &mut BufReader<UnixStream>) -> Option<Answer> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|length| *length > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut fields = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut answer = Answer {
        status,
        fields,
        body: String::new(),
    };
    if answer.field("transfer-encoding") == Some("chunked") {
        answer.body = read_chunks(reader)?;
        return Some(answer);
    }
    let length = answer
        .field("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Some(answer)
}

/// A chunked body (RFC 9112 §7.1).
fn read_chunks(reader: &mut BufReader<UnixStream>) -> Option<String> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(String::from_utf8_lossy(&body).into_owned());
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
pub struct Random(pub u64);

impl Random {
    /// A number below this bound.
    ///
    /// # Panics
    ///
    /// If the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// One of these.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

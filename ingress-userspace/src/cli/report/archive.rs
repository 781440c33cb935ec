//! Writes the files of a report as one archive.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use aws_lc_rs::rand;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::Serialize;

/// One file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) subject: &'static str,
    pub(super) text: String,
}

impl Content {
    pub(super) fn text(name: &str, subject: &'static str, text: String) -> Self {
        let name = name.to_owned();
        Self {
            name,
            subject,
            text,
        }
    }

    pub(super) fn json(name: &str, subject: &'static str, value: &impl Serialize) -> Self {
        // A value of ours has no key that is not text.
        let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
        Self::text(name, subject, text)
    }
}

/// A salt for one report, which is not stored, so that hashes cannot be compared with those of known hosts.
pub(super) fn salt() -> Result<[u8; 32]> {
    let mut salt = [0; 32];
    rand::fill(&mut salt).map_err(|_| anyhow!("the kernel gives no random numbers"))?;
    Ok(salt)
}

/// Writes a new file that only its owner may read. A name that is taken is an error.
pub(super) fn write(path: &Path, contents: &[Content], now: Timestamp) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = write_to(file, contents, now);
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn write_to(file: fs::File, contents: &[Content], now: Timestamp) -> io::Result<()> {
    let compressed = GzEncoder::new(file, Compression::default());
    let mut archive = tar::Builder::new(compressed);
    for one in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(one.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        let name = Path::new("sluice-report").join(&one.name);
        archive.append_data(&mut header, name, one.text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

//! Compresses the files of the dashboard, and writes the table of them that `dashboard/assets.rs` includes.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Embeds all files of [`DIRECTORY`].
pub(crate) fn embed() -> Result<()> {
    println!("cargo:rerun-if-changed={DIRECTORY}");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").context("cargo sets it")?);
    let out = PathBuf::from(env::var("OUT_DIR").context("cargo sets OUT_DIR")?);
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(DIRECTORY))? {
        let path = entry?.path();
        if let Some(content_type) = content_type(&path) {
            let name = path.file_name().context("a file has a name")?;
            let name = name.to_string_lossy().into_owned();
            files.push((name, content_type, fs::read_to_string(&path)?));
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for (name, _, text) in &files {
        hasher.write(name.as_bytes());
        hasher.write(text.as_bytes());
    }
    let version = format!("{:016x}", hasher.finish());
    let mut table = format!("const VERSION: &str = \"{version}\";\n");
    table.push_str("const ASSETS: &[Asset] = &[\n");
    for (name, content_type, text) in files {
        let text = text.replace(PLACEHOLDER, &version);
        let file = format!("dashboard-{name}.gz");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes())?;
        fs::write(out.join(&file), encoder.finish()?)?;
        writeln!(
            table,
            "    Asset {{ name: {name:?}, content_type: {content_type:?}, \
             gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")) }},"
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("dashboard_assets.rs"), table).context("failed to write the table")
}

/// The media type of a file that is embedded; `None` for others, such as types for the checker.
fn content_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "html" => Some("text/html; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

const DIRECTORY: &str = "assets/dashboard";
/// Stands for the version in the page.
const PLACEHOLDER: &str = "{{version}}";

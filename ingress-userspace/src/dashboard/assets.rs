//! The files of the page, compressed and embedded by `build.rs`.
//!
//! Their paths contain a hash of all of them, so that a browser may keep them forever and never mixes two
//! versions.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};

use super::policy::{Caching, protect};
use super::server::Answer;

include!(concat!(env!("OUT_DIR"), "/dashboard_assets.rs"));

/// One embedded file.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    gzip: &'static [u8],
}

/// The page; it names the version of the other files.
pub(super) fn page(fields: &HeaderMap) -> Option<Response<Answer>> {
    let page = ASSETS.iter().find(|asset| asset.name == PAGE)?;
    Some(page.answer(fields, Caching::Never))
}

/// A file by its version and name.
pub(super) fn file(path: &str, fields: &HeaderMap) -> Option<Response<Answer>> {
    let (version, name) = path.split_once('/')?;
    let mut assets = ASSETS.iter().filter(|_| version == VERSION);
    let asset = assets.find(|asset| asset.name == name)?;
    Some(asset.answer(fields, Caching::Forever))
}

/// Compressed size of all files.
pub fn compressed_bytes() -> usize {
    ASSETS.iter().map(|asset| asset.gzip.len()).sum()
}

impl Asset {
    fn answer(&self, fields: &HeaderMap, caching: Caching) -> Response<Answer> {
        let takes_gzip = accepts_gzip(fields);
        let body = if takes_gzip {
            Bytes::from_static(self.gzip)
        } else {
            let mut plain = Vec::new();
            // `build.rs` wrote it.
            let _ = GzDecoder::new(self.gzip).read_to_end(&mut plain);
            plain.into()
        };
        let mut response = Response::new(Full::from(body).boxed_unsync());
        let answer = response.headers_mut();
        protect(answer, caching);
        answer.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if takes_gzip {
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Returns true if the client takes gzip.
pub(super) fn accepts_gzip(fields: &HeaderMap) -> bool {
    let accepted = fields.get(ACCEPT_ENCODING);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    accepted.is_some_and(|accepted| {
        accepted.split(',').any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip") && weight.trim() != "q=0"
        })
    })
}

const PAGE: &str = "index.html";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_at_most_150_kib_compressed() {
        let bytes = compressed_bytes();
        println!("{} files, {bytes} bytes compressed", ASSETS.len());
        assert!((1..=150 << 10).contains(&bytes), "{bytes}");
    }

    #[test]
    fn page_names_the_version_of_its_files_and_holds_nothing_inline() {
        let page = ASSETS.iter().find(|asset| asset.name == PAGE).unwrap();
        let mut text = String::new();
        GzDecoder::new(page.gzip).read_to_string(&mut text).unwrap();
        assert!(
            text.contains(&format!("/assets/{VERSION}/app.js")),
            "{text}"
        );
        for inline in [
            "<style", "style=", "<script>", "onload=", "http://", "https://",
        ] {
            assert!(!text.contains(inline), "{inline}");
        }
    }

    #[test]
    fn files_are_found_under_their_version_only() {
        let fields = HeaderMap::new();
        assert!(file(&format!("{VERSION}/app.js"), &fields).is_some());
        assert!(file("0/app.js", &fields).is_none());
        assert!(file(&format!("{VERSION}/../app.js"), &fields).is_none());
    }
}

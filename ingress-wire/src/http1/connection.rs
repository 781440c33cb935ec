//! Whether a connection may carry another message (RFC 9112 §9.3).

use http::{HeaderMap, Version, header};

/// What becomes of a connection after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another message may follow.
    KeepAlive,
    /// It ends.
    Close,
}

/// The options that `Connection` fields name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    closes: bool,
    keeps_alive: bool,
}

impl Options {
    /// Adds those of one line.
    pub(super) fn add(&mut self, line: &[u8]) {
        // What nearly all lines are.
        if line.eq_ignore_ascii_case(b"keep-alive") {
            self.keeps_alive = true;
            return;
        }
        for option in line.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// What they mean in a message of this version.
    pub(super) fn persistence(self, version: Version) -> Persistence {
        let stays = self.keeps_alive || version == Version::HTTP_11;
        if stays && !self.closes {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }
}

/// What a message with these fields says about its connection.
pub fn connection_options(version: Version, headers: &HeaderMap) -> Persistence {
    let mut options = Options::default();
    for line in headers.get_all(header::CONNECTION) {
        options.add(line.as_bytes());
    }
    options.persistence(version)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn versions_have_their_defaults_and_options_change_them() {
        use Persistence::{Close, KeepAlive};
        for (version, lines, expected) in [
            (Version::HTTP_11, &[][..], KeepAlive),
            (Version::HTTP_10, &[], Close),
            (Version::HTTP_11, &["close"], Close),
            (Version::HTTP_11, &["x, Close"], Close),
            (Version::HTTP_10, &["Keep-Alive"], KeepAlive),
            (Version::HTTP_10, &["x", " keep-alive ,y"], KeepAlive),
            (Version::HTTP_11, &["keep-alive", "close"], Close),
            (Version::HTTP_10, &["x"], Close),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONNECTION, HeaderValue::from_static(line));
            }
            assert_eq!(connection_options(version, &headers), expected, "{lines:?}");
        }
    }
}

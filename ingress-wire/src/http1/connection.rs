//! Whether a connection may carry another message (RFC 9112 §9.3).

use http::Version;

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

#[cfg(test)]
mod tests {
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
            let mut options = Options::default();
            for line in lines {
                options.add(line.as_bytes());
            }
            assert_eq!(options.persistence(version), expected, "{lines:?}");
        }
    }
}

//! The path that requests are matched by: percent-decoded, without dot segments and repeated
//! slashes.
//!
//! Source: nginx, `ngx_http_parse_complex_uri` with `merge_slashes on`, which decides its
//! location; RFC 3986 §5.2.4 and §6.2.2. A path that endpoints could read in two ways is refused.
//!
//! Invariant: a plain path costs one scan and no allocation.

use std::borrow::Cow;

use thiserror::Error;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It leads above the root.
    #[error("path leads above its root")]
    AboveRoot,
    /// A percent sign without two hexadecimal digits behind it.
    #[error("path has an invalid percent-encoding")]
    InvalidEncoding,
    /// A zero byte, which ends texts of some programs.
    #[error("path has a zero byte")]
    ZeroByte,
    /// Encoded separators beside dot segments, which some endpoints decode first and others last.
    #[error("path combines encoded separators with dot segments")]
    Ambiguous,
}

/// Normalises the path of a request target, without its query.
///
/// # Errors
///
/// [`PathError`] for a path that may mean different things to us and to an endpoint.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let (decoded, has_separators) = decode(path)?;
    let (normalised, has_dots) = remove_dots(&decoded)?;
    if has_separators && has_dots {
        return Err(PathError::Ambiguous);
    }
    Ok(Cow::Owned(normalised))
}

/// Whether there is nothing to do: no escape, no repeated slash, no segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        if *byte == b'%' || *byte == 0 || (before == b'/' && (*byte == b'/' || *byte == b'.')) {
            return false;
        }
        before = *byte;
    }
    true
}

/// The path with its escapes decoded, and whether one of them was a separator.
fn decode(path: &[u8]) -> Result<(Vec<u8>, bool), PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut has_separators = false;
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        let mut byte = *byte;
        if byte == b'%' {
            let [high, low, after @ ..] = rest else {
                return Err(PathError::InvalidEncoding);
            };
            let digits = digit(*high).zip(digit(*low));
            let (high, low) = digits.ok_or(PathError::InvalidEncoding)?;
            byte = high << 4 | low;
            has_separators |= byte == b'/' || byte == b'\\';
            rest = after;
        }
        if byte == 0 {
            return Err(PathError::ZeroByte);
        }
        decoded.push(byte);
    }
    Ok((decoded, has_separators))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The path without dot segments and empty segments, and whether it had dot segments. A segment
/// that is split at backslashes counts as several where one of those is a dot segment.
fn remove_dots(path: &[u8]) -> Result<(Vec<u8>, bool), PathError> {
    let mut normalised = Vec::with_capacity(path.len());
    let mut has_dots = false;
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    // What stands before the first slash: nothing in a path that is absolute.
    normalised.extend_from_slice(segments.next().unwrap_or_default());
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        has_dots |= segment
            .split(|byte| *byte == b'\\')
            .any(|part| part == b"." || part == b"..");
        match segment {
            b"" | b"." => {
                if is_last {
                    normalised.push(b'/');
                }
            }
            b".." => {
                let parent = normalised.iter().rposition(|byte| *byte == b'/');
                normalised.truncate(parent.ok_or(PathError::AboveRoot)?);
                if is_last {
                    normalised.push(b'/');
                }
            }
            segment => {
                normalised.push(b'/');
                normalised.extend_from_slice(segment);
            }
        }
    }
    Ok((normalised, has_dots))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(path: &str) -> Result<String, PathError> {
        normalise(path.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn paths_are_decoded_merged_and_resolved() {
        for (path, normalised) in [
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("//admin/x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/x/../admin/x", "/admin/x"),
            ("/%61dmin/x", "/admin/x"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/admin%2Fx", "/admin/x"),
            ("/admin/x/..", "/admin/"),
            ("/admin/x/.", "/admin/x/"),
            ("/a//", "/a/"),
            ("/a/...", "/a/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/my%20files", "/my files"),
            ("/gr%C3%B6%C3%9Fe", "/größe"),
            ("/a%2525", "/a%25"),
            ("/a/..", "/"),
        ] {
            assert_eq!(text(path), Ok(normalised.to_owned()), "{path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (path, error) in [
            ("/..", PathError::AboveRoot),
            ("/../x", PathError::AboveRoot),
            ("/api//../../internal", PathError::AboveRoot),
            ("/%2e%2e/x", PathError::AboveRoot),
            ("/a%00", PathError::ZeroByte),
            ("/a\0", PathError::ZeroByte),
            ("/a%", PathError::InvalidEncoding),
            ("/a%2", PathError::InvalidEncoding),
            ("/a%zz", PathError::InvalidEncoding),
            ("/api/..%2finternal", PathError::Ambiguous),
            ("/a/%2e%2e%5cb/../x", PathError::Ambiguous),
            ("/a%5c..%5cb", PathError::Ambiguous),
        ] {
            assert_eq!(text(path), Err(error), "{path}");
        }
    }

    proptest! {
        #[test]
        fn normalised_paths_stay_as_they_are(path in "/[a.%/25eE]{0,12}") {
            if let Ok(once) = normalise(path.as_bytes())
                && !once.contains(&b'%')
            {
                prop_assert_eq!(normalise(&once), Ok(once.clone()));
                let parts: Vec<_> = once.split(|byte| *byte == b'/').collect();
                prop_assert!(!parts.contains(&&b".."[..]) && !parts.contains(&&b"."[..]));
                prop_assert!(once.starts_with(b"/"));
            }
        }

        #[test]
        fn plain_paths_are_borrowed(path in "(/[a-z0-9_~-][a-z.]{0,5}){1,4}/?") {
            prop_assert!(matches!(normalise(path.as_bytes()), Ok(Cow::Borrowed(_))));
        }
    }
}

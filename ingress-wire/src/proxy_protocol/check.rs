//! What must be so for any bytes at all that may be a header of the PROXY protocol.
//!
//! The property tests and the fuzz target both end here, so the latter includes this file.

use super::header::{HEADER_BYTES_MAX, Origin, Parsed, Version, header, parse};

/// Reads a header, and writes it again.
///
/// # Panics
///
/// Panics where the parser contradicts itself.
pub fn check(bytes: &[u8]) {
    let longer = [bytes, b"\r\n\0 1"].concat();
    match parse(bytes) {
        Parsed::Complete { length, origin } => {
            assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
            let complete = Parsed::Complete { length, origin };
            assert_eq!(parse(&longer), complete, "what follows changes nothing");
            assert_eq!(parse(&bytes[..length]), complete);
            for cut in 0..length {
                assert_eq!(
                    parse(&bytes[..cut]),
                    Parsed::Incomplete,
                    "of {length}: {cut}"
                );
            }
            check_written(origin);
        }
        // Whoever waits for the rest waits for something that can come.
        Parsed::Incomplete => assert!(bytes.len() < HEADER_BYTES_MAX),
        Parsed::Malformed => assert_eq!(parse(&longer), Parsed::Malformed),
    }
}

/// What is read is read again when it is written.
fn check_written(origin: Origin) {
    let Origin::Proxied {
        source,
        destination,
    } = origin
    else {
        return;
    };
    let expected = if source.is_ipv4() == destination.is_ipv4() {
        origin
    } else {
        Origin::Own
    };
    for version in [Version::V1, Version::V2] {
        let written = header(version, source, destination);
        let length = written.len();
        let origin = expected;
        assert_eq!(parse(&written), Parsed::Complete { length, origin });
    }
}

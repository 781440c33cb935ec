//! Frames as they stand on the wire (RFC 9113 §4.1 and §6).

use std::fmt;

/// What a client begins a connection with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a payload that we take, and the most that we send: the least that
/// `SETTINGS_MAX_FRAME_SIZE` may say, so that nobody has to be told.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 14;

/// The largest window that there may be (RFC 9113 §6.9.1), and the largest stream identifier.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The window that everybody has who has not been told otherwise.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// Flag of SETTINGS and PING: an answer.
pub const ACK: u8 = 0x1;
/// Flag of DATA and HEADERS: the sender sends nothing more on the stream.
pub const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION: the field block ends.
pub const END_HEADERS: u8 = 0x4;
/// Flag of DATA and HEADERS: padding follows.
pub const PADDED: u8 = 0x8;
/// Flag of HEADERS: a priority comes first.
pub const PRIORITY: u8 = 0x20;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DATA.
    Data,
    /// HEADERS.
    Headers,
    /// PRIORITY.
    Priority,
    /// `RST_STREAM`.
    Reset,
    /// SETTINGS.
    Settings,
    /// `PUSH_PROMISE`.
    PushPromise,
    /// PING.
    Ping,
    /// GOAWAY.
    GoAway,
    /// `WINDOW_UPDATE`.
    WindowUpdate,
    /// CONTINUATION.
    Continuation,
    /// To be ignored (RFC 9113 §5.5).
    Unknown(u8),
}

impl Kind {
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            byte => Self::Unknown(byte),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::Reset => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown(byte) => byte,
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    /// Its type.
    pub kind: Kind,
    /// Its flags.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Bytes of a frame's head.
    pub const BYTES: usize = 9;

    /// Reads a head.
    pub fn read(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            // The highest bit is reserved, and ignored.
            stream: u32::from_be_bytes(stream) & WINDOW_MAX,
        }
    }

    /// The head as bytes.
    pub fn write(self) -> [u8; Self::BYTES] {
        // No payload of ours has more than `PAYLOAD_BYTES_MAX`.
        let length = u32::try_from(self.length).unwrap_or(0).to_be_bytes();
        let mut bytes = [0; Self::BYTES];
        bytes[..3].copy_from_slice(&length[1..]);
        bytes[3] = self.kind.byte();
        bytes[4] = self.flags;
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Returns true if a flag is set.
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(u32);

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0x0);
    /// The peer breaks the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    /// We have failed.
    pub const INTERNAL_ERROR: Self = Self(0x2);
    /// More bytes than a window allows, or a window that is too large.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: Self = Self(0x5);
    /// A frame of another length than its type allows.
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    /// Nothing was done about the stream.
    pub const REFUSED_STREAM: Self = Self(0x7);
    /// The stream is not wanted any more.
    pub const CANCEL: Self = Self(0x8);
    /// A field block that cannot be decoded.
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    /// More work than a peer may cause.
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);

    /// The reason of a code.
    pub const fn of(code: u32) -> Self {
        Self(code)
    }

    /// As it stands in a frame.
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NO_ERROR => "NO_ERROR",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::STREAM_CLOSED => "STREAM_CLOSED",
            Self::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Self::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Self(code) => return write!(f, "error {code:#x}"),
        };
        f.write_str(name)
    }
}

impl std::error::Error for Reason {}

/// A setting of the client's that says something about what we may send (RFC 9113 §6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `SETTINGS_HEADER_TABLE_SIZE`, whatever it says: that we keep no table is to be said again.
    Table,
    /// `SETTINGS_INITIAL_WINDOW_SIZE`, in bytes.
    Window(u32),
}

/// The settings in the payload of a SETTINGS frame that matter, in their order.
///
/// How large frames may be does not: ours are as small as everybody takes them.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = Result<Setting, Reason>> {
    let (settings, _) = payload.as_chunks::<6>();
    settings.iter().filter_map(|setting| {
        let [a, b, value @ ..] = *setting;
        let value = u32::from_be_bytes(value);
        match u16::from_be_bytes([a, b]) {
            HEADER_TABLE_SIZE => Some(Ok(Setting::Table)),
            ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => Some(Err(Reason::PROTOCOL_ERROR)),
            INITIAL_WINDOW_SIZE if value > WINDOW_MAX => Some(Err(Reason::FLOW_CONTROL_ERROR)),
            INITIAL_WINDOW_SIZE => Some(Ok(Setting::Window(value))),
            MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                Some(Err(Reason::PROTOCOL_ERROR))
            }
            _ => None,
        }
    })
}

/// One of ours, as it is written.
pub fn setting(identifier: u16, value: u32) -> [u8; 6] {
    let mut bytes = [0; 6];
    bytes[..2].copy_from_slice(&identifier.to_be_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
/// The setting of how many streams a peer may open at a time.
pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
/// The setting of a stream's first window.
pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
/// The setting of how large a field block may be.
pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
/// RFC 8441 §3.
pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written(bytes in any::<[u8; 9]>()) {
            let head = FrameHead::read(bytes);
            let mut expected = bytes;
            expected[5] &= 0x7f;
            prop_assert_eq!(head.write(), expected);
        }
    }

    #[test]
    fn settings_are_checked_and_those_that_say_nothing_to_us_ignored() {
        let read = |settings_: &[(u16, u32)]| {
            let bytes = settings_.iter().map(|(id, value)| setting(*id, *value));
            settings(&bytes.collect::<Vec<_>>().concat()).collect::<Result<Vec<_>, _>>()
        };
        let some = [
            (1, 0),
            (2, 0),
            (3, 7),
            (4, 5),
            (5, 1 << 14),
            (8, 1),
            (99, 9),
        ];
        let expected = vec![Setting::Table, Setting::Window(5)];
        assert_eq!(read(&some), Ok(expected));
        for (bad, reason) in [
            ((2, 2), Reason::PROTOCOL_ERROR),
            ((4, 1 << 31), Reason::FLOW_CONTROL_ERROR),
            ((5, (1 << 14) - 1), Reason::PROTOCOL_ERROR),
            ((5, 1 << 24), Reason::PROTOCOL_ERROR),
            ((8, 2), Reason::PROTOCOL_ERROR),
        ] {
            assert_eq!(read(&[bad]), Err(reason), "{bad:?}");
        }
    }
}

//! Integers and strings, taken out of a block (RFC 7541 §5).
//!
//! Invariant: what is read is within the block, and no integer is beyond 32 bits.

use super::error::DecodeError;
use super::huffman;

/// What is left of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'block> {
    rest: &'block [u8],
}

impl<'block> Reader<'block> {
    pub(super) fn new(block: &'block [u8]) -> Self {
        Self { rest: block }
    }

    /// The next byte, which stays.
    pub(super) fn first(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes an integer whose first byte has this many bits of it (RFC 7541 §5.1).
    pub(super) fn integer(&mut self, prefix_bits: u32) -> Result<usize, DecodeError> {
        let prefix_max = u8::MAX >> (u8::BITS - prefix_bits);
        let prefix = self.byte()? & prefix_max;
        if prefix < prefix_max {
            return Ok(prefix.into());
        }
        let mut value = u64::from(prefix);
        for index in 0..CONTINUATION_BYTES_MAX {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let value = u32::try_from(value).map_err(|_| DecodeError::Integer)?;
                return Ok(value as usize);
            }
        }
        Err(DecodeError::Integer)
    }

    /// Takes a string (RFC 7541 §5.2). It is a part of the block, or is decoded into `room`.
    pub(super) fn string<'a>(&mut self, room: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError>
    where
        'block: 'a,
    {
        let first = self.first().ok_or(DecodeError::Truncated)?;
        let length = self.integer(7)?;
        let cut = self.rest.split_at_checked(length);
        let (text, rest) = cut.ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        if first & HUFFMAN == 0 {
            Ok(text)
        } else {
            huffman::decode(text, room)
        }
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }
}

/// Says that a string is in Huffman code.
const HUFFMAN: u8 = 0x80;

/// Enough for any 32 bits.
const CONTINUATION_BYTES_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(block: &[u8], prefix_bits: u32) -> Result<usize, DecodeError> {
        Reader::new(block).integer(prefix_bits)
    }

    #[test]
    fn integers_are_those_of_the_specification() {
        // RFC 7541 §C.1.
        assert_eq!(integer(&[0b1110_1010], 5), Ok(10));
        assert_eq!(
            integer(&[0b1111_1111, 0b1001_1010, 0b0000_1010], 5),
            Ok(1337)
        );
        assert_eq!(integer(&[0b0010_1010], 8), Ok(42));
        assert_eq!(integer(&[0x7f, 0], 7), Ok(127));
    }

    #[test]
    fn integers_have_bounds() {
        let max = [0x1f, 0xe0, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(integer(&max, 5), Ok(u32::MAX as usize));
        let more = [0x1f, 0xe1, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(integer(&more, 5), Err(DecodeError::Integer));
        let zeros = [0x1f, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(integer(&zeros, 5), Ok(31));
        let endless = [0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(integer(&endless, 5), Err(DecodeError::Integer));
        for end in 0..zeros.len() {
            assert_eq!(integer(&zeros[..end], 5), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn strings_end_within_the_block() {
        let mut room = Vec::new();
        let mut reader = Reader::new(b"\x02abc");
        assert_eq!(reader.string(&mut room), Ok(&b"ab"[..]));
        assert_eq!(reader.first(), Some(b'c'));
        for block in [&b""[..], b"\x01", b"\x04abc", b"\x84abc", b"\x7f"] {
            let text = Reader::new(block).string(&mut room);
            assert_eq!(text, Err(DecodeError::Truncated), "{block:?}");
        }
    }
}

//! Where a line is put together: from the beginning of what is left of a block, without asking
//! first whether it fits.

/// Writes bytes one after the other. What comes after the block's end is counted only, so that
/// whoever wrote learns how large a block it takes.
pub(super) struct Cursor<'a> {
    block: &'a mut [u8],
    length: usize,
}

/// A line is longer than what was left of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// Bytes of a block that it fits into.
    pub(super) needed: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(block: &'a mut [u8]) -> Self {
        Self { block, length: 0 }
    }

    /// How many bytes were written.
    pub(super) fn end(self) -> Result<usize, TooLong> {
        let needed = self.length + PIECE_BYTES;
        let is_whole = needed <= self.block.len();
        is_whole.then_some(self.length).ok_or(TooLong { needed })
    }

    pub(super) fn copy(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.block.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
        }
        self.length = end;
    }

    /// The first bytes of a piece, at most `PIECE_BYTES`. All of it is copied, as a size that is
    /// known beforehand takes a few instructions and no call; what comes next covers the rest.
    pub(super) fn copy_piece<const SIZE: usize>(&mut self, piece: [u8; SIZE], length: usize) {
        const { assert!(SIZE <= PIECE_BYTES) };
        let rest = self.block.get_mut(self.length..).unwrap_or_default();
        if let Some(place) = rest.first_chunk_mut() {
            *place = piece;
        }
        self.length += length;
    }

    /// In decimal.
    pub(super) fn number(&mut self, number: u64) {
        let number = match u32::try_from(number) {
            Ok(number) if number < 1000 => number,
            _ => {
                self.number(number / 1000);
                return self.last_digits(u32::try_from(number % 1000).unwrap_or(0));
            }
        };
        let zeros = usize::from(number < 100) + usize::from(number < 10);
        let digits = u32::from_le_bytes(three_digits(number)) >> (8 * zeros);
        self.copy_piece(digits.to_le_bytes(), 3 - zeros);
    }

    /// The three digits of a number below 1,000.
    pub(super) fn last_digits(&mut self, number: u32) {
        self.copy_piece(three_digits(number), 3);
    }
}

/// Bytes that are copied at once, however few of them count; so many are left free at the end.
pub(super) const PIECE_BYTES: usize = 32;

/// And a byte that does not count.
fn three_digits(number: u32) -> [u8; 4] {
    let (hundreds, tens) = (number / 100, number / 10);
    let digits = hundreds | (tens - 10 * hundreds) << 8 | (number - 10 * tens) << 16;
    (digits | u32::from_le_bytes(*b"000\0")).to_le_bytes()
}

#[cfg(test)]
pub(super) fn written(write: impl FnOnce(&mut Cursor<'_>)) -> Vec<u8> {
    let mut block = vec![0; 4096];
    let mut cursor = Cursor::new(&mut block);
    write(&mut cursor);
    let length = cursor.end().expect("room");
    block.truncate(length);
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_spelled_as_usual(number in any::<u64>(), shift in 0_u32..64) {
            let number = number >> shift;
            let text = written(|cursor| cursor.number(number));
            prop_assert_eq!(text, number.to_string().into_bytes());
        }

        /// Whatever the block's size, a line is whole or the size that it takes is told.
        #[test]
        fn a_line_is_whole_or_too_long(
            texts in prop::collection::vec("[a-z]{0,40}", 0..8),
            size in 0_usize..300,
        ) {
            let write = |cursor: &mut Cursor<'_>| for text in &texts {
                cursor.copy(text.as_bytes());
                cursor.number(1234);
            };
            let mut expected = texts.join("1234");
            if !texts.is_empty() {
                expected.push_str("1234");
            }
            let mut block = vec![0; size];
            let mut cursor = Cursor::new(&mut block);
            write(&mut cursor);
            match cursor.end() {
                Ok(length) => prop_assert_eq!(&block[..length], expected.as_bytes()),
                Err(TooLong { needed }) => {
                    prop_assert!(size < needed);
                    let mut block = vec![0; needed];
                    let mut cursor = Cursor::new(&mut block);
                    write(&mut cursor);
                    prop_assert_eq!(cursor.end(), Ok(expected.len()));
                    prop_assert_eq!(&block[..expected.len()], expected.as_bytes());
                }
            }
        }
    }
}

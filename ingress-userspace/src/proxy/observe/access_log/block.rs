//! Where a line is put together: from the beginning of what is left of a block, without asking
//! first whether it fits.

use std::time::Duration;

/// Writes bytes one after the other. What comes after the block's end is counted only, so that
/// whoever wrote learns how large a block it takes.
pub(crate) struct Cursor<'a> {
    block: &'a mut [u8],
    /// Of 32 bits, so that the processor need not ask whether a sum is one of 64.
    length: u32,
}

/// A line is longer than what was left of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// Bytes of a block that it fits into.
    pub(crate) needed: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(block: &'a mut [u8]) -> Self {
        Self { block, length: 0 }
    }

    /// How many bytes were written.
    pub(crate) fn end(self) -> Result<usize, TooLong> {
        let needed = self.length as usize + PIECE_BYTES;
        let is_whole = needed <= self.block.len();
        let length = needed - PIECE_BYTES;
        is_whole.then_some(length).ok_or(TooLong { needed })
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        let begin = self.length as usize;
        if let Some(place) = self.block.get_mut(begin..begin + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.length = self.length.saturating_add(bytes);
    }

    /// The first bytes of a piece, at most `PIECE_BYTES`. All of it is copied, as a size that is
    /// known beforehand takes a few instructions and no call; what comes next covers the rest.
    #[inline]
    pub(crate) fn copy_piece<const SIZE: usize>(&mut self, piece: [u8; SIZE], length: u8) {
        const { assert!(SIZE <= PIECE_BYTES) };
        let begin = self.length as usize;
        let place = self.block.get_mut(begin..begin + SIZE);
        if let Some(place) = place.and_then(<[u8]>::as_mut_array) {
            *place = piece;
        }
        self.length += u32::from(length);
    }

    /// All of a piece.
    #[inline]
    pub(crate) fn copy_array<const SIZE: usize>(&mut self, piece: [u8; SIZE]) {
        self.copy_piece(piece, u8::try_from(SIZE).unwrap_or(0));
    }

    /// In decimal.
    #[inline]
    pub(crate) fn number(&mut self, number: u64) {
        match SPELLED.get(usize::try_from(number).unwrap_or(usize::MAX)) {
            Some(word) => {
                let [.., zeros] = word.to_le_bytes();
                self.copy_piece((word >> (8 * zeros)).to_le_bytes(), 3 - zeros);
            }
            None => self.large_number(number),
        }
    }

    /// Seconds with three digits after the point.
    #[inline]
    pub(crate) fn seconds(&mut self, time: Duration) {
        self.number(time.as_secs());
        let [hundreds, tens, ones, _] = SPELLED[time.subsec_millis() as usize].to_le_bytes();
        self.copy_array([b'.', hundreds, tens, ones]);
    }

    fn large_number(&mut self, number: u64) {
        self.number(number / 1000);
        let last = usize::try_from(number % 1000).unwrap_or(0);
        self.copy_piece(SPELLED[last].to_le_bytes(), 3);
    }
}

/// The numbers below 1,000, each as a little-endian word: its three digits, and how many of them
/// are zeros at the beginning.
static SPELLED: [u32; 1000] = {
    let mut spelled = [0; 1000];
    let mut number = 0;
    while number < 1000 {
        let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
        let zeros = (number < 100) as u32 + (number < 10) as u32;
        spelled[number as usize] =
            hundreds + tens * 0x100 + ones * 0x1_0000 + 0x30_3030 + zeros * 0x100_0000;
        number += 1;
    }
    spelled
};

/// Bytes that are copied at once, however few of them count; so many are left free at the end.
pub(crate) const PIECE_BYTES: usize = 32;

#[cfg(test)]
pub(crate) fn written(write: impl FnOnce(&mut Cursor<'_>)) -> Vec<u8> {
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

        #[test]
        fn seconds_have_three_digits_after_the_point(milliseconds in 0_u64..10_000_000) {
            let text = written(|cursor| cursor.seconds(Duration::from_millis(milliseconds)));
            let expected = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            prop_assert_eq!(text, expected.into_bytes());
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

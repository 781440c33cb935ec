//! Random numbers of one worker: for ids, which have to differ, and for choices among endpoints. No
//! secret is made of them.

use std::cell::Cell;
use std::io;

use rustls::crypto::aws_lc_rs;

/// A source of numbers, begun with one of the system's.
pub(super) struct Random(Cell<u64>);

impl Random {
    /// An error if the system has no random numbers.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Cell::new(seed()?)))
    }

    /// 32 hexadecimal digits.
    pub(super) fn hexadecimal(&self) -> [u8; 32] {
        let mut text = [0; 32];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.bytes()) {
            *pair = HEXADECIMAL[usize::from(byte)];
        }
        text
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        (u128::from(self.number()) << 64 | u128::from(self.number())).to_ne_bytes()
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): ids have to differ, not to be secret.
    pub(super) fn number(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    let source = aws_lc_rs::default_provider().secure_random;
    source
        .fill(&mut seed)
        .map_err(|_| io::Error::other("no random numbers from the system"))?;
    Ok(u64::from_ne_bytes(seed))
}

/// Each byte as two digits.
const HEXADECIMAL: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let random = Random::new().unwrap();
        let ids: Vec<_> = (0..1000).map(|_| random.hexadecimal()).collect();
        let digits = ids.iter().flatten();
        assert!(
            digits
                .copied()
                .all(|digit| b"0123456789abcdef".contains(&digit))
        );
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
    }
}

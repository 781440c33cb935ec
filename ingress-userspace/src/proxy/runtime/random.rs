//! Random numbers of one worker: for ids, which have to differ, and for choices among endpoints. No
//! secret is made of them.

use std::cell::Cell;
use std::io;

use rustls::crypto::aws_lc_rs;

/// A source of numbers, begun with one of the system's.
pub(crate) struct Random(Cell<u64>);

/// The id of a request that we make: hexadecimal digits, as ingress-nginx's.
pub(crate) type RequestId = [u8; 32];

impl Random {
    /// An error if the system has no random numbers.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Cell::new(seed()?)))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        let mut id = [0; size_of::<RequestId>()];
        let (words, _) = id.as_chunks_mut::<8>();
        let numbers = self.bytes();
        let (numbers, _) = numbers.as_chunks();
        for (word, number) in words.iter_mut().zip(numbers) {
            *word = hexadecimal(u32::from_ne_bytes(*number));
        }
        id
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        (u128::from(self.number()) << 64 | u128::from(self.number())).to_ne_bytes()
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): ids have to differ, not to be secret.
    pub(crate) fn number(&self) -> u64 {
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

/// The eight digits of a number, the lowest first. All at once: a table of digits would take as many
/// lines of the cache as it has.
fn hexadecimal(number: u32) -> [u8; 8] {
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (spread | spread << 4) & each(0x0f);
    let is_letter = ((digits + each(6)) >> 4) & each(1);
    let letters = is_letter * u64::from(b'a' - b'0' - 10);
    (digits + each(b'0') + letters).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [
            0,
            1,
            0x9,
            0xa,
            0xf,
            0x10,
            0x0123_4567,
            0x89ab_cdef,
            u32::MAX,
        ] {
            let mut digits = hexadecimal(number);
            digits.reverse();
            assert_eq!(digits, *format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let random = Random::new().unwrap();
        let ids: Vec<_> = (0..1000).map(|_| random.request_id()).collect();
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

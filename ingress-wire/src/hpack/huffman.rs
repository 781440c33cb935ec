//! Strings in Huffman code (RFC 7541 §5.2 and Appendix B), decoded.
//!
//! The code is canonical: of two codes the shorter is the lesser, and those of one length are in
//! the order of their symbols. So it follows from the lengths alone, and a code of more than eight
//! bits is found by its length: what clients send is mostly of shorter ones, which a table of half
//! a kibibyte has.

use super::error::DecodeError;

/// Decodes `coded` into the beginning of `room`, which grows to what any string of this length may
/// need: no symbol has less than five bits.
pub(super) fn decode<'a>(coded: &[u8], room: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
    let length_max = coded.len() * 8 / 5;
    if room.len() < length_max {
        room.resize(length_max, 0);
    }
    let mut bits = Bits::new(coded);
    let mut length = 0;
    while !bits.are_padding() {
        let (symbol, symbol_bits) = first_symbol(bits.first());
        bits.skip(symbol_bits)?;
        room[length] = u8::try_from(symbol).map_err(|_| DecodeError::EndOfString)?;
        length += 1;
        bits.fill();
    }
    Ok(&room[..length])
}

/// What is left of a string, as bits.
struct Bits<'a> {
    /// The next bits, from the highest on; zeros follow them.
    window: u64,
    /// How many these are: less than 32 only where nothing comes after them.
    count: u32,
    rest: &'a [u8],
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut bits = Self {
            window: 0,
            count: 0,
            rest: bytes,
        };
        bits.fill();
        bits
    }

    fn fill(&mut self) {
        if self.count >= u32::BITS {
            return;
        }
        if let Some((bytes, rest)) = self.rest.split_first_chunk() {
            self.window |= u64::from(u32::from_be_bytes(*bytes)) << (u32::BITS - self.count);
            self.count += u32::BITS;
            self.rest = rest;
            return;
        }
        for byte in std::mem::take(&mut self.rest) {
            self.window |= u64::from(*byte) << (u64::BITS - u8::BITS - self.count);
            self.count += u8::BITS;
        }
    }

    /// Returns true if only valid padding remains: fewer than 8 bits, all of them ones (RFC 7541 §5.2).
    fn are_padding(&self) -> bool {
        self.count < u8::BITS && self.window == !(u64::MAX >> self.count)
    }

    /// More bits than any symbol has, if there are as many.
    fn first(&self) -> u32 {
        (self.window >> u32::BITS) as u32
    }

    fn skip(&mut self, count: u32) -> Result<(), DecodeError> {
        let left = self.count.checked_sub(count);
        self.count = left.ok_or(DecodeError::Padding)?;
        self.window <<= count;
        Ok(())
    }
}

/// The symbol that these bits begin with, and how many of them are its code.
fn first_symbol(bits: u32) -> (u16, u32) {
    let (byte, code_bits) = SHORT_CODES[(bits >> (u32::BITS - SHORT_BITS)) as usize];
    if code_bits != 0 {
        return (byte.into(), code_bits.into());
    }
    let mut code_bits = SHORT_BITS + 1;
    while code_bits < CODE_BITS_MAX && CODES.firsts[code_bits as usize + 1] <= bits {
        code_bits += 1;
    }
    let length = code_bits as usize;
    let index = (bits - CODES.firsts[length]) >> (u32::BITS - code_bits);
    let symbol = CODES.symbols[CODES.starts[length] + index as usize];
    (symbol, code_bits)
}

/// The codes of all symbols.
struct Codes {
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// By number of bits, the first code that has as many, or would have; from the highest bit on.
    firsts: [u32; CODE_BITS_MAX as usize + 1],
    /// By number of bits, which of the symbols has the first code.
    starts: [usize; CODE_BITS_MAX as usize + 1],
}

static CODES: Codes = codes();

/// By the first bits of a string, the byte that they are, and how many of them; no bits where it
/// takes more to tell.
static SHORT_CODES: [(u8, u8); 1 << SHORT_BITS] = short_codes();

const fn codes() -> Codes {
    let mut codes = Codes {
        symbols: [0; SYMBOLS],
        firsts: [0; CODE_BITS_MAX as usize + 1],
        starts: [0; CODE_BITS_MAX as usize + 1],
    };
    let mut code = 0_u32;
    let mut count = 0;
    let mut code_bits = 1;
    while code_bits <= CODE_BITS_MAX {
        code <<= 1;
        codes.firsts[code_bits as usize] = code << (u32::BITS - code_bits);
        codes.starts[code_bits as usize] = count;
        let mut symbol = 0_u16;
        while (symbol as usize) < SYMBOLS {
            if CODE_BITS[symbol as usize] as u32 == code_bits {
                codes.symbols[count] = symbol;
                count += 1;
                code += 1;
            }
            symbol += 1;
        }
        code_bits += 1;
    }
    codes
}

const fn short_codes() -> [(u8, u8); 1 << SHORT_BITS] {
    let mut short_codes = [(0, 0); 1 << SHORT_BITS];
    let mut count = 0;
    let mut bits = 0;
    while bits < short_codes.len() {
        let symbol = CODES.symbols[count];
        let code_bits = CODE_BITS[symbol as usize];
        if code_bits as u32 > SHORT_BITS {
            break;
        }
        let end = bits + (1 << (SHORT_BITS - code_bits as u32));
        while bits < end {
            short_codes[bits] = (symbol.to_le_bytes()[0], code_bits);
            bits += 1;
        }
        count += 1;
    }
    short_codes
}

const SYMBOLS: usize = 257;

const CODE_BITS_MAX: u32 = 30;

const SHORT_BITS: u32 = 8;

/// How many bits the code of each byte has, and that of the end of a string.
const CODE_BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The code of a symbol, and how many bits it has.
    fn code(symbol: u16) -> (u32, u32) {
        let code_bits = CODE_BITS[usize::from(symbol)];
        let place = CODES.symbols.iter().position(|other| *other == symbol);
        let index = place.unwrap() - CODES.starts[usize::from(code_bits)];
        let first = CODES.firsts[usize::from(code_bits)] >> (32 - code_bits);
        (first + u32::try_from(index).unwrap(), code_bits.into())
    }

    fn coded(symbols: impl IntoIterator<Item = u16>) -> Vec<u8> {
        let text = |symbol| {
            let (code, code_bits) = code(symbol);
            format!("{code:0width$b}", width = code_bits as usize)
        };
        packed(&symbols.into_iter().map(text).collect::<String>())
    }

    fn packed(bits: &str) -> Vec<u8> {
        let byte = |bits: &[u8]| {
            let text = format!("{:1<8}", str::from_utf8(bits).unwrap());
            u8::from_str_radix(&text, 2).unwrap()
        };
        bits.as_bytes().chunks(8).map(byte).collect()
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, DecodeError> {
        decode(coded, &mut Vec::new()).map(<[u8]>::to_vec)
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        for (symbol, expected) in [
            (b'0'.into(), (0x0, 5)),
            (b'a'.into(), (0x3, 5)),
            (b' '.into(), (0x14, 6)),
            (b'z'.into(), (0x7b, 7)),
            (b'Z'.into(), (0xfd, 8)),
            (b'?'.into(), (0x3fc, 10)),
            (b'\\'.into(), (0x7fff0, 19)),
            (0, (0x1ff8, 13)),
            (127, (0x0fff_fffc, 28)),
            (128, (0xfffe6, 20)),
            (255, (0x03ff_ffee, 26)),
            (22, (0x3fff_fffe, 30)),
            (256, (0x3fff_ffff, 30)),
        ] {
            assert_eq!(code(symbol), expected, "{symbol}");
        }
    }

    #[test]
    fn every_byte_has_a_code() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&coded(0..256)), Ok(all));
        for byte in 0..=255 {
            assert_eq!(decoded(&coded([byte.into()])), Ok(vec![byte]));
        }
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn the_end_of_a_string_is_no_part_of_it() {
        assert_eq!(decoded(&[0xff; 4]), Err(DecodeError::EndOfString));
        let after = coded([b'a'.into(), 256, b'a'.into()]);
        assert_eq!(decoded(&after), Err(DecodeError::EndOfString));
    }

    #[test]
    fn padding_is_of_at_most_seven_ones() {
        // `a` is 00011, `)` is 1111111011.
        assert_eq!(decoded(&packed("00011111")), Ok(b"a".to_vec()));
        assert_eq!(decoded(&packed("1111111011")), Ok(b")".to_vec()));
        for bits in [
            "00011110",
            "00011000",
            "00011011",
            "0001111111111111",
            "11111111",
            "11111110",
            "111111111111111111111111",
        ] {
            assert_eq!(decoded(&packed(bits)), Err(DecodeError::Padding), "{bits}");
        }
    }

    proptest! {
        #[test]
        fn what_was_coded_is_decoded(bytes: Vec<u8>) {
            let coded = coded(bytes.iter().map(|byte| u16::from(*byte)));
            prop_assert_eq!(decoded(&coded), Ok(bytes));
        }

        #[test]
        fn what_is_decoded_was_coded_just_so(bytes: Vec<u8>) {
            if let Ok(decoded) = decoded(&bytes) {
                prop_assert!(decoded.len() <= bytes.len() * 8 / 5);
                prop_assert_eq!(coded(decoded.into_iter().map(u16::from)), bytes);
            }
        }
    }
}

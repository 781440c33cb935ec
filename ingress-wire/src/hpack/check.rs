//! What must be so for any bytes at all that may be field blocks.
//!
//! The property tests and the fuzz target both end here, so the latter includes this file.

use http::HeaderValue;

use super::decode::Decoder;
use super::encode::encode_field;
use super::error::DecodeError;
use super::field::Field;

/// What a decoder is to keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of the dynamic table.
    pub table_bytes_max: usize,
    /// Of the fields of one block.
    pub list_bytes_max: usize,
}

/// Decodes the blocks of one connection.
///
/// # Panics
///
/// Panics where they are not decoded within bounds, or where the bound of a list makes a difference
/// to what is decoded later.
pub fn check<'a>(blocks: impl IntoIterator<Item = &'a [u8]>, bounds: Bounds) {
    let Bounds {
        table_bytes_max,
        list_bytes_max,
    } = bounds;
    let mut bounded = Decoder::new(table_bytes_max);
    let mut unbounded = Decoder::new(table_bytes_max);
    for block in blocks {
        let (few, is_too_large) = decoded(&mut bounded, block, list_bytes_max);
        let (all, end) = decoded(&mut unbounded, block, usize::MAX);
        if is_too_large == Err(DecodeError::Excess) {
            assert!(all.starts_with(&few));
            break;
        }
        assert_eq!(is_too_large.err(), end.err());
        assert!(all.starts_with(&few));
        assert!(few.iter().map(least_bytes).sum::<usize>() <= list_bytes_max);
        match is_too_large {
            Ok(true) => assert!(few.len() < all.len()),
            Ok(false) => assert_eq!(few, all),
            // Nothing follows.
            Err(_) => break,
        }
        all.iter().for_each(check_field);
        assert_eq!(table(&mut bounded), table(&mut unbounded));
        assert!(table(&mut bounded).iter().map(least_bytes).sum::<usize>() <= table_bytes_max);
    }
}

/// Decodes a block; returns its fields and whether they were too large.
pub fn decoded(
    decoder: &mut Decoder,
    block: &[u8],
    list_bytes_max: usize,
) -> (Vec<Field>, Result<bool, DecodeError>) {
    let mut fields = Vec::new();
    let is_too_large = decoder.decode(block, list_bytes_max, |field| fields.push(field));
    (fields, is_too_large)
}

/// What the dynamic table has.
pub fn table(decoder: &mut Decoder) -> Vec<Field> {
    let mut fields = Vec::new();
    for index in 62_u8..127 {
        let sink = |field| fields.push(field);
        if decoder.decode(&[0x80 | index], usize::MAX, sink).is_err() {
            break;
        }
    }
    fields
}

/// A field's size, or what it has at least.
fn least_bytes(field: &Field) -> usize {
    32 + match field {
        Field::Pseudo(_, value) => ":path".len() + value.len(),
        Field::Header(name, value) => name.as_str().len() + value.len(),
        Field::Malformed => 0,
    }
}

/// A good field may be passed on, and stays what it is.
fn check_field(field: &Field) {
    match field {
        Field::Header(name, value) => {
            let mut block = Vec::new();
            encode_field(name, value, &mut block);
            let (fields, is_too_large) = decoded(&mut Decoder::new(0), &block, usize::MAX);
            assert_eq!(is_too_large, Ok(false));
            assert_eq!(fields, std::slice::from_ref(field));
        }
        Field::Pseudo(_, value) => assert!(HeaderValue::from_bytes(value).is_ok()),
        Field::Malformed => {}
    }
}

//! A field block, as fields.
//!
//! Blocks of a connection are decoded in their order and as a whole, those of refused messages
//! too: each may change the table that the next one refers to.

use super::error::DecodeError;
use super::field::{Entry, Field, Name, field_bytes};
use super::reader::Reader;
use super::static_table::STATIC_ENTRIES;
use super::table::Table;

/// Decodes the blocks of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    table_bytes_max: usize,
}

impl Decoder {
    /// `table_bytes_max` is what our `SETTINGS_HEADER_TABLE_SIZE` says; 4,096 is what counts
    /// without one. Allocates nothing.
    pub const fn new(table_bytes_max: usize) -> Self {
        // A client that may have a larger one has to say so first (RFC 7541 §4.2).
        let table_bytes = if table_bytes_max < TABLE_BYTES_DEFAULT {
            table_bytes_max
        } else {
            TABLE_BYTES_DEFAULT
        };
        Self {
            table: Table::new(table_bytes),
            table_bytes_max,
        }
    }

    /// Decodes a complete field block. `sink` gets its fields in order, until their sizes, of which
    /// each is that of name and value and 32 bytes (RFC 9113 §6.5.2), add up to more than
    /// `list_bytes_max`: from there on the block is decoded for the table's sake alone, and `true`
    /// is returned. One that goes on and on is an error, so that what a block takes is bounded.
    ///
    /// # Errors
    ///
    /// Returns a [`DecodeError`] for a malformed block, after which the connection's tables are out of step.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_bytes_max: usize,
        mut sink: impl FnMut(Field),
    ) -> Result<bool, DecodeError> {
        let mut reader = Reader::new(block);
        let mut list = List {
            bytes: 0,
            bytes_max: list_bytes_max,
        };
        let mut room = Room::default();
        while let Some(0x20..=0x3f) = reader.first() {
            self.resize(reader.integer(5)?)?;
        }
        // RFC 7541 §6.
        while let Some(first) = reader.first() {
            match first {
                0x80.. => {
                    let entry = self.entry(reader.integer(7)?)?;
                    if list.takes(entry.bytes())? {
                        sink(entry.field());
                    }
                }
                0x40..=0x7f => {
                    let entry = self.literal(6, &mut reader, &mut room)?.parse();
                    if list.takes(entry.bytes())? {
                        sink(entry.field());
                    }
                    self.table.insert(entry);
                }
                0x20..=0x3f => return Err(DecodeError::LateTableSize),
                0x00..=0x1f => {
                    let literal = self.literal(4, &mut reader, &mut room)?;
                    if list.takes(literal.bytes())? {
                        let mut entry = literal.parse();
                        if first & NEVER_INDEXED != 0 {
                            entry.never_index();
                        }
                        sink(entry.into());
                    }
                }
            }
        }
        Ok(list.bytes > list.bytes_max)
    }

    fn resize(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let bytes_max = self.table_bytes_max;
        if bytes > bytes_max {
            return Err(DecodeError::TableSize { bytes, bytes_max });
        }
        self.table.resize(bytes);
        Ok(())
    }

    /// The field of an index, of which 0 is none (RFC 7541 §2.3.3).
    fn entry(&self, index: usize) -> Result<&Entry, DecodeError> {
        let place = index.checked_sub(1).ok_or(DecodeError::Index(index))?;
        let entry = match place.checked_sub(STATIC_ENTRIES.len()) {
            None => STATIC_ENTRIES.get(place),
            Some(age) => self.table.entry(age),
        };
        entry.ok_or(DecodeError::Index(index))
    }

    /// Takes a field that is no index alone. That of its name begins with so many bits of the first
    /// byte.
    fn literal<'a, 'block: 'a>(
        &'a self,
        prefix_bits: u32,
        reader: &mut Reader<'block>,
        room: &'a mut Room,
    ) -> Result<Literal<'a>, DecodeError> {
        let name = match reader.integer(prefix_bits)? {
            0 => LiteralName::Text(reader.string(&mut room.name)?),
            index => LiteralName::Of(self.entry(index)?),
        };
        let value = reader.string(&mut room.value)?;
        Ok(Literal { name, value })
    }
}

/// The fields so far.
struct List {
    bytes: usize,
    bytes_max: usize,
}

impl List {
    /// Counts a field. Whether it is to be handed out.
    fn takes(&mut self, bytes: usize) -> Result<bool, DecodeError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.bytes_max.saturating_add(EXCESS_BYTES_MAX) {
            return Err(DecodeError::Excess);
        }
        Ok(self.bytes <= self.bytes_max)
    }
}

/// Where strings in Huffman code are decoded; kept for the block's other fields.
#[derive(Default)]
struct Room {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// A field with a value of its own, not looked at yet.
struct Literal<'a> {
    name: LiteralName<'a>,
    value: &'a [u8],
}

enum LiteralName<'a> {
    Text(&'a [u8]),
    /// The same as that of another field.
    Of(&'a Entry),
}

impl Literal<'_> {
    fn bytes(&self) -> usize {
        let name_bytes = match self.name {
            LiteralName::Text(text) => text.len(),
            LiteralName::Of(entry) => entry.name_bytes(),
        };
        field_bytes(name_bytes, self.value.len())
    }

    /// Copies what is needed out of the block.
    fn parse(&self) -> Entry {
        let name = match self.name {
            LiteralName::Text(text) => Name::parse(text),
            LiteralName::Of(entry) => entry.name(),
        };
        Entry::parse(name, self.value)
    }
}

/// Tells literals that are never indexed from those that are not this time (RFC 7541 §6.2.3).
const NEVER_INDEXED: u8 = 0x10;

/// Bytes of fields beyond those that a list may have which are still decoded.
const EXCESS_BYTES_MAX: usize = 128 * 1024;

/// The initial `SETTINGS_HEADER_TABLE_SIZE` (RFC 9113 §6.5.2).
const TABLE_BYTES_DEFAULT: usize = 4096;

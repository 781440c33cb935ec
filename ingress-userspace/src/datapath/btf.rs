//! Where the running kernel keeps fields of its structs, from its own type information (BTF,
//! `Documentation/bpf/btf.rst`).
//!
//! Only what finds a field by its path is read. Bytes that are no BTF are an error, never a panic.

use std::path::Path;
use std::{fs, io};

use thiserror::Error;

/// Why an offset is not known.
#[derive(Debug, Error)]
pub(super) enum BtfError {
    /// The kernel was built without `CONFIG_DEBUG_INFO_BTF`, or hides it.
    #[error("failed to read the kernel's type information at `{KERNEL}`")]
    Unreadable(#[source] io::Error),
    /// What is there is no BTF of a version that is known.
    #[error("the kernel's type information is malformed")]
    Malformed,
    /// The kernel has no such struct or field.
    #[error("the kernel's type information has no `{0}`")]
    Missing(String),
}

/// Type information.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    /// Where each type begins; the first is `void`, which is nowhere.
    types: Vec<usize>,
    strings: usize,
}

/// One type.
struct Type {
    name: u32,
    kind: u32,
    length: usize,
    /// Whether offsets of members have the size of bit fields in them.
    has_bit_fields: bool,
    /// Its size, or the type that it refers to.
    reference: u32,
    members: usize,
}

impl Btf {
    /// Reads that of the running kernel.
    pub(super) fn of_kernel() -> Result<Self, BtfError> {
        let bytes = fs::read(Path::new(KERNEL)).map_err(BtfError::Unreadable)?;
        Self::parse(bytes).ok_or(BtfError::Malformed)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let word = |at| word(&bytes, at);
        if word(0)? & 0xffff != MAGIC {
            return None;
        }
        let header = word(4)? as usize;
        let (begin, length) = (header + word(8)? as usize, word(12)? as usize);
        let strings = header + word(16)? as usize;
        let mut types = vec![0];
        let mut at = begin;
        while at < begin + length {
            types.push(at);
            let info = word(at + 4)?;
            let count = (info & 0xffff) as usize;
            at += 12
                + match (info >> 24) & 0x1f {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                    ENUM | FUNC_PROTO => 8 * count,
                    PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => {
                        0
                    }
                    _ => return None,
                };
        }
        Some(Self {
            bytes,
            types,
            strings,
        })
    }

    /// The offset in bytes of a field of a struct; a path leads through structs inside it.
    pub(super) fn offset(&self, name: &str, path: &[&str]) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("{name}.{}", path.join(".")));
        let ids = 1..u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        let mut named = ids.filter(|id| {
            let found = self.type_of(*id);
            found.is_some_and(|found| found.kind == STRUCT && self.is_named(found.name, name))
        });
        let mut id = named.next().ok_or_else(missing)?;
        let mut bits = 0;
        for field in path {
            let (member, at) = self.member(id, field, DEPTH_MAX).ok_or_else(missing)?;
            (id, bits) = (member, bits + at);
        }
        Ok(bits / 8)
    }

    /// The type of a member, and its offset in bits; those of nameless members count as its own.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let found = self.resolve(id)?;
        if !matches!(found.kind, STRUCT | UNION) || depth == 0 {
            return None;
        }
        for index in 0..found.length {
            let at = found.members + 12 * index;
            let (label, id) = (word(&self.bytes, at)?, word(&self.bytes, at + 4)?);
            let mut bits = word(&self.bytes, at + 8)?;
            if found.has_bit_fields {
                bits &= 0x00ff_ffff;
            }
            if self.is_named(label, name) {
                return Some((id, bits));
            }
            if self.is_named(label, "")
                && let Some((id, inner)) = self.member(id, name, depth - 1)
            {
                return Some((id, bits + inner));
            }
        }
        None
    }

    /// The type behind names and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..DEPTH_MAX {
            let found = self.type_of(id)?;
            if !matches!(found.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(found);
            }
            id = found.reference;
        }
        None
    }

    fn type_of(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(id as usize).filter(|_| id != 0)?;
        let info = word(&self.bytes, at + 4)?;
        Some(Type {
            name: word(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            length: (info & 0xffff) as usize,
            has_bit_fields: info >> 31 == 1,
            reference: word(&self.bytes, at + 8)?,
            members: at + 12,
        })
    }

    fn is_named(&self, name: u32, expected: &str) -> bool {
        let begin = self.strings + name as usize;
        let bytes = self.bytes.get(begin..).unwrap_or_default();
        bytes
            .strip_prefix(expected.as_bytes())
            .and_then(<[u8]>::first)
            == Some(&0)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    word.try_into().ok().map(u32::from_ne_bytes)
}

const KERNEL: &str = "/sys/kernel/btf/vmlinux";
/// Structs within structs, and names of names, that are followed.
const DEPTH_MAX: u32 = 16;
const MAGIC: u32 = 0xeb9f;
/// `linux/btf.h`.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { int b; struct inner c; }; }; struct inner { int d, e; };`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0inner\0c\0d\0e\0";
        let (int, outer, inner) = (1, 5, 15);
        let [first, nested, last, left, right] = [11, 13, 21, 23, 25];
        let types: Vec<u32> = [
            vec![int, INT << 24, 4, 32],
            vec![inner, STRUCT << 24 | 2, 8, left, 1, 0, right, 1, 32],
            vec![0, STRUCT << 24 | 2, 12, nested, 1, 0, last, 5, 32],
            vec![outer, STRUCT << 24 | 2, 16, first, 1, 0, 0, 3, 32],
            vec![0, CONST << 24, 2],
        ]
        .concat();
        let length = u32::try_from(types.len() * 4).unwrap();
        let strings_length = u32::try_from(strings.len()).unwrap();
        let header = [MAGIC | 1 << 16, 24, 0, length, length, strings_length];
        let words = header.iter().chain(&types);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn field_is_found_through_nameless_and_qualified_structs() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", &["a"]).unwrap(), 0);
        assert_eq!(btf.offset("outer", &["b"]).unwrap(), 4);
        assert_eq!(btf.offset("outer", &["c", "e"]).unwrap(), 12);
        let error = btf.offset("outer", &["c", "f"]).unwrap_err();
        assert!(error.to_string().contains("outer.c.f"), "{error}");
        btf.offset("none", &["a"]).unwrap_err();
    }

    #[test]
    fn bytes_that_end_early_are_an_error() {
        let sample = sample();
        for length in 0..sample.len() {
            if let Some(btf) = Btf::parse(sample[..length].to_vec()) {
                let _ = btf.offset("outer", &["c", "e"]);
            }
        }
        assert!(Btf::parse(vec![0; 64]).is_none());
    }
}

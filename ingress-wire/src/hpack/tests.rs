//! Examples of the specification, what is no good block, and what holds for any.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;

use super::check::{Bounds, check, decoded, table};
use super::error::DecodeError;
use super::{Decoder, Field, Pseudo, encode_field, encode_no_table, encode_status};

/// Bytes of hexadecimal digits, as RFC 7541 Appendix C has them.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn field(name: &str, value: &str) -> Field {
    let pseudo = |name| Field::Pseudo(name, Bytes::copy_from_slice(value.as_bytes()));
    match name {
        ":authority" => pseudo(Pseudo::Authority),
        ":method" => pseudo(Pseudo::Method),
        ":path" => pseudo(Pseudo::Path),
        ":protocol" => pseudo(Pseudo::Protocol),
        ":scheme" => pseudo(Pseudo::Scheme),
        ":status" => pseudo(Pseudo::Status),
        _ => Field::Header(name.parse().unwrap(), value.parse().unwrap()),
    }
}

fn fields(fields: &[(&str, &str)]) -> Vec<Field> {
    let fields = fields.iter().copied();
    fields.map(|(name, value)| field(name, value)).collect()
}

/// What all of a block decodes to.
fn all(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, DecodeError> {
    let (fields, is_too_large) = decoded(decoder, block, usize::MAX);
    assert_ne!(is_too_large, Ok(true));
    is_too_large.map(|_| fields)
}

/// What all of a connection's first block decodes to.
fn first(block: &[u8]) -> Result<Vec<Field>, DecodeError> {
    all(&mut Decoder::new(4096), block)
}

/// A block, its fields, and what is in the table after it.
type Example<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)]);

fn assert_examples(table_bytes_max: usize, examples: &[Example<'_>]) {
    let mut decoder = Decoder::new(table_bytes_max);
    for (block, expected, in_table) in examples {
        assert_eq!(all(&mut decoder, &bytes(block)), Ok(fields(expected)));
        assert_eq!(table(&mut decoder), fields(in_table));
    }
}

#[test]
fn single_fields_are_those_of_the_specification() {
    // RFC 7541 §C.2.
    let key = [("custom-key", "custom-header")];
    let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_examples(4096, &[(custom, &key, &key)]);
    let path = "040c 2f73 616d 706c 652f 7061 7468";
    assert_examples(4096, &[(path, &[(":path", "/sample/path")], &[])]);
    let password = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    assert_examples(4096, &[(password, &[("password", "secret")], &[])]);
    assert_examples(4096, &[("82", &[(":method", "GET")], &[])]);
}

#[test]
fn requests_are_those_of_the_specification() {
    let begin = |scheme, path| {
        [
            (":method", "GET"),
            (":scheme", scheme),
            (":path", path),
            (":authority", "www.example.com"),
        ]
    };
    let one = begin("http", "/");
    let two = [&one[..], &[("cache-control", "no-cache")]].concat();
    let custom = ("custom-key", "custom-value");
    let three = [&begin("https", "/index.html")[..], &[custom]].concat();
    let table: [(&str, &str); 3] = [custom, two[4], two[3]];
    // RFC 7541 §C.3, and §C.4 in Huffman code.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let examples = [
            (blocks[0], &one[..], &table[2..]),
            (blocks[1], &two, &table[1..]),
            (blocks[2], &three, &table),
        ];
        assert_examples(4096, &examples);
    }
}

#[test]
fn responses_are_those_of_the_specification() {
    let status = |code| (":status", code);
    let private = ("cache-control", "private");
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let location = ("location", "https://www.example.com");
    let gzip = ("content-encoding", "gzip");
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let cookie = ("set-cookie", cookie);
    // RFC 7541 §C.5, and §C.6 in Huffman code: with a table of 256 bytes, so that entries go.
    for blocks in [
        [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ],
        [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ],
    ] {
        let examples: [Example<'_>; 3] = [
            (
                blocks[0],
                &[status("302"), private, date, location],
                &[location, date, private, status("302")],
            ),
            (
                blocks[1],
                &[status("307"), private, date, location],
                &[status("307"), location, date, private],
            ),
            (
                blocks[2],
                &[status("200"), private, later, location, gzip, cookie],
                &[cookie, gzip, later],
            ),
        ];
        assert_examples(256, &examples);
    }
}

#[test]
fn indices_beyond_the_tables_are_errors() {
    assert_eq!(first(&[0x80]), Err(DecodeError::Index(0)));
    assert_eq!(first(&[0xbd]), Ok(vec![field("www-authenticate", "")]));
    assert_eq!(first(&[0xbe]), Err(DecodeError::Index(62)));
    assert_eq!(first(b"\x7e\x01a"), Err(DecodeError::Index(62)));
    assert_eq!(first(b"\x0f\x2f\x01a"), Err(DecodeError::Index(62)));
    let mut decoder = Decoder::new(4096);
    all(&mut decoder, b"\x40\x01a\x01b").unwrap();
    assert_eq!(all(&mut decoder, &[0xbe]), Ok(vec![field("a", "b")]));
    assert_eq!(all(&mut decoder, &[0xbf]), Err(DecodeError::Index(63)));
    let huge = [0xff, 0x80, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(first(&huge), Err(DecodeError::Index(0xffff_ffff)));
    let beyond = [0xff, 0x81, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(first(&beyond), Err(DecodeError::Integer));
}

#[test]
fn a_block_ends_with_a_field() {
    let block = b"\x40\x01a\x01b\x1f\x28\x01c\x00\x03d-e\x02fg\xff\x00\x3f\xe1\x1f";
    for end in 0..block.len() - 5 {
        let is_whole = [0, 5, 9, 17].contains(&end);
        let is_truncated = first(&block[..end]) == Err(DecodeError::Truncated);
        assert_eq!(is_truncated, !is_whole, "{end}");
    }
    assert_eq!(first(&[0xff]), Err(DecodeError::Truncated));
    assert_eq!(first(&[0x3f, 0xe1]), Err(DecodeError::Truncated));
}

#[test]
fn huffman_errors_are_errors_of_the_block() {
    let end = first(b"\x04\x84\xff\xff\xff\xff");
    assert_eq!(end, Err(DecodeError::EndOfString));
    assert_eq!(first(b"\x04\x82\x1f\xff"), Err(DecodeError::Padding));
    assert_eq!(first(b"\x00\x81\x18\x00"), Err(DecodeError::Padding));
    let skipped = decoded(&mut Decoder::new(4096), b"\x04\x82\x1f\xff", 0);
    assert_eq!(skipped.1, Err(DecodeError::Padding));
}

#[test]
fn the_table_changes_its_size_before_fields_and_within_bounds() {
    let mut decoder = Decoder::new(4096);
    all(&mut decoder, b"\x40\x01a\x01b\x40\x01c\x01d").unwrap();
    assert_eq!(table(&mut decoder).len(), 2);
    // To 34, and back to 4,096.
    assert_eq!(
        all(&mut decoder, b"\x3f\x03\x3f\xe1\x1f\x82")
            .unwrap()
            .len(),
        1
    );
    assert_eq!(table(&mut decoder), [field("c", "d")]);
    assert_eq!(all(&mut decoder, b"\x20"), Ok(Vec::new()));
    assert_eq!(table(&mut decoder), []);
    all(&mut decoder, b"\x40\x01a\x01b").unwrap();
    assert_eq!(table(&mut decoder), []);
    assert_eq!(first(b"\x82\x20"), Err(DecodeError::LateTableSize));
    let (bytes, bytes_max) = (4097, 4096);
    let larger = DecodeError::TableSize { bytes, bytes_max };
    assert_eq!(first(b"\x3f\xe2\x1f"), Err(larger));
}

#[test]
fn a_larger_table_has_to_be_asked_for() {
    let long = |name: u8| {
        let mut block = vec![0x40, 1, name, 0x7f, 0x80, 0x0f];
        block.extend_from_slice(&[b'x'; 2047]);
        block
    };
    let mut decoder = Decoder::new(8192);
    all(&mut decoder, &[long(b'a'), long(b'b')].concat()).unwrap();
    assert_eq!(table(&mut decoder).len(), 1);
    all(&mut decoder, &[&b"\x3f\xe1\x3f"[..], &long(b'c')].concat()).unwrap();
    assert_eq!(table(&mut decoder).len(), 2);
}

#[test]
fn an_entry_may_have_the_name_of_one_that_goes() {
    let mut decoder = Decoder::new(36);
    all(&mut decoder, b"\x40\x02ab\x01c").unwrap();
    assert_eq!(
        all(&mut decoder, b"\x7e\x02de"),
        Ok(vec![field("ab", "de")])
    );
    assert_eq!(table(&mut decoder), [field("ab", "de")]);
    // It would fit into no table, and leaves none of the others.
    assert_eq!(
        all(&mut decoder, b"\x7e\x03fgh"),
        Ok(vec![field("ab", "fgh")])
    );
    assert_eq!(table(&mut decoder), []);
}

#[test]
fn invalid_fields_are_malformed() {
    for (name, value) in [
        ("", "a"),
        ("Host", "a"),
        ("a b", "a"),
        ("a:", "a"),
        ("a\0", "a"),
        ("\u{e9}", "a"),
        (":", "a"),
        (":host", "a"),
        (":Path", "/"),
        ("a", "b\r"),
        ("a", "b\nc"),
        ("a", "\0"),
        ("a", "\x7f"),
        (":path", "/\n"),
        (":path", "/\x1f"),
    ] {
        let mut block = vec![0x00, u8::try_from(name.len()).unwrap()];
        block.extend_from_slice(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
        assert_eq!(
            first(&block),
            Ok(vec![Field::Malformed]),
            "{name:?} {value:?}"
        );
    }
    let good = b"\x00\x09:protocol\x09websocket\x00\x02a.\x02\x80\t\x00\x01a\x00";
    let value = HeaderValue::from_bytes(b"\x80\t").unwrap();
    let expected = vec![
        field(":protocol", "websocket"),
        Field::Header(HeaderName::from_static("a."), value),
        field("a", ""),
    ];
    assert_eq!(first(good), Ok(expected));
}

#[test]
fn malformed_fields_keep_the_indices_right() {
    let mut decoder = Decoder::new(2 * 34);
    let block = b"\x40\x01a\x01b\x40\x01A\x01c";
    let expected = vec![field("a", "b"), Field::Malformed];
    assert_eq!(all(&mut decoder, block), Ok(expected));
    assert_eq!(table(&mut decoder), [Field::Malformed, field("a", "b")]);
    // A good name of a bad value stays good, a bad one of a good value bad.
    assert_eq!(
        all(&mut decoder, b"\x0f\x2f\x01d"),
        Ok(vec![Field::Malformed])
    );
    assert_eq!(
        all(&mut decoder, b"\x7f\x00\x01\n"),
        Ok(vec![Field::Malformed])
    );
    assert_eq!(table(&mut decoder), [Field::Malformed, Field::Malformed]);
    assert_eq!(
        all(&mut decoder, b"\x0f\x2f\x01d"),
        Ok(vec![field("a", "d")])
    );
    // One byte more than there is room for with another entry.
    assert_eq!(
        all(&mut decoder, b"\x40\x02AA\x01c"),
        Ok(vec![Field::Malformed])
    );
    assert_eq!(table(&mut decoder), [Field::Malformed]);
}

#[test]
fn a_list_ends_before_the_field_that_is_too_much() {
    let block = b"\x82\x40\x01a\x01b\x40\x01c\x01d\x82";
    let one = field(":method", "GET");
    let two = [one.clone(), field("a", "b")];
    for (list_bytes_max, expected) in [(0, &[][..]), (41, &[]), (42, &two[..1]), (76, &two)] {
        let mut decoder = Decoder::new(4096);
        let (fields, is_too_large) = decoded(&mut decoder, block, list_bytes_max);
        assert_eq!(is_too_large, Ok(true));
        assert_eq!(fields, expected);
        assert_eq!(table(&mut decoder), [field("c", "d"), field("a", "b")]);
    }
    let exact = decoded(&mut Decoder::new(4096), block, 42 + 34 + 34 + 42);
    assert_eq!(exact.1, Ok(false));
    // Nothing comes after the field that was too much, even if it would fit.
    let later = decoded(
        &mut Decoder::new(4096),
        b"\x00\x01a\x05bcdef\x00\x01a\x01b",
        36,
    );
    assert_eq!(later, (Vec::new(), Ok(true)));
}

#[test]
fn never_indexed_fields_stay_never_indexed() {
    let is_sensitive = |block: &[u8]| match &first(block).unwrap()[..] {
        [Field::Header(_, value)] => value.is_sensitive(),
        other => panic!("{other:?}"),
    };
    assert!(is_sensitive(b"\x10\x01a\x01b"));
    assert!(!is_sensitive(b"\x00\x01a\x01b"));
    assert!(!is_sensitive(b"\x40\x01a\x01b"));
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 56);
}

#[test]
fn a_response_says_that_it_has_no_table() {
    let mut block = Vec::new();
    encode_no_table(&mut block);
    encode_status(StatusCode::OK, &mut block);
    assert_eq!(first(&block), Ok(vec![field(":status", "200")]));
    assert_eq!(all(&mut Decoder::new(0), &block), first(&block));
}

/// A block as bytes, of any representations, and of names and values that may be fields or not.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let text = |pattern: &'static str| {
        pattern.prop_map(|text: String| {
            let length = u8::try_from(text.len()).unwrap();
            [&[length], text.as_bytes()].concat()
        })
    };
    let value = text("[ -c\n]{0,60}");
    let pattern = prop_oneof![Just(0x40_u8), Just(0x00), Just(0x10)];
    let named = (pattern, text("[a-cA:]{0,40}"), value.clone());
    let field = prop_oneof![
        named.prop_map(|(pattern, name, value)| [vec![pattern], name, value].concat()),
        (0x41..0x7f_u8, value.clone()).prop_map(|(name, value)| [vec![name], value].concat()),
        (0x01..0x0f_u8, value).prop_map(|(name, value)| [vec![name], value].concat()),
        (0x81..0xc3_u8).prop_map(|index| vec![index]),
    ];
    let table_bytes = vec(0x20..0x3f_u8, 0..2);
    let fields = vec(field, 0..12).prop_map(|fields| fields.concat());
    (table_bytes, fields).prop_map(|(table_bytes, fields)| [table_bytes, fields].concat())
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let bounds = (0..300_usize, 0..500_usize);
    bounds.prop_map(|(table_bytes_max, list_bytes_max)| Bounds {
        table_bytes_max,
        list_bytes_max,
    })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_within_bounds(
        bytes in vec(any::<u8>(), 0..200),
        cut in 1..200_usize,
        bounds in bounds(),
    ) {
        check(bytes.chunks(cut), bounds);
    }

    #[test]
    fn any_blocks_are_decoded_within_bounds(blocks in vec(block(), 0..6), bounds in bounds()) {
        check(blocks.iter().map(Vec::as_slice), bounds);
    }

    #[test]
    fn what_was_encoded_is_decoded(
        code in 100..1000_u16,
        fields in vec(("[a-z0-9-]{1,40}|age|etag|set-cookie|via", "[ -~\t\u{80}-\u{ff}]{0,300}"), 0..20),
    ) {
        let status = StatusCode::from_u16(code).unwrap();
        let mut block = Vec::new();
        encode_status(status, &mut block);
        let mut expected = vec![field(":status", status.as_str())];
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            encode_field(&name, &value, &mut block);
            expected.push(Field::Header(name, value));
        }
        prop_assert_eq!(all(&mut Decoder::new(0), &block), Ok(expected));
    }
}

/// One large entry, and references to it.
#[test]
fn a_block_that_goes_on_and_on_is_an_error() {
    let mut block = vec![0x40, 1, b'x', 0x7f, 0x80, 0x18];
    block.extend([b'y'; 0x7f + 0xc00]);
    let entry = block.len();
    block.extend([0xbe; 100]);
    let mut decoder = Decoder::new(4096);
    let (fields, outcome) = decoded(&mut decoder, &block, 10_000);
    assert_eq!((fields.len(), outcome), (3, Err(DecodeError::Excess)));
    let mut decoder = Decoder::new(4096);
    let (fields, outcome) = decoded(&mut decoder, &block[..entry + 9], 10_000);
    assert_eq!((fields.len(), outcome), (3, Ok(true)));
}

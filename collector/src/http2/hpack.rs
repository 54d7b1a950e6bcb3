//! Header blocks to fields (RFC 7541), for an observer who may have joined late.
//!
//! Owns: the encoder's table as far as it is known. A field that was put into the table before we looked is a value
//! of its own, "unknown", and no error. Refuses: what the fields mean.

use super::{
    huffman,
    table::{DynamicTable, STATIC_TABLE, Text},
};

/// Bound of a dynamic table, bytes by HPACK's own count. An encoder may use more, if its peer offers more; what it
/// then refers to beyond this is unknown.
const TABLE_BYTES_MAX: usize = 64 * 1024;
/// Fields of one block that are handed on; later ones only keep the table right.
const FIELDS_MAX: usize = 128;
/// Longest name or value kept; a longer one is unknown.
const STRING_BYTES_MAX: usize = 16 * 1024;
/// Bytes that the fields of one block may copy out of the table: one byte on the wire can name 16 KiB.
const COPIED_BYTES_MAX: usize = 64 * 1024;
/// Size of a table on which nothing was agreed.
const TABLE_BYTES_DEFAULT: usize = 4_096;
/// Scratch that a connection keeps between blocks.
const SCRATCH_BYTES_KEPT: usize = 8 * 1024;

/// A block that breaks the rules of HPACK.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where a string of the current block lies.
#[derive(Clone, Copy, Debug)]
enum Span {
    Static(&'static str),
    /// In the block itself.
    Block {
        from: usize,
        to: usize,
    },
    /// In `Fields::scratch`: decoded, or copied from the table, which may drop it within the same block.
    Scratch {
        from: usize,
        to: usize,
    },
    Unknown {
        bytes: usize,
    },
}

/// The fields of one block. Reused for the next, so that a block costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Fields {
    scratch: Vec<u8>,
    spans: Vec<(Span, Span)>,
}

/// One field; `None` is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl Fields {
    /// The fields in order; `block` is the one they were decoded from.
    pub(super) fn iter<'a>(&'a self, block: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
        let known = |span: Span| match self.text(span, block) {
            Text::Known(text) => Some(text),
            Text::Unknown { .. } => None,
        };
        self.spans.iter().map(move |(name, value)| Field {
            name: known(*name),
            value: known(*value),
        })
    }

    fn text<'a>(&'a self, span: Span, block: &'a [u8]) -> Text<'a> {
        match span {
            Span::Static(text) => Text::Known(text.as_bytes()),
            Span::Block { from, to } => Text::Known(block.get(from..to).unwrap_or_default()),
            Span::Scratch { from, to } => {
                Text::Known(self.scratch.get(from..to).unwrap_or_default())
            }
            Span::Unknown { bytes } => Text::Unknown { bytes },
        }
    }

    fn clear(&mut self) {
        self.spans.clear();
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
    }

    fn copy(&mut self, text: Text<'_>) -> Span {
        match text {
            Text::Known(text) if self.scratch.len() + text.len() <= COPIED_BYTES_MAX => {
                let from = self.scratch.len();
                self.scratch.extend_from_slice(text);
                Span::Scratch {
                    from,
                    to: self.scratch.len(),
                }
            }
            Text::Known(text) => Span::Unknown { bytes: text.len() },
            Text::Unknown { bytes } => Span::Unknown { bytes },
        }
    }
}

/// The decoder of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    table: DynamicTable,
    /// Every field that the encoder may refer to is in the table.
    complete: bool,
}

impl Decoder {
    /// A decoder that sees the first block of its direction, or one that joins later.
    pub(super) const fn new(from_start: bool) -> Self {
        // Who joins late does not know the agreed size; a table larger than the encoder's does no harm.
        let size = if from_start {
            TABLE_BYTES_DEFAULT
        } else {
            TABLE_BYTES_MAX
        };
        Self {
            table: DynamicTable::new(size),
            complete: from_start,
        }
    }

    /// Whether a block that does not decode is the sender's mistake rather than our ignorance.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// A block was missed: what is in the table is no longer what the encoder has.
    pub(super) fn distrust(&mut self) {
        *self = Self::new(false);
    }

    /// Decodes a whole block.
    ///
    /// # Errors
    /// [`Malformed`]; the table is then no longer the encoder's.
    pub(super) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), Malformed> {
        fields.clear();
        let mut reader = Reader { rest: block, block };
        let mut any_field = false;
        while let Some(first) = reader.next() {
            // The size of the table may change only in front of the fields (4.2).
            if first >> 5 == 0b001 {
                let size = reader.integer(first, 5)?;
                if any_field {
                    return Err(Malformed);
                }
                self.complete &= size <= TABLE_BYTES_MAX;
                self.table.resize(size.min(TABLE_BYTES_MAX));
                continue;
            }
            any_field = true;
            let field = self.field(first, &mut reader, fields)?;
            if fields.spans.len() < FIELDS_MAX {
                fields.spans.push(field);
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        first: u8,
        reader: &mut Reader<'_>,
        fields: &mut Fields,
    ) -> Result<(Span, Span), Malformed> {
        if first & 0x80 != 0 {
            let index = reader.integer(first, 7)?;
            return Ok((
                self.indexed(index, Part::Name, fields)?,
                self.indexed(index, Part::Value, fields)?,
            ));
        }
        let is_kept = first & 0x40 != 0;
        let name = match reader.integer(first, if is_kept { 6 } else { 4 })? {
            0 => reader.string(&mut fields.scratch)?,
            index => self.indexed(index, Part::Name, fields)?,
        };
        let value = reader.string(&mut fields.scratch)?;
        if is_kept {
            let text = |span| fields.text(span, reader.block);
            self.table.insert(text(name), text(value));
        }
        Ok((name, value))
    }

    fn indexed(&self, index: usize, part: Part, fields: &mut Fields) -> Result<Span, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC_TABLE.get(place) {
            return Ok(Span::Static(part.of(name, value)));
        }
        match self.table.get(place - STATIC_TABLE.len()) {
            Some((name, value)) => Ok(fields.copy(part.of(name, value))),
            None if self.complete => Err(Malformed),
            None => Ok(Span::Unknown { bytes: 0 }),
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Name,
    Value,
}

impl Part {
    fn of<T>(self, name: T, value: T) -> T {
        match self {
            Self::Name => name,
            Self::Value => value,
        }
    }
}

/// What is left of a block.
struct Reader<'b> {
    block: &'b [u8],
    rest: &'b [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        self.rest.split_off_first().copied()
    }

    /// An integer whose first byte has been read (5.1). More than 28 bits beyond the prefix are not believed.
    fn integer(&mut self, first: u8, prefix_bits: u32) -> Result<usize, Malformed> {
        let prefix_max = (1_usize << prefix_bits) - 1;
        let mut value = usize::from(first) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.next().ok_or(Malformed)?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A string literal (5.2).
    fn string(&mut self, scratch: &mut Vec<u8>) -> Result<Span, Malformed> {
        let first = self.next().ok_or(Malformed)?;
        let length = self.integer(first, 7)?;
        let from = self.block.len() - self.rest.len();
        let raw = self.rest.split_off(..length).ok_or(Malformed)?;
        if first & 0x80 == 0 {
            return Ok(if length <= STRING_BYTES_MAX {
                Span::Block {
                    from,
                    to: from + length,
                }
            } else {
                Span::Unknown { bytes: length }
            });
        }
        let from = scratch.len();
        let bytes = huffman::decode(raw, STRING_BYTES_MAX, scratch).ok_or(Malformed)?;
        if bytes <= STRING_BYTES_MAX {
            return Ok(Span::Scratch {
                from,
                to: scratch.len(),
            });
        }
        scratch.truncate(from);
        Ok(Span::Unknown { bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pairs = Vec<(String, String)>;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn pairs(lines: &[(&str, &str)]) -> Pairs {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        lines.iter().map(owned).collect()
    }

    fn try_decode(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Malformed> {
        let mut fields = Fields::default();
        decoder.decode(block, &mut fields)?;
        let text = |text: Option<&[u8]>| {
            text.map_or("(unknown)".to_owned(), |text| {
                String::from_utf8(text.to_vec()).unwrap()
            })
        };
        Ok(fields
            .iter(block)
            .map(|field| (text(field.name), text(field.value)))
            .collect())
    }

    fn decode(decoder: &mut Decoder, block: &str) -> Pairs {
        try_decode(decoder, &hex(block)).unwrap()
    }

    /// A block, its fields, and the table and its size after it.
    type Example<'a> = (
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a [(&'a str, &'a str)],
        usize,
    );

    /// Decodes the blocks of one connection.
    fn check(decoder: &mut Decoder, blocks: &[Example<'_>]) {
        for (block, fields, table, size) in blocks {
            assert_eq!(decode(decoder, block), pairs(fields), "{block}");
            assert_eq!(decoder.table.fields(), pairs(table), "{block}");
            assert_eq!(decoder.table.size(), *size, "{block}");
        }
    }

    #[test]
    fn c1_integers() {
        let integer = |bytes: &[u8], prefix| {
            let mut reader = Reader {
                block: bytes,
                rest: bytes,
            };
            let first = reader.next().unwrap();
            reader.integer(first, prefix)
        };
        assert_eq!(integer(&[0b1110_1010], 5), Ok(10));
        assert_eq!(
            integer(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5),
            Ok(1337)
        );
        assert_eq!(integer(&[0b0010_1010], 8), Ok(42));
        assert_eq!(integer(&[0b0001_1111], 5), Err(Malformed));
        assert_eq!(integer(&[0xff; 9], 5), Err(Malformed));
    }

    #[test]
    fn c2_single_fields() {
        let fresh = || Decoder::new(true);
        check(
            &mut fresh(),
            &[(
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                &[("custom-key", "custom-header")],
                &[("custom-key", "custom-header")],
                55,
            )],
        );
        check(
            &mut fresh(),
            &[(
                "040c 2f73 616d 706c 652f 7061 7468",
                &[(":path", "/sample/path")],
                &[],
                0,
            )],
        );
        check(
            &mut fresh(),
            &[(
                "1008 7061 7373 776f 7264 0673 6563 7265 74",
                &[("password", "secret")],
                &[],
                0,
            )],
        );
        check(&mut fresh(), &[("82", &[(":method", "GET")], &[], 0)]);
    }

    const AUTHORITY: (&str, &str) = (":authority", "www.example.com");
    const GET: (&str, &str) = (":method", "GET");
    const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
    const CUSTOM: (&str, &str) = ("custom-key", "custom-value");

    /// C.3 and C.4 differ in the Huffman code only.
    fn check_requests(blocks: [&str; 3]) {
        let first = [GET, (":scheme", "http"), (":path", "/"), AUTHORITY];
        let second = [
            GET,
            (":scheme", "http"),
            (":path", "/"),
            AUTHORITY,
            NO_CACHE,
        ];
        let third = [
            GET,
            (":scheme", "https"),
            (":path", "/index.html"),
            AUTHORITY,
            CUSTOM,
        ];
        check(
            &mut Decoder::new(true),
            &[
                (blocks[0], &first, &[AUTHORITY], 57),
                (blocks[1], &second, &[NO_CACHE, AUTHORITY], 110),
                (blocks[2], &third, &[CUSTOM, NO_CACHE, AUTHORITY], 164),
            ],
        );
    }

    #[test]
    fn c3_requests() {
        check_requests([
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ]);
    }

    #[test]
    fn c4_requests_with_huffman() {
        check_requests([
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ]);
    }

    const PRIVATE: (&str, &str) = ("cache-control", "private");
    const DATE_21: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    const DATE_22: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    const LOCATION: (&str, &str) = ("location", "https://www.example.com");
    const COOKIE: (&str, &str) = (
        "set-cookie",
        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    );
    const GZIP: (&str, &str) = ("content-encoding", "gzip");
    const S302: (&str, &str) = (":status", "302");
    const S307: (&str, &str) = (":status", "307");
    const S200: (&str, &str) = (":status", "200");

    /// C.5 and C.6: a table of 256 bytes, agreed on in SETTINGS.
    fn check_responses(blocks: [&str; 3]) {
        let mut decoder = Decoder::new(true);
        decoder.table.resize(256);
        check(
            &mut decoder,
            &[
                (
                    blocks[0],
                    &[S302, PRIVATE, DATE_21, LOCATION],
                    &[LOCATION, DATE_21, PRIVATE, S302],
                    222,
                ),
                (
                    blocks[1],
                    &[S307, PRIVATE, DATE_21, LOCATION],
                    &[S307, LOCATION, DATE_21, PRIVATE],
                    222,
                ),
                (
                    blocks[2],
                    &[S200, PRIVATE, DATE_22, LOCATION, GZIP, COOKIE],
                    &[COOKIE, GZIP, DATE_22],
                    215,
                ),
            ],
        );
    }

    #[test]
    fn c5_responses_with_evictions() {
        check_responses([
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e \
             3d31",
        ]);
    }

    #[test]
    fn c6_responses_with_huffman_and_evictions() {
        check_responses([
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ]);
    }

    #[test]
    fn what_was_sent_before_we_joined_is_unknown_and_what_comes_after_is_not() {
        let mut late = Decoder::new(false);
        let mut seen = decode(&mut late, "8286 84be 5808 6e6f 2d63 6163 6865");
        assert_eq!(
            seen.split_off(3),
            pairs(&[("(unknown)", "(unknown)"), NO_CACHE])
        );
        // 62 is the field just seen; 63 lies before our time; its name with a new value is half known.
        assert_eq!(
            decode(&mut late, "be bf 7f 00 01 61"),
            pairs(&[NO_CACHE, ("(unknown)", "(unknown)"), ("(unknown)", "a")])
        );
        assert_eq!(
            decode(&mut late, "be bf"),
            pairs(&[("(unknown)", "a"), NO_CACHE])
        );
        let mut from_start = Decoder::new(true);
        assert_eq!(
            try_decode(&mut from_start, &hex("8286 84be")),
            Err(Malformed)
        );
        from_start.distrust();
        assert_eq!(decode(&mut from_start, "be").len(), 1);
    }

    #[test]
    fn size_updates_are_honoured_in_front_of_the_fields_only() {
        let mut decoder = Decoder::new(true);
        decode(&mut decoder, "4001 6101 62");
        assert_eq!(decoder.table.fields().len(), 1);
        decode(&mut decoder, "20 3f e1 1f");
        assert_eq!(decoder.table.fields().len(), 0);
        decode(&mut decoder, "4001 6101 62");
        assert_eq!(decoder.table.fields().len(), 1);
        assert_eq!(try_decode(&mut decoder, &hex("82 20")), Err(Malformed));
        // 1 MiB: more than we keep, so that an index beyond our table is no longer an error.
        assert_eq!(try_decode(&mut decoder, &hex("c0")), Err(Malformed));
        decode(&mut decoder, "3f e1 ff 3f");
        assert_eq!(decode(&mut decoder, "c0").len(), 1);
    }

    #[test]
    fn long_strings_are_unknown_but_count_in_the_table() {
        let mut decoder = Decoder::new(false);
        let mut block = vec![0x40, 1, b'n', 0x7f];
        let length = STRING_BYTES_MAX + 1;
        let rest = length - 127;
        block.extend(
            [0x80 | (rest & 0x7f), 0x80 | (rest >> 7 & 0x7f), rest >> 14]
                .map(|byte| u8::try_from(byte).unwrap()),
        );
        block.extend(vec![b'v'; length]);
        assert_eq!(
            try_decode(&mut decoder, &block).unwrap(),
            pairs(&[("n", "(unknown)")])
        );
        assert_eq!(decoder.table.size(), 1 + length + 32);
        assert_eq!(decode(&mut decoder, "be"), pairs(&[("n", "(unknown)")]));
    }

    #[test]
    fn a_block_cannot_make_the_decoder_copy_without_bound() {
        let mut decoder = Decoder::new(true);
        let mut block = hex("4001 6e7f 81 17");
        block.extend(vec![b'v'; 127 + 0x01 + (0x17 << 7)]);
        block.extend(vec![0xbe; 10_000]);
        let mut fields = Fields::default();
        decoder.decode(&block, &mut fields).unwrap();
        assert_eq!(fields.iter(&block).count(), FIELDS_MAX);
        assert!(fields.scratch.len() <= COPIED_BYTES_MAX);
    }

    /// How the test encoder writes one field.
    #[derive(Clone, Debug)]
    struct Line {
        name: String,
        value: String,
        /// Literal with, without, never indexed, or by reference where the table has it.
        form: u8,
    }

    fn put_integer(out: &mut Vec<u8>, head: u8, prefix: u32, value: usize) {
        let max = (1_usize << prefix) - 1;
        if value < max {
            out.push(head | u8::try_from(value).unwrap());
            return;
        }
        out.push(head | u8::try_from(max).unwrap());
        let mut rest = value - max;
        while rest >= 128 {
            out.push(u8::try_from(rest & 127).unwrap() | 128);
            rest >>= 7;
        }
        out.push(u8::try_from(rest).unwrap());
    }

    fn put_text(out: &mut Vec<u8>, text: &str) {
        put_integer(out, 0, 7, text.len());
        out.extend_from_slice(text.as_bytes());
    }

    /// Encodes with a table of its own: a plain list of everything ever inserted, cut by size.
    fn encode(lines: &[Line], table: &mut Pairs) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            let pair = (line.name.clone(), line.value.clone());
            if let (3, Some(place)) = (line.form, table.iter().position(|known| *known == pair)) {
                put_integer(&mut out, 0x80, 7, place + 62);
                continue;
            }
            let (head, prefix) =
                [(0x40, 6), (0x00, 4), (0x10, 4), (0x40, 6)][usize::from(line.form)];
            if let Some(place) = table.iter().position(|known| known.0 == line.name) {
                put_integer(&mut out, head, prefix, place + 62);
            } else {
                out.push(head);
                put_text(&mut out, &line.name);
            }
            put_text(&mut out, &line.value);
            if head == 0x40 {
                table.insert(0, pair);
                let mut size = 0;
                let fitting = table.iter().take_while(|(name, value)| {
                    size += name.len() + value.len() + 32;
                    size <= TABLE_BYTES_DEFAULT
                });
                let fitting = fitting.count();
                table.truncate(fitting);
            }
        }
        out
    }

    fn lines() -> impl Strategy<Value = Vec<Line>> {
        let line = ("[a-z]{1,3}", "[ -~]{0,40}|v|w|[a-z]{900}", 0_u8..4)
            .prop_map(|(name, value, form)| Line { name, value, form });
        proptest::collection::vec(line, 0..12)
    }

    proptest! {
        #[test]
        fn every_representation_decodes(blocks in proptest::collection::vec(lines(), 1..12), skip in 0_usize..6) {
            let (mut table, mut decoder, mut late) = (Vec::new(), Decoder::new(true), Decoder::new(false));
            for (number, block) in blocks.iter().enumerate() {
                let bytes = encode(block, &mut table);
                let wanted: Pairs = block.iter().map(|line| (line.name.clone(), line.value.clone())).collect();
                prop_assert_eq!(&try_decode(&mut decoder, &bytes).unwrap(), &wanted);
                prop_assert_eq!(&decoder.table.fields(), &table);
                // Who joins late knows less, but nothing else.
                if number >= skip {
                    let seen = try_decode(&mut late, &bytes).unwrap();
                    prop_assert_eq!(seen.len(), wanted.len());
                    for (seen, wanted) in seen.into_iter().zip(wanted) {
                        prop_assert!(seen.0 == wanted.0 || seen.0 == "(unknown)");
                        prop_assert!(seen.1 == wanted.1 || seen.1 == "(unknown)");
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
            from_start in any::<bool>(),
        ) {
            let (mut decoder, mut fields) = (Decoder::new(from_start), Fields::default());
            for block in blocks {
                if decoder.decode(&block, &mut fields).is_err() {
                    decoder.distrust();
                }
            }
        }
    }
}

//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B), decoding only.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols. So the lengths
//! say everything, and a code longer than a byte is found by comparing numbers instead of walking a tree.

use std::sync::LazyLock;

/// Longest code, bits.
const CODE_BITS_MAX: u32 = 30;
/// The symbol that may never appear in a string; its code begins the padding.
const END_OF_STRING: u16 = 256;

/// Bits of the code of each symbol.
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30, // end of string
];

/// The codes of one length.
#[derive(Clone, Copy, Debug)]
struct Row {
    bits: u32,
    first_code: u32,
    codes: u32,
    /// Where the symbol of the first code stands in `Codes::symbols`.
    first_symbol: usize,
}

struct Codes {
    /// By the next eight bits: the symbol and the bits of its code, 0 bits where the code is longer.
    short: Vec<(u8, u32)>,
    /// The lengths above eight bits, shortest first.
    long: Vec<Row>,
    /// All symbols, by length of their code and then by number.
    symbols: Vec<u16>,
}

static CODES: LazyLock<Codes> = LazyLock::new(Codes::build);

impl Codes {
    fn build() -> Self {
        let mut codes = Self {
            short: Vec::with_capacity(256),
            long: Vec::new(),
            symbols: Vec::with_capacity(CODE_BITS.len()),
        };
        let mut next_code = 0_u32;
        for bits in 1..=CODE_BITS_MAX {
            next_code <<= 1;
            let mut row = Row {
                bits,
                first_code: next_code,
                codes: 0,
                first_symbol: codes.symbols.len(),
            };
            for (symbol, length) in (0_u16..).zip(CODE_BITS) {
                if u32::from(length) != bits {
                    continue;
                }
                codes.symbols.push(symbol);
                row.codes += 1;
                if let (Some(spare), Ok(symbol)) = (8_u32.checked_sub(bits), u8::try_from(symbol)) {
                    // Canonical codes ascend, so the table fills from the front.
                    codes
                        .short
                        .extend(std::iter::repeat_n((symbol, bits), 1 << spare));
                }
            }
            next_code += row.codes;
            if bits > 8 && row.codes > 0 {
                codes.long.push(row);
            }
        }
        codes.short.resize(256, (0, 0));
        codes
    }

    /// The symbol at the top of `window`, and the bits of its code.
    fn symbol(&self, window: u32) -> Option<(u16, u32)> {
        let (symbol, bits) = *self.short.get(usize::try_from(window >> 24).ok()?)?;
        if bits > 0 {
            return Some((u16::from(symbol), bits));
        }
        self.long.iter().find_map(|row| {
            let rank = (window >> (32 - row.bits)).checked_sub(row.first_code)?;
            let rank = (rank < row.codes).then_some(rank)?;
            let at = row.first_symbol + usize::try_from(rank).ok()?;
            Some((*self.symbols.get(at)?, row.bits))
        })
    }
}

/// Appends the decoded string to `out`, at most its first `keep` bytes, and returns its whole length. `None` when the
/// string is not one: an unfinished code, padding that is too long or not of ones, or the end-of-string symbol.
pub(super) fn decode(input: &[u8], keep: usize, out: &mut Vec<u8>) -> Option<usize> {
    let codes = &*CODES;
    let mut input = input.iter();
    // The next `held` bits of the string, from the top.
    let (mut window, mut held) = (0_u64, 0_u32);
    let mut length = 0_usize;
    loop {
        while held <= 56 {
            let Some(byte) = input.next() else { break };
            window |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        // At the end of the input fewer than eight ones are padding; no symbol has such a code.
        if held < 8 && window.leading_ones() >= held {
            return Some(length);
        }
        let (symbol, bits) = codes.symbol(u32::try_from(window >> 32).ok()?)?;
        if bits > held || symbol == END_OF_STRING {
            return None;
        }
        if length < keep {
            out.push(u8::try_from(symbol).ok()?);
        }
        length += 1;
        window <<= bits;
        held -= bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An encoder that shares nothing with the decoder but the lengths: codes by sorting.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let mut order: Vec<usize> = (0..257).collect();
        order.sort_by_key(|symbol| (CODE_BITS[*symbol], *symbol));
        let (mut codes, mut code, mut bits_before) = (vec![0_u64; 257], 0_u64, 5);
        for symbol in order {
            let bits = CODE_BITS[symbol];
            code <<= bits - bits_before;
            codes[symbol] = code;
            code += 1;
            bits_before = bits;
        }
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let length = CODE_BITS[usize::from(*byte)];
            bits.extend(
                (0..length)
                    .rev()
                    .map(|bit| codes[usize::from(*byte)] >> bit & 1 == 1),
            );
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8)
            .map(|byte| {
                byte.iter()
                    .fold(0, |value, bit| value << 1 | u8::from(*bit))
            })
            .collect()
    }

    fn decoded(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let length = decode(input, usize::MAX, &mut out)?;
        assert_eq!(length, out.len());
        Some(out)
    }

    #[test]
    fn the_lengths_make_a_complete_code() {
        let sum: u64 = CODE_BITS.iter().map(|bits| 1_u64 << (30 - bits)).sum();
        assert_eq!(sum, 1 << 30);
    }

    #[test]
    fn the_codes_are_those_of_appendix_b() {
        // One of every length, as printed in the appendix.
        let printed: [(u8, u32, u8); 21] = [
            (b'0', 0x0, 5),
            (b' ', 0x14, 6),
            (b':', 0x5c, 7),
            (b'&', 0xf8, 8),
            (b'?', 0x3fc, 10),
            (b'\'', 0x7fa, 11),
            (b'#', 0xffa, 12),
            (0, 0x1ff8, 13),
            (b'}', 0x3ffd, 14),
            (b'<', 0x7ffc, 15),
            (b'\\', 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (153, 0x001f_ffdc, 21),
            (129, 0x003f_ffd2, 22),
            (1, 0x007f_ffd8, 23),
            (9, 0x00ff_ffea, 24),
            (199, 0x01ff_ffec, 25),
            (192, 0x03ff_ffe0, 26),
            (203, 0x07ff_ffde, 27),
            (249, 0x0fff_fffe, 28),
            (22, 0x3fff_fffe, 30),
        ];
        for (byte, code, bits) in printed {
            let padded = (u64::from(code) << (40 - bits)) | ((1_u64 << (40 - bits)) - 1);
            let bytes = &padded.to_be_bytes()[3..3 + usize::from(bits).div_ceil(8)];
            assert_eq!(decoded(bytes), Some(vec![byte]), "{byte:#x}");
        }
    }

    #[test]
    fn wrong_endings_are_refused() {
        assert_eq!(decoded(&[]), Some(vec![]));
        assert_eq!(decoded(&[0b0000_0111]), Some(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), None, "padding with a zero");
        assert_eq!(decoded(&[0b0000_0000]), None, "an unfinished code");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), None, "padding of 11 bits");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "end of string");
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted_and_not_kept() {
        let mut out = Vec::new();
        assert_eq!(decode(&encode(b"abcdef"), 4, &mut out), Some(6));
        assert_eq!(out, b"abcd");
    }

    proptest! {
        #[test]
        fn any_string_survives(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(text) = decoded(&input) {
                // Only one encoding exists.
                prop_assert_eq!(encode(&text), input);
            }
        }
    }
}

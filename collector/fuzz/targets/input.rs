//! How an input is laid out: where the fuzzer cuts, and which bytes go which way.
//!
//! Two layouts. Text protocols: a line of cuts, then the streams, so that corpus files can be read and written with
//! an editor. Binary protocols: a line of cuts, then turns, each with its direction.

use collector::http::Side;

/// The longest piece; a record of the kernel carries no more.
const PIECE_BYTES_MAX: usize = 65_536;

/// Where streams are cut: piece lengths, used in turn; without any, a stream is one piece (of the longest length).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts<'a>(&'a [u8]);

impl<'a> Cuts<'a> {
    /// No cuts but those that the longest piece makes.
    pub(crate) const NONE: Self = Self(&[]);

    /// Splits an input into its first line, which says where to cut, and the rest. Without a line break all is rest.
    pub(crate) fn split(data: &'a [u8]) -> (Self, &'a [u8]) {
        let line = data.iter().position(|byte| *byte == b'\n');
        let parts = line.and_then(|end| Some((data.get(..end)?, data.get(end + 1..)?)));
        parts.map_or((Self::NONE, data), |(line, rest)| (Self(line), rest))
    }

    /// The pieces of a stream, in order; none is empty.
    pub(crate) fn pieces<'b>(
        self,
        stream: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
        let mut lengths = self.0.iter().cycle();
        let mut rest = stream;
        std::iter::from_fn(move || {
            let length = lengths
                .next()
                .map_or(PIECE_BYTES_MAX, |byte| length_of(*byte));
            let (piece, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// `!` is 1, `"` is 2 and so on to `~`, which is 94; what cannot be typed is 1 below and multiples of 512 above.
fn length_of(byte: u8) -> usize {
    match byte {
        0..=0x21 => 1,
        0x22..=0x7e => usize::from(byte - 0x20),
        0x7f.. => (usize::from(byte - 0x7e) * 512).min(PIECE_BYTES_MAX),
    }
}

/// The two streams of a text protocol: requests, then responses, with the byte 0x1e (record separator) between.
pub(crate) fn both_ways(data: &[u8]) -> (&[u8], &[u8]) {
    let middle = data.iter().position(|byte| *byte == 0x1e);
    let parts = middle.and_then(|at| Some((data.get(..at)?, data.get(at + 1..)?)));
    parts.unwrap_or((data, &[]))
}

/// The turns of a binary protocol: each is a byte (even: the client speaks, odd: the server), a length of two bytes
/// (little-endian), and as many bytes, or what is left.
pub(crate) fn turns(data: &[u8]) -> Vec<(Side, &[u8])> {
    let mut turns = Vec::new();
    let mut rest = data;
    while let [who, low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (said, after) = after.split_at(length.min(after.len()));
        let side = if who & 1 == 0 {
            Side::Request
        } else {
            Side::Response
        };
        turns.push((side, said));
        rest = after;
    }
    turns
}

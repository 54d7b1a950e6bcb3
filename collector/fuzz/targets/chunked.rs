//! `chunked`: a chunked response body, beside a plain reading of the grammar (RFC 9112, 7.1).
//!
//! What must hold: a well-formed body ends where the grammar says, however it is cut, also where the data of its
//! chunks was not captured; the next response is then found. Of other bodies only what `http1_head` asks.

use std::collections::VecDeque;

use collector::{http::Side, limits::CHUNK_LINE_BYTES_MAX};

use super::{
    http1::{Notes, Stretch, Told, decode, whole_stretches},
    input::Cuts,
};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A well-formed body: its length on the wire, and which stretches of it are data.
#[derive(Debug, Default)]
struct Reference {
    wire_bytes: usize,
    data: Vec<std::ops::Range<usize>>,
}

/// Reads a body strictly; `None` when it is not well-formed, or longer than our limits for lines allow.
fn read(body: &[u8]) -> Option<Reference> {
    let mut found = Reference::default();
    let mut at = 0;
    loop {
        let line = line(body, at)?;
        let size = chunk_size(line)?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        body.get(at..end)?;
        (body.get(end..end + 2)? == b"\r\n").then_some(())?;
        found.data.push(at..end);
        at = end + 2;
    }
    let trailer = at;
    loop {
        let line = line(body, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        (colon > 0).then_some(())?;
    }
    found.wire_bytes = at;
    (at - trailer <= CHUNK_LINE_BYTES_MAX).then_some(found)
}

/// The line that starts at `at`, without its CRLF; printable, and short enough.
fn line(body: &[u8], at: usize) -> Option<&[u8]> {
    let rest = body.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = rest.get(..length)?;
    let is_text = line
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    (is_text && length + 2 <= CHUNK_LINE_BYTES_MAX).then_some(line)
}

/// Hexadecimal digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, extension) = line.split_at_checked(digits)?;
    let extension = extension.trim_ascii_start();
    (extension.is_empty() || extension.starts_with(b";")).then_some(())?;
    let digits = std::str::from_utf8(digits).ok()?;
    // The standard bounds no digits; 15 of them always fit.
    (digits.len() <= 15).then(|| usize::from_str_radix(digits, 16).ok())?
}

/// Cuts a stream, and turns the end of a piece into a hole where it is data of a chunk and nothing else.
fn with_holes<'a>(
    cuts: Cuts<'a>,
    stream: &'a [u8],
    data: &[std::ops::Range<usize>],
) -> Vec<Stretch<'a>> {
    let mut at = 0;
    let mut pieces = Vec::new();
    for piece in cuts.pieces(stream) {
        let end = at + piece.len();
        let inside = data
            .iter()
            .find(|range| range.start < end && end <= range.end);
        let kept = inside.map_or(piece.len(), |range| range.start.max(at) - at);
        let (kept, hole) = piece.split_at(kept);
        pieces.push((kept, hole.len() as u64));
        at = end;
    }
    pieces
}

fn follow(pieces: &[Stretch<'_>]) -> Vec<Told> {
    let methods = VecDeque::from(["GET".to_owned(), "GET".to_owned()]);
    decode(Side::Response, pieces, Notes::answering(methods)).told
}

/// The target.
pub(super) fn run(data: &[u8]) {
    let (cuts, body) = Cuts::split(data);
    let Some(reference) = read(body) else {
        let stream = [HEAD, body].concat();
        let whole = follow(&whole_stretches(Cuts::NONE, &stream));
        let cut = follow(&whole_stretches(cuts, &stream));
        assert_eq!(
            whole, cut,
            "a body that is not well-formed changes with the cuts"
        );
        return;
    };
    let body = body.get(..reference.wire_bytes).unwrap_or_default();
    let stream = [HEAD, body, NEXT].concat();
    let shifted: Vec<_> = reference
        .data
        .iter()
        .map(|range| range.start + HEAD.len()..range.end + HEAD.len())
        .collect();
    let ways = [
        whole_stretches(Cuts::NONE, &stream),
        whole_stretches(cuts, &stream),
        with_holes(cuts, &stream, &shifted),
    ];
    for pieces in ways {
        let told = follow(&pieces);
        let bytes = (HEAD.len() + body.len()) as u64;
        let is_right = matches!(
            told.as_slice(),
            [
                Told::Response(200, ..),
                Told::Bytes(first),
                Told::End,
                Told::Response(204, ..),
                Told::Bytes(second),
                Told::End,
            ] if *first == bytes && *second == NEXT.len() as u64
        );
        assert!(
            is_right,
            "a body of {bytes} bytes with its head was told as {told:?}"
        );
    }
}

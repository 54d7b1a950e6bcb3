//! Frames written by hand, for the tests of this folder.

use crate::http2::frame_head::flag::{END_HEADERS, END_STREAM};

/// Any frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A HEADERS frame with a whole block.
pub(super) fn headers(stream: u32, block: &[u8], end_stream: bool) -> Vec<u8> {
    let flags = END_HEADERS | if end_stream { END_STREAM } else { 0 };
    frame(1, flags, stream, block)
}

/// A DATA frame.
pub(super) fn data(stream: u32, payload: &[u8], end_stream: bool) -> Vec<u8> {
    frame(0, if end_stream { END_STREAM } else { 0 }, stream, payload)
}

/// A block of literals that leave the table alone.
pub(super) fn plain(fields: &[(&str, &str)]) -> Vec<u8> {
    block_of(0x00, fields)
}

/// A block of literals that enter the table.
pub(super) fn kept(fields: &[(&str, &str)]) -> Vec<u8> {
    block_of(0x40, fields)
}

fn block_of(form: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(form);
        for text in [name, value] {
            out.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|length| *length < 127)
                    .unwrap(),
            );
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

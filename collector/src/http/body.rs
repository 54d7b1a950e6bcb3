//! Where a body ends: by length, by chunks, by the close of the connection, or never.

use crate::{http::head::Header, limits::CHUNK_LINE_BYTES_MAX};

/// How the end of a body is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(ChunkState),
    /// Until the sender closes.
    UntilClose,
    /// Bytes that are no longer HTTP: after an upgrade or a CONNECT.
    Tunnel,
    /// The length fields contradict each other or cannot be read.
    Invalid,
}

/// Position inside a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// In a size line; the size so far, the bytes of the line so far, and whether digits have ended.
    Size {
        /// Value of the hexadecimal digits so far.
        size: u64,
        /// Length of the line so far.
        line_bytes: usize,
        /// A `;` or blank was seen: the rest of the line is an extension.
        in_extension: bool,
    },
    /// In the data of a chunk, its closing line break included.
    Data(u64),
    /// In the trailer section; bytes of the current line (without its break), and of all of them.
    Trailer {
        /// Bytes of the current line other than CR and LF.
        line_bytes: usize,
        /// Bytes of the whole section so far.
        all_bytes: usize,
    },
}

/// What a piece of stream did to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The body goes on.
    More,
    /// The body ended; what is left of the piece belongs to the next message.
    Done,
    /// The end can no longer be found.
    Lost,
}

impl ChunkState {
    const fn start() -> Self {
        Self::Size {
            size: 0,
            line_bytes: 0,
            in_extension: false,
        }
    }
}

impl Framing {
    /// Framing of a request body, from its fields (RFC 9112, 6.3).
    pub fn of_request(headers: &[Header<'_>]) -> Self {
        Self::from_fields(headers).unwrap_or(Self::Length(0))
    }

    /// Framing of a response body. `method` is that of the request, when known.
    pub fn of_response(status: u16, method: Option<&str>, headers: &[Header<'_>]) -> Self {
        let is_success = (200..300).contains(&status);
        if status == 101 || (method == Some("CONNECT") && is_success) {
            return Self::Tunnel;
        }
        if method == Some("HEAD") || status < 200 || status == 204 || status == 304 {
            return Self::Length(0);
        }
        Self::from_fields(headers).unwrap_or(Self::UntilClose)
    }

    fn from_fields(headers: &[Header<'_>]) -> Option<Self> {
        let mut length = None;
        for header in headers {
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                let coding = String::from_utf8_lossy(header.value).to_ascii_lowercase();
                let last = coding.rsplit(',').next().unwrap_or_default().trim();
                return (last == "chunked").then_some(Self::Chunked(ChunkState::start()));
            }
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = std::str::from_utf8(header.value)
                    .ok()
                    .and_then(|text| text.trim().parse::<u64>().ok());
                match (value, length) {
                    (None, _) => return Some(Self::Invalid),
                    (Some(value), Some(earlier)) if value != earlier => return Some(Self::Invalid),
                    (Some(value), _) => length = Some(value),
                }
            }
        }
        length.map(Self::Length)
    }

    /// Consumes the body's share of a piece: `bytes` and then `hole` bytes without content.
    pub(super) fn consume(&mut self, bytes: &mut &[u8], hole: &mut u64) -> Progress {
        match self {
            Self::Length(left) => {
                take(left, bytes, hole);
                if *left == 0 {
                    Progress::Done
                } else {
                    Progress::More
                }
            }
            Self::UntilClose | Self::Tunnel => {
                *bytes = &[];
                *hole = 0;
                Progress::More
            }
            Self::Chunked(state) => consume_chunks(state, bytes, hole),
            Self::Invalid => Progress::Lost,
        }
    }

    /// Body bytes that are certain to follow and of no interest, for telling the kernel.
    pub const fn uninteresting_bytes(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(ChunkState::Data(left)) => *left,
            Self::Tunnel | Self::UntilClose => u64::MAX,
            Self::Chunked(_) | Self::Invalid => 0,
        }
    }
}

fn take(left: &mut u64, bytes: &mut &[u8], hole: &mut u64) {
    let from_bytes = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *bytes = bytes.get(from_bytes..).unwrap_or_default();
    *left -= from_bytes as u64;
    if bytes.is_empty() {
        let from_hole = (*left).min(*hole);
        *hole -= from_hole;
        *left -= from_hole;
    }
}

fn consume_chunks(state: &mut ChunkState, bytes: &mut &[u8], hole: &mut u64) -> Progress {
    loop {
        if let ChunkState::Data(left) = state {
            take(left, bytes, hole);
            if *left > 0 {
                return Progress::More;
            }
            *state = ChunkState::start();
        }
        let Some((byte, rest)) = bytes.split_first() else {
            // A hole where a size line or trailer should be: the framing is gone.
            return if *hole > 0 {
                Progress::Lost
            } else {
                Progress::More
            };
        };
        *bytes = rest;
        match step_line(state, *byte) {
            Progress::More => {}
            end @ (Progress::Done | Progress::Lost) => return end,
        }
    }
}

/// Feeds one byte of a size line or of the trailer section.
fn step_line(state: &mut ChunkState, byte: u8) -> Progress {
    match state {
        ChunkState::Size {
            size,
            line_bytes,
            in_extension,
        } => {
            *line_bytes += 1;
            if *line_bytes > CHUNK_LINE_BYTES_MAX {
                return Progress::Lost;
            }
            match (byte, char::from(byte).to_digit(16)) {
                (b'\n', _) if *line_bytes < 2 => return Progress::Lost,
                (b'\n', _) => {
                    *state = match *size {
                        0 => ChunkState::Trailer {
                            line_bytes: 0,
                            all_bytes: 0,
                        },
                        size => ChunkState::Data(size.saturating_add(2)),
                    };
                }
                (b'\r' | b';' | b' ' | b'\t', _) => *in_extension = true,
                (_, Some(digit)) if !*in_extension => match size.checked_mul(16) {
                    Some(shifted) => *size = shifted + u64::from(digit),
                    None => return Progress::Lost,
                },
                _ if *in_extension => {}
                _ => return Progress::Lost,
            }
            Progress::More
        }
        ChunkState::Trailer {
            line_bytes,
            all_bytes,
        } => {
            *all_bytes += 1;
            match byte {
                b'\n' if *line_bytes == 0 => return Progress::Done,
                b'\n' => *line_bytes = 0,
                b'\r' => {}
                _ => *line_bytes += 1,
            }
            if *all_bytes > CHUNK_LINE_BYTES_MAX {
                Progress::Lost
            } else {
                Progress::More
            }
        }
        ChunkState::Data(_) => Progress::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
        Header {
            name,
            value: value.as_bytes(),
        }
    }

    #[test]
    fn framing_follows_the_standard() {
        let length = [header("Content-Length", "12")];
        assert_eq!(
            Framing::of_response(200, Some("GET"), &length),
            Framing::Length(12)
        );
        assert_eq!(
            Framing::of_response(200, Some("HEAD"), &length),
            Framing::Length(0)
        );
        assert_eq!(
            Framing::of_response(304, Some("GET"), &length),
            Framing::Length(0)
        );
        assert_eq!(
            Framing::of_response(200, Some("GET"), &[]),
            Framing::UntilClose
        );
        assert_eq!(Framing::of_response(101, Some("GET"), &[]), Framing::Tunnel);
        assert_eq!(
            Framing::of_response(200, Some("CONNECT"), &[]),
            Framing::Tunnel
        );
        assert_eq!(Framing::of_request(&[]), Framing::Length(0));
        let both = [
            header("content-length", "3"),
            header("Transfer-Encoding", "gzip, chunked"),
        ];
        assert!(matches!(Framing::of_request(&both), Framing::Chunked(_)));
        let contradiction = [header("content-length", "3"), header("Content-Length", "4")];
        assert_eq!(Framing::of_request(&contradiction), Framing::Invalid);
    }

    #[test]
    fn chunks_end_where_they_end_however_they_are_cut() {
        let wire = b"4;name=v\r\nWiki\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1";
        for cut in 0..wire.len() {
            let mut framing = Framing::Chunked(ChunkState::start());
            let (left, right) = wire.split_at(cut);
            let mut rest: Vec<u8> = Vec::new();
            let mut done = false;
            for mut part in [left, right] {
                if !done {
                    done = framing.consume(&mut part, &mut 0) == Progress::Done;
                }
                rest.extend_from_slice(part);
            }
            assert!(done);
            assert_eq!(rest, b"HTTP/1.1", "cut at {cut}");
        }
    }

    #[test]
    fn a_hole_inside_chunk_data_is_harmless_and_elsewhere_is_a_loss() {
        let mut framing = Framing::Chunked(ChunkState::start());
        assert_eq!(
            framing.consume(&mut b"3E8\r\nabc".as_slice(), &mut 999),
            Progress::More
        );
        assert_eq!(
            framing.consume(&mut b"0\r\n\r\n".as_slice(), &mut 0),
            Progress::Done
        );
        let mut framing = Framing::Chunked(ChunkState::start());
        assert_eq!(
            framing.consume(&mut b"2\r\n".as_slice(), &mut 5),
            Progress::Lost
        );
    }
}

//! Message heads: finding their end, parsing them, and what they say about the body.

use std::mem::MaybeUninit;

use crate::{http::body::Framing, limits::HEADERS_MAX};

/// A header field as it lies in the head.
pub type Header<'a> = httparse::Header<'a>;

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// A token, as sent.
    pub method: &'a str,
    /// The request target, query string included.
    pub target: &'a str,
    /// 0 or 1: the minor version.
    pub minor_version: u8,
}

/// The first line of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine {
    /// 100 to 999.
    pub code: u16,
}

/// What the first bytes of a stream look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Could be a message of HTTP/1.x.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS record.
    Tls,
    /// Something else.
    Foreign,
}

/// The outcome of looking at a head that may still be incomplete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    /// The head ends at this many bytes.
    Complete(usize, T),
    /// More bytes are needed.
    Partial,
    /// Not a head.
    Malformed,
}

impl Start {
    /// Judges the first bytes of a request stream.
    pub fn of_request(bytes: &[u8]) -> Self {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
        let length = bytes.len().min(PREFACE.len());
        if length > 3 && bytes.get(..length) == PREFACE.get(..length) {
            return Self::Http2;
        }
        match bytes {
            [0x16, 0x03, ..] => Self::Tls,
            _ if looks_like_request(bytes) => Self::Http,
            _ => Self::Foreign,
        }
    }
}

/// A method token, a space, and a target that starts like one; a prefix of that is enough.
pub(super) fn looks_like_request(bytes: &[u8]) -> bool {
    const METHOD_BYTES_MAX: usize = 24;
    let bytes = trim_leading_newlines(bytes);
    let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
    match bytes.get(method) {
        None => method <= METHOD_BYTES_MAX,
        Some(b' ') => {
            let target_fits = bytes.get(method + 1).is_none_or(|byte| {
                matches!(byte, b'/' | b'*') || byte.is_ascii_alphanumeric() || *byte == b'['
            });
            method > 0 && method <= METHOD_BYTES_MAX && target_fits
        }
        Some(_) => false,
    }
}

/// `HTTP/1.` or a prefix of it.
pub(super) fn looks_like_response(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"HTTP/1.";
    let length = bytes.len().min(MARK.len());
    length > 0 && bytes.get(..length) == MARK.get(..length)
}

/// Empty lines before a request line are allowed and ignored (RFC 9112, 2.2).
pub(super) fn trim_leading_newlines(bytes: &[u8]) -> &[u8] {
    let blank = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    bytes.get(blank..).unwrap_or_default()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses a request head. `read` sees the line and the fields while the bytes are still borrowed.
pub(super) fn parse_request<R>(
    bytes: &[u8],
    read: impl FnOnce(RequestLine<'_>, &[Header<'_>]) -> R,
) -> Parsed<(Framing, R)> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Malformed,
        Ok(httparse::Status::Complete(length)) => {
            let (Some(method), Some(target), Some(minor_version)) =
                (request.method, request.path, request.version)
            else {
                return Parsed::Malformed;
            };
            let framing = Framing::of_request(request.headers);
            let line = RequestLine {
                method,
                target,
                minor_version,
            };
            Parsed::Complete(length, (framing, read(line, request.headers)))
        }
    }
}

/// Parses a response head; `read` as in [`parse_request`].
pub(super) fn parse_response<R>(
    bytes: &[u8],
    read: impl FnOnce(StatusLine, &[Header<'_>]) -> R,
) -> Parsed<R> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers) {
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Malformed,
        Ok(httparse::Status::Complete(length)) => match response.code {
            // The parser lets any three digits pass; below 100 there is no class of status.
            Some(code @ 100..) => {
                Parsed::Complete(length, read(StatusLine { code }, response.headers))
            }
            Some(_) | None => Parsed::Malformed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_protocols_apart() {
        assert_eq!(Start::of_request(b"G"), Start::Http);
        assert_eq!(Start::of_request(b"\r\nGET / HTTP/1.1"), Start::Http);
        assert_eq!(Start::of_request(b"PRI * HTTP/2.0\r\n\r\nSM"), Start::Http2);
        assert_eq!(Start::of_request(&[0x16, 3, 1, 2]), Start::Tls);
        assert_eq!(Start::of_request(&[0, 1, 2]), Start::Foreign);
        assert_eq!(Start::of_request(b"hello, world"), Start::Foreign);
    }

    #[test]
    fn a_head_that_is_not_whole_is_partial() {
        assert_eq!(
            parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n", |_, _| ()),
            Parsed::Partial
        );
        assert_eq!(
            parse_response(b"HTTP/1.1 200 OK\r\n\r", |line, _| line.code),
            Parsed::Partial
        );
        assert_eq!(
            parse_response(b"HTTP/1.1 204\r\n\r\n", |line, _| line.code),
            Parsed::Complete(16, 204)
        );
    }
}

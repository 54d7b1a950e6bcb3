//! What the fields of a header block mean: the pseudo fields, the status of gRPC, and the rest for the fact rules.

use super::hpack::Field;
use crate::http::Header;

/// A longer method is none.
const METHOD_BYTES_MAX: usize = 64;

/// A header block, read. Fields that are unknown or not allowed are missing.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Option<&'a str>,
    /// The request target, query string included.
    pub(super) target: Option<&'a str>,
    pub(super) status: Option<u16>,
    pub(super) grpc_status: Option<u32>,
    /// The content type is one of gRPC's.
    pub(super) is_grpc: bool,
    /// Not all of it is known.
    pub(super) is_vague: bool,
    /// It begins a message, or may do so; else these are trailers.
    pub(super) begins_message: bool,
    /// The ordinary fields, and `:authority` as `host` where there is none.
    pub(super) headers: Vec<Header<'a>>,
}

impl<'a> Head<'a> {
    /// Reads the fields of a block.
    pub(super) fn read(fields: impl Iterator<Item = Field<'a>>) -> Self {
        let mut head = Self {
            method: None,
            target: None,
            status: None,
            grpc_status: None,
            is_grpc: false,
            is_vague: false,
            begins_message: false,
            // An array for the most that a block may have is slower to fill than this is to allocate.
            headers: Vec::with_capacity(fields.size_hint().0 + 1),
        };
        let mut authority = None;
        let mut has_host = false;
        for (number, field) in fields.enumerate() {
            let name = field.name.map(std::str::from_utf8);
            let (Some(Ok(name)), Some(value)) = (name, field.value) else {
                head.is_vague = true;
                // Pseudo fields come first, and one of them always does.
                head.begins_message |= match field.name {
                    Some(name) => name.starts_with(b":"),
                    None => number == 0,
                };
                continue;
            };
            if name.starts_with(':') {
                head.begins_message = true;
                head.pseudo(name, value, &mut authority);
                continue;
            }
            match name {
                "grpc-status" => head.grpc_status = number_of(value),
                "content-type" => head.is_grpc = value.starts_with(b"application/grpc"),
                "host" => has_host = true,
                _ => {}
            }
            head.headers.push(Header { name, value });
        }
        if let Some(value) = authority.filter(|_| !has_host) {
            head.headers.push(Header {
                name: "host",
                value,
            });
        }
        head
    }

    fn pseudo(&mut self, name: &str, value: &'a [u8], authority: &mut Option<&'a [u8]>) {
        let text = std::str::from_utf8(value).ok();
        match name {
            ":method" => {
                let is_token = |text: &&str| {
                    !text.is_empty()
                        && text.len() <= METHOD_BYTES_MAX
                        && text.bytes().all(|byte| byte.is_ascii_graphic())
                };
                self.method = text.filter(is_token);
            }
            ":path" => self.target = text.filter(|text| !text.is_empty()),
            ":status" => {
                let status = number_of(value).and_then(|status| u16::try_from(status).ok());
                self.status = status.filter(|status| (100..=999).contains(status));
            }
            ":authority" => *authority = Some(value),
            _ => {}
        }
    }
}

/// A decimal number of at most nine digits.
fn number_of(value: &[u8]) -> Option<u32> {
    let digits = (1..=9).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(name: &'a str, value: &'a [u8]) -> Field<'a> {
        Field {
            name: Some(name.as_bytes()),
            value: Some(value),
        }
    }

    const UNKNOWN: Field<'static> = Field {
        name: None,
        value: None,
    };

    #[test]
    fn a_request_is_read_and_its_authority_is_the_host() {
        let fields = [
            field(":method", b"POST"),
            field(":path", b"/a?b"),
            field(":authority", b"shop"),
            field("content-type", b"application/grpc+proto"),
            field("x", b"\xff"),
        ];
        let head = Head::read(fields.into_iter());
        assert_eq!((head.method, head.target), (Some("POST"), Some("/a?b")));
        assert!(head.is_grpc && head.begins_message && !head.is_vague);
        let names: Vec<&str> = head.headers.iter().map(|header| header.name).collect();
        assert_eq!(names, ["content-type", "x", "host"]);
        let with_host = [field(":authority", b"a"), field("host", b"b")];
        let head = Head::read(with_host.into_iter());
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers[0].value, b"b");
    }

    #[test]
    fn values_that_are_none_are_missing() {
        for status in [&b"20"[..], b"2000", b"+20", b"2 0", b"", b"\xb2"] {
            let head = Head::read([field(":status", status)].into_iter());
            assert_eq!(head.status, None, "{status:?}");
        }
        let fields = [field(":method", b"G\0T"), field(":path", b"\xff")];
        let head = Head::read(fields.into_iter());
        assert_eq!((head.method, head.target), (None, None));
    }

    #[test]
    fn trailers_are_told_from_heads_as_far_as_possible() {
        let begins = |fields: &[Field<'static>]| Head::read(fields.iter().copied()).begins_message;
        assert!(!begins(&[field("grpc-status", b"0")]));
        assert!(!begins(&[field("grpc-message", b""), UNKNOWN]));
        assert!(begins(&[field(":status", b"200"), UNKNOWN]));
        assert!(begins(&[UNKNOWN]), "it may be a method");
    }
}

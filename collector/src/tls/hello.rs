//! Handshake messages: put together from the bytes of records, and the plaintext ones read.
//!
//! Owns: the layout of `ClientHello` and `ServerHello`, the numbers of versions and alerts. Refuses: every
//! other message (its type is told, its body passed over: certificates are never kept), and judging what the
//! messages mean for the connection.

/// Message type of a `ClientHello`.
pub const CLIENT_HELLO: u8 = 1;
/// Message type of a `ServerHello` or `HelloRetryRequest`.
pub const SERVER_HELLO: u8 = 2;
/// Message type of a `ServerHelloDone`, which ends the server's first flight of a full handshake up to TLS 1.2.
pub const SERVER_HELLO_DONE: u8 = 14;

/// A longer hello is not kept; its length is still followed.
const HELLO_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a DNS host.
const HOST_BYTES_MAX: usize = 255;
/// Longest label of one.
const LABEL_BYTES_MAX: usize = 63;
/// Offered application protocols kept; further ones are passed over.
const ALPN_NAMES_MAX: usize = 16;
/// Longest protocol name kept; the longest registered one has 22 bytes.
const ALPN_BYTES_MAX: usize = 64;

/// The random that turns a `ServerHello` into a `HelloRetryRequest` (RFC 8446, section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const ALPN: u16 = 16;
    pub(super) const PRE_SHARED_KEY: u16 = 41;
    pub(super) const EARLY_DATA: u16 = 42;
    pub(super) const SUPPORTED_VERSIONS: u16 = 43;
}

/// A protocol version the two ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// SSL 3.0.
    Ssl30,
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// The version behind the two bytes on the wire; `None` for drafts and unknown ones.
    pub const fn from_wire(value: u16) -> Option<Self> {
        match value {
            0x0300 => Some(Self::Ssl30),
            0x0301 => Some(Self::Tls10),
            0x0302 => Some(Self::Tls11),
            0x0303 => Some(Self::Tls12),
            0x0304 => Some(Self::Tls13),
            _ => None,
        }
    }

    /// A short name for labels, such as `tls1.3`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssl30 => "ssl3.0",
            Self::Tls10 => "tls1.0",
            Self::Tls11 => "tls1.1",
            Self::Tls12 => "tls1.2",
            Self::Tls13 => "tls1.3",
        }
    }
}

/// What a client offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host asked for, in lower case; absent when none or no valid host name was sent.
    pub server_name: Option<String>,
    /// Application protocols offered, the preferred first; at most 16, only those in printable ASCII.
    pub alpn_offered: Vec<String>,
    /// Data may follow before the server has answered.
    pub early_data: bool,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version chosen, `None` when it is not one of ours.
    pub version: Option<TlsVersion>,
    /// The cipher suite chosen.
    pub cipher_suite: u16,
    /// The application protocol chosen, up to TLS 1.2.
    pub alpn: Option<String>,
    /// The server accepted a pre-shared key (TLS 1.3).
    pub pre_shared_key: bool,
    /// This is a `HelloRetryRequest`: the client has to begin again.
    pub retry: bool,
}

impl ClientHello {
    /// Reads the body of the message; `None` when a length in it does not fit.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        fields.take(2 + 32)?; // legacy version, random
        fields.short_list()?; // session id
        fields.list()?; // cipher suites
        fields.short_list()?; // compression methods
        let mut hello = Self::default();
        fields.extensions(|kind, data| {
            match kind {
                extension::SERVER_NAME => hello.server_name = host_name(data),
                extension::ALPN => hello.alpn_offered = protocols(data),
                extension::EARLY_DATA => hello.early_data = true,
                _ => {}
            }
            Some(())
        })?;
        Some(hello)
    }
}

impl ServerHello {
    /// Reads the body of the message; `None` when a length in it does not fit.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let legacy_version = fields.number()?;
        let retry = fields.take(32)? == RETRY_RANDOM;
        fields.short_list()?; // session id
        let cipher_suite = fields.number()?;
        fields.take(1)?; // compression method
        let mut hello = Self {
            version: TlsVersion::from_wire(legacy_version),
            cipher_suite,
            alpn: None,
            pre_shared_key: false,
            retry,
        };
        fields.extensions(|kind, data| {
            match kind {
                extension::ALPN => hello.alpn = protocols(data).pop(),
                extension::PRE_SHARED_KEY => hello.pre_shared_key = true,
                extension::SUPPORTED_VERSIONS => {
                    hello.version = TlsVersion::from_wire(Fields(data).number()?);
                }
                _ => {}
            }
            Some(())
        })?;
        Some(hello)
    }
}

/// The name RFC 8446 (section 6) or an older version gives an alert, for labels.
pub const fn alert_name(code: u8) -> &'static str {
    match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        255 => "encrypted_alert",
        _ => "unknown_alert",
    }
}

/// One handshake message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: u8,
    /// The body of a hello of at most 64 KiB, complete. Absent for all others, which are told when their
    /// header has been read.
    pub body: Option<Vec<u8>>,
}

/// Puts the handshake messages of one direction together, over the borders of records.
#[derive(Debug)]
pub struct Messages(Assembly);

#[derive(Debug)]
enum Assembly {
    /// Inside a message header: its first `have` bytes, the newest lowest.
    Header { kept: u32, have: u8 },
    /// Inside a hello.
    Kept {
        kind: u8,
        length: usize,
        body: Vec<u8>,
    },
    /// Inside any other message.
    Skipped { left: usize },
}

impl Assembly {
    const START: Self = Self::Header { kept: 0, have: 0 };
}

impl Default for Messages {
    fn default() -> Self {
        Self(Assembly::START)
    }
}

impl Messages {
    /// Takes bytes off the front of `bytes` until a message is known; `None` when all are used up.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Message> {
        loop {
            match &mut self.0 {
                Assembly::Header { kept, have } => {
                    let (byte, rest) = bytes.split_first()?;
                    *bytes = rest;
                    *kept = *kept << 8 | u32::from(*byte);
                    *have += 1;
                    if *have == 4 {
                        let [kind, length @ ..] = kept.to_be_bytes();
                        if let Some(message) = self.enter(kind, length) {
                            return Some(message);
                        }
                    }
                }
                Assembly::Kept { kind, length, body } => {
                    body.extend_from_slice(front(bytes, length.saturating_sub(body.len())));
                    if body.len() < *length {
                        return None;
                    }
                    let message = Message {
                        kind: *kind,
                        body: Some(std::mem::take(body)),
                    };
                    self.0 = Assembly::START;
                    return Some(message);
                }
                Assembly::Skipped { left } => {
                    *left -= front(bytes, *left).len();
                    if *left > 0 {
                        return None;
                    }
                    self.0 = Assembly::START;
                }
            }
        }
    }

    /// Passes over bytes that were not captured. `false` when they cover more than the body of a message
    /// nobody reads: from then on the messages cannot be followed.
    pub fn skip(&mut self, hole: u64) -> bool {
        let Assembly::Skipped { left } = &mut self.0 else {
            return false;
        };
        let rest = usize::try_from(hole)
            .ok()
            .and_then(|hole| left.checked_sub(hole));
        *left = rest.unwrap_or(0);
        rest.is_some()
    }

    fn enter(&mut self, kind: u8, [high, middle, low]: [u8; 3]) -> Option<Message> {
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, CLIENT_HELLO | SERVER_HELLO) && length <= HELLO_BYTES_MAX {
            let body = Vec::new();
            self.0 = Assembly::Kept { kind, length, body };
            return None;
        }
        self.0 = Assembly::Skipped { left: length };
        Some(Message { kind, body: None })
    }
}

/// Cuts off and returns at most `count` bytes.
fn front<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(count).unwrap_or((*bytes, &[]));
    *bytes = rest;
    taken
}

/// The fields of a message in their order, every length checked.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// A stretch behind a length of one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    /// A stretch behind a length of two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// Passes on type and data of each extension. Hellos from before RFC 4366 end without a list of them.
    fn extensions(&mut self, mut pass: impl FnMut(u16, &'a [u8]) -> Option<()>) -> Option<()> {
        if self.0.is_empty() {
            return Some(());
        }
        let mut list = Fields(self.list()?);
        while !list.0.is_empty() {
            let kind = list.number()?;
            pass(kind, list.list()?)?;
        }
        Some(())
    }
}

/// The first host name of a `server_name` extension, if it is one.
fn host_name(data: &[u8]) -> Option<String> {
    let mut list = Fields(Fields(data).list()?);
    let [0] = list.take(1)? else { return None };
    let name = list.list()?;
    let valid = (1..=HOST_BYTES_MAX).contains(&name.len())
        && name.split(|byte| *byte == b'.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
    let name = std::str::from_utf8(name).ok().filter(|_| valid)?;
    Some(name.to_ascii_lowercase())
}

/// The names of an ALPN extension, without what does not print and without the reserved values of RFC 8701,
/// which clients mix in so that servers stay tolerant.
fn protocols(data: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut list = Fields(Fields(data).list().unwrap_or_default());
    while let Some(name) = list.short_list() {
        let reserved = matches!(name, [a, b] if a == b && a & 0x0f == 0x0a);
        let prints = name.iter().all(u8::is_ascii_graphic);
        if prints && !reserved && (1..=ALPN_BYTES_MAX).contains(&name.len()) {
            names.extend(std::str::from_utf8(name).map(str::to_owned));
        }
        if names.len() == ALPN_NAMES_MAX {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Puts a length in front, `width` bytes wide.
    fn sized(width: usize, content: &[u8]) -> Vec<u8> {
        let mut out = content.len().to_be_bytes()[size_of::<usize>() - width..].to_vec();
        out.extend_from_slice(content);
        out
    }

    fn extension_of(kind: u16, data: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), sized(2, data)].concat()
    }

    fn client_hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3; 34];
        body.extend(sized(1, &[9; 32]));
        body.extend(sized(2, &[0x13, 1, 0x13, 2]));
        body.extend(sized(1, &[0]));
        body.extend(sized(2, extensions));
        body
    }

    fn server_name(host: &[u8]) -> Vec<u8> {
        let entry = [vec![0], sized(2, host)].concat();
        extension_of(extension::SERVER_NAME, &sized(2, &entry))
    }

    fn alpn(names: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|name| sized(1, name)).collect();
        extension_of(extension::ALPN, &sized(2, &list))
    }

    fn server_hello(random: [u8; 32], extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend(random);
        body.extend(sized(1, &[]));
        body.extend([0xc0, 0x2c, 0]);
        body.extend(extensions.map(|list| sized(2, list)).unwrap_or_default());
        body
    }

    #[test]
    fn a_client_hello_gives_host_protocols_and_early_data() {
        let extensions = [
            extension_of(0x2a2a, &[]),
            server_name(b"Shop.Test"),
            alpn(&[b"\x2a\x2a", b"h2", b"", b"\xff", b"http/1.1", &[b'x'; 65]]),
            extension_of(extension::EARLY_DATA, &[]),
        ]
        .concat();
        let hello = ClientHello::parse(&client_hello(&extensions)).unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("shop.test"));
        assert_eq!(hello.alpn_offered, ["h2", "http/1.1"]);
        assert!(hello.early_data);
    }

    #[test]
    fn only_host_names_are_taken_for_host_names() {
        let long = [[b'a'; 63].as_slice(); 4].join(&b'.');
        let too_long = [[b'a'; 63].as_slice(); 5].join(&b'.');
        let taken: [&[u8]; 4] = [b"a", b"a-b_c.example", b"10.0.0.1", &long];
        let passed_over: [&[u8]; 8] = [
            b"",
            b".",
            b"a..b",
            b"a.",
            b"sp ace",
            b"nul\0",
            "b\u{fc}cher.test".as_bytes(),
            &too_long,
        ];
        for host in taken {
            let hello = ClientHello::parse(&client_hello(&server_name(host))).unwrap();
            assert_eq!(hello.server_name.unwrap().as_bytes(), host);
        }
        for host in passed_over.into_iter().chain([[b'a'; 64].as_slice()]) {
            let hello = ClientHello::parse(&client_hello(&server_name(host))).unwrap();
            assert_eq!(hello.server_name, None, "{host:?}");
        }
    }

    #[test]
    fn a_name_of_another_type_is_no_host_name() {
        let list = sized(2, &[vec![1], sized(2, b"shop.test")].concat());
        let extension = extension_of(extension::SERVER_NAME, &list);
        let hello = ClientHello::parse(&client_hello(&extension)).unwrap();
        assert_eq!(hello.server_name, None);
    }

    #[test]
    fn offered_protocols_are_bounded() {
        let hello = ClientHello::parse(&client_hello(&alpn(&[b"p".as_slice(); 40]))).unwrap();
        assert_eq!(hello.alpn_offered.len(), ALPN_NAMES_MAX);
    }

    #[test]
    fn a_cut_hello_is_no_hello_unless_it_is_cut_before_its_extensions() {
        let bare = client_hello(&[]).len() - 2;
        let body = client_hello(&[server_name(b"shop.test"), alpn(&[b"h2"])].concat());
        for length in 0..body.len() {
            let parsed = ClientHello::parse(&body[..length]);
            assert_eq!(parsed.is_some(), length == bare, "{length}");
        }
        let body = server_hello([0; 32], Some(&alpn(&[b"h2"])));
        for length in 0..body.len() {
            let parsed = ServerHello::parse(&body[..length]);
            assert_eq!(parsed.is_some(), length == 38, "{length}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_extension_if_there_is_one() {
        let hello = ServerHello::parse(&server_hello([0; 32], None)).unwrap();
        assert_eq!(hello.version, Some(TlsVersion::Tls12));
        assert_eq!((hello.cipher_suite, hello.retry), (0xc02c, false));

        for (wire, version) in [([3, 4], Some(TlsVersion::Tls13)), ([0x7f, 28], None)] {
            let extensions = [
                extension_of(extension::SUPPORTED_VERSIONS, &wire),
                extension_of(extension::PRE_SHARED_KEY, &[0, 0]),
                alpn(&[b"h2"]),
            ]
            .concat();
            let body = server_hello(RETRY_RANDOM, Some(&extensions));
            let hello = ServerHello::parse(&body).unwrap();
            assert_eq!(hello.version, version);
            assert_eq!(hello.alpn.as_deref(), Some("h2"));
            assert!(hello.retry && hello.pre_shared_key);
        }
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [vec![kind], sized(3, body)].concat()
    }

    #[test]
    fn uncaptured_bytes_are_passed_over_inside_a_body_nobody_reads() {
        let mut messages = Messages::default();
        let bytes = message(11, &[1; 100]);
        let told = messages.next(&mut &bytes[..14]).unwrap();
        assert_eq!((told.kind, told.body), (11, None));
        assert_eq!(messages.next(&mut &bytes[4..14]), None);
        assert!(messages.skip(90));
        assert!(!messages.skip(1), "beyond the message");

        let mut messages = Messages::default();
        assert_eq!(messages.next(&mut &message(1, &[1; 100])[..50]), None);
        assert!(!messages.skip(1), "inside a hello");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(sizes in proptest::collection::vec(1_usize..30, 1..20)) {
            let stream = [
                message(SERVER_HELLO, b"server hello"),
                message(11, &vec![2; 70_000]),
                message(SERVER_HELLO_DONE, b""),
                message(CLIENT_HELLO, b""),
                message(CLIENT_HELLO, &vec![1; 70_000]),
                message(CLIENT_HELLO, b"client hello"),
            ]
            .concat();
            let (mut messages, mut told) = (Messages::default(), Vec::new());
            let mut rest = stream.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let mut piece = front(&mut rest, *size);
                while let Some(Message { kind, body }) = messages.next(&mut piece) {
                    told.push((kind, body.map(|body| String::from_utf8(body).unwrap())));
                }
            }
            let expected = [
                (SERVER_HELLO, Some("server hello")),
                (11, None),
                (SERVER_HELLO_DONE, None),
                (CLIENT_HELLO, Some("")),
                (CLIENT_HELLO, None),
                (CLIENT_HELLO, Some("client hello")),
            ];
            prop_assert_eq!(told, expected.map(|(kind, body)| (kind, body.map(str::to_owned))));
        }

        #[test]
        fn any_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop((ClientHello::parse(&body), ServerHello::parse(&body)));
        }
    }
}

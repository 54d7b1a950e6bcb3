//! Cuts one direction of a TLS connection into records.
//!
//! Owns: where each record starts and ends, and finding a start again after a loss. Refuses: keeping bodies
//! (what is held between two pieces is a record header and the first byte of an alert), putting handshake
//! messages together, and knowing which side it reads.

use crate::tcp::Piece;

const HEADER_BYTES: u8 = 5;
/// Largest body of a protected record: TLS 1.2 allows 2,048 bytes of expansion, TLS 1.3 only 256.
const BODY_BYTES_MAX: u16 = 16_384 + 2_048;
/// The same where a record start is guessed: every stack in use today stays below it.
const RESYNC_BODY_BYTES_MAX: u16 = 16_384 + 256;

/// What is on the wire, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordEvent<'a> {
    /// The next bytes of handshake records, cut anywhere; ciphertext once this side has changed its keys.
    Handshake(&'a [u8]),
    /// Bytes of a handshake record that were not captured.
    HandshakeHole(u64),
    /// A record of type `change_cipher_spec` starts.
    ChangeCipherSpec,
    /// An alert in plaintext.
    Alert {
        /// 1 is a warning, 2 is fatal.
        level: u8,
        /// The description of RFC 8446, section 6.
        code: u8,
    },
    /// An alert that cannot be read: encrypted, or not captured.
    OpaqueAlert,
    /// A record of type `application_data` starts; its body is this long.
    ApplicationData {
        /// Bytes of the body as its header tells them.
        bytes: u64,
    },
    /// The position in the stream is gone; a record start is looked for from here on.
    Lost,
    /// A stream followed from its first byte is not (or no longer) TLS; the rest of it is ignored.
    NotTls,
}

/// Body lengths by which encrypted records of TLS 1.3 are told apart, as long as the sender does not pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedSizes {
    /// Of an alert.
    pub alert_bytes: u64,
    /// Of a `Finished` alone in its record.
    pub finished_bytes: u64,
}

impl EncryptedSizes {
    /// The sizes under a cipher suite: content, one byte of content type, tag.
    pub const fn of(cipher_suite: Option<u16>) -> Self {
        const TLS_AES_256_GCM_SHA384: u16 = 0x1302;
        const TLS_AES_128_CCM_8_SHA256: u16 = 0x1305;
        let (hash, tag) = match cipher_suite {
            Some(TLS_AES_256_GCM_SHA384) => (48, 16),
            Some(TLS_AES_128_CCM_8_SHA256) => (32, 8),
            Some(_) | None => (32, 16),
        };
        Self {
            alert_bytes: 2 + 1 + tag,
            finished_bytes: 4 + hash + 1 + tag,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
    Heartbeat,
}

#[derive(Debug)]
enum State {
    /// Inside a record header: its first `have` bytes, the newest lowest.
    Header {
        kept: u64,
        have: u8,
    },
    Body {
        content: ContentType,
        left: u64,
    },
    /// Inside an alert of exactly two bytes.
    Alert {
        level: Option<u8>,
    },
    /// Looking for a piece that starts with a record.
    Searching,
    Ignoring,
}

/// The record reader of one direction.
#[derive(Debug)]
pub struct RecordCutter {
    state: State,
    /// Every byte since the first one of the connection was followed.
    intact: bool,
    any_record: bool,
}

impl ContentType {
    const fn from_wire(value: u8) -> Option<Self> {
        match value {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            24 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

impl State {
    const START: Self = Self::Header { kept: 0, have: 0 };
}

impl RecordCutter {
    /// A reader at the start of the stream, or in the middle of one that began before we looked.
    pub const fn new(from_start: bool) -> Self {
        Self {
            state: if from_start {
                State::START
            } else {
                State::Searching
            },
            intact: from_start,
            any_record: false,
        }
    }

    /// Whether at least one record header was read.
    pub const fn any_record(&self) -> bool {
        self.any_record
    }

    /// Bytes that are certain to follow and of no interest: the rest of an application-data record, or
    /// everything (`u64::MAX`) once the stream has turned out not to be TLS.
    pub const fn uninteresting_bytes(&self) -> u64 {
        match &self.state {
            State::Body {
                content: ContentType::ApplicationData,
                left,
            } => *left,
            State::Ignoring => u64::MAX,
            State::Header { .. } | State::Body { .. } | State::Alert { .. } | State::Searching => 0,
        }
    }

    /// Takes the next stretch of the stream.
    pub fn feed(&mut self, piece: Piece<'_>, mut pass: impl FnMut(RecordEvent<'_>)) {
        if piece.lost {
            self.lose(&mut pass);
            return;
        }
        if matches!(self.state, State::Searching) && looks_like_record(piece.bytes) {
            self.state = State::START;
        }
        let (mut bytes, mut hole) = (piece.bytes, piece.hole);
        while !bytes.is_empty() || hole > 0 {
            match &mut self.state {
                State::Searching | State::Ignoring => return,
                State::Header { .. } | State::Alert { .. } => match bytes.split_first() {
                    Some((byte, rest)) => {
                        bytes = rest;
                        self.byte(*byte, &mut pass);
                    }
                    None => hole = self.hole_in_fixed_part(hole, &mut pass),
                },
                State::Body { content, left } => {
                    Self::body(*content, left, &mut bytes, &mut hole, &mut pass);
                    if *left == 0 {
                        self.state = State::START;
                    }
                }
            }
        }
    }

    fn lose(&mut self, pass: &mut impl FnMut(RecordEvent<'_>)) {
        if !matches!(self.state, State::Ignoring) {
            self.state = State::Searching;
            self.intact = false;
            pass(RecordEvent::Lost);
        }
    }

    /// One byte of a header or of a two-byte alert.
    fn byte(&mut self, byte: u8, pass: &mut impl FnMut(RecordEvent<'_>)) {
        match self.state {
            State::Header { kept, have } => {
                let (kept, have) = (kept << 8 | u64::from(byte), have + 1);
                self.state = State::Header { kept, have };
                self.header(kept, have, pass);
            }
            State::Alert { level: None } => self.state = State::Alert { level: Some(byte) },
            State::Alert { level: Some(level) } => {
                self.state = State::START;
                pass(RecordEvent::Alert { level, code: byte });
            }
            State::Body { .. } | State::Searching | State::Ignoring => {}
        }
    }

    /// Judges a header after each of its bytes, so that a short greeting of another protocol is told apart
    /// although it never fills one.
    fn header(&mut self, kept: u64, have: u8, pass: &mut impl FnMut(RecordEvent<'_>)) {
        let aligned = kept << (8 * u32::from(HEADER_BYTES.saturating_sub(have)));
        let [_, _, _, kind, major, minor, high, low] = aligned.to_be_bytes();
        let length = u16::from_be_bytes([high, low]);
        let complete = have == HEADER_BYTES;
        let first = self.intact && !self.any_record;
        let fits = (have < 2 || major == 3)
            && minor <= 4
            && length <= BODY_BYTES_MAX
            && !(first && complete && length == 0);
        let content = ContentType::from_wire(kind).filter(|content| {
            // Nothing but a hello or a refusal can open a connection.
            !first || matches!(content, ContentType::Handshake | ContentType::Alert)
        });
        let Some(content) = content.filter(|_| fits) else {
            self.foreign(pass);
            return;
        };
        if complete {
            self.any_record = true;
            self.enter(content, length, pass);
        }
    }

    fn foreign(&mut self, pass: &mut impl FnMut(RecordEvent<'_>)) {
        if self.intact {
            self.state = State::Ignoring;
            pass(RecordEvent::NotTls);
        } else {
            self.lose(pass);
        }
    }

    fn enter(&mut self, content: ContentType, length: u16, pass: &mut impl FnMut(RecordEvent<'_>)) {
        let left = u64::from(length);
        self.state = if content == ContentType::Alert && left == 2 {
            State::Alert { level: None }
        } else if left == 0 {
            State::START
        } else {
            State::Body { content, left }
        };
        match content {
            ContentType::ChangeCipherSpec => pass(RecordEvent::ChangeCipherSpec),
            ContentType::ApplicationData => pass(RecordEvent::ApplicationData { bytes: left }),
            ContentType::Alert if left != 2 => pass(RecordEvent::OpaqueAlert),
            ContentType::Alert | ContentType::Handshake | ContentType::Heartbeat => {}
        }
    }

    /// A hole that starts in a header or a plaintext alert; returns what of it remains to be followed.
    fn hole_in_fixed_part(&mut self, hole: u64, pass: &mut impl FnMut(RecordEvent<'_>)) -> u64 {
        let rest = match self.state {
            State::Alert { level } => hole.checked_sub(2 - u64::from(level.is_some())),
            State::Header { .. } | State::Body { .. } | State::Searching | State::Ignoring => None,
        };
        if rest.is_some() {
            self.state = State::START;
            pass(RecordEvent::OpaqueAlert);
        } else {
            self.lose(pass);
        }
        rest.unwrap_or(0)
    }

    fn body(
        content: ContentType,
        left: &mut u64,
        bytes: &mut &[u8],
        hole: &mut u64,
        pass: &mut impl FnMut(RecordEvent<'_>),
    ) {
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
        let (body, rest) = bytes.split_at_checked(wanted).unwrap_or((*bytes, &[]));
        *bytes = rest;
        *left = left.saturating_sub(body.len() as u64);
        if content == ContentType::Handshake && !body.is_empty() {
            pass(RecordEvent::Handshake(body));
        }
        if bytes.is_empty() {
            let covered = (*left).min(*hole);
            *left -= covered;
            *hole -= covered;
            if content == ContentType::Handshake && covered > 0 {
                pass(RecordEvent::HandshakeHole(covered));
            }
        }
    }
}

/// Whether a piece starts like a record of TLS 1.0 to 1.3. Stricter than in order: five bytes must convince.
pub(crate) fn looks_like_record(bytes: &[u8]) -> bool {
    let Some([kind, major, minor, high, low]) = bytes.first_chunk::<5>() else {
        return false;
    };
    let length = u16::from_be_bytes([*high, *low]);
    (20..=23).contains(kind)
        && *major == 3
        && (1..=4).contains(minor)
        && (1..=RESYNC_BODY_BYTES_MAX).contains(&length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::MonotonicNs;

    /// Plays `(bytes, hole, lost)` and tells what came out, handshake bytes joined.
    fn events(cutter: &mut RecordCutter, pieces: &[(&[u8], u64, bool)]) -> Vec<String> {
        let (mut out, mut handshake) = (Vec::new(), Vec::new());
        for (bytes, hole, lost) in pieces {
            let piece = Piece {
                bytes,
                hole: *hole,
                lost: *lost,
                at: MonotonicNs(0),
            };
            cutter.feed(piece, |event| match event {
                RecordEvent::Handshake(bytes) => handshake.extend_from_slice(bytes),
                RecordEvent::HandshakeHole(_)
                | RecordEvent::ChangeCipherSpec
                | RecordEvent::Alert { .. }
                | RecordEvent::OpaqueAlert
                | RecordEvent::ApplicationData { .. }
                | RecordEvent::Lost
                | RecordEvent::NotTls => out.push(format!("{event:?}")),
            });
        }
        if !handshake.is_empty() {
            out.push(String::from_utf8_lossy(&handshake).into_owned());
        }
        out
    }

    const STREAM: &[u8] = b"\x16\x03\x01\x00\x03abc\x16\x03\x03\x00\x02de\x14\x03\x03\x00\x01\x01\
        \x17\x03\x03\x00\x04wxyz\x17\x03\x03\x00\x00\x18\x03\x03\x00\x01h\x15\x03\x03\x00\x02\x02\x28\
        \x15\x03\x03\x00\x03???";
    const STREAM_EVENTS: [&str; 6] = [
        "ChangeCipherSpec",
        "ApplicationData { bytes: 4 }",
        "ApplicationData { bytes: 0 }",
        "Alert { level: 2, code: 40 }",
        "OpaqueAlert",
        "abcde",
    ];

    #[test]
    fn each_kind_of_record_is_told() {
        let mut cutter = RecordCutter::new(true);
        assert_eq!(events(&mut cutter, &[(STREAM, 0, false)]), STREAM_EVENTS);
    }

    #[test]
    fn encrypted_sizes_follow_hash_and_tag_of_the_suite() {
        let sizes = [0x1301, 0x1302, 0x1303, 0x1304, 0x1305].map(|suite| {
            let sizes = EncryptedSizes::of(Some(suite));
            (sizes.alert_bytes, sizes.finished_bytes)
        });
        assert_eq!(sizes, [(19, 53), (19, 69), (19, 53), (19, 53), (11, 45)]);
    }

    #[test]
    fn the_rest_of_application_data_is_of_no_interest() {
        let mut cutter = RecordCutter::new(false);
        events(&mut cutter, &[(b"\x17\x03\x03\x40\x00abcd", 0, false)]);
        assert_eq!(cutter.uninteresting_bytes(), 16_384 - 4);
        let told = events(
            &mut cutter,
            &[
                (b"", 16_380, false),
                (b"\x14\x03\x03\x00\x01\x01", 0, false),
            ],
        );
        assert_eq!(told, ["ChangeCipherSpec"]);
        assert_eq!(cutter.uninteresting_bytes(), 0);
    }

    #[test]
    fn holes_inside_bodies_are_followed_and_holes_over_headers_lose_the_position() {
        let cases: [(&[u8], u64, &str); 7] = [
            (
                b"\x16\x03\x01\x00\x03a",
                2,
                "HandshakeHole(2) ChangeCipherSpec a",
            ),
            (b"\x16\x03\x01\x00\x03a", 3, "HandshakeHole(2) Lost a"),
            (b"\x15\x03\x01\x00\x02", 2, "OpaqueAlert ChangeCipherSpec"),
            (
                b"\x15\x03\x01\x00\x02\x01",
                1,
                "OpaqueAlert ChangeCipherSpec",
            ),
            (b"\x15\x03\x01\x00\x02", 1, "Lost"),
            (b"\x15\x03\x01\x00\x02", 3, "OpaqueAlert Lost"),
            (b"\x16\x03\x01", 2, "Lost"),
        ];
        for (bytes, hole, expected) in cases {
            let mut cutter = RecordCutter::new(true);
            let ccs: &[u8] = if expected.contains("Lost") {
                b"x"
            } else {
                b"\x14\x03\x03\x00\x01\x01"
            };
            let told = events(&mut cutter, &[(bytes, hole, false), (ccs, 0, false)]);
            assert_eq!(told.join(" "), expected);
        }
    }

    #[test]
    fn after_a_loss_only_a_piece_that_starts_like_a_record_is_believed() {
        let rejected: [&[u8]; 7] = [
            b"\x16\x03\x01\x00",
            b"\x18\x03\x03\x00\x05",
            b"\x17\x02\x03\x00\x05",
            b"\x17\x03\x00\x00\x05",
            b"\x17\x03\x05\x00\x05",
            b"\x17\x03\x03\x41\x01",
            b"\x17\x03\x03\x00\x00",
        ];
        for bytes in rejected {
            let mut cutter = RecordCutter::new(false);
            assert_eq!(events(&mut cutter, &[(bytes, 0, false)]), [""; 0]);
            assert!(!cutter.any_record(), "{bytes:?}");
        }
        let mut cutter = RecordCutter::new(true);
        let told = events(
            &mut cutter,
            &[
                (b"\x16\x03\x01\x00\x05ab", 0, false),
                (b"", 1, true),
                (b"cd", 0, false),
                (b"\x17\x03\x03\x41\x00", 0, false),
                (b"", 16_640, false),
                (b"no record", 0, false),
                (b"\x14\x03\x03\x00\x01\x01", 0, false),
            ],
        );
        assert_eq!(
            told,
            [
                "Lost",
                "ApplicationData { bytes: 16640 }",
                "Lost",
                "ChangeCipherSpec",
                "ab"
            ]
        );
    }

    #[test]
    fn what_cannot_open_a_connection_is_not_tls() {
        let greetings: [&[u8]; 7] = [
            b"\x19",
            b"\x17",
            b"\x14",
            b"\x16\x02",
            b"\x16\x03\x05",
            b"\x16\x03\x01\x48\x01",
            b"\x16\x03\x01\x00\x00",
        ];
        for greeting in greetings {
            let mut cutter = RecordCutter::new(true);
            let before = greeting.len() - 1;
            assert_eq!(
                events(&mut cutter, &[(&greeting[..before], 0, false)]),
                [""; 0]
            );
            assert_eq!(
                events(&mut cutter, &[(&greeting[before..], 0, false)]),
                ["NotTls"]
            );
            assert_eq!(
                events(&mut cutter, &[(STREAM, 9, false), (b"", 3, true)]),
                [""; 0]
            );
            assert_eq!(cutter.uninteresting_bytes(), u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_records(sizes in proptest::collection::vec(1_usize..9, 1..20)) {
            let mut cutter = RecordCutter::new(true);
            let (mut pieces, mut rest) = (Vec::new(), STREAM);
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push((piece, 0, false));
                rest = after;
            }
            prop_assert_eq!(events(&mut cutter, &pieces), STREAM_EVENTS);
        }
    }
}

//! The handshake of one connection, seen from the wire: both directions in, health facts out.
//!
//! Owns: when a handshake begins, how it ends, how long it took and what was agreed in plaintext. Refuses:
//! decrypting. From the moment a side encrypts, only types and lengths of its records are left to judge by,
//! and what they cannot tell is not claimed. A connection joined midway, or with bytes lost before the
//! handshake's end, has no outcome.

use super::{
    hello::{
        self, CLIENT_HELLO, ClientHello, Message, Messages, SERVER_HELLO, SERVER_HELLO_DONE,
        ServerHello, TlsVersion,
    },
    records::{EncryptedSizes, RecordCutter, RecordEvent},
};
use crate::{clock::MonotonicNs, http::Side, tcp::Piece};

/// Stands for the code of an alert that is encrypted.
pub const ENCRYPTED_ALERT: u8 = 255;
const CLOSE_NOTIFY: u8 = 0;
const WARNING: u8 = 1;
const HELLO_REQUEST: u8 = 0;

/// What a handshake tells in plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version the server chose.
    pub version: Option<TlsVersion>,
    /// The cipher suite the server chose, as IANA numbers it.
    pub cipher_suite: Option<u16>,
    /// The host the client asked for (SNI), valid and in lower case.
    pub server_name: Option<String>,
    /// The application protocol the server chose. Unknown in TLS 1.3, which encrypts it.
    pub alpn: Option<String>,
    /// The application protocols the client offered, at most 16.
    pub alpn_offered: Vec<String>,
    /// Whether an earlier session was taken up again. In TLS 1.3: whether a pre-shared key was accepted,
    /// which is a session ticket unless the ends were given keys by hand.
    pub resumed: Option<bool>,
    /// The server asked for a second `ClientHello`.
    pub hello_retry: bool,
    /// The client announced data ahead of the server's answer (0-RTT); whether it was accepted is encrypted.
    pub early_data_offered: bool,
}

/// How a handshake ended. Durations run from the first byte of the first `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// Both ends have sent their `Finished`.
    ///
    /// Up to TLS 1.2 it ends with the first encrypted record of whichever side is last to send one. In
    /// TLS 1.3 it ends with the client's first encrypted record after the `ServerHello`; a server that
    /// then refuses the client's certificate does so by an alert no passive reader can tell from others.
    Completed {
        /// Until the last `Finished`, nanoseconds.
        duration_ns: u64,
        /// The version agreed.
        version: TlsVersion,
        /// Whether an earlier session was taken up again.
        resumed: bool,
    },
    /// It broke off.
    Failed {
        /// Until the failure was seen, nanoseconds.
        duration_ns: u64,
        /// Why.
        reason: HandshakeFailure,
    },
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// One side refused.
    ///
    /// An alert that need not end a handshake (a warning, or what only looks like an alert of the server)
    /// counts when the connection then ends before the handshake does.
    Alert {
        /// Who refused.
        by: Side,
        /// The description of RFC 8446, section 6.
        ///
        /// 255 stands for an alert that cannot be read, because it is encrypted. In TLS 1.3 such an alert is known by its length: level,
        /// description, content type and tag (19 bytes, or 11 with the one suite of short tags) are fewer
        /// than any `Finished`. A client that pads its alert is not recognised.
        code: u8,
    },
    /// The connection ended before the handshake did.
    Closed {
        /// By a reset rather than in order.
        by_reset: bool,
    },
    /// One side does not speak TLS, or speaks SSL 2.0.
    NotTls,
}

impl HandshakeFailure {
    /// A short name for labels: that of the alert, `closed`, `reset` or `not_tls`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert { code, .. } => hello::alert_name(code),
            Self::Closed { by_reset: false } => "closed",
            Self::Closed { by_reset: true } => "reset",
            Self::NotTls => "not_tls",
        }
    }
}

/// The TLS state of one connection.
#[derive(Debug)]
pub struct TlsConnection {
    request: RecordCutter,
    response: RecordCutter,
    handshake: Handshake,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Until the server has chosen a version.
    #[default]
    Hellos,
    /// Until both ends have sent their `Finished`.
    Keys(TlsVersion),
    /// The handshake has ended, or cannot be followed.
    Over,
}

/// What protects the records of one direction, up to TLS 1.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Protection {
    #[default]
    None,
    /// A `ChangeCipherSpec` was sent: whatever follows is encrypted.
    Announced,
    /// The `Finished` was sent.
    InUse,
}

#[derive(Debug, Default)]
struct Track {
    messages: Messages,
    any_message: bool,
    protection: Protection,
}

#[derive(Debug, Default)]
struct Handshake {
    request: Track,
    response: Track,
    facts: TlsFacts,
    phase: Phase,
    started: Option<MonotonicNs>,
    /// The newest `ClientHello` announced early data: the client's records may hold that instead of a
    /// `Finished`.
    early_data: bool,
    /// The client has encrypted something after the `ServerHello` that may or may not be its `Finished`.
    unsure: bool,
    /// An alert that need not end a handshake. Should the connection close next, it was the reason.
    suspect: Option<(Side, u8)>,
    outcome: Option<HandshakeOutcome>,
}

impl TlsConnection {
    /// A connection seen from its first byte, or joined midway.
    pub fn new(from_start: bool) -> Self {
        Self {
            request: RecordCutter::new(from_start),
            response: RecordCutter::new(from_start),
            handshake: Handshake {
                phase: if from_start {
                    Phase::Hellos
                } else {
                    Phase::Over
                },
                ..Handshake::default()
            },
        }
    }

    /// Takes the next stretch of one direction.
    pub fn feed(&mut self, side: Side, piece: Piece<'_>) {
        let is_tls = self.is_tls();
        let Self {
            request,
            response,
            handshake,
        } = self;
        if handshake.phase == Phase::Over && is_tls {
            return;
        }
        if side == Side::Request && !piece.bytes.is_empty() {
            handshake.started.get_or_insert(piece.at);
        }
        let cutter = match side {
            Side::Request => request,
            Side::Response => response,
        };
        cutter.feed(piece, |event| handshake.take(side, event, piece.at));
    }

    /// The connection ended: by reset or not.
    ///
    /// One that ends before the client has sent anything (a port check) held no handshake and has no outcome.
    pub fn end(&mut self, at: MonotonicNs, reset: bool) {
        self.handshake.end(at, reset);
    }

    /// Facts so far. They are complete when the outcome is there.
    pub const fn facts(&self) -> &TlsFacts {
        &self.handshake.facts
    }

    /// Taken once, when the handshake has come to its end (completed, failed, or the connection ended before).
    pub const fn take_outcome(&mut self) -> Option<HandshakeOutcome> {
        self.handshake.outcome.take()
    }

    /// Whether at least one TLS record was seen; tells a connection joined midway from other protocols.
    pub const fn is_tls(&self) -> bool {
        self.request.any_record() || self.response.any_record()
    }

    /// Bytes that are certain to follow in this direction and of no interest: the rest of the current
    /// application-data record, or everything (`u64::MAX`) once no more facts can come.
    pub const fn uninteresting_bytes(&self, side: Side) -> u64 {
        if matches!(self.handshake.phase, Phase::Over) && self.is_tls() {
            return u64::MAX;
        }
        match side {
            Side::Request => self.request.uninteresting_bytes(),
            Side::Response => self.response.uninteresting_bytes(),
        }
    }
}

impl Handshake {
    fn take(&mut self, side: Side, event: RecordEvent<'_>, at: MonotonicNs) {
        if self.phase == Phase::Over {
            return;
        }
        let protected = self.track(side).protection != Protection::None;
        match event {
            RecordEvent::Handshake(_) | RecordEvent::HandshakeHole(_) if protected => {
                self.finished(side, at);
            }
            RecordEvent::Handshake(mut bytes) => {
                while let Some(message) = self.track(side).messages.next(&mut bytes) {
                    self.message(side, &message, at);
                }
            }
            RecordEvent::HandshakeHole(hole) => {
                if !self.track(side).messages.skip(hole) {
                    self.give_up();
                }
            }
            RecordEvent::ChangeCipherSpec => self.change_cipher_spec(side),
            RecordEvent::Alert { level, code } => self.alert(side, level, code, at),
            RecordEvent::OpaqueAlert => self.refuse(side, ENCRYPTED_ALERT, at),
            RecordEvent::ApplicationData { bytes } => {
                if self.phase == Phase::Keys(TlsVersion::Tls13) {
                    self.encrypted(side, bytes, at);
                }
            }
            RecordEvent::Lost => self.give_up(),
            RecordEvent::NotTls => self.fail(HandshakeFailure::NotTls, at),
        }
    }

    const fn track(&mut self, side: Side) -> &mut Track {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    fn message(&mut self, side: Side, message: &Message, at: MonotonicNs) {
        let first = !std::mem::replace(&mut self.track(side).any_message, true);
        let body = message.body.as_deref();
        match (side, message.kind, self.phase) {
            (_, _, Phase::Over) | (Side::Response, HELLO_REQUEST, _) => {}
            (Side::Request, CLIENT_HELLO, _) => self.client_hello(body),
            (Side::Response, SERVER_HELLO, Phase::Hellos) => self.server_hello(body),
            (Side::Response, SERVER_HELLO_DONE, _) => self.facts.resumed = Some(false),
            _ if first => self.fail(HandshakeFailure::NotTls, at),
            _ => {}
        }
    }

    /// An unreadable one costs its facts only: the server will say what it thinks of it.
    fn client_hello(&mut self, body: Option<&[u8]>) {
        let hello = body.and_then(ClientHello::parse).unwrap_or_default();
        self.early_data = hello.early_data;
        self.facts.early_data_offered |= hello.early_data;
        self.facts.server_name = hello.server_name;
        self.facts.alpn_offered = hello.alpn_offered;
    }

    /// Without a version nothing that follows can be judged.
    fn server_hello(&mut self, body: Option<&[u8]>) {
        let Some(hello) = body.and_then(ServerHello::parse) else {
            self.give_up();
            return;
        };
        self.facts.version = hello.version;
        self.facts.cipher_suite = Some(hello.cipher_suite);
        match hello.version {
            None => self.give_up(),
            Some(_) if hello.retry => self.facts.hello_retry = true,
            Some(version) => {
                self.phase = Phase::Keys(version);
                if version == TlsVersion::Tls13 {
                    self.facts.resumed = Some(hello.pre_shared_key);
                } else {
                    self.facts.alpn = hello.alpn;
                }
            }
        }
    }

    /// In TLS 1.3 this record is a decoy for middleboxes and may come at any time.
    fn change_cipher_spec(&mut self, side: Side) {
        let Phase::Keys(version) = self.phase else {
            return;
        };
        if version == TlsVersion::Tls13 {
            return;
        }
        if side == Side::Response {
            // A full handshake has told so by its `ServerHelloDone`.
            self.facts.resumed.get_or_insert(true);
        }
        let track = self.track(side);
        if track.protection == Protection::None {
            track.protection = Protection::Announced;
        }
    }

    /// A handshake record under the new keys, up to TLS 1.2: nothing but a `Finished` comes first.
    fn finished(&mut self, side: Side, at: MonotonicNs) {
        self.track(side).protection = Protection::InUse;
        if self.request.protection == self.response.protection {
            self.complete(at);
        }
    }

    /// An encrypted record of TLS 1.3 after the `ServerHello`.
    fn encrypted(&mut self, side: Side, bytes: u64, at: MonotonicNs) {
        let EncryptedSizes {
            alert_bytes,
            finished_bytes,
        } = EncryptedSizes::of(self.facts.cipher_suite);
        match side {
            // Two bytes of early application data look the same, so this alone proves nothing.
            Side::Response if bytes == alert_bytes => {
                self.suspect = Some((side, ENCRYPTED_ALERT));
            }
            Side::Response => {}
            // Early data may still be on its way: only the exact size of a `Finished` is believed.
            Side::Request if self.early_data && bytes != finished_bytes => self.unsure = true,
            Side::Request if bytes == alert_bytes => self.refuse(side, ENCRYPTED_ALERT, at),
            Side::Request => self.complete(at),
        }
    }

    fn alert(&mut self, side: Side, level: u8, code: u8, at: MonotonicNs) {
        match (level, code, self.suspect) {
            // The usual pair: the reason as a warning, then the farewell.
            (WARNING, CLOSE_NOTIFY, Some((by, reason))) if by == side => {
                self.refuse(side, reason, at);
            }
            (WARNING, 1.., _) => self.suspect = Some((side, code)),
            _ => self.refuse(side, code, at),
        }
    }

    fn refuse(&mut self, by: Side, code: u8, at: MonotonicNs) {
        self.fail(HandshakeFailure::Alert { by, code }, at);
    }

    fn end(&mut self, at: MonotonicNs, reset: bool) {
        if self.phase == Phase::Over || self.started.is_none() || self.unsure {
            self.give_up();
            return;
        }
        match self.suspect {
            Some((by, code)) => self.refuse(by, code, at),
            None => self.fail(HandshakeFailure::Closed { by_reset: reset }, at),
        }
    }

    fn complete(&mut self, at: MonotonicNs) {
        if let Phase::Keys(version) = self.phase {
            self.outcome = Some(HandshakeOutcome::Completed {
                duration_ns: self.elapsed(at),
                version,
                resumed: self.facts.resumed.unwrap_or(false),
            });
        }
        self.phase = Phase::Over;
    }

    fn fail(&mut self, reason: HandshakeFailure, at: MonotonicNs) {
        self.outcome = Some(HandshakeOutcome::Failed {
            duration_ns: self.elapsed(at),
            reason,
        });
        self.phase = Phase::Over;
    }

    /// Nothing more is claimed; what was read before stands.
    const fn give_up(&mut self) {
        self.phase = Phase::Over;
    }

    fn elapsed(&self, at: MonotonicNs) -> u64 {
        self.started.map_or(0, |started| at.since(started))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const FIXTURES: [&str; 14] = [
        include_str!("../../tests/data/tls/protocol_version.hex"),
        include_str!("../../tests/data/tls/tls11_full.hex"),
        include_str!("../../tests/data/tls/tls12_full.hex"),
        include_str!("../../tests/data/tls/tls12_no_client_certificate.hex"),
        include_str!("../../tests/data/tls/tls12_resumed.hex"),
        include_str!("../../tests/data/tls/tls12_resumed_id.hex"),
        include_str!("../../tests/data/tls/tls12_unknown_ca.hex"),
        include_str!("../../tests/data/tls/tls13_early_data.hex"),
        include_str!("../../tests/data/tls/tls13_full.hex"),
        include_str!("../../tests/data/tls/tls13_resumed.hex"),
        include_str!("../../tests/data/tls/tls13_retry.hex"),
        include_str!("../../tests/data/tls/tls13_stopped.hex"),
        include_str!("../../tests/data/tls/tls13_unknown_ca.hex"),
        include_str!("../../tests/data/tls/unrecognized_name.hex"),
    ];
    const TLS12: &str = FIXTURES[2];
    const TLS13: &str = FIXTURES[8];
    /// Flight `n` of a recording is played at `n + 1` times this.
    const STEP_NS: u64 = 1_000;

    type Flights = Vec<(Side, Vec<u8>)>;

    /// What the two ends said, and the bytes between them.
    struct Recording {
        told: BTreeMap<&'static str, &'static str>,
        flights: Flights,
    }

    fn recording(text: &'static str) -> Recording {
        let (mut told, mut flights) = (BTreeMap::new(), Flights::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once(": ") {
                told.insert(key, value);
                continue;
            }
            let (mark, hex) = line.split_at(2);
            match mark {
                "> " => flights.push((Side::Request, Vec::new())),
                "< " => flights.push((Side::Response, Vec::new())),
                _ => assert_eq!(mark, "  "),
            }
            let bytes =
                (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap());
            flights.last_mut().unwrap().1.extend(bytes);
        }
        Recording { told, flights }
    }

    fn flights_of(text: &'static str) -> Flights {
        recording(text).flights
    }

    const fn piece(bytes: &[u8], at: u64) -> Piece<'_> {
        Piece {
            bytes,
            hole: 0,
            lost: false,
            at: MonotonicNs(at),
        }
    }

    const fn gap(hole: u64, lost: bool) -> Piece<'static> {
        Piece {
            bytes: &[],
            hole,
            lost,
            at: MonotonicNs(STEP_NS),
        }
    }

    /// Plays flights in segments of the given sizes (in turn), then closes.
    fn play(flights: &Flights, segments: &[usize]) -> TlsConnection {
        let mut connection = TlsConnection::new(true);
        let mut sizes = segments.iter().cycle();
        let mut at = 0;
        for (side, bytes) in flights {
            at += STEP_NS;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (segment, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                connection.feed(*side, piece(segment, at));
                rest = after;
            }
        }
        connection.end(MonotonicNs(at + STEP_NS), false);
        connection
    }

    const fn closed(duration_ns: u64, by_reset: bool) -> HandshakeOutcome {
        HandshakeOutcome::Failed {
            duration_ns,
            reason: HandshakeFailure::Closed { by_reset },
        }
    }

    const fn refused(duration_ns: u64, by: Side, code: u8) -> HandshakeOutcome {
        HandshakeOutcome::Failed {
            duration_ns,
            reason: HandshakeFailure::Alert { by, code },
        }
    }

    const fn not_tls(duration_ns: u64) -> HandshakeOutcome {
        HandshakeOutcome::Failed {
            duration_ns,
            reason: HandshakeFailure::NotTls,
        }
    }

    const fn completed(duration_ns: u64, version: TlsVersion) -> HandshakeOutcome {
        HandshakeOutcome::Completed {
            duration_ns,
            version,
            resumed: false,
        }
    }

    fn check(text: &'static str, segments: &[usize]) {
        let Recording { told, flights } = recording(text);
        let mut connection = play(&flights, segments);
        let outcome = connection.take_outcome().unwrap();
        assert_eq!(connection.take_outcome(), None, "taken once");
        let facts = connection.facts();
        let context = format!("{}\n{facts:?} {outcome:?}", text.lines().next().unwrap());
        let yes = |key| told.get(key) == Some(&"yes");

        assert_eq!(
            facts.server_name.as_deref(),
            told.get("server_name").copied(),
            "{context}"
        );
        let offered: Vec<_> = told
            .get("offered")
            .iter()
            .flat_map(|v| v.split(','))
            .collect();
        assert_eq!(facts.alpn_offered, offered, "{context}");
        assert_eq!(
            facts.alpn.as_deref(),
            told.get("alpn").copied(),
            "{context}"
        );
        assert_eq!(facts.hello_retry, yes("hello_retry"), "{context}");
        assert_eq!(facts.early_data_offered, yes("early_data"), "{context}");

        let ending: Vec<_> = told["outcome"].split(' ').collect();
        let until = ending[1].parse::<u64>().unwrap() * STEP_NS;
        match (ending[0], outcome) {
            (
                "completed",
                HandshakeOutcome::Completed {
                    duration_ns,
                    version,
                    resumed,
                },
            ) => {
                assert_eq!(duration_ns, until, "{context}");
                assert_eq!(version.name(), told["version"], "{context}");
                assert_eq!(facts.version, Some(version), "{context}");
                assert_eq!(resumed, yes("resumed"), "{context}");
                assert_eq!(facts.resumed, Some(resumed), "{context}");
                let suite = u16::from_str_radix(told["cipher"], 16).unwrap();
                assert_eq!(facts.cipher_suite, Some(suite), "{context}");
            }
            (
                "failed",
                HandshakeOutcome::Failed {
                    duration_ns,
                    reason,
                },
            ) => {
                assert_eq!(duration_ns, until, "{context}");
                assert_eq!(reason.name(), *ending.last().unwrap(), "{context}");
                if let HandshakeFailure::Alert { by, .. } = reason {
                    assert_eq!(
                        by == Side::Request,
                        ending.contains(&"request"),
                        "{context}"
                    );
                }
            }
            _ => panic!("{context}"),
        }
    }

    #[test]
    fn recorded_handshakes_read_as_their_ends_tell_them() {
        for text in FIXTURES {
            check(text, &[usize::MAX]);
            check(text, &[1]);
        }
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        let greetings: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n",
            b"\x80\x2e\x01\x00\x02",
            b"\x16",
            b"\x17\x03\x03\x00\x10",
            b"\x16\x03\x01\x00\x04\x0b\x00\x00\x00",
        ];
        for greeting in greetings {
            let mut connection = TlsConnection::new(true);
            connection.feed(Side::Request, piece(greeting, 5));
            connection.end(MonotonicNs(9), true);
            let expected = if greeting == b"\x16" {
                closed(4, true)
            } else {
                not_tls(0)
            };
            assert_eq!(connection.take_outcome(), Some(expected), "{greeting:?}");
        }
    }

    #[test]
    fn a_server_that_answers_in_plaintext_does_not_speak_tls() {
        let hello = flights_of(TLS13).swap_remove(0).1;
        let mut connection = TlsConnection::new(true);
        connection.feed(Side::Request, piece(&hello, 10));
        connection.feed(Side::Response, piece(b"HTTP/1.1 400 Bad Request\r\n", 25));
        assert_eq!(connection.take_outcome(), Some(not_tls(15)));
        assert_eq!(connection.facts().server_name.as_deref(), Some("shop.test"));
        assert_eq!(connection.uninteresting_bytes(Side::Response), u64::MAX);
    }

    #[test]
    fn a_port_check_is_no_handshake() {
        let mut connection = TlsConnection::new(true);
        connection.end(MonotonicNs(1), true);
        assert_eq!(connection.take_outcome(), None);
    }

    #[test]
    fn every_early_end_is_a_failure_until_the_last_finished() {
        for (text, flights_needed) in [(TLS12, 4), (TLS13, 3)] {
            let flights = flights_of(text);
            for count in 1..flights_needed {
                let mut connection = play(&flights[..count].to_vec(), &[usize::MAX]);
                assert_eq!(
                    connection.take_outcome(),
                    Some(closed(count as u64 * STEP_NS, false))
                );
            }
        }
    }

    #[test]
    fn bytes_lost_before_the_end_leave_no_outcome_and_bytes_lost_after_it_do_not_matter() {
        let flights = flights_of(TLS12);
        for lost_before in 0..flights.len() {
            let mut connection = TlsConnection::new(true);
            for (index, (side, bytes)) in flights.iter().enumerate() {
                if index == lost_before {
                    connection.feed(*side, gap(3, true));
                }
                connection.feed(*side, piece(bytes, STEP_NS * index as u64));
            }
            connection.end(MonotonicNs(0), true);
            let expected =
                Some(completed(3 * STEP_NS, TlsVersion::Tls12)).filter(|_| lost_before > 3);
            assert_eq!(
                connection.take_outcome(),
                expected,
                "lost before {lost_before}"
            );
            assert!(connection.is_tls());
            assert_eq!(
                connection.facts().version.is_some(),
                lost_before > 1,
                "known before the loss"
            );
        }
    }

    #[test]
    fn a_connection_joined_midway_is_recognised_and_nothing_is_claimed() {
        let flights = flights_of(TLS12);
        let mut connection = TlsConnection::new(false);
        connection.feed(Side::Response, piece(b"\x99 not a record", 1));
        assert!(!connection.is_tls());
        assert_eq!(connection.uninteresting_bytes(Side::Request), 0);
        for (side, bytes) in &flights {
            connection.feed(*side, piece(bytes, 2));
        }
        connection.end(MonotonicNs(3), true);
        assert!(connection.is_tls());
        assert_eq!(connection.take_outcome(), None);
        assert_eq!(*connection.facts(), TlsFacts::default());
        assert_eq!(connection.uninteresting_bytes(Side::Request), u64::MAX);
    }

    #[test]
    fn an_uncaptured_certificate_costs_nothing_an_uncaptured_hello_costs_the_outcome() {
        // The certificate's body follows the ServerHello, each in a record of its own.
        let flights = flights_of(TLS12);
        let server = &flights[1].1;
        let hello_record = 5 + usize::from(u16::from_be_bytes([server[3], server[4]]));
        assert_eq!(server[hello_record + 5], 11, "a certificate");
        for (from, expected) in [
            (
                hello_record + 20,
                Some(completed(3 * STEP_NS, TlsVersion::Tls12)),
            ),
            (20, None),
        ] {
            let mut connection = TlsConnection::new(true);
            for (index, (side, bytes)) in flights.iter().enumerate() {
                let at = STEP_NS * index as u64;
                if index == 1 {
                    connection.feed(
                        *side,
                        Piece {
                            hole: 30,
                            ..piece(&bytes[..from], at)
                        },
                    );
                    connection.feed(*side, piece(&bytes[from + 30..], at));
                } else {
                    connection.feed(*side, piece(bytes, at));
                }
            }
            assert_eq!(connection.take_outcome(), expected, "hole at {from}");
        }
    }

    #[test]
    fn an_encrypted_refusal_is_told_by_its_length() {
        let mut flights = flights_of(TLS13);
        flights.truncate(2);
        let mut alert = b"\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x13".to_vec();
        alert.extend([7; 19]);
        flights.push((Side::Request, alert));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(refused(2 * STEP_NS, Side::Request, ENCRYPTED_ALERT))
        );
    }

    #[test]
    fn what_looks_like_an_alert_of_the_server_is_one_only_if_the_connection_ends() {
        let mut looks_like = b"\x17\x03\x03\x00\x13".to_vec();
        looks_like.extend([7; 19]);
        let mut flights = flights_of(TLS13);
        flights.insert(2, (Side::Response, looks_like));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(completed(3 * STEP_NS, TlsVersion::Tls13))
        );

        flights.truncate(3);
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(refused(3 * STEP_NS, Side::Response, ENCRYPTED_ALERT))
        );
    }

    #[test]
    fn data_sent_ahead_of_the_servers_finished_does_not_end_a_handshake_of_tls_1_2() {
        let mut flights = flights_of(TLS12);
        flights.insert(3, (Side::Request, b"\x17\x03\x03\x00\x03abc".to_vec()));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(completed(4 * STEP_NS, TlsVersion::Tls12))
        );
    }

    #[test]
    fn the_change_of_keys_is_a_decoy_in_tls_1_3() {
        let decoy = b"\x14\x03\x03\x00\x01\x01\x16\x03\x03\x00\x03abc".to_vec();
        let mut flights = flights_of(TLS13);
        flights.truncate(2);
        flights.push((Side::Request, decoy.clone()));
        flights.push((Side::Response, decoy));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(connection.take_outcome(), Some(closed(4 * STEP_NS, false)));
    }

    #[test]
    fn a_warning_is_the_reason_only_when_the_connection_closes_next() {
        let warning = b"\x15\x03\x03\x00\x02\x01\x70".to_vec();
        let mut flights = flights_of(TLS12);
        flights.insert(1, (Side::Response, warning));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(completed(4 * STEP_NS, TlsVersion::Tls12))
        );

        flights.truncate(3);
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(refused(3 * STEP_NS, Side::Response, 112))
        );

        flights.push((Side::Response, b"\x15\x03\x03\x00\x02\x01\x00".to_vec()));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(refused(3 * STEP_NS, Side::Response, 112))
        );
    }

    #[test]
    fn early_data_is_no_finished_and_without_a_finished_nothing_is_claimed() {
        let mut flights = flights_of(FIXTURES[7]);
        // The first flight ends with 57 bytes of early data: let them pass the server's answer on their way.
        let hello_bytes = flights[0].1.len() - (5 + 57);
        let late = flights[0].1.split_off(hello_bytes);
        flights.insert(2, (Side::Request, late));
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(
            connection.take_outcome(),
            Some(HandshakeOutcome::Completed {
                duration_ns: 3 * STEP_NS,
                version: TlsVersion::Tls13,
                resumed: true
            })
        );

        // EndOfEarlyData (21 bytes) comes before the Finished: cut after it.
        flights[3].1.truncate(5 + 21);
        flights.truncate(4);
        let mut connection = play(&flights, &[usize::MAX]);
        assert_eq!(connection.take_outcome(), None);
        assert_eq!(connection.facts().version, Some(TlsVersion::Tls13));
    }

    #[test]
    fn a_hello_over_the_limit_is_followed_but_not_kept() {
        let length: usize = 70_000;
        let mut message = vec![CLIENT_HELLO];
        message.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
        message.resize(4 + length, 0);
        let mut stream = Vec::new();
        for chunk in message.chunks(16_384) {
            stream.extend_from_slice(b"\x16\x03\x01");
            stream.extend_from_slice(&u16::try_from(chunk.len()).unwrap().to_be_bytes());
            stream.extend_from_slice(chunk);
        }
        let mut flights = flights_of(TLS13);
        flights[0].1 = stream;
        let mut connection = play(&flights, &[1_448]);
        assert_eq!(
            connection.take_outcome(),
            Some(completed(2 * STEP_NS, TlsVersion::Tls13))
        );
        assert_eq!(connection.facts().server_name, None);
    }

    #[test]
    fn an_answer_seen_before_its_question_is_still_a_handshake() {
        let mut flights = flights_of(TLS13);
        flights.swap(0, 1);
        let mut connection = play(&flights, &[usize::MAX]);
        assert!(matches!(
            connection.take_outcome(),
            Some(HandshakeOutcome::Completed { .. })
        ));
        assert_eq!(connection.facts().server_name.as_deref(), Some("shop.test"));
    }

    proptest! {
        #[test]
        fn any_segmentation_tells_the_same(
            which in 0..FIXTURES.len(),
            segments in proptest::collection::vec(1_usize..200, 1..40),
        ) {
            check(FIXTURES[which], &segments);
        }

        #[test]
        fn damaged_streams_never_panic_and_end_once(
            which in 0..FIXTURES.len(),
            damage in proptest::collection::vec((0_usize..8, 0_usize..700, any::<u8>()), 1..6),
            holes in proptest::collection::vec((0_usize..8, 0_u64..40, any::<bool>()), 0..3),
        ) {
            let mut flights = flights_of(FIXTURES[which]);
            let count = flights.len();
            for (flight, position, value) in damage {
                let bytes = &mut flights[flight % count].1;
                let position = position % bytes.len();
                bytes[position] = value;
            }
            let mut connection = TlsConnection::new(true);
            let mut outcomes = 0;
            for (index, (side, bytes)) in flights.iter().enumerate() {
                for (_, hole, lost) in holes.iter().filter(|hole| hole.0 == index) {
                    connection.feed(*side, gap(*hole, *lost));
                }
                connection.feed(*side, piece(bytes, index as u64));
                outcomes += usize::from(connection.take_outcome().is_some());
            }
            connection.end(MonotonicNs(99), true);
            outcomes += usize::from(connection.take_outcome().is_some());
            prop_assert!(outcomes <= 1);
        }

        #[test]
        fn any_bytes_never_panic(
            pieces in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60), 0_u64..20_000, any::<bool>()),
                0..20,
            ),
            from_start in any::<bool>(),
            tls_like in any::<bool>(),
        ) {
            let mut connection = TlsConnection::new(from_start);
            for (response, mut bytes, hole, lost) in pieces {
                if tls_like && let [kind, major, minor, high, message, ..] = bytes.as_mut_slice() {
                    *kind = 20 + *kind % 5;
                    (*major, *minor, *high, *message) = (3, 3, 0, *message % 3);
                }
                let side = if response { Side::Response } else { Side::Request };
                let hole = if hole % 3 == 0 { hole } else { 0 };
                connection.feed(side, Piece { bytes: &bytes, hole, lost: lost && hole > 0, at: MonotonicNs(1) });
                let _ = connection.uninteresting_bytes(side);
            }
            connection.end(MonotonicNs(2), false);
        }
    }
}

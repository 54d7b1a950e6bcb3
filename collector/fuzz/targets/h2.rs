//! Both targets of HTTP/2.
//!
//! `h2_frames`: arbitrary turns of a connection. What must hold: every exchange is counted, none tells of more bytes
//! than went over the wire, and as long as no frame was missed the exchanges are the same however the turns are cut.
//!
//! `hpack`: arbitrary header blocks inside well-formed frames; each client's turn is a request of its own, and the
//! server's turns answer in order. What must hold: a block gives the same exchange when it comes in one HEADERS frame
//! and when it is cut into CONTINUATION frames, whatever it does to the tables before later blocks. A block that does
//! not decode ends that: then the start of a frame is looked for, and a HEADERS frame without its end is not believed.

use collector::{
    clock::MonotonicNs,
    exchange::Outcome,
    facts::FactRules,
    http::Side,
    http2::Http2,
    ledger::{Ledger, Line},
    pairing::{InFlight, Surroundings},
    tcp::Piece,
};

use super::input::{Cuts, turns};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_HEAD_BYTES: u64 = 9;

/// One connection and what came of it.
struct Watched {
    connection: Http2,
    ledger: Ledger,
    done: Vec<InFlight>,
    fed: [u64; 2],
    at: u64,
}

/// What an exchange says, apart from times.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    head: String,
    facts: String,
    bytes: [u64; 2],
    outcome: Outcome,
}

impl Watched {
    fn new() -> Self {
        Self {
            connection: Http2::new(true),
            ledger: Ledger::default(),
            done: Vec::new(),
            fed: [0, 0],
            at: 0,
        }
    }

    fn feed(&mut self, side: Side, bytes: &[u8]) {
        self.at += 1_000;
        let [requests, responses] = &mut self.fed;
        *match side {
            Side::Request => requests,
            Side::Response => responses,
        } += bytes.len() as u64;
        let piece = Piece {
            bytes,
            hole: 0,
            lost: false,
            at: MonotonicNs(self.at),
        };
        let rules = FactRules::default();
        let around = Surroundings::new(&rules, &self.ledger, None);
        self.connection.feed(side, piece, &around, &mut self.done);
    }

    /// Ends the connection, checks what holds of any input, and tells what is left.
    fn end(mut self) -> (Vec<Told>, u64) {
        let rules = FactRules::default();
        let around = Surroundings::new(&rules, &self.ledger, None);
        self.connection.end(false, &around, &mut self.done);
        assert_eq!(self.connection.outstanding(), 0);
        assert_eq!(self.ledger.get(Line::Exchanges), self.done.len() as u64);
        let mut bytes = [0, 0];
        for exchange in &self.done {
            let [requests, responses] = &mut bytes;
            *requests += exchange.request_bytes;
            *responses += exchange.response_bytes;
            let path = exchange.path.as_deref().unwrap_or_default();
            assert!(!path.contains(['?', '#']), "a path: {path:?}");
            assert!(
                exchange
                    .status
                    .is_none_or(|status| (100..1000).contains(&status))
            );
        }
        let [requests, responses] = bytes;
        let [fed_requests, fed_responses] = self.fed;
        assert!(
            requests <= fed_requests && responses <= fed_responses,
            "exchanges tell of {bytes:?} bytes of {:?}",
            self.fed
        );
        let trouble = self.ledger.get(Line::BytesSkipped) + self.ledger.get(Line::HeadsMalformed);
        (self.done.iter().map(told).collect(), trouble)
    }
}

fn told(exchange: &InFlight) -> Told {
    let head = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        exchange.method, exchange.path, exchange.status, exchange.grpc_status, exchange.protocol
    );
    Told {
        head,
        facts: format!("{:?} {:?}", exchange.request_facts, exchange.response_facts),
        bytes: [exchange.request_bytes, exchange.response_bytes],
        outcome: exchange.outcome(),
    }
}

/// The target `h2_frames`.
pub(super) fn frames(data: &[u8]) {
    let (cuts, rest) = Cuts::split(data);
    let turns = turns(rest);
    let mut as_said = Watched::new();
    for (side, said) in &turns {
        as_said.feed(*side, said);
    }
    as_said.end();
    // One direction after the other: a frame that was missed then always shows as bytes that were skipped.
    let stream = |wanted: Side| -> Vec<u8> {
        let said = turns.iter().filter(|(side, _)| *side == wanted);
        said.flat_map(|(_, said)| said.iter().copied()).collect()
    };
    let (requests, responses) = (stream(Side::Request), stream(Side::Response));
    let follow = |cuts: Cuts<'_>| {
        let mut watched = Watched::new();
        for (side, stream) in [(Side::Request, &requests), (Side::Response, &responses)] {
            cuts.pieces(stream)
                .for_each(|piece| watched.feed(side, piece));
        }
        watched.end()
    };
    let (whole, trouble) = follow(Cuts::NONE);
    let (cut, _) = follow(cuts);
    if trouble == 0 && requests.starts_with(PREFACE) {
        assert_eq!(whole, cut, "exchanges change with the cuts");
    }
}

/// A frame of at most 65,535 bytes, which is what a turn carries.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block as HEADERS and as many CONTINUATION frames as the cuts make.
fn frames_of(block: &[u8], stream: u32, cuts: Cuts<'_>) -> Vec<Vec<u8>> {
    let mut pieces: Vec<&[u8]> = cuts.pieces(block).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let numbered = pieces.into_iter().enumerate();
    let frames = numbered.map(|(number, piece)| {
        let end = if number == last { END_HEADERS } else { 0 };
        if number == 0 {
            frame(HEADERS, END_STREAM | end, stream, piece)
        } else {
            frame(CONTINUATION, end, stream, piece)
        }
    });
    frames.collect()
}

/// The target `hpack`.
pub(super) fn hpack(data: &[u8]) {
    let (cuts, rest) = Cuts::split(data);
    let turns = turns(rest);
    let follow = |cuts: Cuts<'_>| {
        let mut watched = Watched::new();
        watched.feed(Side::Request, PREFACE);
        watched.feed(Side::Request, &EMPTY_SETTINGS);
        let mut next = [1_u32, 1];
        let mut extra = 0;
        for (side, block) in &turns {
            let [requests, responses] = &mut next;
            let stream = match side {
                Side::Request => requests,
                Side::Response => responses,
            };
            let frames = frames_of(block, *stream, cuts);
            *stream += 2;
            extra += (frames.len() as u64 - 1) * FRAME_HEAD_BYTES;
            watched.feed(*side, &frames.concat());
        }
        (watched.end(), extra)
    };
    let ((whole, trouble), _) = follow(Cuts::NONE);
    if trouble > 0 {
        return;
    }
    let ((cut, _), extra) = follow(cuts);
    let bytes = |told: &[Told]| told.iter().flat_map(|told| told.bytes).sum::<u64>();
    assert!(
        bytes(&cut) <= bytes(&whole) + extra,
        "bytes come from nowhere"
    );
    let without_bytes = |told: Vec<Told>| -> Vec<Told> {
        let told = told.into_iter();
        told.map(|told| Told {
            bytes: [0, 0],
            ..told
        })
        .collect()
    };
    assert_eq!(
        without_bytes(whole),
        without_bytes(cut),
        "exchanges change with the frames"
    );
}

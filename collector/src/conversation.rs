//! What two ends say to each other in plain text, whatever carries it: HTTP/1.x, HTTP/2, or something else.
//!
//! Owns: finding out which, the change from one to the other, and the end. Which answer belongs to which request is
//! `pairing.rs` for HTTP/1.x and `http2/` for HTTP/2. Refuses: sequence numbers and encryption; it is fed stretches
//! of plain bytes in order.

use std::collections::VecDeque;

use crate::{
    clock::MonotonicNs,
    exchange::Outcome,
    http::{Decoder, Side, Start},
    http2::Http2,
    ledger::{Ledger, Line},
    limits::{OPENING_BYTES_MAX, OPENING_PIECES_MAX},
    pairing::{InFlight, Pairing, Surroundings, Then},
    tcp::Piece,
};

/// A stretch that waits for the decision what the connection speaks.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) side: Side,
    bytes: Vec<u8>,
    hole: u64,
    at: MonotonicNs,
}

impl Held {
    pub(crate) fn piece(&self) -> Piece<'_> {
        Piece {
            bytes: &self.bytes,
            hole: self.hole,
            lost: false,
            at: self.at,
        }
    }
}

/// Until the first bytes of the client have told what is spoken.
#[derive(Debug)]
pub(crate) struct Opening {
    from_start: bool,
    held: Vec<Held>,
    held_bytes: usize,
}

/// Both directions of an HTTP/1.x connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    request: Decoder,
    response: Decoder,
    exchanges: VecDeque<InFlight>,
    requests: u64,
}

/// What is spoken.
#[derive(Debug)]
pub(crate) enum Conversation {
    Opening(Opening),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    /// Neither, or no longer: nothing is read.
    Foreign,
}

/// What the opening turned out to be.
#[derive(Clone, Copy, Debug)]
enum Spoken {
    NotYet,
    Http1,
    Http2,
    Tls,
    Foreign,
}

impl Conversation {
    /// Seen from its first byte, or joined midway.
    pub(crate) const fn new(from_start: bool) -> Self {
        Self::Opening(Opening {
            from_start,
            held: Vec::new(),
            held_bytes: 0,
        })
    }

    /// Takes the next stretch of one direction; complete exchanges are appended to `done`. When the opening turns
    /// out to be TLS, everything fed so far is given back.
    pub(crate) fn feed(
        &mut self,
        side: Side,
        piece: Piece<'_>,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) -> Option<Vec<Held>> {
        match self {
            Self::Foreign => {}
            Self::Http1(http) => {
                if let Some(next) = http.feed(side, piece, around) {
                    let rest = rest_of(piece, next.rest);
                    let request = http.exchanges.pop_front();
                    match (next.then, request) {
                        (Then::Http2, Some(request)) => {
                            // What was pipelined behind an upgrade has no place in HTTP/2.
                            http.abandon(around.ledger, done);
                            around.ledger.add(Line::ConnectionsHttp2, 1);
                            let mut http2 = Box::new(Http2::upgraded(request));
                            http2.feed(side, rest, around, done);
                            *self = Self::Http2(http2);
                        }
                        (Then::Http2 | Then::Tunnel | Then::Messages, request) => {
                            http.exchanges.extend(request);
                            http.ignore();
                        }
                    }
                }
                if let Self::Http1(http) = self {
                    http.hand_out(false, around.ledger, done);
                }
            }
            Self::Http2(http) => {
                let before = done.len();
                http.feed(side, piece, around, done);
                for exchange in done.iter_mut().skip(before) {
                    exchange.task = exchange.task.or(around.task);
                }
            }
            Self::Opening(opening) => {
                let spoken = opening.judge(side, piece, around);
                return self.become_spoken(spoken, around, done);
            }
        }
        None
    }

    fn become_spoken(
        &mut self,
        spoken: Spoken,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) -> Option<Vec<Held>> {
        let Self::Opening(opening) = self else {
            return None;
        };
        let from_start = opening.from_start;
        let next = match spoken {
            Spoken::NotYet => return None,
            Spoken::Tls => return Some(std::mem::take(&mut opening.held)),
            Spoken::Http1 => {
                // Joined midway, the side that told begins with a message, and the other is to be searched.
                let told = opening.held.last().map(|held| held.side);
                let begins = |side| from_start || told == Some(side);
                let (request, response) = (begins(Side::Request), begins(Side::Response));
                Self::Http1(Box::new(Http1::new(request, response)))
            }
            Spoken::Http2 => {
                around.ledger.add(Line::ConnectionsHttp2, 1);
                Self::Http2(Box::new(Http2::new(from_start)))
            }
            Spoken::Foreign => {
                around.ledger.add(Line::ForeignOther, 1);
                Self::Foreign
            }
        };
        let held = std::mem::take(&mut opening.held);
        *self = next;
        for stretch in &held {
            self.feed(stretch.side, stretch.piece(), around, done);
        }
        None
    }

    /// The connection has ended: what has no response is aborted.
    pub(crate) fn end(
        &mut self,
        at: MonotonicNs,
        reset: bool,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) {
        match self {
            Self::Http1(http) => http.end(at, reset, around.ledger, done),
            Self::Http2(http) => http.end(false, around, done),
            Self::Opening(opening) => opening.give_up(around.ledger),
            Self::Foreign => {}
        }
    }

    /// The connection is no longer followed: what has no response is truncated.
    pub(crate) fn abandon(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        match self {
            Self::Http1(http) => http.abandon(around.ledger, done),
            Self::Http2(http) => http.end(true, around, done),
            Self::Opening(opening) => opening.give_up(around.ledger),
            Self::Foreign => {}
        }
    }

    /// Bytes that are certain to follow in this direction and of no interest.
    pub(crate) fn uninteresting_bytes(&self, side: Side) -> u64 {
        match self {
            Self::Http1(http) => http.decoder(side).uninteresting_bytes(),
            Self::Http2(http) => http.uninteresting_bytes(side),
            Self::Opening(_) => 0,
            Self::Foreign => u64::MAX,
        }
    }

    /// Number of requests without a complete response.
    pub(crate) fn outstanding(&self) -> usize {
        match self {
            Self::Http1(http) => http.exchanges.len(),
            Self::Http2(http) => http.outstanding(),
            Self::Opening(_) | Self::Foreign => 0,
        }
    }
}

impl Opening {
    fn judge(&mut self, side: Side, piece: Piece<'_>, around: &Surroundings<'_>) -> Spoken {
        let spoken = if self.from_start {
            self.hold(side, piece);
            self.first_bytes(piece.lost)
        } else if let Some(start) = self.split_start(side, piece) {
            // Two segments that make the beginning of a request together.
            midway(side, &start)
        } else {
            self.held.clear();
            midway(side, piece.bytes)
        };
        match (&spoken, self.from_start) {
            (Spoken::NotYet, false) if side == Side::Request && begins_a_method(piece.bytes) => {
                self.held.clear();
                self.held_bytes = 0;
                self.hold(side, piece);
            }
            (Spoken::NotYet, false) => {
                let passed_over = piece.bytes.len() as u64 + piece.hole;
                around.ledger.add(Line::BytesSkipped, passed_over);
            }
            (Spoken::Http1 | Spoken::Http2 | Spoken::Tls, false) => self.hold(side, piece),
            (_, true) | (Spoken::Foreign, false) => {}
        }
        spoken
    }

    /// What was held of a request that is joined midway, with what follows it.
    fn split_start(&self, side: Side, piece: Piece<'_>) -> Option<Vec<u8>> {
        let held = self.held.first().filter(|_| side == Side::Request)?;
        let follows = piece.bytes.get(..piece.bytes.len().min(64))?;
        Some([&held.bytes, follows].concat())
    }

    fn hold(&mut self, side: Side, piece: Piece<'_>) {
        self.held_bytes += piece.bytes.len();
        self.held.push(Held {
            side,
            bytes: piece.bytes.to_vec(),
            hole: piece.hole,
            at: piece.at,
        });
    }

    fn first_bytes(&self, lost: bool) -> Spoken {
        let mut start = [0_u8; 16];
        let mut length = 0;
        let requests = self.held.iter().filter(|held| held.side == Side::Request);
        for (slot, byte) in start.iter_mut().zip(requests.flat_map(|held| &held.bytes)) {
            *slot = *byte;
            length += 1;
        }
        let start = start.get(..length).unwrap_or_default();
        match start {
            [] if lost => Spoken::Foreign,
            [] | [_] | [_, _] | [_, _, _] if self.is_full() => Spoken::Foreign,
            // A server that speaks first: HTTP/1.x refuses so, HTTP/2 sends its settings.
            [] if self
                .held
                .iter()
                .any(|held| held.bytes.starts_with(b"HTTP/1.")) =>
            {
                Spoken::Http1
            }
            [] | [0x16 | b'P'] | [b'P', b'R'] | [b'P', b'R', b'I'] => Spoken::NotYet,
            start => match Start::of_request(start) {
                Start::Http => Spoken::Http1,
                Start::Http2 => Spoken::Http2,
                Start::Tls => Spoken::Tls,
                Start::Foreign => Spoken::Foreign,
            },
        }
    }

    fn is_full(&self) -> bool {
        self.held_bytes > OPENING_BYTES_MAX || self.held.len() > OPENING_PIECES_MAX
    }

    fn give_up(&mut self, ledger: &Ledger) {
        ledger.add(
            Line::BytesSkipped,
            std::mem::take(&mut self.held_bytes) as u64,
        );
        self.held.clear();
    }
}

/// The methods a request is recognised by where nothing else tells that one begins.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
];

/// Whether all of it is the beginning of a method, cut off.
fn begins_a_method(bytes: &[u8]) -> bool {
    !bytes.is_empty() && METHODS.iter().any(|method| method.starts_with(bytes))
}

/// Only the first bytes of a segment are trusted to be the start of something.
fn midway(side: Side, bytes: &[u8]) -> Spoken {
    let is_http1 = match side {
        Side::Request => METHODS.iter().any(|method| bytes.starts_with(method)),
        Side::Response => bytes.starts_with(b"HTTP/1."),
    };
    if is_http1 {
        Spoken::Http1
    } else if crate::tls::records::looks_like_record(bytes) {
        Spoken::Tls
    } else if crate::http2::looks_like_frames(side, bytes) {
        Spoken::Http2
    } else {
        Spoken::NotYet
    }
}

/// What came of a stretch: the rest of it belongs to something else.
struct Changed {
    then: Then,
    rest: usize,
}

impl Http1 {
    fn new(request_from_start: bool, response_from_start: bool) -> Self {
        Self {
            request: Decoder::new(Side::Request, request_from_start),
            response: Decoder::new(Side::Response, response_from_start),
            exchanges: VecDeque::new(),
            requests: 0,
        }
    }

    const fn decoder(&self, side: Side) -> &Decoder {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    fn ignore(&mut self) {
        self.request.ignore();
        self.response.ignore();
    }

    fn feed(&mut self, side: Side, piece: Piece<'_>, around: &Surroundings<'_>) -> Option<Changed> {
        let mut pairing = Pairing {
            side,
            exchanges: &mut self.exchanges,
            requests: &mut self.requests,
            around,
            then: Then::Messages,
        };
        let decoder = match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        };
        let rest = decoder.feed(piece, &mut pairing);
        let then = pairing.then;
        (then != Then::Messages).then_some(Changed { then, rest })
    }

    fn end(&mut self, at: MonotonicNs, reset: bool, ledger: &Ledger, done: &mut Vec<InFlight>) {
        if !reset
            && self.response.ends_with_close()
            && let Some(exchange) = self
                .exchanges
                .iter_mut()
                .find(|exchange| !exchange.response_done)
            && exchange.status.is_some()
        {
            exchange.response_done = true;
            exchange.saw(Side::Response, at);
        }
        let unfinished = self.response.unfinished_head_bytes();
        if let Some(exchange) = self.exchanges.iter_mut().find(|one| !one.response_done) {
            exchange.response_bytes += unfinished;
        }
        self.hand_out(true, ledger, done);
    }

    fn abandon(&mut self, ledger: &Ledger, done: &mut Vec<InFlight>) {
        for exchange in &mut self.exchanges {
            exchange.truncated |= !(exchange.response_done && exchange.request_done);
        }
        self.hand_out(true, ledger, done);
    }

    fn hand_out(&mut self, closed: bool, ledger: &Ledger, done: &mut Vec<InFlight>) {
        while let Some(front) = self.exchanges.front() {
            let complete = front.response_done && front.request_done;
            if !complete && !closed {
                return;
            }
            let Some(exchange) = self.exchanges.pop_front() else {
                return;
            };
            count(&exchange, ledger);
            done.push(exchange);
        }
    }
}

/// The last `rest` captured bytes of a piece and the hole behind them.
fn rest_of(piece: Piece<'_>, rest: usize) -> Piece<'_> {
    let from = piece.bytes.len().saturating_sub(rest);
    Piece {
        bytes: piece.bytes.get(from..).unwrap_or_default(),
        ..piece
    }
}

/// Enters an exchange that is handed out into the ledger.
pub(crate) fn count(exchange: &InFlight, ledger: &Ledger) {
    ledger.add(Line::Exchanges, 1);
    match exchange.outcome() {
        Outcome::Aborted => ledger.add(Line::ExchangesAborted, 1),
        Outcome::Truncated => ledger.add(Line::ExchangesTruncated, 1),
        Outcome::Ok | Outcome::Error => {}
    }
}

//! One connection: two byte streams in, paired exchanges out.
//!
//! Requests wait in a FIFO for their responses (HTTP/1.1 answers in order). What is kept of a message is
//! decided by the fact rules while its head is still borrowed; nothing else is copied.

use std::collections::VecDeque;

use ebpf_probes::abi::{FlowKey, RecordHeader, tcp_flags};

use crate::{
    clock::MonotonicNs,
    exchange::Outcome,
    facts::{FactRules, Facts},
    http::{
        Decoder, Framing, Header, MessageEvent, MessageSink, RequestLine, Side, Start, StatusLine,
    },
    ledger::{Ledger, Line},
    limits::{PATH_BYTES_MAX, PIPELINE_DEPTH_MAX, SKIP_BYTES_MIN},
    tcp::{Piece, Reassembler},
};

/// A request on its way to becoming an exchange.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    /// First byte of the request.
    pub started: MonotonicNs,
    /// Last byte seen of either message.
    pub ended: MonotonicNs,
    /// First byte of the final response.
    pub response_started: Option<MonotonicNs>,
    /// Null when the head did not parse.
    pub method: Option<String>,
    /// Without the query string.
    pub path: Option<String>,
    /// 0 or 1.
    pub minor_version: u8,
    /// Of the final response.
    pub status: Option<u16>,
    /// Wire bytes.
    pub request_bytes: u64,
    /// Wire bytes, interim responses included.
    pub response_bytes: u64,
    /// From the request's fields.
    pub request_facts: Facts,
    /// From the response's fields.
    pub response_facts: Facts,
    /// Some of it was not seen.
    pub truncated: bool,
    request_done: bool,
    response_done: bool,
}

impl InFlight {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            _ if self.truncated => Outcome::Truncated,
            _ if !self.response_done => Outcome::Aborted,
            Some(500..) => Outcome::Error,
            _ => Outcome::Ok,
        }
    }
}

/// A body the kernel need not copy: nothing of `flow` before `until` (a sequence number) is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipHint {
    /// Direction of the body.
    pub flow: FlowKey,
    /// First sequence number wanted again.
    pub until: u32,
}

#[derive(Debug)]
struct Direction {
    stream: Reassembler,
    decoder: Decoder,
    hinted_until: Option<u32>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    request: Direction,
    response: Direction,
    exchanges: VecDeque<InFlight>,
    /// When the last record came.
    pub last_seen: MonotonicNs,
    /// Both ends are done; kept a little so that late records find it.
    pub closed: bool,
}

/// What the connection needs from around it while it digests a record.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// What to keep of messages.
    pub rules: &'a FactRules,
    /// Where to count.
    pub ledger: &'a Ledger,
}

impl Direction {
    fn new(side: Side, from_start: bool) -> Self {
        Self {
            stream: Reassembler::default(),
            decoder: Decoder::new(side, from_start),
            hinted_until: None,
        }
    }

    /// Asks the kernel to stop copying a long body, once per gigabyte of it.
    fn hint(&mut self, flow: FlowKey) -> Option<SkipHint> {
        const HINT_BYTES_MAX: u64 = 1 << 30;
        let ahead = self.decoder.uninteresting_bytes();
        let position = self.stream.position()?;
        let covered = self
            .hinted_until
            .is_some_and(|until| until.wrapping_sub(position).cast_signed() > 1 << 20);
        if ahead < SKIP_BYTES_MIN || covered {
            return None;
        }
        let until = position.wrapping_add(u32::try_from(ahead.min(HINT_BYTES_MAX)).ok()?);
        if self.hinted_until == Some(until) {
            return None;
        }
        self.hinted_until = Some(until);
        Some(SkipHint { flow, until })
    }
}

impl Connection {
    /// A connection first seen by this record.
    pub fn new(first: &RecordHeader) -> Self {
        let from_start = first.tcp_flags & tcp_flags::SYN != 0;
        Self {
            request: Direction::new(Side::Request, from_start),
            response: Direction::new(Side::Response, from_start),
            exchanges: VecDeque::new(),
            last_seen: MonotonicNs(first.monotonic_ns),
            closed: false,
        }
    }

    /// Whether a SYN of the client founds a new connection on these ports instead of repeating the first.
    pub fn is_superseded_by(&self, syn: &RecordHeader) -> bool {
        let same_start = self.request.stream.position() == Some(syn.sequence.wrapping_add(1));
        !same_start || self.closed
    }

    /// Digests one record of the given direction and hands out what is complete.
    pub fn observe(
        &mut self,
        side: Side,
        header: &RecordHeader,
        captured: &[u8],
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) -> Option<SkipHint> {
        let at = MonotonicNs(header.monotonic_ns);
        self.last_seen = at;
        let flags = header.tcp_flags;
        if flags & tcp_flags::SYN != 0 {
            self.direction(side).stream.start(header.sequence);
        }
        if header.payload_bytes > 0 {
            self.feed(side, header, captured, around);
        }
        if flags & tcp_flags::FIN != 0 {
            let end = header.sequence.wrapping_add(header.payload_bytes);
            self.direction(side).stream.finish_at(end);
        }
        let server_finished = self.response.stream.is_finished();
        if flags & tcp_flags::RST != 0 || (server_finished && !self.closed) {
            self.close(at, flags & tcp_flags::RST != 0, around);
        }
        self.hand_out(around, done);
        self.direction(side).hint(header.flow)
    }

    /// Ends the connection from outside: evicted, idle, or the collector stops.
    pub fn abandon(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        for exchange in &mut self.exchanges {
            exchange.truncated |= !(exchange.response_done && exchange.request_done);
        }
        self.closed = true;
        self.hand_out(around, done);
    }

    /// Number of requests without a complete response.
    pub fn outstanding(&self) -> usize {
        self.exchanges.len()
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    fn feed(
        &mut self,
        side: Side,
        header: &RecordHeader,
        captured: &[u8],
        around: &Surroundings<'_>,
    ) {
        let Self {
            request,
            response,
            exchanges,
            ..
        } = self;
        let direction = match side {
            Side::Request => request,
            Side::Response => response,
        };
        let before = direction.stream.duplicate_segments();
        let Direction {
            stream, decoder, ..
        } = direction;
        let mut pairing = Pairing {
            side,
            exchanges,
            around,
            tunnel: false,
        };
        let at = MonotonicNs(header.monotonic_ns);
        stream.push(
            header.sequence,
            header.payload_bytes,
            captured,
            at,
            |piece| {
                count_loss(&piece, around.ledger);
                decoder.feed(piece, &mut pairing);
            },
        );
        let tunnel = pairing.tunnel;
        around.ledger.add(
            Line::SegmentsDuplicate,
            direction.stream.duplicate_segments() - before,
        );
        if tunnel {
            self.request.decoder.ignore();
            self.response.decoder.ignore();
        }
    }

    fn close(&mut self, at: MonotonicNs, reset: bool, around: &Surroundings<'_>) {
        for side in [Side::Request, Side::Response] {
            let Self {
                request,
                response,
                exchanges,
                ..
            } = self;
            let Direction {
                stream, decoder, ..
            } = match side {
                Side::Request => request,
                Side::Response => response,
            };
            let mut pairing = Pairing {
                side,
                exchanges,
                around,
                tunnel: false,
            };
            stream.flush(|piece| {
                count_loss(&piece, around.ledger);
                decoder.feed(piece, &mut pairing);
            });
        }
        if !reset
            && self.response.decoder.ends_with_close()
            && let Some(exchange) = self
                .exchanges
                .iter_mut()
                .find(|exchange| !exchange.response_done)
        {
            exchange.response_done = true;
            exchange.ended = exchange.ended.max(at);
        }
        self.closed = true;
    }

    fn hand_out(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        while let Some(front) = self.exchanges.front() {
            let complete = front.response_done && front.request_done;
            if !complete && !self.closed {
                return;
            }
            let Some(exchange) = self.exchanges.pop_front() else {
                return;
            };
            around.ledger.add(Line::Exchanges, 1);
            match exchange.outcome() {
                Outcome::Aborted => around.ledger.add(Line::ExchangesAborted, 1),
                Outcome::Truncated => around.ledger.add(Line::ExchangesTruncated, 1),
                Outcome::Ok | Outcome::Error => {}
            }
            done.push(exchange);
        }
    }
}

fn count_loss(piece: &Piece<'_>, ledger: &Ledger) {
    if piece.lost {
        ledger.add(Line::BytesLost, piece.hole);
    }
}

/// Puts messages of one direction into the FIFO.
struct Pairing<'a> {
    side: Side,
    exchanges: &'a mut VecDeque<InFlight>,
    around: &'a Surroundings<'a>,
    tunnel: bool,
}

impl Pairing<'_> {
    /// The exchange that the current message of this direction belongs to.
    fn current(&mut self) -> Option<&mut InFlight> {
        match self.side {
            Side::Request => self
                .exchanges
                .back_mut()
                .filter(|exchange| !exchange.request_done),
            Side::Response => self
                .exchanges
                .iter_mut()
                .find(|exchange| !exchange.response_done),
        }
    }

    /// A head without readable fields. A request's still gets an answer, so it keeps its place in the FIFO.
    fn unreadable(&mut self, at: MonotonicNs, request_done: bool) {
        self.around.ledger.add(Line::HeadsMalformed, 1);
        match self.side {
            Side::Request => self.add(InFlight {
                started: at,
                ended: at,
                truncated: true,
                request_done,
                minor_version: 1,
                ..InFlight::default()
            }),
            Side::Response => {
                if let Some(exchange) = self.current() {
                    exchange.truncated = true;
                }
            }
        }
    }

    fn add(&mut self, exchange: InFlight) {
        if self.exchanges.len() < PIPELINE_DEPTH_MAX {
            self.exchanges.push_back(exchange);
        } else {
            self.around.ledger.add(Line::RequestsBeyondDepth, 1);
        }
    }
}

impl MessageSink for Pairing<'_> {
    fn request(&mut self, line: RequestLine<'_>, headers: &[Header<'_>], started: MonotonicNs) {
        let request_facts = self.around.rules.of_request(headers);
        self.add(InFlight {
            started,
            ended: started,
            method: Some(line.method.to_owned()),
            path: Some(path_of(line.target)),
            minor_version: line.minor_version,
            request_facts,
            ..InFlight::default()
        });
    }

    fn response(
        &mut self,
        line: StatusLine,
        headers: &[Header<'_>],
        started: MonotonicNs,
    ) -> Framing {
        let response_facts = self.around.rules.of_response(headers);
        let Some(exchange) = self.current() else {
            self.around.ledger.add(Line::ResponsesOrphaned, 1);
            return Framing::of_response(line.code, None, headers);
        };
        let framing = Framing::of_response(line.code, exchange.method.as_deref(), headers);
        let is_interim = line.code < 200 && line.code != 101;
        if !is_interim {
            exchange.status = Some(line.code);
            exchange.response_started = Some(started);
            exchange.response_facts = response_facts;
        }
        self.tunnel |= framing == Framing::Tunnel;
        framing
    }

    fn event(&mut self, event: MessageEvent) {
        let side = self.side;
        match event {
            MessageEvent::Bytes(count, at) => {
                if let Some(exchange) = self.current() {
                    exchange.ended = exchange.ended.max(at);
                    match side {
                        Side::Request => exchange.request_bytes += count,
                        Side::Response => exchange.response_bytes += count,
                    }
                }
            }
            MessageEvent::End(at) => {
                if let Some(exchange) = self.current() {
                    exchange.ended = exchange.ended.max(at);
                    match side {
                        Side::Request => exchange.request_done = true,
                        Side::Response => exchange.response_done = exchange.status.is_some(),
                    }
                }
            }
            MessageEvent::Lost => {
                for exchange in self.exchanges.iter_mut() {
                    exchange.truncated |= !exchange.response_done;
                    exchange.request_done = true;
                    exchange.response_done = true;
                }
            }
            MessageEvent::Malformed(at) => self.unreadable(at, true),
            MessageEvent::Oversized(at) => self.unreadable(at, false),
            MessageEvent::Skipped(count) => self.around.ledger.add(Line::BytesSkipped, count),
            MessageEvent::Foreign(start) => {
                self.tunnel = true;
                self.around.ledger.add(foreign_line(start), 1);
            }
        }
    }
}

const fn foreign_line(start: Start) -> Line {
    match start {
        Start::Http2 => Line::ForeignHttp2,
        Start::Tls => Line::ForeignTls,
        Start::Http | Start::Foreign => Line::ForeignOther,
    }
}

/// The path of a request target: no query, no scheme and authority, no unbounded length.
fn path_of(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => path,
    };
    path.chars().take(PATH_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn a_target_is_reduced_to_its_path() {
        assert_eq!(path_of("/pay?card=4111"), "/pay");
        assert_eq!(path_of("http://shop.example/cart?x"), "/cart");
        assert_eq!(path_of("http://shop.example"), "/");
        assert_eq!(path_of("*"), "*");
    }
}

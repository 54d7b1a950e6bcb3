//! One connection: two byte streams in, exchanges out, in order of their requests.
//!
//! Owns: the two streams, hints to the kernel, opening and closing. Which answer belongs to which request is
//! `pairing.rs`.

use std::collections::VecDeque;

use ebpf_probes::abi::{FlowKey, RecordHeader, tcp_flags};

use crate::{
    clock::MonotonicNs,
    exchange::Outcome,
    http::{Decoder, Side},
    ledger::{Ledger, Line},
    limits::SKIP_BYTES_MIN,
    pairing::{InFlight, Pairing, Surroundings},
    tcp::{Piece, Reassembler},
};

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

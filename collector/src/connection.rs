//! One connection: two byte streams in, exchanges out, in order of their requests.
//!
//! Owns: the two streams, hints to the kernel, opening and closing, and the health that TCP shows. What is said on
//! it is `conversation.rs`, with or without `tls/` around it.

use std::sync::Arc;

use ebpf_probes::abi::{FlowKey, INGRESS, RecordHeader, Skip, tcp_flags};

use crate::{
    clock::MonotonicNs,
    conversation::Conversation,
    health::ConnectionHealth,
    http::Side,
    ledger::{Ledger, Line},
    limits::SKIP_BYTES_MIN,
    pairing::{InFlight, Surroundings},
    pipeline::OpenedBy,
    tcp::{Piece, Reassembler},
    tls::TlsLayer,
};

/// A body the kernel need not copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkipHint {
    /// Direction of the body, as the kernel looks it up.
    pub flow: FlowKey,
    /// Which bytes of it.
    pub skip: Skip,
}

/// One direction: bytes in order, and what the kernel was told about them.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) stream: Reassembler,
    hinted_until: Option<u32>,
}

/// What carries the conversation.
#[derive(Debug)]
enum Carrier {
    Clear(Conversation),
    Tls(Box<TlsLayer>),
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    /// Tells connections on the same addresses and ports apart: the client's first sequence number, which both ends
    /// see; or, joined midway, the time.
    pub identity: u64,
    from_start: bool,
    request: Flow,
    response: Flow,
    carrier: Carrier,
    /// How it fares.
    pub health: ConnectionHealth,
    /// When the last record came.
    pub last_seen: MonotonicNs,
    /// Who opened it, when that was on this host.
    pub(crate) opener: Option<Arc<OpenedBy>>,
    /// Both ends are done; kept a little so that late records find it.
    pub closed: bool,
}

impl Flow {
    /// Takes one segment and passes on whatever is now in order.
    pub(crate) fn push(
        &mut self,
        header: &RecordHeader,
        captured: &[u8],
        at: MonotonicNs,
        ledger: &Ledger,
        mut pass: impl FnMut(Piece<'_>),
    ) {
        let before = self.stream.duplicate_segments();
        let (sequence, bytes) = (header.sequence, header.payload_bytes);
        self.stream.push(sequence, bytes, captured, at, |piece| {
            count_loss(&piece, ledger);
            pass(piece);
        });
        let again = self.stream.duplicate_segments() - before;
        ledger.add(Line::SegmentsDuplicate, again);
    }

    /// Passes on everything held.
    pub(crate) fn flush(&mut self, ledger: &Ledger, mut pass: impl FnMut(Piece<'_>)) {
        self.stream.flush(|piece| {
            count_loss(&piece, ledger);
            pass(piece);
        });
    }

    /// Asks the kernel to stop copying what is of no interest, once per gigabyte of it.
    pub(crate) fn hint(&mut self, header: &RecordHeader, ahead: u64) -> Option<SkipHint> {
        const HINT_BYTES_MAX: u64 = 1 << 30;
        if ahead < SKIP_BYTES_MIN {
            return None;
        }
        let position = self.stream.position()?;
        let covered = self
            .hinted_until
            .is_some_and(|until| until.wrapping_sub(position).cast_signed() > 1 << 20);
        if covered {
            return None;
        }
        let until = position.wrapping_add(u32::try_from(ahead.min(HINT_BYTES_MAX)).ok()?);
        if self.hinted_until == Some(until) {
            return None;
        }
        self.hinted_until = Some(until);
        Some(SkipHint {
            flow: header.flow.for_skips(header.kind, header.side),
            skip: Skip {
                from: position,
                until,
            },
        })
    }
}

impl Connection {
    /// A connection first seen by this record.
    pub(crate) fn new(first: &RecordHeader, opener: Option<Arc<OpenedBy>>) -> Self {
        let from_start = first.tcp_flags & tcp_flags::SYN != 0;
        Self {
            identity: if from_start {
                u64::from(first.sequence)
            } else {
                first.monotonic_ns
            },
            from_start,
            request: Flow::default(),
            response: Flow::default(),
            carrier: Carrier::Clear(Conversation::new(from_start)),
            health: ConnectionHealth::default(),
            last_seen: MonotonicNs(first.monotonic_ns),
            opener,
            closed: false,
        }
    }

    /// Whether a SYN of the client founds a new connection on these ports instead of repeating the first.
    pub fn is_superseded_by(&self, syn: &RecordHeader) -> bool {
        let same_start = self.request.stream.position() == Some(syn.sequence.wrapping_add(1));
        !same_start || self.closed
    }

    /// Whether its bytes are encrypted on the wire.
    pub const fn is_tls(&self) -> bool {
        matches!(self.carrier, Carrier::Tls(_))
    }

    /// Digests one segment of the given direction and hands out what is complete.
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
        self.health.observe(side, header);
        let flags = header.tcp_flags;
        if flags & tcp_flags::SYN != 0 {
            self.flow(side).stream.start(header.sequence);
        }
        if header.payload_bytes > 0 {
            self.feed(side, header, captured, around, done);
        }
        if flags & tcp_flags::FIN != 0 {
            let end = header.sequence.wrapping_add(header.payload_bytes);
            self.flow(side).stream.finish_at(end);
        }
        let server_finished = self.response.stream.is_finished();
        let reset = flags & tcp_flags::RST != 0;
        if reset || (server_finished && !self.closed) {
            self.close(at, reset, around, done);
        }
        let ahead = match &self.carrier {
            Carrier::Clear(conversation) => conversation.uninteresting_bytes(side),
            Carrier::Tls(layer) => layer.uninteresting_bytes(side),
        };
        self.flow(side).hint(header, ahead)
    }

    /// Digests plain bytes of a TLS session that this connection carries.
    pub fn plaintext(
        &mut self,
        side: Side,
        header: &RecordHeader,
        captured: &[u8],
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) -> Option<SkipHint> {
        self.last_seen = self.last_seen.max(MonotonicNs(header.monotonic_ns));
        if let Carrier::Clear(conversation) = &mut self.carrier {
            conversation.abandon(around, done);
            // Joined midway: what crossed the wire so far did not tell.
            around.ledger.add(Line::ConnectionsTls, 1);
            self.carrier = Carrier::Tls(Box::new(TlsLayer::new(self.from_start, &[])));
        }
        let Carrier::Tls(layer) = &mut self.carrier else {
            return None;
        };
        layer.plaintext(side, header, captured, around, done)
    }

    /// Forgets a connection that has ended: what the process has not read by now, it never will.
    pub fn bury(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        if let Carrier::Tls(layer) = &mut self.carrier {
            layer.bury(around, done);
        }
        self.abandon(around, done);
    }

    /// Ends the connection from outside: evicted, idle, or the collector stops.
    fn abandon(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        match &mut self.carrier {
            Carrier::Clear(conversation) => conversation.abandon(around, done),
            Carrier::Tls(layer) => layer.abandon(around, done),
        }
        self.closed = true;
    }

    /// Number of requests without a complete response.
    pub fn outstanding(&self) -> usize {
        match &self.carrier {
            Carrier::Clear(conversation) => conversation.outstanding(),
            Carrier::Tls(layer) => layer.outstanding(),
        }
    }

    const fn flow(&mut self, side: Side) -> &mut Flow {
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
        done: &mut Vec<InFlight>,
    ) {
        let at = MonotonicNs(header.monotonic_ns);
        let (carrier, from_start) = (&mut self.carrier, self.from_start);
        let flow = match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        };
        flow.push(header, captured, at, around.ledger, |piece| {
            carry(carrier, from_start, side, piece, around, done);
        });
        if let Carrier::Tls(layer) = &mut self.carrier {
            if header.direction == INGRESS {
                layer.arrived(at);
            }
            if let Some(outcome) = layer.wire.take_outcome() {
                self.health.handshake(outcome);
                layer.stop_reading_the_wire();
            }
        }
    }

    fn close(
        &mut self,
        at: MonotonicNs,
        reset: bool,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) {
        let (carrier, from_start) = (&mut self.carrier, self.from_start);
        for (side, flow) in [
            (Side::Request, &mut self.request),
            (Side::Response, &mut self.response),
        ] {
            flow.flush(around.ledger, |piece| {
                carry(carrier, from_start, side, piece, around, done);
            });
        }
        match &mut self.carrier {
            Carrier::Clear(conversation) => conversation.end(at, reset, around, done),
            Carrier::Tls(layer) => {
                layer.wire_ended(at, reset, around, done);
                if let Some(outcome) = layer.wire.take_outcome() {
                    self.health.handshake(outcome);
                }
            }
        }
        self.closed = true;
    }
}

fn carry(
    carrier: &mut Carrier,
    from_start: bool,
    side: Side,
    piece: Piece<'_>,
    around: &Surroundings<'_>,
    done: &mut Vec<InFlight>,
) {
    match carrier {
        Carrier::Clear(conversation) => {
            if let Some(so_far) = conversation.feed(side, piece, around, done) {
                around.ledger.add(Line::ConnectionsTls, 1);
                *carrier = Carrier::Tls(Box::new(TlsLayer::new(from_start, &so_far)));
            }
        }
        Carrier::Tls(layer) => layer.wire_piece(side, piece),
    }
}

fn count_loss(piece: &Piece<'_>, ledger: &Ledger) {
    if piece.lost {
        ledger.add(Line::BytesLost, piece.hole);
    }
}

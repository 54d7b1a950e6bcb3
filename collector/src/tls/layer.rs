//! A connection that speaks TLS: the wire as `handshake.rs` reads it, and the plain text as probes deliver it.
//!
//! The clock of what a process reads starts when the encrypted bytes arrive at the host, not when the process gets
//! round to reading them; the clock of what it writes is that of the write.

use ebpf_probes::abi::{INGRESS, RecordHeader};

use super::handshake::TlsConnection;
use crate::{
    clock::MonotonicNs,
    connection::{Flow, SkipHint},
    conversation::{Conversation, Held},
    http::Side,
    ledger::Line,
    pairing::{InFlight, Surroundings},
    tcp::Piece,
};

/// Wire and plain text of one connection.
#[derive(Debug)]
pub(crate) struct TlsLayer {
    /// Read from the wire.
    pub(crate) wire: TlsConnection,
    inside: Conversation,
    request: Flow,
    response: Flow,
    /// When the oldest bytes arrived that no process has read yet.
    unread_since: Option<MonotonicNs>,
    /// Those bytes may be the end of the handshake and nothing more.
    may_be_handshake: bool,
    any_plaintext: bool,
    wire_is_read: bool,
    end: End,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// When the connection ended on the wire, and whether by a reset.
    OnTheWire(MonotonicNs, bool),
    /// The conversation has been ended too.
    Buried,
}

impl TlsLayer {
    /// A connection whose stretches so far are given.
    pub(crate) fn new(from_start: bool, so_far: &[Held]) -> Self {
        let plain = || {
            let mut flow = Flow::default();
            if from_start {
                // The first plain byte has offset zero.
                flow.stream.start(u32::MAX);
            }
            flow
        };
        let mut layer = Self {
            wire: TlsConnection::new(from_start),
            inside: Conversation::new(from_start),
            request: plain(),
            response: plain(),
            unread_since: None,
            may_be_handshake: false,
            any_plaintext: false,
            wire_is_read: false,
            end: End::NotYet,
        };
        for held in so_far {
            layer.wire_piece(held.side, held.piece());
        }
        layer
    }

    /// Takes a stretch of encrypted bytes.
    pub(crate) fn wire_piece(&mut self, side: Side, piece: Piece<'_>) {
        if !self.wire_is_read {
            self.wire.feed(side, piece);
        }
    }

    /// Encrypted bytes have arrived at this host.
    pub(crate) fn arrived(&mut self, at: MonotonicNs) {
        if self.may_be_handshake || self.unread_since.is_none() {
            self.unread_since = Some(at);
        }
        self.may_be_handshake = !self.wire_is_read;
    }

    /// The handshake is over: from now on only the times of segments matter, not what is in them. What came last
    /// may have brought the first data along.
    pub(crate) const fn stop_reading_the_wire(&mut self) {
        self.wire_is_read = true;
    }

    /// Bytes on the wire that are certain to follow and of no interest.
    pub(crate) fn uninteresting_bytes(&self, side: Side) -> u64 {
        if self.wire_is_read {
            u64::MAX
        } else {
            self.wire.uninteresting_bytes(side)
        }
    }

    /// Takes plain bytes that a process has read or written.
    pub(crate) fn plaintext(
        &mut self,
        side: Side,
        header: &RecordHeader,
        captured: &[u8],
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) -> Option<SkipHint> {
        self.any_plaintext = true;
        let now = MonotonicNs(header.monotonic_ns);
        let at = if header.direction == INGRESS {
            self.may_be_handshake = false;
            self.unread_since.take().unwrap_or(now)
        } else {
            if side == Side::Request {
                // What came before the request was sent is no answer to it.
                self.unread_since = None;
            }
            now
        };
        let inside = &mut self.inside;
        let flow = match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        };
        flow.push(header, captured, at, around.ledger, |piece| {
            // TLS inside TLS is not read.
            drop(inside.feed(side, piece, around, done));
        });
        flow.hint(header, self.inside.uninteresting_bytes(side))
    }

    /// The connection has ended on the wire. The process may still read what has arrived, so that the conversation
    /// ends only when everything in flight is complete, or the connection is buried.
    pub(crate) fn wire_ended(
        &mut self,
        at: MonotonicNs,
        reset: bool,
        around: &Surroundings<'_>,
        done: &mut Vec<InFlight>,
    ) {
        if self.end != End::NotYet {
            return;
        }
        self.wire.end(at, reset);
        self.end = End::OnTheWire(at, reset);
        if self.any_plaintext && self.inside.outstanding() == 0 {
            self.bury(around, done);
        }
    }

    /// Ends the conversation, if the connection has ended.
    pub(crate) fn bury(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        let End::OnTheWire(at, reset) = self.end else {
            return;
        };
        self.end = End::Buried;
        self.flush(around, done);
        self.inside.end(at, reset, around, done);
        if !self.any_plaintext {
            around.ledger.add(Line::TlsUnread, 1);
        }
    }

    /// The connection is no longer followed.
    pub(crate) fn abandon(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        self.flush(around, done);
        self.inside.abandon(around, done);
    }

    fn flush(&mut self, around: &Surroundings<'_>, done: &mut Vec<InFlight>) {
        let inside = &mut self.inside;
        for (side, flow) in [
            (Side::Request, &mut self.request),
            (Side::Response, &mut self.response),
        ] {
            flow.flush(around.ledger, |piece| {
                drop(inside.feed(side, piece, around, done));
            });
        }
    }

    /// Number of requests without a complete response.
    pub(crate) fn outstanding(&self) -> usize {
        self.inside.outstanding()
    }
}

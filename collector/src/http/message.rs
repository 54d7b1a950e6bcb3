//! One direction of a connection as a sequence of messages.
//!
//! Owns: where each message starts and ends in the stream. Refuses: knowing the other direction; what
//! it must know of it (the method a response answers) it asks its [`MessageSink`].

use super::{
    body::{Framing, Progress},
    head::{self, Header, Parsed, RequestLine, Start, StatusLine},
};
use crate::{clock::MonotonicNs, limits::HEAD_BYTES_MAX, tcp::Piece};

/// Which messages this direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From client to server.
    Request,
    /// From server to client.
    Response,
}

/// What happens in the stream, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEvent {
    /// Bytes (of head or body) went over the wire for the current message.
    Bytes(u64, MonotonicNs),
    /// The current message is complete.
    End(MonotonicNs),
    /// The current message cannot be followed to its end.
    Lost,
    /// The rest of a head was not captured; the loss follows.
    HeadCut,
    /// The stream is not HTTP/1.x; everything after is ignored.
    Foreign,
    /// A head that does not parse, seen where a message had to start.
    Malformed(MonotonicNs),
    /// A head that outgrows its limit: its end is still looked for, its fields are not kept.
    Oversized(MonotonicNs),
    /// Bytes passed over while looking for the start of a message.
    Skipped(u64),
}

/// Receives the messages of one direction.
pub trait MessageSink {
    /// A request head; `started` is when its first byte was seen.
    fn request(&mut self, line: RequestLine<'_>, headers: &[Header<'_>], started: MonotonicNs);
    /// A response head. `None` as framing asks to be told by status, fields and the method answered.
    fn response(
        &mut self,
        line: StatusLine,
        headers: &[Header<'_>],
        started: MonotonicNs,
    ) -> Framing;
    /// Everything else.
    fn event(&mut self, event: MessageEvent);
}

#[derive(Debug)]
enum State {
    /// Between messages or inside a head; the bytes of the head so far.
    Head {
        buffer: Vec<u8>,
        started: MonotonicNs,
    },
    /// The head outgrew its limit: looking for its end without keeping it.
    Oversized {
        tail: [u8; 4],
    },
    Body(Framing),
    /// Looking for a segment that starts with a message.
    Searching,
    /// Not HTTP, or no longer.
    Ignoring,
}

/// The decoder of one direction.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    state: State,
    any_message: bool,
}

impl Decoder {
    /// A decoder at the start of the stream, or in the middle of one that began before we looked.
    pub fn new(side: Side, from_start: bool) -> Self {
        let state = if from_start {
            Self::fresh_head()
        } else {
            State::Searching
        };
        Self {
            side,
            state,
            any_message: false,
        }
    }

    const fn fresh_head() -> State {
        State::Head {
            buffer: Vec::new(),
            started: MonotonicNs(0),
        }
    }

    /// Bytes that are certain to follow and of no interest.
    pub const fn uninteresting_bytes(&self) -> u64 {
        match &self.state {
            State::Body(framing) => framing.uninteresting_bytes(),
            State::Ignoring => u64::MAX,
            State::Head { .. } | State::Oversized { .. } | State::Searching => 0,
        }
    }

    /// Bytes of a head that has not come to its end.
    pub const fn unfinished_head_bytes(&self) -> u64 {
        match &self.state {
            State::Head { buffer, .. } => buffer.len() as u64,
            State::Oversized { .. } | State::Body(_) | State::Searching | State::Ignoring => 0,
        }
    }

    /// Whether the current message ends when the sender closes.
    pub const fn ends_with_close(&self) -> bool {
        matches!(
            self.state,
            State::Body(Framing::UntilClose | Framing::Tunnel)
        )
    }

    /// From now on this direction is no longer HTTP (the other end accepted an upgrade).
    pub fn ignore(&mut self) {
        self.state = State::Ignoring;
    }

    /// Takes the next stretch of the stream. Returns how many of its captured bytes lie behind an upgrade.
    pub fn feed(&mut self, piece: Piece<'_>, sink: &mut impl MessageSink) -> usize {
        if piece.lost {
            self.lose(sink);
            return 0;
        }
        let (mut bytes, mut hole) = (piece.bytes, piece.hole);
        while !bytes.is_empty() || hole > 0 {
            let go_on = match &mut self.state {
                State::Ignoring => false,
                State::Searching => self.search(bytes, hole, sink),
                State::Head { .. } => self.head(&mut bytes, hole, piece.at, sink),
                State::Oversized { .. } => self.oversized(&mut bytes, hole, piece.at, sink),
                State::Body(_) => self.body(&mut bytes, &mut hole, piece.at, sink),
            };
            if !go_on {
                let upgraded = matches!(self.state, State::Ignoring);
                return if upgraded { bytes.len() } else { 0 };
            }
        }
        0
    }

    fn lose(&mut self, sink: &mut impl MessageSink) {
        if !matches!(self.state, State::Ignoring) {
            self.state = State::Searching;
            sink.event(MessageEvent::Lost);
        }
    }

    /// Only the first byte of a segment is trusted as the start of a message.
    fn search(&mut self, bytes: &[u8], hole: u64, sink: &mut impl MessageSink) -> bool {
        let found = !bytes.is_empty()
            && match self.side {
                Side::Request => bytes.len() > 4 && head::looks_like_request(bytes),
                Side::Response => bytes.len() > 7 && head::looks_like_response(bytes),
            };
        if found {
            self.state = Self::fresh_head();
        } else {
            sink.event(MessageEvent::Skipped(bytes.len() as u64 + hole));
        }
        found
    }

    fn head(
        &mut self,
        bytes: &mut &[u8],
        hole: u64,
        at: MonotonicNs,
        sink: &mut impl MessageSink,
    ) -> bool {
        let State::Head { buffer, started } = &mut self.state else {
            return false;
        };
        if buffer.is_empty() {
            if self.side == Side::Request {
                *bytes = head::trim_leading_newlines(bytes);
            }
            if bytes.is_empty() {
                if hole > 0 {
                    self.lose(sink);
                }
                return false;
            }
            *started = at;
        }
        let started = *started;
        let buffered = buffer.len();
        let mut whole = std::mem::take(buffer);
        let view: &[u8] = if whole.is_empty() {
            bytes
        } else {
            let room = (HEAD_BYTES_MAX + 1).saturating_sub(whole.len());
            whole.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            &whole
        };
        match Self::parse(self.side, view, started, sink) {
            Parsed::Complete(length, framing) => {
                self.any_message = true;
                *bytes = bytes
                    .get(length.saturating_sub(buffered)..)
                    .unwrap_or_default();
                sink.event(MessageEvent::Bytes(length as u64, at));
                self.enter_body(framing, at, sink);
                true
            }
            Parsed::Malformed => self.malformed(Start::of_request(view), at, sink),
            Parsed::Partial if view.len() > HEAD_BYTES_MAX => {
                // Stop keeping the head, but find its end; the fields seen so far are lost with it.
                let kept = view.len() - buffered;
                let mut tail = [0_u8; 4];
                tail.copy_from_slice(view.last_chunk::<4>().unwrap_or(&[0; 4]));
                sink.event(MessageEvent::Oversized(started));
                sink.event(MessageEvent::Bytes(view.len() as u64, at));
                *bytes = bytes.get(kept..).unwrap_or_default();
                self.state = State::Oversized { tail };
                true
            }
            Parsed::Partial if hole > 0 => {
                sink.event(MessageEvent::HeadCut);
                self.lose(sink);
                false
            }
            Parsed::Partial => {
                if whole.is_empty() {
                    whole.extend_from_slice(bytes);
                }
                self.state = State::Head {
                    buffer: whole,
                    started,
                };
                false
            }
        }
    }

    fn parse(
        side: Side,
        view: &[u8],
        started: MonotonicNs,
        sink: &mut impl MessageSink,
    ) -> Parsed<Framing> {
        match side {
            Side::Request => {
                let parsed =
                    head::parse_request(view, |line, headers| sink.request(line, headers, started));
                match parsed {
                    Parsed::Complete(length, (framing, ())) => Parsed::Complete(length, framing),
                    Parsed::Partial => Parsed::Partial,
                    Parsed::Malformed => Parsed::Malformed,
                }
            }
            Side::Response => {
                head::parse_response(view, |line, headers| sink.response(line, headers, started))
            }
        }
    }

    fn malformed(&mut self, start: Start, at: MonotonicNs, sink: &mut impl MessageSink) -> bool {
        if self.side == Side::Request && !self.any_message && start != Start::Http {
            self.state = State::Ignoring;
            sink.event(MessageEvent::Foreign);
        } else {
            self.state = State::Searching;
            sink.event(MessageEvent::Malformed(at));
        }
        false
    }

    fn oversized(
        &mut self,
        bytes: &mut &[u8],
        hole: u64,
        at: MonotonicNs,
        sink: &mut impl MessageSink,
    ) -> bool {
        let State::Oversized { tail } = &mut self.state else {
            return false;
        };
        let mut used = 0;
        for byte in *bytes {
            used += 1;
            tail.rotate_left(1);
            tail[3] = *byte;
            if tail == b"\r\n\r\n" {
                *bytes = bytes.get(used..).unwrap_or_default();
                sink.event(MessageEvent::Bytes(used as u64, at));
                sink.event(MessageEvent::End(at));
                // A body may follow whose length went by unread: only a clear start is believed.
                self.state = State::Searching;
                return true;
            }
        }
        sink.event(MessageEvent::Bytes(used as u64, at));
        *bytes = &[];
        if hole > 0 {
            self.lose(sink);
        }
        false
    }

    fn enter_body(&mut self, framing: Framing, at: MonotonicNs, sink: &mut impl MessageSink) {
        if framing == Framing::Length(0) {
            self.state = Self::fresh_head();
            sink.event(MessageEvent::End(at));
        } else if framing == Framing::Tunnel {
            self.state = State::Ignoring;
            sink.event(MessageEvent::End(at));
        } else {
            self.state = State::Body(framing);
        }
    }

    fn body(
        &mut self,
        bytes: &mut &[u8],
        hole: &mut u64,
        at: MonotonicNs,
        sink: &mut impl MessageSink,
    ) -> bool {
        let State::Body(framing) = &mut self.state else {
            return false;
        };
        let before = bytes.len() as u64 + *hole;
        let progress = framing.consume(bytes, hole);
        let used = before - (bytes.len() as u64 + *hole);
        if used > 0 {
            sink.event(MessageEvent::Bytes(used, at));
        }
        match progress {
            Progress::More => true,
            Progress::Done => {
                self.state = Self::fresh_head();
                sink.event(MessageEvent::End(at));
                true
            }
            Progress::Lost => {
                self.lose(sink);
                false
            }
        }
    }
}

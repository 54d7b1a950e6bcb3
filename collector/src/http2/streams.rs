//! The streams of one connection that are on their way to becoming exchanges.
//!
//! Owns: which frame belongs to which exchange, and when an exchange is complete. Refuses: streams that the server
//! pushes; they answer no request.

use std::collections::{BTreeMap, BTreeSet};

use super::{block::Block, head::Head};
use crate::{
    clock::MonotonicNs,
    conversation,
    exchange::Protocol,
    http::Side,
    ledger::Line,
    pairing::{InFlight, Surroundings, path_of},
    privacy::scrub,
};

/// Streams followed at once on one connection.
pub(super) const STREAMS_MAX: usize = 1_024;
/// Streams remembered as of no interest, so that late frames on them are not taken for something else.
const IGNORED_MAX: usize = 1_024;
/// A stream whose end may have been lost is handed out after this long without a frame, nanoseconds.
const DOUBT_NS_MAX: u64 = 60_000_000_000;

/// Where exchanges and counts go.
pub(super) struct Outlet<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) done: &'a mut Vec<InFlight>,
}

impl Outlet<'_> {
    fn hand_out(&mut self, exchange: InFlight) {
        conversation::count(&exchange, self.around.ledger);
        self.done.push(exchange);
    }

    fn count(&self, line: Line) {
        self.around.ledger.add(line, 1);
    }
}

#[derive(Debug)]
struct Stream {
    exchange: InFlight,
    /// The final response's head has come, readable or not.
    has_response: bool,
    /// The request's head is not known in full, so the response may say what protocol this is.
    is_vague: bool,
}

impl Stream {
    /// Nothing more is expected that could be told from it.
    fn is_complete(&self) -> bool {
        // After a loss the end of the request may have gone by unseen.
        let request_over = self.exchange.request_done || self.exchange.truncated;
        self.exchange.response_done && request_over
    }

    fn saw(&mut self, side: Side, bytes: u64, at: MonotonicNs) {
        let exchange = &mut self.exchange;
        exchange.saw(side, at);
        match side {
            Side::Request => exchange.request_bytes += bytes,
            Side::Response => exchange.response_bytes += bytes,
        }
    }

    fn end(&mut self, side: Side) {
        let exchange = &mut self.exchange;
        match side {
            Side::Request => exchange.request_done = true,
            Side::Response => {
                exchange.response_done = true;
                exchange.truncated |= exchange.status.is_none();
            }
        }
    }

    fn response(&mut self, block: Block, head: &Head<'_>, around: &Surroundings<'_>) {
        let exchange = &mut self.exchange;
        exchange.grpc_status = head.grpc_status.or(exchange.grpc_status);
        if self.is_vague && head.is_grpc {
            exchange.protocol = Protocol::Grpc;
        }
        let is_interim = head.status.is_some_and(|status| status < 200);
        if self.has_response || is_interim {
            return;
        }
        self.has_response = true;
        exchange.task = exchange.task.or(around.task);
        exchange.response_started = Some(block.started);
        exchange.status = head.status;
        exchange.response_facts = around.rules.of_response(&head.headers);
    }
}

/// The streams that have no complete response yet.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<u32, Box<Stream>>,
    ignored: BTreeSet<u32>,
    /// Some of the open ones are truncated and may never see their end.
    any_doubt: bool,
}

impl Streams {
    /// Puts in a request that was made before the connection spoke HTTP/2.
    pub(super) fn adopt(&mut self, stream: u32, request: InFlight) {
        let exchange = InFlight {
            protocol: Protocol::H2,
            request_done: true,
            ..request
        };
        self.open.insert(
            stream,
            Box::new(Stream {
                exchange,
                has_response: false,
                is_vague: false,
            }),
        );
    }

    /// Requests without a complete response.
    pub(super) fn outstanding(&self) -> usize {
        let streams = self.open.values();
        streams
            .filter(|stream| !stream.exchange.response_done)
            .count()
    }

    /// A header block; without `head` when it was not readable.
    pub(super) fn block(
        &mut self,
        side: Side,
        block: Block,
        head: Option<&Head<'_>>,
        out: &mut Outlet<'_>,
    ) {
        let Some(stream) = self.open.get_mut(&block.stream) else {
            match side {
                Side::Request => self.open_stream(block, head, out),
                Side::Response => self.without_request(block.stream, block.end_stream, out),
            }
            return;
        };
        stream.saw(side, block.wire_bytes, block.ended);
        match (side, head) {
            (Side::Response, Some(head)) => stream.response(block, head, out.around),
            (Side::Response, None) => {
                stream.has_response = true;
                stream.exchange.truncated = true;
            }
            (Side::Request, Some(_)) => {}
            (Side::Request, None) => stream.exchange.truncated = true,
        }
        if block.end_stream {
            stream.end(side);
        }
        self.settle(block.stream, out);
    }

    /// Bytes of a DATA frame.
    pub(super) fn data(
        &mut self,
        side: Side,
        id: u32,
        bytes: u64,
        end_stream: bool,
        at: MonotonicNs,
        out: &mut Outlet<'_>,
    ) {
        let Some(stream) = self.open.get_mut(&id) else {
            if side == Side::Response {
                self.without_request(id, end_stream, out);
            }
            return;
        };
        stream.saw(side, bytes, at);
        if end_stream {
            stream.end(side);
            self.settle(id, out);
        }
    }

    /// One end gave the stream up.
    pub(super) fn reset(&mut self, side: Side, id: u32, at: MonotonicNs, out: &mut Outlet<'_>) {
        if let Some(mut stream) = self.open.remove(&id) {
            stream.saw(side, 0, at);
            // The server may be answering still when the client turns away.
            if side == Side::Request {
                self.ignore(id);
            }
            out.hand_out(stream.exchange);
        }
    }

    /// The server does not process streams above `last`.
    pub(super) fn go_away(&mut self, last: u32, out: &mut Outlet<'_>) {
        for (_, stream) in self.open.split_off(&last.saturating_add(1)) {
            out.hand_out(stream.exchange);
        }
    }

    /// Records of this stream are missing.
    pub(super) fn lost_of(&mut self, id: u32) {
        if let Some(stream) = self.open.get_mut(&id) {
            stream.exchange.truncated = true;
        }
    }

    /// Frames of one direction are missing. Messages of that direction that were complete before are none the worse.
    pub(super) fn lost(&mut self, side: Side) {
        for stream in self.open.values_mut() {
            let exchange = &mut stream.exchange;
            exchange.truncated |= match side {
                Side::Request => !exchange.request_done,
                Side::Response => !exchange.response_done,
            };
            self.any_doubt |= exchange.truncated;
        }
    }

    /// Hands out everything as it stands.
    pub(super) fn end(&mut self, truncated: bool, out: &mut Outlet<'_>) {
        for (_, mut stream) in std::mem::take(&mut self.open) {
            let exchange = &mut stream.exchange;
            exchange.truncated |= truncated && !(exchange.request_done && exchange.response_done);
            out.hand_out(stream.exchange);
        }
    }

    fn settle(&mut self, id: u32, out: &mut Outlet<'_>) {
        let is_complete = self
            .open
            .get(&id)
            .is_some_and(|stream| stream.is_complete());
        if is_complete && let Some(stream) = self.open.remove(&id) {
            out.hand_out(stream.exchange);
        }
    }

    fn open_stream(&mut self, block: Block, head: Option<&Head<'_>>, out: &mut Outlet<'_>) {
        let are_trailers = head.is_some_and(|head| !head.begins_message);
        if are_trailers || self.ignored.contains(&block.stream) {
            return;
        }
        self.make_room(block.started, out);
        if self.open.len() >= STREAMS_MAX {
            out.count(Line::Requests);
            out.count(Line::RequestsBeyondDepth);
            self.ignore(block.stream);
            return;
        }
        let mut exchange = InFlight {
            ordinal: u64::from(block.stream),
            started: block.started,
            last_seen: block.ended,
            protocol: Protocol::H2,
            request_bytes: block.wire_bytes,
            request_done: block.end_stream,
            truncated: head.is_none(),
            task: out.around.task,
            ..InFlight::default()
        };
        if let Some(head) = head {
            exchange.method = head.method.map(|method| scrub(method).into_owned());
            exchange.path = head.target.map(path_of);
            let target = head.target.unwrap_or_default();
            exchange.request_facts = out.around.rules.of_request(target, &head.headers);
            if head.is_grpc {
                exchange.protocol = Protocol::Grpc;
            }
        }
        out.around.begin(&exchange);
        let stream = Stream {
            exchange,
            has_response: false,
            is_vague: head.is_none_or(|head| head.is_vague),
        };
        self.open.insert(block.stream, Box::new(stream));
    }

    /// Hands out streams that will hardly see another frame: those in doubt for long, and when the table is full those
    /// that lack nothing but the end of the request.
    fn make_room(&mut self, now: MonotonicNs, out: &mut Outlet<'_>) {
        let is_full = self.open.len() >= STREAMS_MAX;
        if !self.any_doubt && !is_full {
            return;
        }
        let mut in_doubt = false;
        let is_over = |_: &u32, stream: &mut Box<Stream>| {
            let exchange = &stream.exchange;
            in_doubt |= exchange.truncated;
            let is_silent = now.since(exchange.last_seen) > DOUBT_NS_MAX;
            (exchange.truncated && (is_full || is_silent)) || (is_full && exchange.response_done)
        };
        let over: Vec<(u32, Box<Stream>)> = self.open.extract_if(.., is_over).collect();
        self.any_doubt = in_doubt;
        for (id, stream) in over {
            self.ignore(id);
            out.hand_out(stream.exchange);
        }
    }

    /// A response frame on a stream that is not open.
    fn without_request(&mut self, id: u32, end_stream: bool, out: &Outlet<'_>) {
        let is_pushed = id.is_multiple_of(2);
        if is_pushed {
            return;
        }
        let is_new = if end_stream {
            !self.ignored.remove(&id)
        } else {
            self.ignore(id)
        };
        if is_new {
            out.count(Line::ResponsesOrphaned);
        }
    }

    /// Remembers a stream as of no interest; false when it was already.
    fn ignore(&mut self, id: u32) -> bool {
        let is_new = self.ignored.insert(id);
        if self.ignored.len() > IGNORED_MAX {
            self.ignored.pop_first();
        }
        is_new
    }
}

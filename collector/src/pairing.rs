//! Which answer belongs to which request: HTTP/1.1 answers in order, so requests wait in a FIFO.
//!
//! What is kept of a message is decided by the fact rules while its head is still borrowed; nothing else is copied.

use std::{cell::RefCell, collections::VecDeque};

use crate::{
    clock::MonotonicNs,
    exchange::{Outcome, Protocol},
    facts::{FactRules, Facts},
    http::{Framing, Header, MessageEvent, MessageSink, RequestLine, Side, StatusLine},
    ledger::{Ledger, Line},
    limits::{PATH_BYTES_MAX, PIPELINE_DEPTH_MAX},
    privacy::scrub,
};

/// A request on its way to becoming an exchange.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    /// Which request of its connection this is: its number in HTTP/1.x, its stream in HTTP/2.
    pub ordinal: u64,
    /// First byte of the request.
    pub started: MonotonicNs,
    /// Last byte seen of either message.
    pub last_seen: MonotonicNs,
    /// Last byte seen of the response.
    pub response_seen: Option<MonotonicNs>,
    /// First byte of the final response.
    pub response_started: Option<MonotonicNs>,
    /// Null when the head did not parse.
    pub method: Option<String>,
    /// Without the query string.
    pub path: Option<String>,
    /// What it is spoken in.
    pub protocol: Protocol,
    /// Of the final response.
    pub status: Option<u16>,
    /// From the trailers of a gRPC response.
    pub grpc_status: Option<u32>,
    /// Wire bytes.
    pub request_bytes: u64,
    /// Wire bytes, interim responses included.
    pub response_bytes: u64,
    /// From the request's fields.
    pub request_facts: Facts,
    /// From the response's fields.
    pub response_facts: Facts,
    /// Process and thread that sent the request, beside a client, or the response, beside a server.
    pub task: Option<Task>,
    /// Some of it was not seen.
    pub truncated: bool,
    pub(crate) request_done: bool,
    pub(crate) response_done: bool,
}

impl InFlight {
    /// A byte of one of its messages was seen. Segments that came out of order carry their own, earlier times.
    pub(crate) fn saw(&mut self, side: Side, at: MonotonicNs) {
        self.last_seen = self.last_seen.max(at);
        if side == Side::Response {
            self.response_seen = self.response_seen.max(Some(at));
        }
    }

    /// When it was over: with the last byte of a whole response, even if the rest of the request came later; a server
    /// need not read all of a request before it answers. Without a whole response, with the last byte seen.
    pub fn ended(&self) -> MonotonicNs {
        self.response_seen
            .filter(|_| self.response_done)
            .unwrap_or(self.last_seen)
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            _ if self.truncated => Outcome::Truncated,
            _ if !self.response_done => Outcome::Aborted,
            Some(500..) => Outcome::Error,
            _ if self.grpc_status.is_some_and(is_server_error) => Outcome::Error,
            _ => Outcome::Ok,
        }
    }
}

/// Whether a gRPC status is the server's failure (unknown, deadline exceeded, unimplemented, internal, unavailable,
/// data loss), as the OpenTelemetry conventions count it.
const fn is_server_error(grpc_status: u32) -> bool {
    matches!(grpc_status, 2 | 4 | 12 | 13 | 14 | 15)
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Process id.
    pub process: u32,
    /// Thread id.
    pub thread: u32,
}

impl Task {
    /// From a record's field: process in the upper half, thread in the lower; zero is nobody.
    pub fn of_record(task: u64) -> Option<Self> {
        let (process, thread) = (u32::try_from(task >> 32).ok()?, task & 0xffff_ffff);
        (process != 0).then_some(Self {
            process,
            thread: u32::try_from(thread).ok()?,
        })
    }
}

/// What the connection needs from around it while it digests a record.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// What to keep of messages.
    pub rules: &'a FactRules,
    /// Where to count.
    pub ledger: &'a Ledger,
    /// Who sent the record that is being read, where the kernel tells.
    pub task: Option<Task>,
    /// Requests that began with this record.
    pub begun: RefCell<Vec<Begun>>,
}

/// A request whose head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number on the connection.
    pub ordinal: u64,
    /// First byte.
    pub started: MonotonicNs,
}

impl<'a> Surroundings<'a> {
    /// Around one record.
    pub const fn new(rules: &'a FactRules, ledger: &'a Ledger, task: Option<Task>) -> Self {
        Self {
            rules,
            ledger,
            task,
            begun: RefCell::new(Vec::new()),
        }
    }

    /// Notes that a request has begun.
    pub fn begin(&self, exchange: &InFlight) {
        self.ledger.add(Line::Requests, 1);
        self.begun.borrow_mut().push(Begun {
            ordinal: exchange.ordinal,
            started: exchange.started,
        });
    }
}

/// Puts messages of one direction into the FIFO.
pub(crate) struct Pairing<'a> {
    pub(crate) side: Side,
    pub(crate) exchanges: &'a mut VecDeque<InFlight>,
    /// Requests so far.
    pub(crate) requests: &'a mut u64,
    pub(crate) around: &'a Surroundings<'a>,
    /// Set when what follows on the connection is no HTTP/1.x.
    pub(crate) then: Then,
}

/// What follows on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// More messages.
    #[default]
    Messages,
    /// HTTP/2, with the request just answered as its first stream.
    Http2,
    /// Nothing that could be read.
    Tunnel,
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
    pub(crate) fn unreadable(&mut self, at: MonotonicNs, request_done: bool) {
        self.around.ledger.add(Line::HeadsMalformed, 1);
        match self.side {
            Side::Request => self.add(InFlight {
                started: at,
                last_seen: at,
                truncated: true,
                request_done,
                ..InFlight::default()
            }),
            Side::Response => {
                if let Some(exchange) = self.current() {
                    exchange.truncated = true;
                }
            }
        }
    }

    fn add(&mut self, mut exchange: InFlight) {
        *self.requests += 1;
        exchange.ordinal = *self.requests;
        if self.exchanges.len() < PIPELINE_DEPTH_MAX {
            self.around.begin(&exchange);
            self.exchanges.push_back(exchange);
            return;
        }
        // Without this one in its place, every later answer would be given to the wrong request.
        self.around.ledger.add(Line::Requests, 1);
        self.around.ledger.add(Line::RequestsBeyondDepth, 1);
        self.event(MessageEvent::Lost);
        self.then = Then::Tunnel;
    }
}

impl MessageSink for Pairing<'_> {
    fn request(&mut self, line: RequestLine<'_>, headers: &[Header<'_>], started: MonotonicNs) {
        let request_facts = self.around.rules.of_request(line.target, headers);
        self.add(InFlight {
            started,
            last_seen: started,
            method: Some(scrub(line.method).into_owned()),
            path: Some(path_of(line.target)),
            protocol: if line.minor_version == 0 {
                Protocol::Http10
            } else {
                Protocol::Http11
            },
            request_facts,
            task: self.around.task,
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
        let task = self.around.task;
        let Some(exchange) = self.current() else {
            self.around.ledger.add(Line::ResponsesOrphaned, 1);
            return Framing::of_response(line.code, None, headers);
        };
        let framing = Framing::of_response(line.code, exchange.method.as_deref(), headers);
        let is_interim = line.code < 200 && line.code != 101;
        if line.code == 101 && upgrades_to_http2(headers) {
            self.then = Then::Http2;
            return framing;
        }
        if !is_interim {
            exchange.task = exchange.task.or(task);
            exchange.status = Some(line.code);
            exchange.response_started = Some(started);
            exchange.saw(Side::Response, started);
            exchange.response_facts = response_facts;
        }
        if framing == Framing::Tunnel {
            self.then = Then::Tunnel;
        }
        framing
    }

    fn event(&mut self, event: MessageEvent) {
        let side = self.side;
        match event {
            MessageEvent::Bytes(count, at) => {
                if let Some(exchange) = self.current() {
                    exchange.saw(side, at);
                    match side {
                        Side::Request => exchange.request_bytes += count,
                        Side::Response => exchange.response_bytes += count,
                    }
                }
            }
            // The answer to an upgrade to HTTP/2 comes on the first stream.
            MessageEvent::End(_) if self.then == Then::Http2 => {}
            MessageEvent::End(at) => {
                if let Some(exchange) = self.current() {
                    exchange.saw(side, at);
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
            MessageEvent::HeadCut => self.around.ledger.add(Line::HeadsCut, 1),
            MessageEvent::Foreign => {
                self.then = Then::Tunnel;
                self.around.ledger.add(Line::ForeignOther, 1);
            }
        }
    }
}

fn upgrades_to_http2(headers: &[Header<'_>]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("upgrade") && header.value.eq_ignore_ascii_case(b"h2c")
    })
}

/// The path of a request target: no query, no scheme and authority, no unbounded length.
pub(crate) fn path_of(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    // Only the absolute form has a scheme; in the origin form `://` is part of the path.
    let absolute = path.split_once("://").filter(|_| !path.starts_with('/'));
    let path = match absolute {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => path,
    };
    // Before it is cut: half a card number would not be known for one.
    scrub(path).chars().take(PATH_BYTES_MAX).collect()
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
        assert_eq!(path_of("/to/http://x/y"), "/to/http://x/y");
    }
}

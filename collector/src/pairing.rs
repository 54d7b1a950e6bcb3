//! Which answer belongs to which request: HTTP/1.1 answers in order, so requests wait in a FIFO.
//!
//! What is kept of a message is decided by the fact rules while its head is still borrowed; nothing else is copied.

use std::collections::VecDeque;

use crate::{
    clock::MonotonicNs,
    exchange::Outcome,
    facts::{FactRules, Facts},
    http::{Framing, Header, MessageEvent, MessageSink, RequestLine, Side, Start, StatusLine},
    ledger::{Ledger, Line},
    limits::{PATH_BYTES_MAX, PIPELINE_DEPTH_MAX},
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
    pub(crate) request_done: bool,
    pub(crate) response_done: bool,
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

/// What the connection needs from around it while it digests a record.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// What to keep of messages.
    pub rules: &'a FactRules,
    /// Where to count.
    pub ledger: &'a Ledger,
}

/// Puts messages of one direction into the FIFO.
pub(crate) struct Pairing<'a> {
    pub(crate) side: Side,
    pub(crate) exchanges: &'a mut VecDeque<InFlight>,
    pub(crate) around: &'a Surroundings<'a>,
    /// Set when what follows on the connection is no HTTP.
    pub(crate) tunnel: bool,
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

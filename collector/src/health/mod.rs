//! How connections fare: what TCP and TLS show of themselves on the wire, per service.
//!
//! Owns: the signs of one connection, and their sums per service. Refuses: hooks of its own; everything here is read
//! off the segments that are captured anyway and the two figures the kernel adds to them.

mod book;

pub use book::{HealthBook, HealthMetrics, HealthRow, Minute};

use ebpf_probes::abi::{EGRESS, RecordHeader, tcp_flags};

use crate::{clock::MonotonicNs, http::Side, tls::handshake::HandshakeOutcome};

/// Something worth noting about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The client's first SYN was answered after this many nanoseconds.
    Connected(u64),
    /// The client's SYN came again before it was answered: the accept queue is full, or segments are lost.
    SynRepeated,
    /// One end reset the connection.
    Reset(Side),
    /// The watched end sent this many segments again.
    Retransmitted(u32),
    /// A TLS handshake came to its end.
    Handshake(HandshakeOutcome),
}

/// What is remembered of one connection.
#[derive(Debug, Default)]
pub struct ConnectionHealth {
    first_syn: Option<MonotonicNs>,
    is_connected: bool,
    is_reset: bool,
    is_counting: bool,
    retransmits: u32,
    /// The kernel's smoothed round-trip time, microseconds; zero when unknown.
    pub round_trip_us: u32,
    news: Vec<Sign>,
}

impl ConnectionHealth {
    /// Looks at one segment.
    pub fn observe(&mut self, side: Side, header: &RecordHeader) {
        let at = MonotonicNs(header.monotonic_ns);
        if header.tcp_flags & tcp_flags::SYN != 0 {
            self.synchronise(side, at);
        }
        if header.tcp_flags & tcp_flags::RST != 0 && !self.is_reset {
            self.is_reset = true;
            self.news.push(Sign::Reset(side));
        }
        if header.direction == EGRESS {
            if header.round_trip_us > 0 {
                self.round_trip_us = header.round_trip_us;
            }
            let again = header.retransmits.saturating_sub(self.retransmits);
            self.retransmits = self.retransmits.max(header.retransmits);
            // Of a connection joined midway, what was before is not news.
            if again > 0 && (self.first_syn.is_some() || self.is_counting) {
                self.news.push(Sign::Retransmitted(again));
            }
            self.is_counting = true;
        }
    }

    fn synchronise(&mut self, side: Side, at: MonotonicNs) {
        match (side, self.first_syn) {
            (Side::Request, None) => self.first_syn = Some(at),
            (Side::Request, Some(_)) if !self.is_connected => self.news.push(Sign::SynRepeated),
            (Side::Response, Some(first)) if !self.is_connected => {
                self.is_connected = true;
                self.news.push(Sign::Connected(at.since(first)));
            }
            (Side::Request | Side::Response, _) => {}
        }
    }

    /// A TLS handshake came to its end.
    pub fn handshake(&mut self, outcome: HandshakeOutcome) {
        self.news.push(Sign::Handshake(outcome));
    }

    /// What is new since the last call.
    pub fn take_news(&mut self) -> Vec<Sign> {
        std::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_probes::abi::{ABI_VERSION, FlowKey, INGRESS, kind, watch};

    fn segment(at_ns: u64, direction: u8, flags: u8, retransmits: u32) -> RecordHeader {
        RecordHeader {
            monotonic_ns: at_ns,
            flow: FlowKey::of_session(0, 0),
            sequence: 0,
            acknowledgement: 0,
            payload_bytes: 0,
            captured_bytes: 0,
            tcp_flags: flags,
            direction,
            side: watch::SERVER,
            version: ABI_VERSION,
            kind: kind::SEGMENT,
            reserved: [0; 7],
            task: 0,
            round_trip_us: 40,
            retransmits,
        }
    }

    #[test]
    fn a_syn_that_had_to_be_repeated_shows_and_the_buyer_waited_from_the_first() {
        let mut health = ConnectionHealth::default();
        for at in [0, 1_000_000_000] {
            health.observe(Side::Request, &segment(at, INGRESS, tcp_flags::SYN, 0));
        }
        let answer = tcp_flags::SYN | tcp_flags::ACK;
        health.observe(Side::Response, &segment(1_000_050_000, EGRESS, answer, 0));
        health.observe(Side::Response, &segment(1_100_000_000, EGRESS, answer, 0));
        assert_eq!(
            health.take_news(),
            [Sign::SynRepeated, Sign::Connected(1_000_050_000)]
        );
        assert_eq!(health.round_trip_us, 40);
    }

    #[test]
    fn resets_and_retransmissions_are_told_once() {
        let mut health = ConnectionHealth::default();
        health.observe(Side::Response, &segment(0, EGRESS, 0, 7));
        assert!(health.take_news().is_empty(), "from before");
        let mut health = ConnectionHealth::default();
        health.observe(Side::Request, &segment(0, INGRESS, tcp_flags::SYN, 0));
        health.observe(Side::Response, &segment(1, EGRESS, 0, 2));
        health.observe(Side::Response, &segment(2, EGRESS, 0, 2));
        health.observe(Side::Response, &segment(3, EGRESS, 0, 3));
        health.observe(Side::Request, &segment(4, INGRESS, tcp_flags::RST, 0));
        health.observe(Side::Response, &segment(5, EGRESS, tcp_flags::RST, 3));
        assert_eq!(
            health.take_news(),
            [
                Sign::Retransmitted(2),
                Sign::Retransmitted(1),
                Sign::Reset(Side::Request)
            ]
        );
    }
}

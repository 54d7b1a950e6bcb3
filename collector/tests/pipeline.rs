//! Properties of the pipeline on made-up records: the same byte streams give the same exchanges however they
//! are cut, repeated and reordered; and the hard shapes of HTTP/1.x give the right outcome.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::{collections::HashMap, sync::Arc};

use collector::{
    clock::{ClockAnchor, MonotonicNs, UnixNanos},
    exchange::{Exchange, Outcome},
    facts::FactRules,
    ledger::{Ledger, Line},
    pipeline::{Pipeline, PipelineConfig},
    privacy::{PseudonymKey, Pseudonyms},
    routes::Routes,
    rules::EventRules,
    source::listeners::NamedListeners,
};
use ebpf_probes::abi::{
    ABI_VERSION, EGRESS, FlowKey, INGRESS, RecordHeader, kind, tcp_flags, watch,
};
use proptest::prelude::*;

const REQUEST: u8 = INGRESS;
const RESPONSE: u8 = EGRESS;

/// Writes records of one connection, as the kernel would.
struct Wire {
    records: Vec<Vec<u8>>,
    now: u64,
    sent: [u32; 2],
}

impl Wire {
    fn open() -> Self {
        let mut wire = Self {
            records: Vec::new(),
            now: 1_000,
            sent: [0, 0],
        };
        wire.segment(REQUEST, 0, b"", 0, tcp_flags::SYN);
        wire.segment(RESPONSE, 0, b"", 0, tcp_flags::SYN | tcp_flags::ACK);
        wire.sent = [1, 1];
        wire
    }

    fn segment(&mut self, direction: u8, sequence: u32, bytes: &[u8], hole: u32, flags: u8) {
        let client_to_server = FlowKey {
            source_address: [1; 16],
            destination_address: [2; 16],
            source_port: 50_000,
            destination_port: 80,
        };
        self.now += 1_000;
        let captured = u32::try_from(bytes.len()).unwrap();
        let header = RecordHeader {
            monotonic_ns: self.now,
            flow: if direction == REQUEST {
                client_to_server
            } else {
                client_to_server.reversed()
            },
            sequence: 7_000_u32.wrapping_add(sequence),
            acknowledgement: 0,
            payload_bytes: captured + hole,
            captured_bytes: captured,
            tcp_flags: flags,
            direction,
            side: watch::SERVER,
            version: ABI_VERSION,
            kind: kind::SEGMENT,
            reserved: [0; 7],
            task: 0,
            round_trip_us: 0,
            retransmits: 0,
        };
        self.records
            .push([header.to_bytes().as_slice(), bytes].concat());
    }

    fn send(&mut self, direction: u8, bytes: &[u8]) {
        self.send_with_hole(direction, bytes, 0);
    }

    fn send_with_hole(&mut self, direction: u8, bytes: &[u8], hole: u32) {
        let sequence = self.sent[usize::from(direction)];
        self.segment(direction, sequence, bytes, hole, tcp_flags::ACK);
        self.sent[usize::from(direction)] += u32::try_from(bytes.len()).unwrap() + hole;
    }

    fn end(&mut self, direction: u8, flag: u8) {
        let sequence = self.sent[usize::from(direction)];
        self.segment(direction, sequence, b"", 0, flag);
    }
}

fn run(records: &[Vec<u8>]) -> (Vec<Exchange>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let config = PipelineConfig {
        facts: FactRules::default(),
        events: EventRules::default(),
        routes: Routes::default(),
        pseudonyms: Pseudonyms::of_all(PseudonymKey::from_bytes([7; 32])),
    };
    let listeners = Box::new(NamedListeners::new(HashMap::from([(
        80,
        "shop".to_owned(),
    )])));
    let anchor = ClockAnchor::fixed(UnixNanos(0), MonotonicNs(0));
    let mut pipeline = Pipeline::new(config, listeners, Arc::clone(&ledger), anchor);
    let mut out = Vec::new();
    for record in records {
        let _hint = pipeline.record(record, &mut out);
    }
    pipeline.finish(&mut out);
    (out, ledger)
}

fn told(exchanges: &[Exchange]) -> Vec<(String, Option<u16>, u64, u64, Outcome)> {
    exchanges
        .iter()
        .map(|e| {
            (
                e.path.clone().unwrap_or_default(),
                e.status_code,
                e.request_bytes,
                e.response_bytes,
                e.outcome,
            )
        })
        .collect()
}

const REQUESTS: &[&[u8]] = &[
    b"GET /a?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"HEAD /c HTTP/1.1\r\n\r\n",
    b"POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /e HTTP/1.1\r\n\r\n",
];
const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHTTP/\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
];

fn expected() -> Vec<(String, Option<u16>, u64, u64, Outcome)> {
    let paths = ["/a", "/b", "/c", "/d", "/e"];
    let statuses = [200, 201, 200, 204, 503];
    (0..5)
        .map(|i| {
            let outcome = if statuses[i] == 503 {
                Outcome::Error
            } else {
                Outcome::Ok
            };
            (
                paths[i].to_owned(),
                Some(statuses[i]),
                REQUESTS[i].len() as u64,
                RESPONSES[i].len() as u64,
                outcome,
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn any_cut_repetition_and_order_gives_the_same_exchanges(
        cuts in proptest::collection::vec(1_usize..60, 1..40),
        swap in any::<u64>(),
        repeat in any::<u64>(),
    ) {
        let mut wire = Wire::open();
        for (direction, messages) in [(REQUEST, REQUESTS), (RESPONSE, RESPONSES)] {
            let stream = messages.concat();
            let mut segments: Vec<(u32, Vec<u8>)> = Vec::new();
            let (mut at, mut turn) = (0, 0);
            while at < stream.len() {
                let end = (at + cuts[turn % cuts.len()]).min(stream.len());
                segments.push((u32::try_from(at).unwrap() + 1, stream[at..end].to_vec()));
                (at, turn) = (end, turn + 1);
            }
            for index in 0..segments.len() {
                if (repeat >> (index % 64)) & 1 == 1 {
                    segments.push(segments[index].clone());
                }
            }
            for index in 1..segments.len() {
                if (swap >> (index % 64)) & 1 == 1 {
                    segments.swap(index - 1, index);
                }
            }
            for (sequence, bytes) in segments {
                wire.segment(direction, sequence, &bytes, 0, tcp_flags::ACK);
            }
        }
        let (exchanges, ledger) = run(&wire.records);
        prop_assert_eq!(told(&exchanges), expected());
        prop_assert_eq!(ledger.lost(), 0);
    }
}

#[test]
fn a_long_body_may_be_a_hole() {
    let mut wire = Wire::open();
    wire.send(REQUEST, REQUESTS[0]);
    wire.send_with_hole(
        RESPONSE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nab",
        999_998,
    );
    wire.send(REQUEST, REQUESTS[4]);
    wire.send(RESPONSE, RESPONSES[4]);
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges.len(), 2);
    assert_eq!(exchanges[0].response_bytes, 1_000_000 + 44);
    assert_eq!(exchanges[1].status_code, Some(503));
}

#[test]
fn the_two_clocks_are_first_and_last_byte() {
    let mut wire = Wire::open();
    wire.now = 1_000_000;
    wire.send(REQUEST, b"GET /slow HTTP/1.1\r\n");
    wire.now = 5_000_000;
    wire.send(REQUEST, b"\r\n");
    wire.now = 9_000_000;
    wire.send(RESPONSE, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
    wire.now = 20_000_000;
    wire.send(RESPONSE, b"x");
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges[0].timestamp, UnixNanos(1_001_000));
    assert_eq!(exchanges[0].ttfb_ns, Some(8_000_000));
    assert_eq!(exchanges[0].duration_ns, 19_000_000);
}

/// A server may answer before it has read all of the request; who waits for the answer has it by then.
#[test]
fn an_early_answer_ends_the_clock() {
    let mut wire = Wire::open();
    wire.now = 1_000_000;
    wire.send(
        REQUEST,
        b"POST /early HTTP/1.1\r\nContent-Length: 4\r\n\r\nab",
    );
    wire.now = 3_000_000;
    wire.send(RESPONSE, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    wire.now = 8_000_000;
    wire.send(REQUEST, b"cd");
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges[0].outcome, Outcome::Ok);
    assert_eq!(exchanges[0].request_bytes, 47);
    assert_eq!(exchanges[0].duration_ns, 2_000_000);
}

#[test]
fn endings_are_told_apart() {
    let cases: [(&[u8], u8, u8, Outcome); 4] = [
        (b"", RESPONSE, tcp_flags::RST, Outcome::Aborted),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            RESPONSE,
            tcp_flags::FIN,
            Outcome::Aborted,
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\nuntil close",
            RESPONSE,
            tcp_flags::FIN,
            Outcome::Ok,
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\nuntil close",
            REQUEST,
            tcp_flags::RST,
            Outcome::Aborted,
        ),
    ];
    for (response, direction, flag, outcome) in cases {
        let mut wire = Wire::open();
        wire.send(REQUEST, REQUESTS[0]);
        if !response.is_empty() {
            wire.send(RESPONSE, response);
        }
        wire.end(direction, flag);
        let (exchanges, _) = run(&wire.records);
        assert_eq!(exchanges.len(), 1);
        assert_eq!(
            exchanges[0].outcome,
            outcome,
            "{}",
            String::from_utf8_lossy(response)
        );
    }
}

#[test]
fn a_lost_record_truncates_and_the_next_exchange_is_whole_again() {
    let mut wire = Wire::open();
    wire.send(REQUEST, REQUESTS[0]);
    wire.send(RESPONSE, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n");
    wire.sent[usize::from(RESPONSE)] += 150;
    wire.send(RESPONSE, &[b'x'; 150]);
    wire.now += 600_000_000;
    wire.send(REQUEST, REQUESTS[4]);
    wire.send(RESPONSE, RESPONSES[4]);
    let (exchanges, ledger) = run(&wire.records);
    assert_eq!(ledger.get(Line::BytesLost), 150);
    assert_eq!(exchanges[0].outcome, Outcome::Truncated);
    assert_eq!(exchanges.last().unwrap().path.as_deref(), Some("/e"));
    assert!(exchanges.iter().all(|e| e.path.as_deref() != Some("/e") || e.request_bytes == REQUESTS[4].len() as u64));
}

#[test]
fn a_connection_older_than_the_capture_is_joined_at_the_next_message() {
    let mut wire = Wire::open();
    wire.records.clear();
    wire.send(RESPONSE, b"the end of some body");
    wire.send(REQUEST, REQUESTS[4]);
    wire.send(RESPONSE, RESPONSES[4]);
    let (exchanges, ledger) = run(&wire.records);
    assert_eq!(told(&exchanges), [expected()[4].clone()]);
    assert_eq!(ledger.get(Line::ConnectionsJoined), 1);
}

#[test]
fn bad_input_is_counted_and_never_a_panic() {
    let cases: [(&[u8], Line); 3] = [
        (b"\x16\x03\x01\x02\x00", Line::ConnectionsTls),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Line::ConnectionsHttp2),
        (b"\x00\x01\x02 binary", Line::ForeignOther),
    ];
    for (bytes, line) in cases {
        let mut wire = Wire::open();
        wire.send(REQUEST, bytes);
        wire.send(RESPONSE, b"\xff\xfe whatever");
        let (exchanges, ledger) = run(&wire.records);
        assert!(exchanges.is_empty());
        assert_eq!(ledger.get(line), 1);
    }
    let mut wire = Wire::open();
    wire.send(REQUEST, b"GET / HTTP/1.1\r\nX: ");
    for _ in 0..20 {
        wire.send(REQUEST, &vec![b'a'; 50_000]);
    }
    wire.send(REQUEST, b"\r\n\r\n");
    wire.send(
        RESPONSE,
        b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n",
    );
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(
        (exchanges[0].status_code, exchanges[0].outcome),
        (Some(431), Outcome::Truncated)
    );
    assert_eq!(exchanges[0].request_bytes, 19 + 1_000_000 + 4);
}

#[test]
fn one_byte_at_a_time_is_one_exchange() {
    let mut wire = Wire::open();
    for byte in REQUESTS[1] {
        wire.send(REQUEST, &[*byte]);
    }
    wire.send(RESPONSE, RESPONSES[0]);
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].request_bytes, REQUESTS[1].len() as u64);
}

#[test]
fn an_upgrade_ends_http_on_the_connection() {
    let mut wire = Wire::open();
    wire.send(REQUEST, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    wire.send(
        RESPONSE,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello",
    );
    wire.send(REQUEST, b"\x81\x85GET / HTTP/1.1\r\n\r\n");
    let (exchanges, _) = run(&wire.records);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0].status_code, Some(101));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(requests in proptest::collection::vec(any::<u8>(), 0..300), responses in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut wire = Wire::open();
        wire.send(REQUEST, &requests);
        wire.send(RESPONSE, &responses);
        let (_, ledger) = run(&wire.records);
        prop_assert_eq!(ledger.get(Line::RecordsRead), 4);
    }
}

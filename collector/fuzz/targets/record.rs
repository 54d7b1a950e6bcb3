//! `record`: records of the kernel, well-made and arbitrary, through the whole pipeline.
//!
//! What must hold: every record is counted, every exchange handed out is counted and belongs to bytes that were
//! seen, no query string survives, and no connection is left at the end.

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

/// Who sends, and the TLS session of records that do not name a connection yet.
const PROCESS: u32 = 7;
const SESSION: u64 = 0x7f00_dead_beef;

/// An input is a list of steps: a byte that says what, and what follows from it.
#[derive(Debug)]
struct Steps<'a>(&'a [u8]);

impl<'a> Steps<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A length of two bytes, little-endian, and as many bytes, or what is left.
    fn stretch(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?]));
        let (stretch, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(stretch)
    }
}

/// Bits of a step. The two lowest choose the flags: ACK, SYN, FIN, RST.
mod step {
    /// From the server to the client.
    pub(super) const RESPONSE: u8 = 4;
    /// The bytes that follow are the whole record.
    pub(super) const RAW: u8 = 8;
    /// Of a second connection.
    pub(super) const OTHER: u8 = 16;
    /// Seen beside the client.
    pub(super) const CLIENT: u8 = 32;
    /// Three bytes follow: the record's place in the stream, relative to where it should be (signed); kilobytes of
    /// payload that were not captured; the kind of record.
    pub(super) const UNUSUAL: u8 = 64;
    /// A minute passes before.
    pub(super) const LATER: u8 = 128;
}

/// Writes the records of a few connections.
#[derive(Debug, Default)]
struct Wire {
    now: u64,
    /// Next sequence number by the step's bits and the kind of record.
    next: HashMap<(u8, u8), u32>,
}

impl Wire {
    fn record(&mut self, what: u8, steps: &mut Steps<'_>) -> Option<Vec<u8>> {
        let later = what & step::LATER != 0;
        self.now += if later { 60_000_000_000 } else { 1_000_000 };
        if what & step::RAW != 0 {
            return steps.stretch().map(<[u8]>::to_vec);
        }
        let [misplaced, kilobytes, kind] = if what & step::UNUSUAL == 0 {
            [0, 0, kind::SEGMENT]
        } else {
            [steps.byte()?, steps.byte()?, steps.byte()?]
        };
        let captured = steps.stretch()?;
        let captured_bytes = u32::try_from(captured.len()).unwrap_or(0);
        let payload_bytes = captured_bytes + u32::from(kilobytes) * 1_024;
        let flags = [
            tcp_flags::ACK,
            tcp_flags::SYN,
            tcp_flags::FIN,
            tcp_flags::RST,
        ];
        let tcp_flags = *flags.get(usize::from(what & 3))?;
        let stream = (what & (step::RESPONSE | step::OTHER | step::CLIENT), kind);
        let next = self.next.entry(stream).or_insert(u32::MAX - 500);
        let sequence = next.wrapping_add_signed(i32::from(misplaced.cast_signed()));
        if misplaced == 0 {
            let begins = u32::from(tcp_flags == tcp_flags::SYN);
            *next = next.wrapping_add(payload_bytes + begins);
        }
        let header = RecordHeader {
            monotonic_ns: self.now,
            sequence,
            payload_bytes,
            captured_bytes,
            tcp_flags,
            kind,
            ..header(what, kind)
        };
        Some([header.to_bytes().as_slice(), captured].concat())
    }
}

/// The parts of a header that do not change along a stream.
fn header(what: u8, kind: u8) -> RecordHeader {
    let has = |bit: u8| what & bit != 0;
    let request = FlowKey {
        source_address: [1; 16],
        destination_address: [2; 16],
        source_port: 50_000 + u16::from(has(step::OTHER)),
        destination_port: 80,
    };
    let (response, client) = (has(step::RESPONSE), has(step::CLIENT));
    let flow = match (kind, response) {
        (kind::PLAINTEXT_UNJOINED, _) => FlowKey::of_session(SESSION, PROCESS),
        (_, true) => request.reversed(),
        (_, false) => request,
    };
    RecordHeader {
        monotonic_ns: 0,
        flow,
        sequence: 0,
        acknowledgement: 0,
        payload_bytes: 0,
        captured_bytes: 0,
        tcp_flags: 0,
        direction: if response == client { INGRESS } else { EGRESS },
        side: if client { watch::CLIENT } else { watch::SERVER },
        version: ABI_VERSION,
        kind,
        reserved: [0; 7],
        task: u64::from(PROCESS) << 32 | u64::from(PROCESS),
        round_trip_us: 90,
        retransmits: 1,
    }
}

/// Reading and writing a header are each other's inverse. Returns the payload bytes the record speaks of.
fn check_header(record: &[u8]) -> u64 {
    let Some((header, captured)) = RecordHeader::parse(record) else {
        return 0;
    };
    assert!(captured.len() as u64 <= u64::from(header.payload_bytes));
    let again = [header.to_bytes().as_slice(), captured].concat();
    assert_eq!(RecordHeader::parse(&again), Some((header, captured)));
    u64::from(header.payload_bytes)
}

fn check(exchange: &Exchange) {
    let path = exchange.path.as_deref().unwrap_or_default();
    assert!(!path.contains(['?', '#']), "a path: {path:?}");
    let answered = matches!(exchange.outcome, Outcome::Ok | Outcome::Error);
    assert!(
        exchange
            .ttfb_ns
            .is_none_or(|ttfb| ttfb <= exchange.duration_ns),
        "the first byte comes after the last: {exchange:?}"
    );
    assert!(!answered || exchange.status_code.is_some(), "{exchange:?}");
}

/// The target.
pub(super) fn run(data: &[u8]) {
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
    let (mut steps, mut wire, mut out) = (Steps(data), Wire::default(), Vec::new());
    let (mut records, mut seen) = (0_u64, 0_u64);
    while let Some(what) = steps.byte() {
        let Some(record) = wire.record(what, &mut steps) else {
            break;
        };
        seen += check_header(&record);
        let _hint = pipeline.record(&record, &mut out);
        records += 1;
    }
    pipeline.finish(&mut out);
    assert_eq!(ledger.get(Line::RecordsRead), records);
    assert_eq!(ledger.get(Line::Exchanges), out.len() as u64);
    assert_eq!(pipeline.connections(), 0);
    out.iter().for_each(check);
    let told: u64 = out
        .iter()
        .map(|exchange| exchange.request_bytes + exchange.response_bytes)
        .sum();
    assert!(
        told <= seen,
        "exchanges tell of {told} bytes, records of {seen}"
    );
}

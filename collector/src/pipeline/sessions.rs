//! TLS sessions whose connection is not known yet: their plain text waits here, within bounds.

use std::collections::HashMap;

use ebpf_probes::abi::{FlowKey, RecordHeader};

use crate::{
    clock::MonotonicNs,
    limits::{
        UNJOINED_AGE_NS_MAX, UNJOINED_BYTES_MAX, UNJOINED_RECORDS_MAX, UNJOINED_SESSIONS_MAX,
    },
};

/// A record that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) header: RecordHeader,
    pub(super) captured: Vec<u8>,
}

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<FlowKey, Session>);

#[derive(Debug, Default)]
struct Session {
    bytes: usize,
    waiting: Vec<Waiting>,
}

impl Sessions {
    /// Keeps a record until its session is joined. Returns how many records had to go for it.
    pub(super) fn hold(&mut self, header: &RecordHeader, captured: &[u8]) -> u64 {
        let is_full = self.0.len() >= UNJOINED_SESSIONS_MAX && !self.0.contains_key(&header.flow);
        if is_full {
            return 1;
        }
        let Session { bytes, waiting } = self.0.entry(header.flow).or_default();
        *bytes += captured.len();
        if *bytes > UNJOINED_BYTES_MAX || waiting.len() >= UNJOINED_RECORDS_MAX {
            return 1;
        }
        waiting.push(Waiting {
            header: *header,
            captured: captured.to_vec(),
        });
        0
    }

    /// The connection of a session is known: its records, in order.
    pub(super) fn join(&mut self, session: &FlowKey) -> Vec<Waiting> {
        self.0.remove(session).unwrap_or_default().waiting
    }

    /// Gives up on sessions that have waited too long. Returns the number of records given up.
    pub(super) fn sweep(&mut self, now: MonotonicNs) -> u64 {
        let mut given_up = 0;
        self.0.retain(|_, Session { waiting, .. }| {
            let oldest = waiting
                .first()
                .map_or(0, |record| record.header.monotonic_ns);
            let keep = now.since(MonotonicNs(oldest)) <= UNJOINED_AGE_NS_MAX;
            if !keep {
                given_up += waiting.len() as u64;
            }
            keep
        });
        given_up
    }
}

//! The loss ledger: what every stage saw, passed on and dropped, with the reason.
//!
//! One flat list of counters, so that metrics, the closing summary and tests read the same numbers.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! ledger {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal, $kind:ident;)+) => {
        /// One line of the ledger.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Line { $($(#[doc = $doc])+ $name,)+ }

        impl Line {
            /// Every line in order.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Name in metrics and summaries.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What the line means for the balance.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

/// What a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work seen or passed on.
    Flow,
    /// Left out on purpose.
    Intentional,
    /// Lost.
    Loss,
}

ledger! {
    /// Records taken from the kernel or a recording.
    RecordsRead => "records_read", Flow;
    /// Of them, read again from the journal of an earlier collector.
    RecordsReplayed => "records_replayed", Flow;
    /// Records shorter than they say or of another version.
    RecordsCorrupt => "records_corrupt", Loss;
    /// Connections followed.
    ConnectionsOpened => "connections_opened", Flow;
    /// Connections that began before the capture.
    ConnectionsJoined => "connections_joined_midway", Flow;
    /// Connections dropped because the table was full.
    ConnectionsEvicted => "connections_evicted", Loss;
    /// Connections without traffic for too long.
    ConnectionsIdle => "connections_idle", Intentional;
    /// Segments seen again: retransmissions.
    SegmentsDuplicate => "segments_duplicate", Intentional;
    /// Bytes missing from a stream.
    BytesLost => "bytes_lost", Loss;
    /// Bytes passed over while looking for the start of a message.
    BytesSkipped => "bytes_skipped", Intentional;
    /// Connections that speak HTTP/2.
    ConnectionsHttp2 => "http2_connections", Flow;
    /// Connections that speak TLS.
    ConnectionsTls => "tls_connections", Flow;
    /// TLS connections that ended without a byte of plain text seen: no probe reads the process behind them.
    TlsUnread => "tls_unread_connections", Intentional;
    /// Records of TLS sessions whose connection was never found.
    TlsUnjoined => "tls_unjoined_records", Loss;
    /// Connections on a watched port that speak something else.
    ForeignOther => "foreign_other_connections", Intentional;
    /// Heads whose end was not captured.
    HeadsCut => "heads_cut", Loss;
    /// Heads that do not parse.
    HeadsMalformed => "heads_malformed", Intentional;
    /// Responses without a request, for instance a 408 on an idle connection.
    ResponsesOrphaned => "responses_orphaned", Intentional;
    /// Requests whose head has begun.
    Requests => "requests", Flow;
    /// Requests beyond the pipeline's depth.
    RequestsBeyondDepth => "requests_beyond_depth", Loss;
    /// Exchanges made.
    Exchanges => "exchanges", Flow;
    /// Of them, seen only in part.
    ExchangesTruncated => "exchanges_truncated", Flow;
    /// Of them, ended by the connection.
    ExchangesAborted => "exchanges_aborted", Flow;
    /// Exchanges made again after a restart that an earlier collector had delivered.
    ExchangesDeliveredBefore => "exchanges_delivered_before", Intentional;
    /// Writes of the journal that failed: a kill would lose what is in flight.
    JournalFailures => "journal_failures", Intentional;
    /// Exchanges written or durably stored.
    ExchangesStored => "exchanges_stored", Flow;
    /// Exchanges dropped because the spool was full.
    ExchangesDroppedSpoolFull => "exchanges_dropped_spool_full", Loss;
    /// Exchanges dropped because the output failed for good.
    ExchangesDroppedOutput => "exchanges_dropped_output", Loss;
    /// Exchanges in spool segments that did not read back.
    ExchangesDroppedCorrupt => "exchanges_dropped_spool_corrupt", Loss;
    /// Exchanges found in the spool of an earlier collector.
    ExchangesTakenOver => "exchanges_taken_over", Flow;
    /// Exchanges put into the spool because the store was away.
    ExchangesSpooled => "exchanges_spooled", Flow;
    /// Minutes of connection health dropped because the sink was behind.
    HealthMinutesDropped => "health_minutes_dropped", Loss;
    /// Spans received from services.
    SpansReceived => "spans_received", Flow;
    /// Spans stored, captured ones included.
    SpansStored => "spans_stored", Flow;
    /// Spans refused because the queue was full; the sender is told to retry.
    SpansRefused => "spans_refused", Intentional;
    /// Spans dropped because the store failed for good.
    SpansDropped => "spans_dropped", Loss;
    /// Spans forwarded to another OTLP endpoint.
    SpansForwarded => "spans_forwarded", Flow;
    /// Spans that could not be forwarded.
    SpansForwardFailed => "spans_forward_failed", Loss;
    /// Inserts repeated after a failure.
    InsertsRetried => "inserts_retried", Flow;
}

/// The counters; shared by all stages.
#[derive(Debug)]
pub struct Ledger {
    lines: Vec<AtomicU64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            lines: Line::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Ledger {
    /// Adds to a line.
    pub fn add(&self, line: Line, count: u64) {
        if let Some(slot) = self.lines.get(line as usize) {
            slot.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Reads a line.
    pub fn get(&self, line: Line) -> u64 {
        self.lines
            .get(line as usize)
            .map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Everything lost, over all stages.
    pub fn lost(&self) -> u64 {
        Line::ALL
            .iter()
            .filter(|line| line.kind() == Kind::Loss)
            .map(|line| self.get(*line))
            .sum()
    }

    /// Every line as `(label, meaning, help, value)`.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> {
        Line::ALL.iter().map(|line| {
            (
                line.label(),
                line.kind(),
                line.help().trim(),
                self.get(*line),
            )
        })
    }
}

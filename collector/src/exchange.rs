//! One HTTP exchange: a request with its response, or the proof that there was none.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Serialize, Serializer};

use crate::clock::UnixNanos;

/// Which end of the connection was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// We sit beside the process that answers.
    Server,
    /// We sit beside the process that asks.
    Client,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A whole response below 500.
    Ok,
    /// A whole response of 500 or more.
    Error,
    /// The connection ended before the response did.
    Aborted,
    /// Seen only in part: attached late, a head beyond the limit, or records lost.
    Truncated,
}

/// What the two ends spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    H2,
    /// gRPC, on HTTP/2.
    Grpc,
}

impl Protocol {
    /// Name in NDJSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
        }
    }
}

impl Role {
    /// Name in NDJSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl Outcome {
    /// Name in NDJSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Aborted => "aborted",
            Self::Truncated => "truncated",
        }
    }
}

/// The exchange as every sink sees it. Field names and order are the NDJSON contract; absent is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// First byte of the request seen; RFC 3339 with nanoseconds in NDJSON.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: UnixNanos,
    /// To the last byte of the response, ns.
    pub duration_ns: u64,
    /// To the first byte of the response, ns.
    pub ttfb_ns: Option<u64>,
    /// Which end was observed.
    pub role: Role,
    /// Name of the watched service.
    pub service: Option<String>,
    /// Process that listens on the server port, when it is on this host.
    pub pid: Option<u32>,
    /// Its command name.
    pub process: Option<String>,
    /// Request method; null for a request that could not be parsed.
    pub method: Option<String>,
    /// Path without the query string.
    pub path: Option<String>,
    /// Low-cardinality template of the path.
    pub route: Option<String>,
    /// Host header.
    pub host: Option<String>,
    /// Status of the final response.
    pub status_code: Option<u16>,
    /// See [`Protocol::as_str`].
    pub protocol: &'static str,
    /// Whether the bytes were encrypted on the wire.
    pub tls: bool,
    /// Wire bytes of the request, head included.
    pub request_bytes: u64,
    /// Wire bytes of the response, heads included (interim ones too).
    pub response_bytes: u64,
    /// Client end.
    pub client_address: IpAddr,
    /// Client end.
    pub client_port: u16,
    /// Server end.
    pub server_address: IpAddr,
    /// Server end.
    pub server_port: u16,
    /// Tenant, by the identity rules.
    pub tenant_id: Option<String>,
    /// User, by the identity rules.
    pub user_id: Option<String>,
    /// Session, by the identity rules.
    pub session_id: Option<String>,
    /// W3C trace id, 32 hex digits; made up when the traffic carried none.
    pub trace_id: Option<String>,
    /// Id of the span that this exchange becomes, 16 hex digits.
    pub span_id: Option<String>,
    /// The caller's span, from `traceparent`.
    pub parent_span_id: Option<String>,
    /// Business event named by the rules.
    pub event: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Allow-listed headers and what the collector has to say about the exchange.
    pub attributes: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn rfc3339<S: Serializer>(at: &UnixNanos, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339())
}

/// Exchanges on their way to a sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeBatch {
    /// In the order in which they were completed.
    pub exchanges: Vec<Exchange>,
    /// Index of the last record read: everything that was completed by it is in this batch or an earlier one.
    pub position: u64,
}

//! The rows of the store's tables, as they are inserted and read.

use serde::{Deserialize, Serialize};

/// A row of `http_exchanges`; columns as in the NDJSON contract. Times are nanoseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct ExchangeRow {
    /// First byte of the request.
    pub timestamp: i64,
    /// To the last byte of the response.
    pub duration_ns: u64,
    /// To its first byte.
    pub ttfb_ns: Option<u64>,
    /// `server` or `client`.
    pub role: String,
    /// Watched service.
    pub service: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Its command name.
    pub process: Option<String>,
    /// Request method.
    pub method: Option<String>,
    /// Without query string.
    pub path: Option<String>,
    /// Template of the path.
    pub route: Option<String>,
    /// Host header.
    pub host: Option<String>,
    /// Status of the response.
    pub status_code: Option<u16>,
    /// `http/1.1` and so on.
    pub protocol: String,
    /// Encrypted on the wire.
    pub tls: bool,
    /// Wire bytes.
    pub request_bytes: u64,
    /// Wire bytes.
    pub response_bytes: u64,
    /// Client end.
    pub client_address: String,
    /// Client end.
    pub client_port: u16,
    /// Server end.
    pub server_address: String,
    /// Server end.
    pub server_port: u16,
    /// Tenant.
    pub tenant_id: Option<String>,
    /// User.
    pub user_id: Option<String>,
    /// Session.
    pub session_id: Option<String>,
    /// 32 hex digits.
    pub trace_id: Option<String>,
    /// 16 hex digits.
    pub span_id: Option<String>,
    /// 16 hex digits.
    pub parent_span_id: Option<String>,
    /// Business event.
    pub event: Option<String>,
    /// `ok`, `error`, `aborted`, `truncated`.
    pub outcome: String,
    /// Allow-listed headers.
    pub attributes: Vec<(String, String)>,
}

/// A row of `otel_traces`, in the exporter's shape. Times are nanoseconds since 1970 UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
#[expect(
    missing_docs,
    reason = "the names are the exporter's, and its documentation holds"
)]
pub struct SpanRow {
    #[serde(rename = "Timestamp")]
    pub timestamp: i64,
    #[serde(rename = "TraceId")]
    pub trace_id: String,
    #[serde(rename = "SpanId")]
    pub span_id: String,
    #[serde(rename = "ParentSpanId")]
    pub parent_span_id: String,
    #[serde(rename = "TraceState")]
    pub trace_state: String,
    #[serde(rename = "SpanName")]
    pub span_name: String,
    #[serde(rename = "SpanKind")]
    pub span_kind: String,
    #[serde(rename = "ServiceName")]
    pub service_name: String,
    #[serde(rename = "ResourceAttributes")]
    pub resource_attributes: Vec<(String, String)>,
    #[serde(rename = "ScopeName")]
    pub scope_name: String,
    #[serde(rename = "ScopeVersion")]
    pub scope_version: String,
    #[serde(rename = "SpanAttributes")]
    pub span_attributes: Vec<(String, String)>,
    #[serde(rename = "Duration")]
    pub duration: u64,
    #[serde(rename = "StatusCode")]
    pub status_code: String,
    #[serde(rename = "StatusMessage")]
    pub status_message: String,
}

/// A row of `connection_health`: how the connections of one service fared in one minute. Sums and maxima in the unit of
/// their name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
#[expect(
    missing_docs,
    reason = "the names say it; the migration explains the rest"
)]
pub struct HealthRow {
    /// Seconds since 1970 UTC.
    pub minute: u32,
    pub service: String,
    pub connections: u64,
    pub connect_ns_sum: u64,
    pub connect_ns_max: u64,
    pub rtt_us_sum: u64,
    pub rtt_count: u64,
    pub retransmits: u64,
    pub resets_client: u64,
    pub resets_server: u64,
    pub syn_unanswered: u64,
    pub tls_handshakes: u64,
    pub tls_handshake_ns_sum: u64,
    pub tls_handshake_ns_max: u64,
    pub tls_failures: Vec<(String, u64)>,
}

/// One event of a user, as the funnel engine reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct EventRow {
    /// Whose shop.
    pub tenant_id: String,
    /// Who.
    pub user_id: String,
    /// When.
    pub timestamp: i64,
    /// What.
    pub event: String,
    /// In which session.
    pub session_id: Option<String>,
    /// In which trace.
    pub trace_id: Option<String>,
    /// Answered with.
    pub status_code: Option<u16>,
    /// Served in.
    pub duration_ns: u64,
    /// Allow-listed headers.
    pub properties: Vec<(String, String)>,
}

/// The last exchange of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct LastExchangeRow {
    /// Whose shop; empty when unknown.
    pub tenant: String,
    /// Who.
    pub user: String,
    /// First byte of the request.
    pub at: i64,
    /// Request method.
    pub last_method: Option<String>,
    /// Template of the path.
    pub last_route: Option<String>,
    /// Status of the response.
    pub last_status: Option<u16>,
    /// To the last byte of the response.
    pub last_duration_ns: u64,
    /// 32 hex digits.
    pub last_trace_id: Option<String>,
    /// In which session.
    pub last_session_id: Option<String>,
}

//! The bounds of the collector that more than one room shares or that shape what it keeps; a room's own bounds stand
//! at the top of its file. Hitting one of these is always counted, see `ledger.rs`.

/// Bytes of a message head kept for parsing; a longer head makes the exchange `truncated`.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields looked at in one head.
pub const HEADERS_MAX: usize = 128;
/// Bytes of a chunk-size line or trailer line before the stream counts as malformed.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;
/// Connections followed at once; the least recently active one leaves first.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Bytes held until a connection has told what it speaks.
pub const OPENING_BYTES_MAX: usize = 64 * 1024;
/// Stretches of the same.
pub const OPENING_PIECES_MAX: usize = 256;
/// TLS sessions whose connection is not known yet.
pub const UNJOINED_SESSIONS_MAX: usize = 1_024;
/// Plain bytes kept of one such session.
pub const UNJOINED_BYTES_MAX: usize = 64 * 1024;
/// Records of the same.
pub const UNJOINED_RECORDS_MAX: usize = 256;
/// How long such a session may stay unknown, nanoseconds of the records' own clock.
pub const UNJOINED_AGE_NS_MAX: u64 = 10_000_000_000;
/// Connections whose opener is remembered until their first segment arrives; the oldest give way.
pub const OPENERS_MAX: usize = 16_384;
/// Requests waiting for their response on one connection.
pub const PIPELINE_DEPTH_MAX: usize = 1_024;
/// Out-of-order segments held per direction before the hole in front of them is given up.
pub const REORDER_SEGMENTS_MAX: usize = 128;
/// Bytes of the same.
pub const REORDER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Time after which a hole is given up, nanoseconds of the records' own clock.
pub const REORDER_AGE_NS_MAX: u64 = 500_000_000;
/// A connection without traffic for this long is forgotten.
pub const IDLE_NS_MAX: u64 = 900_000_000_000;
/// A closed connection stays this long, so that a late record does not found a new one.
pub const LINGER_NS: u64 = 2_000_000_000;
/// Distinct routes per service; further paths become `{other}`.
pub const ROUTES_MAX: usize = 512;
/// Longest header value kept as an attribute or identity.
pub const VALUE_BYTES_MAX: usize = 512;
/// Longest path kept.
pub const PATH_BYTES_MAX: usize = 2_048;
/// Bodies longer than this are announced to the kernel, which then stops copying them.
pub const SKIP_BYTES_MIN: u64 = 64 * 1024;
/// Batches of exchanges between the capture thread and the sinks.
pub const EXCHANGE_BATCHES_MAX: usize = 256;
/// Exchanges in one such batch.
pub const EXCHANGE_BATCH_ROWS: usize = 512;
/// Rows of spans waiting to be stored; further ones are refused with "try again".
pub const SPAN_BATCHES_MAX: usize = 1_024;
/// Rows that one insert carries at most.
pub const INSERT_ROWS_MAX: usize = 20_000;
/// Size of an OTLP request body over HTTP.
pub const OTLP_BODY_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Services that get their own series in `/metrics`; further ones share `other`.
pub const METRIC_SERVICES_MAX: usize = 64;
/// Minutes of connection health that wait for the sink.
pub const HEALTH_MINUTES_MAX: usize = 64;

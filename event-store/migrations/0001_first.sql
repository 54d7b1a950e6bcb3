-- Exchanges, the events among them, and spans in the shape of the OpenTelemetry Collector's exporter.
-- The deduplication window makes a repeated insert with the same token a no-op; retries rely on it.

CREATE TABLE IF NOT EXISTS http_exchanges
(
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns UInt64 CODEC(T64, ZSTD(1)),
    ttfb_ns Nullable(UInt64),
    role LowCardinality(String),
    service LowCardinality(Nullable(String)),
    pid Nullable(UInt32),
    process LowCardinality(Nullable(String)),
    method LowCardinality(Nullable(String)),
    path Nullable(String) CODEC(ZSTD(1)),
    route LowCardinality(Nullable(String)),
    host LowCardinality(Nullable(String)),
    status_code Nullable(UInt16),
    protocol LowCardinality(String),
    tls Bool,
    request_bytes UInt64 CODEC(T64, ZSTD(1)),
    response_bytes UInt64 CODEC(T64, ZSTD(1)),
    client_address String CODEC(ZSTD(1)),
    client_port UInt16,
    server_address LowCardinality(String),
    server_port UInt16,
    tenant_id LowCardinality(Nullable(String)),
    user_id Nullable(String) CODEC(ZSTD(1)),
    session_id Nullable(String) CODEC(ZSTD(1)),
    trace_id Nullable(String) CODEC(ZSTD(1)),
    span_id Nullable(String) CODEC(ZSTD(1)),
    parent_span_id Nullable(String) CODEC(ZSTD(1)),
    event LowCardinality(Nullable(String)),
    outcome LowCardinality(String),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(timestamp)
ORDER BY (ifNull(tenant_id, ''), ifNull(service, ''), timestamp)
TTL toDateTime(timestamp) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS events
(
    tenant_id LowCardinality(String),
    user_id String CODEC(ZSTD(1)),
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    event LowCardinality(String),
    session_id Nullable(String) CODEC(ZSTD(1)),
    trace_id Nullable(String) CODEC(ZSTD(1)),
    status_code Nullable(UInt16),
    duration_ns UInt64,
    properties Map(LowCardinality(String), String) CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (tenant_id, user_id, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

-- Columns are qualified: an alias of the same name would win in the WHERE clause, and its value is never null.
CREATE MATERIALIZED VIEW IF NOT EXISTS events_of_exchanges TO events AS
SELECT
    ifNull(e.tenant_id, '') AS tenant_id,
    assumeNotNull(e.user_id) AS user_id,
    e.timestamp AS timestamp,
    assumeNotNull(e.event) AS event,
    e.session_id AS session_id,
    e.trace_id AS trace_id,
    e.status_code AS status_code,
    e.duration_ns AS duration_ns,
    e.attributes AS properties
FROM http_exchanges AS e
WHERE e.event IS NOT NULL AND e.user_id IS NOT NULL AND e.role = 'server';

CREATE TABLE IF NOT EXISTS otel_traces
(
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage String CODEC(ZSTD(1)),
    `Events.Timestamp` Array(DateTime64(9)) DEFAULT [] CODEC(ZSTD(1)),
    `Events.Name` Array(LowCardinality(String)) DEFAULT [] CODEC(ZSTD(1)),
    `Events.Attributes` Array(Map(LowCardinality(String), String)) DEFAULT [] CODEC(ZSTD(1)),
    `Links.TraceId` Array(String) DEFAULT [] CODEC(ZSTD(1)),
    `Links.SpanId` Array(String) DEFAULT [] CODEC(ZSTD(1)),
    `Links.TraceState` Array(String) DEFAULT [] CODEC(ZSTD(1)),
    `Links.Attributes` Array(Map(LowCardinality(String), String)) DEFAULT [] CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
TTL toDateTime(Timestamp) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts
(
    TraceId String CODEC(ZSTD(1)),
    Start DateTime CODEC(Delta, ZSTD(1)),
    End DateTime CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
TTL toDateTime(Start) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv TO otel_traces_trace_id_ts AS
SELECT TraceId, min(toDateTime(Timestamp)) AS Start, max(toDateTime(Timestamp)) AS End
FROM otel_traces
WHERE TraceId != ''
GROUP BY TraceId;

-- How connections fared, summed by each collector per service and minute. Rows of several collectors stand side by
-- side: whoever reads sums them, or takes the largest of what ends in _max.
-- Counts of sums are separate columns, so that a mean over any stretch of time is exact.

CREATE TABLE IF NOT EXISTS connection_health
(
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    service LowCardinality(String),
    connections UInt64 CODEC(T64, ZSTD(1)),
    connect_ns_sum UInt64 CODEC(T64, ZSTD(1)),
    connect_ns_max UInt64 CODEC(T64, ZSTD(1)),
    rtt_us_sum UInt64 CODEC(T64, ZSTD(1)),
    rtt_count UInt64 CODEC(T64, ZSTD(1)),
    retransmits UInt64 CODEC(T64, ZSTD(1)),
    resets_client UInt64 CODEC(T64, ZSTD(1)),
    resets_server UInt64 CODEC(T64, ZSTD(1)),
    syn_unanswered UInt64 CODEC(T64, ZSTD(1)),
    tls_handshakes UInt64 CODEC(T64, ZSTD(1)),
    tls_handshake_ns_sum UInt64 CODEC(T64, ZSTD(1)),
    tls_handshake_ns_max UInt64 CODEC(T64, ZSTD(1)),
    tls_failures Map(String, UInt64) CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (service, minute)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 10000;

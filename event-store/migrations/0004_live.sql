-- Results of live funnels: one row per window of event time and revision; the highest revision holds. A row has the
-- whole window, so that no reader ever sees steps of two revisions beside each other.

CREATE TABLE IF NOT EXISTS funnel_windows
(
    tenant_id LowCardinality(String),
    funnel LowCardinality(String),
    window_from DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    window_to DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    revision UInt64 CODEC(T64, ZSTD(1)),
    is_final Bool,
    steps Array(LowCardinality(String)),
    optional Array(Bool),
    counts Array(UInt64) CODEC(ZSTD(1)),
    published DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_from)
ORDER BY (tenant_id, funnel, window_from, window_to)
SETTINGS non_replicated_deduplication_window = 10000;

-- One row per step of each window as it stands, for Grafana and people.
CREATE VIEW IF NOT EXISTS funnel_window_steps AS
SELECT
    tenant_id,
    funnel,
    window_from,
    window_to,
    revision,
    is_final,
    step,
    name,
    is_optional,
    count
FROM funnel_windows FINAL
ARRAY JOIN
    arrayEnumerate(steps) AS step,
    steps AS name,
    optional AS is_optional,
    counts AS count;

//! Drivers from the store: exposures are counted inside ClickHouse, over events and exchanges of a scope.
//!
//! Subjects travel there as text (see [`subjects`](super::subjects): at most 100,000 per side, about 120 bytes each),
//! one row per fact travels back. Refuses: deciding who dropped; the caller has that from the engine.

use std::fmt::Write as _;

use clickhouse::query::Query;
use event_store::{Scope, Store, TenantId};
use serde::Deserialize;

use super::{
    drivers::{DriverOptions, DriverTable, drivers},
    exposures::{Counts, FactCount, Outcome},
    facts::{DECLINED, Fact, FactKind, IGNORED_PROPERTIES, OUT_OF_STOCK, STOCK_WORDS},
    statement,
    subjects::{SAMPLE_MAX, Sample, Subject, Transition, Watched},
};

/// The store gives up after this.
const SECONDS_MAX: u32 = 120;
/// What the statement needs beside the subjects, bytes.
const STATEMENT_BYTES: usize = 1 << 20;

/// The store did not say what the subjects were exposed to.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// A subject that cannot be written.
    #[error("a subject could not be written for the store: {0}")]
    Subject(#[from] serde_json::Error),
    /// ClickHouse refused, is away, or took too long.
    #[error("the store did not answer what was seen between the steps: {0}")]
    Store(#[from] clickhouse::error::Error),
}

#[derive(Debug, Deserialize, clickhouse::Row)]
struct Row {
    kind: u8,
    fact_name: String,
    fact_value: String,
    is_rest: bool,
    dropped: u64,
    converted: u64,
    in_time: u64,
    facts_seen: u64,
}

/// The drivers of the drop-off after one step: all who reached it, dropped against converted.
///
/// Subjects of other tenants than the scope's are left out.
///
/// # Errors
/// See [`WhyError`].
pub async fn drivers_in_store(
    store: &Store,
    scope: &Scope,
    transition: &Transition,
    subjects: &[Subject],
    options: &DriverOptions,
) -> Result<DriverTable, WhyError> {
    let side_max = options.subjects_max.min(SAMPLE_MAX);
    let counts = count_in_store(store, scope, transition, subjects, side_max).await?;
    Ok(drivers(counts, options))
}

async fn count_in_store(
    store: &Store,
    scope: &Scope,
    transition: &Transition,
    subjects: &[Subject],
    side_max: usize,
) -> Result<Counts, WhyError> {
    let sample = Sample::new(subjects, scope, transition, side_max);
    let mut counts = Counts {
        dropped: sample.dropped,
        converted: sample.converted,
        ..Counts::default()
    };
    let Some(span) = span_ns(&sample.watched) else {
        return Ok(counts);
    };
    let text = written(&sample.watched)?;
    // The limit applies to the text as it is sent, where quotes and backslashes are doubled.
    let bytes_max = text.len() * 2 + STATEMENT_BYTES;
    let client = store
        .database()
        .with_setting("max_query_size", bytes_max.to_string())
        .with_setting("max_execution_time", SECONDS_MAX.to_string());
    let query = client.query(&statement::fact_counts()).bind(text);
    let query = filter(
        filter(query, scope, transition, span),
        scope,
        transition,
        span,
    );
    let rows: Vec<Row> = query
        .bind(IGNORED_PROPERTIES)
        .bind(OUT_OF_STOCK)
        .bind(OUT_OF_STOCK)
        .bind(STOCK_WORDS)
        .bind(DECLINED)
        .bind(DECLINED)
        .fetch_all()
        .await?;
    counts.facts_seen = rows.first().map_or(0, |row| row.facts_seen);
    counts.facts = rows.iter().filter_map(fact_count).collect();
    Ok(counts)
}

/// What each of the two tables is filtered by.
fn filter(query: Query, scope: &Scope, transition: &Transition, span: (i64, i64)) -> Query {
    let names = transition.step_events.as_deref();
    query
        .bind(names.is_none())
        .bind(names.unwrap_or_default())
        .bind(scope.tenant().is_none())
        .bind(scope.tenant().map_or("", TenantId::as_str))
        .bind(span.0)
        .bind(span.1)
}

fn fact_count(row: &Row) -> Option<FactCount> {
    let kind = FactKind::from_code(row.kind)?;
    Some(FactCount {
        fact: Fact {
            is_rest: row.is_rest,
            ..Fact::new(kind, &row.fact_name, &row.fact_value)
        },
        dropped: row.dropped,
        converted: row.converted,
        dropped_in_time: row.in_time,
    })
}

/// The first and the last instant that anyone is watched; `None` for nobody. The store's times lie after 1970.
fn span_ns(watched: &[Watched<'_>]) -> Option<(i64, i64)> {
    let first = watched.iter().map(|one| one.subject.reached_at_ns).min()?;
    let last = watched
        .iter()
        .map(|one| one.ends_at_ns.max(one.subject.reached_at_ns))
        .max()?;
    Some((first.max(0), last.max(0)))
}

/// One JSON array per subject. Blanks stand between them: a line break would not survive the quoting of the bind.
fn written(watched: &[Watched<'_>]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for (id, one) in watched.iter().enumerate() {
        let subject = one.subject;
        let row = (
            id,
            &subject.tenant,
            &subject.user,
            subject.session.as_deref().unwrap_or_default(),
            subject.reached_at_ns,
            one.ends_at_ns,
            one.in_time_ends_at_ns,
            u8::from(one.outcome == Outcome::Dropped),
        );
        // Writing into a string cannot fail.
        write!(text, "{} ", serde_json::to_string(&row)?).unwrap_or_default();
    }
    Ok(text)
}

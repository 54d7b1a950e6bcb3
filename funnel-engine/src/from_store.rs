//! Funnels that the store cannot answer itself: its events are read once, packed into columns and scanned.
//!
//! Of events in the store, `session`, `status_code`, `duration_ms` and `tenant` are columns; everything else a
//! condition or breakdown names is looked for among the properties. Route and method are known where exchanges are
//! read, which is when a step says `http`.

use std::collections::BTreeMap;

use event_store::{EventRow, Scope, Store, StoreError};

use crate::{
    answer::FunnelResult,
    columnar::{ColumnarError, HeapBuilder, HeapError, HeapIndex},
    definition::{FunnelDefinition, Occurrence},
    event::Event,
    members::{Bar, ListCursor, Member},
    pushdown::{PushdownError, service_in_store},
};

/// Events that are read for one answer; they take some 20 to 60 bytes each in memory.
const EVENTS_MAX: u64 = 100_000_000;

/// A funnel that could not be answered from the store's events.
#[derive(Debug, thiserror::Error)]
pub enum FromStoreError {
    /// The store is away or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not tell how the steps were served.
    #[error(transparent)]
    Service(#[from] PushdownError),
    /// The events do not fit.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// The definition asks for too much.
    #[error(transparent)]
    Columnar(#[from] ColumnarError),
    /// Too many events.
    #[error("the funnel looks at more than {EVENTS_MAX} events; give it a shorter time range")]
    TooMany,
}

/// Answers any definition over a scope's events.
///
/// # Errors
/// See [`FromStoreError`].
pub async fn run_from_store(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    threads: usize,
) -> Result<FunnelResult, FromStoreError> {
    let mut result = read(store, scope, definition).await?.answer(threads)?;
    // Failed attempts of people who are not known yet, such as a refused login, are exchanges but nobody's events.
    result.set_service(&service_in_store(store, scope, definition).await?);
    Ok(result)
}

/// At most `limit` members of a list, from the cursor on.
pub(crate) async fn members_from_store(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    bar: Bar,
    page: (Option<&ListCursor>, usize),
    threads: usize,
) -> Result<Vec<Member>, FromStoreError> {
    let index = read(store, scope, definition).await?;
    Ok(index.members(bar, page, threads)?)
}

async fn read(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
) -> Result<HeapIndex, FromStoreError> {
    let mut builder = HeapBuilder::new(definition);
    let mut failed = None;
    let mut count = 0_u64;
    let mut take = |row: EventRow| {
        count += 1;
        if failed.is_none() && count <= EVENTS_MAX {
            failed = builder.push(&event(row)).err();
        }
    };
    let (mut from_ns, to_ns) = definition.time_range_ns();
    // Whose first event ever it was is told by all of history.
    if definition
        .steps
        .iter()
        .any(|step| step.occurrence == Occurrence::FirstEver)
    {
        from_ns = i64::MIN;
    }
    let every_exchange = definition.steps.iter().any(|step| step.http.is_some());
    store
        .each_event(scope, (from_ns, to_ns), every_exchange, &mut take)
        .await?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if count > EVENTS_MAX {
        return Err(FromStoreError::TooMany);
    }
    Ok(builder.finish()?)
}

fn event(row: EventRow) -> Event {
    let mut properties: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for (name, value) in row.properties {
        // Of a name that stands there twice the first counts, as in the index.
        properties.entry(name).or_insert_with(|| value.into());
    }
    let mut set = |name: &str, value: serde_json::Value| {
        properties.insert(name.to_owned(), value);
    };
    if let Some(session) = row.session_id {
        set("session", session.into());
    }
    if !row.tenant_id.is_empty() {
        set("tenant", row.tenant_id.into());
    }
    if let Some(status) = row.status_code {
        set("status_code", status.into());
    }
    set("duration_ms", milliseconds(row.duration_ns));
    Event {
        user: (!row.user_id.is_empty()).then_some(row.user_id),
        at_ns: row.timestamp,
        name: row.event,
        properties,
    }
}

/// Whole milliseconds are written without a fraction, as ClickHouse writes them.
fn milliseconds(ns: u64) -> serde_json::Value {
    if ns.is_multiple_of(1_000_000) {
        return (ns / 1_000_000).into();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations of requests stay below 2^53 ns"
    )]
    let ms = ns as f64 / 1e6;
    ms.into()
}

//! Result windows in the store: table `funnel_windows`, one row per revision, of which the highest holds.

use std::fmt::Write as _;

use clickhouse::Row;
use event_store::{Store, StoreError};
use funnel_engine::{feed::Published, live::Snapshot};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Delivery, Sink, SinkError};

/// Windows that are published again when a feed begins anew.
const PUBLISHED_MAX: u64 = 1_000_000;

/// A row of `funnel_windows`. Times are nanoseconds since 1970 UTC; the lists are by step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Row)]
pub struct FunnelWindowRow {
    /// Whose shop; empty for none.
    pub tenant_id: String,
    /// Name of the funnel.
    pub funnel: String,
    /// Where the window begins.
    pub window_from: i64,
    /// Where it ends, outside.
    pub window_to: i64,
    /// The highest of a window holds.
    pub revision: u64,
    /// Whether only an event later than allowed can still change it.
    pub is_final: bool,
    /// Names.
    pub steps: Vec<String>,
    /// Whether it may be skipped.
    pub optional: Vec<bool>,
    /// Who reached it.
    pub counts: Vec<u64>,
}

impl FunnelWindowRow {
    /// The row of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            tenant_id: snapshot.tenant.clone(),
            funnel: snapshot.funnel.clone(),
            window_from: snapshot.from_ns,
            window_to: snapshot.to_ns,
            revision: snapshot.revision,
            is_final: snapshot.is_final,
            steps: snapshot
                .steps
                .iter()
                .map(|step| step.name.clone())
                .collect(),
            optional: snapshot.steps.iter().map(|step| step.optional).collect(),
            counts: snapshot.counts().collect(),
        }
    }
}

/// A revision that is higher than any in the store: for `LiveConfig::first_revision` after a restart. Says nothing of
/// any tenant.
///
/// # Errors
/// When the store is away or refuses.
pub async fn next_revision(store: &Store) -> Result<u64, SinkError> {
    store.migrate_once().await.map_err(|error| away(&error))?;
    let query = "SELECT max(revision) + 1 FROM funnel_windows";
    let highest = store.database().query(query).fetch_one::<u64>().await;
    highest.map_err(|error| SinkError::away(error.to_string()))
}

/// Windows of this width, from an instant on, in which the store says that somebody is: what a feed has to publish
/// again when it begins anew.
///
/// # Errors
/// When the store is away or refuses.
pub async fn published_windows(
    store: &Store,
    from_ns: i64,
    width_ns: i64,
) -> Result<Vec<Published>, SinkError> {
    #[derive(Deserialize, Row)]
    struct Known {
        funnel: String,
        tenant_id: String,
        window_from: i64,
    }
    let query = "SELECT funnel, tenant_id, window_from FROM funnel_windows FINAL \
         WHERE window_from >= fromUnixTimestamp64Nano(?) \
         AND toUnixTimestamp64Nano(window_to) - toUnixTimestamp64Nano(window_from) = ? \
         AND arraySum(counts) > 0 ORDER BY window_from DESC LIMIT ?";
    let query = store.database().query(query).bind(from_ns).bind(width_ns);
    let known = query.bind(PUBLISHED_MAX).fetch_all::<Known>().await;
    let known = known.map_err(|error| SinkError::away(error.to_string()))?;
    if known.len() as u64 >= PUBLISHED_MAX {
        tracing::warn!(
            windows = PUBLISHED_MAX,
            "older windows are not published again"
        );
    }
    let published = known.into_iter().map(|known| Published {
        funnel: known.funnel,
        tenant: known.tenant_id,
        from_ns: known.window_from,
    });
    Ok(published.collect())
}

/// Writes windows to the store.
#[derive(Clone, Debug)]
pub struct ClickhouseSink {
    store: Store,
}

impl ClickhouseSink {
    /// Of a store; the schema is brought up to date before the first row.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    async fn insert(&self, rows: &[FunnelWindowRow]) -> Result<(), clickhouse::error::Error> {
        let client = self
            .store
            .database()
            .with_setting("insert_deduplication_token", token(rows));
        let mut insert = client.insert::<FunnelWindowRow>("funnel_windows").await?;
        for row in rows {
            insert.write(row).await?;
        }
        insert.end().await
    }
}

fn away(error: &StoreError) -> SinkError {
    SinkError::away(error.to_string())
}

/// The same rows have the same token, however often they are sent.
fn token(rows: &[FunnelWindowRow]) -> String {
    let mut digest = Sha256::new();
    for row in rows {
        for text in [&row.tenant_id, &row.funnel].into_iter().chain(&row.steps) {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        digest.update(row.window_from.to_le_bytes());
        digest.update(row.window_to.to_le_bytes());
        digest.update(row.revision.to_le_bytes());
        digest.update([u8::from(row.is_final)]);
        row.counts
            .iter()
            .for_each(|count| digest.update(count.to_le_bytes()));
    }
    let mut text = "funnel-windows-".to_owned();
    for byte in digest.finalize() {
        // Writing into a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

impl Sink for ClickhouseSink {
    async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
        self.store
            .migrate_once()
            .await
            .map_err(|error| away(&error))?;
        let rows: Vec<FunnelWindowRow> = delivery
            .snapshots
            .iter()
            .map(|snapshot| FunnelWindowRow::of(snapshot))
            .collect();
        let inserted = self.insert(&rows).await;
        inserted.map_err(|error| SinkError::away(format!("inserting funnel windows: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::samples::snapshot;

    #[test]
    fn a_token_stands_for_the_rows() {
        let row =
            |revision, counts: &[u64]| FunnelWindowRow::of(&snapshot("t1", 0, revision, counts));
        let first = token(&[row(1, &[2, 1])]);
        assert_eq!(first, token(&[row(1, &[2, 1])]));
        assert_ne!(first, token(&[row(2, &[2, 1])]));
        assert_ne!(first, token(&[row(1, &[2, 2])]));
        assert_ne!(first, token(&[row(1, &[2, 1]), row(1, &[2, 1])]));
    }
}

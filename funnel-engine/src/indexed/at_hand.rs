//! The index beside the tail that fills it, as questions find it.
//!
//! A question takes the hot batches first, then a snapshot, and leaves out the batches that the snapshot covers: so it
//! sees every event once (see `tail/hot.rs`). Columns that are missing are read in the background, and until they are
//! there the index has no answer: somebody else gives it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use event_store::{Scope, Slice, Store, TenantId};

use super::{
    IndexedError, SharedIndex,
    hot::{self, HotTenant},
    view::IndexView,
};
use crate::{
    columnar::wanted_properties,
    definition::FunnelDefinition,
    index::{IndexReader, IndexStats, PropertiesError, Snapshot},
    tail::{Cursor, HotTail, IndexWriter as _, Meters, Tail, TailFigures},
};

/// An index that has not caught up with the store for so long is not asked.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// The index of a store, for any number of questions at the same time.
pub struct IndexAtHand {
    store: Store,
    index: SharedIndex,
    reader: IndexReader,
    hot: Arc<HotTail>,
    meters: Arc<Meters>,
    stats: Mutex<IndexStats>,
    /// Whether somebody is reading columns.
    loading: Arc<AtomicBool>,
    now_ns: Box<dyn Fn() -> i64 + Send + Sync>,
    /// After columns could not be read: not again before then, nanoseconds since 1970 UTC.
    retry_ns: Arc<AtomicI64>,
}

/// How long to leave it at that when columns could not be read.
const RETRY_NS: i64 = 60_000_000_000;

impl IndexAtHand {
    /// The index that a tail writes. `now_ns` tells the time, nanoseconds since 1970 UTC.
    pub fn of(
        tail: &Tail<SharedIndex>,
        store: Store,
        now_ns: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self {
        let index = tail.index().clone();
        let reader = index.lock().index().reader();
        Self {
            store,
            index,
            reader,
            hot: tail.hot(),
            meters: tail.meters(),
            stats: Mutex::default(),
            loading: Arc::default(),
            now_ns: Box::new(now_ns),
            retry_ns: Arc::default(),
        }
    }

    /// What the tail has done.
    pub fn figures(&self) -> TailFigures {
        self.meters.figures()
    }

    /// What the files hold; while they are being changed, what they held before.
    pub fn stats(&self) -> IndexStats {
        let mut known = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.index.try_lock() {
            *known = index.index().stats();
        }
        *known
    }

    /// Events that are in no file yet.
    pub fn hot_rows(&self) -> usize {
        self.hot.rows()
    }

    /// Whether it has seen all that was in the store a few seconds ago.
    pub fn is_level(&self) -> bool {
        let level_at_ns = self.meters.figures().level_at_ns;
        let behind_max = i64::try_from(BEHIND_MAX.as_nanos()).unwrap_or(i64::MAX);
        level_at_ns > 0 && (self.now_ns)().saturating_sub(level_at_ns) <= behind_max
    }

    /// What a question over a scope's events sees; none when the index has not caught up with the store, or does not have
    /// the columns yet.
    ///
    /// # Errors
    /// See [`IndexedError`].
    pub async fn view(
        &self,
        scope: &Scope,
        definition: &FunnelDefinition,
    ) -> Result<Option<IndexView>, IndexedError> {
        if !self.is_level() {
            return Ok(None);
        }
        let only = scope.tenant().map(TenantId::as_str);
        let mut batches = self.hot.batches();
        let snapshot = self.reader.snapshot(only)?;
        // An empty cursor is what a new index has.
        let cursor: Cursor = serde_json::from_slice(&snapshot.cursor).unwrap_or_default();
        batches.retain(|batch| !cursor.covers(&batch.slice));
        let view = match IndexView::of(definition, &snapshot) {
            Ok(view) => view,
            Err(IndexedError::Columns {
                source: PropertiesError::Missing { .. },
                ..
            }) => {
                self.load_columns(snapshot, definition);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let slices: Vec<Slice> = batches.iter().map(|batch| batch.slice.clone()).collect();
        let only = only.map(str::to_owned);
        let packing = move || hot::pack(&snapshot, &batches, only.as_deref());
        let mut hot: Vec<HotTenant> = tokio::task::spawn_blocking(packing).await??;
        let wanted = wanted_properties(definition);
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        if !names.is_empty() {
            for tenant in &mut hot {
                tenant.load_columns(&self.store, &slices, &names).await?;
            }
        }
        Ok(Some(view.with_hot(hot)))
    }

    /// Has the missing columns read, unless some are being read already.
    fn load_columns(&self, snapshot: Snapshot, definition: &FunnelDefinition) {
        let is_too_early = (self.now_ns)() < self.retry_ns.load(Ordering::Relaxed);
        if is_too_early || self.loading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, index) = (self.store.clone(), self.index.clone());
        let (loading, retry_ns) = (Arc::clone(&self.loading), Arc::clone(&self.retry_ns));
        let (wanted, again_ns) = (wanted_properties(definition), (self.now_ns)() + RETRY_NS);
        tokio::spawn(async move {
            if let Err(error) = index.load_columns(&store, &snapshot.tenants, &wanted).await {
                retry_ns.store(again_ns, Ordering::Relaxed);
                let properties = wanted.join(", ");
                tracing::warn!(%error, properties, "the store answers instead of the index");
            }
            loading.store(false, Ordering::Release);
        });
    }
}

impl std::fmt::Debug for IndexAtHand {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cursor = self.index.cursor();
        out.debug_struct("IndexAtHand")
            .field("cursor", &cursor)
            .finish_non_exhaustive()
    }
}

//! The index as the tail writes it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use event_store::{Scope, Store, TenantId};

use super::{
    IndexedError,
    columns::{read_missing, source},
    view::IndexView,
};
use crate::{
    answer::FunnelResult,
    columnar::wanted_properties,
    definition::FunnelDefinition,
    index::{Batch, Index, IndexError, Row, Snapshot, Tenant, Thrift},
    tail::{Cursor, HotBatch, IndexFailure, IndexWriter},
};

/// Events that are rewritten by merging segments for each event that arrives, at most.
const MERGED_PER_EVENT: u64 = 8;

/// An index as the tail writes it.
pub struct StoreIndex(Index);

impl StoreIndex {
    /// Opens the index of a folder. One that cannot be trusted is emptied, and the reason is returned: it is derived
    /// data, and the tail reads the store again.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be used.
    pub fn open(folder: &Path) -> Result<(Self, Option<String>), IndexError> {
        match Index::open(folder) {
            Ok(index) => Ok((Self(index), None)),
            Err(IndexError::Rebuild { reason }) => {
                Index::wipe(folder)?;
                Ok((Self(Index::open(folder)?), Some(reason)))
            }
            Err(error) => Err(error),
        }
    }

    /// The index itself.
    pub const fn index(&self) -> &Index {
        &self.0
    }

    /// Merges segments until nothing is left to merge, for when nothing more is expected soon.
    ///
    /// # Errors
    /// See [`Index::compact`].
    pub fn compact(&mut self) -> Result<(), IndexError> {
        while self.0.compact(u64::MAX, Thrift::Whole)?.more {}
        Ok(())
    }

    /// Reads the columns that a definition looks at and the index does not have yet.
    ///
    /// # Errors
    /// See [`IndexedError`].
    pub async fn load_columns(
        &mut self,
        store: &Store,
        scope: &Scope,
        definition: &FunnelDefinition,
    ) -> Result<(), IndexedError> {
        let snapshot = self.0.snapshot(scope.tenant().map(TenantId::as_str))?;
        let wanted = wanted_properties(definition);
        let attach = |tenant: &str, segment, columns: &[u8]| {
            self.0.attach_properties(tenant, segment, columns)
        };
        read_missing(store, &snapshot.tenants, &wanted, attach).await
    }
}

impl IndexWriter for StoreIndex {
    fn cursor(&self) -> Cursor {
        // An empty cursor is what a new index has.
        serde_json::from_slice(self.0.cursor()).unwrap_or_default()
    }

    fn append(&mut self, batches: &[Arc<HotBatch>], cursor: &Cursor) -> Result<(), IndexFailure> {
        let cursor = serde_json::to_vec(cursor)?;
        let rows = batches.iter().map(|batch| batch.events.len() as u64);
        let budget = rows.sum::<u64>().saturating_mul(MERGED_PER_EVENT);
        let taken = batches.iter().map(|batch| Batch {
            source: source(&batch.slice),
            rows: Box::new(batch.events.rows().map(|row| Row {
                tenant: row.tenant,
                user: row.user,
                at_ns: row.at_ns,
                name: row.event,
            })),
        });
        self.0.append(taken.collect(), &cursor)?;
        // The events are stored whatever becomes of merging, which comes again with the next batch.
        if let Err(error) = self.0.compact(budget, Thrift::Amortised) {
            tracing::warn!(%error, "segments of the index were not merged");
        }
        Ok(())
    }

    fn forget(&mut self, partition: &str) -> Result<(), IndexFailure> {
        let mut cursor = self.cursor();
        cursor.partitions.remove(partition);
        let bytes = serde_json::to_vec(&cursor)?;
        Ok(self.0.forget(partition, &bytes)?)
    }
}

/// Answers a definition over what the index held when the snapshot was taken.
///
/// # Errors
/// A definition that looks at more than named events, or at columns that were not loaded.
pub fn run_on_index(
    definition: &FunnelDefinition,
    snapshot: &Snapshot,
    threads: usize,
) -> Result<FunnelResult, IndexedError> {
    IndexView::of(definition, snapshot)?.answer(definition, threads)
}

/// An index that the tail writes and others put columns into.
#[derive(Clone)]
pub struct SharedIndex(Arc<Mutex<StoreIndex>>);

impl SharedIndex {
    /// Shares an index.
    pub fn new(index: StoreIndex) -> Self {
        Self(Arc::new(Mutex::new(index)))
    }

    /// Reads the columns that segments of these tenants lack, without holding the index meanwhile.
    pub(super) async fn load_columns(
        &self,
        store: &Store,
        tenants: &[Arc<Tenant>],
        wanted: &[String],
    ) -> Result<(), IndexedError> {
        let attach = |tenant: &str, segment, columns: &[u8]| {
            self.lock().0.attach_properties(tenant, segment, columns)
        };
        read_missing(store, tenants, wanted, attach).await
    }

    /// The index, while nobody else changes it.
    pub fn lock(&self) -> MutexGuard<'_, StoreIndex> {
        // A change that did not come to its end is found out by the index itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, unless somebody is changing it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, StoreIndex>> {
        match self.0.try_lock() {
            Ok(index) => Some(index),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl IndexWriter for SharedIndex {
    fn cursor(&self) -> Cursor {
        self.lock().cursor()
    }

    fn append(&mut self, batches: &[Arc<HotBatch>], cursor: &Cursor) -> Result<(), IndexFailure> {
        self.lock().append(batches, cursor)
    }

    fn forget(&mut self, partition: &str) -> Result<(), IndexFailure> {
        self.lock().forget(partition)
    }
}

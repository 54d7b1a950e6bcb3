//! The hot tail: events that have arrived and are not yet worth a file.
//!
//! They are kept as the batches in which they were read, so that queries see them at once. A batch leaves only after
//! the index has it. Nothing here outlives the process: the persisted cursor is behind these batches, so they are read
//! again.
//!
//! A query sees every event exactly once if it takes [`HotTail::batches`] first, then a snapshot of the index, and
//! leaves out the batches that the snapshot's cursor [covers](super::Cursor::covers). The other way round, a batch
//! could be handed over in between and be in neither.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_store::Slice;

use super::batch::EventBatch;

/// With this many events the tail is handed to the index.
pub const HOT_ROWS: usize = 262_144;
/// After this long it is handed over however small it is, nanoseconds.
pub const HOT_NS: i64 = 30_000_000_000;
/// With this many batches it is handed over: a query looks at each.
pub const HOT_BATCHES: usize = 512;

/// Events of one slice of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotBatch {
    /// Which rows of the store they are.
    pub slice: Slice,
    /// The events.
    pub events: EventBatch,
    /// When they were read, nanoseconds since 1970 UTC.
    pub read_at_ns: i64,
}

/// The batches that the index does not have yet, oldest first.
///
/// Its bound: [`HOT_ROWS`] and one slice more, because whoever fills it hands it over before reading on.
#[derive(Debug, Default)]
pub struct HotTail {
    batches: Mutex<Vec<Arc<HotBatch>>>,
}

impl HotTail {
    /// What is in it now.
    pub fn batches(&self) -> Vec<Arc<HotBatch>> {
        self.lock().clone()
    }

    /// How many events.
    pub fn rows(&self) -> usize {
        self.lock().iter().map(|batch| batch.events.len()).sum()
    }

    pub(super) fn push(&self, batch: HotBatch) {
        self.lock().push(Arc::new(batch));
    }

    /// Whether it is time to hand it over.
    pub(super) fn is_due(&self, now_ns: i64) -> bool {
        let batches = self.batches();
        let rows: usize = batches.iter().map(|batch| batch.events.len()).sum();
        let oldest = batches.first().map(|batch| batch.read_at_ns);
        rows >= HOT_ROWS
            || batches.len() >= HOT_BATCHES
            || oldest.is_some_and(|oldest| now_ns.saturating_sub(oldest) >= HOT_NS)
    }

    /// Drops the first batches: the index has them.
    pub(super) fn drop_first(&self, count: usize) {
        let mut batches = self.lock();
        let count = count.min(batches.len());
        batches.drain(..count);
    }

    /// Drops the batches of a partition: it will be read anew.
    pub(super) fn forget(&self, partition: &str) {
        self.lock()
            .retain(|batch| batch.slice.partition != partition);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<HotBatch>>> {
        // Every change is a single step, so what a panicking thread left behind is whole.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use event_store::TailRow;

    use super::*;

    fn batch(partition: &str, block: u64, rows: usize, read_at_ns: i64) -> HotBatch {
        let mut events = EventBatch::default();
        for _ in 0..rows {
            events.push(TailRow {
                tenant: "t",
                user: "u",
                at_ns: 0,
                event: "e",
            });
        }
        HotBatch {
            slice: Slice::of(partition, block, block),
            events,
            read_at_ns,
        }
    }

    #[test]
    fn it_is_due_by_size_by_age_and_by_number() {
        let hot = HotTail::default();
        assert!(!hot.is_due(i64::MAX), "nothing to hand over");
        hot.push(batch("p", 1, 1, 1_000));
        assert!(!hot.is_due(HOT_NS + 999));
        assert!(hot.is_due(HOT_NS + 1_000));
        hot.push(batch("p", 2, HOT_ROWS - 2, 1_000));
        assert!(!hot.is_due(1_000));
        hot.push(batch("p", 3, 1, 1_000));
        assert!(hot.is_due(1_000));
        hot.drop_first(3);
        for _ in 0..HOT_BATCHES {
            hot.push(batch("p", 4, 0, 0));
        }
        assert!(hot.is_due(0));
    }

    #[test]
    fn a_reader_keeps_what_it_saw() {
        let hot = HotTail::default();
        hot.push(batch("p", 1, 2, 0));
        hot.push(batch("q", 2, 3, 0));
        let seen = hot.batches();
        hot.forget("p");
        assert_eq!(hot.rows(), 3);
        hot.drop_first(1);
        assert_eq!(hot.rows(), 0);
        assert_eq!(seen.len(), 2);
    }
}

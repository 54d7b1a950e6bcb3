//! Tails the store's events into an index, each exactly once.
//!
//! Owns: the order of reading, the hot tail, the check that nothing was skipped or repeated, waiting while the store is
//! away. Refuses: knowing how an index looks ([`IndexWriter`] stands for it), sockets, and wall clocks other than the
//! one passed in.
//!
//! Exactly once rests on three things. A row's block never changes, and no row becomes visible in a block once a later
//! one is (see docs/adr/0016-tailing-the-store.md). The index keeps the [`Cursor`] in the same step as the segments. And
//! whenever a partition has been read to its end, the rows read must be as many as the store counts. If they are not,
//! or a mutation has changed rows that were read before, the partition is read anew. While it is, its events are missing
//! from the index and count as lag.
//!
//! Bounds: the hot tail (see `hot.rs`) and one slice, which is some [`SLICE_ROWS_MAX`] rows unless a single insert was
//! larger on a single day.

mod batch;
mod cursor;
mod follow;
mod hot;
mod meters;
mod trouble;
mod writer;

use std::{pin::pin, sync::Arc, time::Duration};

pub use batch::{EventBatch, Texts};
pub use cursor::{Ahead, Cursor, Position};
use event_store::{PartitionHead, Slice, Store};
pub(crate) use follow::{Follow, READ_WITHIN, SliceRows, Stale};
pub use hot::{HOT_BATCHES, HOT_NS, HOT_ROWS, HotBatch, HotTail};
pub use meters::{FUTURE_NS, Meters, TailFigures};
pub use trouble::TailError;
pub(crate) use trouble::{back_off, within};
pub use writer::{IndexFailure, IndexWriter};

/// Rows of a slice when not much is left to read.
pub const SLICE_ROWS: u64 = 1_000_000;
/// Rows of a slice at most. Every slice of a large part reads that part's block numbers, so large backlogs are cut into
/// fewer slices.
pub const SLICE_ROWS_MAX: u64 = 4_000_000;

pub(crate) const POLL_EVERY: Duration = Duration::from_millis(500);

/// What one poll did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Rows read.
    pub rows: u64,
    /// Partitions that will be read anew.
    pub rebuilt: Vec<String>,
    /// Merges that began before rows kept their places; nothing is read before they have ended.
    pub awaited_merges: usize,
}

/// Reads the store's events and hands them to an index.
pub struct Tail<W> {
    /// All that was read: what the index has and what is in the hot tail.
    follow: Follow,
    index: W,
    hot: Arc<HotTail>,
    meters: Arc<Meters>,
    now_ns: Box<dyn Fn() -> i64 + Send>,
}

impl<W> std::fmt::Debug for Tail<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

impl<W: IndexWriter> Tail<W> {
    /// A tail that goes on where the index ends. `now_ns` tells the time, nanoseconds since 1970 UTC.
    pub fn new(store: Store, index: W, now_ns: impl Fn() -> i64 + Send + 'static) -> Self {
        let slice_rows = SliceRows {
            least: SLICE_ROWS,
            most: SLICE_ROWS_MAX,
        };
        Self {
            follow: Follow::new(store, index.cursor(), slice_rows),
            index,
            hot: Arc::default(),
            meters: Arc::default(),
            now_ns: Box::new(now_ns),
        }
    }

    /// The index.
    pub fn index(&self) -> &W {
        &self.index
    }

    /// The events that the index does not have yet.
    pub fn hot(&self) -> Arc<HotTail> {
        Arc::clone(&self.hot)
    }

    /// What was done.
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.meters)
    }

    /// Polls until `shutdown` resolves, then hands over what is hot. While the store is away it asks less and less
    /// often, up to every 30 s.
    ///
    /// # Errors
    /// Only the last handing over; what was not taken is read again by the next tail.
    pub async fn follow(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), TailError> {
        let mut shutdown = pin!(shutdown);
        let mut failures = 0;
        loop {
            let polled = tokio::select! {
                () = &mut shutdown => break,
                polled = Box::pin(self.poll_once()) => polled,
            };
            let wait = match polled {
                Ok(_) => {
                    failures = 0;
                    POLL_EVERY
                }
                Err(error) => {
                    self.meters.failed();
                    let wait = back_off(POLL_EVERY, failures);
                    failures += 1;
                    tracing::warn!(%error, again_in_s = wait.as_secs_f64(), "the events are not being followed");
                    wait
                }
            };
            tokio::select! {
                () = &mut shutdown => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.hand_over()
    }

    /// Reads what is new. A poll that is dropped, or fails, has read some slices whole and others not at all.
    ///
    /// # Errors
    /// See [`TailError`]; the next poll goes on where this one stopped.
    pub async fn poll_once(&mut self) -> Result<Polled, TailError> {
        let mut polled = Polled::default();
        self.hand_over_if_due()?;
        let table = self.follow.table().await?;
        self.forget(self.follow.of_another(&table), &mut polled)?;
        polled.awaited_merges = self.follow.accept(table);
        if polled.awaited_merges > 0 {
            return Ok(polled);
        }
        let heads = self.follow.heads().await?;
        self.forget(self.follow.stale(&heads), &mut polled)?;
        self.measure(&heads);
        for head in &heads {
            for slice in self.follow.plan(head).await? {
                polled.rows += self.read(slice, head).await?;
                self.measure(&heads);
            }
            let stale = self.follow.check(head).await?;
            self.forget(stale, &mut polled)?;
        }
        self.measure(&heads);
        Ok(polled)
    }

    /// Gives the index everything that is hot.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn hand_over(&mut self) -> Result<(), TailError> {
        let batches = self.hot.batches();
        if batches.is_empty() {
            return Ok(());
        }
        self.index
            .append(&batches, self.follow.cursor())
            .map_err(TailError::Index)?;
        self.hot.drop_first(batches.len());
        let rows = batches.iter().map(|batch| batch.events.len() as u64).sum();
        self.meters.handed_over(rows);
        Ok(())
    }

    fn hand_over_if_due(&mut self) -> Result<(), TailError> {
        if self.hot.is_due((self.now_ns)()) {
            self.hand_over()?;
        }
        Ok(())
    }

    async fn read(&mut self, slice: Slice, head: &PartitionHead) -> Result<u64, TailError> {
        let mut events = EventBatch::default();
        let mut future = 0;
        let horizon = (self.now_ns)().saturating_add(FUTURE_NS);
        let read = within(
            READ_WITHIN,
            self.follow.store().tail_rows(&slice, &mut |row| {
                future += u64::from(row.at_ns > horizon);
                events.push(row);
            }),
        )
        .await?;
        // No await below: a dropped poll has taken note of the whole slice or of nothing.
        self.meters.read(&read, future);
        self.follow.advance(&slice, read.rows, head);
        self.hot.push(HotBatch {
            slice,
            events,
            read_at_ns: (self.now_ns)(),
        });
        self.hand_over_if_due()?;
        Ok(read.rows)
    }

    fn forget(
        &mut self,
        stale: impl IntoIterator<Item = Stale>,
        polled: &mut Polled,
    ) -> Result<(), TailError> {
        for Stale { partition, why } in stale {
            tracing::warn!(partition, why, "reading a partition anew");
            self.index.forget(&partition).map_err(TailError::Index)?;
            self.hot.forget(&partition);
            self.follow.forget(&partition);
            self.meters.rebuilt();
            polled.rebuilt.push(partition);
        }
        Ok(())
    }

    fn measure(&self, heads: &[PartitionHead]) {
        self.meters.lag(self.follow.unread(heads), (self.now_ns)());
    }
}

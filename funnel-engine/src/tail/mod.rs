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
mod hot;
mod meters;
mod trouble;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

pub use batch::{EventBatch, Texts};
pub use cursor::{Ahead, Cursor, Position};
use event_store::{PartitionHead, Slice, Store};
pub use hot::{HOT_BATCHES, HOT_NS, HOT_ROWS, HotBatch, HotTail};
pub use meters::{FUTURE_NS, Meters, TailFigures};
pub use trouble::TailError;
use trouble::{back_off, within};
pub use writer::{IndexFailure, IndexWriter};

/// Rows of a slice when not much is left to read.
pub const SLICE_ROWS: u64 = 1_000_000;
/// Rows of a slice at most. Every slice of a large part reads that part's block numbers, so large backlogs are cut into
/// fewer slices.
pub const SLICE_ROWS_MAX: u64 = 4_000_000;
/// So many slices a backlog is cut into before they grow. In a merged part every slice goes through the block numbers of
/// all rows: with 32 slices of 40 million rows that took the store twice the time of everything else.
const SLICES: u64 = 8;

const POLL_EVERY: Duration = Duration::from_millis(500);
/// For a question about the table, and for one about its rows.
const ASK_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_mins(10);

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
    store: Store,
    index: W,
    hot: Arc<HotTail>,
    meters: Arc<Meters>,
    now_ns: Box<dyn Fn() -> i64 + Send>,
    /// Of all that was read: what the index has and what is in the hot tail.
    cursor: Cursor,
    /// Merges to wait for before the first row of a table is read.
    merges: BTreeSet<String>,
    /// By partition: rows that parts count and reads do not show, because a lightweight DELETE has masked them.
    masked: BTreeMap<String, u64>,
}

impl<W> std::fmt::Debug for Tail<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("store", &self.store)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl<W: IndexWriter> Tail<W> {
    /// A tail that goes on where the index ends. `now_ns` tells the time, nanoseconds since 1970 UTC.
    pub fn new(store: Store, index: W, now_ns: impl Fn() -> i64 + Send + 'static) -> Self {
        Self {
            store,
            cursor: index.cursor(),
            index,
            hot: Arc::default(),
            meters: Arc::default(),
            now_ns: Box::new(now_ns),
            merges: BTreeSet::new(),
            masked: BTreeMap::new(),
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
        self.look_at_table(&mut polled).await?;
        polled.awaited_merges = self.merges.len();
        if !self.merges.is_empty() {
            return Ok(polled);
        }
        let heads = within(ASK_WITHIN, self.store.tail_heads()).await?;
        self.forget_what_changed(&heads, &mut polled)?;
        self.measure(&heads);
        for head in &heads {
            for slice in self.plan(head).await? {
                polled.rows += self.read(slice, head).await?;
                self.measure(&heads);
            }
            self.check(head, &mut polled).await?;
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
            .append(&batches, &self.cursor)
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

    /// Is it the table that the cursor speaks of, and can it be tailed?
    async fn look_at_table(&mut self, polled: &mut Polled) -> Result<(), TailError> {
        let table = within(ASK_WITHIN, self.store.tail_table()).await?;
        let table = table.ok_or(TailError::NoTable)?;
        if table.engine != "MergeTree" {
            return Err(TailError::Engine(table.engine));
        }
        if !table.keeps_places {
            return Err(TailError::NoPlaces);
        }
        if self.cursor.table == table.uuid {
            self.merges.retain(|part| table.merging.contains(part));
            return Ok(());
        }
        let partitions: Vec<String> = self.cursor.partitions.keys().cloned().collect();
        for partition in partitions {
            self.forget(&partition, "the table was created anew", polled)?;
        }
        // A merge that began before the migration drops the places of the rows it joins.
        self.merges = table.merging.into_iter().collect();
        self.cursor.table = table.uuid;
        Ok(())
    }

    /// Partitions whose rows are not those that were read.
    fn forget_what_changed(
        &mut self,
        heads: &[PartitionHead],
        polled: &mut Polled,
    ) -> Result<(), TailError> {
        let heads: BTreeMap<&str, &PartitionHead> = heads
            .iter()
            .map(|head| (head.partition.as_str(), head))
            .collect();
        let changed: Vec<(String, &str)> = self
            .cursor
            .partitions
            .iter()
            .filter_map(|(partition, position)| {
                let why = why_changed(position, heads.get(partition.as_str()).copied())?;
                Some((partition.clone(), why))
            })
            .collect();
        for (partition, why) in changed {
            self.forget(&partition, why, polled)?;
        }
        Ok(())
    }

    /// The slices of a partition that have not been read, in reading order.
    async fn plan(&self, head: &PartitionHead) -> Result<Vec<Slice>, TailError> {
        let partition = head.partition.as_str();
        let position = self.cursor.position(partition);
        let mut planned = Vec::new();
        if let Some(ahead) = position.ahead {
            let days = self.store.tail_days(
                partition,
                position.block + 1,
                ahead.block,
                ahead.day.saturating_add(1),
                SLICE_ROWS,
            );
            planned = within(READ_WITHIN, days).await?;
        }
        let left = head.rows.saturating_sub(position.rows);
        let first = position.reach() + 1;
        let mut slices: Vec<Slice> = planned.into_iter().map(|planned| planned.slice).collect();
        if first > head.block {
            return Ok(slices);
        }
        if left <= SLICE_ROWS {
            slices.push(Slice::of(partition, first, head.block));
            return Ok(slices);
        }
        let rows = (left / SLICES).clamp(SLICE_ROWS, SLICE_ROWS_MAX);
        let cut = self.store.tail_slices(partition, first, head.block, rows);
        let cut = within(READ_WITHIN, cut).await?.into_iter();
        slices.extend(cut.map(|planned| planned.slice));
        Ok(slices)
    }

    async fn read(&mut self, slice: Slice, head: &PartitionHead) -> Result<u64, TailError> {
        let mut events = EventBatch::default();
        let mut future = 0;
        let horizon = (self.now_ns)().saturating_add(FUTURE_NS);
        let read = within(
            READ_WITHIN,
            self.store.tail_rows(&slice, &mut |row| {
                future += u64::from(row.at_ns > horizon);
                events.push(row);
            }),
        )
        .await?;
        // No await below: a dropped poll has taken note of the whole slice or of nothing.
        self.meters.read(&read, future);
        // What is read in the middle of a mutation is read again when that has ended.
        let mutation = if head.mutating { 0 } else { head.mutation };
        self.cursor.advance(&slice, read.rows, mutation);
        self.hot.push(HotBatch {
            slice,
            events,
            read_at_ns: (self.now_ns)(),
        });
        self.hand_over_if_due()?;
        Ok(read.rows)
    }

    /// Are the rows read as many as the store has in these blocks?
    async fn check(&mut self, head: &PartitionHead, polled: &mut Polled) -> Result<(), TailError> {
        let read = self.cursor.position(&head.partition).rows;
        let masked = self.masked.get(&head.partition).copied().unwrap_or(0);
        let unread = head.rows.checked_sub(read);
        if unread == Some(masked) || head.mutating {
            return Ok(());
        }
        let all = Slice::of(&head.partition, 0, head.block);
        let count = within(READ_WITHIN, self.store.tail_count(&all)).await?;
        match unread {
            Some(unread) if count == read => {
                self.masked.insert(head.partition.clone(), unread);
                Ok(())
            }
            Some(_) | None => {
                tracing::warn!(partition = %head.partition, read, count, "the store changed behind the cursor");
                self.forget(&head.partition, "rows were added or removed", polled)
            }
        }
    }

    fn forget(&mut self, partition: &str, why: &str, polled: &mut Polled) -> Result<(), TailError> {
        tracing::warn!(partition, why, "reading a partition anew");
        self.index.forget(partition).map_err(TailError::Index)?;
        self.hot.forget(partition);
        self.cursor.partitions.remove(partition);
        self.masked.remove(partition);
        self.meters.rebuilt();
        polled.rebuilt.push(partition.to_owned());
        Ok(())
    }

    fn measure(&self, heads: &[PartitionHead]) {
        let lag = heads.iter().map(|head| {
            let known = self.masked.get(&head.partition).copied().unwrap_or(0)
                + self.cursor.position(&head.partition).rows;
            head.rows.saturating_sub(known)
        });
        self.meters.lag(lag.sum(), (self.now_ns)());
    }
}

/// Why the rows of a partition cannot be those that were read; none when they may be.
fn why_changed(position: &Position, head: Option<&PartitionHead>) -> Option<&'static str> {
    let Some(head) = head else {
        return Some("it is gone");
    };
    if head.block < position.reach() {
        // The store gives numbers again when the newest rows were dropped and it was restarted.
        return Some("its newest rows are gone");
    }
    (head.mutation != position.mutation && !head.mutating).then_some("a mutation has changed it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_read_change_by_mutations_that_have_ended_and_by_going() {
        let head = |block, mutation, mutating| PartitionHead {
            partition: "p".to_owned(),
            block,
            rows: 9,
            mutation,
            mutating,
        };
        let position = Position {
            block: 5,
            rows: 9,
            mutation: 3,
            ahead: Some(Ahead { block: 8, day: 1 }),
        };
        let why = |head: &PartitionHead| why_changed(&position, Some(head));
        assert_eq!(why(&head(8, 3, false)), None);
        assert_eq!(why(&head(8, 9, true)), None);
        assert_eq!(why(&head(8, 9, false)), Some("a mutation has changed it"));
        assert_eq!(why(&head(7, 3, false)), Some("its newest rows are gone"));
        assert_eq!(why_changed(&position, None), Some("it is gone"));
    }
}

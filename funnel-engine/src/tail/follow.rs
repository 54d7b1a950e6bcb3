//! How far the table of events has been read, what is to be read next, and whether what was read is still there.
//!
//! Owns the cursor and every question about the table itself; shared by the tail of the index and the feed of live
//! funnels. Refuses: reading rows, and deciding what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use event_store::{PartitionHead, Slice, Store, TailTable};

use super::{
    cursor::{Cursor, Position},
    trouble::{TailError, within},
};

/// So many slices a backlog is cut into before they grow. In a merged part every slice goes through the block numbers of
/// all rows: with 32 slices of 40 million rows that took the store twice the time of everything else.
const SLICES: u64 = 8;
/// For a question about the table.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// For a question about its rows.
pub(crate) const READ_WITHIN: Duration = Duration::from_mins(10);

/// Rows of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceRows {
    /// When not much is left to read.
    pub(crate) least: u64,
    /// When much is: every slice of a large part reads that part's block numbers.
    pub(crate) most: u64,
}

/// A partition whose rows are not those that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) partition: String,
    pub(crate) why: &'static str,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Follow {
    store: Store,
    cursor: Cursor,
    slice_rows: SliceRows,
    /// Merges to wait for before the first row of a table is read.
    merges: BTreeSet<String>,
    /// By partition: rows that parts count and reads do not show, because a lightweight DELETE has masked them.
    masked: BTreeMap<String, u64>,
}

impl Follow {
    pub(crate) const fn new(store: Store, cursor: Cursor, slice_rows: SliceRows) -> Self {
        Self {
            store,
            cursor,
            slice_rows,
            merges: BTreeSet::new(),
            masked: BTreeMap::new(),
        }
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The table, if it can be tailed.
    pub(crate) async fn table(&self) -> Result<TailTable, TailError> {
        let table = within(ASK_WITHIN, self.store.tail_table()).await?;
        let table = table.ok_or(TailError::NoTable)?;
        if table.engine != "MergeTree" {
            return Err(TailError::Engine(table.engine));
        }
        if !table.keeps_places {
            return Err(TailError::NoPlaces);
        }
        Ok(table)
    }

    /// What was read of another table than this.
    pub(crate) fn of_another(&self, table: &TailTable) -> Vec<Stale> {
        let is_same = self.cursor.table == table.uuid;
        let partitions = self.cursor.partitions.keys().filter(|_| !is_same);
        let stale = partitions.map(|partition| Stale {
            partition: partition.clone(),
            why: "the table was created anew",
        });
        stale.collect()
    }

    /// Goes on with this table, of which nothing or some has been read. Tells how many merges have to end first: one
    /// that began before the migration drops the places of the rows it joins.
    pub(crate) fn accept(&mut self, table: TailTable) -> usize {
        if self.cursor.table == table.uuid {
            self.merges.retain(|part| table.merging.contains(part));
        } else {
            self.merges = table.merging.into_iter().collect();
            self.cursor.table = table.uuid;
        }
        self.merges.len()
    }

    /// Up to where each partition has been filled.
    pub(crate) async fn heads(&self) -> Result<Vec<PartitionHead>, TailError> {
        within(ASK_WITHIN, self.store.tail_heads()).await
    }

    /// Partitions whose rows cannot be those that were read.
    pub(crate) fn stale(&self, heads: &[PartitionHead]) -> Vec<Stale> {
        let heads: BTreeMap<&str, &PartitionHead> = heads
            .iter()
            .map(|head| (head.partition.as_str(), head))
            .collect();
        let read = self.cursor.partitions.iter();
        let stale = read.filter_map(|(partition, position)| {
            Some(Stale {
                why: why_changed(position, heads.get(partition.as_str()).copied())?,
                partition: partition.clone(),
            })
        });
        stale.collect()
    }

    /// The slices of a partition that have not been read, in reading order.
    pub(crate) async fn plan(&self, head: &PartitionHead) -> Result<Vec<Slice>, TailError> {
        let partition = head.partition.as_str();
        let position = self.cursor.position(partition);
        let SliceRows { least, most } = self.slice_rows;
        let mut planned = Vec::new();
        if let Some(ahead) = position.ahead {
            let days = self.store.tail_days(
                partition,
                position.block + 1,
                ahead.block,
                ahead.day.saturating_add(1),
                least,
            );
            planned = within(READ_WITHIN, days).await?;
        }
        let left = head.rows.saturating_sub(position.rows);
        let first = position.reach() + 1;
        let mut slices: Vec<Slice> = planned.into_iter().map(|planned| planned.slice).collect();
        if first > head.block {
            return Ok(slices);
        }
        if left <= least {
            slices.push(Slice::of(partition, first, head.block));
            return Ok(slices);
        }
        let rows = (left / SLICES).clamp(least, most);
        let cut = self.store.tail_slices(partition, first, head.block, rows);
        let cut = within(READ_WITHIN, cut).await?.into_iter();
        slices.extend(cut.map(|planned| planned.slice));
        Ok(slices)
    }

    /// Takes note that a slice was read, which had so many rows.
    pub(crate) fn advance(&mut self, slice: &Slice, rows: u64, head: &PartitionHead) {
        // What is read in the middle of a mutation is read again when that has ended.
        let mutation = if head.mutating { 0 } else { head.mutation };
        self.cursor.advance(slice, rows, mutation);
    }

    /// Are the rows read as many as the store has in these blocks? If not, the partition is stale.
    pub(crate) async fn check(&mut self, head: &PartitionHead) -> Result<Option<Stale>, TailError> {
        let read = self.cursor.position(&head.partition).rows;
        let masked = self.masked.get(&head.partition).copied().unwrap_or(0);
        let unread = head.rows.checked_sub(read);
        if unread == Some(masked) || head.mutating {
            return Ok(None);
        }
        let all = Slice::of(&head.partition, 0, head.block);
        let count = within(READ_WITHIN, self.store.tail_count(&all)).await?;
        match unread {
            Some(unread) if count == read => {
                self.masked.insert(head.partition.clone(), unread);
                Ok(None)
            }
            Some(_) | None => {
                tracing::warn!(partition = %head.partition, read, count, "the store changed behind the cursor");
                Ok(Some(Stale {
                    partition: head.partition.clone(),
                    why: "rows were added or removed",
                }))
            }
        }
    }

    /// The partition will be read anew.
    pub(crate) fn forget(&mut self, partition: &str) {
        self.cursor.partitions.remove(partition);
        self.masked.remove(partition);
    }

    /// Rows in the store that have not been read.
    pub(crate) fn unread(&self, heads: &[PartitionHead]) -> u64 {
        let unread = heads.iter().map(|head| {
            let known = self.masked.get(&head.partition).copied().unwrap_or(0)
                + self.cursor.position(&head.partition).rows;
            head.rows.saturating_sub(known)
        });
        unread.sum()
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
    use crate::tail::Ahead;

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

//! How far the store's events have been read: per partition, in blocks.

use std::collections::BTreeMap;

use event_store::Slice;
use serde::{Deserialize, Serialize};

/// How far a table has been read. An index keeps it in the same file as the list of its segments, so that both change
/// in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which table; another one when it was dropped and created again. Empty before the first row.
    pub table: String,
    /// By partition id.
    pub partitions: BTreeMap<String, Position>,
}

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Every row of the blocks up to here.
    pub block: u64,
    /// A part of the blocks behind.
    pub ahead: Option<Ahead>,
    /// Rows read so far, refused ones included. It must be what the store counts in these blocks.
    pub rows: u64,
    /// Number of the mutation that had changed these rows before they were read; 0 for none.
    pub mutation: u64,
}

/// Blocks behind [`Position::block`], of which the first days have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Last of the blocks.
    pub block: u64,
    /// Last UTC day that has been read, counted from 1970-01-01.
    pub day: i32,
}

impl Position {
    /// The last block of which any row has been read.
    pub fn reach(&self) -> u64 {
        self.ahead.map_or(self.block, |ahead| ahead.block)
    }
}

impl Cursor {
    /// How far a partition has been read.
    pub fn position(&self, partition: &str) -> Position {
        self.partitions.get(partition).copied().unwrap_or_default()
    }

    /// Whether the rows of a slice have been read. Slices are read whole, so all of them have or none.
    pub fn covers(&self, slice: &Slice) -> bool {
        let position = self.position(&slice.partition);
        let ahead = position.ahead;
        slice.last_block <= position.block
            || ahead
                .is_some_and(|ahead| slice.last_block <= ahead.block && slice.last_day <= ahead.day)
    }

    /// All that has been read.
    pub(crate) fn slices(&self) -> Vec<Slice> {
        let mut slices = Vec::with_capacity(self.partitions.len());
        for (partition, position) in &self.partitions {
            slices.push(Slice::of(partition, 0, position.block));
            slices.extend(position.ahead.map(|ahead| Slice {
                last_day: ahead.day,
                ..Slice::of(partition, position.block + 1, ahead.block)
            }));
        }
        slices
    }

    /// Takes note that a slice was read, which had so many rows. The mutation counts for the first one only: rows that
    /// were read before a mutation have to be read again.
    pub(super) fn advance(&mut self, slice: &Slice, rows: u64, mutation: u64) {
        let entry = self.partitions.entry(slice.partition.clone());
        let position = entry.or_insert_with(|| Position {
            mutation,
            ..Position::default()
        });
        position.rows += rows;
        if slice.last_day == i32::MAX {
            position.block = slice.last_block;
            position.ahead = None;
        } else {
            position.ahead = Some(Ahead {
                block: slice.last_block,
                day: slice.last_day,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_block_counts_as_read_day_by_day() {
        let mut cursor = Cursor::default();
        let slice = |first_day, last_day| Slice {
            first_day,
            last_day,
            ..Slice::of("202611", 4, 9)
        };
        cursor.advance(&Slice::of("202611", 1, 3), 10, 7);
        cursor.advance(&slice(i32::MIN, 20_000), 5, 8);
        assert!(cursor.covers(&Slice::of("202611", 2, 3)));
        assert!(cursor.covers(&slice(i32::MIN, 20_000)));
        assert!(!cursor.covers(&slice(20_001, 20_002)));
        assert!(!cursor.covers(&Slice::of("202610", 2, 3)));
        let read = [Slice::of("202611", 0, 3), slice(i32::MIN, 20_000)];
        assert_eq!(cursor.slices(), read);
        cursor.advance(&slice(20_001, i32::MAX), 6, 0);
        let position = cursor.position("202611");
        assert_eq!(
            position,
            Position {
                block: 9,
                ahead: None,
                rows: 21,
                mutation: 7
            }
        );
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
    }
}

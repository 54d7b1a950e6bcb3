//! Slices of a partition: some blocks, on some days; and how what is new is cut into them.
//!
//! A slice is cut between blocks, because all rows of a block arrive at once. Only a block that is too large by itself
//! is cut again, between UTC days; one day of one block is never cut.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::store::{Store, StoreError};

/// Nanoseconds of a UTC day.
const DAY_NS: i64 = 86_400_000_000_000;

/// The rows of a partition in some blocks and on some UTC days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice {
    /// Id of the partition.
    pub partition: String,
    /// First block.
    pub first_block: u64,
    /// Last block, inclusive.
    pub last_block: u64,
    /// First UTC day, counted from 1970-01-01; `i32::MIN` is no bound.
    pub first_day: i32,
    /// Last UTC day, inclusive; `i32::MAX` is no bound.
    pub last_day: i32,
}

/// A slice and how many rows it had when it was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSlice {
    /// What to read.
    pub slice: Slice,
    /// Rows in it.
    pub rows: u64,
}

#[derive(Deserialize, clickhouse::Row)]
struct BlockRows {
    block: u64,
    total: u64,
}

#[derive(Deserialize, clickhouse::Row)]
struct DayRows {
    day: i32,
    total: u64,
}

impl Slice {
    /// Blocks of a partition, inclusive, on all days.
    pub fn of(partition: &str, first_block: u64, last_block: u64) -> Self {
        Self {
            partition: partition.to_owned(),
            first_block,
            last_block,
            first_day: i32::MIN,
            last_day: i32::MAX,
        }
    }

    /// The WHERE clause; binds the partition.
    ///
    /// The terms over `_part` spare whole parts: the engine evaluates them once per part of the query's own snapshot,
    /// so unlike a list of names they cannot miss what a merge has just renamed. `extract` stays cheap where the engine
    /// evaluates them per row after all: it works on the dictionary of `_part`.
    pub(super) fn condition(&self) -> String {
        let (first, last) = (self.first_block, self.last_block);
        let mut text = format!(
            "_partition_id = ? AND {LAST_OF_PART} >= {first} AND {FIRST_OF_PART} <= {last} \
             AND _block_number >= {first} AND _block_number <= {last}"
        );
        // Writing into a string cannot fail.
        if self.first_day > i32::MIN {
            let from = i64::from(self.first_day).saturating_mul(DAY_NS);
            write!(text, " AND timestamp >= fromUnixTimestamp64Nano({from})").unwrap_or_default();
        }
        if self.last_day < i32::MAX {
            let to = (i64::from(self.last_day) + 1).saturating_mul(DAY_NS);
            write!(text, " AND timestamp < fromUnixTimestamp64Nano({to})").unwrap_or_default();
        }
        text
    }
}

/// A part is called `PARTITION_FIRST_LAST_LEVEL` or `PARTITION_FIRST_LAST_LEVEL_MUTATION`.
pub(super) const FIRST_OF_PART: &str = "toUInt64OrZero(extract(_part, '_([0-9]+)_'))";
/// See [`FIRST_OF_PART`].
pub(super) const LAST_OF_PART: &str = "toUInt64OrZero(extract(_part, '_[0-9]+_([0-9]+)_'))";

impl Store {
    /// Cuts blocks `first..=last` of a partition into slices of about `rows` rows, in reading order. Together they are
    /// these blocks and nothing else. A slice has more rows where one block has more than twice as many on one day.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn tail_slices(
        &self,
        partition: &str,
        first: u64,
        last: u64,
        rows: u64,
    ) -> Result<Vec<PlannedSlice>, StoreError> {
        let cutting = async {
            let sql = format!(
                "SELECT _block_number AS block, count() AS total FROM events WHERE {} GROUP BY block ORDER BY block",
                Slice::of(partition, first, last).condition()
            );
            let query = self.database().query(&sql).bind(partition);
            let mut cutter = Cutter::new(first, rows);
            let mut blocks = query.fetch::<BlockRows>()?;
            while let Some(row) = blocks.next().await? {
                cutter.push(row.block, row.total);
            }
            Ok(cutter.finish(last))
        };
        let cuts = cutting.await.map_err(self.error("planning what to read"))?;
        let mut slices = Vec::with_capacity(cuts.len());
        for cut in cuts {
            if cut.rows > rows.saturating_mul(2) {
                slices.extend(
                    self.tail_days(partition, cut.first, cut.last, i32::MIN, rows)
                        .await?,
                );
            } else {
                let slice = Slice::of(partition, cut.first, cut.last);
                slices.push(PlannedSlice {
                    slice,
                    rows: cut.rows,
                });
            }
        }
        Ok(slices)
    }

    /// Cuts blocks `first..=last` of a partition between days, from a day on, as [`Self::tail_slices`] does a block that
    /// is too large.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn tail_days(
        &self,
        partition: &str,
        first: u64,
        last: u64,
        first_day: i32,
        rows: u64,
    ) -> Result<Vec<PlannedSlice>, StoreError> {
        let cutting = async {
            let slice = Slice {
                first_day,
                ..Slice::of(partition, first, last)
            };
            let sql = format!(
                "SELECT toInt32(intDiv(at - positiveModulo(at, {DAY_NS}), {DAY_NS})) AS day, count() AS total \
                 FROM (SELECT toUnixTimestamp64Nano(timestamp) AS at FROM events WHERE {}) GROUP BY day ORDER BY day",
                slice.condition()
            );
            let query = self.database().query(&sql).bind(partition);
            let mut cutter = Cutter::new(i64::from(first_day), rows);
            let mut days = query.fetch::<DayRows>()?;
            while let Some(row) = days.next().await? {
                cutter.push(i64::from(row.day), row.total);
            }
            let cuts = cutter.finish(i64::from(i32::MAX)).into_iter();
            let day = |day: i64| i32::try_from(day).unwrap_or(i32::MAX);
            Ok(cuts
                .map(|cut| PlannedSlice {
                    slice: Slice {
                        first_day: day(cut.first),
                        last_day: day(cut.last),
                        ..slice.clone()
                    },
                    rows: cut.rows,
                })
                .collect())
        };
        cutting.await.map_err(self.error("planning what to read"))
    }
}

/// A stretch of blocks or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut<T> {
    first: T,
    last: T,
    rows: u64,
}

/// Cuts a line into touching stretches of bounded weight.
struct Cutter<T> {
    rows_max: u64,
    cuts: Vec<Cut<T>>,
    /// Begins the stretch that is open.
    first: T,
    /// Its weight so far.
    rows: u64,
}

impl<T: Copy + From<u8> + std::ops::Sub<Output = T>> Cutter<T> {
    fn new(first: T, rows_max: u64) -> Self {
        Self {
            rows_max: rows_max.max(1),
            cuts: Vec::new(),
            first,
            rows: 0,
        }
    }

    /// The next point of the line that has a weight; points come in rising order.
    fn push(&mut self, at: T, rows: u64) {
        if self.rows > 0 && self.rows + rows > self.rows_max {
            self.close(at - T::from(1), at);
        }
        self.rows += rows;
    }

    fn close(&mut self, last: T, next: T) {
        self.cuts.push(Cut {
            first: self.first,
            last,
            rows: self.rows,
        });
        self.first = next;
        self.rows = 0;
    }

    fn finish(mut self, last: T) -> Vec<Cut<T>> {
        self.close(last, last);
        self.cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(weights: &[(u64, u64)], rows_max: u64) -> Vec<(u64, u64, u64)> {
        let mut cutter = Cutter::new(1_u64, rows_max);
        for (at, rows) in weights {
            cutter.push(*at, *rows);
        }
        let cuts = cutter.finish(100).into_iter();
        cuts.map(|cut| (cut.first, cut.last, cut.rows)).collect()
    }

    #[test]
    fn stretches_touch_and_weigh_no_more_than_asked_unless_one_point_does() {
        assert_eq!(cuts(&[], 10), [(1, 100, 0)]);
        assert_eq!(
            cuts(&[(3, 6), (4, 4), (9, 1), (50, 30), (51, 2)], 10),
            [(1, 8, 10), (9, 49, 1), (50, 50, 30), (51, 100, 2)]
        );
    }

    #[test]
    fn a_condition_bounds_days_only_where_they_are_bounded() {
        let all = Slice::of("202611", 3, 7);
        assert!(!all.condition().contains("timestamp"));
        let days = Slice {
            first_day: -1,
            last_day: 0,
            ..all
        };
        let condition = days.condition();
        assert!(condition.contains("fromUnixTimestamp64Nano(-86400000000000)"));
        assert!(condition.ends_with("timestamp < fromUnixTimestamp64Nano(86400000000000)"));
    }
}

//! Reading `events` in the order in which its rows became visible, for whoever builds an index of them.
//!
//! Owns: what a row's place is (partition and block), up to where the table has been filled, cutting what is new into
//! slices of bounded size, streaming a slice, reading the properties of the same rows again (`properties.rs`), and
//! whole events (`events.rs`).
//! Refuses: remembering how far anybody has read. It reads all tenants, so it is for the builder of the index alone;
//! whoever answers a question reads within a `Scope`.
//!
//! Rows that no index can hold are counted and never passed on: text that is not UTF-8 or longer than
//! [`TEXT_BYTES_MAX`], and times before 1970, which no question to the store sees either. An empty user means "none".
//!
//! docs/adr/0016-tailing-the-store.md says why places can be trusted and where they cannot.

mod events;
mod properties;
mod slices;

use clickhouse::error::Error;
pub use events::{EVENT_PROPERTIES_MAX, PastQuestion, TailEvent};
pub use properties::{PROPERTIES_MAX, PropertyQuestion, PropertyRow, SLICES_MAX};
use serde::Deserialize;
pub use slices::{PlannedSlice, Slice};

use crate::store::{DATABASE, Store, StoreError};

/// Longest tenant, user or event name that is passed on, bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// What the store says about the table itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, clickhouse::Row)]
pub struct TailTable {
    /// Another one after the table was dropped and created again.
    pub uuid: String,
    /// `MergeTree`, unless somebody made the table otherwise.
    pub engine: String,
    /// Whether rows keep their places through merges (migration `0003_tail`).
    #[serde(rename = "keeps")]
    pub keeps_places: bool,
    /// Parts that merges are about to write which began before the table's last ALTER: they may have begun before rows
    /// kept their places, and would lose them.
    pub merging: Vec<String>,
}

/// Up to where a partition has been filled: the rows of its blocks up to here are all visible, and no row will ever
/// become visible in them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, clickhouse::Row)]
pub struct PartitionHead {
    /// Its id, such as `202611`.
    #[serde(rename = "id")]
    pub partition: String,
    /// Last block.
    pub block: u64,
    /// Rows in it, those included that a lightweight DELETE has masked.
    pub rows: u64,
    /// Number of the last mutation (ALTER ... DELETE or UPDATE, DELETE) that changed any of its rows; 0 for none.
    pub mutation: u64,
    /// Whether that mutation still has rows before it.
    pub mutating: bool,
}

/// One event as the index needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TailRow<'a> {
    /// Whose shop; empty when unknown.
    pub tenant: &'a str,
    /// Who; empty when unknown.
    pub user: &'a str,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub event: &'a str,
}

/// What became of the rows that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailRead {
    /// Rows read: those passed on and those refused.
    pub rows: u64,
    /// Refused: tenant, user or event is not UTF-8.
    pub not_text: u64,
    /// Refused: tenant, user or event is longer than [`TEXT_BYTES_MAX`].
    pub too_long: u64,
    /// Refused: before 1970.
    pub before_1970: u64,
}

impl TailRead {
    /// Rows that were passed on.
    pub const fn passed(&self) -> u64 {
        self.rows - self.not_text - self.too_long - self.before_1970
    }

    /// Counts a row, and gives it back if it is to be passed on.
    fn sift<'a>(
        &mut self,
        tenant: &'a [u8],
        user: &'a [u8],
        at_ns: i64,
        event: &'a [u8],
    ) -> Option<TailRow<'a>> {
        self.rows += 1;
        if at_ns < 0 {
            self.before_1970 += 1;
            return None;
        }
        if [tenant, user, event]
            .iter()
            .any(|text| text.len() > TEXT_BYTES_MAX)
        {
            self.too_long += 1;
            return None;
        }
        let (Ok(tenant), Ok(user), Ok(event)) = (
            str::from_utf8(tenant),
            str::from_utf8(user),
            str::from_utf8(event),
        ) else {
            self.not_text += 1;
            return None;
        };
        Some(TailRow {
            tenant,
            user,
            at_ns,
            event,
        })
    }
}

/// A row as it comes over the wire. Bytes, because a `String` of ClickHouse need not be text.
#[derive(Deserialize, clickhouse::Row)]
struct RawRow<'a> {
    tenant_id: &'a [u8],
    user_id: &'a [u8],
    timestamp: i64,
    event: &'a [u8],
}

impl Store {
    /// What the store says about `events`; none when there is no such table.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn tail_table(&self) -> Result<Option<TailTable>, StoreError> {
        self.database()
            .query(
                "SELECT toString(uuid) AS uuid, engine AS engine, \
                    engine_full LIKE '%enable_block_number_column = 1%' \
                        AND engine_full LIKE '%enable_block_offset_column = 1%' AS keeps, \
                    arrayMap(merge -> merge.1, arrayFilter( \
                        merge -> merge.2 + 2 > now() - metadata_modification_time, \
                        (SELECT groupArray((result_part_name, elapsed)) FROM system.merges \
                         WHERE database = ? AND table = 'events' AND NOT is_mutation))) AS merging \
                 FROM system.tables WHERE database = ? AND name = 'events'",
            )
            .bind(DATABASE)
            .bind(DATABASE)
            .fetch_optional()
            .await
            .map_err(self.error("looking at the table of events"))
    }

    /// Up to where each partition has been filled, by partition.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn tail_heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        // One look at the parts is a snapshot: what it counts is what reads up to these blocks will find.
        self.database()
            .query(
                "SELECT partition_id AS id, toUInt64(max(max_block_number)) AS block, sum(parts.rows) AS rows, \
                    max(toUInt64OrZero(extract(name, '^[^_]+_[0-9]+_[0-9]+_[0-9]+_([0-9]+)$'))) AS mutation, \
                    min(data_version) < mutation AS mutating \
                 FROM system.parts AS parts \
                 WHERE database = ? AND table = 'events' AND active AND NOT startsWith(partition_id, 'patch-') \
                 GROUP BY id ORDER BY id",
            )
            .bind(DATABASE)
            .fetch_all()
            .await
            .map_err(self.error("looking up the newest events"))
    }

    /// Passes the events of a slice on, in no order, without holding more than a piece of the answer.
    ///
    /// # Errors
    /// When the store is away or refuses; some rows may have been passed on by then.
    pub async fn tail_rows(
        &self,
        slice: &Slice,
        sink: &mut (dyn FnMut(TailRow<'_>) + Send),
    ) -> Result<TailRead, StoreError> {
        let reading = async {
            let mut read = TailRead::default();
            let sql = format!("SELECT ?fields FROM events WHERE {}", slice.condition());
            let mut rows = self
                .database()
                .query(&sql)
                .bind(slice.partition.as_str())
                .fetch::<RawRow<'_>>()?;
            while let Some(row) = rows.next().await? {
                let row = read.sift(row.tenant_id, row.user_id, row.timestamp, row.event);
                row.into_iter().for_each(&mut *sink);
            }
            Ok(read)
        };
        reading.await.map_err(self.error("reading new events"))
    }

    /// Counts the rows of a slice.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn tail_count(&self, slice: &Slice) -> Result<u64, StoreError> {
        let sql = format!("SELECT count() FROM events WHERE {}", slice.condition());
        self.database()
            .query(&sql)
            .bind(slice.partition.as_str())
            .fetch_one()
            .await
            .map_err(self.error("counting events"))
    }
}

/// An error of ours in the store's clothes: the caller broke a stated bound.
fn misuse(message: String) -> Error {
    Error::Custom(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_refused_for_one_reason_each_and_counted() {
        let mut read = TailRead::default();
        let long = vec![b'u'; TEXT_BYTES_MAX + 1];
        assert_eq!(read.sift(b"t", b"u", -1, &long), None);
        assert_eq!(read.sift(b"t", &long, 0, b"\xff"), None);
        assert_eq!(read.sift(b"t", b"u", 0, b"\xff"), None);
        assert_eq!(
            read.sift(b"", &long[1..], 0, b"").map(|row| row.at_ns),
            Some(0)
        );
        assert_eq!(
            (read.rows, read.before_1970, read.too_long, read.not_text),
            (4, 1, 1, 1)
        );
        assert_eq!(read.passed(), 1);
    }
}

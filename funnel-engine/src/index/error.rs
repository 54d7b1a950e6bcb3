//! What can go wrong with the index, told apart by what the caller does next.

use std::{io, path::PathBuf};

use super::properties::PropertiesError;

/// A file of the index that is not what it should be; the bytes are never used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Written by another version of the format.
    #[error("format version {found}; this program reads {expected}")]
    Version {
        /// What the file says.
        found: u32,
        /// What this program reads and writes.
        expected: u32,
    },
    /// A checksum or a length does not fit.
    #[error("corrupt: {what}")]
    Corrupt {
        /// Which part does not fit.
        what: String,
    },
    /// The rows do not fit into one segment.
    #[error("too large for one segment: {what}")]
    Limit {
        /// Which bound, with its value.
        what: String,
    },
    /// The file cannot be read.
    #[error("cannot read: {what}")]
    Unreadable {
        /// What the system says.
        what: String,
    },
}

impl SegmentError {
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(crate) fn limit(what: impl Into<String>) -> Self {
        Self::Limit { what: what.into() }
    }
}

/// Why the index cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process writes it.
    #[error("another process uses the index in {}; stop it, or choose another folder", dir.display())]
    Locked {
        /// The folder of the index.
        dir: PathBuf,
    },
    /// Nothing in it can be trusted: call `Index::wipe`, open it again and read the source from its beginning.
    #[error("the index must be rebuilt: {reason}")]
    Rebuild {
        /// Which file, and what is wrong with it.
        reason: String,
    },
    /// The disk refused. The state is the one before the call, which may be repeated.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A change was under way when the disk refused: whether it is stored shows when the index is opened again.
    #[error("the index must be opened again: {reason}")]
    Reopen {
        /// What failed.
        reason: String,
    },
    /// A batch does not follow what was read of its partition; nothing was stored.
    #[error(
        "partition {partition}: blocks {first} to {last} came after block {reached}; \
         read on from the cursor of the index, or forget the partition"
    )]
    OutOfOrder {
        /// The partition of the store.
        partition: String,
        /// First block of the batch.
        first: u64,
        /// Last block of the batch.
        last: u64,
        /// The block that the index has reached.
        reached: u64,
    },
    /// One of the bounds of the whole index; nothing was stored.
    #[error("the index is full: {what}")]
    Limit {
        /// Which bound, with its value.
        what: String,
    },
    /// The columns are not those of the segment; nothing was stored.
    #[error("the columns cannot be put beside the segment")]
    Columns(#[from] PropertiesError),
    /// The tenant does not fit into the index: ask the store itself.
    #[error("tenant {tenant:?} is not in the index: {reason}; use the clickhouse backend for it")]
    Refused {
        /// Whose events.
        tenant: String,
        /// Which bound the tenant passed.
        reason: String,
    },
}

impl IndexError {
    pub(super) fn rebuild(file: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Rebuild {
            reason: format!("{file}: {error}"),
        }
    }
}

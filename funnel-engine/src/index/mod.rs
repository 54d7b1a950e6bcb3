//! The columnar index: what a funnel needs of the store's events (who, when, what), in files that are scanned at the
//! speed of memory.
//!
//! Owns: the files of one folder and their safety. They are derived data: whatever cannot be trusted is refused with
//! [`IndexError::Rebuild`], never used, and the caller wipes the index and reads the source again. Refuses: knowing the
//! store, clocks, sockets, and what a funnel is.
//!
//! - `LOCK`: locked by the one writer.
//! - `MANIFEST`: what exists; replaced as a whole. Files that it does not name are removed when the index is opened.
//! - `N.segment`: events of one tenant and one partition over a span of days; written once.
//! - `N.pG`: property columns of segment `N`; written once.
//! - `N.users`, `N.names`: dictionaries of one tenant, only appended to; the manifest says how far they count.
//!
//! A call that changes the index writes new files and the tails of dictionaries, syncs them, and then replaces the
//! manifest: a process that ends anywhere leaves the old state or the new one.

mod append;
mod bits;
mod block;
mod changes;
mod compact;
mod compaction;
mod dictionaries;
mod directory;
mod error;
mod files;
mod format;
mod frames;
mod hashes;
mod manifest;
mod map;
mod merge;
mod meta;
mod names;
mod open;
mod properties;
mod property_writer;
mod runs;
mod segment;
mod snapshot;
mod stats;
mod users;
mod verify;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    sync::{Arc, RwLock},
};

pub use append::{Batch, Row};
pub use block::{Block, BlockScratch, Codes, Times};
pub use changes::Appended;
pub use compact::Thrift;
pub use compaction::Compacted;
pub use directory::NameSet;
pub use error::{IndexError, SegmentError};
pub use meta::{DAY_NS, SegmentMeta, Source, day_of};
pub use names::{NAMES_MAX, Names};
pub use properties::{PROPERTIES_MAX, PropertiesError, PropertyColumn, PropertyFile, VALUES_MAX};
pub use property_writer::PropertyBuilder;
pub use runs::{Run, Runs};
pub use segment::{Segment, SegmentSizes};
pub use snapshot::{IndexReader, Snapshot, Tenant};
pub use stats::IndexStats;
pub use users::{Users, UsersView};
pub use verify::Verified;
pub use writer::{EventRow, build};

use dictionaries::Dictionaries;
use files::Files;
use manifest::Manifest;
use snapshot::Published;

/// The index, as its one writer has it. Whoever reads takes an [`IndexReader`].
pub struct Index {
    files: Files,
    /// Held, not used: the lock goes with it.
    _lock: File,
    manifest: Manifest,
    dictionaries: BTreeMap<String, Dictionaries>,
    published: Arc<RwLock<Published>>,
    /// Why the state on disk is not known any more.
    broken: Option<String>,
    /// Files that could not be removed; the next opening removes them.
    left_behind: u64,
}

impl Index {
    /// Opens the index in a folder, which is made if need be. Dictionaries are read whole, segments in part.
    ///
    /// # Errors
    /// Another process has it, it must be rebuilt, or the folder cannot be used.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        Self::open_files(Files::new(dir, None))
    }

    /// Removes the files of an index; other files in the folder stay.
    ///
    /// # Errors
    /// Another process has it, or a file cannot be removed.
    pub fn wipe(dir: &Path) -> Result<(), IndexError> {
        let files = Files::new(dir, None);
        let _lock = files.lock()?;
        // The manifest goes first: without it the rest is nothing.
        files.remove(files::MANIFEST)?;
        for name in files.list()? {
            files.remove(&name)?;
        }
        files.sync_dir()
    }

    /// How far the source has been read: what the last `append` or `forget` was given, empty at first.
    pub fn cursor(&self) -> &[u8] {
        &self.manifest.cursor
    }

    /// A handle to take snapshots with, from any thread, while the index changes.
    pub fn reader(&self) -> IndexReader {
        IndexReader {
            published: Arc::clone(&self.published),
        }
    }

    /// One tenant's events, or those of all tenants.
    ///
    /// # Errors
    /// See [`IndexReader::snapshot`].
    pub fn snapshot(&self, tenant: Option<&str>) -> Result<Snapshot, IndexError> {
        self.reader().snapshot(tenant)
    }
}

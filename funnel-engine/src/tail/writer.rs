//! What the tail asks of an index.

use std::sync::Arc;

use super::{cursor::Cursor, hot::HotBatch};

/// What an index says when it cannot take events.
pub type IndexFailure = Box<dyn std::error::Error + Send + Sync>;

/// The index that events are written into.
///
/// Its methods block; run the tail where that hurts nobody.
pub trait IndexWriter: Send {
    /// How far the events that it holds go.
    fn cursor(&self) -> Cursor;

    /// Takes over batches, and the cursor that covers them, in one step: after a crash it has both or neither.
    ///
    /// # Errors
    /// When it cannot; it is asked again with these batches and perhaps more.
    fn append(&mut self, batches: &[Arc<HotBatch>], cursor: &Cursor) -> Result<(), IndexFailure>;

    /// Drops all events of a partition and its entry in the cursor, in one step. They will come again.
    ///
    /// # Errors
    /// When it cannot; it is asked again.
    fn forget(&mut self, partition: &str) -> Result<(), IndexFailure>;
}

//! The index of a store: filled by the tail (`writer`), asked by the columnar scan (`view`), with property columns that
//! are made when a question first needs them (`columns`), and shared between the tail and many questions (`at_hand`).
//!
//! It holds named events. A funnel with an `http` step looks at every exchange, and is refused.

mod at_hand;
mod columns;
mod hot;
mod view;
mod writer;

pub use at_hand::IndexAtHand;
pub use view::IndexView;
pub use writer::{SharedIndex, StoreIndex, run_on_index};

use crate::{
    columnar::ColumnarError,
    definition::DefinitionError,
    index::{IndexError, PropertiesError, SegmentError},
};
use event_store::StoreError;

/// A question that the index cannot answer, or columns that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IndexedError {
    /// The definition asks for what the index does not hold.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The index refuses.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A segment cannot be read.
    #[error(transparent)]
    Columnar(#[from] ColumnarError),
    /// What has just arrived does not fit into a segment.
    #[error("the events that have just arrived cannot be packed: {0}")]
    Hot(#[from] SegmentError),
    /// The store is away or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A column cannot be made, or the store's rows are not those of the index any more.
    #[error("the columns of {property} cannot be made: {source}")]
    Columns {
        /// Which properties.
        property: String,
        /// Why.
        source: PropertiesError,
    },
    /// The thread that answered has ended.
    #[error("the scan was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

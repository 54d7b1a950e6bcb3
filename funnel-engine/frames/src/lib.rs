//! Columnar files: events out of Parquet, tables into it.
//!
//! Owns: everything that polars does for Weir. Refuses: knowing what the columns mean beyond the event format.
//! It is a crate of its own because polars is the heaviest dependency: who needs no Parquet does not build it.

mod events;
mod table;

pub use events::{ParquetError, parquet_events, read_parquet};
pub use table::{Column, to_parquet};

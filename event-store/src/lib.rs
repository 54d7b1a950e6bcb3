//! ClickHouse, in one schema: migrations, typed rows, a writer, a tenant-scoped reader, and an embedded server.
//!
//! Owns: every table and statement about them. Refuses: knowing who calls. Speaks only the ClickHouse HTTP
//! protocol, so the embedded engine and a cluster look the same from here.

mod login;
mod reads;
mod rows;
mod store;
mod tail;

pub mod serve;

pub use login::StoreLogin;
pub use reads::Whose;
pub use rows::{EventRow, ExchangeRow, HealthRow, LastExchangeRow, SpanRow};
pub use store::{DATABASE, Scope, Store, StoreError, TenantId};
pub use tail::{
    EVENT_PROPERTIES_MAX, PROPERTIES_MAX, PartitionHead, PastQuestion, PlannedSlice,
    PropertyQuestion, PropertyRow, SLICES_MAX, Slice, TEXT_BYTES_MAX, TailEvent, TailRead, TailRow,
    TailTable,
};

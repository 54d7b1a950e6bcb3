//! Where do buyers drop off? Definitions of funnels, and the engines that answer them.
//!
//! Owns: the definition and result types (the JSON contracts), the normative `reference` matcher, and the
//! ClickHouse push-down. Refuses: sockets of its own and clocks other than those passed in. What a backend
//! cannot answer it refuses by the JSON path of the part it does not know; it never answers approximately.

mod answer;
mod definition;
mod duration;
mod event;
mod figures;
mod predicate;
mod pushdown;
mod reference;
mod service;

pub use answer::{FunnelResult, StepResult, TimeToConvert, percent};
pub use definition::{
    Count, DefinitionError, Exclusion, FunnelDefinition, Order, Step, StepEvent, TimeRange,
};
pub use duration::Span;
pub use event::{Event, EventFileError, EventParts, EventTime, read_csv, read_ndjson};
pub use figures::{Bin, Latency, Timing};
pub use predicate::{Condition, Op};
pub use pushdown::{
    DroppedUser, Page, PushdownError, dropped_users, require_pushdown, run_on_clickhouse,
};
pub use reference::run_reference;

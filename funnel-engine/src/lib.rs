//! Where do buyers drop off? Definitions of funnels, and the engines that answer them.
//!
//! Owns: the definition and result types (the JSON contracts), the normative `reference` matcher, and the
//! ClickHouse push-down. Refuses: sockets of its own and clocks other than those passed in. What a backend
//! cannot answer it refuses by the JSON path of the part it does not know; it never answers approximately.

mod answer;
mod definition;
mod duration;
mod event;
mod predicate;
mod pushdown;
mod reference;

pub use answer::{FunnelResult, StepResult, TimeToConvert, Timing, percent};
pub use definition::{
    Count, DefinitionError, Exclusion, FunnelDefinition, Order, Step, StepEvent, TimeRange,
};
pub use duration::Span;
pub use event::{Event, EventFileError, read_csv, read_ndjson};
pub use predicate::{Condition, Op};
pub use pushdown::{PushdownError, run_on_clickhouse};
pub use reference::run_reference;

//! Where do buyers drop off? Definitions of funnels, and the engines that answer them.
//!
//! Owns: the definition and result types (the JSON contracts), the normative `reference` matcher, the columnar index
//! and its scan, the ClickHouse push-down, the choice between them, and live funnels fed from the store. Refuses:
//! sockets of its own and clocks other than those passed in. What a backend cannot answer it refuses by the JSON path of
//! the part it does not know; it never answers approximately.

mod answer;
mod ask;
mod calendar;
mod columnar;
mod definition;
mod duration;
mod event;
mod event_csv;
mod event_ndjson;
pub mod feed;
mod figures;
mod from_store;
pub mod index;
mod indexed;
pub mod live;
pub mod matching;
mod members;
mod pattern;
mod plan;
mod population;
mod predicate;
mod pushdown;
pub mod reference;
mod service;
mod shape;
pub mod tail;
mod tally;
pub mod why;
mod written;

pub use answer::{BreakdownRow, FunnelResult, StepResult, TimeToConvert, TrendPoint, percent};
pub use ask::{AskError, AtHand, ask, members};
pub use columnar::{
    ColumnarError, HeapBuilder, HeapError, HeapIndex, Judged, TenantEvents, TenantSegment,
    run_columnar, visit_subjects, wanted_properties,
};
pub use definition::{
    Attribution, Breakdown, Count, DefinitionError, Exclusion, FunnelDefinition, HttpMatch,
    Interval, Mode, Occurrence, Order, StatusMatch, Step, StepEvent, TimeRange, Trend, WeekStart,
};
pub use duration::Span;
pub use event::{Event, EventFileError, EventParts, EventTime, status_class};
pub use event_csv::{CsvEvents, read_csv};
pub use event_ndjson::{LINE_BYTES_MAX, NdjsonEvents, read_ndjson};
pub use figures::{Bin, Latency, Timing};
pub use from_store::{FromStoreError, run_from_store};
pub use indexed::{IndexAtHand, IndexView, IndexedError, SharedIndex, StoreIndex, run_on_index};
pub use members::{Bar, ListCursor, Member, MemberPage, Which};
pub use plan::{Backend, Events, Plan, plan};
pub use population::run_reference;
pub use predicate::{Condition, Op, Test, json_number, text_of};
pub use pushdown::{
    LastStep, PushdownError, StatementKind, explain_clickhouse, last_steps, run_on_clickhouse,
    statement_kind,
};

pub use shape::{Attempt, Kind, Mark, Range, Shape, Verdict};

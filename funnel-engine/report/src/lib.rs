//! The report document: one model, several renderings, the same numbers in each.
//!
//! Owns: what a report says and how it looks. Refuses: computing anything; every number comes from the
//! [`FunnelResult`](funnel_engine::FunnelResult) it is given, and is rounded only when shown.

mod chart;
mod document;
mod html;
mod tables;

pub use document::{Report, ReportError, Row};
pub use html::to_html;
pub use tables::{to_csv, to_xlsx};

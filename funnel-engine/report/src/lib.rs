//! The report document: one model, several renderings, the same numbers in each.
//!
//! Owns: what a report says and how it looks. Refuses: computing anything; every number comes from the
//! [`FunnelResult`](funnel_engine::FunnelResult) it is given, and is rounded only when shown.

mod chart;
mod document;
mod error;
mod format;
mod html;
mod pdf;
mod tables;

pub use chart::duration_label;
pub use document::{Figure, Report, Row, grouped};
pub use error::ReportError;
pub use format::ReportFormat;

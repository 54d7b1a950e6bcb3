//! The report document: one model, several renderings, the same numbers in each.
//!
//! Owns: what a report says and how it looks. Refuses: computing anything; every number comes from the
//! [`FunnelResult`](funnel_engine::FunnelResult) it is given, and is rounded only when shown.
//!
//! Limits: a page shows at most 5 steps of the breakdown side by side and 120 characters of a value; paper lists the
//! first 200 values and the latest 400 buckets, and says so. Charts, HTML, XLSX, CSV and Parquet have all of them.

mod chart;
mod document;
mod error;
mod figure;
mod format;
mod html;
mod parts;
mod pdf;
mod tables;
mod xlsx;

pub use chart::duration_label;
pub use document::{Report, Row};
pub use error::ReportError;
pub use figure::{Figure, grouped};
pub use format::ReportFormat;
pub use parts::ValueRow;

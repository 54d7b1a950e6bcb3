//! What a report says, before it looks like anything.

use funnel_engine::{FunnelResult, percent};

/// A rendering that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The spreadsheet library.
    #[error("the spreadsheet could not be written")]
    Xlsx(#[from] rust_xlsxwriter::XlsxError),
    /// The CSV library.
    #[error("the CSV could not be written")]
    Csv(#[from] csv::Error),
    /// The chart library.
    #[error("the chart could not be drawn: {0}")]
    Chart(String),
}

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Headline.
    pub title: String,
    /// The period, as text.
    pub period: String,
    /// One row per step.
    pub rows: Vec<Row>,
    /// Median seconds from first to last step.
    pub median_to_convert_s: Option<f64>,
    /// Events looked at.
    pub events_scanned: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Counted from 1.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// Who reached it.
    pub count: u64,
    /// Fraction of the previous step.
    pub from_previous: Option<f64>,
    /// Fraction of the first step.
    pub from_start: Option<f64>,
    /// Who went no further.
    pub drop_off: u64,
    /// Median seconds since the previous step.
    pub median_s: Option<f64>,
}

impl Report {
    /// From a result.
    pub fn new(title: &str, period: &str, result: &FunnelResult) -> Self {
        let rows = result.steps.iter().map(|step| Row {
            step: step.step,
            name: step.name.clone(),
            count: step.count,
            from_previous: step.conversion_from_previous,
            from_start: step.conversion_from_start,
            drop_off: step.drop_off,
            median_s: step.time_from_previous_s.map(|timing| timing.median),
        });
        Self {
            title: title.to_owned(),
            period: period.to_owned(),
            rows: rows.collect(),
            median_to_convert_s: result.time_to_convert_s.map(|timing| timing.median),
            events_scanned: result.events_scanned,
        }
    }

    /// The finding in words: between which steps most buyers are lost.
    pub fn finding(&self) -> String {
        let worst = self
            .rows
            .iter()
            .zip(self.rows.iter().skip(1))
            .max_by_key(|(from, _)| from.drop_off);
        match worst {
            Some((from, to)) if from.drop_off > 0 => format!(
                "Most buyers are lost between {} and {}: {} of {}; {} go on.",
                from.name,
                to.name,
                from.drop_off,
                from.count,
                percent(to.from_previous)
            ),
            _ => "No buyer is lost on the way.".to_owned(),
        }
    }
}

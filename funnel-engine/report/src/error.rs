//! Renderings that fail.

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
    /// The typesetter.
    #[error("the PDF could not be set: {0}")]
    Pdf(String),
    /// The columnar library.
    #[error("the Parquet file could not be written")]
    Parquet(#[from] funnel_frames::ParquetError),
}

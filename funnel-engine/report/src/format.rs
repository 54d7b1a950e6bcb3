//! The forms a report comes in, by name, media type and rendering.

use crate::{Report, ReportError, html, pdf, tables, xlsx};

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportFormat {
    /// For print and mail.
    Pdf,
    /// A spreadsheet with a native chart.
    Xlsx,
    /// One file, no scripts.
    Html,
    /// For any program.
    Csv,
    /// For data tools.
    Parquet,
}

impl ReportFormat {
    /// All of them, in the order that people are offered them.
    pub const ALL: [Self; 5] = [Self::Pdf, Self::Xlsx, Self::Html, Self::Csv, Self::Parquet];

    /// As a file name ends.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Xlsx => "xlsx",
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// From a file name's ending.
    pub fn from_extension(extension: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.extension() == extension)
    }

    /// As people say it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Xlsx => "XLSX",
            Self::Html => "HTML",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
        }
    }

    /// For HTTP.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Html => "text/html; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When the library behind the format fails.
    pub fn render(self, report: &Report) -> Result<Vec<u8>, ReportError> {
        match self {
            Self::Pdf => pdf::to_pdf(report),
            Self::Xlsx => xlsx::to_xlsx(report),
            Self::Html => Ok(html::to_html(report)?.into_bytes()),
            Self::Csv => tables::to_csv(report),
            Self::Parquet => tables::to_parquet(report),
        }
    }
}

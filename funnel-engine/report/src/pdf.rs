//! The report on paper: typst sets `pdf.typ` with the report as data.
//!
//! Text never becomes markup: it travels as JSON in a virtual file, and the template shows it as it is.

use std::sync::LazyLock;

use serde_json::json;
use typst::{
    Library, LibraryExt as _, World,
    diag::{FileError, FileResult},
    foundations::{Bytes, Datetime, Duration},
    syntax::{FileId, Source, VirtualPath},
    text::{Font, FontBook},
    utils::LazyHash,
};
use typst_kit::fonts::{FontStore, embedded};
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

use crate::{
    Figure, Report, ReportError, chart,
    figure::FIGURES,
    grouped,
    parts::{TREND_COLUMNS, breakable, bucket_shown, cut, narrow, trend_figures},
};

/// Papers whose intermediate results are kept for the next one.
const PAPERS_REMEMBERED: usize = 4;
/// Values of the breakdown and buckets of the trend that are listed; setting a page takes some milliseconds, and nobody
/// reads hundreds of them.
const VALUES_LISTED: usize = 200;
const BUCKETS_LISTED: usize = 400;
/// Characters of the title and of the period below each page.
const FOOT_SHOWN: usize = 30;
const TEMPLATE: &str = include_str!("pdf.typ");

static FONTS: LazyLock<FontStore> = LazyLock::new(|| {
    let mut store = FontStore::new();
    store.extend(embedded());
    store
});

static LIBRARY: LazyLock<LazyHash<Library>> = LazyLock::new(|| LazyHash::new(Library::default()));

/// The report as PDF; the same report gives the same bytes.
pub(crate) fn to_pdf(report: &Report) -> Result<Vec<u8>, ReportError> {
    let failed = |errors: &[typst::diag::SourceDiagnostic]| {
        let texts = errors.iter().map(|error| error.message.to_string());
        ReportError::Pdf(texts.collect::<Vec<_>>().join("; "))
    };
    let world = Paper::new(report)?;
    let document = typst::compile::<PagedDocument>(&world).output;
    let pdf = document.and_then(|document| typst_pdf::pdf(&document, &PdfOptions::default()));
    // What typst remembers of earlier papers is forgotten after a few more, or a server would keep them all.
    typst::comemo::evict(PAPERS_REMEMBERED);
    pdf.map_err(|errors| failed(&errors))
}

/// All that the template may see: its data and the charts. No files, no clock, no packages.
struct Paper {
    main: Source,
    files: [(&'static str, Bytes); 4],
}

impl Paper {
    fn new(report: &Report) -> Result<Self, ReportError> {
        Ok(Self {
            main: Source::detached(TEMPLATE),
            files: [
                ("/report.json", Bytes::from_string(data(report).to_string())),
                (
                    "/funnel.svg",
                    Bytes::from_string(chart::funnel_svg(report)?),
                ),
                ("/times.svg", Bytes::from_string(chart::times_svg(report)?)),
                ("/trend.svg", Bytes::from_string(chart::trend_svg(report)?)),
            ],
        })
    }
}

fn data(report: &Report) -> serde_json::Value {
    let cells = |of: &dyn Fn(Figure) -> String| -> Vec<Vec<String>> {
        let row = |row: &crate::Row| {
            let figures = row.figures().map(of);
            [row.step.to_string(), narrow(&row.name)]
                .into_iter()
                .chain(figures)
                .collect()
        };
        report.rows.iter().map(row).collect()
    };
    json!({
        "title": breakable(&report.title),
        "period": breakable(&report.period),
        // The foot of a page is one line.
        "foot": format!("{} · {}", cut(&report.title, FOOT_SHOWN), cut(&report.period, FOOT_SHOWN)),
        "finding": breakable(&report.finding()),
        "tiles": report.tiles(),
        "columns": FIGURES.map(|(_, label)| label),
        "names": FIGURES.map(|(name, _)| name),
        "shown": cells(&Figure::shown),
        "in_full": cells(&Figure::in_full),
        "has_times": !report.histogram.is_empty(),
        "p90": Figure::Seconds(report.p90_to_convert_s).shown(),
        "median": Figure::Seconds(report.median_to_convert_s).shown(),
        "events": grouped(report.events_scanned),
        "breakdown": breakdown(report),
        "trend": trend(report),
    })
}

/// Its tables, each with the cells of all rows; none without a breakdown.
fn breakdown(report: &Report) -> serde_json::Value {
    let listed = report.breakdown.get(..VALUES_LISTED);
    let values = listed.unwrap_or(&report.breakdown);
    let tables = report.value_tables().into_iter().map(|table| {
        let rows = values.iter().map(|value| {
            let figures = table.figures(value).into_iter().map(Figure::shown);
            let name = narrow(&value.shown());
            std::iter::once(name).chain(figures).collect::<Vec<_>>()
        });
        let columns = table.columns(report);
        let columns: Vec<String> = columns.iter().map(|column| narrow(column)).collect();
        json!({ "columns": columns, "rows": rows.collect::<Vec<_>>() })
    });
    let all = report.breakdown.len();
    let cut = (all > VALUES_LISTED).then(|| {
        format!(
            "Of these {}, paper lists the first {VALUES_LISTED}; the other files have all of them.",
            grouped(all as u64)
        )
    });
    let note = [report.breakdown_note(), cut.unwrap_or_default()].join(" ");
    json!({
        "is_there": !values.is_empty(),
        "note": note,
        "tables": tables.collect::<Vec<_>>(),
    })
}

/// Its latest buckets; the chart has all.
fn trend(report: &Report) -> serde_json::Value {
    let all = report.trend.len();
    let skipped = all.saturating_sub(BUCKETS_LISTED);
    let rows = report.trend.iter().skip(skipped).map(|point| {
        let figures = trend_figures(point).map(Figure::shown);
        std::iter::once(bucket_shown(&point.bucket))
            .chain(figures)
            .collect::<Vec<_>>()
    });
    let cut = (skipped > 0).then(|| {
        format!(
            "The chart shows all {} buckets, the table the latest {BUCKETS_LISTED}; the other files have all of them.",
            grouped(all as u64)
        )
    });
    let note = [report.trend_note(), cut.unwrap_or_default()].join(" ");
    json!({
        "is_there": all > 0,
        "note": note,
        "columns": TREND_COLUMNS,
        "rows": rows.collect::<Vec<_>>(),
    })
}

impl World for Paper {
    fn library(&self) -> &LazyHash<Library> {
        &LIBRARY
    }

    fn book(&self) -> &LazyHash<FontBook> {
        FONTS.book()
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            return Ok(self.main.clone());
        }
        Err(FileError::AccessDenied)
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let path: &VirtualPath = id.get().vpath();
        let wanted = path.get_with_slash();
        let found = self.files.iter().find(|(name, _)| *name == wanted);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        FONTS.font(index)
    }

    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}

//! Every rendering opens in the program of its reader and holds the numbers of the result, to the last digit.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod limits;
mod parts;
mod steps;

use std::{fs, io::Cursor, path::Path, process::Command};

use calamine::{Data, Range, Reader as _, Xlsx};
use funnel_engine::FunnelResult;
use funnel_report::{Figure, Report, ReportFormat};
use polars::prelude::{DataFrame, ParquetReader, SerReader as _};
use serde_json::{Value, json};

const NAMES: [&str; 9] = [
    "count",
    "conversion_from_previous",
    "conversion_from_start",
    "drop_off",
    "median_from_previous_s",
    "p90_from_previous_s",
    "latency_mean_ms",
    "latency_p95_ms",
    "errors",
];

fn result() -> FunnelResult {
    serde_json::from_value(json!({
        "steps": [
            {"step": 1, "name": "Login", "count": 12480, "conversion_from_previous": 1.0, "conversion_from_start": 1.0, "drop_off": 3360,
             "time_from_previous_s": null, "latency_ms": {"mean": 81.0 / 7.0, "p95": 31.25}, "errors": 17},
            {"step": 2, "name": "Cart <&> #set \\ *x*", "count": 9120, "conversion_from_previous": 9120.0 / 12480.0, "conversion_from_start": 9120.0 / 12480.0, "drop_off": 3480,
             "time_from_previous_s": {"mean": 1.5, "median": 1.25, "p90": 1e-7}, "latency_ms": null, "errors": 0},
            {"step": 3, "name": "Pay", "count": 5640, "conversion_from_previous": 5640.0 / 9120.0, "conversion_from_start": 5640.0 / 12480.0, "drop_off": 0,
             "time_from_previous_s": {"mean": 2.5, "median": 2.125, "p90": 4.0}, "latency_ms": {"mean": 3.0, "p95": 1.0 / 3.0}, "errors": 4},
        ],
        "time_to_convert_s": {"median": 3.5, "p90": 6.0, "histogram": [{"from": 2.0, "count": 5000}, {"from": 5.0, "count": 640}]},
        "breakdown": [
            {"value": "phone, \"small\" <b>|de", "steps": value_steps([9000, 7000, 5000])},
            {"value": "", "steps": value_steps([3000, 2000, 640])},
            {"value": "x".repeat(300), "steps": value_steps([480, 120, 0])},
        ],
        "breakdown_omitted": 1234,
        "trend": [
            {"bucket": "2026-10-25T02:00:00+02:00", "entered": 7200, "converted": 5000},
            {"bucket": "2026-10-25T02:00:00+01:00", "entered": 0, "converted": 0},
            {"bucket": "2026-10-25T03:00:00+01:00", "entered": 5280, "converted": 640},
        ],
        "events_scanned": 27240, "backend": "reference", "elapsed_ms": 1,
    }))
    .unwrap()
}

/// The steps of a value: rates as quotients of the counts, and times of their own.
fn value_steps(counts: [u32; 3]) -> Value {
    let rate = |count: u32, of: u32| f64::from(count) / f64::from(of);
    let steps = ["Login", "Cart", "Pay"].into_iter().zip(counts).enumerate();
    let step = |(index, (name, count)): (usize, (&str, u32))| {
        json!({"step": index + 1, "name": name, "count": count, "drop_off": count - counts.get(index + 1).unwrap_or(&count),
            "conversion_from_previous": rate(count, counts[index.saturating_sub(1)]), "conversion_from_start": rate(count, counts[0]),
            "time_from_previous_s": (index > 0).then(|| json!({"mean": 1.0, "median": rate(count, 7), "p90": 2.0}))})
    };
    Value::Array(steps.map(step).collect())
}

/// The figures as the result holds them, row by row: the independent side of every comparison.
fn expected() -> Vec<Vec<Option<f64>>> {
    figures(&serde_json::to_value(result()).unwrap()["steps"])
}

fn figures(steps: &Value) -> Vec<Vec<Option<f64>>> {
    let paths = [
        "/count",
        "/conversion_from_previous",
        "/conversion_from_start",
        "/drop_off",
        "/time_from_previous_s/median",
        "/time_from_previous_s/p90",
        "/latency_ms/mean",
        "/latency_ms/p95",
        "/errors",
    ];
    let rows = steps.as_array().unwrap().iter();
    rows.map(|step| {
        let figures = paths.iter();
        figures
            .map(|path| step.pointer(path).and_then(Value::as_f64))
            .collect()
    })
    .collect()
}

fn report() -> Report {
    Report::new("Checkout", "May", &result())
}

fn written(format: ReportFormat, report: &Report, folder: &Path) -> String {
    let path = folder.join(format!("report.{}", format.extension()));
    fs::write(&path, format.render(report).unwrap()).unwrap();
    path.to_string_lossy().into_owned()
}

fn parquet(report: &Report) -> DataFrame {
    let bytes = ReportFormat::Parquet.render(report).unwrap();
    ParquetReader::new(Cursor::new(bytes)).finish().unwrap()
}

/// The rows of the CSV, as texts by the names of the columns.
fn csv_rows(report: &Report) -> Vec<std::collections::HashMap<String, String>> {
    let csv = ReportFormat::Csv.render(report).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    reader.deserialize().map(Result::unwrap).collect()
}

fn sheet(report: &Report, name: &str) -> Range<Data> {
    let bytes = ReportFormat::Xlsx.render(report).unwrap();
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).unwrap();
    book.worksheet_range(name).unwrap()
}

fn number(sheet: &Range<Data>, line: u32, column: u32) -> Option<f64> {
    match sheet.get_value((line, column)).cloned() {
        None | Some(Data::Empty) => None,
        Some(Data::Float(value)) => Some(value),
        Some(Data::Int(value)) => Some(f64::from(i32::try_from(value).unwrap())),
        other => panic!("{other:?}"),
    }
}

/// The page as a browser sees it.
fn dom(report: &Report) -> String {
    let folder = tempfile::tempdir().unwrap();
    let page = format!(
        "file://{}",
        written(ReportFormat::Html, report, folder.path())
    );
    let profile = folder.path().join("profile");
    output_of(
        "chromium",
        &[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-quic",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            &format!("--user-data-dir={}", profile.display()),
            "--dump-dom",
            &page,
        ],
    )
}

fn pdf_text(report: &Report, option: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = written(ReportFormat::Pdf, report, folder.path());
    output_of("pdftotext", &[option, &file, "-"])
}

fn output_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} is needed ({error}): cargo xtask setup installs it")
        });
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_result_renders_to_the_same_bytes() {
    // The spreadsheet carries its time of creation.
    for format in ReportFormat::ALL
        .into_iter()
        .filter(|format| *format != ReportFormat::Xlsx)
    {
        assert!(
            format.render(&report()).unwrap() == format.render(&report()).unwrap(),
            "{format:?}"
        );
    }
}

#[test]
fn a_report_without_buyers_says_so_in_every_form() {
    let mut nobody = result();
    nobody.time_to_convert_s = None;
    for step in &mut nobody.steps {
        (step.count, step.drop_off) = (0, 0);
        (step.conversion_from_previous, step.conversion_from_start) = (None, None);
    }
    let report = Report::new("Checkout", "May", &nobody);
    assert_eq!(report.finding(), "No buyer has come yet.");
    assert_eq!(Figure::Fraction(None).shown(), "-");
    for format in ReportFormat::ALL {
        assert!(!format.render(&report).unwrap().is_empty(), "{format:?}");
    }
}

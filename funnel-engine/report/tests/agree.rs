//! Every rendering opens in the program of its reader and holds the numbers of the result, to the last digit.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::{fs, io::Cursor, path::Path, process::Command};

use calamine::{Data, Reader as _, Xlsx};
use funnel_engine::FunnelResult;
use funnel_report::{Figure, Report, ReportFormat};
use polars::prelude::{ParquetReader, SerReader as _};

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
    serde_json::from_value(serde_json::json!({
        "steps": [
            {"step": 1, "name": "Login", "count": 12480, "conversion_from_previous": 1.0, "conversion_from_start": 1.0, "drop_off": 3360,
             "time_from_previous_s": null, "latency_ms": {"mean": 81.0 / 7.0, "p95": 31.25}, "errors": 17},
            {"step": 2, "name": "Cart <&> #set \\ *x*", "count": 9120, "conversion_from_previous": 9120.0 / 12480.0, "conversion_from_start": 9120.0 / 12480.0, "drop_off": 3480,
             "time_from_previous_s": {"mean": 1.5, "median": 1.25, "p90": 1e-7}, "latency_ms": null, "errors": 0},
            {"step": 3, "name": "Pay", "count": 5640, "conversion_from_previous": 5640.0 / 9120.0, "conversion_from_start": 5640.0 / 12480.0, "drop_off": 0,
             "time_from_previous_s": {"mean": 2.5, "median": 2.125, "p90": 4.0}, "latency_ms": {"mean": 3.0, "p95": 1.0 / 3.0}, "errors": 4},
        ],
        "time_to_convert_s": {"median": 3.5, "p90": 6.0, "histogram": [{"from": 2.0, "count": 5000}, {"from": 5.0, "count": 640}]},
        "events_scanned": 27240, "backend": "reference", "elapsed_ms": 1,
    }))
    .unwrap()
}

/// The figures as the result holds them, row by row: the independent side of every comparison below.
fn expected() -> Vec<Vec<Option<f64>>> {
    let json = serde_json::to_value(result()).unwrap();
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
    let rows = json["steps"].as_array().unwrap().iter();
    rows.map(|step| {
        let figures = paths.iter();
        figures
            .map(|path| step.pointer(path).and_then(serde_json::Value::as_f64))
            .collect()
    })
    .collect()
}

fn report() -> Report {
    Report::new("Checkout", "May", &result())
}

fn written(format: ReportFormat, folder: &Path) -> String {
    let path = folder.join(format!("report.{}", format.extension()));
    fs::write(&path, format.render(&report()).unwrap()).unwrap();
    path.to_string_lossy().into_owned()
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
fn the_spreadsheet_reader_finds_every_digit() {
    let bytes = ReportFormat::Xlsx.render(&report()).unwrap();
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).unwrap();
    let sheet = book.worksheet_range("Funnel").unwrap();
    for (line, row) in (5_u32..).zip(expected()) {
        for (column, figure) in (2_u32..).zip(row) {
            let cell = sheet.get_value((line, column)).cloned();
            let found = match cell {
                None | Some(Data::Empty) => None,
                Some(Data::Float(value)) => Some(value),
                Some(Data::Int(value)) => Some(f64::from(i32::try_from(value).unwrap())),
                other => panic!("{other:?}"),
            };
            assert_eq!(
                found.map(f64::to_bits),
                figure.map(f64::to_bits),
                "{line} {column}"
            );
        }
    }
    let times = book.worksheet_range("Time to convert").unwrap();
    assert_eq!(times.get_value((1, 1)), Some(&Data::Float(5000.0)));
}

#[test]
fn polars_finds_every_digit_in_the_parquet_and_the_csv_holds_the_same() {
    let bytes = ReportFormat::Parquet.render(&report()).unwrap();
    let frame = ParquetReader::new(Cursor::new(bytes)).finish().unwrap();
    let csv = ReportFormat::Csv.render(&report()).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!((frame.height(), records.len()), (3, 3));
    for (index, (row, record)) in expected().into_iter().zip(records).enumerate() {
        for ((name, figure), text) in NAMES.iter().zip(row).zip(record.iter().skip(2)) {
            let value = frame.column(name).unwrap().get(index).unwrap();
            assert_eq!(
                value.extract::<f64>().map(f64::to_bits),
                figure.map(f64::to_bits),
                "{name}"
            );
            let parsed = (!text.is_empty()).then(|| text.parse::<f64>().unwrap());
            assert_eq!(parsed.map(f64::to_bits), figure.map(f64::to_bits), "{name}");
        }
    }
}

#[test]
fn pdftotext_finds_the_shown_figures_and_every_digit() {
    let folder = tempfile::tempdir().unwrap();
    let text = output_of(
        "pdftotext",
        &["-layout", &written(ReportFormat::Pdf, folder.path()), "-"],
    );
    for shown in [
        "Checkout", "12,480", "73.1%", "61.8%", "45.2%", "1.250 s", "11.6 ms",
    ] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    assert!(
        text.contains("Cart <&> #set \\ *x*"),
        "names are text, never markup: {text}"
    );
    let in_full = text.split("Figures in full").nth(1).unwrap();
    let mut lines = in_full.lines().map(str::trim);
    for row in expected() {
        for (name, figure) in NAMES.iter().zip(row) {
            let line = lines.find(|line| line.starts_with(name)).unwrap();
            let value = line.trim_start_matches(name).trim();
            let parsed = (value != "-").then(|| value.parse::<f64>().unwrap());
            assert_eq!(parsed.map(f64::to_bits), figure.map(f64::to_bits), "{line}");
        }
    }
}

#[test]
fn chromium_shows_the_figures_and_holds_every_digit() {
    let folder = tempfile::tempdir().unwrap();
    let page = format!("file://{}", written(ReportFormat::Html, folder.path()));
    let profile = format!(
        "--user-data-dir={}",
        folder.path().join("profile").display()
    );
    let dom = output_of(
        "chromium",
        &[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-quic",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            &profile,
            "--dump-dom",
            &page,
        ],
    );
    let mut values = dom.split("<data value=\"").skip(1);
    for row in expected() {
        for figure in row {
            let cell = values.next().unwrap();
            let (value, rest) = cell.split_once("\">").unwrap();
            let parsed = (!value.is_empty()).then(|| value.parse::<f64>().unwrap());
            assert_eq!(parsed.map(f64::to_bits), figure.map(f64::to_bits), "{cell}");
            assert_eq!(rest.starts_with("-<"), figure.is_none(), "{cell}");
        }
    }
    assert!(values.next().is_none());
    for shown in [
        "73.1%",
        "1.250 s",
        "Cart &lt;&amp;&gt;",
        "lost between Cart",
        "3,480 of 9,120",
        "<svg",
    ] {
        assert!(dom.contains(shown), "{shown}");
    }
    assert!(!dom.contains("Cart <&>"));
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

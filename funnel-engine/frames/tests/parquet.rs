//! Event files of several makes read the same, and what is no event file says why.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{fs, path::Path};

use funnel_engine::{Event, read_ndjson};
use funnel_frames::read_parquet;
use polars::prelude::{Column, DataFrame, DataType, ParquetWriter, TimeUnit};

const NDJSON: &str = r#"
{"user":"u1","ts":1767225600123,"event":"login","session":"s1","tenant":"t1","properties":{"amount":12.5,"device":"phone"}}
{"user":null,"ts":1767225601000,"event":"view","tenant":"t1"}
"#;

fn write(path: &Path, mut frame: DataFrame) {
    ParquetWriter::new(fs::File::create(path).unwrap())
        .finish(&mut frame)
        .unwrap();
}

fn frame(ts: Column) -> DataFrame {
    DataFrame::new(
        2,
        vec![
            Column::new("user".into(), [Some("u1"), None]),
            ts,
            Column::new("event".into(), ["login", "view"]),
            Column::new("session".into(), [Some("s1"), None]),
            Column::new("tenant".into(), ["t1", "t1"]),
            Column::new("amount".into(), [Some(12.5), None]),
            Column::new("properties".into(), [Some(r#"{"device":"phone"}"#), None]),
        ],
    )
    .unwrap()
}

#[test]
fn parquet_reads_as_the_same_ndjson_does_whatever_the_type_of_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<Event> = read_ndjson(NDJSON.as_bytes()).unwrap();
    let integers = Column::new("ts".into(), [1_767_225_600_123_i64, 1_767_225_601_000]);
    let texts = Column::new(
        "ts".into(),
        ["2026-01-01T00:00:00.123Z", "2026-01-01T01:00:01+01:00"],
    );
    let milliseconds = integers
        .cast(&DataType::Datetime(TimeUnit::Milliseconds, None))
        .unwrap();
    let micro = Column::new(
        "ts".into(),
        [1_767_225_600_123_000_i64, 1_767_225_601_000_000],
    );
    let microseconds = micro
        .cast(&DataType::Datetime(TimeUnit::Microseconds, None))
        .unwrap();
    for ts in [integers, texts, milliseconds, microseconds] {
        let path = folder.path().join("events.parquet");
        let kind = ts.dtype().to_string();
        write(&path, frame(ts));
        assert_eq!(read_parquet(&path).unwrap(), expected, "{kind}");
    }
}

#[test]
fn what_is_no_event_file_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.parquet");
    let error = |path: &Path| read_parquet(path).unwrap_err().to_string();
    assert!(error(&path).contains("cannot open"));
    fs::write(&path, "no parquet").unwrap();
    assert!(error(&path).contains("no readable Parquet"));
    let whole = Column::new("ts".into(), [1_i64, 2]);
    write(&path, frame(whole));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, bytes.get(..bytes.len() / 2).unwrap()).unwrap();
    assert!(error(&path).contains("no readable Parquet"), "cut in half");
    let without = DataFrame::new(1, vec![Column::new("user".into(), ["u"])]).unwrap();
    write(&path, without);
    assert!(error(&path).contains("no column `ts`"));
    write(&path, frame(Column::new("ts".into(), [1.5, 2.5])));
    assert!(
        error(&path).starts_with("column `ts` is of type f64: write a timestamp"),
        "{}",
        error(&path)
    );
}

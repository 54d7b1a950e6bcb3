//! The breakdown and the trend, in every form.

use std::collections::HashMap;

use calamine::Data;
use polars::prelude::AnyValue;
use serde_json::Value;

use super::{
    NAMES, csv_rows, dom, figures, json, number, parquet, pdf_text, report, result, sheet,
};

/// A value, the names of its steps and their figures.
type ValueOfResult = (String, Vec<String>, Vec<Vec<Option<f64>>>);

/// The breakdown as the result holds it.
fn values() -> Vec<ValueOfResult> {
    let result = serde_json::to_value(result()).unwrap();
    let rows = result["breakdown"].as_array().unwrap().iter();
    rows.map(|row| {
        let steps = row["steps"].as_array().unwrap().iter();
        let names = steps.map(|step| step["name"].as_str().unwrap().to_owned());
        let value = row["value"].as_str().unwrap().to_owned();
        (value, names.collect(), figures(&row["steps"]))
    })
    .collect()
}

/// The trend as the result holds it, and its rates as quotients.
fn buckets() -> Vec<(String, [Option<f64>; 3])> {
    let result = serde_json::to_value(result()).unwrap();
    let points = result["trend"].as_array().unwrap().iter();
    points
        .map(|point| {
            let count = |key: &str| point[key].as_f64().unwrap();
            let (entered, converted) = (count("entered"), count("converted"));
            let rate = (entered > 0.0).then(|| converted / entered);
            let bucket = point["bucket"].as_str().unwrap().to_owned();
            (bucket, [Some(entered), Some(converted), rate])
        })
        .collect()
}

/// The rows after the steps that a long table must hold, by the names of its columns; what is not named is absent.
fn long_rows() -> Vec<HashMap<&'static str, Value>> {
    let mut rows = Vec::new();
    for (value, names, steps) in values() {
        for (index, (name, figures)) in names.into_iter().zip(steps).enumerate() {
            let mut row: HashMap<&'static str, Value> = HashMap::from([
                ("section", json!("breakdown")),
                ("step", json!(index + 1)),
                ("name", json!(name)),
                ("value", json!(value)),
                ("values_omitted", json!(1234)),
            ]);
            row.extend(
                NAMES
                    .into_iter()
                    .zip(figures.into_iter().map(|figure| json!(figure))),
            );
            rows.push(row);
        }
    }
    for (bucket, [entered, converted, rate]) in buckets() {
        rows.push(HashMap::from([
            ("section", json!("trend")),
            ("bucket", json!(bucket)),
            ("entered", json!(entered)),
            ("converted", json!(converted)),
            ("conversion", json!(rate)),
        ]));
    }
    rows
}

#[test]
fn csv_and_parquet_hold_every_value_and_bucket_below_the_steps() {
    let (frame, records) = (parquet(&report()), csv_rows(&report()));
    let expected = long_rows();
    assert_eq!(frame.height(), 3 + expected.len());
    assert_eq!(records.len(), frame.height());
    for (index, row) in (3..).zip(expected) {
        for column in frame.columns() {
            let name = column.name().as_str();
            let wanted = row.get(name).unwrap_or(&Value::Null);
            let text = &records[index][name];
            let in_parquet = column.get(index).unwrap();
            if let Some(wanted) = wanted.as_str() {
                assert_eq!(
                    (text.as_str(), in_parquet.get_str()),
                    (wanted, Some(wanted))
                );
                continue;
            }
            let wanted = wanted.as_f64().map(f64::to_bits);
            let parsed = (!text.is_empty()).then(|| text.parse::<f64>().unwrap());
            assert_eq!(parsed.map(f64::to_bits), wanted, "{index} {name}");
            let in_parquet = (in_parquet != AnyValue::Null).then(|| in_parquet.extract::<f64>());
            assert_eq!(in_parquet.map(|value| value.unwrap().to_bits()), wanted);
        }
    }
}

#[test]
fn a_report_without_them_has_the_same_columns_and_no_such_rows() {
    let mut plain = result();
    (plain.breakdown, plain.trend) = (Vec::new(), Vec::new());
    let plain = funnel_report::Report::new("Checkout", "May", &plain);
    let frame = parquet(&plain);
    assert_eq!(frame.schema(), parquet(&report()).schema());
    assert_eq!((frame.height(), csv_rows(&plain).len()), (3, 3));
    for part in ["By value", "Over time"] {
        assert!(dom(&report()).contains(part) && !dom(&plain).contains(part));
        assert!(!pdf_text(&plain, "-layout").contains(part));
    }
}

#[test]
fn the_workbook_has_a_sheet_for_each() {
    let breakdown = sheet(&report(), "Breakdown");
    assert_eq!(number(&breakdown, 1, 1), Some(1234.0));
    for (line, (value, _, steps)) in (4_u32..).zip(values()) {
        let text = breakdown.get_value((line, 0)).map(ToString::to_string);
        assert_eq!(text.unwrap_or_default(), value);
        let counts = steps.iter().map(|step| step[0]);
        let wanted = counts.chain([steps[2][2]]);
        for (column, figure) in (1_u32..).zip(wanted) {
            let found = number(&breakdown, line, column);
            assert_eq!(found.map(f64::to_bits), figure.map(f64::to_bits));
        }
    }
    let trend = sheet(&report(), "Trend");
    for (line, (bucket, wanted)) in (1_u32..).zip(buckets()) {
        assert_eq!(trend.get_value((line, 0)), Some(&Data::String(bucket)));
        let found = [1, 2, 3].map(|column| number(&trend, line, column));
        assert_eq!(
            found.map(|figure| figure.map(f64::to_bits)),
            wanted.map(|figure| figure.map(f64::to_bits))
        );
    }
}

#[test]
fn the_page_holds_every_digit_and_says_what_is_left_out() {
    let dom = dom(&report());
    let by_value = dom.split("<h2>By value</h2>").nth(1).unwrap();
    let (by_value, over_time) = by_value.split_once("<h2>Over time</h2>").unwrap();
    let found = |part: &str| -> Vec<Option<f64>> {
        let cells = part.split("<data value=\"").skip(1);
        cells
            .map(|cell| cell.split('"').next().unwrap().parse().ok())
            .collect()
    };
    let wanted = values().into_iter().flat_map(|(_, _, steps)| {
        let counts: Vec<Option<f64>> = steps.iter().map(|step| step[0]).collect();
        counts.into_iter().chain([steps[2][2]])
    });
    assert_eq!(found(by_value), wanted.collect::<Vec<_>>());
    let wanted = buckets().into_iter().flat_map(|(_, figures)| figures);
    assert_eq!(found(over_time), wanted.collect::<Vec<_>>());
    let shown = format!("<th scope=\"row\">{}…</th>", "x".repeat(119));
    for text in [
        "1,234 more values lie beyond",
        "<th scope=\"row\">(none)</th>",
        "phone, \"small\" &lt;b&gt;|de",
        &shown,
    ] {
        assert!(by_value.contains(text), "{text} in {by_value}");
    }
    for text in [
        "<svg",
        "2026-10-25 02:00 +02:00",
        "2026-10-25 02:00 +01:00",
        "<data value=\"\">-</data>",
    ] {
        assert!(over_time.contains(text), "{text} in {over_time}");
    }
}

#[test]
fn the_paper_shows_the_counts_and_the_rounded_rates() {
    let text = pdf_text(&report(), "-layout").replace('\u{200b}', "");
    let by_value = text.split("By value").nth(1).unwrap();
    let (by_value, over_time) = by_value.split_once("Over time").unwrap();
    let has_row = |part: &str, cells: &[&str]| {
        let mut lines = part.lines();
        let found = lines.any(|line| line.split_whitespace().collect::<Vec<_>>().ends_with(cells));
        assert!(found, "{cells:?} in {part}");
    };
    has_row(by_value, &["(none)", "3,000", "2,000", "640", "21.3%"]);
    has_row(by_value, &["<b>|de", "9,000", "7,000", "5,000", "55.6%"]);
    has_row(by_value, &["480", "120", "0", "0.0%"]);
    assert!(by_value.contains("1,234 more values lie beyond"));
    has_row(over_time, &["02:00", "+02:00", "7,200", "5,000", "69.4%"]);
    has_row(over_time, &["02:00", "+01:00", "0", "0", "-"]);
    has_row(over_time, &["03:00", "+01:00", "5,280", "640", "12.1%"]);
}

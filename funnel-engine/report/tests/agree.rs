//! Every rendering holds the numbers of the result, to the last digit that it shows.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::Cursor;

use calamine::{Data, Reader as _, Xlsx};
use funnel_engine::FunnelResult;
use funnel_report::{Report, to_csv, to_html, to_xlsx};

fn result() -> FunnelResult {
    serde_json::from_value(serde_json::json!({
        "steps": [
            {"step": 1, "name": "Login", "count": 12480, "conversion_from_previous": 1.0, "conversion_from_start": 1.0, "drop_off": 3360, "time_from_previous_s": null},
            {"step": 2, "name": "Cart <&>", "count": 9120, "conversion_from_previous": 9120.0 / 12480.0, "conversion_from_start": 9120.0 / 12480.0, "drop_off": 3480,
             "time_from_previous_s": {"mean": 1.5, "median": 1.25, "p90": 3.0}},
            {"step": 3, "name": "Pay", "count": 5640, "conversion_from_previous": 5640.0 / 9120.0, "conversion_from_start": 5640.0 / 12480.0, "drop_off": 0,
             "time_from_previous_s": {"mean": 2.5, "median": 2.125, "p90": 4.0}},
        ],
        "time_to_convert_s": {"median": 3.5, "p90": 6.0}, "events_scanned": 27240, "backend": "reference", "elapsed_ms": 1,
    }))
    .unwrap()
}

#[test]
fn csv_and_xlsx_hold_the_result_in_full() {
    let (result, report) = (result(), Report::new("Checkout", "May", &result()));
    let csv = to_csv(&report).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(to_xlsx(&report).unwrap())).unwrap();
    let sheet = book.worksheet_range("Funnel").unwrap();
    for ((line, record), step) in (5_u32..).zip(reader.records()).zip(&result.steps) {
        let record = record.unwrap();
        let field = |column: usize| record.get(column).unwrap().to_owned();
        let cell = |column: u32| sheet.get_value((line, column)).unwrap().clone();
        assert_eq!(field(2), step.count.to_string());
        assert_eq!(
            cell(2),
            Data::Float(f64::from(u32::try_from(step.count).unwrap()))
        );
        assert_eq!(
            field(3).parse::<f64>().unwrap().to_bits(),
            step.conversion_from_previous.unwrap().to_bits()
        );
        assert_eq!(cell(4), Data::Float(step.conversion_from_start.unwrap()));
        assert_eq!(field(5), step.drop_off.to_string());
        assert_eq!(
            field(6),
            step.time_from_previous_s
                .map_or_else(String::new, |timing| timing.median.to_string())
        );
    }
}

#[test]
fn html_shows_the_numbers_escapes_names_and_names_the_worst_step() {
    let html = to_html(&Report::new("Checkout", "May", &result())).unwrap();
    for expected in [
        "9120",
        "73.1%",
        "61.8%",
        "45.2%",
        "1.250 s",
        "Cart &lt;&amp;&gt;",
        "lost between Cart",
        "3480 of 9120",
        "<svg",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    assert!(!html.contains("Cart <&>"));
}

#[test]
fn the_same_result_renders_to_the_same_bytes() {
    let report = Report::new("Checkout", "May", &result());
    assert_eq!(to_html(&report).unwrap(), to_html(&report).unwrap());
    assert_eq!(to_csv(&report).unwrap(), to_csv(&report).unwrap());
}

//! Reports as large as a definition allows: every form has all of it or says what it leaves out, and nothing overflows.

use funnel_engine::FunnelResult;
use funnel_report::Report;

use super::{csv_rows, dom, json, parquet, pdf_text, sheet};

/// Points (1/72 inch) between which the text of a page lies: A4 less its margins of 20 mm.
const TEXT: (f64, f64) = (56.6, 538.7);
/// The foot of a page lies above its edge.
const FOOT: f64 = 815.0;

fn large(steps: usize, values: usize, buckets: usize) -> Report {
    let all = |value: usize| -> Vec<_> {
        let step = |step| {
            json!({"step": step, "name": format!("{step}{}", "W".repeat(198)), "count": 9_999_999_999_u64 - value as u64, "drop_off": 0,
                "conversion_from_previous": 1.0, "conversion_from_start": 1.0, "time_from_previous_s": null})
        };
        (1..=steps).map(step).collect()
    };
    let value = |index: usize| json!({"value": format!("{index}{}", "W".repeat(2_000)), "steps": all(index)});
    let bucket = |index: usize| {
        let (day, hour) = (1 + index / 24 % 28, index % 24);
        json!({"bucket": format!("{}-01-{day:02}T{hour:02}:00:00Z", 2000 + index / 672), "entered": index % 1_000, "converted": index % 7})
    };
    let result: FunnelResult = serde_json::from_value(json!({
        "steps": all(0), "breakdown": (0..values).map(value).collect::<Vec<_>>(),
        "trend": (0..buckets).map(bucket).collect::<Vec<_>>(),
        "time_to_convert_s": null, "events_scanned": 1, "backend": "reference", "elapsed_ms": 1,
    }))
    .unwrap();
    Report::new(&"M".repeat(300), &"M".repeat(300), &result)
}

/// Every word of the paper lies between the margins, those of the charts too.
fn nothing_overflows(report: &Report) {
    let boxes = pdf_text(report, "-bbox");
    let edge = |word: &str, name: &str| -> f64 {
        let value = word.split(&format!("{name}=\"")).nth(1).unwrap();
        value.split('"').next().unwrap().parse().unwrap()
    };
    let mut words = 0;
    for word in boxes.lines().filter(|line| line.contains("<word ")) {
        let (left, right) = (edge(word, "xMin"), edge(word, "xMax"));
        assert!(left >= TEXT.0 && right <= TEXT.1, "{word}");
        assert!(edge(word, "yMax") <= FOOT, "{word}");
        words += 1;
    }
    assert!(words > 1_000, "{words}");
}

#[test]
fn a_thousand_values_and_ten_thousand_buckets() {
    let report = large(3, 1_000, 10_000);
    let rows = 3 + 3 * 1_000 + 10_000;
    assert_eq!(
        (parquet(&report).height(), csv_rows(&report).len()),
        (rows, rows)
    );
    assert_eq!(sheet(&report, "Breakdown").height(), 4 + 1_000);
    assert_eq!(sheet(&report, "Trend").height(), 1 + 10_000);
    let page = dom(&report);
    assert_eq!(page.matches("<time ").count(), 10_000);
    let text = pdf_text(&report, "-layout");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("Of these 1,000, paper lists the first 200;"));
    assert!(text.contains("The chart shows all 10,000 buckets, the table the latest 400;"));
    assert_eq!(text.matches(" +00:00 ").count(), 400);
    nothing_overflows(&report);
}

#[test]
fn sixty_four_steps() {
    let report = large(64, 8, 0);
    assert_eq!(csv_rows(&report).len(), 64 + 64 * 8);
    nothing_overflows(&report);
}

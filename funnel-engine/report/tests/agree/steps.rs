//! The steps, in every form.

use calamine::Data;

use super::{NAMES, csv_rows, dom, expected, number, parquet, pdf_text, report, sheet};

#[test]
fn the_spreadsheet_reader_finds_every_digit() {
    let funnel = sheet(&report(), "Funnel");
    for (line, row) in (5_u32..).zip(expected()) {
        for (column, figure) in (2_u32..).zip(row) {
            assert_eq!(
                number(&funnel, line, column).map(f64::to_bits),
                figure.map(f64::to_bits),
                "{line} {column}"
            );
        }
    }
    let times = sheet(&report(), "Time to convert");
    assert_eq!(times.get_value((1, 1)), Some(&Data::Float(5000.0)));
}

#[test]
fn polars_finds_every_digit_in_the_parquet_and_the_csv_holds_the_same() {
    let (frame, records) = (parquet(&report()), csv_rows(&report()));
    for (index, (row, record)) in expected().into_iter().zip(records).enumerate() {
        assert_eq!(record["section"], "steps");
        assert_eq!(record["step"], (index + 1).to_string());
        for (name, figure) in NAMES.iter().zip(row) {
            let value = frame.column(name).unwrap().get(index).unwrap();
            assert_eq!(
                value.extract::<f64>().map(f64::to_bits),
                figure.map(f64::to_bits),
                "{name}"
            );
            let text = &record[*name];
            let parsed = (!text.is_empty()).then(|| text.parse::<f64>().unwrap());
            assert_eq!(parsed.map(f64::to_bits), figure.map(f64::to_bits), "{name}");
        }
    }
}

#[test]
fn pdftotext_finds_the_shown_figures_and_every_digit() {
    // Without the places at which long words may break.
    let text = pdf_text(&report(), "-layout").replace('\u{200b}', "");
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
    let dom = dom(&report());
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

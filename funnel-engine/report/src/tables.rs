//! The report as tables: CSV with every digit, XLSX with a native chart.

use rust_xlsxwriter::{Chart, ChartType, Format, Workbook};

use crate::{Report, ReportError};

const COLUMNS: &[&str] = &[
    "step",
    "name",
    "count",
    "conversion_from_previous",
    "conversion_from_start",
    "drop_off",
    "median_from_previous_s",
];

/// CSV, one line per step; fractions in full, absent values empty.
///
/// # Errors
/// When writing fails.
pub fn to_csv(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(COLUMNS)?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for row in &report.rows {
        out.write_record([
            row.step.to_string(),
            row.name.clone(),
            row.count.to_string(),
            number(row.from_previous),
            number(row.from_start),
            row.drop_off.to_string(),
            number(row.median_s),
        ])?;
    }
    out.into_inner().map_err(|error| {
        ReportError::Csv(csv::Error::from(std::io::Error::other(error.to_string())))
    })
}

/// XLSX: the table on the first sheet, a native bar chart beside it.
///
/// # Errors
/// When writing fails.
pub fn to_xlsx(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut workbook = Workbook::new();
    let (bold, percent, seconds) = (
        Format::new().set_bold(),
        Format::new().set_num_format("0.0%"),
        Format::new().set_num_format("0.000"),
    );
    let sheet = workbook.add_worksheet();
    sheet.set_name("Funnel")?;
    sheet.write_with_format(0, 0, &report.title, &bold)?;
    sheet.write(1, 0, &report.period)?;
    sheet.write(2, 0, report.finding())?;
    for (column, name) in (0_u16..).zip(COLUMNS) {
        sheet.write_with_format(4, column, *name, &bold)?;
        sheet.set_column_width(column, if column == 1 { 20 } else { 14 })?;
    }
    let mut line = 5;
    for row in &report.rows {
        sheet.write(line, 0, u64::try_from(row.step).unwrap_or(u64::MAX))?;
        sheet.write(line, 1, &row.name)?;
        sheet.write(line, 2, row.count)?;
        for (column, value, format) in [
            (3, row.from_previous, &percent),
            (4, row.from_start, &percent),
            (6, row.median_s, &seconds),
        ] {
            if let Some(value) = value {
                sheet.write_with_format(line, column, value, format)?;
            }
        }
        sheet.write(line, 5, row.drop_off)?;
        line += 1;
    }
    let last = line.saturating_sub(1);
    let mut chart = Chart::new(ChartType::Column);
    chart
        .add_series()
        .set_name("Buyers")
        .set_categories(("Funnel", 5, 1, last, 1))
        .set_values(("Funnel", 5, 2, last, 2))
        .set_gap(40);
    chart.title().set_name(&report.title);
    chart.legend().set_hidden();
    sheet.insert_chart(line + 2, 0, &chart)?;
    Ok(workbook.save_to_buffer()?)
}

//! The report as a workbook, with native charts: the steps, the times to convert, and where there is one the breakdown
//! and the trend, each on a sheet of its own.

use rust_xlsxwriter::{
    Chart, ChartLegendPosition, ChartSeries, ChartType, Format, Workbook, Worksheet, XlsxError,
};

use crate::{
    Figure, Report, ReportError,
    figure::FIGURES,
    parts::{TREND_COLUMNS, cut, trend_figures},
};

/// Characters of a cell; it can hold 32,767 units of UTF-16, of which a character takes up to two.
const CELL_MAX: usize = 16_000;
/// Characters of a chart's title.
const TITLE_MAX: usize = 100;

/// XLSX; numbers with all their digits, percent and rounding by their formats.
pub(crate) fn to_xlsx(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut workbook = Workbook::new();
    funnel(workbook.add_worksheet(), report)?;
    times(workbook.add_worksheet(), report)?;
    if !report.breakdown.is_empty() {
        breakdown(workbook.add_worksheet(), report)?;
    }
    if !report.trend.is_empty() {
        trend(workbook.add_worksheet(), report)?;
    }
    Ok(workbook.save_to_buffer()?)
}

fn funnel(sheet: &mut Worksheet, report: &Report) -> Result<(), XlsxError> {
    sheet.set_name("Funnel")?;
    sheet.write_with_format(0, 0, cell(&report.title), &bold())?;
    sheet.write(1, 0, cell(&report.period))?;
    sheet.write(2, 0, report.finding())?;
    let names = FIGURES.into_iter().map(|(name, _)| name);
    for (column, name) in (0_u16..).zip(["step", "name"].into_iter().chain(names)) {
        sheet.write_with_format(4, column, name, &bold())?;
        sheet.set_column_width(column, if column == 1 { 20 } else { 14 })?;
    }
    sheet.set_freeze_panes(5, 2)?;
    let mut line = 5;
    for row in &report.rows {
        sheet.write(line, 0, row.step as u64)?;
        sheet.write(line, 1, cell(&row.name))?;
        figures(sheet, line, 2, &row.figures())?;
        line += 1;
    }
    let mut chart = titled(ChartType::Column, &cut(&report.title, TITLE_MAX));
    series(&mut chart, "Funnel", (5, line - 1), (1, 2)).set_name("Buyers");
    chart.legend().set_hidden();
    sheet.insert_chart(line + 2, 0, &chart)?;
    Ok(())
}

fn times(sheet: &mut Worksheet, report: &Report) -> Result<(), XlsxError> {
    sheet.set_name("Time to convert")?;
    sheet.write_with_format(0, 0, "from_s", &bold())?;
    sheet.write_with_format(0, 1, "count", &bold())?;
    let mut line = 1;
    for bin in &report.histogram {
        sheet.write(line, 0, bin.from)?;
        sheet.write(line, 1, bin.count)?;
        line += 1;
    }
    if line > 1 {
        let mut chart = titled(ChartType::Column, "Time to convert");
        series(&mut chart, "Time to convert", (1, line - 1), (0, 1)).set_name("Buyers");
        chart.legend().set_hidden();
        sheet.insert_chart(1, 3, &chart)?;
    }
    Ok(())
}

/// All steps side by side: a sheet is as wide as it must be.
fn breakdown(sheet: &mut Worksheet, report: &Report) -> Result<(), XlsxError> {
    sheet.set_name("Breakdown")?;
    sheet.write(0, 0, report.breakdown_note())?;
    sheet.write(1, 0, "values_omitted")?;
    sheet.write(1, 1, report.breakdown_omitted)?;
    sheet.set_column_width(0, 30)?;
    let steps = report
        .rows
        .iter()
        .map(|row| format!("{}. {}", row.step, row.name));
    let names = std::iter::once("value".to_owned()).chain(steps);
    for (column, name) in (0_u16..).zip(names.chain(["conversion".to_owned()])) {
        sheet.write_with_format(3, column, cell(&name), &bold())?;
    }
    sheet.set_freeze_panes(4, 1)?;
    for (line, value) in (4_u32..).zip(&report.breakdown) {
        sheet.write(line, 0, cell(&value.value))?;
        let counts = value.rows.iter().map(|row| Figure::Count(row.count));
        let conversion = Figure::Fraction(value.conversion());
        let of_value: Vec<Figure> = counts.chain([conversion]).collect();
        figures(sheet, line, 1, &of_value)?;
    }
    Ok(())
}

fn trend(sheet: &mut Worksheet, report: &Report) -> Result<(), XlsxError> {
    sheet.set_name("Trend")?;
    let names = ["bucket", "entered", "converted", "conversion"];
    for (column, name) in (0_u16..).zip(names) {
        sheet.write_with_format(0, column, name, &bold())?;
    }
    sheet.set_column_width(0, 27)?;
    sheet.set_freeze_panes(1, 1)?;
    let mut line = 1;
    for point in &report.trend {
        sheet.write(line, 0, &point.bucket)?;
        figures(sheet, line, 1, &trend_figures(point))?;
        line += 1;
    }
    let mut chart = titled(ChartType::Line, "Trend");
    for (column, name) in (1_u16..).zip(TREND_COLUMNS).take(2) {
        series(&mut chart, "Trend", (1, line - 1), (0, column)).set_name(name);
    }
    chart.legend().set_position(ChartLegendPosition::Bottom);
    sheet.insert_chart(1, 5, &chart)?;
    Ok(())
}

fn figures(
    sheet: &mut Worksheet,
    line: u32,
    first: u16,
    figures: &[Figure],
) -> Result<(), XlsxError> {
    for (column, figure) in (first..).zip(figures) {
        let (value, format) = match *figure {
            Figure::Count(count) => {
                sheet.write(line, column, count)?;
                continue;
            }
            Figure::Fraction(value) => (value, "0.0%"),
            Figure::Seconds(value) => (value, "0.000"),
            Figure::Milliseconds(value) => (value, "0.0"),
        };
        if let Some(value) = value {
            let format = Format::new().set_num_format(format);
            sheet.write_with_format(line, column, value, &format)?;
        }
    }
    Ok(())
}

fn titled(kind: ChartType, title: &str) -> Chart {
    let mut chart = Chart::new(kind);
    chart.title().set_name(title);
    chart
}

/// Categories and values from two columns of a sheet.
fn series<'a>(
    chart: &'a mut Chart,
    sheet: &str,
    rows: (u32, u32),
    columns: (u16, u16),
) -> &'a mut ChartSeries {
    chart
        .add_series()
        .set_categories((sheet, rows.0, columns.0, rows.1, columns.0))
        .set_values((sheet, rows.0, columns.1, rows.1, columns.1))
        .set_gap(40)
}

/// What fits into a cell.
fn cell(text: &str) -> String {
    cut(text, CELL_MAX)
}

fn bold() -> Format {
    Format::new().set_bold()
}

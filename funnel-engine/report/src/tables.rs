//! The report as tables: CSV and Parquet with every digit, XLSX with a native chart.

use funnel_frames::Column;
use rust_xlsxwriter::{Chart, ChartType, Format, Workbook};

use crate::{Figure, Report, ReportError, document::FIGURES};

/// CSV, one line per step; fractions in full, absent values empty.
pub(crate) fn to_csv(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(columns())?;
    for row in &report.rows {
        let figures = row.figures().map(Figure::in_full);
        let fields = [row.step.to_string(), row.name.clone()];
        out.write_record(fields.iter().chain(&figures))?;
    }
    out.into_inner().map_err(|error| {
        ReportError::Csv(csv::Error::from(std::io::Error::other(error.to_string())))
    })
}

/// Parquet, one row per step, columns as in CSV.
pub(crate) fn to_parquet(report: &Report) -> Result<Vec<u8>, ReportError> {
    let steps = report.rows.iter().map(|row| row.step as u64);
    let names = report.rows.iter().map(|row| row.name.clone());
    let mut table = vec![
        Column::Count("step", steps.collect()),
        Column::Text("name", names.collect()),
    ];
    for (index, (name, _)) in FIGURES.into_iter().enumerate() {
        let figures: Vec<Figure> = report
            .rows
            .iter()
            .filter_map(|row| row.figures().get(index).copied())
            .collect();
        let counts: Vec<u64> = figures
            .iter()
            .filter_map(|figure| match figure {
                Figure::Count(count) => Some(*count),
                Figure::Fraction(_) | Figure::Seconds(_) | Figure::Milliseconds(_) => None,
            })
            .collect();
        let is_count = counts.len() == figures.len();
        let number = |figure: Figure| match figure {
            Figure::Count(_) => None,
            Figure::Fraction(value) | Figure::Seconds(value) | Figure::Milliseconds(value) => value,
        };
        table.push(if is_count {
            Column::Count(name, counts)
        } else {
            Column::Number(name, figures.into_iter().map(number).collect())
        });
    }
    Ok(funnel_frames::to_parquet(table)?)
}

/// XLSX: the table on the first sheet, a native bar chart beside it, times to convert on the second.
pub(crate) fn to_xlsx(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut workbook = Workbook::new();
    let bold = Format::new().set_bold();
    let sheet = workbook.add_worksheet();
    sheet.set_name("Funnel")?;
    sheet.write_with_format(0, 0, &report.title, &bold)?;
    sheet.write(1, 0, &report.period)?;
    sheet.write(2, 0, report.finding())?;
    for (column, name) in (0_u16..).zip(columns()) {
        sheet.write_with_format(4, column, name, &bold)?;
        sheet.set_column_width(column, if column == 1 { 20 } else { 14 })?;
    }
    sheet.set_freeze_panes(5, 2)?;
    let mut line = 5;
    for row in &report.rows {
        sheet.write(line, 0, row.step as u64)?;
        sheet.write(line, 1, &row.name)?;
        for (column, figure) in (2_u16..).zip(row.figures()) {
            let (value, format) = match figure {
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
        line += 1;
    }
    let last = line.saturating_sub(1);
    sheet.insert_chart(
        line + 2,
        0,
        &column_chart(&report.title, "Funnel", (5, last), (1, 2)),
    )?;
    let times = workbook.add_worksheet();
    times.set_name("Time to convert")?;
    times.write_with_format(0, 0, "from_s", &bold)?;
    times.write_with_format(0, 1, "count", &bold)?;
    let mut line = 1;
    for bin in &report.histogram {
        times.write(line, 0, bin.from)?;
        times.write(line, 1, bin.count)?;
        line += 1;
    }
    if line > 1 {
        let chart = column_chart("Time to convert", "Time to convert", (1, line - 1), (0, 1));
        times.insert_chart(1, 3, &chart)?;
    }
    Ok(workbook.save_to_buffer()?)
}

fn column_chart(title: &str, sheet: &str, rows: (u32, u32), columns: (u16, u16)) -> Chart {
    let mut chart = Chart::new(ChartType::Column);
    chart
        .add_series()
        .set_name("Buyers")
        .set_categories((sheet, rows.0, columns.0, rows.1, columns.0))
        .set_values((sheet, rows.0, columns.1, rows.1, columns.1))
        .set_gap(40);
    chart.title().set_name(title);
    chart.legend().set_hidden();
    chart
}

fn columns() -> impl Iterator<Item = &'static str> {
    let figures = FIGURES.into_iter().map(|(name, _)| name);
    ["step", "name"].into_iter().chain(figures)
}

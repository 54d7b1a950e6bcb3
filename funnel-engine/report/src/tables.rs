//! The report as one long table, for programs: CSV and Parquet with every digit.
//!
//! The first rows are the steps, with the columns that have always been there. Rows of the breakdown repeat those
//! columns per value, rows of the trend have columns of their own; `section` tells them apart. The columns are the same
//! for every report, also where they stay empty.

use funnel_engine::TrendPoint;
use funnel_frames::Column;

use crate::{
    Figure, Report, ReportError, Row,
    figure::FIGURES,
    parts::{ValueRow, trend_figures},
};

/// What a row is about.
enum Line<'a> {
    Step(&'a Row),
    Value(&'a ValueRow, &'a Row),
    Bucket(&'a TrendPoint),
}

/// What stands in a column.
enum Cell {
    Text(Option<String>),
    Figure(Option<Figure>),
}

const TREND: [&str; 3] = ["entered", "converted", "conversion"];

impl Line<'_> {
    fn step(&self) -> Option<&Row> {
        match self {
            Self::Step(row) | Self::Value(_, row) => Some(row),
            Self::Bucket(_) => None,
        }
    }

    /// In the order of [`columns`].
    fn cells(&self, report: &Report) -> Vec<Cell> {
        let (section, value, bucket) = match self {
            Self::Step(_) => ("steps", None, None),
            Self::Value(value, _) => ("breakdown", Some(value.value.clone()), None),
            Self::Bucket(point) => ("trend", None, Some(point)),
        };
        let step = self.step();
        let number = step.map(|row| Figure::Count(row.step as u64));
        let mut cells = vec![
            Cell::Figure(number),
            Cell::Text(step.map(|row| row.name.clone())),
        ];
        let figures = step.map(Row::figures);
        cells.extend((0..FIGURES.len()).map(|index| {
            let figure = figures.and_then(|figures| figures.get(index).copied());
            Cell::Figure(figure)
        }));
        let omitted = value
            .is_some()
            .then_some(Figure::Count(report.breakdown_omitted));
        cells.extend([
            Cell::Text(Some(section.to_owned())),
            Cell::Text(value),
            Cell::Figure(omitted),
            Cell::Text(bucket.map(|point| point.bucket.clone())),
        ]);
        let figures = bucket.map(|point| trend_figures(point));
        cells.extend((0..TREND.len()).map(|index| {
            let figure = figures.and_then(|figures| figures.get(index).copied());
            Cell::Figure(figure)
        }));
        cells
    }
}

fn lines(report: &Report) -> impl Iterator<Item = Line<'_>> {
    let values = report.breakdown.iter();
    let values = values.flat_map(|value| value.rows.iter().map(|row| Line::Value(value, row)));
    let steps = report.rows.iter().map(Line::Step);
    steps
        .chain(values)
        .chain(report.trend.iter().map(Line::Bucket))
}

/// What stands in a column in every row.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Count,
    Number,
}

fn columns() -> impl Iterator<Item = (&'static str, Kind)> {
    let figures = FIGURES.into_iter().map(|(name, _)| {
        let is_count = matches!(name, "count" | "drop_off" | "errors");
        (name, if is_count { Kind::Count } else { Kind::Number })
    });
    let [entered, converted, conversion] = TREND;
    [("step", Kind::Count), ("name", Kind::Text)]
        .into_iter()
        .chain(figures)
        .chain([
            ("section", Kind::Text),
            ("value", Kind::Text),
            ("values_omitted", Kind::Count),
            ("bucket", Kind::Text),
            (entered, Kind::Count),
            (converted, Kind::Count),
            (conversion, Kind::Number),
        ])
}

/// CSV; fractions in full, absent values empty.
pub(crate) fn to_csv(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(columns().map(|(name, _)| name))?;
    for line in lines(report) {
        let cells = line.cells(report).into_iter();
        out.write_record(cells.map(|cell| match cell {
            Cell::Text(text) => text.unwrap_or_default(),
            Cell::Figure(figure) => figure.map_or_else(String::new, Figure::in_full),
        }))?;
    }
    out.into_inner().map_err(|error| {
        ReportError::Csv(csv::Error::from(std::io::Error::other(error.to_string())))
    })
}

/// Parquet; the same rows and columns.
pub(crate) fn to_parquet(report: &Report) -> Result<Vec<u8>, ReportError> {
    let mut table: Vec<Column> = columns()
        .map(|(name, kind)| match kind {
            Kind::Text => Column::Text(name, Vec::new()),
            Kind::Count => Column::Count(name, Vec::new()),
            Kind::Number => Column::Number(name, Vec::new()),
        })
        .collect();
    for line in lines(report) {
        for (column, cell) in table.iter_mut().zip(line.cells(report)) {
            push(column, cell);
        }
    }
    Ok(funnel_frames::to_parquet(table)?)
}

fn push(column: &mut Column, cell: Cell) {
    let figure = match cell {
        Cell::Text(text) => {
            if let Column::Text(_, values) = column {
                values.push(text);
            }
            return;
        }
        Cell::Figure(figure) => figure,
    };
    match column {
        Column::Text(..) => {}
        Column::Count(_, values) => values.push(figure.and_then(Figure::count)),
        Column::Number(_, values) => values.push(figure.and_then(Figure::number)),
    }
}

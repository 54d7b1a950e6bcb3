//! A small table as Parquet, for spreadsheets of the larger kind.

use polars::prelude::{Column as Series, DataFrame, ParquetWriter, PlSmallStr};

use crate::ParquetError;

/// A column: a name, and per row a value, which may be absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Text.
    Text(&'static str, Vec<Option<String>>),
    /// Counts.
    Count(&'static str, Vec<Option<u64>>),
    /// Numbers.
    Number(&'static str, Vec<Option<f64>>),
}

/// The table as the bytes of a Parquet file, with all digits.
///
/// # Errors
/// When the columns differ in length.
pub fn to_parquet(columns: Vec<Column>) -> Result<Vec<u8>, ParquetError> {
    let height = columns.first().map_or(0, Column::len);
    let series = columns.into_iter().map(Column::into_series).collect();
    let mut frame = DataFrame::new(height, series)?;
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame)?;
    Ok(bytes)
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Text(_, values) => values.len(),
            Self::Count(_, values) => values.len(),
            Self::Number(_, values) => values.len(),
        }
    }

    fn into_series(self) -> Series {
        let name = PlSmallStr::from_static;
        match self {
            Self::Text(title, values) => Series::new(name(title), values),
            Self::Count(title, values) => Series::new(name(title), values),
            Self::Number(title, values) => Series::new(name(title), values),
        }
    }
}

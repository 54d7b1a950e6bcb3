//! Events of a Parquet file.
//!
//! Columns `user`, `ts`, `event` and optionally `session` and `tenant`; all others are properties. `ts` is a
//! timestamp, RFC 3339 text, or integer milliseconds. A column `properties` of JSON text is opened.

use std::{collections::BTreeMap, fs::File, path::Path};

use funnel_engine::{Event, EventParts, EventTime};
use polars::prelude::{
    AnyValue, Column as Series, DataFrame, DataType, ParquetReader, PolarsError, SerReader as _,
    TimeUnit,
};
use serde_json::Value;

/// A Parquet file that holds no events.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The file cannot be opened.
    #[error("cannot open it")]
    Io(#[from] std::io::Error),
    /// It is no Parquet, or a damaged one.
    #[error("it is no readable Parquet file, or a part of one")]
    Parquet(#[from] PolarsError),
    /// A column that every event file has is not there.
    #[error("it has no column `{0}`; event files have `user`, `ts` and `event`")]
    NoColumn(&'static str),
    /// A column of a type that holds no such thing.
    #[error("column `{column}` is of type {kind}: write {expected}")]
    Kind {
        /// Which.
        column: String,
        /// Its type.
        kind: String,
        /// What to write instead.
        expected: &'static str,
    },
    /// A row that is no event.
    #[error("row {row}: {message}")]
    Row {
        /// Counted from 1.
        row: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads all events of a file.
///
/// # Errors
/// See [`ParquetError`].
pub fn read_parquet(path: &Path) -> Result<Vec<Event>, ParquetError> {
    parquet_events(path)?.collect()
}

/// The events of a file, one by one; how many there are is known from the start. The file's columns are in memory.
///
/// # Errors
/// A file that cannot be read or lacks a column; rows that are no events come as errors of the iterator.
pub fn parquet_events(
    path: &Path,
) -> Result<impl ExactSizeIterator<Item = Result<Event, ParquetError>>, ParquetError> {
    let frame = ParquetReader::new(File::open(path)?).finish()?;
    for required in ["user", "ts", "event"] {
        if frame.column(required).is_err() {
            return Err(ParquetError::NoColumn(required));
        }
    }
    for column in frame.columns() {
        fits(column)?;
    }
    Ok((0..frame.height()).map(move |row| event(&frame, row)))
}

/// Whether a column's type says what its name promises; what does not would be shown as something else.
fn fits(column: &Series) -> Result<(), ParquetError> {
    let kind = column.dtype();
    let is_text = matches!(kind, DataType::String | DataType::Null);
    let (is_right, expected) = match column.name().as_str() {
        "ts" => (
            is_text || kind.is_integer() || matches!(kind, DataType::Datetime(..)),
            "a timestamp, RFC 3339 text or integer milliseconds",
        ),
        "user" | "session" | "tenant" => (is_text || kind.is_integer(), "text or integers"),
        "event" | "properties" => (is_text, "text"),
        _ => (
            !kind.is_nested() && !matches!(kind, DataType::Binary),
            "text, numbers or booleans, or JSON text in a column `properties`",
        ),
    };
    if is_right {
        return Ok(());
    }
    Err(ParquetError::Kind {
        column: column.name().to_string(),
        kind: kind.to_string(),
        expected,
    })
}

fn event(frame: &DataFrame, row: usize) -> Result<Event, ParquetError> {
    let bad = |message: String| ParquetError::Row {
        row: row + 1,
        message,
    };
    let mut parts = EventParts::default();
    for column in frame.columns() {
        let value = column.get(row)?;
        match column.name().as_str() {
            "ts" => parts.time = time(&value),
            "user" => parts.user = text(&value),
            "event" => parts.event = text(&value),
            "session" => parts.session = text(&value),
            "tenant" => parts.tenant = text(&value),
            "properties" => open_properties(column, &value, &mut parts).map_err(bad)?,
            name => {
                let value = json(&value);
                if !value.is_null() {
                    parts.properties.insert(name.to_owned(), value);
                }
            }
        }
    }
    parts.into_event().map_err(bad)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "polars adds types; one that is not named here is handled by the last arm"
)]
fn time(value: &AnyValue<'_>) -> Option<EventTime> {
    match value {
        AnyValue::Datetime(at, unit, _) => {
            let factor = match unit {
                TimeUnit::Nanoseconds => 1,
                TimeUnit::Microseconds => 1_000,
                TimeUnit::Milliseconds => 1_000_000,
            };
            at.checked_mul(factor).map(EventTime::Nanoseconds)
        }
        AnyValue::String(_) | AnyValue::StringOwned(_) => text(value).map(EventTime::Text),
        // Floats would be rounded silently; a file that holds them is told so.
        _ if value.is_integer() => value.extract::<i64>().map(EventTime::Milliseconds),
        _ => None,
    }
}

fn open_properties(
    column: &Series,
    value: &AnyValue<'_>,
    parts: &mut EventParts,
) -> Result<(), String> {
    let Some(json) = text(value) else {
        return Ok(());
    };
    let opened: BTreeMap<String, Value> = serde_json::from_str(&json)
        .map_err(|error| format!("`{}` is no JSON object: {error}", column.name()))?;
    parts.properties.extend(opened);
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "polars adds types; one that is not named here is handled by the last arm"
)]
fn text(value: &AnyValue<'_>) -> Option<String> {
    match value {
        AnyValue::Null => None,
        _ => value
            .get_str()
            .map_or_else(|| Some(value.to_string()), |text| Some(text.to_owned())),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "polars adds types; one that is not named here is handled by the last arm"
)]
fn json(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(flag) => (*flag).into(),
        _ if value.is_integer() => value.extract::<i64>().map_or(Value::Null, Value::from),
        _ if value.is_float() => value.extract::<f64>().map_or(Value::Null, Value::from),
        _ => text(value).map_or(Value::Null, Value::String),
    }
}

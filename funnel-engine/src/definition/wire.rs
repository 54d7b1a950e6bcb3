//! The definition as its JSON has it: defaults that depend on other parts are not resolved yet. Errors of reading
//! carry the JSON path.

use serde::{Deserialize, Serialize};

use super::{
    Breakdown, Count, DefinitionError, Exclusion, FunnelDefinition, Mode, Order, Step, TimeRange,
    trend::WrittenTrend,
};
use crate::{
    duration::Span,
    predicate::Condition,
    written::{object, shortened},
};

/// Longest text, bytes.
const BYTES_MAX: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub(super) struct Written {
    name: String,
    #[serde(default, skip_serializing_if = "is_default")]
    order: Order,
    window: Span,
    #[serde(default, skip_serializing_if = "is_default")]
    count: Count,
    steps: Vec<Step>,
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclusions: Vec<Exclusion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    modes: Vec<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    breakdown: Option<Breakdown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trend: Option<WrittenTrend>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_range: Option<TimeRange>,
}

object!(
    Written,
    "a funnel definition: an object with `name`, `window` and `steps`"
);

/// Whether a part says what its absence says.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a definition without checking what it says.
pub(super) fn read(json: &str) -> Result<FunnelDefinition, DefinitionError> {
    if json.len() > BYTES_MAX {
        return Err(DefinitionError::at(
            "$",
            format!("a definition has at most {} MiB", BYTES_MAX >> 20),
        ));
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let written: Written = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| located(&error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| located(".", &error))?;
    Ok(written.into())
}

/// The error with its path; where the JSON itself is broken, that of the part it is broken in.
fn located(path: &str, error: &serde_json::Error) -> DefinitionError {
    let text = error.to_string();
    // `.` is the root, `?` a key that could not be read.
    let path = match path {
        "." | "?" => "",
        path => path.strip_suffix(".?").unwrap_or(path),
    };
    // These two say which key is meant, and come with the path of the object around it.
    let about_key = [
        ("missing field `", "is missing"),
        ("duplicate field `", "is there twice"),
    ];
    let about_key = about_key.iter().find_map(|(start, says)| {
        let (key, place) = text.strip_prefix(start)?.split_once('`')?;
        Some((key, format!("{says}{place}")))
    });
    let (path, text) = match about_key {
        Some((key, text)) if path.is_empty() => (key.to_owned(), text),
        Some((key, text)) => (format!("{path}.{key}"), text),
        None if path.is_empty() => ("$".to_owned(), text),
        None => (path.to_owned(), text),
    };
    DefinitionError::at(shortened(path), shortened(text))
}

impl From<Written> for FunnelDefinition {
    fn from(written: Written) -> Self {
        let steps = written.steps.len();
        Self {
            name: written.name,
            order: written.order,
            window: written.window,
            count: written.count,
            steps: written.steps,
            conditions: written.conditions,
            exclusions: written.exclusions,
            modes: written.modes,
            breakdown: written.breakdown,
            trend: written.trend.map(|trend| trend.over(steps)),
            time_range: written.time_range,
        }
    }
}

impl From<FunnelDefinition> for Written {
    fn from(definition: FunnelDefinition) -> Self {
        let steps = definition.steps.len();
        Self {
            name: definition.name,
            order: definition.order,
            window: definition.window,
            count: definition.count,
            steps: definition.steps,
            conditions: definition.conditions,
            exclusions: definition.exclusions,
            modes: definition.modes,
            breakdown: definition.breakdown,
            trend: definition.trend.map(|trend| WrittenTrend::of(trend, steps)),
            time_range: definition.time_range,
        }
    }
}

//! The funnel definition: the JSON contract, parsed and checked once, and trusted from then on.
//!
//! Owns the format and its limits. Refuses every part that means nothing, by its JSON path; nothing is ignored and
//! nothing guessed. Whether a backend can answer a valid definition is the backend's affair.

mod conditions;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod mistakes;
mod orders;
mod parts;
mod step;
#[cfg(test)]
mod tests;
mod trend;
mod validate;
mod views;
mod wire;

use serde::{Serialize, Serializer};

pub use parts::{Attribution, Breakdown, Count, Exclusion, Mode, Order, TimeRange};
pub use step::{HttpMatch, Occurrence, StatusMatch, Step, StepEvent};
pub use trend::{Interval, Trend, WeekStart};

use crate::{duration::Span, predicate::Condition};

/// A definition that is not one. The text names the JSON path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DefinitionError {
    /// Where, for instance `steps[1].within`; `$` is the whole text.
    pub path: String,
    /// What is wrong and what to write.
    pub message: String,
}

impl DefinitionError {
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// A funnel. One that came out of [`FunnelDefinition::parse`] is valid; one changed afterwards is to be checked
/// with [`FunnelDefinition::validate`].
#[derive(Clone, Debug, PartialEq)]
pub struct FunnelDefinition {
    /// Shown to people; at most 200 characters.
    pub name: String,
    /// How strictly the steps follow one another.
    pub order: Order,
    /// Conversion window, inclusive, from the first step; 1 ms to 10 years.
    pub window: Span,
    /// What is counted.
    pub count: Count,
    /// 2 to 64; the first is not optional.
    pub steps: Vec<Step>,
    /// Conditions on every event; JSON `where`.
    pub conditions: Vec<Condition>,
    /// Events that taint an attempt; at most 64.
    pub exclusions: Vec<Exclusion>,
    /// Modes of `clickhouse` order.
    pub modes: Vec<Mode>,
    /// Split by properties.
    pub breakdown: Option<Breakdown>,
    /// Conversion over time.
    pub trend: Option<Trend>,
    /// Only events in here.
    pub time_range: Option<TimeRange>,
}

impl FunnelDefinition {
    /// Parses and checks a definition.
    ///
    /// # Errors
    /// The JSON path and what is wrong there.
    pub fn parse(json: &str) -> Result<Self, DefinitionError> {
        let definition = wire::read(json)?;
        definition.validate()?;
        Ok(definition)
    }

    /// Checks a definition that was not parsed.
    ///
    /// # Errors
    /// The JSON path of the first part that means nothing, and what is wrong there.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        validate::definition(self)
    }
}

impl Serialize for FunnelDefinition {
    /// Parts that are absent, or what absence means, are not written.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::Written::from(self.clone()).serialize(serializer)
    }
}

//! The funnel definition: the JSON contract, parsed once and trusted from then on.

use serde::{Deserialize, Serialize};

use crate::{duration::Span, predicate::Condition};

/// Event names of one step.
const EVENTS_MAX: usize = 100;

/// A definition that is not one. The text names the JSON path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DefinitionError {
    /// Where, for instance `steps[1].within`.
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

/// Names of the orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Other events may lie between.
    #[default]
    Ordered,
    /// Nothing may lie between.
    Strict,
    /// Any order inside one window.
    Unordered,
    /// Exactly `windowFunnel`.
    Clickhouse,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Each user once.
    #[default]
    Users,
    /// Each session once.
    Sessions,
    /// Every conversion.
    Totals,
}

/// Which events can fill a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepEvent {
    /// This name; `*` is any.
    One(String),
    /// One of these.
    Many(Vec<String>),
}

impl StepEvent {
    /// Whether an event of this name can fill the step.
    pub fn accepts(&self, name: &str) -> bool {
        match self {
            Self::One(wanted) => wanted == "*" || wanted == name,
            Self::Many(wanted) => wanted.iter().any(|wanted| wanted == name),
        }
    }

    /// The names; `None` for any event.
    pub fn names(&self) -> Option<Vec<&str>> {
        match self {
            Self::One(name) if name == "*" => None,
            Self::One(name) => Some(vec![name]),
            Self::Many(names) => Some(names.iter().map(String::as_str).collect()),
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Shown to people.
    pub name: String,
    /// What fills it.
    pub event: StepEvent,
    /// Conditions, all of which must hold.
    #[serde(default, rename = "where")]
    pub conditions: Vec<Condition>,
    /// May be skipped.
    #[serde(default)]
    pub optional: bool,
    /// At most this long after the previous step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// At least this long after the previous step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Span>,
    /// Which of the user's events may fill it; only `any` is answered so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<String>,
}

/// `[from, to)`, RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    /// First instant.
    pub from: jiff::Timestamp,
    /// First instant after.
    pub to: jiff::Timestamp,
}

/// A funnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunnelDefinition {
    /// Shown to people.
    pub name: String,
    /// How strictly the steps follow one another.
    #[serde(default)]
    pub order: Order,
    /// Conversion window, inclusive, from the first step.
    pub window: Span,
    /// What is counted.
    #[serde(default)]
    pub count: Count,
    /// At least two.
    pub steps: Vec<Step>,
    /// Conditions on every event.
    #[serde(default, rename = "where")]
    pub conditions: Vec<Condition>,
    /// Events that taint an attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<Exclusion>,
    /// Modes of `clickhouse` order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<String>,
    /// Split by properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<serde_json::Value>,
    /// Conversion over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trend: Option<serde_json::Value>,
    /// Only events in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_range: Option<TimeRange>,
}

/// An event that must not happen between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// What must not happen.
    pub event: StepEvent,
    /// Conditions on it.
    #[serde(default, rename = "where")]
    pub conditions: Vec<Condition>,
    /// From this step, counted from 1.
    pub from_step: usize,
    /// Until that one is reached.
    pub to_step: usize,
}

impl FunnelDefinition {
    /// Parses and checks a definition.
    ///
    /// # Errors
    /// The JSON path and what is wrong there.
    pub fn parse(json: &str) -> Result<Self, DefinitionError> {
        let definition: Self = serde_json::from_str(json).map_err(|error| {
            DefinitionError::at(
                format!("line {} column {}", error.line(), error.column()),
                error.to_string(),
            )
        })?;
        definition.validate()?;
        Ok(definition)
    }

    fn validate(&self) -> Result<(), DefinitionError> {
        let steps = self.steps.len();
        if !(2..=64).contains(&steps) {
            return Err(DefinitionError::at(
                "steps",
                format!("a funnel has 2 to 64 steps, this one has {steps}"),
            ));
        }
        if self
            .steps
            .first()
            .is_some_and(|step| step.within.is_some() || step.not_before.is_some())
        {
            return Err(DefinitionError::at(
                "steps[0]",
                "`within` and `not_before` measure from the previous step, and there is none",
            ));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let names = step.event.names().map_or(1, |names| names.len());
            if !(1..=EVENTS_MAX).contains(&names) {
                return Err(DefinitionError::at(
                    format!("steps[{index}].event"),
                    format!("a step has 1 to {EVENTS_MAX} event names, this one has {names}"),
                ));
            }
        }
        for (index, exclusion) in self.exclusions.iter().enumerate() {
            if exclusion.from_step < 1
                || exclusion.from_step >= exclusion.to_step
                || exclusion.to_step > steps
            {
                return Err(DefinitionError::at(
                    format!("exclusions[{index}]"),
                    format!("needs 1 <= from_step < to_step <= {steps}"),
                ));
            }
        }
        if let Some(range) = &self.time_range
            && range.from >= range.to
        {
            return Err(DefinitionError::at(
                "time_range",
                "`from` must lie before `to`",
            ));
        }
        Ok(())
    }

    /// The parts that the contract knows and no backend answers yet, by JSON path.
    ///
    /// # Errors
    /// The first such part.
    pub fn require_supported(&self) -> Result<(), DefinitionError> {
        let later = |path: &str| {
            Err(DefinitionError::at(
                path,
                "is part of the format, but no backend answers it yet",
            ))
        };
        if self.order != Order::Ordered {
            return later("order");
        }
        if self.count != Count::Users {
            return later("count");
        }
        for (index, step) in self.steps.iter().enumerate() {
            if step.optional {
                return later(&format!("steps[{index}].optional"));
            }
            if step
                .occurrence
                .as_deref()
                .is_some_and(|occurrence| occurrence != "any")
            {
                return later(&format!("steps[{index}].occurrence"));
            }
        }
        match (self.exclusions.is_empty(), &self.breakdown, &self.trend) {
            (false, _, _) => later("exclusions"),
            (_, Some(_), _) => later("breakdown"),
            (_, _, Some(_)) => later("trend"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"name":"checkout","window":"14d","steps":[{"name":"A","event":"a"},{"name":"B","event":["b","c"],"within":"30m"}]}"#;

    #[test]
    fn a_definition_survives_reading_and_writing() {
        let definition = FunnelDefinition::parse(GOOD).unwrap();
        let again = FunnelDefinition::parse(&serde_json::to_string(&definition).unwrap()).unwrap();
        assert_eq!(definition, again);
        definition.require_supported().unwrap();
    }

    #[test]
    fn mistakes_are_named_by_their_place() {
        let cases = [
            (GOOD.replace("\"within\"", "\"withn\""), "withn"),
            (GOOD.replace("\"14d\"", "\"14w\""), "14w"),
            (
                r#"{"name":"x","window":"1d","steps":[{"name":"A","event":"a"}]}"#.to_owned(),
                "steps: a funnel has 2 to 64",
            ),
            (
                GOOD.replace("[\"b\",\"c\"]", "[]"),
                "steps[1].event: a step has 1 to 100",
            ),
            (
                GOOD.replace(
                    "}]}",
                    "}],\"exclusions\":[{\"event\":\"x\",\"from_step\":2,\"to_step\":2}]}",
                ),
                "exclusions[0]",
            ),
        ];
        for (json, expected) in cases {
            let error = FunnelDefinition::parse(&json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} should name {expected}");
        }
    }

    #[test]
    fn what_is_not_answered_yet_is_refused_not_approximated() {
        let json = GOOD.replace("\"14d\"", "\"14d\",\"order\":\"strict\"");
        let error = FunnelDefinition::parse(&json)
            .unwrap()
            .require_supported()
            .unwrap_err();
        assert_eq!(error.path, "order");
    }
}

//! Conditions on an event's properties. A null or missing property makes every condition but `is_not_set` false.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Event;

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it; the contract lists them")]
pub enum Op {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    NotIn,
    Contains,
    NotContains,
    IsSet,
    IsNotSet,
}

/// `property op value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which property.
    pub property: String,
    /// How it is compared.
    pub op: Op,
    /// With what; a list for `in` and `not_in`, absent for `is_set` and `is_not_set`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

impl Condition {
    /// Whether it holds for an event.
    pub fn holds(&self, event: &Event) -> bool {
        let Some(actual) = event
            .properties
            .get(&self.property)
            .filter(|value| !value.is_null())
        else {
            return self.op == Op::IsNotSet;
        };
        match self.op {
            Op::IsSet => true,
            Op::IsNotSet => false,
            Op::Eq => text(actual) == text(&self.value),
            Op::Ne => text(actual) != text(&self.value),
            Op::In => self.listed(actual),
            Op::NotIn => !self.listed(actual),
            Op::Contains => contains(actual, &self.value),
            Op::NotContains => !contains(actual, &self.value),
            Op::Gt => self.compares(actual, |actual, wanted| actual > wanted),
            Op::Gte => self.compares(actual, |actual, wanted| actual >= wanted),
            Op::Lt => self.compares(actual, |actual, wanted| actual < wanted),
            Op::Lte => self.compares(actual, |actual, wanted| actual <= wanted),
        }
    }

    fn listed(&self, actual: &Value) -> bool {
        self.value
            .as_array()
            .is_some_and(|list| list.iter().any(|item| text(item) == text(actual)))
    }

    fn compares(&self, actual: &Value, holds: impl Fn(f64, f64) -> bool) -> bool {
        let (Some(actual), Some(wanted)) = (number(actual), number(&self.value)) else {
            return false;
        };
        holds(actual, wanted)
    }
}

fn contains(actual: &Value, part: &Value) -> bool {
    text(actual)
        .to_lowercase()
        .contains(&text(part).to_lowercase())
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

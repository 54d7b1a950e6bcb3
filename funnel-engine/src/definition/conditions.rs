//! Whether conditions make sense: each operator with the value it needs.

use serde_json::Value;

use super::{
    DefinitionError,
    validate::{Checked, refuse},
};
use crate::{
    pattern,
    predicate::{Condition, Op, json_number, text_of},
};

/// Conditions of one list.
const CONDITIONS_MAX: usize = 100;
/// Values of one `in` or `not_in`.
const VALUES_MAX: usize = 10_000;

/// Regular expressions of one definition: compiling the worst of them takes ten milliseconds.
const PATTERNS_MAX: usize = 100;

/// Checks the lists of one definition.
#[derive(Default)]
pub(super) struct Checker {
    patterns: usize,
}

impl Checker {
    /// Checks a list of conditions at a path such as `steps[1].where`.
    pub(super) fn check(&mut self, path: &str, conditions: &[Condition]) -> Checked {
        if conditions.len() > CONDITIONS_MAX {
            return refuse(
                path,
                format!(
                    "a list has at most {CONDITIONS_MAX} conditions, this one has {}",
                    conditions.len()
                ),
            );
        }
        for (index, condition) in conditions.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if condition.property.is_empty() {
                return refuse(
                    format!("{path}.property"),
                    "must not be empty: write the property's name",
                );
            }
            self.patterns += usize::from(condition.op == Op::Matches);
            if self.patterns > PATTERNS_MAX {
                return refuse(
                    format!("{path}.op"),
                    format!(
                        "a funnel has at most {PATTERNS_MAX} regular expressions: write `in` or `contains`"
                    ),
                );
            }
            let value = check_value(condition.op, &condition.value);
            value.map_err(|(place, message)| {
                DefinitionError::at(format!("{path}.value{place}"), message)
            })?;
        }
        Ok(())
    }
}

/// Where inside the value, and what to write.
type Mistake = (String, String);

fn check_value(op: Op, value: &Value) -> Result<(), Mistake> {
    let name = op.as_str();
    let at_value = |message: String| Err((String::new(), message));
    match op {
        Op::IsSet | Op::IsNotSet if value.is_null() => Ok(()),
        Op::IsSet | Op::IsNotSet => at_value(format!("`{name}` takes no value: leave it out")),
        Op::In | Op::NotIn => check_list(name, value),
        Op::Gt | Op::Gte | Op::Lt | Op::Lte => {
            let number = text_of(value).and_then(|text| json_number(&text));
            match number {
                Some(_) => Ok(()),
                None => at_value(format!(
                    "`{name}` compares numbers: write one, such as 100 or 2.5"
                )),
            }
        }
        Op::Matches => match value {
            Value::String(text) => pattern::compile(text)
                .map(drop)
                .map_err(|message| (String::new(), message)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => at_value(format!(
                "`{name}` needs a regular expression as text, such as \"^/p/[0-9]+$\""
            )),
        },
        Op::Eq | Op::Ne | Op::Contains | Op::NotContains if is_scalar(value) => Ok(()),
        Op::Eq | Op::Ne | Op::Contains | Op::NotContains => at_value(format!(
            "`{name}` needs one value: write text, a number, true or false"
        )),
    }
}

fn check_list(name: &str, value: &Value) -> Result<(), Mistake> {
    let list = value
        .as_array()
        .filter(|list| !list.is_empty())
        .ok_or_else(|| {
            let message =
                format!("`{name}` needs a list of at least one value, such as [\"a\", \"b\"]");
            (String::new(), message)
        })?;
    if list.len() > VALUES_MAX {
        let message = format!(
            "`{name}` takes at most {VALUES_MAX} values, this list has {}",
            list.len()
        );
        return Err((String::new(), message));
    }
    match list.iter().position(|item| !is_scalar(item)) {
        None => Ok(()),
        Some(index) => Err((
            format!("[{index}]"),
            "is no single value: write text, a number, true or false".to_owned(),
        )),
    }
}

const fn is_scalar(value: &Value) -> bool {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

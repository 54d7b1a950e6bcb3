//! Conditions on an event's properties, compared as texts.
//!
//! Owns what a comparison means. A property that is not set (missing or null) makes every condition but
//! `is_not_set` false. Whether a condition makes sense is checked where a definition is read; one that does not
//! (a list for `eq`, a broken regular expression) never holds.

use std::{borrow::Cow, collections::HashSet};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    event::Event,
    pattern,
    written::{named, object},
};

named! {
    /// Comparison operators.
    pub enum Op {
        /// The same text.
        Eq = "eq",
        /// Another text.
        Ne = "ne",
        /// A greater number.
        Gt = "gt",
        /// A number at least as great.
        Gte = "gte",
        /// A smaller number.
        Lt = "lt",
        /// A number at most as great.
        Lte = "lte",
        /// One of these texts.
        In = "in",
        /// None of these texts.
        NotIn = "not_in",
        /// Has this part, upper or lower case.
        Contains = "contains",
        /// Does not have this part.
        NotContains = "not_contains",
        /// Has any value.
        IsSet = "is_set",
        /// Has none.
        IsNotSet = "is_not_set",
        /// A regular expression (RE2) matches somewhere in the text.
        Matches = "matches",
    }
}

/// `property op value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Condition {
    /// Which property; `session`, `tenant` and the facts of HTTP count as properties.
    pub property: String,
    /// How it is compared.
    pub op: Op,
    /// With what; a list for `in` and `not_in`, null for `is_set` and `is_not_set`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

object!(
    Condition,
    "a condition: an object with `property`, `op` and `value`"
);

impl Condition {
    /// Whether it holds for an event. Prepares the comparison each time: loops keep a [`Test`].
    pub fn holds(&self, event: &Event) -> bool {
        Test::compile(self).passes(event)
    }
}

/// A condition made ready: numbers parsed, lists hashed, the regular expression compiled.
#[derive(Clone, Debug)]
pub struct Test {
    property: String,
    check: Check,
}

/// Compares the property's number with the wanted one.
type Comparison = fn(&f64, &f64) -> bool;

#[derive(Clone, Debug)]
enum Check {
    Never,
    IsSet,
    IsNotSet,
    Text {
        wanted: String,
        same: bool,
    },
    Listed {
        wanted: HashSet<String>,
        listed: bool,
    },
    Number {
        wanted: f64,
        holds: Comparison,
    },
    /// `wanted` is in lower case.
    Part {
        wanted: String,
        has: bool,
    },
    Pattern(Regex),
}

impl Test {
    /// Prepares a condition.
    pub fn compile(condition: &Condition) -> Self {
        let check = Check::of(condition.op, &condition.value);
        Self {
            property: condition.property.clone(),
            check: check.unwrap_or(Check::Never),
        }
    }

    /// The property it reads.
    pub fn property(&self) -> &str {
        &self.property
    }

    /// Whether it holds for a value of its property; `None` is a property that is not set.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self.check, Check::IsNotSet);
        };
        match &self.check {
            Check::Never | Check::IsNotSet => false,
            Check::IsSet => true,
            Check::Text { wanted, same } => (value == wanted) == *same,
            Check::Listed { wanted, listed } => wanted.contains(value) == *listed,
            Check::Number { wanted, holds } => {
                json_number(value).is_some_and(|actual| holds(&actual, wanted))
            }
            Check::Part { wanted, has } => value.to_lowercase().contains(wanted) == *has,
            Check::Pattern(pattern) => pattern.is_match(value),
        }
    }

    /// Whether it holds for an event.
    pub fn passes(&self, event: &Event) -> bool {
        self.holds(event.property(&self.property).as_deref())
    }
}

impl Check {
    /// `None` if the value does not suit the operator.
    fn of(op: Op, value: &Value) -> Option<Self> {
        let text = || text_of(value).map(Cow::into_owned);
        let number = |holds: Comparison| {
            let wanted = json_number(&text_of(value)?)?;
            Some(Self::Number { wanted, holds })
        };
        let list = |listed: bool| {
            let texts = value.as_array()?.iter().filter_map(text_of);
            let wanted = texts.map(Cow::into_owned).collect();
            Some(Self::Listed { wanted, listed })
        };
        let part = |has: bool| {
            let wanted = text_of(value)?.to_lowercase();
            Some(Self::Part { wanted, has })
        };
        match op {
            Op::Eq => text().map(|wanted| Self::Text { wanted, same: true }),
            Op::Ne => text().map(|wanted| Self::Text {
                wanted,
                same: false,
            }),
            Op::Gt => number(f64::gt),
            Op::Gte => number(f64::ge),
            Op::Lt => number(f64::lt),
            Op::Lte => number(f64::le),
            Op::In => list(true),
            Op::NotIn => list(false),
            Op::Contains => part(true),
            Op::NotContains => part(false),
            Op::IsSet => Some(Self::IsSet),
            Op::IsNotSet => Some(Self::IsNotSet),
            Op::Matches => pattern::compile(value.as_str()?).ok().map(Self::Pattern),
        }
    }
}

/// The text that a value is compared by: a string as it is, everything else its JSON text; null is not set.
pub fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(Cow::Owned(value.to_string()))
        }
    }
}

/// The number that a text is by JSON's grammar; beyond the range of 64-bit floats it is infinite.
pub fn json_number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, mut rest) = digits(unsigned)?;
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        (_, rest) = digits(fraction)?;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        (_, rest) = digits(exponent)?;
    }
    rest.is_empty().then(|| text.parse().ok())?
}

/// At least one digit, and what follows.
fn digits(text: &str) -> Option<(&str, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(count)?;
    (!digits.is_empty()).then_some((digits, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn test(op: &str, value: &Value) -> Test {
        let json = json!({"property": "p", "op": op, "value": value});
        Test::compile(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn texts_are_compared_as_texts() {
        let cases = [
            ("eq", json!(100), "100", true),
            ("eq", json!(100), "100.0", false),
            ("eq", json!("100"), "100", true),
            ("eq", json!(true), "true", true),
            ("eq", json!("a"), "A", false),
            ("ne", json!("a"), "b", true),
            ("ne", json!("a"), "a", false),
            ("in", json!(["a", 1, true]), "1", true),
            ("in", json!(["a", 1, true]), "b", false),
            ("not_in", json!(["a", 1]), "b", true),
            ("not_in", json!(["a", 1]), "a", false),
            ("contains", json!("PHO"), "my phone", true),
            ("contains", json!("ÄR"), "Bären", true),
            ("contains", json!("tv"), "phone", false),
            ("not_contains", json!("tv"), "phone", true),
            ("not_contains", json!("Pho"), "phone", false),
            ("is_set", Value::Null, "", true),
            ("is_not_set", Value::Null, "", false),
            ("matches", json!("^/p/[0-9]+$"), "/p/17", true),
            ("matches", json!("[0-9]"), "a1b", true),
            ("matches", json!("^[0-9]"), "a1b", false),
        ];
        for (op, value, actual, expected) in cases {
            let holds = test(op, &value).holds(Some(actual));
            assert_eq!(holds, expected, "{actual} {op} {value}");
        }
    }

    #[test]
    fn numbers_are_compared_when_both_sides_are_numbers() {
        let cases = [
            ("gt", json!(9), "10", true),
            ("gt", json!("9"), "1e1", true),
            ("gt", json!(10), "10", false),
            ("gte", json!(10), "10.0", true),
            ("lt", json!(10), "-3", true),
            ("lt", json!(10), "", false),
            ("lt", json!(10), "nan", false),
            ("lt", json!(10), "+3", false),
            ("lt", json!(10), "03", false),
            ("lt", json!("ten"), "3", false),
            ("lte", json!(3), "3", true),
            ("lte", json!(3), "3 ", false),
            ("gt", json!(5), "1e999", true),
            ("gt", json!(5), "inf", false),
        ];
        for (op, value, actual, expected) in cases {
            let holds = test(op, &value).holds(Some(actual));
            assert_eq!(holds, expected, "{actual} {op} {value}");
        }
    }

    #[test]
    fn what_is_not_set_only_passes_is_not_set() {
        for op in Op::ALL {
            let is_list = matches!(op, Op::In | Op::NotIn);
            let value = if is_list { json!(["x"]) } else { json!("1") };
            assert_eq!(
                test(op.as_str(), &value).holds(None),
                *op == Op::IsNotSet,
                "{}",
                op.as_str()
            );
        }
    }

    #[test]
    fn a_condition_that_makes_no_sense_never_holds() {
        for (op, value) in [
            ("matches", json!("(")),
            ("matches", json!(5)),
            ("gt", json!([])),
            ("in", json!("a")),
            ("eq", Value::Null),
        ] {
            assert!(!test(op, &value).holds(Some("a")), "{op}");
        }
    }

    #[test]
    fn events_and_values_agree() {
        let event = Event {
            user: None,
            at_ns: 0,
            name: "http".to_owned(),
            properties: BTreeMap::from([
                ("status_code".to_owned(), json!(204)),
                ("gone".to_owned(), Value::Null),
                ("list".to_owned(), json!([1, "a"])),
            ]),
        };
        for (property, op, value, expected) in [
            ("status_class", "eq", json!("2xx"), true),
            ("status_code", "lt", json!(300), true),
            ("gone", "is_not_set", Value::Null, true),
            ("gone", "ne", json!("a"), false),
            ("list", "eq", json!("[1,\"a\"]"), true),
            ("missing", "not_contains", json!("a"), false),
        ] {
            let json = json!({"property": property, "op": op, "value": value});
            let condition: Condition = serde_json::from_value(json).unwrap();
            assert_eq!(condition.holds(&event), expected, "{property} {op}");
        }
    }

    #[test]
    fn the_number_grammar_is_that_of_json() {
        for (text, number) in [
            ("0", 0.0),
            ("-0", -0.0),
            ("10", 10.0),
            ("1.50", 1.5),
            ("1E+2", 100.0),
            ("25e-1", 2.5),
        ] {
            assert_eq!(json_number(text), Some(number), "{text}");
        }
        for text in [
            "", "-", "+1", "01", "-01", ".5", "5.", "1e", "1e+", "0x1", "1_0", "1 ", " 1", "inf",
            "NaN", "1.2.3", "--1", "٣",
        ] {
            assert_eq!(json_number(text), None, "{text}");
        }
    }

    proptest! {
        /// An independent reading of the grammar: serde's own parser (which refuses what overflows).
        #[test]
        fn numbers_agree_with_a_json_parser(text in "-?[0-9]{0,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?[ x]?") {
            let json = serde_json::from_str::<f64>(&text).ok().filter(|_| !text.ends_with(' '));
            prop_assert_eq!(json_number(&text), json);
        }

        #[test]
        fn a_test_never_panics(op in proptest::sample::select(Op::ALL), value in ".{0,8}", actual in ".{0,8}") {
            let test = test(op.as_str(), &json!(value));
            let holds = test.holds(Some(&actual));
            if op == Op::Eq {
                prop_assert_eq!(holds, value == actual);
            }
        }
    }
}

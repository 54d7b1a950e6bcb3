//! Steps, and which events can fill one.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Unexpected, Visitor},
};
use serde_json::Value;

use super::wire::is_default;
use crate::{
    duration::Span,
    predicate::{Condition, Op},
    written::{named, object},
};

/// The name that any event has.
pub(super) const ANY: &str = "*";

/// Which events can fill a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
            Self::One(wanted) => wanted == ANY || wanted == name,
            Self::Many(wanted) => wanted.iter().any(|wanted| wanted == name),
        }
    }

    /// The names; `None` for any event.
    pub fn names(&self) -> Option<Vec<&str>> {
        match self {
            Self::One(name) if name == ANY => None,
            Self::One(name) => Some(vec![name]),
            Self::Many(names) => Some(names.iter().map(String::as_str).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for StepEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = StepEvent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event's name, a list of names, or \"*\" for any event")
            }

            fn visit_str<E>(self, name: &str) -> Result<StepEvent, E> {
                Ok(StepEvent::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<StepEvent, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(StepEvent::Many(names))
            }
        }

        deserializer.deserialize_any(Names)
    }
}

named! {
    /// Which of the user's events may fill a step.
    #[derive(Default)]
    pub enum Occurrence {
        /// Each one.
        #[default]
        Any = "any",
        /// Only the considered events of the first instant at which one passes the step's conditions.
        FirstMatching = "first_matching",
        /// Only those of the first instant of that name in all history.
        FirstEver = "first_ever",
    }
}

/// A status of HTTP: a class such as `2xx`, or one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusMatch {
    /// The first digit, 1 to 5.
    Class(u8),
    /// 100 to 599.
    Code(u16),
}

impl StatusMatch {
    fn of(code: u16) -> Option<Self> {
        (100..=599).contains(&code).then_some(Self::Code(code))
    }

    fn of_text(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => Some(Self::Class(class - b'0')),
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => Self::of(text.parse().ok()?),
            _ => None,
        }
    }

    /// The condition that says the same.
    fn condition(self) -> Condition {
        let (property, value) = match self {
            Self::Class(class) => ("status_class", Value::String(format!("{class}xx"))),
            Self::Code(code) => ("status_code", Value::from(code)),
        };
        equal(property, value)
    }
}

impl Serialize for StatusMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Class(class) => serializer.collect_str(&format_args!("{class}xx")),
            Self::Code(code) => serializer.serialize_u16(*code),
        }
    }
}

impl<'de> Deserialize<'de> for StatusMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;

        impl Visitor<'_> for Status {
            type Value = StatusMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class from \"1xx\" to \"5xx\" or a code from 100 to 599")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StatusMatch, E> {
                StatusMatch::of_text(text)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, code: u64) -> Result<StatusMatch, E> {
                let status = u16::try_from(code).ok().and_then(StatusMatch::of);
                status.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(code), &self))
            }
        }

        deserializer.deserialize_any(Status)
    }
}

/// Which exchanges can fill a step; at least one part is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct HttpMatch {
    /// Template of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Request method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusMatch>,
}

object!(HttpMatch, "an object with `route`, `method` or `status`");

impl HttpMatch {
    /// The conditions that say the same of an event's properties.
    pub fn conditions(&self) -> Vec<Condition> {
        let text = |property: &str, value: &Option<String>| {
            let value = value.clone();
            value.map(|value| equal(property, Value::String(value)))
        };
        let route = text("route", &self.route);
        let method = text("method", &self.method);
        let status = self.status.map(StatusMatch::condition);
        route.into_iter().chain(method).chain(status).collect()
    }
}

fn equal(property: &str, value: Value) -> Condition {
    Condition {
        property: property.to_owned(),
        op: Op::Eq,
        value,
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenStep", into = "WrittenStep")]
pub struct Step {
    /// Shown to people; at most 200 characters.
    pub name: String,
    /// What fills it; any event where `http` is given.
    pub event: StepEvent,
    /// Which exchanges fill it.
    pub http: Option<HttpMatch>,
    /// Conditions, all of which must hold; JSON `where`.
    pub conditions: Vec<Condition>,
    /// May be skipped.
    pub optional: bool,
    /// At most this long after the previous step, inclusive.
    pub within: Option<Span>,
    /// At least this long after the previous step, inclusive.
    pub not_before: Option<Span>,
    /// Which of the user's events may fill it.
    pub occurrence: Occurrence,
}

impl Step {
    /// The conditions of `where` and those of `http`.
    pub fn all_conditions(&self) -> Vec<Condition> {
        let http = self.http.iter().flat_map(HttpMatch::conditions);
        self.conditions.iter().cloned().chain(http).collect()
    }
}

/// A step as its JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct WrittenStep {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<StepEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpMatch>,
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "is_default")]
    optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Span>,
    #[serde(default, skip_serializing_if = "is_default")]
    occurrence: Occurrence,
}

object!(
    WrittenStep,
    "a step: an object with `name` and `event` or `http`"
);

impl TryFrom<WrittenStep> for Step {
    type Error = &'static str;

    fn try_from(written: WrittenStep) -> Result<Self, &'static str> {
        let event = match (written.event, &written.http) {
            (Some(event), None) => event,
            (None, Some(_)) => StepEvent::One(ANY.to_owned()),
            (Some(_), Some(_)) => {
                return Err(
                    "`event` and `http` both say what fills the step: write one of them, and the rest as `where`",
                );
            }
            (None, None) => {
                return Err("nothing says what fills the step: write `event` or `http`");
            }
        };
        Ok(Self {
            name: written.name,
            event,
            http: written.http,
            conditions: written.conditions,
            optional: written.optional,
            within: written.within,
            not_before: written.not_before,
            occurrence: written.occurrence,
        })
    }
}

impl From<Step> for WrittenStep {
    fn from(step: Step) -> Self {
        Self {
            name: step.name,
            event: step.http.is_none().then_some(step.event),
            http: step.http,
            conditions: step.conditions,
            optional: step.optional,
            within: step.within,
            not_before: step.not_before,
            occurrence: step.occurrence,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_name_a_list_or_any() {
        let event = |json: Value| serde_json::from_value::<StepEvent>(json).unwrap();
        assert!(event(json!("a")).accepts("a"));
        assert!(!event(json!("a")).accepts("b"));
        assert!(event(json!("*")).accepts("b"));
        assert!(event(json!(["a", "b"])).accepts("b"));
        assert!(!event(json!(["a", "b"])).accepts("*"));
        assert_eq!(event(json!("*")).names(), None);
        assert_eq!(event(json!("a")).names(), Some(vec!["a"]));
        assert_eq!(event(json!(["a", "b"])).names(), Some(vec!["a", "b"]));
        assert_eq!(
            serde_json::to_value(event(json!(["a"]))).unwrap(),
            json!(["a"])
        );
    }

    #[test]
    fn a_status_is_a_class_or_a_code() {
        for (json, expected) in [
            (json!("2xx"), StatusMatch::Class(2)),
            (json!("404"), StatusMatch::Code(404)),
            (json!(599), StatusMatch::Code(599)),
        ] {
            let status: StatusMatch = serde_json::from_value(json).unwrap();
            assert_eq!(status, expected);
            let again = serde_json::to_value(status).unwrap();
            assert_eq!(
                serde_json::from_value::<StatusMatch>(again).unwrap(),
                status
            );
        }
        for json in [
            "\"6xx\"", "\"2XX\"", "\"2x\"", "\"099\"", "600", "99", "-200", "200.0", "null",
            "\"٢xx\"",
        ] {
            let error = serde_json::from_str::<StatusMatch>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains("a code from 100 to 599"), "{json}: {error}");
        }
    }

    #[test]
    fn http_is_conditions_on_any_event() {
        let json = json!({
            "name": "Paid",
            "http": {"route": "/pay", "method": "POST", "status": "2xx"},
            "where": [{"property": "device", "op": "is_set"}],
        });
        let step: Step = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(step.event.names(), None);
        let conditions = step.all_conditions();
        let written: Vec<(&str, Op, &Value)> = conditions
            .iter()
            .map(|condition| (condition.property.as_str(), condition.op, &condition.value))
            .collect();
        assert_eq!(
            written,
            [
                ("device", Op::IsSet, &Value::Null),
                ("route", Op::Eq, &json!("/pay")),
                ("method", Op::Eq, &json!("POST")),
                ("status_class", Op::Eq, &json!("2xx")),
            ]
        );
        assert_eq!(serde_json::to_value(&step).unwrap(), json);
        let code: HttpMatch = serde_json::from_value(json!({"status": "404"})).unwrap();
        assert_eq!(code.conditions(), [equal("status_code", json!(404))]);
    }
}

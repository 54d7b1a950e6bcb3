//! One event of one user, and what makes one of the parts that files hold.
//!
//! Refuses times outside 1678 to 2262 (64 bits of nanoseconds), and integer times that are not milliseconds.

use std::{borrow::Cow, collections::BTreeMap, ops::RangeInclusive};

use serde_json::Value;

use crate::{predicate::text_of, written::shortened};

/// 1678-01-01T00:00:00Z, nanoseconds; the latest time is that of the largest integer, in the year 2262.
pub(crate) const EARLIEST_NS: i64 = -9_214_560_000_000_000_000;
/// 1900-01-01T00:00:00Z, milliseconds: integer times are not older.
const EARLIEST_MS: i64 = -2_208_988_800_000;
/// 2000 to 2100 in seconds; read as milliseconds, these are weeks of 1970.
const SECONDS: RangeInclusive<i64> = 946_684_800..=4_102_444_800;
/// 1990 to 2200 in microseconds; read as milliseconds, they lie beyond all times.
const MICROSECONDS: RangeInclusive<i64> = 631_152_000_000_000..=7_258_118_400_000_000;
/// 1990 to 2200 in nanoseconds.
const NANOSECONDS: RangeInclusive<i64> = 631_152_000_000_000_000..=7_258_118_400_000_000_000;

const WRITE_TIME: &str = "write integer milliseconds since 1970 or RFC 3339 text";

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who; events without a user take no part in funnels of users.
    pub user: Option<String>,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub name: String,
    /// Anything else, `session` and `tenant` included.
    pub properties: BTreeMap<String, Value>,
}

impl Event {
    /// Whose shop; empty when the event does not say.
    pub fn tenant(&self) -> &str {
        self.properties
            .get("tenant")
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// The text of a property; `None` if it is not set. `status_class` follows from `status_code` where only that
    /// is known.
    pub fn property(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = |name: &str| self.properties.get(name).and_then(text_of);
        text(name).or_else(|| {
            let code = (name == "status_class").then(|| text("status_code"))??;
            status_class(&code).map(Cow::Borrowed)
        })
    }
}

/// `2xx` of `204`; `None` if the text is no status code from 100 to 599.
pub fn status_class(code: &str) -> Option<&'static str> {
    match code.as_bytes() {
        [class, b'0'..=b'9', b'0'..=b'9'] => match class {
            b'1' => Some("1xx"),
            b'2' => Some("2xx"),
            b'3' => Some("3xx"),
            b'4' => Some("4xx"),
            b'5' => Some("5xx"),
            _ => None,
        },
        _ => None,
    }
}

/// An event file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventFileError {
    /// A line that is no event.
    #[error("line {line}: {message}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Reading failed.
    #[error("cannot read the events")]
    Io(#[from] std::io::Error),
}

impl EventFileError {
    pub(crate) fn at(line: usize, message: String) -> Self {
        let message = shortened(message);
        Self::Line { line, message }
    }
}

/// The time of an event as files write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// Since 1970 UTC.
    Nanoseconds(i64),
    /// Since 1970 UTC.
    Milliseconds(i64),
    /// RFC 3339.
    Text(String),
}

impl EventTime {
    /// Nanoseconds since 1970 UTC.
    ///
    /// # Errors
    /// What is wrong with it and what to write.
    pub fn nanoseconds(&self) -> Result<i64, String> {
        match self {
            Self::Nanoseconds(ns) if *ns >= EARLIEST_NS => Ok(*ns),
            Self::Nanoseconds(_) => Err("`ts` lies before 1678".to_owned()),
            Self::Milliseconds(ms) => from_milliseconds(*ms),
            Self::Text(text) => from_text(text),
        }
    }
}

fn from_milliseconds(ms: i64) -> Result<i64, String> {
    let unit = if SECONDS.contains(&ms) {
        "seconds"
    } else if MICROSECONDS.contains(&ms) {
        "microseconds"
    } else if NANOSECONDS.contains(&ms) {
        "nanoseconds"
    } else {
        let ns = ms.checked_mul(1_000_000).filter(|_| ms >= EARLIEST_MS);
        return ns.ok_or_else(|| {
            format!("`ts` {ms} lies outside 1900 to 2262 as milliseconds: {WRITE_TIME}")
        });
    };
    Err(format!("`ts` {ms} looks like {unit}: {WRITE_TIME}"))
}

fn from_text(text: &str) -> Result<i64, String> {
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|error| format!("`ts` is no RFC 3339 time ({error}): {WRITE_TIME}"))?;
    let ns = i64::try_from(at.as_nanosecond()).ok();
    ns.filter(|ns| *ns >= EARLIEST_NS)
        .ok_or_else(|| format!("`ts` {text} lies outside 1678 to 2262"))
}

/// An event as it stands in a file, before it is checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventParts {
    /// Who.
    pub user: Option<String>,
    /// When; required.
    pub time: Option<EventTime>,
    /// What; required.
    pub event: Option<String>,
    /// In which session; becomes the property `session`.
    pub session: Option<String>,
    /// Whose shop; becomes the property `tenant`.
    pub tenant: Option<String>,
    /// Anything else.
    pub properties: BTreeMap<String, Value>,
}

impl EventParts {
    /// The event, or what is wrong with it. An empty user, session or tenant is none; a property that is null is not
    /// set.
    ///
    /// # Errors
    /// Names the field.
    pub fn into_event(self) -> Result<Event, String> {
        let time = self
            .time
            .ok_or_else(|| format!("no usable `ts`: {WRITE_TIME}"))?;
        let name = self.event.filter(|name| !name.is_empty());
        let name = name.ok_or("no `event`: write the event's name")?;
        let mut properties = self.properties;
        properties.retain(|_, value| !value.is_null());
        for (key, own) in [("session", self.session), ("tenant", self.tenant)] {
            // A session or tenant is text for everyone who compares it, also where a file writes it as a number.
            let inner = || properties.get(key).and_then(text_of).map(Cow::into_owned);
            let text = own.filter(|text| !text.is_empty()).or_else(inner);
            match text.filter(|text| !text.is_empty()) {
                Some(text) => properties.insert(key.to_owned(), Value::String(text)),
                None => properties.remove(key),
            };
        }
        Ok(Event {
            user: self.user.filter(|user| !user.is_empty()),
            at_ns: time.nanoseconds()?,
            name,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parts(time: EventTime) -> EventParts {
        EventParts {
            time: Some(time),
            event: Some("login".to_owned()),
            ..EventParts::default()
        }
    }

    #[test]
    fn the_limits_of_time_are_those_of_the_calendar() {
        let ns = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
        assert_eq!(i128::from(EARLIEST_NS), ns("1678-01-01T00:00:00Z"));
        assert_eq!(
            i128::from(EARLIEST_MS) * 1_000_000,
            ns("1900-01-01T00:00:00Z")
        );
        assert_eq!(
            i128::from(*SECONDS.start()) * 1_000_000_000,
            ns("2000-01-01T00:00:00Z")
        );
        assert_eq!(
            i128::from(*SECONDS.end()) * 1_000_000_000,
            ns("2100-01-01T00:00:00Z")
        );
        assert_eq!(i128::from(*NANOSECONDS.start()), ns("1990-01-01T00:00:00Z"));
        assert_eq!(i128::from(*NANOSECONDS.end()), ns("2200-01-01T00:00:00Z"));
        assert_eq!(*MICROSECONDS.start() * 1_000, *NANOSECONDS.start());
        assert_eq!(*MICROSECONDS.end() * 1_000, *NANOSECONDS.end());
    }

    #[test]
    fn times_are_read_to_the_nanosecond() {
        for (time, ns) in [
            (EventTime::Milliseconds(0), 0),
            (EventTime::Milliseconds(-1), -1_000_000),
            (EventTime::Milliseconds(86_400_000), 86_400_000_000_000),
            (
                EventTime::Milliseconds(1_767_225_600_000),
                1_767_225_600_000_000_000,
            ),
            (
                EventTime::Milliseconds(9_223_372_036_854),
                9_223_372_036_854_000_000,
            ),
            (
                EventTime::Text("2026-01-01T00:00:00Z".to_owned()),
                1_767_225_600_000_000_000,
            ),
            (
                EventTime::Text("2026-01-01T08:00:00.000000001+08:00".to_owned()),
                1_767_225_600_000_000_001,
            ),
            (
                EventTime::Text("1969-12-31T23:59:59Z".to_owned()),
                -1_000_000_000,
            ),
            (
                EventTime::Text("1678-01-01T00:00:00Z".to_owned()),
                EARLIEST_NS,
            ),
            (EventTime::Nanoseconds(i64::MAX), i64::MAX),
        ] {
            assert_eq!(time.nanoseconds(), Ok(ns), "{time:?}");
        }
    }

    #[test]
    fn a_wrong_unit_is_named() {
        for (time, reason) in [
            (EventTime::Milliseconds(1_767_225_600), "looks like seconds"),
            (
                EventTime::Milliseconds(1_767_225_600_000_000),
                "looks like microseconds",
            ),
            (
                EventTime::Milliseconds(1_767_225_600_000_000_000),
                "looks like nanoseconds",
            ),
            (EventTime::Milliseconds(i64::MAX), "outside 1900 to 2262"),
            (
                EventTime::Milliseconds(9_223_372_036_855),
                "outside 1900 to 2262",
            ),
            (
                EventTime::Milliseconds(EARLIEST_MS - 1),
                "outside 1900 to 2262",
            ),
            (EventTime::Milliseconds(i64::MIN), "outside 1900 to 2262"),
            (EventTime::Nanoseconds(i64::MIN), "before 1678"),
            (
                EventTime::Text("1677-12-31T23:59:59Z".to_owned()),
                "outside 1678 to 2262",
            ),
            (
                EventTime::Text("2263-01-01T00:00:00Z".to_owned()),
                "outside 1678 to 2262",
            ),
            (
                EventTime::Text("2026-01-01T00:00:00".to_owned()),
                "no RFC 3339",
            ),
            (EventTime::Text("yesterday".to_owned()), "no RFC 3339"),
            (EventTime::Text(String::new()), "no RFC 3339"),
        ] {
            let error = parts(time.clone()).into_event().unwrap_err();
            assert!(error.contains(reason), "{time:?}: {error}");
        }
    }

    #[test]
    fn what_is_empty_is_not_there() {
        let event = EventParts {
            user: Some(String::new()),
            session: Some(String::new()),
            tenant: Some("t1".to_owned()),
            properties: BTreeMap::from([
                ("device".to_owned(), Value::Null),
                ("session".to_owned(), json!(17)),
                ("tenant".to_owned(), json!("another")),
            ]),
            ..parts(EventTime::Milliseconds(0))
        };
        let event = event.into_event().unwrap();
        assert_eq!(event.user, None);
        assert_eq!(event.tenant(), "t1");
        assert_eq!(event.property("session").as_deref(), Some("17"));
        assert_eq!(event.property("device"), None);
        assert_eq!(event.properties.len(), 2);
        let nameless = EventParts {
            event: Some(String::new()),
            ..parts(EventTime::Milliseconds(0))
        };
        assert!(nameless.into_event().unwrap_err().contains("`event`"));
        let timeless = EventParts {
            time: None,
            ..parts(EventTime::Milliseconds(0))
        };
        assert!(timeless.into_event().unwrap_err().contains("`ts`"));
    }

    #[test]
    fn the_status_class_follows_from_the_code() {
        let with = |properties: &[(&str, Value)]| Event {
            user: None,
            at_ns: 0,
            name: "http".to_owned(),
            properties: properties
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        for (code, class) in [
            (json!(100), Some("1xx")),
            (json!("204"), Some("2xx")),
            (json!(599), Some("5xx")),
            (json!(600), None),
            (json!(99), None),
            (json!(20.4), None),
            (json!("2x4"), None),
            (Value::Null, None),
        ] {
            let event = with(&[("status_code", code.clone())]);
            assert_eq!(event.property("status_class").as_deref(), class, "{code}");
        }
        let said = with(&[("status_code", json!(200)), ("status_class", json!("ok"))]);
        assert_eq!(said.property("status_class").as_deref(), Some("ok"));
        assert_eq!(with(&[]).property("status_class"), None);
        assert_eq!(with(&[]).property("status_code"), None);
    }

    proptest! {
        #[test]
        fn any_time_is_read_or_refused(ms in any::<i64>(), text in "[0-9TZ:+. -]{0,30}") {
            if let Ok(ns) = EventTime::Milliseconds(ms).nanoseconds() {
                prop_assert_eq!(i128::from(ns), i128::from(ms) * 1_000_000);
            }
            if let Ok(ns) = EventTime::Text(text).nanoseconds() {
                prop_assert!(ns >= EARLIEST_NS);
            }
        }
    }
}

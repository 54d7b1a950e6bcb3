//! One event of one user, and the files that hold them.

use std::{collections::BTreeMap, io::Read};

use serde::Deserialize;
use serde_json::Value;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who; events without a user take no part in funnels of users.
    pub user: Option<String>,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub name: String,
    /// Anything else.
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

#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Milliseconds(i64),
    Text(String),
}

#[derive(Deserialize)]
struct Line {
    user: Option<String>,
    ts: Time,
    event: String,
    session: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, Value>,
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

/// An event as it stands in a file, before it is checked.
#[derive(Clone, Debug, PartialEq)]
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
    /// The event, or what is wrong with it.
    ///
    /// # Errors
    /// Names the field.
    pub fn into_event(self) -> Result<Event, String> {
        let out_of_range = || "`ts` is out of range".to_owned();
        let at_ns = match self.time.ok_or(
            "no usable `ts`: write RFC 3339 text, a timestamp, or integer milliseconds since 1970",
        )? {
            EventTime::Nanoseconds(ns) => ns,
            EventTime::Milliseconds(ms) => ms.checked_mul(1_000_000).ok_or_else(out_of_range)?,
            EventTime::Text(text) => {
                let timestamp: jiff::Timestamp =
                    text.parse().map_err(|error| format!("`ts`: {error}"))?;
                i64::try_from(timestamp.as_nanosecond())
                    .ok()
                    .ok_or_else(out_of_range)?
            }
        };
        let mut properties = self.properties;
        for (key, value) in [("session", self.session), ("tenant", self.tenant)] {
            if let Some(value) = value {
                properties
                    .entry(key.to_owned())
                    .or_insert(Value::String(value));
            }
        }
        Ok(Event {
            user: self.user.filter(|user| !user.is_empty()),
            at_ns,
            name: self.event.ok_or("no `event`")?,
            properties,
        })
    }
}

/// Reads NDJSON; blank lines are allowed.
///
/// # Errors
/// The first line that is no event.
pub fn read_ndjson(mut input: impl Read) -> Result<Vec<Event>, EventFileError> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let bad = |message: String| EventFileError::Line {
                line: index + 1,
                message,
            };
            let line: Line = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            let time = match line.ts {
                Time::Milliseconds(ms) => EventTime::Milliseconds(ms),
                Time::Text(text) => EventTime::Text(text),
            };
            let parts = EventParts {
                user: line.user,
                time: Some(time),
                event: Some(line.event),
                session: line.session,
                tenant: line.tenant,
                properties: line.properties,
            };
            parts.into_event().map_err(bad)
        })
        .collect()
}

/// Reads CSV with a header line; columns other than `user ts event session tenant` are properties.
///
/// # Errors
/// The first line that is no event.
pub fn read_csv(input: impl Read) -> Result<Vec<Event>, EventFileError> {
    let mut reader = csv::Reader::from_reader(input);
    let bad = |line: usize, message: String| EventFileError::Line { line, message };
    let headers = reader
        .headers()
        .map_err(|error| bad(1, error.to_string()))?
        .clone();
    let mut events = Vec::new();
    for (index, record) in reader.records().enumerate() {
        let line = index + 2;
        let record = record.map_err(|error| bad(line, error.to_string()))?;
        let mut fields: BTreeMap<String, String> = headers
            .iter()
            .zip(record.iter())
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let ts = fields.remove("ts");
        let time = ts.map(|ts| match ts.parse::<i64>() {
            Ok(milliseconds) => EventTime::Milliseconds(milliseconds),
            Err(_) => EventTime::Text(ts),
        });
        let parts = EventParts {
            user: fields.remove("user"),
            time,
            event: fields.remove("event"),
            session: fields.remove("session"),
            tenant: fields.remove("tenant"),
            properties: fields
                .into_iter()
                .map(|(name, value)| (name, Value::String(value)))
                .collect(),
        };
        events.push(parts.into_event().map_err(|message| bad(line, message))?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_file_say_the_same() {
        let ndjson = r#"{"user":"u1","ts":"2026-01-01T00:00:00Z","event":"login","properties":{"device":"phone"}}
{"user":null,"ts":1767225601000,"event":"cart"}"#;
        let csv =
            "user,ts,event,device\nu1,2026-01-01T00:00:00Z,login,phone\n,1767225601000,cart,\n";
        let events = read_ndjson(ndjson.as_bytes()).unwrap();
        assert_eq!(events, read_csv(csv.as_bytes()).unwrap());
        assert_eq!(events[1].at_ns - events[0].at_ns, 1_000_000_000);
        assert_eq!(events[1].user, None);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read_ndjson("{}\n".as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 1"), "{error}");
    }
}

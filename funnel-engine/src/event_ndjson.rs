//! Events of an NDJSON file, one line at a time: events of the contract, and the collector's exchanges.
//!
//! Holds one line in memory. Refuses lines above [`LINE_BYTES_MAX`], and stops at the first line that is neither.
//! Of exchanges, only those seen at the server become events; the others are counted.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Read},
};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, Visitor},
};
use serde_json::{Number, Value};

use crate::event::{Event, EventFileError, EventParts, EventTime, status_class};

/// Longest line of an event file, bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The events of an NDJSON file in the order of its lines; blank lines are allowed. Ends after the first error.
#[derive(Debug)]
pub struct NdjsonEvents<R> {
    input: R,
    buffer: Vec<u8>,
    line: usize,
    bytes: u64,
    skipped: u64,
    ended: bool,
}

impl<R: BufRead> NdjsonEvents<R> {
    /// Reads from the input's beginning.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            line: 0,
            bytes: 0,
            skipped: 0,
            ended: false,
        }
    }

    /// Bytes read so far, for progress.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// Exchanges left out so far, because they were not seen at the server.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next event; `None` at the end.
    fn advance(&mut self) -> Result<Option<Event>, EventFileError> {
        while self.read_line()? {
            let line = self.line;
            let bad = |message: String| EventFileError::at(line, message);
            let text = self.buffer.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match event_of(text).map_err(bad)? {
                Some(event) => return Ok(Some(event)),
                None => self.skipped += 1,
            }
        }
        Ok(None)
    }

    /// Whether there was a line.
    fn read_line(&mut self) -> Result<bool, EventFileError> {
        self.buffer.clear();
        // One byte more than allowed, and the line feed.
        let mut part = (&mut self.input).take(LINE_BYTES_MAX as u64 + 2);
        let read = part.read_until(b'\n', &mut self.buffer)?;
        self.bytes += read as u64;
        self.line += 1;
        if self.line == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
        }
        if self.buffer.trim_ascii_end().len() > LINE_BYTES_MAX {
            let most = LINE_BYTES_MAX >> 20;
            let message = format!("it is longer than {most} MiB: write one JSON object per line");
            return Err(EventFileError::at(self.line, message));
        }
        Ok(read > 0)
    }
}

impl<R: BufRead> Iterator for NdjsonEvents<R> {
    type Item = Result<Event, EventFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Reads a small file whole.
///
/// # Errors
/// The first line that is no event.
pub fn read_ndjson(input: impl Read) -> Result<Vec<Event>, EventFileError> {
    NdjsonEvents::new(BufReader::new(input)).collect()
}

/// The event of one line; `None` for an exchange that was not seen at the server.
fn event_of(line: &[u8]) -> Result<Option<Event>, String> {
    // Serde would take a list of the values too.
    if line.first() != Some(&b'{') {
        return Err("no JSON object: write one event per line, in braces".to_owned());
    }
    let event: EventLine = parse(line)?;
    if event.ts.is_none() && event.timestamp && (event.route || event.method) {
        return parse::<ExchangeLine>(line)?.into_event();
    }
    let parts = EventParts {
        user: event.user.map(Id::into_text),
        time: event.ts,
        event: event.event,
        session: event.session.map(Id::into_text),
        tenant: event.tenant.map(Id::into_text),
        properties: event.properties.unwrap_or_default(),
    };
    parts.into_event().map(Some)
}

fn parse<'de, T: Deserialize<'de>>(line: &'de [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        // Serde counts lines too, and has only seen this one.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.strip_suffix(&place).unwrap_or(&text);
        format!("{reason} (column {})", error.column())
    })
}

#[derive(Deserialize)]
struct EventLine {
    user: Option<Id>,
    ts: Option<EventTime>,
    event: Option<String>,
    session: Option<Id>,
    tenant: Option<Id>,
    properties: Option<BTreeMap<String, Value>>,
    #[serde(default, deserialize_with = "is_there")]
    timestamp: bool,
    #[serde(default, deserialize_with = "is_there")]
    route: bool,
    #[serde(default, deserialize_with = "is_there")]
    method: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// What an exchange tells about a user.
#[derive(Deserialize)]
struct ExchangeLine {
    timestamp: String,
    duration_ns: Option<Number>,
    role: Option<String>,
    method: Option<String>,
    route: Option<String>,
    status_code: Option<u16>,
    tenant_id: Option<Id>,
    user_id: Option<Id>,
    session_id: Option<Id>,
    event: Option<String>,
    attributes: Option<BTreeMap<String, Value>>,
}

impl ExchangeLine {
    fn into_event(self) -> Result<Option<Event>, String> {
        if self.role.as_deref() != Some("server") {
            return Ok(None);
        }
        let mut properties = self.attributes.unwrap_or_default();
        let class = self
            .status_code
            .and_then(|code| status_class(&code.to_string()));
        let facts = [
            ("route", self.route.map(Value::String)),
            ("method", self.method.map(Value::String)),
            ("status_code", self.status_code.map(Value::from)),
            ("status_class", class.map(Value::from)),
            (
                "duration_ms",
                self.duration_ns.as_ref().and_then(milliseconds),
            ),
        ];
        for (name, fact) in facts {
            // A fact wins over an attribute of the same name, also where it is missing.
            match fact {
                Some(fact) => properties.insert(name.to_owned(), fact),
                None => properties.remove(name),
            };
        }
        for name in ["session", "tenant"] {
            properties.remove(name);
        }
        let name = self.event.filter(|name| !name.is_empty());
        let parts = EventParts {
            user: self.user_id.map(Id::into_text),
            time: Some(EventTime::Text(self.timestamp)),
            event: Some(name.unwrap_or_else(|| "http".to_owned())),
            session: self.session_id.map(Id::into_text),
            tenant: self.tenant_id.map(Id::into_text),
            properties,
        };
        parts.into_event().map(Some)
    }
}

/// Whole milliseconds are written without a fraction, as ClickHouse writes them.
fn milliseconds(ns: &Number) -> Option<Value> {
    const NS_PER_MS: u64 = 1_000_000;
    match ns.as_u64() {
        Some(ns) if ns.is_multiple_of(NS_PER_MS) => Some(Value::from(ns / NS_PER_MS)),
        Some(_) | None => ns.as_f64().map(|ns| Value::from(ns / 1e6)),
    }
}

/// An identity: text, or an integer that stands for its digits.
struct Id(String);

impl Id {
    fn into_text(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, an integer or null")
            }

            fn visit_str<E>(self, text: &str) -> Result<Id, E> {
                Ok(Id(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;

        impl Visitor<'_> for Time {
            type Value = EventTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`ts` as integer milliseconds since 1970 or as RFC 3339 text")
            }

            fn visit_str<E>(self, text: &str) -> Result<EventTime, E> {
                Ok(EventTime::Text(text.to_owned()))
            }

            fn visit_i64<E>(self, ms: i64) -> Result<EventTime, E> {
                Ok(EventTime::Milliseconds(ms))
            }

            fn visit_u64<E: serde::de::Error>(self, ms: u64) -> Result<EventTime, E> {
                let ms = i64::try_from(ms);
                ms.map(EventTime::Milliseconds).map_err(|error| {
                    E::custom(format_args!(
                        "`ts` is beyond all times ({error}): write integer milliseconds"
                    ))
                })
            }
        }

        deserializer.deserialize_any(Time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all(text: &str) -> Result<Vec<Event>, EventFileError> {
        read_ndjson(text.as_bytes())
    }

    fn error(text: &str) -> String {
        all(text).unwrap_err().to_string()
    }

    #[test]
    fn events_of_the_contract_are_read() {
        let text = concat!(
            "\u{feff}{\"user\":\"u1\",\"ts\":\"2026-01-01T00:00:00Z\",\"event\":\"login\",\"session\":\"s1\",\"tenant\":\"t1\",\"properties\":{\"device\":\"phone\",\"none\":null}}\r\n",
            "\n  \n",
            "{\"user\":null,\"ts\":1767225601000,\"event\":\"cart\"}\n",
            "{\"user\":17,\"ts\":-1,\"event\":\"pay\",\"session\":\"\",\"properties\":null}",
        );
        let events = all(text).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].user.as_deref(), Some("u1"));
        assert_eq!(events[0].tenant(), "t1");
        let expected = [
            ("device", json!("phone")),
            ("session", json!("s1")),
            ("tenant", json!("t1")),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(events[0].properties, BTreeMap::from(expected));
        assert_eq!(events[1].user, None);
        assert_eq!(events[1].at_ns - events[0].at_ns, 1_000_000_000);
        assert_eq!(events[2].user.as_deref(), Some("17"));
        assert_eq!(events[2].at_ns, -1_000_000);
        assert!(events[2].properties.is_empty());
    }

    #[test]
    fn exchanges_of_the_server_become_events() {
        let server = r#"{"timestamp":"2026-11-23T17:59:01.550096296Z","duration_ns":365094,"ttfb_ns":365094,"role":"server","service":"nginx","pid":24840,"process":"nginx","method":"GET","path":"/","route":"/","host":"127.0.0.1","status_code":404,"protocol":"http/1.1","tls":true,"request_bytes":73,"response_bytes":245,"client_address":"127.0.0.1","client_port":54824,"server_address":"127.0.0.1","server_port":443,"tenant_id":"t1","user_id":"u1","session_id":"s1","trace_id":"ffbdcc375c0e28612d680d78e463ff8e","span_id":"0846b11a07e0c6b1","parent_span_id":null,"event":null,"outcome":"ok","attributes":{"device":"phone","route":"spoofed","tenant":"spoofed"}}"#;
        let named = server
            .replace("\"event\":null", "\"event\":\"pay\"")
            .replace("365094,\"ttfb", "2000000,\"ttfb")
            .replace("\"s1\"", "null");
        let unparsed = r#"{"timestamp":"2026-11-23T17:59:01Z","duration_ns":1,"role":"server","method":null,"route":null,"user_id":null}"#;
        let client = server.replace("\"server\"", "\"client\"");
        let text = format!("{server}\n{client}\n{named}\n{unparsed}\n");
        let mut events = NdjsonEvents::new(text.as_bytes());
        let read: Vec<Event> = events.by_ref().map(Result::unwrap).collect();
        assert_eq!(events.skipped(), 1);
        assert_eq!(events.bytes_read(), text.len() as u64);
        let property = |index: usize, name: &str| {
            let event: &Event = &read[index];
            event.property(name).map(std::borrow::Cow::into_owned)
        };
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].name, "http");
        assert_eq!(read[0].user.as_deref(), Some("u1"));
        assert_eq!(read[0].at_ns, 1_795_456_741_550_096_296);
        for (name, value) in [
            ("session", "s1"),
            ("tenant", "t1"),
            ("route", "/"),
            ("method", "GET"),
            ("status_code", "404"),
            ("status_class", "4xx"),
            ("duration_ms", "0.365094"),
            ("device", "phone"),
        ] {
            assert_eq!(property(0, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(read[1].name, "pay");
        assert_eq!(property(1, "duration_ms").as_deref(), Some("2"));
        assert_eq!(property(1, "session"), None);
        assert_eq!(read[2].user, None);
        assert_eq!(property(2, "route"), None);
    }

    #[test]
    fn a_bad_line_is_named_and_the_last_one_read() {
        let good = "{\"user\":\"u\",\"ts\":0,\"event\":\"a\"}\n";
        for (line, reason) in [
            ("{}", "no usable `ts`"),
            ("[\"u\",0,\"a\"]", "no JSON object"),
            ("nonsense", "no JSON object"),
            ("{\"ts\":0}", "no `event`"),
            ("{\"ts\":null,\"event\":\"a\"}", "no usable `ts`"),
            ("{\"ts\":0,\"event\":\"\"}", "no `event`"),
            ("{\"ts\":0,\"event\":5}", "expected a string (column 17)"),
            ("{\"ts\":1767225600,\"event\":\"a\"}", "looks like seconds"),
            (
                "{\"ts\":1767225600.5,\"event\":\"a\"}",
                "expected `ts` as integer",
            ),
            (
                "{\"ts\":18446744073709551615,\"event\":\"a\"}",
                "beyond all times",
            ),
            (
                "{\"ts\":0,\"event\":\"a\",\"user\":{}}",
                "expected text, an integer or null",
            ),
            ("{\"ts\":0,\"event\":\"a\"} {}", "trailing characters"),
            ("{\"ts\":0,\"event\":\"a\"", "EOF"),
            (
                "{\"ts\":0,\"event\":\"a\",\"properties\":[]}",
                "expected a map",
            ),
            ("{\"timestamp\":\"2026-01-01T00:00:00Z\"}", "no usable `ts`"),
            (
                "{\"timestamp\":\"now\",\"role\":\"server\",\"method\":null}",
                "no RFC 3339",
            ),
        ] {
            let mut events =
                NdjsonEvents::new(std::io::Cursor::new(format!("{good}{line}\n{good}")));
            assert!(events.next().unwrap().is_ok());
            let error = events.next().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("line 2: "), "{line}: {error}");
            assert!(error.contains(reason), "{line}: {error}");
            assert!(events.next().is_none());
        }
        let bytes = [&good.as_bytes()[..20], b"\xff\xfe\n"].concat();
        assert!(
            read_ndjson(&bytes[..])
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
        let long = format!("{{\"ts\":\"{}\",\"event\":\"a\"}}", "9".repeat(10_000));
        assert!(error(&long).len() < 600);
        let deep = format!(
            "{{\"ts\":0,\"event\":\"a\",\"properties\":{{\"a\":{}",
            "[".repeat(100_000)
        );
        assert!(error(&deep).contains("recursion limit"));
    }

    #[test]
    fn a_line_has_a_limit_and_the_limit_is_reached() {
        let head = "{\"ts\":0,\"event\":\"a\",\"x\":\"";
        let longest = format!("{head}{}\"}}", "x".repeat(LINE_BYTES_MAX - head.len() - 2));
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        assert_eq!(all(&format!("{longest}\n{longest}")).unwrap().len(), 2);
        assert!(error(&format!("\n {longest}\n")).starts_with("line 2: it is longer than 16 MiB"));
        // An endless line is not read to its end.
        let mut endless = NdjsonEvents::new(BufReader::new(std::io::repeat(b'x')));
        assert!(endless.next().unwrap().is_err());
        assert!(endless.bytes_read() <= LINE_BYTES_MAX as u64 + 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut events = NdjsonEvents::new(&bytes[..]);
            while let Some(Ok(_)) = events.next() {}
            prop_assert!(events.bytes_read() <= bytes.len() as u64);
        }

        #[test]
        fn what_is_written_is_read(
            user in proptest::option::of("\\PC{1,6}"), ts in -1_000_000_000_000_i64..=900_000_000,
            event in "\\PC{1,6}", device in "\\PC{0,6}",
        ) {
            let line = json!({"user": user, "ts": ts, "event": event, "properties": {"device": device}});
            let read = all(&format!("{line}\n")).unwrap();
            prop_assert_eq!(&read[0].user, &user);
            prop_assert_eq!(read[0].at_ns, ts * 1_000_000);
            prop_assert_eq!(&read[0].name, &event);
            let read = read[0].property("device");
            prop_assert_eq!(read.as_deref(), Some(device.as_str()));
        }
    }
}

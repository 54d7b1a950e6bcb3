//! Events of a CSV file with a header line, one row at a time.
//!
//! Columns `user`, `ts`, `event`, `session` and `tenant`; all others are properties, and an empty field is not set.
//! Refuses rows of another length than the header's, columns of the same name, rows above [`LINE_BYTES_MAX`], and a file
//! that ends inside a quoted field, which would have swallowed all rows after the open quote.

use std::{
    collections::BTreeSet,
    io::{self, Read},
};

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::Value;

use crate::{
    event::{Event, EventFileError, EventParts, EventTime},
    event_ndjson::LINE_BYTES_MAX,
};

/// The events of a CSV file in the order of its rows. Ends after the first error.
#[derive(Debug)]
pub struct CsvEvents<R> {
    rows: Rows<R>,
    columns: Vec<Column>,
    ended: bool,
}

#[derive(Debug)]
enum Column {
    User,
    Time,
    Event,
    Session,
    Tenant,
    Property(String),
}

impl<R: Read> CsvEvents<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// A header that lacks `ts` or `event`, or has a column twice; what it lacks is named.
    pub fn new(input: R) -> Result<Self, EventFileError> {
        let mut rows = Rows::new(input);
        rows.advance()?;
        let mut names = Vec::new();
        for index in 0..rows.record.len() {
            names.push(rows.text(index)?.to_owned());
        }
        let bad = |message: String| Err(rows.bad(message));
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return bad(format!(
                "the header has the column `{twice}` twice: give each column a name of its own"
            ));
        }
        for required in ["ts", "event"] {
            if !seen.contains(required) {
                let columns = names.join("`, `");
                return bad(format!(
                    "the header has no column `{required}`: it has `{columns}`"
                ));
            }
        }
        Ok(Self {
            rows,
            columns: names.into_iter().map(Column::named).collect(),
            ended: false,
        })
    }

    /// Bytes read so far, for progress; a buffer ahead of the last event.
    pub fn bytes_read(&self) -> u64 {
        self.rows.reader.get_ref().read
    }

    /// The next event; `None` at the end.
    fn advance(&mut self) -> Result<Option<Event>, EventFileError> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let (given, expected) = (self.rows.record.len(), self.columns.len());
        if given != expected {
            let message = format!("it has {given} fields, and the header {expected}");
            return Err(self.rows.bad(message));
        }
        let mut parts = EventParts::default();
        for (index, column) in self.columns.iter().enumerate() {
            let text = self.rows.text(index)?;
            if !text.is_empty() {
                column.put(text, &mut parts);
            }
        }
        let event = parts.into_event();
        event.map(Some).map_err(|message| self.rows.bad(message))
    }
}

impl<R: Read> Iterator for CsvEvents<R> {
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
/// The header, or the first row that is no event.
pub fn read_csv(input: impl Read) -> Result<Vec<Event>, EventFileError> {
    CsvEvents::new(input)?.collect()
}

impl Column {
    fn named(name: String) -> Self {
        match name.as_str() {
            "user" => Self::User,
            "ts" => Self::Time,
            "event" => Self::Event,
            "session" => Self::Session,
            "tenant" => Self::Tenant,
            _ => Self::Property(name),
        }
    }

    fn put(&self, text: &str, parts: &mut EventParts) {
        let owned = text.to_owned();
        match self {
            Self::User => parts.user = Some(owned),
            Self::Time => parts.time = Some(time(owned)),
            Self::Event => parts.event = Some(owned),
            Self::Session => parts.session = Some(owned),
            Self::Tenant => parts.tenant = Some(owned),
            Self::Property(name) => {
                parts.properties.insert(name.clone(), Value::String(owned));
            }
        }
    }
}

/// Digits are milliseconds; digits that fit no 64 bits are left as text, which says so.
fn time(text: String) -> EventTime {
    match text.parse::<i64>() {
        Ok(ms) => EventTime::Milliseconds(ms),
        Err(_) => EventTime::Text(text),
    }
}

/// The rows, and on which line each begins: the reader's own count lags behind after CRLF and skips blank lines.
#[derive(Debug)]
struct Rows<R> {
    reader: Reader<Metered<R>>,
    record: ByteRecord,
    /// Where the row read last begins.
    line: usize,
    /// Where the next may begin.
    next_line: usize,
}

impl<R: Read> Rows<R> {
    fn new(input: R) -> Self {
        let input = Metered {
            input,
            read: 0,
            allowed: 0,
            end: None,
        };
        let mut builder = ReaderBuilder::new();
        // Lengths are compared here, where the line is known.
        let reader = builder.has_headers(false).flexible(true);
        Self {
            reader: reader.from_reader(input),
            record: ByteRecord::new(),
            line: 1,
            next_line: 1,
        }
    }

    /// Whether there was a row.
    fn advance(&mut self) -> Result<bool, EventFileError> {
        let input = self.reader.get_mut();
        input.allowed = input.read.saturating_add(LINE_BYTES_MAX as u64);
        self.line = self.next_line;
        let before = self.reader.position().line();
        let more = match self.reader.read_byte_record(&mut self.record) {
            Ok(more) => more,
            Err(error) => return Err(self.unreadable(error)),
        };
        let passed = self.reader.position().line().saturating_sub(before);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n');
        let own = breaks.count() + 1;
        self.line += passed.saturating_sub(own);
        self.next_line += passed.max(own);
        if self.reader.get_ref().end.is_none() {
            return Ok(more);
        }
        let last = self.record.iter().next_back().unwrap_or_default();
        if self.record.len() == 1 && last == END.trim_ascii_start() {
            self.record.clear();
            return Ok(false);
        }
        if last.ends_with(END) {
            let message = "a quote is open at the end of the file; close it in this row";
            return Err(self.bad(message.to_owned()));
        }
        Ok(more)
    }

    fn text(&self, index: usize) -> Result<&str, EventFileError> {
        let field = self.record.get(index).unwrap_or_default();
        str::from_utf8(field).map_err(|error| {
            self.bad(format!(
                "field {} is not UTF-8 ({error}): save the file as UTF-8",
                index + 1
            ))
        })
    }

    fn bad(&self, message: String) -> EventFileError {
        EventFileError::at(self.line, message)
    }

    fn unreadable(&self, error: csv::Error) -> EventFileError {
        let text = error.to_string();
        if let csv::ErrorKind::Io(error) = error.into_kind()
            && error.kind() != TOO_LONG
        {
            return EventFileError::Io(error);
        }
        self.bad(text)
    }
}

/// How the reader is told that a row has no end.
const TOO_LONG: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// Put behind the last byte: after a closed field it is a row of its own, in an open one a part of it.
const END: &[u8] = b"\n\0end of file\0";

/// Counts what is read, fails when one row would take more than allowed, and marks the end.
#[derive(Debug)]
struct Metered<R> {
    input: R,
    read: u64,
    allowed: u64,
    /// What of the mark is still to be read; none before the end.
    end: Option<&'static [u8]>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read > self.allowed {
            return Err(io::Error::new(
                TOO_LONG,
                format!(
                    "the row that begins here is longer than {} MiB: a quote may be open",
                    LINE_BYTES_MAX >> 20
                ),
            ));
        }
        if self.end.is_none() {
            let read = self.input.read(buffer)?;
            self.read += read as u64;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
        }
        self.end.get_or_insert(END).read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event_ndjson::read_ndjson;

    #[test]
    fn both_kinds_of_file_say_the_same() {
        let ndjson = r#"{"user":"u1","ts":"2026-01-01T00:00:00Z","event":"login","session":"s1","properties":{"device":"phone","note":"a, \"b\"\nc"}}
{"user":null,"ts":1767225601000,"event":"cart"}"#;
        let csv = "\u{feff}user,ts,event,device,note,session\r\nu1,2026-01-01T00:00:00Z,login,phone,\"a, \"\"b\"\"\nc\",s1\r\n\r\n,1767225601000,cart,,,\r\n";
        let events = read_ndjson(ndjson.as_bytes()).unwrap();
        assert_eq!(events, read_csv(csv.as_bytes()).unwrap());
        assert_eq!(events.len(), 2);
        assert_eq!(read_csv("ts,event\n".as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_header_says_what_it_lacks() {
        for (text, reason) in [
            (
                "user,time,event\n",
                "line 1: the header has no column `ts`: it has `user`, `time`, `event`",
            ),
            ("user,ts\n", "line 1: the header has no column `event`"),
            ("", "line 1: the header has no column `ts`"),
            (
                "ts,event,a,a\n",
                "line 1: the header has the column `a` twice",
            ),
            (
                "ts;event\n",
                "line 1: the header has no column `ts`: it has `ts;event`",
            ),
        ] {
            let error = read_csv(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn a_bad_row_is_named_by_the_line_it_begins_on() {
        let head = "user,ts,event,note\nu,0,a,\"two\nlines\"\n\n";
        for (row, reason) in [
            ("u,0,a\n", "it has 3 fields, and the header 4"),
            ("u,0,a,b,c\n", "it has 5 fields, and the header 4"),
            ("u,,a,\n", "no usable `ts`"),
            ("u,0,,\n", "no `event`"),
            ("u,1767225600,a,\n", "looks like seconds"),
            ("u,yesterday,a,\n", "no RFC 3339"),
            ("u,99999999999999999999,a,\n", "no RFC 3339"),
        ] {
            let text = format!("{head}{row}u,0,a,\n");
            for text in [text.replace('\n', "\r\n"), text] {
                let mut events = CsvEvents::new(io::Cursor::new(text)).unwrap();
                assert!(events.next().unwrap().is_ok());
                let error = events.next().unwrap().unwrap_err().to_string();
                assert!(error.starts_with("line 5: "), "{row:?}: {error}");
                assert!(error.contains(reason), "{row:?}: {error}");
                assert!(events.next().is_none());
            }
        }
        let error = read_csv(&b"ts,event\n0,a\n0,\xff\n"[..])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 3: field 2 is not UTF-8"), "{error}");
    }

    #[test]
    fn an_open_quote_does_not_swallow_the_file() {
        let head = io::Cursor::new("ts,event\n0,a\n0,\"b");
        let mut events = CsvEvents::new(head.chain(io::repeat(b'x'))).unwrap();
        assert!(events.next().unwrap().is_ok());
        let error = events.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
        assert!(error.contains("longer than 16 MiB"), "{error}");
        assert!(events.bytes_read() < LINE_BYTES_MAX as u64 + (1 << 20));
    }

    #[test]
    fn a_file_that_ends_inside_quotes_is_refused_and_not_cut_short() {
        for (text, line) in [
            ("ts,event,a\n0,a,x\n0,\"b,y\n0,c,z\n", 3),
            ("ts,event,a\n0,a,\"x\n0,b,y\n0,c,z", 2),
            ("ts,\"event\n0,a\n", 1),
        ] {
            let error = read_csv(text.as_bytes()).unwrap_err().to_string();
            let expected = format!("line {line}: a quote is open at the end of the file");
            assert!(error.starts_with(&expected), "{text:?}: {error}");
        }
        for text in [
            "ts,event\n0,a",
            "ts,event\n0,\"a\"",
            "ts,event\r\n0,\"a\"\r\n",
            "ts,event\n0,\"a\n\"\n\n",
        ] {
            assert_eq!(read_csv(text.as_bytes()).unwrap().len(), 1, "{text:?}");
            let bytewise = io::BufReader::with_capacity(1, text.as_bytes());
            assert_eq!(read_csv(bytewise).unwrap().len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_file_may_be_longer_than_a_row_may() {
        let row = format!("0,view,{}\n", "x".repeat(10_000));
        let text = format!("ts,event,note\n{}", row.repeat(2_000));
        assert!(text.len() > LINE_BYTES_MAX);
        let mut events = CsvEvents::new(text.as_bytes()).unwrap();
        assert_eq!(events.by_ref().map(Result::unwrap).count(), 2_000);
        assert_eq!(events.bytes_read(), text.len() as u64);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[tsevn,0-9\"\n]{0,60}") {
            let _events = read_csv(&bytes[..]);
            let _events = read_csv(format!("ts,event\n{text}").as_bytes());
        }
    }
}

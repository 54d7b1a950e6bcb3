//! HTTP/1 as the clients and servers of this test speak it. It shares nothing with the collector's decoder, so that
//! the two can disagree.

use std::{
    fmt::Write as _,
    io::{self, BufRead, Read},
};

use crate::ledger::Target;

/// The head of a message: the words of its first line, and its fields with lower-case names.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) first: Vec<String>,
    pub(crate) fields: Vec<(String, String)>,
}

/// 2.5 MB in chunks whose sizes lie somewhere in the segments.
pub(crate) fn chunked_2_5_mb() -> Vec<u8> {
    let chunk = [b"FA00\r\n".as_slice(), &vec![b'e'; 0xfa00], b"\r\n"].concat();
    [chunk.repeat(40), b"0\r\n\r\n".to_vec()].concat()
}

/// How much follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// Reads a head; `None` when the sender ended before its last line. Empty lines in front are passed over.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self::default();
        loop {
            let mut line = Vec::new();
            if from.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let line = String::from_utf8(line).unwrap();
            let line = line.trim_end();
            match (head.first.is_empty(), line.split_once(':')) {
                (true, _) => head.first = line.split_whitespace().map(str::to_owned).collect(),
                (false, Some((name, value))) => head
                    .fields
                    .push((name.to_ascii_lowercase(), value.trim().to_owned())),
                (false, None) => return Ok(Some(head)),
            }
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What the head says about its body; nothing said is `otherwise`.
    pub(crate) fn body_or(&self, otherwise: Body) -> Body {
        if self.field("transfer-encoding") == Some("chunked") {
            return Body::Chunked;
        }
        self.field("content-length")
            .map_or(otherwise, |length| Body::Length(length.parse().unwrap()))
    }
}

/// Reads over exactly this many bytes; false when the sender ends before.
pub(crate) fn skip(from: &mut impl Read, bytes: u64) -> io::Result<bool> {
    const AT_ONCE: u64 = 256 * 1024;
    // `io::copy` would read a gigabyte in pieces of 8 KB.
    let mut into = vec![0; usize::try_from(bytes.min(AT_ONCE)).unwrap()];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left.min(AT_ONCE)).unwrap();
        match from.read(&mut into[..most]) {
            Ok(0) => return Ok(false),
            Ok(count) => left -= count as u64,
            // A ring of this thread that is being closed interrupts it, and a socket with a timeout tells so.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads over a body; false when the sender ended before it did.
pub(crate) fn skip_body(from: &mut impl BufRead, body: Body) -> io::Result<bool> {
    match body {
        Body::Length(bytes) => skip(from, bytes),
        Body::UntilClose => io::copy(from, &mut io::sink()).map(|_| true),
        Body::Chunked => loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(false);
            }
            let text = String::from_utf8(line).unwrap();
            let digits = text.split(';').next().unwrap().trim();
            let size = u64::from_str_radix(digits, 16).unwrap();
            if size == 0 {
                return skip_trailers(from);
            }
            if !skip(from, size + 2)? {
                return Ok(false);
            }
        },
    }
}

fn skip_trailers(from: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        match line.as_slice() {
            b"\r\n" => return Ok(true),
            [.., b'\n'] => {}
            _ => return Ok(false),
        }
    }
}

/// A request as a client means to send it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) version: &'static str,
    fields: Vec<(String, String)>,
    /// What follows the head on the wire, chunks and all.
    pub(crate) body: Vec<u8>,
    pub(crate) trace_id: Option<String>,
}

impl Request {
    /// `/{shape}/{behaviour}/{number}`: the second part is what the server is asked to do.
    pub(crate) fn new(
        target: &Target,
        method: &'static str,
        behaviour: &str,
        number: usize,
    ) -> Self {
        Self {
            method,
            path: format!("/{}/{behaviour}/{number}", target.cell.shape),
            version: "HTTP/1.1",
            fields: vec![("Host".to_owned(), "matrix.test".to_owned())],
            body: Vec::new(),
            trace_id: None,
        }
    }

    pub(crate) fn get(target: &Target, behaviour: &str, number: usize) -> Self {
        Self::new(target, "GET", behaviour, number)
    }

    pub(crate) fn post(target: &Target, number: usize, bytes: usize) -> Self {
        Self::new(target, "POST", "plain", number).with_body(bytes)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn with_body(self, bytes: usize) -> Self {
        let mut request = self.with("Content-Length", &bytes.to_string());
        // A body that looks like a message must not be taken for one.
        request.body = b"GET /body HTTP/1.1\r\n\r\n"
            .iter()
            .copied()
            .cycle()
            .take(bytes)
            .collect();
        request
    }

    pub(crate) fn with_chunks(self, chunks: &[u8]) -> Self {
        let mut request = self.with("Transfer-Encoding", "chunked");
        request.body = chunks.to_vec();
        request
    }

    pub(crate) fn with_trace(self, number: u64) -> Self {
        let trace_id = format!("{:016x}{number:016x}", 0x5eed_u64);
        let mut request = self.with("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"));
        request.trace_id = Some(trace_id);
        request
    }

    pub(crate) fn of_version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn lower_case(mut self) -> Self {
        for (name, _) in &mut self.fields {
            name.make_ascii_lowercase();
        }
        self
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {}?q=1 {}\r\n", self.method, self.path, self.version);
        for (name, value) in &self.fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }
}

//! A server of this process on plain sockets. It does what a well-behaved server would not: reads single bytes,
//! scatters its heads, breaks off in the middle.

use std::{
    io::{self, BufReader, IoSlice, Read, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::net::sockopt;

use crate::{
    client::BETWEEN_SEGMENTS,
    wire::{Body, Head, chunked_2_5_mb, skip, skip_body},
};

/// Lets go of the answers to requests for `hold`.
static RELEASED: AtomicBool = AtomicBool::new(false);

pub(crate) fn release() {
    RELEASED.store(true, Ordering::Release);
}

/// Serves on the listeners until the process ends.
pub(crate) fn serve(listeners: Vec<TcpListener>) {
    for listener in listeners {
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || {
                    // A client that leaves in the middle is part of the test.
                    drop(Conversation::new(stream).run());
                });
            }
        });
    }
}

/// What happens to the connection after an answer.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

/// Reads so few bytes at a time that no message arrives in one piece.
struct SmallReads(TcpStream);

impl Read for SmallReads {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = if into.len() > 4_096 { into.len() } else { 1 };
        self.0.read(&mut into[..bytes])
    }
}

struct Conversation {
    from: BufReader<SmallReads>,
    to: TcpStream,
}

impl Conversation {
    fn new(stream: TcpStream) -> Self {
        let to = stream.try_clone().unwrap();
        Self {
            from: BufReader::with_capacity(1, SmallReads(stream)),
            to,
        }
    }

    fn run(mut self) -> io::Result<()> {
        while let Some(head) = Head::read(&mut self.from)? {
            if self.answer(&head)? == Then::Close {
                break;
            }
        }
        Ok(())
    }

    fn answer(&mut self, head: &Head) -> io::Result<Then> {
        let behaviour = head.first[1].split('/').nth(2).unwrap_or_default();
        if behaviour == "early" {
            self.whole("413 Content Too Large", head, b"too much\n")?;
            return Ok(Then::Close);
        }
        if head.field("expect") == Some("100-continue") {
            self.to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.read_body(head)?;
        let closes = head.first[2] == "HTTP/1.0" || head.field("connection") == Some("close");
        match behaviour {
            "plain" => self.whole("200 OK", head, b"ok\n")?,
            "medium" => self.whole("200 OK", head, &vec![b'm'; 20_000])?,
            "missing" => self.whole("404 Not Found", head, b"no\n")?,
            "fail" => self.whole("503 Service Unavailable", head, b"no\n")?,
            "empty" => self.scattered(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            "unchanged" => self.scattered(b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n")?,
            "chunked" => self.chunked(b"0\r\n\r\n")?,
            "chunked-big" => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                self.to
                    .write_all(&[head, chunked_2_5_mb().as_slice()].concat())?;
            }
            "trailers" => self.chunked(b"0\r\nx-sum: 9\r\n\r\n")?,
            "dribble" => self.dribble("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")?,
            "interim" => {
                self.to.write_all(b"HTTP/1.1 102 Processing\r\n\r\n")?;
                self.to
                    .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
                self.whole("200 OK", head, b"ok\n")?;
            }
            "hold" => {
                while !RELEASED.load(Ordering::Acquire) {
                    thread::sleep(BETWEEN_SEGMENTS);
                }
                self.whole("404 Not Found", head, b"no\n")?;
            }
            "upgrade" => return self.tunnel(),
            _ => return self.break_off(behaviour),
        }
        Ok(if closes { Then::Close } else { Then::GoOn })
    }

    fn read_body(&mut self, head: &Head) -> io::Result<()> {
        let whole = match head.body_or(Body::Length(0)) {
            // Byte by byte would take longer than the rest of the test.
            Body::Length(bytes @ 10_000..) => {
                let stream = &mut self.from.get_mut().0;
                skip(stream, bytes)?
            }
            body @ (Body::Length(_) | Body::Chunked | Body::UntilClose) => {
                skip_body(&mut self.from, body)?
            }
        };
        whole
            .then_some(())
            .ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Field names in lower case.
    fn whole(&mut self, status: &str, head: &Head, body: &[u8]) -> io::Result<()> {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if head.first[0] != "HEAD" {
            answer.extend_from_slice(body);
        }
        self.scattered(&answer)
    }

    /// In `writev` calls of many slices.
    fn scattered(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let slice_bytes = if bytes.len() > 4_096 { 1_000 } else { 5 };
            let slices: Vec<IoSlice<'_>> = bytes.chunks(slice_bytes).map(IoSlice::new).collect();
            let sent = self.to.write_vectored(&slices)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    fn chunked(&mut self, end: &[u8]) -> io::Result<()> {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunks = b"5\r\nHTTP/\r\n00c;a=b\r\n1.1 200 OK\r\n\r\n";
        self.to.write_all(head)?;
        // Cut in the middle of a size line, of data and of a line break.
        for part in [&chunks[..4], &chunks[4..12], &chunks[12..], end] {
            thread::sleep(BETWEEN_SEGMENTS);
            self.to.write_all(part)?;
        }
        Ok(())
    }

    fn dribble(&mut self, text: &str) -> io::Result<()> {
        for byte in text.as_bytes() {
            thread::sleep(BETWEEN_SEGMENTS);
            self.to.write_all(&[*byte])?;
        }
        Ok(())
    }

    /// After the switch, everything comes back as it is.
    fn tunnel(&mut self) -> io::Result<Then> {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        self.to.write_all(head)?;
        let mut bytes = [0; 5_000];
        loop {
            let count = self.from.read(&mut bytes)?;
            if count == 0 {
                return Ok(Then::Close);
            }
            self.to.write_all(&bytes[..count])?;
        }
    }

    /// The answers that are none, or not to the end.
    fn break_off(&mut self, behaviour: &str) -> io::Result<Then> {
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly so much";
        match behaviour {
            "silent" => {}
            "cut" => self.to.write_all(part)?,
            "cut-chunked" => self.to.write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            )?,
            "cut-head" => self.to.write_all(b"HTTP/1.1 200 OK\r\ncontent-le")?,
            "reset" => {
                self.to.write_all(part)?;
                sockopt::set_socket_linger(&self.to, Some(Duration::ZERO))?;
            }
            "close" => {
                self.to.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil")?;
                self.to.write_all(b" the end")?;
            }
            "big" => self.endless("content-length: 64000000\r\n")?,
            "endless" => self.endless("")?,
            // Nothing, until the client leaves.
            "hang" => while self.from.read(&mut [0])? > 0 {},
            _ => panic!("no such behaviour: {behaviour}"),
        }
        Ok(Then::Close)
    }

    fn endless(&mut self, field: &str) -> io::Result<()> {
        let head = format!("HTTP/1.1 200 OK\r\n{field}\r\n");
        self.to.write_all(head.as_bytes())?;
        let part = vec![b'e'; 64_000];
        for _ in 0..1_000 {
            self.to.write_all(&part)?;
        }
        Ok(())
    }
}

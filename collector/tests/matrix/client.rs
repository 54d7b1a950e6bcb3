//! The client: raw bytes out, whole answers in, and a line in the ledger for each.

use std::{
    fmt::Debug,
    io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sockopt,
};
use weir_testing::wait_until;

use crate::{
    ledger::{Cell, Expected, Target},
    wire::{Body, Head, Request, skip, skip_body},
};

/// Nothing tells when a segment has left; the pause keeps the kernel from joining two parts into one.
pub(crate) const BETWEEN_SEGMENTS: Duration = Duration::from_millis(1);

/// What a connection can be made of.
pub(crate) trait Stream: Read + Write + AsFd + Debug + Send {}

impl<T: Read + Write + AsFd + Debug + Send> Stream for T {}

/// Counts what is read through it and remembers whether the other end tore the connection down.
#[derive(Debug)]
struct Counted {
    stream: BufReader<Box<dyn Stream>>,
    bytes: u64,
    torn: bool,
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.stream.fill_buf() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.torn = true;
                Ok(&[])
            }
            // Borrowed again: the first borrow would otherwise last into the arm above.
            Ok(_) => Ok(self.stream.buffer()),
            Err(error) => Err(error),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.stream.consume(amount);
        self.bytes += amount as u64;
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = if self.stream.buffer().is_empty() && into.len() > 4_096 {
            self.stream.get_mut().read(into)
        } else {
            self.stream.read(into)
        };
        match read {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.torn = true;
                Ok(0)
            }
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) => Err(error),
        }
    }
}

/// An answer as the client got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) status: Option<u16>,
    whole: bool,
    /// Interim answers included; unknown when the connection was torn down.
    bytes: Option<u64>,
}

/// One connection of a shape, and the exchanges on it so far.
#[derive(Debug)]
pub(crate) struct Connection {
    cell: Cell,
    incoming: Counted,
    pub(crate) port: u16,
    pub(crate) expected: Vec<Expected>,
    asked_at: Instant,
}

impl Connection {
    pub(crate) fn open(target: &Target) -> Self {
        let stream = TcpStream::connect(target.address)
            .unwrap_or_else(|error| panic!("{:?}: {error}", target.cell));
        Self::over_tcp(target, stream)
    }

    /// From a port of the caller's choice, which may have been used just before.
    pub(crate) fn open_from(target: &Target, port: u16) -> Self {
        let family = if target.cell.v6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let local = SocketAddr::new(target.address.ip(), port);
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &local).unwrap();
        // A process that another thread is just starting may hold the connection before this one a moment longer.
        wait_until("the port being free again", || {
            rustix::net::connect(&socket, &target.address).is_ok()
        });
        Self::over_tcp(target, socket.into())
    }

    fn over_tcp(target: &Target, stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        let port = stream.local_addr().unwrap().port();
        Self::over(target, Box::new(stream), port)
    }

    pub(crate) fn over(target: &Target, stream: Box<dyn Stream>, port: u16) -> Self {
        Self {
            cell: target.cell.clone(),
            incoming: Counted {
                stream: BufReader::with_capacity(4_096, stream),
                bytes: 0,
                torn: false,
            },
            port,
            expected: Vec::new(),
            asked_at: Instant::now(),
        }
    }

    /// The clock of the next exchanges starts, and what was read before is none of their answers.
    pub(crate) fn begin(&mut self) {
        self.incoming.bytes = 0;
        self.asked_at = Instant::now();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stream = self.incoming.stream.get_mut();
        let sent = stream.write_all(bytes);
        sent.unwrap_or_else(|error| panic!("{:?}: sending: {error}", self.cell));
    }

    /// Each part in a segment of its own.
    pub(crate) fn send_parts(&mut self, parts: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                thread::sleep(BETWEEN_SEGMENTS);
            }
            self.send(part.as_ref());
        }
    }

    /// In one `writev`, each slice a few bytes.
    pub(crate) fn send_vectored(&mut self, bytes: &[u8]) {
        let slices: Vec<IoSlice<'_>> = bytes.chunks(5).map(IoSlice::new).collect();
        let stream = self.incoming.stream.get_mut();
        let sent = stream.write_vectored(&slices).unwrap();
        assert_eq!(sent, bytes.len(), "fits into the socket at once");
    }

    /// In one `sendmsg`, each slice a few bytes.
    pub(crate) fn send_message(&mut self, bytes: &[u8], flags: SendFlags) {
        let slices: Vec<IoSlice<'_>> = bytes.chunks(7).map(IoSlice::new).collect();
        let mut nothing = SendAncillaryBuffer::default();
        let sent = rustix::net::sendmsg(self.fd(), &slices, &mut nothing, flags).unwrap();
        assert_eq!(sent, bytes.len(), "fits into the socket at once");
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.incoming.stream.get_ref().as_fd()
    }

    /// One request in one send, and its answer.
    pub(crate) fn ask(&mut self, request: &Request, status: u16) -> &mut Expected {
        self.begin();
        self.send(&request.wire());
        self.answered(request, status)
    }

    /// The next answer is to this request, which was sent before.
    pub(crate) fn answered(&mut self, request: &Request, status: u16) -> &mut Expected {
        let seen = self.read_answer(request.method);
        assert!(
            seen.whole && seen.status == Some(status),
            "{:?}: {seen:?} instead of {status} to {request:?}",
            self.cell
        );
        self.note(request, seen)
    }

    /// The server breaks off: after a head with this status, or before any.
    pub(crate) fn broken_off(&mut self, request: &Request, status: Option<u16>) -> &mut Expected {
        let seen = self.read_answer(request.method);
        assert!(
            !seen.whole && seen.status == status,
            "{:?}: {seen:?} is not broken off",
            self.cell
        );
        self.note(request, seen)
    }

    /// The client will not wait for the rest of the answer.
    pub(crate) fn given_up(&mut self, request: &Request, status: Option<u16>) -> &mut Expected {
        let seen = Seen {
            status,
            whole: false,
            bytes: None,
        };
        self.note(request, seen)
    }

    fn note(&mut self, request: &Request, seen: Seen) -> &mut Expected {
        let mut line = Expected::new(&self.cell, request.method, &request.path, seen.status);
        if !seen.whole {
            line.outcome = "aborted";
        }
        if request.version == "HTTP/1.0" {
            line.protocol = "http/1.0";
        }
        line.client_port = Some(self.port);
        line.request_bytes = Some(request.wire().len() as u64);
        line.response_bytes = seen.bytes;
        line.trace_id.clone_from(&request.trace_id);
        line.at_most = seen.whole.then(|| self.asked_at.elapsed());
        self.expected.push(line);
        self.expected.last_mut().unwrap()
    }

    /// Reads the next answer, interim ones included.
    fn read_answer(&mut self, method: &str) -> Seen {
        let mut seen = self
            .read_parts(method)
            .unwrap_or_else(|error| panic!("{:?}: reading: {error}", self.cell));
        seen.bytes = (!self.incoming.torn).then_some(self.incoming.bytes);
        self.incoming.bytes = 0;
        seen
    }

    fn read_parts(&mut self, method: &str) -> io::Result<Seen> {
        let mut seen = Seen {
            status: None,
            whole: false,
            bytes: None,
        };
        while let Some(head) = Head::read(&mut self.incoming)? {
            assert!(head.first[0].starts_with("HTTP/1."), "{head:?}");
            let status: u16 = head.first[1].parse().unwrap();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            seen.status = Some(status);
            let body = if method == "HEAD" || matches!(status, 101 | 204 | 304) {
                Body::Length(0)
            } else {
                head.body_or(Body::UntilClose)
            };
            seen.whole = skip_body(&mut self.incoming, body)? && !self.incoming.torn;
            break;
        }
        Ok(seen)
    }

    /// An interim answer of this status.
    pub(crate) fn wait_for_interim(&mut self, status: &str) {
        let head = Head::read(&mut self.incoming).unwrap();
        let head = head.unwrap_or_else(|| panic!("{:?}: closed", self.cell));
        assert_eq!(head.first[1], status, "{:?}", self.cell);
    }

    /// The head of an answer, of whose body only so much is read.
    pub(crate) fn read_some(&mut self, status: u16, body_bytes: u64) {
        self.wait_for_interim(&status.to_string());
        assert!(skip(&mut self.incoming, body_bytes).unwrap());
    }

    /// Bytes that are no HTTP any more.
    pub(crate) fn read_raw(&mut self, bytes: u64) {
        let whole = skip(&mut self.incoming, bytes).unwrap();
        assert!(whole, "{:?}: the tunnel was closed", self.cell);
    }

    /// Until the server has closed its end.
    pub(crate) fn wait_for_close(&mut self) {
        let rest = skip_body(&mut self.incoming, Body::UntilClose);
        rest.unwrap_or_else(|error| panic!("{:?}: closing: {error}", self.cell));
    }

    /// Closes with FIN, or with RST when bytes are unread.
    pub(crate) fn close(self) -> Vec<Expected> {
        self.expected
    }

    /// Closes with RST, whatever is unread.
    pub(crate) fn reset(self) -> Vec<Expected> {
        sockopt::set_socket_linger(self.fd(), Some(Duration::ZERO)).unwrap();
        self.expected
    }
}

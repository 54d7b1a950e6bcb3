//! A server and a client whose every socket operation goes through `io_uring`, where no system call per message is
//! to be seen. The only unsafe code of this test: the kernel reads and writes buffers that must outlive the operation.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    thread,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, addr::SocketAddrArg as _};

use crate::wire::{Body, Head, chunked_2_5_mb, skip};

const RECEIVE_BYTES: usize = 16 * 1024;

/// Serves on the listeners until the process ends.
pub(crate) fn serve(listeners: Vec<TcpListener>) {
    for listener in listeners {
        thread::spawn(move || Server::new().run(&listener));
    }
}

/// What a completion belongs to, as the two halves of its user data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Accept,
    Receive,
    Send,
}

struct Peer {
    /// Closed with the peer.
    _socket: OwnedFd,
    received: Vec<u8>,
    unanswered: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
    closes: bool,
}

struct Server {
    ring: IoUring,
    /// Boxed: their buffers must not move while the kernel has them.
    peers: HashMap<RawFd, Box<Peer>>,
}

impl Server {
    fn new() -> Self {
        Self {
            ring: ring(1_024),
            peers: HashMap::new(),
        }
    }

    fn run(mut self, listener: &TcpListener) -> ! {
        // Not inherited by the processes that the test starts meanwhile: they would keep it open.
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.submit(&accept, Operation::Accept, listener.as_raw_fd());
        loop {
            self.ring.submit_and_wait(1).unwrap();
            let done: Vec<cqueue::Entry> = self.ring.completion().collect();
            for entry in done {
                let fd = RawFd::try_from(entry.user_data() & 0xffff_ffff).unwrap();
                match entry.user_data() >> 32 {
                    0 => self.accepted(entry.result()),
                    1 => self.received(fd, entry.result()),
                    _ => self.sent(fd, &entry),
                }
            }
        }
    }

    fn submit(&mut self, entry: &squeue::Entry, operation: Operation, fd: RawFd) {
        let data = ((operation as u64) << 32) | u64::from(fd.unsigned_abs());
        let entry = entry.clone().user_data(data);
        push(&mut self.ring, &entry);
    }

    fn accepted(&mut self, fd: i32) {
        assert!(fd >= 0, "accept: {}", io::Error::from_raw_os_error(-fd));
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let peer = Peer {
            _socket: socket,
            received: vec![0; RECEIVE_BYTES],
            unanswered: Vec::new(),
            sending: Vec::new(),
            sent: 0,
            closes: false,
        };
        self.peers.insert(fd, Box::new(peer));
        self.receive(fd);
    }

    fn receive(&mut self, fd: RawFd) {
        let peer = self.peers.get_mut(&fd).unwrap();
        let length = u32::try_from(RECEIVE_BYTES).unwrap();
        let entry = opcode::Recv::new(Fd(fd), peer.received.as_mut_ptr(), length).build();
        self.submit(&entry, Operation::Receive, fd);
    }

    fn received(&mut self, fd: RawFd, result: i32) {
        let Ok(count @ 1..) = usize::try_from(result) else {
            self.peers.remove(&fd);
            return;
        };
        let peer = self.peers.get_mut(&fd).unwrap();
        peer.unanswered.extend_from_slice(&peer.received[..count]);
        while let Some(answer) = peer.next_answer() {
            peer.sending.extend_from_slice(&answer);
        }
        self.send_on(fd);
    }

    fn sent(&mut self, fd: RawFd, entry: &cqueue::Entry) {
        let peer = self.peers.get_mut(&fd).unwrap();
        match usize::try_from(entry.result()) {
            // The client has left.
            Err(_) => {
                peer.sent = peer.sending.len();
                peer.closes = true;
            }
            // A send without copying completes twice; after the second time its buffer is free again.
            Ok(_) if cqueue::notif(entry.flags()) => {}
            Ok(count) => peer.sent += count,
        }
        if !cqueue::more(entry.flags()) {
            self.send_on(fd);
        }
    }

    /// The rest of what is to be sent; when nothing is, the next request.
    fn send_on(&mut self, fd: RawFd) {
        let peer = self.peers.get_mut(&fd).unwrap();
        let rest = &peer.sending[peer.sent..];
        if rest.is_empty() && peer.closes {
            self.peers.remove(&fd);
            return;
        }
        if rest.is_empty() {
            peer.sending.clear();
            peer.sent = 0;
            self.receive(fd);
            return;
        }
        let length = u32::try_from(rest.len()).unwrap();
        let entry = if rest.len() > 4_096 {
            opcode::SendZc::new(Fd(fd), rest.as_ptr(), length).build()
        } else {
            opcode::Send::new(Fd(fd), rest.as_ptr(), length).build()
        };
        self.submit(&entry, Operation::Send, fd);
    }
}

impl Peer {
    /// The answer to the first request that is whole.
    fn next_answer(&mut self) -> Option<Vec<u8>> {
        let mut rest = self.unanswered.as_slice();
        let head = Head::read(&mut rest).unwrap()?;
        let Body::Length(body_bytes) = head.body_or(Body::Length(0)) else {
            panic!("this server knows no chunks");
        };
        if !skip(&mut rest, body_bytes).unwrap() {
            return None;
        }
        self.closes = head.first[2] == "HTTP/1.0" || head.field("connection") == Some("close");
        let behaviour = head.first[1].split('/').nth(2);
        self.unanswered = rest.to_vec();
        if behaviour == Some("chunked-big") {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            return Some([head, chunked_2_5_mb().as_slice()].concat());
        }
        let (status, body) = match behaviour {
            Some("medium") => ("200 OK", "m".repeat(20_000)),
            Some("missing") => ("404 Not Found", "no\n".to_owned()),
            Some("fail") => ("503 Service Unavailable", "no\n".to_owned()),
            _ => ("200 OK", "ok\n".to_owned()),
        };
        let length = body.len();
        let body = if head.first[0] == "HEAD" { "" } else { &body };
        Some(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

fn ring(entries: u32) -> IoUring {
    IoUring::new(entries).unwrap_or_else(|error| {
        panic!("io_uring is needed, see the sysctl kernel.io_uring_disabled: {error}")
    })
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: whoever builds an entry keeps its buffer and its socket until the completion has been seen: the server
    // in the peer's box, the client on the stack of the call that waits.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.unwrap();
}

/// A stream of which every operation is one entry in a ring.
#[derive(Debug)]
pub(crate) struct Stream {
    ring: Ring,
    socket: OwnedFd,
}

struct Ring(IoUring);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Stream {
    /// Connects and tells the local port.
    pub(crate) fn connect(address: SocketAddr) -> (Self, u16) {
        let family = if address.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        let mut stream = Self {
            ring: Ring(ring(8)),
            socket,
        };
        let fd = Fd(stream.socket.as_raw_fd());
        // SAFETY: the address lives until the closure has returned, and that is after the completion.
        let connected = unsafe {
            address.with_sockaddr(|place, length| {
                stream.wait_for(&opcode::Connect::new(fd, place.cast(), length).build())
            })
        };
        connected.unwrap();
        let named = TcpStream::from(stream.socket.try_clone().unwrap());
        (stream, named.local_addr().unwrap().port())
    }

    fn wait_for(&mut self, entry: &squeue::Entry) -> io::Result<usize> {
        push(&mut self.ring.0, entry);
        self.ring.0.submit_and_wait(1)?;
        let result = self.ring.0.completion().next().unwrap().result();
        usize::try_from(result).or(Err(io::Error::from_raw_os_error(-result)))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let fd = Fd(self.socket.as_raw_fd());
        let length = u32::try_from(into.len()).unwrap();
        self.wait_for(&opcode::Recv::new(fd, into.as_mut_ptr(), length).build())
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = Fd(self.socket.as_raw_fd());
        let length = u32::try_from(bytes.len()).unwrap();
        self.wait_for(&opcode::Send::new(fd, bytes.as_ptr(), length).build())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

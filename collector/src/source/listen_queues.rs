//! Accept queues: how many connections wait, how many may, and how many this host has refused because one was full.
//!
//! Asked of the kernel's socket diagnostics (netlink), in our own network namespace; needs no privileges.

use std::{collections::HashMap, fs, io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Of one port, over all its listening sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub length: u64,
    /// Connections that may wait.
    pub limit: u64,
}

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const TCP: u8 = 6;
const STATE_LISTEN: u32 = 10;
/// `SOCK_DIAG_BY_FAMILY`, and the two kinds of message that end an answer.
const BY_FAMILY: u16 = 20;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_ALL: u16 = 0x301;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// Reads of one answer; a host with more listening sockets than fit is shown in part.
const READS_MAX: usize = 256;

/// The queues of all listening ports.
///
/// # Errors
/// When the kernel has no socket diagnostics.
pub fn queues() -> io::Result<HashMap<u16, Queue>> {
    let mut queues = HashMap::new();
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    for family in [IPV4, IPV6] {
        send(&socket, &request(family), SendFlags::empty())?;
        read_answer(&socket, &mut queues)?;
    }
    Ok(queues)
}

/// Connections refused because an accept queue was full, since the host started.
pub fn overflows() -> u64 {
    let table = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    overflows_in(&table).unwrap_or(0)
}

/// `nlmsghdr` and `inet_diag_req_v2`: all TCP sockets of a family that listen.
fn request(family: u8) -> [u8; REQUEST_BYTES] {
    let mut message = Vec::with_capacity(REQUEST_BYTES);
    let length = u32::try_from(REQUEST_BYTES).unwrap_or(0);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&REQUEST_ALL.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[family, TCP, 0, 0]);
    message.extend_from_slice(&(1_u32 << STATE_LISTEN).to_ne_bytes());
    let mut bytes = [0; REQUEST_BYTES];
    if let Some(place) = bytes.get_mut(..message.len()) {
        place.copy_from_slice(&message);
    }
    bytes
}

fn read_answer(socket: &OwnedFd, queues: &mut HashMap<u16, Queue>) -> io::Result<()> {
    let mut buffer = vec![0_u8; 32 * 1024];
    for _ in 0..READS_MAX {
        let (length, _) = recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, message, behind)) = next_message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => return Err(io::Error::other("the kernel has no socket diagnostics")),
                _ => {}
            }
            if let Some((port, queue)) = of_socket(message) {
                let known = queues.entry(port).or_default();
                known.length += queue.length;
                known.limit += queue.limit;
            }
            rest = behind;
        }
    }
    Ok(())
}

/// Kind and contents of the first message, and what follows it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let message = bytes.get(HEADER_BYTES..length)?;
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message, behind))
}

/// Of an `inet_diag_msg`: the source port (network order) at 4, the two queues at 56 and 60.
fn of_socket(message: &[u8]) -> Option<(u16, Queue)> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let word = |at: usize| -> Option<u64> {
        let bytes = message.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_ne_bytes(bytes)))
    };
    Some((
        port,
        Queue {
            length: word(56)?,
            limit: word(60)?,
        },
    ))
}

/// The file has a line of names and a line of values per protocol.
fn overflows_in(table: &str) -> Option<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names
        .split(' ')
        .position(|name| name == "ListenOverflows")?;
    values.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_nobody_accepts_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let of_ours = || queues().unwrap().get(&address.port()).copied();
        let empty = of_ours().unwrap();
        assert_eq!(empty.length, 0);
        assert!(empty.limit >= 128, "{empty:?}");
        let _clients: Vec<_> = (0..3)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        assert_eq!(of_ours().unwrap().length, 3);
        drop(listener);
        assert_eq!(of_ours(), None);
    }

    #[test]
    fn overflows_are_found_by_name() {
        let table = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 42 43\nIpExt: A\nIpExt: 9\n";
        assert_eq!(overflows_in(table), Some(42));
        assert_eq!(overflows_in("IpExt: A\n"), None);
    }
}

//! The tables of TCP sockets in `/proc/PID/net`: who listens, in the network namespace of that process.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
};

/// Listening sockets read from one table, and looked at in all.
pub(super) const SOCKETS_MAX: usize = 16_384;

/// A listening socket. Inode numbers of sockets are unique over all network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Socket {
    pub(super) port: u16,
    pub(super) inode: u64,
    pub(super) namespace: u64,
}

/// Reads `tcp` and `tcp6` of a namespace; false when neither could be.
pub(super) fn read_tables(folder: &Path, namespace: u64, sockets: &mut BTreeSet<Socket>) -> bool {
    let mut any = false;
    for name in ["tcp", "tcp6"] {
        let Ok(file) = fs::File::open(folder.join(name)) else {
            continue;
        };
        any = true;
        // The kernel lists listening sockets before all others, of which there may be very many.
        let listening = BufReader::new(file)
            .lines()
            .skip(1)
            .map_while(Result::ok)
            .map_while(|line| listening_socket(&line))
            .take(SOCKETS_MAX);
        sockets.extend(listening.map(|(port, inode)| Socket {
            port,
            inode,
            namespace,
        }));
    }
    any
}

/// Port and inode of a line of `/proc/net/tcp` in state LISTEN (0A).
fn listening_socket(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    Some((port, fields.nth(5)?.parse().ok()?))
}

/// The number in `socket:[123]` or `net:[123]`.
pub(super) fn inode_of(link: &Path, prefix: &[u8]) -> Option<u64> {
    let number = link
        .as_os_str()
        .as_encoded_bytes()
        .strip_prefix(prefix)?
        .strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_lists_listening_sockets_first() {
        let listeners: Vec<_> = (0..8)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let connections: Vec<_> = listeners
            .iter()
            .map(|listener| TcpStream::connect(listener.local_addr().unwrap()).unwrap())
            .collect();
        let mut sockets = BTreeSet::new();
        assert!(read_tables(Path::new("/proc/self/net"), 0, &mut sockets));
        for listener in &listeners {
            let port = listener.local_addr().unwrap().port();
            assert!(sockets.iter().any(|socket| socket.port == port));
        }
        let whole = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let mut kinds: Vec<bool> = whole
            .lines()
            .skip(1)
            .map(|line| listening_socket(line).is_some())
            .collect();
        assert!(kinds.contains(&false), "{} connections", connections.len());
        kinds.dedup();
        assert_eq!(kinds, [true, false]);
    }
}

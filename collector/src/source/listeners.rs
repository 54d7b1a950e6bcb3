//! Which process listens on a port, from `/proc`. Names are refreshed now and then, never per request.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::pipeline::{Listener, Listeners};

/// A port that has no listener yet is looked up again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// A known listener is believed for this long.
const BELIEVE_FOR: Duration = Duration::from_secs(30);

/// Looks into `/proc`; configured service names win over process names.
#[derive(Debug)]
pub struct ProcListeners {
    names: HashMap<u16, String>,
    known: HashMap<u16, (Listener, Instant)>,
}

impl ProcListeners {
    /// `names`: configured service per port.
    pub fn new(names: HashMap<u16, String>) -> Self {
        Self {
            names,
            known: HashMap::new(),
        }
    }
}

impl Listeners for ProcListeners {
    fn of_port(&mut self, port: u16) -> Listener {
        if let Some((listener, looked_up)) = self.known.get(&port) {
            let believe = if listener.pid.is_some() {
                BELIEVE_FOR
            } else {
                RETRY_AFTER
            };
            if looked_up.elapsed() < believe {
                return listener.clone();
            }
        }
        let (pid, process) = find_listener(port).unzip();
        let service = self.names.get(&port).cloned().or_else(|| process.clone());
        let listener = Listener {
            service,
            pid,
            process,
        };
        self.known.insert(port, (listener.clone(), Instant::now()));
        listener
    }
}

/// Fixed names without looking anywhere, for replays and tests.
#[derive(Debug, Default)]
pub struct NamedListeners(pub HashMap<u16, String>);

impl Listeners for NamedListeners {
    fn of_port(&mut self, port: u16) -> Listener {
        Listener {
            service: self.0.get(&port).cloned(),
            ..Listener::default()
        }
    }
}

/// Process id and command name of whoever listens on the TCP port, in our network namespace.
pub fn find_listener(port: u16) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table
                .lines()
                .filter_map(|line| listening_inode(line, port))
                .collect::<Vec<_>>()
        })
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let targets: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.filter(|pid| holds_socket(*pid, &targets)).min()?;
    let process = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, process.trim().to_owned()))
}

/// Ports on which processes with this command name listen.
pub fn ports_of_process(name: &str) -> Vec<u16> {
    let ports = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(listening_port).collect::<Vec<_>>());
    let mut ports: Vec<u16> = ports
        .filter(|port| find_listener(*port).is_some_and(|(_, process)| process == name))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn listening_port(line: &str) -> Option<u16> {
    let local = line.split_whitespace().nth(1)?;
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    listening_inode(line, port).map(|_| port)
}

/// The socket inode of a line of `/proc/net/tcp` that is in state LISTEN (0A) on `port`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (_, port_hex) = local.rsplit_once(':')?;
    let is_ours = *state == "0A" && u16::from_str_radix(port_hex, 16).ok()? == port;
    is_ours.then(|| (*inode).to_owned())
}

fn holds_socket(pid: u32, targets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|link| {
            link.to_str()
                .is_some_and(|link| targets.iter().any(|target| target == link))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (pid, _) = find_listener(port).unwrap();
        assert_eq!(pid, std::process::id());
        drop(socket);
        assert_eq!(find_listener(port), None);
    }

    #[test]
    fn a_configured_name_wins() {
        let mut listeners = ProcListeners::new(HashMap::from([(1, "gateway".to_owned())]));
        assert_eq!(listeners.of_port(1).service.as_deref(), Some("gateway"));
    }
}

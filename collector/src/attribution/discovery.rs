//! Which ports to watch and who is behind them, found again and again while services come and go.
//!
//! Owns the search: listening sockets of every network namespace, the processes that hold them, and the choice by
//! port, name or control group. Refuses to guess an owner: what cannot be read is said in a [`Detail`].
//!
//! It reads `/proc` and may take milliseconds, so it has no place on the capture thread or in an async task.

mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use self::sockets::{SOCKETS_MAX, Socket, inode_of, read_tables};
use super::process::{Process, Processes};

/// Descriptors of young processes and of known owners are searched again after this long even when no socket came
/// or went: a worker that was started again holds the socket that its predecessor held.
const SEARCH_YOUNG_AFTER: Duration = Duration::from_secs(10);
/// A process counts as young for this long; by then it has got the sockets that it was started for.
const YOUNG_FOR: Duration = Duration::from_secs(30);
/// Descriptors of all processes are searched again after this long: an old process may be handed a socket too.
const SEARCH_ALL_AFTER: Duration = Duration::from_mins(1);
/// While listeners keep coming and going, searches take at most one part in this many of the time.
const SEARCH_SHARE: u32 = 10;
/// Processes looked at.
const PROCESSES_MAX: usize = 65_536;
/// Network namespaces looked at.
const NAMESPACES_MAX: usize = 1_024;
/// Owners of one port that are kept, lowest pids first.
const OWNERS_MAX: usize = 1_024;
/// Directories below the wanted control groups.
const CGROUPS_MAX: usize = 4_096;

/// What to look for. A port is wanted when any one of these matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Ports by number.
    pub ports: Vec<u16>,
    /// Command or program names of owners.
    pub processes: Vec<String>,
    /// Directories of control groups whose members are wanted, with all below.
    pub cgroups: Vec<PathBuf>,
}

/// A wanted port on which somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// TCP port.
    pub port: u16,
    /// All that hold the listening socket, ascending: a master and its workers. Empty when none could be seen.
    pub pids: Vec<u32>,
    /// Who it is: the first process by whose name or control group the port is wanted, else the first of `pids`
    /// (after systemd, which holds the sockets of services that it starts on demand).
    pub process: Option<Process>,
    /// Network namespaces in which the port is listened on. Above one, unrelated services may share the number,
    /// and the port alone does not tell which of them answered.
    pub namespaces: u32,
}

/// What one refresh brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Wanted ports with a listener that had none before.
    pub added: Vec<PortOwner>,
    /// Known ports whose owners are others now, such as workers that were started again.
    pub changed: Vec<PortOwner>,
    /// Ports without a listener now. One that is wanted by number may come back.
    pub gone: Vec<u16>,
}

/// How much could be seen, and at what cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Processes seen.
    pub processes: u32,
    /// Listening sockets seen, wanted or not.
    pub sockets: u32,
    /// Processes whose descriptors may not be read.
    pub unreadable_processes: u32,
    /// Processes whose network namespace may not be read.
    pub unreadable_namespaces: u32,
    /// Ports that somebody listens on without an owner that could be seen; wanted ones only if ports alone are
    /// wanted.
    pub ownerless_ports: Vec<u16>,
    /// Wanted control groups that could not be read.
    pub unreadable_cgroups: Vec<PathBuf>,
    /// Sockets, processes and control groups passed over because there were too many.
    pub beyond_bounds: u32,
    /// Searches of descriptors since the start.
    pub searches: u64,
    /// What the last search of all processes took.
    pub search_took: Duration,
}

impl fmt::Display for Detail {
    /// What is missing and what to do about it; empty when nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentences = Vec::new();
        if self.unreadable_processes > 0 && !self.ownerless_ports.is_empty() {
            sentences.push(format!(
                "the descriptors of {} of {} processes cannot be read, so the owners of ports {:?} are unknown; run as root or with CAP_SYS_PTRACE",
                self.unreadable_processes, self.processes, self.ownerless_ports
            ));
        }
        if self.unreadable_namespaces > 0 {
            sentences.push(format!(
                "the network namespaces of {} of {} processes cannot be read, so listeners in containers may be missing; run as root or with CAP_SYS_PTRACE",
                self.unreadable_namespaces, self.processes
            ));
        }
        for path in &self.unreadable_cgroups {
            sentences.push(format!(
                "cannot read the control group {}; `systemd-cgls` lists those there are",
                path.display()
            ));
        }
        if self.beyond_bounds > 0 {
            sentences.push(format!(
                "{} sockets, processes or control groups were passed over because there are too many",
                self.beyond_bounds
            ));
        }
        f.write_str(&sentences.join("; "))
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Absent when it may not be read.
    namespace: Option<u64>,
    first_seen: Instant,
}

/// The search, with what it found last.
#[derive(Debug)]
pub struct Discovery {
    wanted: Wanted,
    proc: PathBuf,
    processes: Processes,
    /// Every process listed last; a new one costs one link to read, a known one nothing.
    known: HashMap<u32, Known>,
    sockets: Vec<Socket>,
    /// Who holds each socket, ascending.
    holders: HashMap<u64, Vec<u32>>,
    searched_at: Option<Instant>,
    searched_all_at: Option<Instant>,
    owners: BTreeMap<u16, PortOwner>,
    detail: Detail,
}

impl Discovery {
    /// A search that has found nothing yet.
    pub fn new(wanted: Wanted) -> Self {
        Self::under(Path::new("/proc"), wanted)
    }

    fn under(proc: &Path, wanted: Wanted) -> Self {
        Self {
            wanted,
            proc: proc.to_owned(),
            processes: Processes::under(proc),
            known: HashMap::new(),
            sockets: Vec::new(),
            holders: HashMap::new(),
            searched_at: None,
            searched_all_at: None,
            owners: BTreeMap::new(),
            detail: Detail::default(),
        }
    }

    /// Looks again; to be called every two seconds or so. Listeners are compared each time; descriptors are
    /// searched at most once, and only when a listener came or a search is due.
    pub fn refresh(&mut self) -> Changes {
        self.refresh_at(Instant::now())
    }

    /// The listener of a wanted port, as of the last refresh.
    pub fn owner(&self, port: u16) -> Option<&PortOwner> {
        self.owners.get(&port)
    }

    /// What could not be seen, and what it cost.
    pub const fn detail(&self) -> &Detail {
        &self.detail
    }

    fn refresh_at(&mut self, now: Instant) -> Changes {
        let passed = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let since_search = passed(self.searched_at);
        let all_due = passed(self.searched_all_at).is_none_or(|passed| passed >= SEARCH_ALL_AFTER);
        let young_due = since_search.is_none_or(|passed| passed >= SEARCH_YOUNG_AFTER);
        self.detail.beyond_bounds = 0;
        let pids = self.list_processes();
        self.look_up_namespaces(&pids, now, all_due);
        let sockets = self.listening();
        let affordable = SEARCH_YOUNG_AFTER.min(self.detail.search_took * SEARCH_SHARE);
        let some_came = sockets
            .iter()
            .any(|socket| self.sockets.binary_search(socket).is_err());
        let search_all =
            all_due || some_came && since_search.is_none_or(|passed| passed >= affordable);
        if search_all || young_due {
            self.sockets = sockets;
            self.search(&pids, now, search_all);
            self.searched_at = Some(now);
        } else if !self.forget_gone(&sockets) {
            return Changes::default();
        }
        if search_all {
            self.searched_all_at = Some(now);
        }
        let owners = self.choose();
        let changes = compare(&self.owners, &owners);
        self.owners = owners;
        changes
    }

    /// Forgets sockets of ports that nobody listens on any more, for which no search is needed; false when there
    /// are none. A port with another socket waits for the search.
    fn forget_gone(&mut self, now: &[Socket]) -> bool {
        let ports: HashSet<u16> = now.iter().map(|socket| socket.port).collect();
        let before = self.sockets.len();
        self.sockets.retain(|socket| ports.contains(&socket.port));
        self.sockets.len() != before
    }

    fn list_processes(&mut self) -> Vec<u32> {
        let mut pids: Vec<u32> = fs::read_dir(&self.proc)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        self.detail.processes = count(pids.len());
        self.detail.beyond_bounds += count(pids.len().saturating_sub(PROCESSES_MAX));
        pids.truncate(PROCESSES_MAX);
        pids
    }

    fn look_up_namespaces(&mut self, pids: &[u32], now: Instant, again: bool) {
        self.known.retain(|pid, _| pids.binary_search(pid).is_ok());
        for pid in pids {
            let known = self.known.get(pid).copied();
            // A process seldom moves, but it may.
            if known.is_some() && !again {
                continue;
            }
            let link = fs::read_link(self.proc.join(pid.to_string()).join("ns/net"));
            if link.as_ref().is_err_and(has_ended) {
                continue;
            }
            let first_seen = known.map_or(now, |known| known.first_seen);
            let namespace = link.ok().and_then(|link| inode_of(&link, b"net:["));
            self.known.insert(
                *pid,
                Known {
                    namespace,
                    first_seen,
                },
            );
        }
        let unreadable = self
            .known
            .values()
            .filter(|known| known.namespace.is_none());
        self.detail.unreadable_namespaces = count(unreadable.count());
    }

    /// All listening sockets that matter, sorted.
    fn listening(&mut self) -> Vec<Socket> {
        let own = fs::read_link(self.proc.join("self/ns/net"))
            .ok()
            .and_then(|link| inode_of(&link, b"net:["))
            .unwrap_or(0);
        let mut sockets = BTreeSet::new();
        read_tables(&self.proc.join("self/net"), own, &mut sockets);
        let mut members: Vec<(u64, u32)> = self
            .known
            .iter()
            .filter_map(|(pid, known)| Some((known.namespace?, *pid)))
            .filter(|(namespace, _)| *namespace != own)
            .collect();
        members.sort_unstable();
        let mut read = HashSet::new();
        for (namespace, pid) in members {
            // Any member will do, but the first may have ended meanwhile.
            if read.contains(&namespace) {
                continue;
            }
            if read.len() >= NAMESPACES_MAX {
                self.detail.beyond_bounds += 1;
                continue;
            }
            let tables = self.proc.join(pid.to_string()).join("net");
            if read_tables(&tables, namespace, &mut sockets) {
                read.insert(namespace);
            }
        }
        self.detail.sockets = count(sockets.len());
        self.detail.beyond_bounds += count(sockets.len().saturating_sub(SOCKETS_MAX));
        sockets
            .into_iter()
            .take(SOCKETS_MAX)
            .filter(|socket| !self.by_number_alone() || self.wanted.ports.contains(&socket.port))
            .collect()
    }

    /// Whether sockets of other ports need no owner.
    const fn by_number_alone(&self) -> bool {
        self.wanted.processes.is_empty() && self.wanted.cgroups.is_empty()
    }

    /// Finds who holds each socket: one pass over the descriptors of all processes, or of those that may hold
    /// others than at the last search.
    fn search(&mut self, pids: &[u32], now: Instant, all: bool) {
        let started = Instant::now();
        let owners: HashSet<u32> = self.holders.values().flatten().copied().collect();
        let may_differ = |pid: &u32| {
            let is_young = self
                .known
                .get(pid)
                .is_none_or(|known| now.saturating_duration_since(known.first_seen) < YOUNG_FOR);
            all || is_young || owners.contains(pid)
        };
        let pids: Vec<u32> = pids.iter().copied().filter(may_differ).collect();
        // Inode 0 is a socket of the kernel's own.
        self.holders = self
            .sockets
            .iter()
            .filter(|socket| socket.inode != 0)
            .map(|socket| (socket.inode, Vec::new()))
            .collect();
        let mut unreadable = 0;
        if !self.holders.is_empty() {
            for pid in pids {
                match fs::read_dir(self.proc.join(pid.to_string()).join("fd")) {
                    Ok(descriptors) => self.note_held(pid, descriptors),
                    Err(error) => unreadable += u32::from(!has_ended(&error)),
                }
            }
        }
        self.detail.searches += 1;
        if all {
            self.detail.unreadable_processes = unreadable;
            self.detail.search_took = started.elapsed();
        }
    }

    fn note_held(&mut self, pid: u32, descriptors: fs::ReadDir) {
        for descriptor in descriptors.flatten() {
            let Ok(link) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let held = inode_of(&link, b"socket:[");
            if let Some(holders) = held.and_then(|inode| self.holders.get_mut(&inode))
                && holders.last() != Some(&pid)
                && holders.len() < OWNERS_MAX
            {
                holders.push(pid);
            }
        }
    }

    /// The wanted ports with their owners.
    fn choose(&mut self) -> BTreeMap<u16, PortOwner> {
        let members = self.members_of_cgroups();
        let mut ports: BTreeMap<u16, (BTreeSet<u32>, BTreeSet<u64>)> = BTreeMap::new();
        for socket in &self.sockets {
            let (pids, namespaces) = ports.entry(socket.port).or_default();
            pids.extend(self.holders.get(&socket.inode).into_iter().flatten());
            namespaces.insert(socket.namespace);
        }
        self.detail.ownerless_ports = ports
            .iter()
            .filter(|(_, (pids, _))| pids.is_empty())
            .map(|(port, _)| *port)
            .collect();
        let mut owners = BTreeMap::new();
        for (port, (pids, namespaces)) in ports {
            let chosen = pids
                .iter()
                .copied()
                .find(|pid| members.contains(pid) || self.is_wanted(*pid));
            if chosen.is_none() && !self.wanted.ports.contains(&port) {
                continue;
            }
            let named = chosen
                .or_else(|| pids.iter().copied().find(|pid| !self.is_systemd(*pid)))
                .or_else(|| pids.first().copied());
            let process = named.and_then(|pid| self.processes.get(pid).cloned());
            let owner = PortOwner {
                port,
                pids: pids.into_iter().take(OWNERS_MAX).collect(),
                process,
                namespaces: count(namespaces.len()),
            };
            owners.insert(port, owner);
        }
        owners
    }

    fn is_systemd(&mut self, pid: u32) -> bool {
        self.processes
            .get(pid)
            .is_some_and(|process| process.command == "systemd")
    }

    fn is_wanted(&mut self, pid: u32) -> bool {
        if self.wanted.processes.is_empty() {
            return false;
        }
        self.processes.get(pid).is_some_and(|process| {
            let names = [Some(&process.command), process.program.as_ref()];
            self.wanted
                .processes
                .iter()
                .any(|wanted| names.contains(&Some(wanted)))
        })
    }

    /// All processes in the wanted control groups, asked of the groups themselves: paths in `/proc/PID/cgroup`
    /// depend on namespaces and mounts, membership does not.
    fn members_of_cgroups(&mut self) -> HashSet<u32> {
        let mut members = HashSet::new();
        let mut folders: Vec<PathBuf> = self.wanted.cgroups.clone();
        self.detail.unreadable_cgroups.clear();
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            if seen > CGROUPS_MAX {
                self.detail.beyond_bounds += 1 + count(folders.len());
                break;
            }
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => members.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok())),
                Err(_) if !self.wanted.cgroups.contains(&folder) => {}
                Err(_) => self.detail.unreadable_cgroups.push(folder.clone()),
            }
            let below = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        members
    }
}

fn compare(before: &BTreeMap<u16, PortOwner>, after: &BTreeMap<u16, PortOwner>) -> Changes {
    let mut changes = Changes::default();
    for (port, owner) in after {
        match before.get(port) {
            None => changes.added.push(owner.clone()),
            Some(known) if known != owner => changes.changed.push(owner.clone()),
            Some(_) => {}
        }
    }
    changes.gone = before
        .keys()
        .filter(|port| !after.contains_key(port))
        .copied()
        .collect();
    changes
}

/// Whether the process is simply no more, which is no lack of rights.
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::unix::fs::symlink,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A `/proc` of our own making: processes with descriptors, and tables of namespaces.
    struct FakeProc {
        folder: tempfile::TempDir,
    }

    impl FakeProc {
        fn new() -> Self {
            let fake = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            fake.process(1, "collector", 100, &[]);
            symlink("1", fake.path().join("self")).unwrap();
            fake.table(1, &[]);
            fake
        }

        fn path(&self) -> &Path {
            self.folder.path()
        }

        fn process(&self, pid: u32, command: &str, namespace: u64, sockets: &[u64]) {
            let folder = self.path().join(pid.to_string());
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::create_dir_all(folder.join("ns")).unwrap();
            fs::create_dir_all(folder.join("net")).unwrap();
            let zeros = "0 ".repeat(18);
            fs::write(
                folder.join("stat"),
                format!("{pid} ({command}) S {zeros}7 0"),
            )
            .unwrap();
            symlink(format!("net:[{namespace}]"), folder.join("ns/net")).unwrap();
            symlink("/dev/null", folder.join("fd/0")).unwrap();
            for (nth, inode) in sockets.iter().enumerate() {
                symlink(
                    format!("socket:[{inode}]"),
                    folder.join(format!("fd/{}", nth + 1)),
                )
                .unwrap();
            }
        }

        fn end(&self, pid: u32) {
            fs::remove_dir_all(self.path().join(pid.to_string())).unwrap();
        }

        /// The tables as `pid` sees them.
        fn table(&self, pid: u32, listening: &[(u16, u64)]) {
            let mut text = "  sl  local_address rem_address   st ...\n".to_owned();
            for (port, inode) in listening {
                text += &line(*port, "0A", *inode);
            }
            text += &line(443, "01", 999);
            fs::write(self.path().join(pid.to_string()).join("net/tcp"), text).unwrap();
        }
    }

    fn line(port: u16, state: &str, inode: u64) -> String {
        let zeros = "00000000:00000000 00:00000000 00000000";
        format!(
            "  0: 00000000:{port:04X} 00000000:0000 {state} {zeros} 0 0 {inode} 1 0 100 0 0 10 0\n"
        )
    }

    fn wanted(ports: &[u16], processes: &[&str]) -> Wanted {
        Wanted {
            ports: ports.to_vec(),
            processes: processes.iter().map(|name| (*name).to_owned()).collect(),
            cgroups: Vec::new(),
        }
    }

    fn ports(owners: &[PortOwner]) -> Vec<u16> {
        owners.iter().map(|owner| owner.port).collect()
    }

    #[test]
    fn all_holders_own_a_port_and_the_wanted_one_names_it() {
        let proc = FakeProc::new();
        proc.process(10, "systemd", 100, &[50, 51]);
        proc.process(11, "sshd", 100, &[51]);
        proc.process(20, "nginx", 100, &[50]);
        proc.process(21, "nginx", 100, &[50, 50]);
        proc.process(30, "redis", 100, &[60]);
        proc.table(1, &[(80, 50), (22, 51), (6379, 60)]);
        let mut discovery = Discovery::under(proc.path(), wanted(&[22], &["nginx"]));
        let changes = discovery.refresh();
        assert_eq!(ports(&changes.added), [22, 80]);
        let nginx = discovery.owner(80).unwrap();
        assert_eq!(nginx.pids, [10, 20, 21]);
        assert_eq!(nginx.process.as_ref().unwrap().pid, 20);
        let ssh = discovery.owner(22).unwrap();
        assert_eq!(ssh.pids, [10, 11]);
        assert_eq!(ssh.process.as_ref().unwrap().command, "sshd");
        assert_eq!(discovery.owner(6379), None);
        assert_eq!(discovery.detail().to_string(), "");
    }

    #[test]
    fn descriptors_are_searched_only_when_listeners_change_or_time_is_up() {
        let proc = FakeProc::new();
        proc.process(20, "shop", 100, &[50]);
        proc.table(1, &[(80, 50)]);
        let mut discovery = Discovery::under(proc.path(), wanted(&[], &["shop"]));
        let start = Instant::now();
        let mut at = |seconds| {
            let changes = discovery.refresh_at(start + Duration::from_secs(seconds));
            (changes, discovery.detail().searches)
        };
        assert_eq!(ports(&at(0).0.added), [80]);
        assert_eq!(at(2), (Changes::default(), 1));
        // A worker more: no new socket, so it is found by the search that is due after ten seconds.
        proc.process(21, "shop", 100, &[50]);
        assert_eq!(at(8), (Changes::default(), 1));
        let (changes, searches) = at(10);
        assert_eq!(
            (changes.changed[0].pids.as_slice(), searches),
            (&[20, 21][..], 2)
        );
        proc.table(1, &[(80, 50), (81, 51)]);
        proc.process(22, "shop", 100, &[51]);
        let (changes, searches) = at(19);
        assert_eq!((ports(&changes.added), searches), (vec![81], 3));
        proc.table(1, &[(81, 51)]);
        let (changes, searches) = at(20);
        assert_eq!((changes.gone, searches), (vec![80], 3), "none came");
    }

    #[test]
    fn an_old_process_that_is_handed_a_socket_is_found_within_a_minute() {
        let proc = FakeProc::new();
        proc.process(20, "shop", 100, &[50]);
        proc.process(21, "shop", 100, &[]);
        proc.table(1, &[(80, 50)]);
        let mut discovery = Discovery::under(proc.path(), wanted(&[80], &[]));
        let start = Instant::now();
        let mut at = |seconds| discovery.refresh_at(start + Duration::from_secs(seconds));
        at(0);
        symlink("socket:[50]", proc.path().join("21/fd/1")).unwrap();
        fs::remove_file(proc.path().join("20/fd/1")).unwrap();
        let gave_up = at(40).changed;
        assert!(
            gave_up[0].pids.is_empty(),
            "known owners are looked at again"
        );
        assert_eq!(at(59), Changes::default());
        assert_eq!(at(60).changed[0].pids, [21]);
    }

    #[test]
    fn unwanted_listeners_cost_no_search() {
        let proc = FakeProc::new();
        proc.process(20, "shop", 100, &[50, 51]);
        proc.table(1, &[(80, 50)]);
        let mut discovery = Discovery::under(proc.path(), wanted(&[80], &[]));
        assert_eq!(ports(&discovery.refresh().added), [80]);
        proc.table(1, &[(80, 50), (40_000, 51)]);
        assert_eq!(discovery.refresh(), Changes::default());
        assert_eq!(discovery.detail().searches, 1);
    }

    #[test]
    fn other_network_namespaces_are_searched_through_a_living_member() {
        let proc = FakeProc::new();
        proc.table(1, &[(8080, 50)]);
        proc.process(20, "shop", 100, &[50]);
        // The first member of the other namespace shows no tables, as one that has just ended.
        proc.process(30, "pause", 200, &[]);
        fs::remove_dir_all(proc.path().join("30/net")).unwrap();
        proc.process(31, "shop", 200, &[70, 71]);
        proc.table(31, &[(8080, 70), (9090, 71)]);
        let mut discovery = Discovery::under(proc.path(), wanted(&[], &["shop"]));
        assert_eq!(ports(&discovery.refresh().added), [8080, 9090]);
        let shared = discovery.owner(8080).unwrap();
        assert_eq!(
            (shared.namespaces, shared.pids.as_slice()),
            (2, &[20, 31][..])
        );
        assert_eq!(discovery.owner(9090).unwrap().namespaces, 1);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let proc = FakeProc::new();
        proc.table(1, &[(80, 50), (2049, 0)]);
        proc.process(20, "shop", 100, &[50]);
        // A file in place of the folder: unreadable for root too.
        fs::remove_dir_all(proc.path().join("20/fd")).unwrap();
        fs::write(proc.path().join("20/fd"), "").unwrap();
        let mut unknown = wanted(&[80], &["shop"]);
        unknown.cgroups = vec![proc.path().join("no-such-group")];
        let mut discovery = Discovery::under(proc.path(), unknown);
        let added = discovery.refresh().added;
        assert_eq!((ports(&added), added[0].pids.len()), (vec![80], 0));
        let detail = discovery.detail();
        assert_eq!(detail.unreadable_processes, 1);
        assert_eq!(detail.ownerless_ports, [80, 2049]);
        let text = detail.to_string();
        assert!(
            text.contains("1 of 2 processes") && text.contains("CAP_SYS_PTRACE"),
            "{text}"
        );
        assert!(text.contains("no-such-group"), "{text}");
        // A process that ended lacks no rights.
        proc.end(20);
        discovery.searched_all_at = None;
        discovery.refresh();
        assert_eq!(discovery.detail().unreadable_processes, 0);
    }

    #[test]
    fn members_of_a_control_group_and_of_those_below_are_wanted() {
        let proc = FakeProc::new();
        proc.process(20, "a", 100, &[50]);
        proc.process(21, "b", 100, &[51]);
        proc.process(22, "c", 100, &[52]);
        proc.table(1, &[(80, 50), (81, 51), (82, 52)]);
        let group = tempfile::tempdir().unwrap();
        fs::create_dir_all(group.path().join("inner")).unwrap();
        fs::write(group.path().join("cgroup.procs"), "20\n").unwrap();
        fs::write(group.path().join("inner/cgroup.procs"), "22\n9999\n").unwrap();
        let mut discovery = Discovery::under(
            proc.path(),
            Wanted {
                cgroups: vec![group.path().to_owned()],
                ..Wanted::default()
            },
        );
        assert_eq!(ports(&discovery.refresh().added), [80, 82]);
    }

    #[test]
    fn our_own_listener_is_found_on_the_running_kernel_and_leaves() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut discovery = Discovery::new(wanted(&[port], &[]));
        let owner = discovery.refresh().added.remove(0);
        assert!(owner.pids.contains(&std::process::id()));
        drop(socket);
        assert_eq!(discovery.refresh().gone, [port]);
    }

    /// Ends the process when the test does.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_child_that_inherits_the_socket_is_an_owner_too() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut discovery = Discovery::new(wanted(&[port], &[]));
        let start = Instant::now();
        assert_eq!(ports(&discovery.refresh_at(start).added), [port]);
        let inherited = Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        let child = Running(
            Command::new("sleep")
                .arg("60")
                .stdin(inherited)
                .spawn()
                .unwrap(),
        );
        let changes = discovery.refresh_at(start + SEARCH_YOUNG_AFTER);
        assert!(changes.changed[0].pids.contains(&child.0.id()));
    }
}

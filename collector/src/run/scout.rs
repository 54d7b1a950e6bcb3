//! The scout: a thread that looks around while the capture thread works. It finds services, watches their ports,
//! probes their TLS libraries, and reads the kernel's counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Stop;
use crate::{
    attribution::{
        directory::Directory,
        discovery::{Discovery, PortOwner},
        process::Processes,
    },
    pipeline::Listeners as _,
    source::{
        KernelSource, SourceError,
        listen_queues::{self, Queue},
        tls_probes::{Reading, TlsProbes},
    },
};

const COUNT_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(2);
const NAP: Duration = Duration::from_millis(100);

/// The latest reading of the kernel's counters, by name.
pub type KernelCounters = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// What is seen of this host beside its traffic.
#[derive(Clone, Debug, Default)]
pub struct HostReport {
    /// Calls of TLS functions, by process id and command.
    pub calls: BTreeMap<(u32, String), u64>,
    /// Watched processes whose TLS cannot be read: command and what it uses.
    pub unreadable: BTreeSet<(String, &'static str)>,
    /// Accept queues by service.
    pub accept_queues: BTreeMap<String, Queue>,
    /// Connections refused because an accept queue was full, since the host started.
    pub listen_overflows: u64,
}

/// Shared with `/metrics`.
pub type SharedHostReport = Arc<Mutex<HostReport>>;

/// What the thread is given.
#[derive(Debug)]
pub struct Scout {
    /// The kernel side.
    pub source: KernelSource,
    /// The search.
    pub discovery: Discovery,
    /// Where findings are entered.
    pub directory: Directory,
    /// Updated once a second.
    pub counters: KernelCounters,
    /// Updated with every look around.
    pub host: SharedHostReport,
    /// Probe TLS libraries.
    pub probe_tls: bool,
    /// When to end.
    pub stop: Stop,
    /// Ports that are watched whoever listens.
    wanted: BTreeSet<u16>,
    probes: TlsProbes,
    /// Looked up for every process with TLS at every look around: hence remembered.
    processes: Processes,
    owners: BTreeMap<u16, PortOwner>,
}

impl Scout {
    /// A scout that has not looked yet.
    pub fn new(
        source: KernelSource,
        discovery: Discovery,
        directory: Directory,
        wanted: BTreeSet<u16>,
        stop: Stop,
    ) -> Self {
        Self {
            source,
            discovery,
            directory,
            counters: KernelCounters::default(),
            host: SharedHostReport::default(),
            probe_tls: true,
            stop,
            wanted,
            probes: TlsProbes::default(),
            processes: Processes::default(),
            owners: BTreeMap::new(),
        }
    }

    /// Whether any service has been found.
    pub fn has_found_any(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Watches no port that is neither wanted nor found: a kept capture may come with more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tidy_ports(&mut self) -> Result<(), SourceError> {
        let ports = self.wanted.iter().chain(self.owners.keys()).copied();
        self.source.watch_only(&ports.collect())
    }

    /// Looks around once.
    ///
    /// # Errors
    /// When the kernel refuses to watch a port that was found.
    pub fn look(&mut self) -> Result<(), SourceError> {
        let changes = self.discovery.refresh();
        for owner in changes.added.into_iter().chain(changes.changed) {
            let process = owner.process.as_ref();
            tracing::info!(
                port = owner.port,
                pid = process.map(|process| process.pid),
                process = process.map(|process| process.command.as_str()),
                processes = owner.pids.len(),
                "listener found"
            );
            if owner.namespaces > 1 {
                tracing::warn!(
                    port = owner.port,
                    "several network namespaces listen on this port; their exchanges carry the name of one of them"
                );
            }
            // The rest of what was found is not told again, so that one refusal must not hide it.
            if let Err(error) = self.source.watch(owner.port) {
                tracing::error!(
                    port = owner.port,
                    "not watched: {:#}",
                    anyhow::Error::from(error)
                );
            }
            self.directory.enter(&owner);
            self.owners.insert(owner.port, owner);
        }
        for port in changes.gone {
            tracing::info!(port, "nobody listens here any more");
            self.owners.remove(&port);
            if !self.wanted.contains(&port) {
                self.source.forget(port)?;
            }
        }
        if self.probe_tls && self.source.switches().tls {
            self.cover_tls();
        }
        Ok(())
    }

    fn cover_tls(&mut self) {
        let processes: BTreeSet<u32> = self
            .owners
            .values()
            .flat_map(|owner| owner.pids.iter().copied())
            .collect();
        let looked_at = self
            .probes
            .cover(&mut self.source, processes.iter().copied());
        let known = &mut self.processes;
        let mut command = |process: u32| {
            let process = known.get(process);
            process.map_or_else(|| "gone".to_owned(), |process| process.command.clone())
        };
        for (process, reading) in looked_at {
            match reading {
                Reading::Readable(file) => {
                    tracing::info!(process, command = command(process), file = %file.display(), "TLS of this process is read");
                }
                Reading::Unreadable(library) => {
                    tracing::info!(
                        process,
                        command = command(process),
                        library,
                        "TLS of this process, if it uses any, cannot be read"
                    );
                }
                // Said when it happened, once for all processes of the file.
                Reading::Refused => {}
                Reading::Hidden => {
                    tracing::warn!(
                        process,
                        "the files of this process cannot be seen, so its TLS is not read; run as root or with CAP_SYS_PTRACE"
                    );
                }
            }
        }
        let unreadable = processes
            .iter()
            .filter_map(|process| match self.probes.reading(*process) {
                Some(Reading::Unreadable(library)) => Some((command(*process), *library)),
                Some(Reading::Hidden) => Some((command(*process), "hidden")),
                Some(Reading::Refused) => Some((command(*process), "refused")),
                Some(Reading::Readable(_)) | None => None,
            })
            .collect();
        let calls = self
            .source
            .tls_hits()
            .into_iter()
            .map(|(process, calls)| ((process, command(process)), calls))
            .collect();
        let mut report = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        report.calls = calls;
        report.unreadable = unreadable;
    }

    fn count(&mut self) {
        self.source.forward_log();
        // Without diagnostics in the kernel there are no figures to show, and that is all.
        let of_ports = listen_queues::queues().unwrap_or_default();
        let mut queues: BTreeMap<String, Queue> = BTreeMap::new();
        for port in self.owners.keys() {
            let service = self.directory.of_port(*port).service.clone();
            let queue = of_ports.get(port).copied().unwrap_or_default();
            let sum = queues.entry(service.unwrap_or_default()).or_default();
            sum.length += queue.length;
            sum.limit += queue.limit;
        }
        let mut report = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        report.accept_queues = queues;
        report.listen_overflows = listen_queues::overflows();
        drop(report);
        match self.source.counters() {
            Ok(counters) => {
                *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
            }
            Err(error) => tracing::warn!(%error, "the kernel's counters cannot be read"),
        }
    }

    fn run(mut self) -> KernelSource {
        let (mut counted_at, mut looked_at) = (Instant::now(), Instant::now());
        while !self.stop.is_requested() {
            thread::sleep(NAP);
            if counted_at.elapsed() >= COUNT_EVERY {
                self.count();
                counted_at = Instant::now();
            }
            if looked_at.elapsed() >= LOOK_EVERY {
                if let Err(error) = self.look() {
                    tracing::warn!(
                        "a service that was found is not watched: {:#}",
                        anyhow::Error::from(error)
                    );
                }
                looked_at = Instant::now();
            }
        }
        self.count();
        self.source
    }
}

/// Starts the thread. It ends after [`Stop::request`] and gives the kernel side back, so that the programs stay
/// attached until the ring is drained.
///
/// # Errors
/// When no thread can be started.
pub fn spawn_scout(scout: Scout) -> std::io::Result<JoinHandle<KernelSource>> {
    thread::Builder::new()
        .name("scout".to_owned())
        .spawn(move || scout.run())
}

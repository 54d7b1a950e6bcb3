//! The attached programs and their maps: the ports to watch, the probes, the counters. The ring is `drain.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray},
    programs::{ProbeKind, ProgramError, UProbe, uprobe::UProbeLinkId},
};
use aya_log::EbpfLogger;
use ebpf_probes::abi::{COUNTER_COUNT, Counter, names, watch};

use super::{
    cgroup::{self, CgroupError},
    drain::RecordDrain,
    loading::{self, Switches},
    pins::{Fixed, Pins},
};

/// Why the kernel side cannot be had. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No cgroup v2.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The object was refused when loading.
    #[error(
        "the kernel refused the BPF object: run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and see `collector doctor`"
    )]
    Load(#[source] Box<aya::EbpfError>),
    /// A program was refused.
    #[error("the kernel refused program {program} at {place}: {hint}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// `load` or the cgroup's path.
        place: String,
        /// What to do.
        hint: &'static str,
        /// The kernel's word.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map is missing or cannot be used.
    #[error("map {0} of the BPF object cannot be used")]
    Map(&'static str, #[source] Box<MapError>),
    /// The object lacks something by name; a build mix-up.
    #[error(
        "the BPF object has no {0}; this build is mixed up, rebuild it with `cargo clean -p ebpf-probes`"
    )]
    Missing(&'static str),
    /// Nothing can be pinned.
    #[error(
        "cannot keep the capture in the BPF file system at {path}: mount one with `mount -t bpf bpf /sys/fs/bpf`"
    )]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The ring cannot be mapped.
    #[error("the ring cannot be mapped into this process; is there enough memory?")]
    Ring(#[source] std::io::Error),
    /// A name that is none.
    #[error("`{0}` cannot be the name of a kept capture: use letters, digits, `-` and `_`")]
    KeepName(String),
}

/// What to attach, and how.
#[derive(Clone, Copy, Debug)]
pub struct AttachOptions<'a> {
    /// Instead of the root of the hierarchy.
    pub cgroup: Option<&'a Path>,
    /// Ports to watch from the start.
    pub ports: &'a [u16],
    /// Which end of connections.
    pub side: WatchSide,
    /// Whether TLS libraries may be probed.
    pub tls: bool,
    /// Keep the capture under this name while no collector runs.
    pub keep: Option<&'a str>,
    /// Size of the ring; a power of two.
    pub ring_bytes: u32,
}

impl Default for AttachOptions<'_> {
    fn default() -> Self {
        Self {
            cgroup: None,
            ports: &[],
            side: WatchSide::Server,
            tls: false,
            keep: None,
            ring_bytes: ebpf_probes::abi::RING_BYTES,
        }
    }
}

/// Where the programs live.
enum Programs {
    /// In this process; they go when it goes.
    Ours(Box<Ebpf>),
    /// In the BPF file system.
    Kept(Pins),
}

/// The attached programs: what to watch, and what they count. Dropping it detaches them, unless they are kept.
pub struct KernelSource {
    programs: Programs,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    ports: Array<MapData, u8>,
    counters: PerCpuArray<MapData, [u64; COUNTER_COUNT as usize]>,
    tls_wanted: BpfHashMap<MapData, u32, u8>,
    tls_hits: BpfHashMap<MapData, u32, u64>,
    cgroup: PathBuf,
    side: WatchSide,
    switches: Switches,
    resumed: bool,
}

impl std::fmt::Debug for KernelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSource")
            .field("cgroup", &self.cgroup)
            .field("switches", &self.switches)
            .finish_non_exhaustive()
    }
}

/// Which side of connections to watch.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Deserialize,
    serde::Serialize,
    clap::ValueEnum,
    Default,
)]
#[serde(rename_all = "lowercase")]
pub enum WatchSide {
    /// Where the port is local: beside the server.
    #[default]
    Server,
    /// Where the port is remote: beside the client.
    Client,
    /// Both ends; a connection within this host is then seen twice, once in each role.
    Both,
}

impl WatchSide {
    const fn bits(self) -> u8 {
        match self {
            Self::Server => watch::SERVER,
            Self::Client => watch::CLIENT,
            Self::Both => watch::SERVER | watch::CLIENT,
        }
    }
}

impl KernelSource {
    /// Loads and attaches; from the return on, traffic of the ports is captured. A kept capture of the same name
    /// and kind is taken over instead, with everything that waits in its ring.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn attach(options: &AttachOptions<'_>) -> Result<(Self, RecordDrain), SourceError> {
        let (path, cgroup) = cgroup::open(options.cgroup)?;
        let fixed = Fixed {
            cgroup: &path,
            ring_bytes: options.ring_bytes,
            tls: options.tls,
        };
        let place = (path.clone(), options.side, options.ring_bytes);
        let pins = options
            .keep
            .map(|name| Pins::of(name, &fixed))
            .transpose()?;
        let (mut source, drain) = match pins {
            Some(pins) if pins.is_there() => {
                let switches = pins.switches();
                let map = |name| pins.map(name);
                let kept = Programs::Kept(pins.clone());
                let (mut source, drain) = Self::from_maps(map, kept, place, switches)?;
                source.resumed = true;
                (source, drain)
            }
            Some(pins) => {
                let (mut bpf, switches) = loading::load_hooks(options.tls, options.ring_bytes)?;
                load_probes(&mut bpf, switches)?;
                pins.keep(&mut bpf, switches)?;
                pins.keep_links(&mut bpf, &cgroup)?;
                let map = |name| pins.map(name);
                let kept = Programs::Kept(pins.clone());
                Self::from_maps(map, kept, place, switches)?
            }
            None => {
                let (mut bpf, switches) = loading::load_hooks(options.tls, options.ring_bytes)?;
                load_probes(&mut bpf, switches)?;
                loading::attach_hooks(&mut bpf, &path, &cgroup)?;
                let logger = EbpfLogger::init(&mut bpf)
                    .inspect_err(|error| {
                        tracing::warn!(%error, "the kernel programs' log cannot be read");
                    })
                    .ok();
                let mut maps = BTreeMap::new();
                for name in super::pins::MAPS {
                    let map = bpf.take_map(name).ok_or(SourceError::Missing(name))?;
                    maps.insert(name, map);
                }
                let take = |name| maps.remove(name).ok_or(SourceError::Missing(name));
                let ours = Programs::Ours(Box::new(bpf));
                let (mut source, drain) = Self::from_maps(take, ours, place, switches)?;
                source.logger = logger;
                (source, drain)
            }
        };
        for port in options.ports {
            source.watch(*port)?;
        }
        Ok((source, drain))
    }

    fn from_maps(
        mut map: impl FnMut(&'static str) -> Result<Map, SourceError>,
        programs: Programs,
        (cgroup, side, ring_bytes): (PathBuf, WatchSide, u32),
        switches: Switches,
    ) -> Result<(Self, RecordDrain), SourceError> {
        let skips = use_map(map(names::SKIPS)?, names::SKIPS)?;
        let drain = RecordDrain::open(map(names::RING)?, ring_bytes, skips)?;
        let source = Self {
            programs,
            logger: None,
            resumed: false,
            ports: use_map(map(names::PORTS)?, names::PORTS)?,
            counters: use_map(map(names::COUNTERS)?, names::COUNTERS)?,
            tls_wanted: use_map(map(names::TLS_WANTED)?, names::TLS_WANTED)?,
            tls_hits: use_map(map(names::TLS_HITS)?, names::TLS_HITS)?,
            cgroup,
            side,
            switches,
        };
        Ok((source, drain))
    }

    /// The cgroup the programs are attached to.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// What the kernel let us switch on.
    pub const fn switches(&self) -> Switches {
        self.switches
    }

    /// Names a kept capture; nothing where it is not kept.
    pub fn capture_id(&self) -> String {
        match &self.programs {
            Programs::Ours(_) => String::new(),
            Programs::Kept(pins) => pins.id(),
        }
    }

    /// Whether a kept capture was taken over.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Watches one more port.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn watch(&mut self, port: u16) -> Result<(), SourceError> {
        self.ports
            .set(u32::from(port), self.side.bits(), 0)
            .map_err(map_error(names::PORTS))
    }

    /// Watches no other ports than these: a kept capture may come with more.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn watch_only(&mut self, ports: &BTreeSet<u16>) -> Result<(), SourceError> {
        for port in 0..=u16::MAX {
            let is_watched = self
                .ports
                .get(&u32::from(port), 0)
                .is_ok_and(|bits| bits != 0);
            if is_watched && !ports.contains(&port) {
                self.forget(port)?;
            }
        }
        Ok(())
    }

    /// Watches a port no longer.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn forget(&mut self, port: u16) -> Result<(), SourceError> {
        self.ports
            .set(u32::from(port), 0, 0)
            .map_err(map_error(names::PORTS))
    }

    /// Attaches one TLS probe to a file; the caller gives a name for the link that is unique to program and file.
    ///
    /// # Errors
    /// When the file has no such function or the kernel refuses.
    pub fn attach_probe(
        &mut self,
        program: &'static str,
        kind: ProbeKind,
        attach: impl FnOnce(&mut UProbe) -> Result<UProbeLinkId, ProgramError>,
        link: &str,
    ) -> Result<(), SourceError> {
        let refused = |source| loading::refused(program, loading::TLS_LIBRARY, source);
        match &mut self.programs {
            Programs::Ours(bpf) => {
                let probe = loading::probe(bpf, program)?;
                attach(probe).map_err(refused)?;
            }
            Programs::Kept(pins) => {
                if pins.has_link(link) {
                    return Ok(());
                }
                let mut probe = pins.probe(program, kind)?;
                let id = attach(&mut probe).map_err(refused)?;
                let taken = probe.take_link(id).map_err(refused)?;
                let taken = taken.try_into().map_err(|source| SourceError::Pin {
                    path: link.into(),
                    source: Box::new(source),
                })?;
                pins.keep_link(link, taken)?;
            }
        }
        Ok(())
    }

    /// Wants the TLS sessions of a process even if they are older than the probes.
    ///
    /// # Errors
    /// When the map refuses.
    pub fn want_sessions_of(&mut self, process: u32) -> Result<(), SourceError> {
        self.tls_wanted
            .insert(process, 1, 0)
            .map_err(map_error(names::TLS_WANTED))
    }

    /// How many instructions the verifier walked through per program, of a capture that is ours.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn verified_instructions(&self) -> Result<BTreeMap<String, u32>, SourceError> {
        let Programs::Ours(bpf) = &self.programs else {
            return Ok(BTreeMap::new());
        };
        bpf.programs()
            .map(|(name, program)| {
                let info = program
                    .info()
                    .map_err(|source| loading::refused("a program", "load", source))?;
                Ok((
                    name.to_owned(),
                    info.verified_instruction_count().unwrap_or(0),
                ))
            })
            .collect()
    }

    /// Calls of TLS functions per process.
    pub fn tls_hits(&self) -> Vec<(u32, u64)> {
        self.tls_hits.iter().flatten().collect()
    }

    /// The kernel's counters, summed over CPUs, by name.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        let per_cpu = self
            .counters
            .get(&0, 0)
            .map_err(map_error(names::COUNTERS))?;
        let sum = |counter: Counter| {
            let of_cpu = per_cpu.iter().filter_map(|cpu| cpu.get(counter as usize));
            of_cpu.sum()
        };
        Ok(Counter::ALL
            .iter()
            .map(|(counter, name)| (*name, sum(*counter)))
            .collect())
    }

    /// Passes the programs' own messages on to our log; they appear with target `weir_kernel`.
    pub fn forward_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn load_probes(bpf: &mut Ebpf, switches: Switches) -> Result<(), SourceError> {
    if !switches.tls {
        return Ok(());
    }
    for (name, _) in super::pins::tls_programs() {
        loading::probe(bpf, name)?
            .load()
            .map_err(|source| loading::refused(name, "load", source))?;
    }
    Ok(())
}

fn use_map<T: TryFrom<Map, Error = MapError>>(
    map: Map,
    name: &'static str,
) -> Result<T, SourceError> {
    T::try_from(map).map_err(map_error(name))
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> SourceError {
    move |error| SourceError::Map(name, Box::new(error))
}

//! Loads the programs, attaches them to a cgroup and drains their ring.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError},
};
use aya_log::EbpfLogger;
use ebpf_probes::abi::{Counter, FlowKey, names, watch};

use super::cgroup::{self, CgroupError};
use crate::connection::SkipHint;

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
    #[error("the BPF object has no {0}; rebuild with `cargo xtask build-ebpf`")]
    Missing(&'static str),
}

/// The attached programs. Dropping it detaches them.
pub struct KernelSource {
    _bpf: Ebpf,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    ring: RingBuf<MapData>,
    skips: BpfHashMap<MapData, FlowKeyPod, u32>,
    counters: PerCpuArray<MapData, u64>,
    cgroup: PathBuf,
}

impl std::fmt::Debug for KernelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSource")
            .field("cgroup", &self.cgroup)
            .finish_non_exhaustive()
    }
}

/// The key of the skip map as aya wants to see it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct FlowKeyPod(FlowKey);

#[expect(
    unsafe_code,
    reason = "the key crosses the kernel border as plain bytes"
)]
// SAFETY: FlowKey is repr(C), `Copy`, without padding or pointers; any bytes are a valid value.
unsafe impl aya::Pod for FlowKeyPod {}

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
    /// Loads and attaches; from the return on, traffic of `ports` is captured.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn attach(
        cgroup: Option<&Path>,
        ports: &[u16],
        side: WatchSide,
    ) -> Result<Self, SourceError> {
        let (path, cgroup) = cgroup::open(cgroup)?;
        let mut bpf = EbpfLoader::new()
            .load(ebpf_probes::OBJECT)
            .map_err(|error| SourceError::Load(Box::new(error)))?;
        let mut watched: Array<_, u8> = take_map(&mut bpf, names::PORTS)?;
        for port in ports {
            watched
                .set(u32::from(*port), side.bits(), 0)
                .map_err(map_error(names::PORTS))?;
        }
        let attachments = [
            (names::INGRESS, CgroupSkbAttachType::Ingress),
            (names::EGRESS, CgroupSkbAttachType::Egress),
        ];
        for (name, direction) in attachments {
            let program = bpf.program_mut(name).ok_or(SourceError::Missing(name))?;
            let refused = |place: String, hint| {
                move |source| SourceError::Program {
                    program: name,
                    place,
                    hint,
                    source: Box::new(source),
                }
            };
            let program: &mut CgroupSkb = program.try_into().map_err(refused(
                "load".to_owned(),
                "rebuild with `cargo xtask build-ebpf`",
            ))?;
            program.load().map_err(refused(
                "load".to_owned(),
                "this needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
            ))?;
            // A BPF link always allows other programs beside it, and the kernel refuses the flag that would
            // say so; `Single` is how aya spells "no flags".
            program
                .attach(&cgroup, direction, CgroupAttachMode::Single)
                .map_err(refused(
                    path.display().to_string(),
                    "another program may hold the hook exclusively; see `bpftool cgroup tree`",
                ))?;
        }
        let logger = EbpfLogger::init(&mut bpf)
            .inspect_err(|error| tracing::warn!(%error, "the kernel programs' log cannot be read"))
            .ok();
        Ok(Self {
            logger,
            ring: take_map(&mut bpf, names::RING)?,
            skips: take_map(&mut bpf, names::SKIPS)?,
            counters: take_map(&mut bpf, names::COUNTERS)?,
            _bpf: bpf,
            cgroup: path,
        })
    }

    /// The cgroup the programs are attached to.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Takes records until the ring is empty or `enough` says so. Returns how many were taken.
    pub fn drain(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Option<SkipHint>,
        enough: usize,
    ) -> usize {
        let mut taken = 0;
        while taken < enough {
            let Some(record) = self.ring.next() else {
                break;
            };
            let hint = take(&record);
            drop(record);
            taken += 1;
            if let Some(hint) = hint {
                // A hint that does not arrive costs copying, nothing else.
                if let Err(error) = self.skips.insert(FlowKeyPod(hint.flow), hint.until, 0) {
                    tracing::debug!(%error, "a skip hint was not taken");
                }
            }
        }
        taken
    }

    /// The kernel's counters, summed over CPUs, by name.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, SourceError> {
        Counter::ALL
            .iter()
            .map(|(counter, name)| {
                let values = self
                    .counters
                    .get(&(*counter as u32), 0)
                    .map_err(map_error(names::COUNTERS))?;
                Ok((*name, values.iter().sum()))
            })
            .collect()
    }

    /// Passes the programs' own messages on to our log; they appear with target `weir_kernel`.
    pub fn forward_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn take_map<T: TryFrom<aya::maps::Map, Error = MapError>>(
    bpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = bpf.take_map(name).ok_or(SourceError::Missing(name))?;
    T::try_from(map).map_err(map_error(name))
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> SourceError {
    move |error| SourceError::Map(name, Box::new(error))
}

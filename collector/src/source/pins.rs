//! Programs that outlive the collector: maps, links and probes pinned in the BPF file system.
//!
//! Owns: where they are, and whether what is there fits this build. Layout: `BPFFS/weir/NAME/FINGERPRINT/`, with one
//! file per map, probe and link. The fingerprint covers everything that is fixed when the programs are loaded, so a
//! folder that fits can be taken over as it is. Refuses: deciding when; the caller asks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::{ProbeKind, UProbe, links::FdLink},
};
use ebpf_probes::abi::names;
use sha2::{Digest as _, Sha256};

use super::{
    kernel::SourceError,
    loading::{HOOKS, Switches, hook, probe},
};
use crate::{
    clock::{UnixNanos, monotonic_now},
    trace_context::hex,
};

/// In front of a capture's id, in the name of an empty folder: the BPF file system holds nothing else of ours.
const ID: &str = "id-";

/// No two captures of a host are made at the same nanosecond since its start.
fn fresh_id() -> String {
    format!("{:x}-{:x}", UnixNanos::now().0, monotonic_now().0)
}

/// Everything that is pinned apart from links and probes.
pub(super) const MAPS: [&str; 8] = [
    names::RING,
    names::PORTS,
    names::SKIPS,
    names::COUNTERS,
    names::TLS_WANTED,
    names::TLS_HITS,
    names::TLS_SESSIONS,
    names::TLS_CALLS,
];

/// The folder of one kept capture.
#[derive(Clone, Debug)]
pub struct Pins {
    name: PathBuf,
    folder: PathBuf,
}

/// What is fixed at load time.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a> {
    /// Where the hooks are attached.
    pub cgroup: &'a Path,
    /// Size of the ring.
    pub ring_bytes: u32,
    /// Whether TLS is wanted.
    pub tls: bool,
}

impl Pins {
    /// The folder for a capture of this name; the BPF file system is mounted if it is not.
    ///
    /// # Errors
    /// When there is no BPF file system and none can be mounted, or the name is none.
    pub fn of(name: &str, fixed: &Fixed<'_>) -> Result<Self, SourceError> {
        check(name)?;
        let root = file_system()?;
        let mut hash = Sha256::new();
        hash.update(ebpf_probes::OBJECT);
        hash.update(fixed.cgroup.as_os_str().as_encoded_bytes());
        hash.update(fixed.ring_bytes.to_le_bytes());
        hash.update([u8::from(fixed.tls)]);
        let fingerprint = hex(hash.finalize().get(..8).unwrap_or_default());
        let name = root.join("weir").join(name);
        Ok(Self {
            folder: name.join(fingerprint),
            name,
        })
    }

    /// Names this capture: a ring made anew has another name.
    pub fn id(&self) -> String {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .find_map(|name| name.strip_prefix(ID).map(str::to_owned))
            .unwrap_or_default()
    }

    /// Whether a whole capture of this fingerprint is there: the last link is pinned last.
    pub fn is_there(&self) -> bool {
        self.folder.join(link_file(names::EGRESS)).exists()
    }

    /// With which switches it was loaded.
    pub fn switches(&self) -> Switches {
        Switches {
            tasks: self.folder.join("with-tasks").is_dir(),
            tls: self.folder.join("with-tls").is_dir(),
        }
    }

    /// Pins all of a loaded and attached object.
    ///
    /// # Errors
    /// When the BPF file system refuses.
    pub fn keep(&self, bpf: &mut Ebpf, switches: Switches) -> Result<(), SourceError> {
        self.remove()?;
        let folder = |path: &Path| {
            fs::create_dir_all(path).map_err(|source| SourceError::Pin {
                path: path.to_owned(),
                source: Box::new(source),
            })
        };
        folder(&self.folder)?;
        folder(&self.folder.join(format!("{ID}{}", fresh_id())))?;
        for (is_on, marker) in [(switches.tasks, "with-tasks"), (switches.tls, "with-tls")] {
            if is_on {
                folder(&self.folder.join(marker))?;
            }
        }
        for name in MAPS {
            let map = bpf.map(name).ok_or(SourceError::Missing(name))?;
            let path = self.folder.join(name);
            map.pin(&path).map_err(|source| pin_error(&path, source))?;
        }
        if switches.tls {
            for (name, _) in tls_programs() {
                let path = self.folder.join(name);
                let program = probe(bpf, name)?;
                program
                    .pin(&path)
                    .map_err(|source| pin_error(&path, source))?;
            }
        }
        Ok(())
    }

    /// Attaches the hooks and pins their links; from here on the capture outlives this process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_links(&self, bpf: &mut Ebpf, cgroup: &fs::File) -> Result<(), SourceError> {
        for (name, direction) in HOOKS {
            let program = hook(bpf, name)?;
            let refused = |source| super::loading::refused(name, "the cgroup", source);
            let id = program
                .attach(cgroup, direction, aya::programs::CgroupAttachMode::Single)
                .map_err(refused)?;
            let link: FdLink = program
                .take_link(id)
                .map_err(refused)?
                .try_into()
                .map_err(|source| pin_error(&self.folder, source))?;
            self.keep_link(&link_file(name), link)?;
        }
        Ok(())
    }

    /// Pins one more link.
    ///
    /// # Errors
    /// When the BPF file system refuses.
    pub fn keep_link(&self, file: &str, link: FdLink) -> Result<(), SourceError> {
        let path = self.folder.join(file);
        link.pin(&path).map_err(|source| pin_error(&path, source))?;
        Ok(())
    }

    /// Whether a link of this name is pinned.
    pub fn has_link(&self, file: &str) -> bool {
        self.folder.join(file).exists()
    }

    /// A pinned map.
    ///
    /// # Errors
    /// When it is not there or not usable.
    pub fn map(&self, name: &'static str) -> Result<Map, SourceError> {
        MapData::from_pin(self.folder.join(name))
            .and_then(Map::from_map_data)
            .map_err(|source| SourceError::Map(name, Box::new(source)))
    }

    /// A pinned probe, ready to be attached to one more library.
    ///
    /// # Errors
    /// When it is not there.
    pub fn probe(&self, name: &'static str, kind: ProbeKind) -> Result<UProbe, SourceError> {
        UProbe::from_pin(self.folder.join(name), kind)
            .map_err(|source| super::loading::refused(name, "load", source))
    }

    /// Ends the kept capture of this name, of whatever fingerprint: links go first, so nothing is attached any more.
    ///
    /// # Errors
    /// When the BPF file system refuses.
    pub fn remove(&self) -> Result<(), SourceError> {
        remove_folder(&self.name).map(drop)
    }
}

/// Ends the kept capture of a name. False when there was none.
///
/// # Errors
/// When the name is none, or the BPF file system refuses.
pub fn remove(name: &str) -> Result<bool, SourceError> {
    check(name)?;
    match mounted() {
        Some(root) => remove_folder(&root.join("weir").join(name)),
        None => Ok(false),
    }
}

fn check(name: &str) -> Result<(), SourceError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(sound) {
        return Err(SourceError::KeepName(name.to_owned()));
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<bool, SourceError> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(pin_error(folder, source)),
    }
}

/// Every TLS program with its kind.
pub(super) fn tls_programs() -> impl Iterator<Item = (&'static str, ProbeKind)> {
    names::TLS_PROBES.iter().flat_map(|(_, entry, done)| {
        std::iter::once((*entry, ProbeKind::Entry))
            .chain(done.map(|done| (done, ProbeKind::Return)))
    })
}

fn link_file(program: &str) -> String {
    format!("{program}-link")
}

fn pin_error(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    SourceError::Pin {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

/// Where the BPF file system is mounted; mounts it where every system has it when it is not.
fn file_system() -> Result<PathBuf, SourceError> {
    const USUAL: &str = "/sys/fs/bpf";
    if let Some(place) = mounted() {
        return Ok(place);
    }
    rustix::mount::mount(
        "bpf",
        USUAL,
        "bpf",
        rustix::mount::MountFlags::empty(),
        Some(c"mode=0700"),
    )
    .map_err(|source| pin_error(Path::new(USUAL), source))?;
    tracing::info!("mounted the BPF file system at {USUAL}");
    Ok(PathBuf::from(USUAL))
}

/// Where the BPF file system is mounted.
pub fn mounted() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "bpf").then(|| PathBuf::from(place))
    })
}

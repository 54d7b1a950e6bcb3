//! Getting the programs into the kernel: the object with its switches, the two hooks, and what to say when refused.

use std::{fs::File, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, UProbe},
};
use ebpf_probes::abi::names;

use super::kernel::SourceError;

/// Which parts of the object are switched on. The verifier never looks at the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Ask the kernel which task sends a segment (6.16 and later).
    pub tasks: bool,
    /// Join TLS sessions to connections.
    pub tls: bool,
}

/// The hooks at a cgroup.
pub(super) const HOOKS: [(&str, CgroupSkbAttachType); 2] = [
    (names::INGRESS, CgroupSkbAttachType::Ingress),
    (names::EGRESS, CgroupSkbAttachType::Egress),
];

/// Creates the maps, with every program still outside the kernel.
pub(super) fn open(switches: Switches, ring_bytes: u32) -> Result<Ebpf, SourceError> {
    let (tasks, tls) = (u32::from(switches.tasks), u32::from(switches.tls));
    EbpfLoader::new()
        .override_global(names::TASKS, &tasks, true)
        .override_global(names::TLS, &tls, true)
        .map_max_entries(names::RING, ring_bytes)
        .load(ebpf_probes::OBJECT)
        .map_err(|error| SourceError::Load(Box::new(error)))
}

/// Loads the two hooks; with the current task where the kernel allows it, else without.
pub(super) fn load_hooks(tls: bool, ring_bytes: u32) -> Result<(Ebpf, Switches), SourceError> {
    let mut refusal = None;
    for switches in [
        Switches { tasks: true, tls },
        Switches {
            tasks: false,
            tls: false,
        },
    ] {
        let mut bpf = open(switches, ring_bytes)?;
        match HOOKS.iter().try_for_each(|(name, _)| load(&mut bpf, name)) {
            Ok(()) => return Ok((bpf, switches)),
            // The first refusal is the one to tell: the second try only leaves things out.
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or(SourceError::Missing(names::INGRESS)))
}

fn load(bpf: &mut Ebpf, name: &'static str) -> Result<(), SourceError> {
    hook(bpf, name)?
        .load()
        .map_err(|source| refused(name, "load", source))
}

/// Attaches both hooks; they stay as long as `bpf` does.
pub(super) fn attach_hooks(bpf: &mut Ebpf, path: &Path, cgroup: &File) -> Result<(), SourceError> {
    for (name, direction) in HOOKS {
        // A BPF link always allows other programs beside it, and the kernel refuses the flag that would
        // say so; `Single` is how aya spells "no flags".
        hook(bpf, name)?
            .attach(cgroup, direction, CgroupAttachMode::Single)
            .map_err(|source| refused(name, &path.display().to_string(), source))?;
    }
    Ok(())
}

/// The hook of that name.
pub(super) fn hook<'a>(
    bpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSkb, SourceError> {
    let program = bpf.program_mut(name).ok_or(SourceError::Missing(name))?;
    program
        .try_into()
        .map_err(|source| refused(name, "load", source))
}

/// The TLS probe of that name.
pub(super) fn probe<'a>(
    bpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut UProbe, SourceError> {
    let program = bpf.program_mut(name).ok_or(SourceError::Missing(name))?;
    program
        .try_into()
        .map_err(|source| refused(name, "load", source))
}

/// Where a probe was to be attached, in a refusal.
pub(super) const TLS_LIBRARY: &str = "the TLS library";

/// A refusal, with what to do about it.
pub(super) fn refused(program: &'static str, place: &str, source: ProgramError) -> SourceError {
    let hint = match place {
        "load" => "this needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        TLS_LIBRARY => {
            "probes need root, or CAP_PERFMON and on today's kernels CAP_SYS_ADMIN as well"
        }
        _ => {
            "this needs CAP_NET_ADMIN; or another program holds the hook exclusively, see `bpftool cgroup tree`"
        }
    };
    SourceError::Program {
        program,
        place: place.to_owned(),
        hint,
        source: Box::new(source),
    }
}

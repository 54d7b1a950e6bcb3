//! What the process may do, and giving that up.
//!
//! Owns: the list of capabilities that attaching needs, and letting go of all the others once attached. Refuses:
//! changing users; the service manager does that.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Needed to load and attach, with what each is for.
pub const NEEDED: [(CapabilitySet, &str, &str); 3] = [
    (
        CapabilitySet::BPF,
        "CAP_BPF",
        "creates maps and loads programs",
    ),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "lets programs read packets and TLS buffers, and attaches TLS probes",
    ),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "loads network programs and attaches them to a cgroup",
    ),
];

/// Of those that are needed, the names of those that this thread lacks.
pub fn missing() -> Vec<&'static str> {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    NEEDED
        .iter()
        .filter(|(capability, _, _)| !effective.contains(*capability))
        .map(|(_, name, _)| *name)
        .collect()
}

/// Whether the files of other users' processes can be seen.
pub fn may_look_into_others() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// The highest capability this kernel knows, as a bit number.
fn last_capability() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    text.trim().parse().unwrap_or(40).min(63)
}

/// What is kept after attaching: maps are still written, and with TLS, services that come later are still probed.
fn kept(probes: bool) -> CapabilitySet {
    if probes {
        // SYS_PTRACE and DAC_READ_SEARCH show the files of other users' processes; most deployments do not grant them.
        CapabilitySet::BPF
            | CapabilitySet::PERFMON
            // Today's kernels ask for it when a probe is attached through perf events, which is what our loader does.
            | CapabilitySet::SYS_ADMIN
            | CapabilitySet::SYS_PTRACE
            | CapabilitySet::DAC_READ_SEARCH
    } else {
        CapabilitySet::BPF | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH
    }
}

/// Runs ahead of ordinary work: a reader that is starved loses records, and needs little.
pub fn go_first() {
    const AHEAD: i32 = -10;
    if let Err(error) = rustix::process::setpriority_process(None, AHEAD) {
        tracing::debug!(%error, "the collector runs at ordinary priority; on a full machine it may lose records");
    }
}

/// Gives up everything that is not needed any more, for this thread and all that it starts. `probes`: TLS probes may
/// still have to be attached. A failure is told and survived: the collector then has more than it needs, not less.
pub fn let_go(probes: bool) {
    let result = (|| {
        let now = capabilities(None)?;
        let keep = kept(probes);
        if now.effective.contains(CapabilitySet::SETPCAP) {
            for capability in
                (0..=last_capability()).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
            {
                if !keep.contains(capability) {
                    remove_capability_from_bounding_set(capability)?;
                }
            }
        }
        set_capabilities(
            None,
            CapabilitySets {
                effective: now.effective & keep,
                permitted: now.permitted & keep,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        capabilities(None)
    })();
    match result {
        Ok(left) => tracing::info!(left = ?left.effective, "let go of privileges"),
        Err(error) => tracing::warn!(%error, "privileges could not be given up"),
    }
}

//! `collector doctor`: what this kernel offers, hook by hook, and what is lost where one is off.

use std::{fmt, fs, io::Write as _, path::Path};

use anyhow::{Context as _, bail};

use crate::source::{AttachOptions, KernelSource, cgroup};

/// The verdict on one thing.
enum State {
    Good(String),
    /// Works without; says what is lost.
    Off {
        reason: String,
        loses: &'static str,
    },
    /// Nothing works without; says what to do.
    Bad {
        reason: String,
        remedy: &'static str,
    },
}

struct Finding {
    what: &'static str,
    state: State,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Good(detail) => write!(f, "ok    {:<28} {detail}", self.what),
            State::Off { reason, loses } => {
                write!(f, "off   {:<28} {reason}; without it: {loses}", self.what)
            }
            State::Bad { reason, remedy } => {
                write!(f, "FAIL  {:<28} {reason}; {remedy}", self.what)
            }
        }
    }
}

/// Capabilities that capture needs, by bit number.
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

pub(super) fn run() -> anyhow::Result<()> {
    let findings = [
        kernel(),
        capabilities(),
        cgroups(),
        programs(),
        bpf_filesystem(),
        compiler(),
        run_statistics(),
    ];
    let mut out = std::io::stdout();
    for finding in &findings {
        writeln!(out, "{finding}").context("while writing the findings")?;
    }
    let bad = findings
        .iter()
        .filter(|finding| matches!(finding.state, State::Bad { .. }))
        .count();
    if bad > 0 {
        bail!(
            "{bad} of {} checks failed: this machine cannot capture as it is",
            findings.len()
        );
    }
    Ok(())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let state = match release {
        Some(release) => State::Good(release),
        None => State::Bad {
            reason: "/proc is not readable".to_owned(),
            remedy: "mount it",
        },
    };
    Finding {
        what: "kernel",
        state,
    }
}

fn capabilities() -> Finding {
    let status = read("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    let state = if missing.is_empty() {
        State::Good("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN".to_owned())
    } else {
        State::Bad {
            reason: format!("missing {}", missing.join(", ")),
            remedy: "run as root, or give the binary these capabilities with setcap",
        }
    };
    Finding {
        what: "capabilities",
        state,
    }
}

fn cgroups() -> Finding {
    let state = match cgroup::mount_point() {
        Ok(path) => State::Good(path.display().to_string()),
        Err(error) => State::Bad {
            reason: error.to_string(),
            remedy: "capture attaches to a cgroup",
        },
    };
    Finding {
        what: "cgroup v2",
        state,
    }
}

/// The proof: load both programs and attach them for a moment, watching no port.
fn programs() -> Finding {
    let state = match KernelSource::attach(&AttachOptions {
        tls: true,
        ..AttachOptions::default()
    }) {
        Ok((source, _)) => State::Good(format!(
            "ingress and egress load and attach at {}",
            source.cgroup().display()
        )),
        Err(error) => State::Bad {
            reason: format!("{:#}", anyhow::Error::from(error)),
            remedy: "no exchange can be captured",
        },
    };
    Finding {
        what: "cgroup_skb programs",
        state,
    }
}

fn bpf_filesystem() -> Finding {
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("bpf"));
    let state = match mounted.and_then(|line| line.split(' ').nth(1)) {
        Some(path) => State::Good(path.to_owned()),
        None => State::Off {
            reason: "not mounted".to_owned(),
            loses: "captures cannot outlive a restart of the collector (not used yet)",
        },
    };
    Finding {
        what: "bpf file system",
        state,
    }
}

fn compiler() -> Finding {
    let state = match read("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Some("1" | "2") => State::Good("on".to_owned()),
        None if Path::new("/proc/sys/net/core").exists() => {
            State::Good("always on in this kernel".to_owned())
        }
        _ => State::Off {
            reason: "net.core.bpf_jit_enable is 0".to_owned(),
            loses: "speed: the programs are interpreted, at several times the cost per request",
        },
    };
    Finding {
        what: "BPF compiler (JIT)",
        state,
    }
}

fn run_statistics() -> Finding {
    let state = match read("/proc/sys/kernel/bpf_stats_enabled").as_deref() {
        Some("1") => State::Good("on; it costs a little by itself".to_owned()),
        _ => State::Off {
            reason: "kernel.bpf_stats_enabled is 0".to_owned(),
            loses: "the programs' own run time cannot be read; leave it off outside of measurements",
        },
    };
    Finding {
        what: "BPF run-time statistics",
        state,
    }
}

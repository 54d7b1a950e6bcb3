//! `collector doctor`: what this kernel offers, hook by hook, and what is lost where one is off. With `--live`, whether
//! the books of a running collector balance.

mod live;

use std::{fmt, fs, io::Write as _, num::NonZeroU32, path::Path};

use anyhow::{Context as _, bail};
use aya::programs::{ProbeKind, uprobe::UProbeScope};

use super::DoctorArgs;
use crate::{
    privileges,
    source::{AttachOptions, KernelSource, SourceError, cgroup, pins},
};

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

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    if let Some(address) = &args.live {
        return live::run(address);
    }
    let mut findings = vec![kernel(), capabilities(), cgroups()];
    findings.extend(programs());
    findings.extend([
        bpf_filesystem(),
        other_processes(),
        compiler(),
        run_statistics(),
    ]);
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
    let missing = privileges::missing();
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

/// The proof: load all programs and attach them for a moment, watching no port.
fn programs() -> Vec<Finding> {
    const HOOKS: &str = "cgroup_skb hooks";
    let options = AttachOptions {
        tls: true,
        ..AttachOptions::default()
    };
    let mut source = match KernelSource::attach(&options) {
        Ok((source, _)) => source,
        Err(error) => {
            return vec![Finding {
                what: HOOKS,
                state: State::Bad {
                    reason: first_line(&error),
                    remedy: "no exchange can be captured",
                },
            }];
        }
    };
    let place = source.cgroup().display().to_string();
    let tasks = if source.switches().tasks {
        State::Good("the hooks may ask who sends".to_owned())
    } else {
        State::Off {
            reason: "only kernels from 6.16 on let network programs ask".to_owned(),
            loses: "TLS in plain text, the names of callers, and calls joined without trace context",
        }
    };
    let probes = match try_a_probe(&mut source) {
        Ok(()) => State::Good("probes on OpenSSL's functions load and attach".to_owned()),
        Err(error) => State::Off {
            reason: first_line(&error),
            loses: "TLS in plain text; handshakes are still seen on the wire",
        },
    };
    vec![
        Finding {
            what: HOOKS,
            state: State::Good(format!("ingress and egress load and attach at {place}")),
        },
        Finding {
            what: "current task",
            state: tasks,
        },
        Finding {
            what: "TLS probes",
            state: probes,
        },
    ]
}

/// Probes a function of the C library that we do not call, in this process only.
fn try_a_probe(source: &mut KernelSource) -> Result<(), SourceError> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library = maps
        .lines()
        .find(|line| line.contains("libc.so"))
        .and_then(|line| line.get(line.find('/')?..));
    let Some(library) = library else {
        return Err(SourceError::Missing("a C library to try a probe on"));
    };
    let us = NonZeroU32::new(std::process::id()).unwrap_or(NonZeroU32::MIN);
    source.attach_probe(
        "tls_free",
        ProbeKind::Entry,
        |probe| probe.attach("getauxval", library, UProbeScope::OneProcess(us)),
        "doctor",
    )
}

/// The verifier's log is for developers; what it says last is in the chain's first line.
fn first_line(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        let cause_text = cause.to_string();
        text.push_str(cause_text.lines().next().unwrap_or_default());
        source = cause.source();
    }
    text.chars().take(400).collect()
}

fn bpf_filesystem() -> Finding {
    let state = match pins::mounted() {
        Some(path) => State::Good(path.display().to_string()),
        None => State::Off {
            reason: "not mounted; `collector run --keep` mounts it when it may".to_owned(),
            loses: "captures that outlive a restart of the collector",
        },
    };
    Finding {
        what: "BPF file system",
        state,
    }
}

fn other_processes() -> Finding {
    let state = if privileges::may_look_into_others() {
        State::Good("files and descriptors of all processes can be seen".to_owned())
    } else {
        State::Off {
            reason: "other users' processes are hidden (CAP_SYS_PTRACE shows them)".to_owned(),
            loses: "names of services that have none configured; TLS libraries outside the system's folders",
        }
    };
    Finding {
        what: "other processes",
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

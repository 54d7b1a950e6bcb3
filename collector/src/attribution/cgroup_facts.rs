//! What the text of `/proc/PID/cgroup` says about a process: its container, its pod, its systemd unit.
//!
//! Owns the naming habits of runtimes and of systemd. Refuses to ask a runtime or the kubelet: what is here are
//! ids, never the names that people gave to containers and pods.

/// Lines looked at; version 1 has about a dozen hierarchies.
const LINES_MAX: usize = 64;
/// Components of one path looked at.
const DEPTH_MAX: usize = 32;
/// Prefixes that runtimes put before a container's id, as they appear with the systemd driver (and CRI-O and
/// podman also without it).
const PREFIXES: &[(&str, &str)] = &[
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "crio"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
];

/// Who a process belongs to, as far as its control groups tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CgroupFacts {
    /// The innermost container: 12 to 64 lower-case hex digits, as the runtime wrote them.
    pub container_id: Option<String>,
    /// `docker`, `containerd`, `crio` or `podman`; absent where the path has the id alone.
    pub container_runtime: Option<&'static str>,
    /// The Kubernetes pod's uid, with dashes where it is a UUID.
    pub pod_uid: Option<String>,
    /// The systemd unit that the process runs in, such as `nginx.service`; that of the user's or container's own
    /// manager when there is one. Escapes such as `\x2d` are decoded for reading.
    pub systemd_unit: Option<String>,
}

impl CgroupFacts {
    /// Parses the whole file; lines that are none are passed over.
    pub fn parse(text: &str) -> Self {
        let mut paths: Vec<(u8, &str)> = text
            .lines()
            .take(LINES_MAX)
            .filter_map(ranked_path)
            .collect();
        paths.sort_by_key(|(rank, _)| *rank);
        let mut first = Self::default();
        for (_, path) in paths {
            let facts = Self::of_path(path);
            // On a hybrid host the runtime moves its containers in one version only; the other still shows the
            // runtime's own unit, so a line with a container speaks for all.
            if facts.container_id.is_some() {
                return facts;
            }
            first.pod_uid = first.pod_uid.or(facts.pod_uid);
            first.systemd_unit = first.systemd_unit.or(facts.systemd_unit);
        }
        first
    }

    fn of_path(path: &str) -> Self {
        let mut facts = Self::default();
        let mut parent = String::new();
        // Inside a unit, further units are its own business, except below a manager or in a container.
        let mut unit_may_follow = true;
        let components = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".."));
        for component in components.take(DEPTH_MAX).map(unescape) {
            facts.pod_uid = pod_uid(&component).or(facts.pod_uid);
            if let Some((id, runtime)) = container(&component, &parent) {
                facts.container_id = Some(id);
                facts.container_runtime = runtime;
                unit_may_follow = true;
            } else if unit_may_follow && is_unit(&component) {
                unit_may_follow = is_manager(&component);
                // A leading underscore shields names that the control group's own files might have.
                let name = component.strip_prefix('_').unwrap_or(&component);
                facts.systemd_unit = Some(name.to_owned());
            }
            parent = component;
        }
        facts
    }
}

/// The path of a line `id:controllers:path` and how much it is worth: systemd's own hierarchy first.
fn ranked_path(line: &str) -> Option<(u8, &str)> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let rank = match controllers {
        "name=systemd" => 0,
        "" if id == "0" => 1,
        _ => 2,
    };
    Some((rank, path))
}

/// Container id and runtime of one component of a path.
fn container(component: &str, parent: &str) -> Option<(String, Option<&'static str>)> {
    // A runtime that was told to use systemd's form on a host without it: `SLICE:cri-containerd:ID`.
    if let Some((front, id)) = component.rsplit_once(':') {
        let runtime = front.rsplit(':').next().unwrap_or_default();
        let known = PREFIXES
            .iter()
            .find(|(prefix, _)| prefix.strip_suffix('-') == Some(runtime));
        return is_hex(id, 12).then(|| (id.to_owned(), known.map(|(_, name)| *name)));
    }
    let stem = component.strip_suffix(".scope").unwrap_or(component);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = stem.strip_prefix(prefix).filter(|id| is_hex(id, 12)) {
            return Some((id.to_owned(), Some(runtime)));
        }
    }
    // Without a prefix only the full length tells an id from any other hexadecimal name.
    let (shortest, runtime) = if parent == "docker" {
        (12, Some("docker"))
    } else {
        (64, None)
    };
    is_hex(component, shortest).then(|| (component.to_owned(), runtime))
}

/// The uid in `podUID` or `kubepods-burstable-podUID.slice`, where systemd's form has `_` for `-`.
fn pod_uid(component: &str) -> Option<String> {
    let name = component.split(':').next().unwrap_or(component);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    // Pods from files of the node have a bare hash as uid, all others a UUID.
    let is_hash = uid.len() == 32 && is_hex(&uid, 32);
    let is_uuid = uid
        .split('-')
        .map(|group| if is_hex(group, 1) { group.len() } else { 0 })
        .eq([8, 4, 4, 4, 12]);
    (is_hash || is_uuid).then_some(uid)
}

fn is_unit(component: &str) -> bool {
    component
        .rsplit_once('.')
        .is_some_and(|(name, kind)| !name.is_empty() && UNIT_KINDS.contains(&kind))
}

/// Kinds of units that hold processes; slices only hold units.
const UNIT_KINDS: &[&str] = &["service", "scope", "socket", "mount", "swap"];

/// A user's own systemd, below which the user's units lie.
fn is_manager(component: &str) -> bool {
    component.starts_with("user@") && component.ends_with(".service")
}

fn is_hex(text: &str, shortest: usize) -> bool {
    (shortest..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Decodes `\xNN` where it stands for a printable character.
fn unescape(component: &str) -> String {
    let mut out = String::with_capacity(component.len());
    let mut rest = component;
    while let Some(at) = rest.find("\\x") {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let byte = escape
            .get(2..4)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
        let taken = if let Some(byte) = byte {
            out.push(char::from(byte));
            4
        } else {
            out.push_str("\\x");
            2
        };
        rest = escape.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4f9d2c8e1a7b3650d1e2f3a4b5c6d7e8f90112233445566778899aabbccddeef";
    const UID: &str = "3f1c7e52-9b1d-4c43-8a1e-0d6a5b7c9e10";

    /// Text (`ID`, `UID` and `U_D`, the uid with underscores, are filled in), container found, runtime, pod found, unit.
    type Case = (
        &'static str,
        bool,
        Option<&'static str>,
        bool,
        Option<&'static str>,
    );

    #[rustfmt::skip]
    const CASES: &[Case] = &[
        // Kubernetes, systemd driver.
        ("0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_D.slice/cri-containerd-ID.scope", true, Some("containerd"), true, None),
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/crio-ID.scope", true, Some("crio"), true, None),
        ("0::/kubepods.slice/kubepods-podU_D.slice/cri-containerd-ID.scope", true, Some("containerd"), true, None),
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/docker-ID.scope", true, Some("docker"), true, None),
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_D.slice/crio-ID.scope/container", true, Some("crio"), true, None),
        // Kubernetes, cgroupfs driver, versions 1 and 2; the pod's pause group has no container.
        ("11:memory:/kubepods/burstable/podUID/ID\n1:name=systemd:/kubepods/burstable/podUID/ID", true, None, true, None),
        ("0::/kubepods/besteffort/podUID/ID", true, None, true, None),
        ("0::/kubepods/podUID/crio-ID", true, Some("crio"), true, None),
        ("0::/kubepods/besteffort/podUID", false, None, true, None),
        // A kubelet of kind: nested in a container of the host.
        ("0::/system.slice/docker-aaaabbbbccccddddeeeeffff00001111aaaabbbbccccddddeeeeffff00001111.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU_D.slice/cri-containerd-ID.scope", true, Some("containerd"), true, None),
        // The systemd form on a host without systemd.
        ("0::/system.slice/containerd.service/kubepods-burstable-podU_D.slice:cri-containerd:ID", true, Some("containerd"), true, Some("containerd.service")),
        // Docker.
        ("0::/system.slice/docker-ID.scope", true, Some("docker"), false, None),
        ("12:pids:/docker/ID\n11:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service", true, Some("docker"), false, None),
        ("0::/docker/ID", true, Some("docker"), false, None),
        ("0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", true, Some("docker"), false, Some("user@1000.service")),
        ("0::/system.slice/docker-ID.scope/system.slice/nginx.service", true, Some("docker"), false, Some("nginx.service")),
        ("0::/system.slice/docker.service", false, None, false, Some("docker.service")),
        ("0::/docker/buildx/4f9d2c8e1a7b", false, None, false, None),
        // Podman.
        ("0::/machine.slice/libpod-ID.scope/container", true, Some("podman"), false, None),
        ("0::/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope", true, Some("podman"), false, None),
        ("0::/machine.slice/libpod-conmon-ID.scope", false, None, false, Some("libpod-conmon-ID.scope")),
        ("0::/system.slice/shop.service/libpod-payload-ID", true, Some("podman"), false, Some("shop.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", true, Some("podman"), false, Some("user@1000.service")),
        // Others.
        ("9:memory:/ecs/0f2d7c3d9a5e4d8b9c7a6f5e4d3c2b1a/ID", true, None, false, None),
        ("0::/system.slice/nerdctl-ID.scope", true, Some("containerd"), false, None),
        ("0::/lxc.payload.web/system.slice/nginx.service", false, None, false, Some("nginx.service")),
        // systemd without containers.
        ("0::/system.slice/nginx.service", false, None, false, Some("nginx.service")),
        ("0::/system.slice/system-postgresql.slice/postgresql@15-main.service", false, None, false, Some("postgresql@15-main.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", false, None, false, Some("foo.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-code\\x2doss-4411.scope", false, None, false, Some("app-gnome-code-oss-4411.scope")),
        ("0::/user.slice/user-1000.slice/session-4.scope", false, None, false, Some("session-4.scope")),
        ("0::/system.slice/my\\x2dshop.service/worker", false, None, false, Some("my-shop.service")),
        ("0::/system.slice/outer.service/inner.service", false, None, false, Some("outer.service")),
        ("0::/init.scope", false, None, false, Some("init.scope")),
        ("2:cpu:/\n1:name=systemd:/system.slice/ssh.service\n0::/", false, None, false, Some("ssh.service")),
        // Nothing to be told.
        ("0::/", false, None, false, None),
        ("0::/../../user.slice", false, None, false, None),
        ("4:memory:/process_api/0ce4d998abf4cb01ba0f07e2e8a7e19f", false, None, false, None),
        ("garbage\n\n::\n0::", false, None, false, None),
    ];

    #[test]
    fn lines_of_real_hosts_are_understood() {
        for (text, container, runtime, pod, unit) in CASES {
            let fill = |text: &str| {
                text.replace("U_D", &UID.replace('-', "_"))
                    .replace("UID", UID)
                    .replace("ID", ID)
            };
            let facts = CgroupFacts::parse(&fill(text));
            let expected = CgroupFacts {
                container_id: container.then(|| ID.to_owned()),
                container_runtime: *runtime,
                pod_uid: pod.then(|| UID.to_owned()),
                systemd_unit: unit.map(fill),
            };
            assert_eq!(facts, expected, "{text}");
        }
    }

    #[test]
    fn the_uid_of_a_static_pod_is_a_hash() {
        let facts = CgroupFacts::parse(&format!(
            "0::/kubepods/burstable/pod5f1e2d3c4b5a69788796a5b4c3d2e1f0/{ID}"
        ));
        assert_eq!(
            facts.pod_uid.as_deref(),
            Some("5f1e2d3c4b5a69788796a5b4c3d2e1f0")
        );
    }

    #[test]
    fn a_short_id_counts_only_behind_a_prefix() {
        let parse = |text| CgroupFacts::parse(text).container_id;
        assert_eq!(
            parse("0::/docker/4f9d2c8e1a7b").as_deref(),
            Some("4f9d2c8e1a7b")
        );
        assert_eq!(parse("0::/docker-4f9d2c8e1a7.scope"), None, "11 digits");
        assert_eq!(parse("0::/batch/4f9d2c8e1a7b"), None);
        assert_eq!(parse(&format!("0::/batch/{ID}0")), None, "65 digits");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_and_ids_keep_their_form(text in "[a-f0-9:/.@_x\\\\\n-]{0,200}|(?s).{0,80}") {
            let facts = CgroupFacts::parse(&text);
            if let Some(id) = facts.container_id {
                prop_assert!((12..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
    }
}

//! What discovery has found, for the pipeline to look up: shared between the thread that searches and the one that
//! names exchanges.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{discovery::PortOwner, process::Process};
use crate::pipeline::{Listener, Listeners};

#[derive(Debug, Default)]
struct Entries {
    of_port: HashMap<u16, Arc<Listener>>,
    /// Service and lowest pid of its processes.
    service_of: HashMap<u32, (String, u32)>,
}

/// Listeners by port and services by process. Cheap to clone; all clones share what is found.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    names: Arc<HashMap<u16, String>>,
    found: Arc<RwLock<Entries>>,
}

impl Directory {
    /// `names`: configured service per port; they win over what is found.
    pub fn new(names: HashMap<u16, String>) -> Self {
        let of_port = names
            .iter()
            .map(|(port, name)| {
                let listener = Listener {
                    service: Some(name.clone()),
                    ..Listener::default()
                };
                (*port, Arc::new(listener))
            })
            .collect();
        Self {
            names: Arc::new(names),
            found: Arc::new(RwLock::new(Entries {
                of_port,
                ..Entries::default()
            })),
        }
    }

    /// Enters the owner of a port. One that has gone stays: exchanges of its last moments still name it.
    pub fn enter(&self, owner: &PortOwner) {
        let configured = self.names.get(&owner.port);
        let service = configured
            .cloned()
            .or_else(|| owner.process.as_ref().map(service_name));
        let listener = Listener {
            service: service.clone(),
            pid: owner.process.as_ref().map(|process| process.pid),
            process: owner
                .process
                .as_ref()
                .map(|process| process.command.clone()),
            pids: owner.pids.clone(),
            attributes: owner.process.as_ref().map(attributes).unwrap_or_default(),
        };
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        // Workers that have ended since are forgotten, or restarts would fill the table.
        if let Some(before) = found.of_port.get(&owner.port).cloned() {
            for pid in before.pids.iter().filter(|pid| !owner.pids.contains(pid)) {
                found.service_of.remove(pid);
            }
        }
        if let (Some(service), Some(group)) = (service, owner.pids.first()) {
            for pid in &owner.pids {
                let entry = (service.clone(), *group);
                found.service_of.insert(*pid, entry);
            }
        }
        found.of_port.insert(owner.port, Arc::new(listener));
    }
}

impl Listeners for Directory {
    fn of_port(&mut self, port: u16) -> Arc<Listener> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.of_port.get(&port).cloned().unwrap_or_default()
    }

    fn service_of(&mut self, process: u32) -> Option<String> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let (service, _) = found.service_of.get(&process)?;
        Some(service.clone())
    }

    fn group_of(&mut self, process: u32) -> Option<u32> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.service_of.get(&process).map(|(_, group)| *group)
    }
}

/// The name of a service that has none configured: its program or script, else its command.
fn service_name(process: &Process) -> String {
    process
        .program
        .clone()
        .unwrap_or_else(|| process.command.clone())
}

/// What is told of a process beside its name.
fn attributes(process: &Process) -> Vec<(String, String)> {
    let cgroup = &process.cgroup;
    [
        ("container_id", cgroup.container_id.clone()),
        (
            "container_runtime",
            cgroup.container_runtime.map(str::to_owned),
        ),
        ("pod_uid", cgroup.pod_uid.clone()),
        ("systemd_unit", cgroup.systemd_unit.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_name_wins_over_what_is_found() {
        let owner = |port| PortOwner {
            port,
            pids: vec![7, 8],
            process: Some(Process {
                pid: 7,
                start_time: 1,
                command: "python3".to_owned(),
                program: Some("shop.py".to_owned()),
                cgroup: super::super::cgroup_facts::CgroupFacts {
                    systemd_unit: Some("shop.service".to_owned()),
                    ..Default::default()
                },
            }),
            namespaces: 1,
        };
        let mut directory = Directory::new(HashMap::from([(80, "gateway".to_owned())]));
        assert_eq!(directory.of_port(80).service.as_deref(), Some("gateway"));
        directory.enter(&owner(80));
        directory.enter(&owner(81));
        let gateway = directory.of_port(80);
        assert_eq!(gateway.service.as_deref(), Some("gateway"));
        assert_eq!(gateway.process.as_deref(), Some("python3"));
        assert_eq!(directory.of_port(81).service.as_deref(), Some("shop.py"));
        assert_eq!(directory.of_port(82).service, None);
        let unit = ("systemd_unit".to_owned(), "shop.service".to_owned());
        assert_eq!(directory.of_port(81).attributes, [unit]);
        assert_eq!(directory.service_of(8).as_deref(), Some("shop.py"));
    }
}

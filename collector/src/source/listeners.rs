//! Fixed names of ports, for replays and tests.

use std::{collections::HashMap, sync::Arc};

use crate::pipeline::{Listener, Listeners};

/// Fixed names without looking anywhere.
#[derive(Debug, Default)]
pub struct NamedListeners(HashMap<u16, Arc<Listener>>);

impl NamedListeners {
    /// `names`: service per port.
    pub fn new(names: HashMap<u16, String>) -> Self {
        let listener = |name| {
            Arc::new(Listener {
                service: Some(name),
                ..Listener::default()
            })
        };
        Self(
            names
                .into_iter()
                .map(|(port, name)| (port, listener(name)))
                .collect(),
        )
    }
}

impl Listeners for NamedListeners {
    fn of_port(&mut self, port: u16) -> Arc<Listener> {
        self.0.get(&port).cloned().unwrap_or_default()
    }
}

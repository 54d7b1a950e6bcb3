//! Records in, exchanges out: the part of the collector that is the same live and in a replay.
//!
//! Owns the table of connections and the naming of what it finds (service, route, event, ids). It runs on
//! one thread and does no I/O; the caller hands it records and takes exchanges and skip hints.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ebpf_probes::abi::{EGRESS, FlowKey, RecordHeader, tcp_flags, watch};

use crate::{
    clock::{ClockAnchor, MonotonicNs},
    connection::{Connection, SkipHint},
    exchange::{Exchange, Role},
    facts::FactRules,
    http::Side,
    ledger::{Ledger, Line},
    limits::{CONNECTIONS_MAX, IDLE_NS_MAX, LINGER_NS},
    pairing::{InFlight, Surroundings},
    routes::Routes,
    rules::EventRules,
    trace_context::{TraceParent, derive_ids},
};

/// Who listens on a server port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Configured name, or the process's.
    pub service: Option<String>,
    /// The process that listens, when it is on this host.
    pub pid: Option<u32>,
    /// Its command name.
    pub process: Option<String>,
}

/// Looks up the listener of a port; asked once per exchange, so it must be quick.
pub trait Listeners: Send {
    /// The listener of a server port.
    fn of_port(&mut self, port: u16) -> Listener;
}

/// Everything the pipeline is told at the start.
#[derive(Debug)]
pub struct PipelineConfig {
    /// What to keep of messages.
    pub facts: FactRules,
    /// Which exchanges are business events.
    pub events: EventRules,
    /// Path templates.
    pub routes: Routes,
}

/// The two ends of a connection, client first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ConnectionKey {
    client_to_server: FlowKey,
    side: u8,
}

/// The pipeline.
pub struct Pipeline {
    config: PipelineConfig,
    listeners: Box<dyn Listeners>,
    ledger: Arc<Ledger>,
    anchor: ClockAnchor,
    connections: HashMap<ConnectionKey, Connection>,
    done: Vec<InFlight>,
    now: MonotonicNs,
    swept_at: MonotonicNs,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// A pipeline without connections.
    pub fn new(
        config: PipelineConfig,
        listeners: Box<dyn Listeners>,
        ledger: Arc<Ledger>,
        anchor: ClockAnchor,
    ) -> Self {
        Self {
            config,
            listeners,
            ledger,
            anchor,
            connections: HashMap::new(),
            done: Vec::new(),
            now: MonotonicNs(0),
            swept_at: MonotonicNs(0),
        }
    }

    /// Renews the relation of the two clocks.
    pub fn set_anchor(&mut self, anchor: ClockAnchor) {
        self.anchor = anchor;
    }

    /// Digests one raw record; complete exchanges are appended to `out`.
    pub fn record(&mut self, record: &[u8], out: &mut Vec<Exchange>) -> Option<SkipHint> {
        self.ledger.add(Line::RecordsRead, 1);
        let Some((header, captured)) = RecordHeader::parse(record) else {
            self.ledger.add(Line::RecordsCorrupt, 1);
            return None;
        };
        self.now = self.now.max(MonotonicNs(header.monotonic_ns));
        let side = direction_of(&header);
        let client_to_server = match side {
            Side::Request => header.flow,
            Side::Response => header.flow.reversed(),
        };
        let key = ConnectionKey {
            client_to_server,
            side: header.side,
        };
        self.make_room(&key, &header, side, out);
        let around = Surroundings {
            rules: &self.config.facts,
            ledger: &self.ledger,
        };
        let connection = match self.connections.get_mut(&key) {
            Some(connection) => connection,
            // A close without anything before it tells nothing about any exchange.
            None if header.payload_bytes == 0 && header.tcp_flags & tcp_flags::SYN == 0 => {
                return None;
            }
            None => {
                let opened = header.tcp_flags & tcp_flags::SYN != 0;
                self.ledger.add(
                    if opened {
                        Line::ConnectionsOpened
                    } else {
                        Line::ConnectionsJoined
                    },
                    1,
                );
                self.connections
                    .entry(key)
                    .or_insert_with(|| Connection::new(&header))
            }
        };
        let hint = connection.observe(side, &header, captured, &around, &mut self.done);
        self.name_all(&key, out);
        hint
    }

    /// Forgets closed and idle connections; cheap when called often.
    pub fn sweep(&mut self, out: &mut Vec<Exchange>) {
        const SWEEP_NS: u64 = 1_000_000_000;
        if self.now.since(self.swept_at) < SWEEP_NS {
            return;
        }
        self.swept_at = self.now;
        let now = self.now;
        let stale = |connection: &Connection| {
            let limit = if connection.closed {
                LINGER_NS
            } else {
                IDLE_NS_MAX
            };
            now.since(connection.last_seen) > limit
        };
        let keys: Vec<ConnectionKey> = self
            .connections
            .iter()
            .filter(|(_, connection)| stale(connection))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            let idle = self.remove(&key, out);
            self.ledger.add(Line::ConnectionsIdle, u64::from(idle));
        }
    }

    /// Ends everything: what has no response yet is handed out as it stands.
    pub fn finish(&mut self, out: &mut Vec<Exchange>) {
        let keys: Vec<ConnectionKey> = self.connections.keys().copied().collect();
        for key in keys {
            self.remove(&key, out);
        }
    }

    /// Connections followed now.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn make_room(
        &mut self,
        key: &ConnectionKey,
        header: &RecordHeader,
        side: Side,
        out: &mut Vec<Exchange>,
    ) {
        let is_client_syn = side == Side::Request && header.tcp_flags & tcp_flags::SYN != 0;
        if is_client_syn
            && self
                .connections
                .get(key)
                .is_some_and(|old| old.is_superseded_by(header))
        {
            self.remove(key, out);
        }
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(key) {
            let oldest = self
                .connections
                .iter()
                .min_by_key(|(_, connection)| connection.last_seen);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.ledger.add(Line::ConnectionsEvicted, 1);
                self.remove(&oldest, out);
            }
        }
    }

    /// Removes a connection; true when it was still open.
    fn remove(&mut self, key: &ConnectionKey, out: &mut Vec<Exchange>) -> bool {
        let Some(mut connection) = self.connections.remove(key) else {
            return false;
        };
        let open = !connection.closed;
        let around = Surroundings {
            rules: &self.config.facts,
            ledger: &self.ledger,
        };
        connection.abandon(&around, &mut self.done);
        self.name_all(key, out);
        open
    }

    fn name_all(&mut self, key: &ConnectionKey, out: &mut Vec<Exchange>) {
        let mut done = std::mem::take(&mut self.done);
        out.extend(done.drain(..).map(|in_flight| self.name(key, in_flight)));
        self.done = done;
    }

    fn name(&mut self, key: &ConnectionKey, seen: InFlight) -> Exchange {
        let flow = &key.client_to_server;
        let listener = self.listeners.of_port(flow.destination_port);
        let outcome = seen.outcome();
        let route = seen.path.as_deref().map(|path| {
            self.config
                .routes
                .route(listener.service.as_deref().unwrap_or_default(), path)
        });
        let event = route.as_deref().and_then(|route| {
            self.config.events.name(
                listener.service.as_deref(),
                seen.method.as_deref(),
                route,
                seen.status,
            )
        });
        let (request, response) = (seen.request_facts, seen.response_facts);
        let ids = derive_ids(&[
            &flow.source_address,
            &flow.source_port.to_le_bytes(),
            &flow.destination_port.to_le_bytes(),
            &seen.started.0.to_le_bytes(),
            &[key.side],
        ]);
        let mut attributes: BTreeMap<String, String> = request.attributes;
        let (trace_id, parent_span_id) =
            trace_of(request.trace, response.trace, ids.0, &mut attributes);
        Exchange {
            timestamp: self.anchor.to_unix(seen.started),
            duration_ns: seen.ended.since(seen.started),
            ttfb_ns: seen.response_started.map(|at| at.since(seen.started)),
            role: if key.side == watch::SERVER {
                Role::Server
            } else {
                Role::Client
            },
            service: listener.service,
            pid: listener.pid,
            process: listener.process,
            method: seen.method,
            path: seen.path,
            route,
            host: request.host,
            status_code: seen.status,
            protocol: if seen.minor_version == 0 {
                "http/1.0"
            } else {
                "http/1.1"
            },
            tls: false,
            request_bytes: seen.request_bytes,
            response_bytes: seen.response_bytes,
            client_address: ip(flow.source_address),
            client_port: flow.source_port,
            server_address: ip(flow.destination_address),
            server_port: flow.destination_port,
            tenant_id: request.tenant.or(response.tenant),
            user_id: request.user.or(response.user),
            session_id: request.session.or(response.session),
            trace_id: Some(trace_id),
            span_id: Some(ids.1),
            parent_span_id,
            event,
            outcome,
            attributes,
        }
    }
}

/// Trace id and parent: the request's, else the trace that the service says it began, else our own.
fn trace_of(
    request: Option<TraceParent>,
    response: Option<TraceParent>,
    derived: String,
    attributes: &mut BTreeMap<String, String>,
) -> (String, Option<String>) {
    match (request, response) {
        (Some(parent), _) => (parent.trace_id, Some(parent.span_id)),
        (None, Some(answer)) => {
            attributes.insert("service_span_id".to_owned(), answer.span_id);
            (answer.trace_id, None)
        }
        (None, None) => (derived, None),
    }
}

/// Beside a server, what arrives is the request; beside a client, what leaves is.
const fn direction_of(header: &RecordHeader) -> Side {
    let leaves = header.direction == EGRESS;
    let at_client = header.side == watch::CLIENT;
    if leaves == at_client {
        Side::Request
    } else {
        Side::Response
    }
}

fn ip(address: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(address).to_canonical()
}

//! Records in, exchanges out: the part of the collector that is the same live and in a replay.
//!
//! Owns the table of connections and the naming of what it finds (service, route, event, ids). It runs on
//! one thread and does no I/O; the caller hands it records and takes exchanges and skip hints.

mod naming;
mod sessions;
mod stitching;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use ebpf_probes::abi::{EGRESS, FlowKey, Opener, RecordHeader, kind, tcp_flags, watch};
use foldhash::quality::RandomState;
use naming::{Carried, Namer, key_of};
use sessions::Sessions;
use stitching::{Caller, Completed, Stitching};

use crate::{
    attribution::service_map::{ServiceMap, StatusClass},
    clock::{ClockAnchor, MonotonicNs},
    connection::{Connection, SkipHint},
    exchange::{Exchange, Role},
    facts::FactRules,
    health::{HealthBook, Minute},
    http::Side,
    ledger::{Ledger, Line},
    limits::{CONNECTIONS_MAX, IDLE_NS_MAX, LINGER_NS, OPENERS_MAX},
    pairing::{Begun, InFlight, Surroundings, Task},
    privacy::Pseudonyms,
    routes::Routes,
    rules::EventRules,
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
    /// All processes that hold the listening socket: a master and its workers.
    pub pids: Vec<u32>,
    /// What else is known of it, as attributes of its exchanges: container, pod, systemd unit.
    pub attributes: Vec<(String, String)>,
}

/// Looks up the listener of a port; asked for every record that completes an exchange, so it must be quick.
pub trait Listeners: Send {
    /// The listener of a server port.
    fn of_port(&mut self, port: u16) -> Arc<Listener>;

    /// The service that a process belongs to.
    fn service_of(&mut self, process: u32) -> Option<String> {
        let _ = process;
        None
    }

    /// A number that stands for all processes of the service that a process belongs to: its lowest.
    fn group_of(&mut self, process: u32) -> Option<u32> {
        let _ = process;
        None
    }
}

/// Who calls whom, shared with whoever shows it.
pub type SharedServiceMap = Arc<Mutex<ServiceMap>>;

/// Everything the pipeline is told at the start.
#[derive(Debug)]
pub struct PipelineConfig {
    /// What to keep of messages.
    pub facts: FactRules,
    /// Which exchanges are business events.
    pub events: EventRules,
    /// Path templates.
    pub routes: Routes,
    /// What becomes of identities.
    pub pseudonyms: Pseudonyms,
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenedBy {
    pub(crate) task: Task,
    pub(crate) command: String,
}

/// The two ends of a connection, client first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ConnectionKey {
    client_to_server: FlowKey,
    side: u8,
}

/// The pipeline.
pub struct Pipeline {
    namer: Namer,
    ledger: Arc<Ledger>,
    health: HealthBook,
    /// Looked up several times a record: hence the quick hash, seeded at random because strangers choose the keys.
    connections: HashMap<ConnectionKey, Connection, RandomState>,
    sessions: Sessions,
    stitching: Stitching,
    service_map: SharedServiceMap,
    openers: HashMap<FlowKey, Arc<OpenedBy>, RandomState>,
    openers_by_age: VecDeque<FlowKey>,
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
            namer: Namer {
                config,
                listeners,
                anchor,
            },
            ledger,
            health: HealthBook::default(),
            connections: HashMap::default(),
            sessions: Sessions::default(),
            stitching: Stitching::default(),
            service_map: SharedServiceMap::default(),
            openers: HashMap::default(),
            openers_by_age: VecDeque::new(),
            done: Vec::new(),
            now: MonotonicNs(0),
            swept_at: MonotonicNs(0),
        }
    }

    /// Gives every exchange out at once, so that the order depends on the records alone.
    #[must_use]
    pub fn without_stitching(mut self) -> Self {
        self.stitching.switch_off();
        self
    }

    /// Enters the health of connections into this book, and begins a new service map.
    #[must_use]
    pub fn with_figures(mut self, health: HealthBook) -> Self {
        self.health = health;
        self.service_map = SharedServiceMap::default();
        self
    }

    /// Who calls whom, for whoever shows it.
    pub fn service_map(&self) -> SharedServiceMap {
        Arc::clone(&self.service_map)
    }

    /// Renews the relation of the two clocks.
    pub fn set_anchor(&mut self, anchor: ClockAnchor) {
        self.namer.anchor = anchor;
    }

    /// Digests one raw record; complete exchanges are appended to `out`.
    pub fn record(&mut self, record: &[u8], out: &mut Vec<Exchange>) -> Option<SkipHint> {
        self.ledger.add(Line::RecordsRead, 1);
        let Some((header, captured)) = RecordHeader::parse(record) else {
            self.ledger.add(Line::RecordsCorrupt, 1);
            return None;
        };
        self.now = self.now.max(MonotonicNs(header.monotonic_ns));
        let hint = match header.kind {
            kind::SEGMENT => self.segment(&header, captured, out),
            kind::PLAINTEXT => self.plaintext(&header, captured, out),
            kind::PLAINTEXT_UNJOINED => {
                let given_up = self.sessions.hold(&header, captured);
                self.ledger.add(Line::TlsUnjoined, given_up);
                None
            }
            kind::JOIN => {
                self.join(&header, captured, out);
                None
            }
            kind::OPENER => {
                self.opener(&header, captured);
                None
            }
            _ => {
                self.ledger.add(Line::RecordsCorrupt, 1);
                None
            }
        };
        self.sweep(out);
        self.stitching.resolve(self.now, out);
        hint
    }

    fn segment(
        &mut self,
        header: &RecordHeader,
        captured: &[u8],
        out: &mut Vec<Exchange>,
    ) -> Option<SkipHint> {
        let (side, key) = place_of(header);
        self.make_room(&key, header, side, out);
        let task = Task::of_record(header.task);
        let around = Surroundings::new(&self.namer.config.facts, &self.ledger, task);
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
                let opened_by = self.openers.get(&key.client_to_server).cloned();
                self.connections
                    .entry(key)
                    .or_insert_with(|| Connection::new(header, opened_by))
            }
        };
        let hint = connection.observe(side, header, captured, &around, &mut self.done);
        let (identity, begun) = (connection.identity, around.begun.into_inner());
        let news = connection.health.take_news();
        if !news.is_empty() {
            let listener = self.namer.listener(&key);
            let at = self.namer.anchor.to_unix(self.now);
            for sign in news {
                self.health.sign(listener.service.as_deref(), at, sign);
            }
        }
        self.begin(&key, identity, &begun);
        self.name_all(&key, out);
        hint
    }

    fn plaintext(
        &mut self,
        header: &RecordHeader,
        captured: &[u8],
        out: &mut Vec<Exchange>,
    ) -> Option<SkipHint> {
        let (side, key) = place_of(header);
        let task = Task::of_record(header.task);
        let around = Surroundings::new(&self.namer.config.facts, &self.ledger, task);
        let Some(connection) = self.connections.get_mut(&key) else {
            // The connection has been forgotten since; without its ends there is no exchange to tell of.
            self.ledger.add(Line::TlsUnjoined, 1);
            return None;
        };
        let hint = connection.plaintext(side, header, captured, &around, &mut self.done);
        let (identity, begun) = (connection.identity, around.begun.into_inner());
        self.begin(&key, identity, &begun);
        self.name_all(&key, out);
        hint
    }

    /// The session's records so far belong to the connection after all.
    fn join(&mut self, header: &RecordHeader, captured: &[u8], out: &mut Vec<Exchange>) {
        let Some(session) = FlowKey::parse(captured) else {
            self.ledger.add(Line::RecordsCorrupt, 1);
            return;
        };
        for waiting in self.sessions.join(&session) {
            let leaves = waiting.header.direction == EGRESS;
            let header = RecordHeader {
                flow: if leaves {
                    header.flow
                } else {
                    header.flow.reversed()
                },
                side: header.side,
                kind: kind::PLAINTEXT,
                ..waiting.header
            };
            self.plaintext(&header, &waiting.captured, out);
        }
    }

    fn opener(&mut self, header: &RecordHeader, captured: &[u8]) {
        let (Some(opener), Some(task)) = (Opener::parse(captured), Task::of_record(header.task))
        else {
            self.ledger.add(Line::RecordsCorrupt, 1);
            return;
        };
        if self.openers_by_age.len() >= OPENERS_MAX
            && let Some(oldest) = self.openers_by_age.pop_front()
        {
            self.openers.remove(&oldest);
        }
        if let Some(group) = self.namer.listeners.group_of(task.process) {
            self.stitching.calls(group);
        }
        let length = opener.command.iter().take_while(|byte| **byte != 0).count();
        let command = opener.command.get(..length).unwrap_or_default();
        let opened_by = OpenedBy {
            task,
            command: String::from_utf8_lossy(command).into_owned(),
        };
        if self
            .openers
            .insert(header.flow, Arc::new(opened_by))
            .is_none()
        {
            self.openers_by_age.push_back(header.flow);
        }
    }

    /// Requests of a service that calls others may be the cause of those calls.
    fn begin(&mut self, key: &ConnectionKey, identity: u64, begun: &[Begun]) {
        if begun.is_empty() || key.side != watch::SERVER {
            return;
        }
        let listener = self.namer.listener(key);
        let group = listener
            .pids
            .first()
            .filter(|group| self.stitching.follows(**group));
        if let Some(group) = group {
            for request in begun {
                let key = key_of(key, identity, request.ordinal);
                self.stitching.begin(*group, key, request.started);
            }
        }
    }

    /// Minutes of connection health that are over.
    pub fn take_minutes(&mut self) -> Vec<Minute> {
        let now = self.namer.anchor.to_unix(self.now);
        self.health.take_minutes(now)
    }

    /// All of connection health, the open minute included; for the end.
    pub fn take_all_minutes(&mut self) -> Vec<Minute> {
        self.health.take_all()
    }

    /// Forgets closed and idle connections, by the records' own clock, so that a replay does the same.
    fn sweep(&mut self, out: &mut Vec<Exchange>) {
        const SWEEP_NS: u64 = 1_000_000_000;
        // By the clock's own seconds, so that a replay that begins later sweeps at the same records.
        if self.now.0 / SWEEP_NS == self.swept_at.0 / SWEEP_NS {
            return;
        }
        self.swept_at = self.now;
        let given_up = self.sessions.sweep(self.now);
        self.ledger.add(Line::TlsUnjoined, given_up);
        let now = self.now;
        let stale = |connection: &Connection| {
            let limit = if connection.closed {
                LINGER_NS
            } else {
                IDLE_NS_MAX
            };
            now.since(connection.last_seen) > limit
        };
        let mut keys: Vec<ConnectionKey> = self
            .connections
            .iter()
            .filter(|(_, connection)| stale(connection))
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        for key in keys {
            let idle = self.remove(&key, out);
            self.ledger.add(Line::ConnectionsIdle, u64::from(idle));
        }
    }

    /// Ends everything: what has no response yet is handed out as it stands.
    pub fn finish(&mut self, out: &mut Vec<Exchange>) {
        let mut keys: Vec<ConnectionKey> = self.connections.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.remove(&key, out);
        }
        self.stitching.finish(out);
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
            self.evict(out);
        }
    }

    /// Gives up the hundredth part of all connections that was silent for longest: looking for one at a time would take
    /// longer than whoever fills the table needs for the next.
    fn evict(&mut self, out: &mut Vec<Exchange>) {
        let mut ages: Vec<(MonotonicNs, ConnectionKey)> = self
            .connections
            .iter()
            .map(|(key, connection)| (connection.last_seen, *key))
            .collect();
        let share = (ages.len() / 100).max(1);
        let last = share.min(ages.len().saturating_sub(1));
        ages.select_nth_unstable(last);
        for (_, key) in ages.into_iter().take(share) {
            self.ledger.add(Line::ConnectionsEvicted, 1);
            self.remove(&key, out);
        }
    }

    /// Removes a connection; true when it was still open.
    fn remove(&mut self, key: &ConnectionKey, out: &mut Vec<Exchange>) -> bool {
        let Some(mut connection) = self.connections.remove(key) else {
            return false;
        };
        let open = !connection.closed;
        let around = Surroundings::new(&self.namer.config.facts, &self.ledger, None);
        connection.bury(&around, &mut self.done);
        let carried = self.carried(key, &connection);
        let listener = self.namer.listener(key);
        self.name_done(key, &listener, &carried, out);
        open
    }

    fn carried(&self, key: &ConnectionKey, connection: &Connection) -> Carried {
        Carried {
            tls: connection.is_tls(),
            identity: connection.identity,
            opener: connection.opener.clone(),
            is_seen_at_client: self.connections.contains_key(&ConnectionKey {
                side: watch::CLIENT,
                ..*key
            }),
        }
    }

    fn name_all(&mut self, key: &ConnectionKey, out: &mut Vec<Exchange>) {
        if self.done.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let round_trip_us = connection.health.round_trip_us;
        let carried = self.carried(key, connection);
        let listener = self.namer.listener(key);
        self.name_done(key, &listener, &carried, out);
        if round_trip_us > 0 {
            let at = self.namer.anchor.to_unix(self.now);
            self.health
                .round_trip(listener.service.as_deref(), at, round_trip_us);
        }
    }

    fn name_done(
        &mut self,
        key: &ConnectionKey,
        listener: &Listener,
        carried: &Carried,
        out: &mut Vec<Exchange>,
    ) {
        let mut done = std::mem::take(&mut self.done);
        for seen in done.drain(..) {
            let with = self.completed(key, listener, carried, &seen);
            let exchange = self.namer.name(key, listener, carried, seen);
            if exchange.role == Role::Server {
                self.map(&exchange);
                self.stitching.complete(exchange, &with, out);
            } else {
                out.push(exchange);
            }
        }
        self.done = done;
    }

    fn completed(
        &mut self,
        key: &ConnectionKey,
        listener: &Listener,
        carried: &Carried,
        seen: &InFlight,
    ) -> Completed {
        let listeners = &mut self.namer.listeners;
        let caller = carried.opener.as_ref().and_then(|opener| {
            let group = listeners.group_of(opener.task.process)?;
            // Whoever opened a connection has sent its first request; of later ones the thread is not known.
            let thread = (seen.ordinal == 1).then_some(opener.task.thread);
            Some(Caller { group, thread })
        });
        Completed {
            key: key_of(key, carried.identity, seen.ordinal),
            started: seen.started,
            ended: seen.ended(),
            group: listener.pids.first().copied(),
            // Softirqs borrow threads: only those of the service itself are believed.
            answering_thread: seen
                .task
                .filter(|task| listener.pids.contains(&task.process))
                .map(|task| task.thread),
            caller,
            has_context: seen.request_facts.trace.is_some(),
        }
    }

    /// Enters a call into the service map.
    fn map(&mut self, exchange: &Exchange) {
        let client = exchange.attributes.get("client_service");
        let client = client.map_or("outside", String::as_str);
        let server = exchange.service.as_deref().unwrap_or("unknown");
        let class = StatusClass::of(exchange.status_code);
        let mut map = self
            .service_map
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        map.observe(
            client,
            server,
            exchange.protocol,
            class,
            exchange.duration_ns,
        );
    }
}

/// Which direction a record belongs to, and which connection.
fn place_of(header: &RecordHeader) -> (Side, ConnectionKey) {
    let side = direction_of(header);
    let client_to_server = match side {
        Side::Request => header.flow,
        Side::Response => header.flow.reversed(),
    };
    let key = ConnectionKey {
        client_to_server,
        side: header.side,
    };
    (side, key)
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

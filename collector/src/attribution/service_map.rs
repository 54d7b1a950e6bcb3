//! Who calls whom: requests, failures and time per pair of services, each call counted once.
//!
//! Owns the totals behind `/metrics` and the joining of the two views of one call. Refuses to name services: the
//! caller does. Pure logic on the records' clock.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use crate::{clock::MonotonicNs, exchange::Role};

/// Edges that get totals of their own; all further ones share `other -> other`.
pub const EDGES_MAX: usize = 256;
/// Sightings that wait for the other end's.
pub const WAITING_MAX: usize = 16_384;
/// How long a sighting waits, nanoseconds of the records' clock after its end.
pub const WAIT_NS_MAX: u64 = 5_000_000_000;
/// Bytes of a service's name that are kept.
const NAME_BYTES_MAX: usize = 128;
const OTHER: &str = "other";

/// How a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// A status below 400.
    Success,
    /// 400 to 499: the caller's fault, so the server did not fail.
    ClientError,
    /// 500 and above.
    ServerError,
    /// No whole answer.
    Unanswered,
}

impl StatusClass {
    /// The class of a status code, absent when there was no answer.
    pub const fn of(status_code: Option<u16>) -> Self {
        match status_code {
            None => Self::Unanswered,
            Some(500..) => Self::ServerError,
            Some(400..) => Self::ClientError,
            Some(_) => Self::Success,
        }
    }

    const fn is_failure(self) -> bool {
        match self {
            Self::ServerError | Self::Unanswered => true,
            Self::Success | Self::ClientError => false,
        }
    }
}

/// Totals since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    requests: u64,
    failed: u64,
    duration_ns: u64,
}

/// One line of the map. The three names together are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    /// Who calls.
    pub client: &'a str,
    /// Who is called.
    pub server: &'a str,
    /// As in the exchange: `http/1.1`, `h2`, `grpc`, ...
    pub protocol: &'a str,
    /// Calls.
    pub requests: u64,
    /// Those answered with 500 and above or not at all.
    pub failed: u64,
    /// Sum of their durations, ns.
    pub duration_ns: u64,
}

/// The map.
#[derive(Debug, Default)]
pub struct ServiceMap {
    /// In the order of the names, so that a lookup compares few and copies none.
    rows: Vec<Row>,
    beyond: Totals,
}

#[derive(Debug)]
struct Row {
    client: String,
    server: String,
    protocol: &'static str,
    totals: Totals,
}

impl ServiceMap {
    /// Adds one call.
    pub fn observe(
        &mut self,
        client: &str,
        server: &str,
        protocol: &'static str,
        status_class: StatusClass,
        duration_ns: u64,
    ) {
        let totals = self.totals(cut(client), cut(server), protocol);
        totals.requests += 1;
        totals.failed += u64::from(status_class.is_failure());
        totals.duration_ns = totals.duration_ns.saturating_add(duration_ns);
    }

    fn totals(&mut self, client: &str, server: &str, protocol: &'static str) -> &mut Totals {
        let found = self.rows.binary_search_by(|row| {
            (row.client.as_str(), row.server.as_str(), row.protocol)
                .cmp(&(client, server, protocol))
        });
        let at = match found {
            Ok(at) => at,
            Err(_) if self.rows.len() >= EDGES_MAX => return &mut self.beyond,
            Err(at) => {
                let row = Row {
                    client: client.to_owned(),
                    server: server.to_owned(),
                    protocol,
                    totals: Totals::default(),
                };
                self.rows.insert(at, row);
                at
            }
        };
        match self.rows.get_mut(at) {
            Some(row) => &mut row.totals,
            None => &mut self.beyond,
        }
    }

    /// All edges in the order of their names, `other` last and only when something fell to it.
    pub fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        let named = self
            .rows
            .iter()
            .map(|row| edge(&row.client, &row.server, row.protocol, &row.totals));
        let beyond = (self.beyond.requests > 0).then(|| edge(OTHER, OTHER, OTHER, &self.beyond));
        named.chain(beyond)
    }
}

const fn edge<'a>(
    client: &'a str,
    server: &'a str,
    protocol: &'a str,
    totals: &Totals,
) -> Edge<'a> {
    Edge {
        client,
        server,
        protocol,
        requests: totals.requests,
        failed: totals.failed,
        duration_ns: totals.duration_ns,
    }
}

fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX))
        .unwrap_or(name)
}

/// One call as one end of its connection saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Client end.
    pub client: SocketAddr,
    /// Server end.
    pub server: SocketAddr,
    /// What both ends agree on about this exchange of the connection. The TCP sequence number of the request's
    /// first byte serves best: it holds even when one end was joined late.
    pub sequence: u64,
    /// Which end saw it.
    pub role: Role,
    /// First byte of the request.
    pub started: MonotonicNs,
    /// Last byte of the response.
    pub ended: MonotonicNs,
}

impl Sighting {
    fn key(&self) -> CallKey {
        let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        CallKey {
            client: plain(self.client),
            server: plain(self.server),
            sequence: self.sequence,
        }
    }

    /// Whether these are the two ends of one call. Ports are used again, so the times must overlap as well.
    fn is_twin_of(&self, other: &Self) -> bool {
        self.role != other.role && self.started <= other.ended && other.started <= self.ended
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CallKey {
    client: SocketAddr,
    server: SocketAddr,
    sequence: u64,
}

/// One call with what each end told about it; at least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined<T> {
    /// What the client's end told: it knows who calls.
    pub client: Option<T>,
    /// What the server's end told: it knows who answers.
    pub server: Option<T>,
}

#[derive(Debug)]
struct Waiting<T> {
    sighting: Sighting,
    told: T,
    serial: u64,
}

impl<T> Waiting<T> {
    fn alone(self) -> Joined<T> {
        match self.sighting.role {
            Role::Client => Joined {
                client: Some(self.told),
                server: None,
            },
            Role::Server => Joined {
                client: None,
                server: Some(self.told),
            },
        }
    }
}

/// Joins the two sightings of a call that stays on this host. A call whose addresses are rewritten on the way
/// (a service address, a published port) looks different at its ends and is not recognised.
#[derive(Debug)]
pub struct EdgeDedup<T> {
    waiting: HashMap<CallKey, Waiting<T>>,
    /// Who waits, longest first.
    order: BTreeMap<u64, CallKey>,
    serial: u64,
    crowded_out: u64,
}

impl<T> Default for EdgeDedup<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            order: BTreeMap::new(),
            serial: 0,
            crowded_out: 0,
        }
    }
}

impl<T> EdgeDedup<T> {
    /// Takes one sighting with what this end has to tell; calls that are complete now go to `out`.
    pub fn observe(&mut self, sighting: Sighting, told: T, out: &mut Vec<Joined<T>>) {
        let key = sighting.key();
        if let Some(first) = self.remove(&key) {
            if first.sighting.is_twin_of(&sighting) {
                out.push(match sighting.role {
                    Role::Server => Joined {
                        client: Some(first.told),
                        server: Some(told),
                    },
                    Role::Client => Joined {
                        client: Some(told),
                        server: Some(first.told),
                    },
                });
                return;
            }
            // The same ports again: another connection, and the earlier call has no other end here.
            out.push(first.alone());
        }
        if self.waiting.len() >= WAITING_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.crowded_out += 1;
            out.extend(self.waiting.remove(&oldest).map(Waiting::alone));
        }
        self.serial += 1;
        self.order.insert(self.serial, key);
        let serial = self.serial;
        self.waiting.insert(
            key,
            Waiting {
                sighting,
                told,
                serial,
            },
        );
    }

    /// Releases what has waited long enough: the other end is not watched. To be called now and then.
    pub fn expire(&mut self, now: MonotonicNs, out: &mut Vec<Joined<T>>) {
        while let Some((_, key)) = self.order.first_key_value() {
            let key = *key;
            let is_due = self
                .waiting
                .get(&key)
                .is_none_or(|first| now.since(first.sighting.ended) > WAIT_NS_MAX);
            if !is_due {
                return;
            }
            self.order.pop_first();
            out.extend(self.waiting.remove(&key).map(Waiting::alone));
        }
    }

    /// Releases everything, in the order of arrival.
    pub fn finish(&mut self, out: &mut Vec<Joined<T>>) {
        self.expire(MonotonicNs(u64::MAX), out);
    }

    /// Sightings that had to leave before their time; their calls may have been counted at both ends.
    pub const fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    fn remove(&mut self, key: &CallKey) -> Option<Waiting<T>> {
        let first = self.waiting.remove(key)?;
        self.order.remove(&first.serial);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_add_up_per_pair_and_protocol() {
        let mut map = ServiceMap::default();
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(200)), 10);
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(503)), 20);
        map.observe("cart", "stock", "http/1.1", StatusClass::of(Some(404)), 30);
        map.observe("cart", "stock", "grpc", StatusClass::of(None), 5);
        map.observe("api", "cart", "http/1.1", StatusClass::of(Some(302)), 1);
        let edges: Vec<_> = map
            .edges()
            .map(|e| {
                (
                    e.client,
                    e.server,
                    e.protocol,
                    e.requests,
                    e.failed,
                    e.duration_ns,
                )
            })
            .collect();
        assert_eq!(
            edges,
            [
                ("api", "cart", "http/1.1", 1, 0, 1),
                ("cart", "stock", "grpc", 1, 1, 5),
                ("cart", "stock", "http/1.1", 3, 1, 60),
            ]
        );
    }

    #[test]
    fn edges_beyond_the_bound_share_one() {
        let mut map = ServiceMap::default();
        for client in 0..1_000 {
            let name = format!("c{client}");
            map.observe(&name, "s", "h2", StatusClass::Success, 1);
        }
        map.observe("c0", "s", "h2", StatusClass::Success, 1);
        assert_eq!(map.edges().count(), EDGES_MAX + 1);
        assert_eq!(map.edges().last().unwrap().client, "other");
        assert_eq!(map.edges().map(|edge| edge.requests).sum::<u64>(), 1_001);
        let first = map.edges().find(|edge| edge.client == "c0").unwrap();
        assert_eq!(first.requests, 2, "known edges go on");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let mut map = ServiceMap::default();
        let name = "\u{e9}".repeat(100) + "x";
        map.observe(&name, "s", "h2", StatusClass::Success, 1);
        map.observe(&format!("x{name}"), "s", "h2", StatusClass::Success, 1);
        let lengths: Vec<_> = map.edges().map(|edge| edge.client.len()).collect();
        assert_eq!(lengths, [127, 128]);
    }

    fn sighting(role: Role, port: u16, sequence: u64, started: u64) -> Sighting {
        let shift = u64::from(role == Role::Server);
        Sighting {
            client: format!("127.0.0.1:{port}").parse().unwrap(),
            server: "[::ffff:127.0.0.1]:80".parse().unwrap(),
            sequence,
            role,
            started: MonotonicNs(started + shift),
            ended: MonotonicNs(started + 10 - shift),
        }
    }

    #[test]
    fn the_two_ends_make_one_call_whoever_comes_first() {
        for order in [[Role::Client, Role::Server], [Role::Server, Role::Client]] {
            let (mut dedup, mut out) = (EdgeDedup::default(), Vec::new());
            for role in order {
                dedup.observe(sighting(role, 1, 0, 100), role, &mut out);
            }
            let both = Joined {
                client: Some(Role::Client),
                server: Some(Role::Server),
            };
            assert_eq!(out, [both]);
            dedup.finish(&mut out);
            assert_eq!(out.len(), 1);
        }
    }

    #[test]
    fn another_exchange_connection_or_time_is_another_call() {
        let (mut dedup, mut out) = (EdgeDedup::default(), Vec::new());
        dedup.observe(sighting(Role::Client, 1, 0, 100), 0, &mut out);
        dedup.observe(sighting(Role::Server, 1, 1, 100), 1, &mut out);
        dedup.observe(sighting(Role::Server, 2, 0, 100), 2, &mut out);
        assert!(out.is_empty());
        // The ports of the first call come again, later and at the other end.
        dedup.observe(sighting(Role::Server, 1, 0, 900), 3, &mut out);
        let lone = Joined {
            client: Some(0),
            server: None,
        };
        assert_eq!(out, [lone]);
        dedup.finish(&mut out);
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn one_end_alone_is_released_after_the_wait() {
        let (mut dedup, mut out) = (EdgeDedup::default(), Vec::new());
        dedup.observe(sighting(Role::Server, 1, 0, 100), (), &mut out);
        dedup.expire(MonotonicNs(109 + WAIT_NS_MAX), &mut out);
        assert!(out.is_empty());
        dedup.expire(MonotonicNs(110 + WAIT_NS_MAX), &mut out);
        assert_eq!(out.len(), 1);
        assert!(dedup.order.is_empty());
    }

    #[test]
    fn the_waiting_are_bounded_and_none_is_lost() {
        let (mut dedup, mut out) = (EdgeDedup::default(), Vec::new());
        for sequence in 0..20_000 {
            dedup.observe(sighting(Role::Client, 1, sequence, 100), sequence, &mut out);
        }
        assert_eq!(dedup.waiting.len(), WAITING_MAX);
        assert_eq!(dedup.crowded_out(), 20_000 - 16_384);
        dedup.finish(&mut out);
        let told: Vec<_> = out.iter().map(|call| call.client.unwrap()).collect();
        assert_eq!(told, (0..20_000).collect::<Vec<_>>());
    }

    proptest! {
        /// Calls on connections whose ports are used again and again, each seen at one end or both, reported in
        /// any order within 1 ms: exactly the real calls come out.
        #[test]
        fn every_call_is_counted_once(
            calls in prop::collection::vec((0_u16..4, 0_u64..3, 0_u8..3, 0_u64..1_000_000, 0_u64..1_000_000), 1..60)
        ) {
            let mut reports = Vec::new();
            for (nth, (port, sequence, seen, client_lag, server_lag)) in calls.iter().enumerate() {
                // Calls with the same key never overlap: that is what a connection is.
                let started = nth as u64 * 10_000_000;
                if *seen != 1 {
                    reports.push((started + client_lag, nth, sighting(Role::Client, *port, *sequence, started)));
                }
                if *seen != 0 {
                    reports.push((started + server_lag, nth, sighting(Role::Server, *port, *sequence, started)));
                }
            }
            reports.sort_by_key(|(at, nth, _)| (*at, *nth));
            let (mut dedup, mut out) = (EdgeDedup::default(), Vec::new());
            for (at, nth, sighting) in reports {
                dedup.expire(MonotonicNs(at), &mut out);
                dedup.observe(sighting, nth, &mut out);
            }
            dedup.finish(&mut out);
            let mut counted: Vec<usize> = out.iter().map(|call| call.client.or(call.server).unwrap()).collect();
            counted.sort_unstable();
            prop_assert_eq!(counted, (0..calls.len()).collect::<Vec<_>>());
            prop_assert!(out.iter().all(|call| call.client.is_none() || call.server.is_none() || call.client == call.server));
        }
    }
}

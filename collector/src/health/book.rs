//! The signs of all connections, summed per service: as metrics at once, and as one row a minute for the store.
//!
//! Bounded: services by `METRIC_SERVICES_MAX`, the rest share `other`; reasons of failed handshakes are a fixed set.

use std::collections::{BTreeMap, HashMap};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Sign;
use crate::{
    clock::UnixNanos, http::Side, limits::METRIC_SERVICES_MAX, tls::handshake::HandshakeOutcome,
};

/// Upper edges, seconds. A repeated SYN comes after one second, and again after three.
const CONNECT_SECONDS: [f64; 10] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 1.5, 3.5, 10.0,
];
const ROUND_TRIP_SECONDS: [f64; 10] = [
    0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0,
];
const HANDSHAKE_SECONDS: [f64; 9] = [0.000_5, 0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfService {
    service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEnd {
    service: String,
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    service: String,
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    service: String,
    reason: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The series; cheap to clone, all clones share them.
#[derive(Clone, Debug)]
pub struct HealthMetrics {
    connect: Histograms<OfService>,
    round_trip: Histograms<OfService>,
    handshake: Histograms<OfVersion>,
    handshake_failures: Family<OfReason, Counter>,
    retransmits: Family<OfService, Counter>,
    resets: Family<OfEnd, Counter>,
    syn_unanswered: Family<OfService, Counter>,
}

impl Default for HealthMetrics {
    fn default() -> Self {
        Self {
            connect: Family::new_with_constructor(|| Histogram::new(CONNECT_SECONDS)),
            round_trip: Family::new_with_constructor(|| Histogram::new(ROUND_TRIP_SECONDS)),
            handshake: Family::new_with_constructor(|| Histogram::new(HANDSHAKE_SECONDS)),
            handshake_failures: Family::default(),
            retransmits: Family::default(),
            resets: Family::default(),
            syn_unanswered: Family::default(),
        }
    }
}

impl HealthMetrics {
    /// Shows all series under `weir_tcp_*` and `weir_tls_*`.
    pub fn register(&self, registry: &mut Registry) {
        let seconds = [
            (
                "weir_tcp_connect",
                "From a client's first SYN to the answer",
                self.connect.clone(),
            ),
            (
                "weir_tcp_round_trip",
                "The kernel's smoothed round-trip time, sampled once per exchange",
                self.round_trip.clone(),
            ),
        ];
        for (name, help, family) in seconds {
            registry.register_with_unit(name, help, Unit::Seconds, family);
        }
        registry.register_with_unit(
            "weir_tls_handshake",
            "From the ClientHello to the last Finished",
            Unit::Seconds,
            self.handshake.clone(),
        );
        registry.register(
            "weir_tls_handshake_failures",
            "Handshakes that broke off, by reason",
            self.handshake_failures.clone(),
        );
        registry.register(
            "weir_tcp_retransmits",
            "Segments that the watched end sent again",
            self.retransmits.clone(),
        );
        registry.register(
            "weir_tcp_resets",
            "Connections reset, by the end that did it",
            self.resets.clone(),
        );
        registry.register(
            "weir_tcp_syn_unanswered",
            "SYNs that had to be repeated, as when the accept queue is full",
            self.syn_unanswered.clone(),
        );
    }
}

/// Sums of one service over one minute. Times in the unit of their name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRow {
    /// Connections answered.
    pub connections: u64,
    /// Sum of the times from SYN to answer.
    pub connect_ns_sum: u64,
    /// The longest of them.
    pub connect_ns_max: u64,
    /// Sum of sampled round-trip times.
    pub round_trip_us_sum: u64,
    /// Number of samples.
    pub round_trip_count: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Resets by clients.
    pub resets_client: u64,
    /// Resets by the service.
    pub resets_server: u64,
    /// SYNs repeated.
    pub syn_unanswered: u64,
    /// Handshakes completed.
    pub tls_handshakes: u64,
    /// Sum of their durations.
    pub tls_handshake_ns_sum: u64,
    /// The longest of them.
    pub tls_handshake_ns_max: u64,
    /// Handshakes failed, by reason.
    pub tls_failures: BTreeMap<&'static str, u64>,
}

/// All rows of one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minute {
    /// Its beginning, seconds since 1970 UTC.
    pub starts_at_s: u32,
    /// By service.
    pub rows: BTreeMap<String, HealthRow>,
}

impl Minute {
    const fn starting(starts_at_s: u32) -> Self {
        Self {
            starts_at_s,
            rows: BTreeMap::new(),
        }
    }
}

/// The book.
#[derive(Debug, Default)]
pub struct HealthBook {
    metrics: HealthMetrics,
    names: HashMap<String, String>,
    /// Label and series by service, for what is entered most often.
    round_trips: HashMap<String, (String, Histogram)>,
    minute: Option<Minute>,
    closed: Vec<Minute>,
}

/// Minutes that wait to be fetched, at most; older ones give way.
const MINUTES_MAX: usize = 60;

impl HealthBook {
    /// A book that writes into these series.
    pub fn new(metrics: HealthMetrics) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// The series it writes into.
    pub const fn metrics(&self) -> &HealthMetrics {
        &self.metrics
    }

    /// Makes a service's series begin at zero now: one that began with its first failure would hide it from `rate()`.
    pub fn announce(&mut self, service: &str) {
        let service = self.label(Some(service));
        let metrics = &self.metrics;
        let of_service = OfService {
            service: service.clone(),
        };
        drop(metrics.connect.get_or_create(&of_service));
        drop(metrics.round_trip.get_or_create(&of_service));
        drop(metrics.retransmits.get_or_create(&of_service));
        drop(metrics.syn_unanswered.get_or_create(&of_service));
        for by in ["client", "server"] {
            let service = service.clone();
            drop(metrics.resets.get_or_create(&OfEnd { service, by }));
        }
    }

    /// Enters a sign.
    pub fn sign(&mut self, service: Option<&str>, at: UnixNanos, sign: Sign) {
        let service = self.label(service);
        let of_service = OfService {
            service: service.clone(),
        };
        let metrics = self.metrics.clone();
        let row = self.row(at, &service);
        match sign {
            Sign::Connected(ns) => {
                row.connections += 1;
                row.connect_ns_sum += ns;
                row.connect_ns_max = row.connect_ns_max.max(ns);
                metrics
                    .connect
                    .get_or_create(&of_service)
                    .observe(seconds(ns));
            }
            Sign::SynRepeated => {
                row.syn_unanswered += 1;
                metrics.syn_unanswered.get_or_create(&of_service).inc();
            }
            Sign::Reset(by) => {
                let by = match by {
                    Side::Request => {
                        row.resets_client += 1;
                        "client"
                    }
                    Side::Response => {
                        row.resets_server += 1;
                        "server"
                    }
                };
                metrics.resets.get_or_create(&OfEnd { service, by }).inc();
            }
            Sign::Retransmitted(segments) => {
                row.retransmits += u64::from(segments);
                let series = metrics.retransmits.get_or_create(&of_service);
                series.inc_by(u64::from(segments));
            }
            Sign::Handshake(HandshakeOutcome::Completed {
                duration_ns,
                version,
                ..
            }) => {
                row.tls_handshakes += 1;
                row.tls_handshake_ns_sum += duration_ns;
                row.tls_handshake_ns_max = row.tls_handshake_ns_max.max(duration_ns);
                let labels = OfVersion {
                    service,
                    version: version.name(),
                };
                let series = metrics.handshake.get_or_create(&labels);
                series.observe(seconds(duration_ns));
            }
            Sign::Handshake(HandshakeOutcome::Failed { reason, .. }) => {
                let reason = reason.name();
                *row.tls_failures.entry(reason).or_default() += 1;
                let labels = OfReason { service, reason };
                metrics.handshake_failures.get_or_create(&labels).inc();
            }
        }
    }

    /// Enters a sample of the round-trip time. Called once per exchange, so it neither copies names nor locks twice.
    pub fn round_trip(&mut self, service: Option<&str>, at: UnixNanos, round_trip_us: u32) {
        let name = service.unwrap_or("unknown");
        if !self.round_trips.contains_key(name) {
            let label = self.label(service);
            let of_service = OfService {
                service: label.clone(),
            };
            let series = self.metrics.round_trip.get_or_create(&of_service).clone();
            self.round_trips.insert(name.to_owned(), (label, series));
        }
        let starts_at_s = minute_of(at);
        self.turn_to(starts_at_s);
        let (Some((label, series)), Some(minute)) =
            (self.round_trips.get(name), self.minute.as_mut())
        else {
            return;
        };
        series.observe(f64::from(round_trip_us) / 1e6);
        let row = match minute.rows.get_mut(label) {
            Some(row) => row,
            None => minute.rows.entry(label.clone()).or_default(),
        };
        row.round_trip_us_sum += u64::from(round_trip_us);
        row.round_trip_count += 1;
    }

    /// The minutes that are over by `now`.
    pub fn take_minutes(&mut self, now: UnixNanos) -> Vec<Minute> {
        if self
            .minute
            .as_ref()
            .is_some_and(|minute| minute.starts_at_s < minute_of(now))
        {
            self.close_minute();
        }
        std::mem::take(&mut self.closed)
    }

    /// Everything, the current minute included; for the end.
    pub fn take_all(&mut self) -> Vec<Minute> {
        self.close_minute();
        std::mem::take(&mut self.closed)
    }

    fn close_minute(&mut self) {
        if let Some(minute) = self.minute.take() {
            if self.closed.len() >= MINUTES_MAX {
                self.closed.remove(0);
            }
            self.closed.push(minute);
        }
    }

    fn row(&mut self, at: UnixNanos, service: &str) -> &mut HealthRow {
        let starts_at_s = minute_of(at);
        self.turn_to(starts_at_s);
        let minute = self
            .minute
            .get_or_insert_with(|| Minute::starting(starts_at_s));
        minute.rows.entry(service.to_owned()).or_default()
    }

    /// Opens the minute that is on, also when the clock was put back.
    fn turn_to(&mut self, starts_at_s: u32) {
        if self
            .minute
            .as_ref()
            .is_some_and(|minute| minute.starts_at_s != starts_at_s)
        {
            self.close_minute();
        }
        self.minute
            .get_or_insert_with(|| Minute::starting(starts_at_s));
    }

    fn label(&mut self, service: Option<&str>) -> String {
        let service = service.unwrap_or("unknown");
        if let Some(label) = self.names.get(service) {
            return label.clone();
        }
        if self.names.len() >= METRIC_SERVICES_MAX {
            return "other".to_owned();
        }
        self.names.insert(service.to_owned(), service.to_owned());
        self.announce(service);
        service.to_owned()
    }
}

fn minute_of(at: UnixNanos) -> u32 {
    let minutes = at.0 / 60_000_000_000;
    u32::try_from(minutes * 60).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "buckets are coarser")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_close_by_the_clock_and_hold_the_sums() {
        let mut book = HealthBook::default();
        let at = |s: u64| UnixNanos(s * 1_000_000_000);
        book.sign(Some("shop"), at(61), Sign::Connected(5));
        book.sign(Some("shop"), at(119), Sign::Connected(9));
        book.round_trip(Some("shop"), at(119), 40);
        assert!(book.take_minutes(at(119)).is_empty(), "still open");
        book.sign(Some("shop"), at(120), Sign::Reset(Side::Response));
        let minutes = book.take_minutes(at(121));
        assert_eq!(minutes.len(), 1);
        let row = &minutes[0].rows["shop"];
        assert_eq!(
            (row.connections, row.connect_ns_sum, row.connect_ns_max),
            (2, 14, 9)
        );
        assert_eq!((row.round_trip_us_sum, row.round_trip_count), (40, 1));
        assert_eq!(book.take_all()[0].rows["shop"].resets_server, 1);
    }
}

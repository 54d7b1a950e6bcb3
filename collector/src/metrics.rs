//! `/metrics` for Prometheus: the loss ledger and the kernel's counters, and `/healthz`.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use axum::{Router, routing::get};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    attribution::service_map::Edge,
    balance::{self, Stage},
    health::HealthMetrics,
    ledger::{Kind, Ledger},
    pipeline::SharedServiceMap,
    run::{KernelCounters, SharedHostReport},
    service_times::ServiceTimes,
    source::listen_queues::Queue,
};

/// All that `/metrics` shows.
#[derive(Debug)]
pub struct Shown<'a> {
    /// Counters of every stage.
    pub ledger: Arc<Ledger>,
    /// The kernel programs' counters.
    pub kernel: KernelCounters,
    /// Records read by an earlier collector.
    pub kernel_before: u64,
    /// What the scout sees of this host.
    pub host: SharedHostReport,
    /// How long services take.
    pub times: &'a ServiceTimes,
    /// How connections fare.
    pub health: &'a HealthMetrics,
    /// Who calls whom.
    pub map: SharedServiceMap,
}

#[derive(Clone)]
struct Numbers {
    ledger: Arc<Ledger>,
    kernel: KernelCounters,
    kernel_before: u64,
    host: SharedHostReport,
    map: SharedServiceMap,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").finish_non_exhaustive()
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (label, kind, help, value) in self.ledger.entries() {
            let counter = ConstCounter::new(value);
            let name = match kind {
                Kind::Flow => format!("weir_collector_{label}"),
                Kind::Intentional => format!("weir_collector_passed_over_{label}"),
                Kind::Loss => format!("weir_collector_lost_{label}"),
            };
            let metric = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let kernel = self
            .kernel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (name, value) in kernel {
            let counter = ConstCounter::new(value);
            let name = format!("weir_kernel_{name}");
            let metric = encoder.encode_descriptor(
                &name,
                "Counted by the kernel programs.",
                None,
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        self.encode_stages(&mut encoder)?;
        self.encode_host(&mut encoder)?;
        self.encode_map(&mut encoder)
    }
}

impl Numbers {
    fn stages(&self) -> Vec<Stage> {
        let kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        balance::stages(&self.ledger, &kernel, self.kernel_before)
    }

    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stages = self.stages();
        let mut held = encoder.encode_descriptor(
            "weir_ledger_held",
            "What a stage has seen and neither passed on nor dropped; below zero is a bug.",
            None,
            MetricType::Gauge,
        )?;
        for stage in &stages {
            let labels = [("stage", stage.stage), ("unit", stage.unit)];
            ConstGauge::new(stage.held).encode(held.encode_family(&labels)?)?;
        }
        let mut dropped = encoder.encode_descriptor(
            "weir_ledger_dropped",
            "What a stage has dropped, by reason.",
            None,
            MetricType::Counter,
        )?;
        for stage in &stages {
            for (reason, count) in &stage.dropped {
                let labels = [("stage", stage.stage), ("reason", *reason)];
                ConstCounter::new(*count).encode(dropped.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_map(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let columns: [(&str, &str, ValueOf); 3] = [
            (
                "weir_service_calls",
                "Calls from one service to another.",
                |edge| as_float(edge.requests),
            ),
            (
                "weir_service_calls_failed",
                "Of them, those answered with 500 and above or not at all.",
                |edge| as_float(edge.failed),
            ),
            (
                "weir_service_call_seconds",
                "Sum of their durations.",
                |edge| as_float(edge.duration_ns) / 1e9,
            ),
        ];
        for (name, help, value) in columns {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for edge in map.edges() {
                let labels = [
                    ("client", edge.client),
                    ("server", edge.server),
                    ("protocol", edge.protocol),
                ];
                ConstCounter::new(value(&edge)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_host(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self
            .host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut calls = encoder.encode_descriptor(
            "weir_tls_probe_hits",
            "Calls of TLS functions that were probed, each of which costs the process a few microseconds.",
            None,
            MetricType::Counter,
        )?;
        for ((process, command), count) in &report.calls {
            let labels = [("process", command.as_str()), ("pid", &process.to_string())];
            ConstCounter::new(*count).encode(calls.encode_family(&labels)?)?;
        }
        let mut unreadable = encoder.encode_descriptor(
            "weir_tls_unreadable_processes",
            "Watched processes whose TLS, if they use any, cannot be read, by what they use.",
            None,
            MetricType::Gauge,
        )?;
        for (command, library) in &report.unreadable {
            let labels = [("process", command.as_str()), ("library", *library)];
            ConstGauge::new(1_i64).encode(unreadable.encode_family(&labels)?)?;
        }
        let columns: [(&str, &str, LengthOf); 2] = [
            (
                "weir_tcp_accept_queue_length",
                "Connections that wait to be accepted.",
                |queue| queue.length,
            ),
            (
                "weir_tcp_accept_queue_limit",
                "Connections that may wait to be accepted.",
                |queue| queue.limit,
            ),
        ];
        for (name, help, value) in columns {
            let mut queues = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (service, queue) in &report.accept_queues {
                let labels = [("service", service.as_str())];
                ConstGauge::new(value(queue)).encode(queues.encode_family(&labels)?)?;
            }
        }
        let overflows = encoder.encode_descriptor(
            "weir_tcp_listen_overflows",
            "Connections that this host refused because an accept queue was full, since it started.",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(report.listen_overflows).encode(overflows)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counters of Prometheus are floats"
)]
const fn as_float(count: u64) -> f64 {
    count as f64
}

/// Picks a figure of an accept queue.
type LengthOf = fn(&Queue) -> u64;

/// Picks a figure of an edge.
type ValueOf = fn(&Edge<'_>) -> f64;

/// The routes.
pub fn router(shown: &Shown<'_>) -> Router {
    let mut registry = Registry::default();
    shown.times.register(&mut registry);
    shown.health.register(&mut registry);
    let numbers = Numbers {
        ledger: Arc::clone(&shown.ledger),
        kernel: Arc::clone(&shown.kernel),
        kernel_before: shown.kernel_before,
        host: Arc::clone(&shown.host),
        map: Arc::clone(&shown.map),
    };
    let books = Arc::new(numbers.clone());
    registry.register_collector(Box::new(numbers));
    let registry = Arc::new(registry);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/ledger",
            get(move || std::future::ready(axum::Json(books.stages()))),
        )
        .route(
            "/metrics",
            get(move || {
                let registry = Arc::clone(&registry);
                async move {
                    let mut text = String::new();
                    // Writing into a string cannot fail; an empty page would be noticed by the scraper.
                    encode(&mut text, &registry).unwrap_or_default();
                    (
                        [(
                            "content-type",
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                        )],
                        text,
                    )
                }
            }),
        )
}

//! How long each watched service takes, as a histogram for Prometheus.
//!
//! Only whole exchanges seen at the server count. Labels are bounded: configured service names, and status classes.

use std::collections::HashSet;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    exchange::{Exchange, Outcome, Role},
    limits::METRIC_SERVICES_MAX,
};

/// Upper edges, seconds: those of the OpenTelemetry conventions, and three below for fast services.
const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    service: String,
    status_class: &'static str,
}

/// The histograms.
#[derive(Debug)]
pub struct ServiceTimes {
    histograms: Family<Labels, Histogram, fn() -> Histogram>,
    known: HashSet<String>,
}

impl Default for ServiceTimes {
    fn default() -> Self {
        Self {
            histograms: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            known: HashSet::new(),
        }
    }
}

impl ServiceTimes {
    /// Shows the histograms under `weir_http_server_request_duration_seconds`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "weir_http_server_request_duration",
            "Requests of watched services, from the first byte of the request to the last of the response",
            Unit::Seconds,
            self.histograms.clone(),
        );
    }

    /// Makes a service's series begin at zero now instead of at its first request.
    pub fn announce(&mut self, service: &str) {
        self.label_of(service);
    }

    /// Takes the exchanges of a batch into account.
    pub fn observe(&mut self, batch: &[Exchange]) {
        let whole = batch.iter().filter(|exchange| {
            exchange.role == Role::Server
                && matches!(exchange.outcome, Outcome::Ok | Outcome::Error)
        });
        for exchange in whole {
            let service = self.label_of(exchange.service.as_deref().unwrap_or("unknown"));
            let labels = Labels {
                service,
                status_class: class_of(exchange.status_code),
            };
            #[expect(clippy::cast_precision_loss, reason = "buckets are coarser")]
            let seconds = exchange.duration_ns as f64 / 1e9;
            self.histograms.get_or_create(&labels).observe(seconds);
        }
    }

    /// The service's name, or `other` beyond the bound. A new service gets all its series at once: a series that
    /// began with the first failure would hide that failure from `rate()`.
    fn label_of(&mut self, service: &str) -> String {
        if self.known.contains(service) {
            return service.to_owned();
        }
        let is_full = self.known.len() >= METRIC_SERVICES_MAX;
        let service = if is_full { "other" } else { service }.to_owned();
        if self.known.insert(service.clone()) {
            for status_class in CLASSES {
                let labels = Labels {
                    service: service.clone(),
                    status_class,
                };
                drop(self.histograms.get_or_create(&labels));
            }
        }
        service
    }
}

fn class_of(status: Option<u16>) -> &'static str {
    match status {
        Some(200..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(500..600) => "5xx",
        _ => "none",
    }
}

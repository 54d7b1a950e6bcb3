//! `/metrics` for Prometheus: the loss ledger and the kernel's counters, and `/healthz`.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use axum::{Router, routing::get};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::counter::ConstCounter,
    registry::Registry,
};

use crate::{
    ledger::{Kind, Ledger},
    run::KernelCounters,
    service_times::ServiceTimes,
};

struct Numbers {
    ledger: Arc<Ledger>,
    kernel: KernelCounters,
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
        Ok(())
    }
}

/// The routes.
pub fn router(ledger: Arc<Ledger>, kernel: KernelCounters, times: &ServiceTimes) -> Router {
    let mut registry = Registry::default();
    times.register(&mut registry);
    registry.register_collector(Box::new(Numbers { ledger, kernel }));
    let registry = Arc::new(registry);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
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

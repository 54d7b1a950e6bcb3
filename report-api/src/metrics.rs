//! `/metrics`: how this server answers. Labels are route templates and status classes, never people or shops.

use std::{sync::atomic::AtomicI64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    status_class: &'static str,
}

/// All figures of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Route, Histogram>,
    funnels: Histogram,
    live_pages: Gauge<i64, AtomicI64>,
    refused: Counter,
}

impl Metrics {
    /// Figures of the server; others may be registered beside them.
    pub(crate) fn new(mut registry: Registry) -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let (requests, funnels) = (Family::new_with_constructor(seconds), seconds());
        let (live_pages, refused) = (Gauge::default(), Counter::default());
        let own = registry.sub_registry_with_prefix("weir_report_api");
        let seconds = Unit::Seconds;
        own.register_with_unit(
            "request_duration",
            "Requests answered",
            seconds.clone(),
            requests.clone(),
        );
        own.register_with_unit(
            "funnel_duration",
            "Funnels asked of the store",
            seconds,
            funnels.clone(),
        );
        own.register(
            "live_pages",
            "Pages that follow a funnel now",
            live_pages.clone(),
        );
        own.register(
            "refused_tokens",
            "Requests whose token opens nothing",
            refused.clone(),
        );
        Self {
            registry,
            requests,
            funnels,
            live_pages,
            refused,
        }
    }

    pub(crate) fn request(&self, route: &str, status: u16, took: Duration) {
        let status_class = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        if status == 401 {
            self.refused.inc();
        }
        let route = Route {
            route: route.to_owned(),
            status_class,
        };
        self.requests
            .get_or_create(&route)
            .observe(took.as_secs_f64());
    }

    pub(crate) fn funnel_asked(&self, took: Duration) {
        self.funnels.observe(took.as_secs_f64());
    }

    /// Counts a live page for as long as the guard lives.
    pub(crate) fn live_page(self: &std::sync::Arc<Self>) -> LivePage {
        self.live_pages.inc();
        LivePage(std::sync::Arc::clone(self))
    }

    /// In the text format of `OpenMetrics`.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail; an empty page would be noticed by the scraper.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

/// A page that follows a funnel.
#[derive(Debug)]
pub(crate) struct LivePage(std::sync::Arc<Metrics>);

impl Drop for LivePage {
    fn drop(&mut self) {
        self.0.live_pages.dec();
    }
}

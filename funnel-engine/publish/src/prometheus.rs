//! The newest window of each funnel as gauges. Labels are funnels, steps and, only where it is configured, tenants;
//! never users. The number of series is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::AtomicU64,
};

use funnel_engine::live::Snapshot;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{Delivery, Sink, SinkError, names::step_names};

type Labels = Vec<(&'static str, String)>;

/// What the gauges tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Whether tenants are a label; otherwise they are added up.
    pub tenant_label: bool,
    /// How many series of steps there may be; a funnel (or tenant of it) that does not fit is left out and counted.
    pub series: usize,
    /// How many tenants of all funnels are followed to be added up.
    pub tenants: usize,
}

impl Default for PrometheusSettings {
    fn default() -> Self {
        Self {
            tenant_label: false,
            series: 5_000,
            tenants: 50_000,
        }
    }
}

/// The newest window of one tenant.
#[derive(Debug)]
struct Newest {
    from_ns: i64,
    names: Vec<String>,
    counts: Vec<u64>,
}

/// One set of gauges: a funnel, or with tenants as a label a tenant of it.
#[derive(Debug, Default)]
struct Shown {
    tenants: HashMap<String, Newest>,
    /// Steps that have a series now.
    steps: Vec<String>,
}

/// Shows windows as gauges.
#[derive(Debug)]
pub struct PrometheusSink {
    settings: PrometheusSettings,
    users: Family<Labels, Gauge>,
    conversion: Family<Labels, Gauge<f64, AtomicU64>>,
    window_start: Family<Labels, Gauge>,
    left_out: Counter,
    /// By funnel, and tenant where tenants are a label.
    shown: BTreeMap<(String, Option<String>), Shown>,
    series: usize,
    tenants: usize,
}

impl PrometheusSink {
    /// Registers `weir_funnel_step_users{funnel,step}`, `weir_funnel_conversion_ratio{funnel}`,
    /// `weir_funnel_window_start_seconds{funnel}` and `weir_funnel_left_out_total` with a registry that has no prefix.
    pub fn new(registry: &mut Registry, settings: PrometheusSettings) -> Self {
        let sink = Self {
            settings,
            users: Family::default(),
            conversion: Family::default(),
            window_start: Family::default(),
            left_out: Counter::default(),
            shown: BTreeMap::new(),
            series: 0,
            tenants: 0,
        };
        let help = "Who reached a step, of those who entered the funnel in its newest window";
        registry.register("weir_funnel_step_users", help, sink.users.clone());
        let help = "Last step over first step, in the newest window";
        registry.register(
            "weir_funnel_conversion_ratio",
            help,
            sink.conversion.clone(),
        );
        let help = "Where the newest window begins, since 1970 UTC";
        let start = sink.window_start.clone();
        registry.register_with_unit("weir_funnel_window_start", help, Unit::Seconds, start);
        let help = "Snapshots left out because there would be too many series or tenants";
        registry.register("weir_funnel_left_out", help, sink.left_out.clone());
        sink
    }

    fn take(&mut self, snapshot: &Snapshot) {
        let tenant = self.settings.tenant_label.then(|| snapshot.tenant.clone());
        let key = (snapshot.funnel.clone(), tenant);
        let known = self.shown.get(&key);
        let newest = known.and_then(|shown| shown.tenants.get(&snapshot.tenant));
        if newest.is_some_and(|newest| newest.from_ns > snapshot.from_ns) {
            return;
        }
        let added = snapshot
            .steps
            .len()
            .saturating_sub(known.map_or(0, |shown| shown.steps.len()));
        let is_new = newest.is_none();
        if self.series + added > self.settings.series
            || (is_new && self.tenants >= self.settings.tenants)
        {
            self.left_out.inc();
            return;
        }
        self.tenants += usize::from(is_new);
        let newest = Newest {
            from_ns: snapshot.from_ns,
            names: step_names(snapshot),
            counts: snapshot.counts().collect(),
        };
        let mut shown = self.shown.remove(&key).unwrap_or_default();
        shown.tenants.insert(snapshot.tenant.clone(), newest);
        self.show(&key, &mut shown);
        self.shown.insert(key, shown);
    }

    /// Adds up the tenants whose newest window is the newest of all, and sets the gauges.
    fn show(&mut self, (funnel, tenant): &(String, Option<String>), shown: &mut Shown) {
        let Some(newest) = shown.tenants.values().max_by_key(|newest| newest.from_ns) else {
            return;
        };
        let (from_ns, names) = (newest.from_ns, newest.names.clone());
        let mut sums = vec![0_u64; names.len()];
        for newest in shown
            .tenants
            .values()
            .filter(|newest| newest.from_ns == from_ns)
        {
            for (sum, count) in sums.iter_mut().zip(&newest.counts) {
                *sum += count;
            }
        }
        let labels = |step: Option<&str>| {
            let step = step.map(|step| ("step", step.to_owned()));
            let tenant = tenant.iter().map(|tenant| ("tenant", tenant.clone()));
            let labels = std::iter::once(("funnel", funnel.clone())).chain(step);
            labels.chain(tenant).collect::<Labels>()
        };
        for step in shown.steps.iter().filter(|step| !names.contains(step)) {
            self.users.remove(&labels(Some(step)));
        }
        for (name, sum) in names.iter().zip(&sums) {
            let gauge = self.users.get_or_create(&labels(Some(name)));
            gauge.set(i64::try_from(*sum).unwrap_or(i64::MAX));
        }
        let start = self.window_start.get_or_create(&labels(None));
        start.set(from_ns.div_euclid(1_000_000_000));
        let ends = sums
            .first()
            .zip(sums.last())
            .filter(|(first, _)| **first > 0);
        let ratio = ends.map_or(0.0, |(first, last)| ratio(*last, *first));
        self.conversion.get_or_create(&labels(None)).set(ratio);
        self.series = (self.series + names.len()).saturating_sub(shown.steps.len());
        shown.steps = names;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

impl Sink for PrometheusSink {
    async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
        for snapshot in &delivery.snapshots {
            self.take(snapshot);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::samples::snapshot;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn the_newest_window_is_shown_and_tenants_are_added_up() {
        let mut registry = Registry::default();
        let mut sink = PrometheusSink::new(&mut registry, PrometheusSettings::default());
        sink.take(&snapshot("t1", 1, 1, &[8, 5, 4]));
        sink.take(&snapshot("t2", 1, 1, &[2, 1, 1]));
        sink.take(&snapshot("t1", 0, 9, &[99, 99, 99]));
        let shown = text(&registry);
        assert!(
            shown.contains(r#"weir_funnel_step_users{funnel="checkout",step="Login"} 10"#),
            "{shown}"
        );
        assert!(
            shown.contains(r#"weir_funnel_conversion_ratio{funnel="checkout"} 0.5"#),
            "{shown}"
        );
        assert!(
            shown.contains(r#"weir_funnel_window_start_seconds{funnel="checkout"} 1767229200"#),
            "{shown}"
        );
        assert!(
            !shown.contains("t1"),
            "tenants are no label unless configured"
        );
        sink.take(&snapshot("t2", 2, 1, &[3, 2]));
        let shown = text(&registry);
        assert!(shown.contains(r#"step="Login"} 3"#), "{shown}");
        assert!(
            !shown.contains(r#"step="Pay""#),
            "a step that is gone has no series: {shown}"
        );
    }

    #[test]
    fn series_are_bounded() {
        let mut registry = Registry::default();
        let settings = PrometheusSettings {
            tenant_label: true,
            series: 5,
            tenants: 9,
        };
        let mut sink = PrometheusSink::new(&mut registry, settings);
        for tenant in ["t1", "t2", "t3"] {
            sink.take(&snapshot(tenant, 1, 1, &[8, 5]));
            sink.take(&snapshot(tenant, 1, 2, &[8, 6]));
        }
        let shown = text(&registry);
        assert!(
            shown.contains(r#"{funnel="checkout",step="Cart",tenant="t2"} 6"#),
            "{shown}"
        );
        assert!(
            !shown.contains("t3") && shown.contains("weir_funnel_left_out_total 2"),
            "{shown}"
        );
    }
}

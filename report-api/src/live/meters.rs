//! Figures of live funnels for `/metrics`: what the feed did at its last look, and what each funnel took in and holds.
//! The counts of a funnel begin anew with the feed. Labels are funnels, never people or shops.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use funnel_engine::{
    feed::{FeedFigures, FunnelFigures},
    live::LiveCounts,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::driver::now_ns;

type Figure = fn(&LiveCounts) -> u64;
type Count = (&'static str, Figure);

/// What became of the events that are something to a funnel.
const OUTCOMES: [Count; 7] = [
    ("applied", |counts| counts.applied),
    ("too_late", |counts| counts.too_late),
    ("before_begin", |counts| counts.before_begin),
    ("unbelieved", |counts| counts.unbelieved),
    ("refused_tenant", |counts| counts.refused_tenant),
    ("refused_subject", |counts| counts.refused_subject),
    ("refused_mark", |counts| counts.refused_mark),
];
/// More that only grows: name, help, figure.
const COUNTERS: [(&str, &str, Figure); 6] = [
    (
        "weir_live_late",
        "Events applied that were before the watermark",
        |counts| counts.late,
    ),
    (
        "weir_live_replayed",
        "Events applied behind others of their subject",
        |counts| counts.replayed,
    ),
    (
        "weir_live_looked_up",
        "Subjects whose past was read from the store",
        |counts| counts.looked_up,
    ),
    (
        "weir_live_evicted",
        "Subjects let go whose windows were over",
        |counts| counts.evicted,
    ),
    (
        "weir_live_evicted_open",
        "Subjects let go that have to be looked up when they come again",
        |counts| counts.evicted_open,
    ),
    (
        "weir_live_windows_dropped",
        "Result windows let go for want of room",
        |counts| counts.windows_dropped,
    ),
];
/// What is in memory.
const HELD: [Count; 4] = [
    ("subjects", |counts| counts.subjects),
    ("marks", |counts| counts.marks),
    ("tenants", |counts| counts.tenants),
    ("windows", |counts| counts.windows),
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Meters {
    figures: Mutex<FeedFigures>,
    failures: AtomicU64,
}

impl Meters {
    pub(super) fn set(&self, figures: FeedFigures) {
        // The whole is put in place in one step.
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }
}

impl Collector for Meters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self
            .figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        feed(&mut encoder, &figures, self.failures.load(Relaxed))?;
        let funnels = &figures.funnels;
        let help = "Events by what became of them";
        family(&mut encoder, "weir_live_events", help, funnels, &OUTCOMES)?;
        for (name, help, count) in COUNTERS {
            by_funnel(&mut encoder, name, help, funnels, |funnel| {
                Some(ConstCounter::new(count(&funnel.counts)))
            })?;
        }
        for (what, count) in HELD {
            let (name, help) = (format!("weir_live_{what}"), format!("{what} in memory"));
            by_funnel(&mut encoder, &name, &help, funnels, |funnel| {
                Some(ConstGauge::new(signed(count(&funnel.counts))))
            })?;
        }
        let name = "weir_live_watermark_lag_seconds";
        let help = "How far the watermark is behind the clock";
        by_funnel(&mut encoder, name, help, funnels, |funnel| {
            Some(ConstGauge::new(seconds_since(funnel.watermark_ns?)))
        })
    }
}

/// The feed itself.
fn feed(encoder: &mut DescriptorEncoder<'_>, figures: &FeedFigures, failures: u64) -> fmt::Result {
    let read = figures.read;
    let rows = [
        ("passed", read.passed()),
        ("not_text", read.not_text),
        ("too_long", read.too_long),
        ("before_1970", read.before_1970),
    ];
    let help = "Rows read from the store; all of them again when the feed begins anew";
    let mut encoder_of_rows =
        encoder.encode_descriptor("weir_live_rows", help, None, MetricType::Counter)?;
    for (outcome, value) in rows {
        let labels = [("outcome", outcome)];
        ConstCounter::new(value).encode(encoder_of_rows.encode_family(&labels)?)?;
    }
    for (name, help, value) in [
        ("weir_live_begun", "How often the feed began", figures.begun),
        (
            "weir_live_failures",
            "Turns of the feed that failed",
            failures,
        ),
    ] {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)?;
    }
    for (name, help, value) in [
        (
            "weir_live_lag_rows",
            "Rows in the store that the feed has not read",
            figures.lag_rows,
        ),
        (
            "weir_live_level",
            "1 once all that was there at the beginning is taken in, and results are published",
            u64::from(figures.is_level),
        ),
    ] {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(signed(value)).encode(encoder)?;
    }
    Ok(())
}

/// A counter by funnel and outcome.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    funnels: &[FunnelFigures],
    outcomes: &[Count],
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for funnel in funnels {
        for (outcome, count) in outcomes {
            let labels = [("funnel", funnel.name.as_str()), ("outcome", *outcome)];
            let counter = ConstCounter::new(count(&funnel.counts));
            counter.encode(encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// One figure by funnel, of those that have it.
fn by_funnel<M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    funnels: &[FunnelFigures],
    figure: impl Fn(&FunnelFigures) -> Option<M>,
) -> fmt::Result {
    let known = funnels
        .iter()
        .filter_map(|funnel| Some((funnel, figure(funnel)?)));
    let mut known = known.peekable();
    let Some((_, first)) = known.peek() else {
        return Ok(());
    };
    let mut encoder = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (funnel, figure) in known {
        let labels = [("funnel", funnel.name.as_str())];
        figure.encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn seconds_since(at_ns: i64) -> f64 {
    let since = now_ns().saturating_sub(at_ns);
    since as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn every_count_has_its_line() {
        // A number of its own for each, so that none stands in for another.
        let counts = LiveCounts {
            applied: 101,
            late: 102,
            replayed: 103,
            looked_up: 104,
            too_late: 105,
            before_begin: 106,
            unbelieved: 107,
            refused_tenant: 108,
            refused_subject: 109,
            refused_mark: 110,
            evicted: 111,
            evicted_open: 112,
            windows_dropped: 113,
            subjects: 114,
            marks: 115,
            tenants: 116,
            windows: 117,
        };
        let meters = Meters::default();
        meters.failed();
        meters.set(FeedFigures {
            begun: 2,
            lag_rows: 118,
            is_level: true,
            funnels: vec![FunnelFigures {
                name: "checkout".to_owned(),
                watermark_ns: Some(now_ns() - 7_500_000_000),
                counts,
            }],
            ..FeedFigures::default()
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(meters));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for number in 101..=118 {
            let lines = text
                .lines()
                .filter(|line| line.ends_with(&format!(" {number}")));
            assert_eq!(lines.count(), 1, "{number} in {text}");
        }
        for line in [
            r#"weir_live_events_total{funnel="checkout",outcome="too_late"} 105"#,
            r#"weir_live_subjects{funnel="checkout"} 114"#,
            "weir_live_begun_total 2",
            "weir_live_failures_total 1",
            "weir_live_level 1",
            r#"weir_live_watermark_lag_seconds{funnel="checkout"} 7."#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}

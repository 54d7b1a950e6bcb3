//! The ClickHouse push-down against the reference, on a real engine, over random events with many ties.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use event_store::{ExchangeRow, Scope, Store};
use funnel_engine::{
    Event, FunnelDefinition, FunnelResult, Page, Which, members, run_on_clickhouse, run_reference,
};
use weir_testing::{TestStore, exchange};

/// A small generator with a fixed sequence; the numbers need no quality, only variety.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn row(event: &Event) -> ExchangeRow {
    let duration_ms = event.properties.get("duration_ms");
    ExchangeRow {
        duration_ns: duration_ms.and_then(serde_json::Value::as_u64).unwrap() * 1_000_000,
        ..exchange(event.at_ns, event.user.as_deref().unwrap(), &event.name)
    }
}

fn assert_same(pushed: &FunnelResult, reference: &FunnelResult, definition: &str) {
    for (ours, theirs) in pushed.steps.iter().zip(&reference.steps) {
        assert_eq!(
            (ours.count, ours.drop_off),
            (theirs.count, theirs.drop_off),
            "{definition}"
        );
        match (ours.time_from_previous_s, theirs.time_from_previous_s) {
            (None, None) => {}
            (Some(ours), Some(theirs)) => {
                for (a, b) in [
                    (ours.mean, theirs.mean),
                    (ours.median, theirs.median),
                    (ours.p90, theirs.p90),
                ] {
                    assert!((a - b).abs() < 1e-6, "{a} against {b} in {definition}");
                }
            }
            different => panic!("{different:?} in {definition}"),
        }
    }
    assert_eq!(pushed.steps.len(), reference.steps.len());
    for (ours, theirs) in pushed.steps.iter().zip(&reference.steps) {
        assert_eq!(ours.errors, theirs.errors, "{definition}");
        let (ours, theirs) = (ours.latency_ms.unwrap(), theirs.latency_ms.unwrap());
        assert!((ours.mean - theirs.mean).abs() < 1e-6, "{definition}");
        assert!((ours.p95 - theirs.p95).abs() < 1e-6, "{definition}");
    }
    assert_eq!(
        pushed
            .time_to_convert_s
            .as_ref()
            .map(|whole| &whole.histogram),
        reference
            .time_to_convert_s
            .as_ref()
            .map(|whole| &whole.histogram),
        "{definition}"
    );
}

/// The lists of those who stopped at each step add up to its bar, page by page, each user once.
async fn assert_dropped_fill_the_bars(
    store: &Store,
    definition: &FunnelDefinition,
    result: &FunnelResult,
) {
    let pages = async |step: usize, which: Which| {
        let mut users = BTreeSet::new();
        for offset in (0..).step_by(50) {
            let page = Page { limit: 50, offset };
            let found = members(store, &Scope::Operator, definition, (step, which), page, 1).await;
            let found = found.unwrap();
            if found.is_empty() {
                break;
            }
            for user in found {
                assert!(users.insert((user.tenant_id, user.user_id)), "listed twice");
            }
        }
        users
    };
    for step in &result.steps {
        let dropped = pages(step.step, Which::Dropped).await;
        let converted = pages(step.step, Which::Converted).await;
        assert!(dropped.is_disjoint(&converted));
        assert_eq!(dropped.len() as u64, step.drop_off, "step {}", step.step);
        assert_eq!(
            (dropped.len() + converted.len()) as u64,
            step.count,
            "step {}",
            step.step
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pushdown_agrees_with_the_reference() {
    let running = TestStore::start().await;
    let store = &running.store;
    // An hour ago: the store forgets exchanges after 90 days.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let start = i64::try_from(now - 3_600).unwrap() * 1_000_000_000;
    let mut numbers = Numbers(11);
    let events: Vec<Event> = (0..6_000)
        .map(|_| Event {
            user: Some(format!("u{}", numbers.below(400))),
            at_ns: start + i64::try_from(numbers.below(120)).unwrap() * 1_000_000_000,
            name: ["a", "b", "c", "d", "b.failed"][usize::try_from(numbers.below(5)).unwrap()]
                .to_owned(),
            properties: BTreeMap::from([("duration_ms".to_owned(), numbers.below(900).into())]),
        })
        .collect();
    let rows: Vec<ExchangeRow> = events.iter().map(row).collect();
    store.insert_exchanges(&rows, "events").await.unwrap();
    for (window, steps) in [
        ("5s", "abc"),
        ("20s", "abcd"),
        ("14d", "dcba"),
        ("500ms", "ab"),
        ("60s", "cad"),
    ] {
        let steps: Vec<String> = steps
            .chars()
            .map(|name| format!(r#"{{"name":"{name}","event":["{name}"]}}"#))
            .collect();
        let json = format!(
            r#"{{"name":"x","window":"{window}","steps":[{}]}}"#,
            steps.join(",")
        );
        let definition = FunnelDefinition::parse(&json).unwrap();
        let pushed = run_on_clickhouse(store, &Scope::Operator, &definition)
            .await
            .unwrap();
        assert_same(
            &pushed,
            &run_reference(&definition, &events).unwrap(),
            &json,
        );
        assert!(pushed.steps[0].count > 0);
        assert_dropped_fill_the_bars(store, &definition, &pushed).await;
    }
    let overlapping =
        r#"{"name":"x","window":"1d","steps":[{"name":"1","event":"a"},{"name":"2","event":"a"}]}"#;
    let refused = run_on_clickhouse(
        store,
        &Scope::Operator,
        &FunnelDefinition::parse(overlapping).unwrap(),
    )
    .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("steps[1].event")
    );
}

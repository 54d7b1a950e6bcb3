//! Windows in the real store.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::{sync::Arc, time::Duration};

use event_store::Store;
use funnel_publish::{
    ClickhouseSink, Delivery, Publisher, Sink as _, SinkSettings, Snapshot, StepSnapshot,
    next_revision, published_windows,
};
use uuid::Uuid;
use weir_testing::TestStore;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_START: i64 = 1_767_225_600_000_000_000;

type StepRow = (String, i64, u32, String, bool, u64, u64, bool);

fn snapshot(tenant: &str, hour: i64, revision: u64, counts: [u64; 2]) -> Snapshot {
    let step = |step: usize, name: &str, count: u64| StepSnapshot {
        step,
        name: name.to_owned(),
        count,
        conversion_from_previous: None,
        conversion_from_start: None,
        drop_off: 0,
        optional: step == 2,
    };
    Snapshot {
        funnel: "checkout".to_owned(),
        tenant: tenant.to_owned(),
        from_ns: DAY_START + hour * HOUR_NS,
        to_ns: DAY_START + (hour + 1) * HOUR_NS,
        revision,
        is_final: revision > 1,
        steps: vec![step(1, "Login", counts[0]), step(2, "Pay", counts[1])],
    }
}

fn delivery(snapshots: Vec<Snapshot>) -> Delivery {
    Delivery {
        id: Uuid::now_v7(),
        attempt: 1,
        unix_s: 0,
        snapshots: snapshots.into_iter().map(Arc::new).collect(),
    }
}

/// Every statement of the migration, which must do no harm when it runs again.
async fn migrate(store: &Store) {
    let text = include_str!("../../../event-store/migrations/0004_live.sql");
    for statement in text
        .split(";\n")
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        store.database().query(statement).execute().await.unwrap();
    }
}

async fn rows(store: &Store) -> u64 {
    let query = "SELECT count() FROM funnel_windows";
    store.database().query(query).fetch_one().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_revision_of_a_window_holds_and_a_repeated_delivery_does_not_count() {
    let test = TestStore::start().await;
    let store = &test.store;
    migrate(store).await;
    migrate(store).await;
    assert_eq!(next_revision(store).await.unwrap(), 1);
    let mut sink = ClickhouseSink::new(store.clone());
    let first = delivery(vec![
        snapshot("t1", 0, 1, [9, 4]),
        snapshot("t2", 0, 1, [5, 1]),
    ]);
    sink.publish(&first).await.unwrap();
    sink.publish(&first).await.unwrap();
    assert_eq!(rows(store).await, 2, "the same rows under the same token");
    let mut publisher = Publisher::new();
    publisher.add("store", sink, SinkSettings::default());
    publisher.publish([snapshot("t1", 0, 3, [10, 6]), snapshot("t1", 1, 1, [2, 2])]);
    publisher.close(Duration::from_secs(20)).await;
    assert_eq!(publisher.counts().next().unwrap().1.published, 2);
    assert_eq!(next_revision(store).await.unwrap(), 4);
    let query = "SELECT tenant_id, toUnixTimestamp64Nano(window_from), step, name, is_optional, count, revision, is_final \
                 FROM funnel_window_steps ORDER BY tenant_id, window_from, step";
    let shown: Vec<StepRow> = store.database().query(query).fetch_all().await.unwrap();
    let row = |tenant: &str, hour: i64, step: u32, count: u64, revision: u64| {
        let name = if step == 1 { "Login" } else { "Pay" };
        let at = DAY_START + hour * HOUR_NS;
        (
            tenant.to_owned(),
            at,
            step,
            name.to_owned(),
            step == 2,
            count,
            revision,
            revision > 1,
        )
    };
    let want = [
        row("t1", 0, 1, 10, 3),
        row("t1", 0, 2, 6, 3),
        row("t1", 1, 1, 2, 1),
        row("t1", 1, 2, 2, 1),
        row("t2", 0, 1, 5, 1),
        row("t2", 0, 2, 1, 1),
    ];
    assert_eq!(shown, want);
    publisher_begins_again_where_somebody_is(store).await;
}

/// A window that has come down to zero is over; other widths and older windows are somebody else's.
async fn publisher_begins_again_where_somebody_is(store: &Store) {
    let mut sink = ClickhouseSink::new(store.clone());
    let mut day = snapshot("t1", 0, 1, [7, 7]);
    day.to_ns = day.from_ns + 24 * HOUR_NS;
    let erased = snapshot("t2", 0, 9, [0, 0]);
    sink.publish(&delivery(vec![day, erased, snapshot("t1", -1, 1, [3, 3])]))
        .await
        .unwrap();
    let known = published_windows(store, DAY_START, HOUR_NS).await.unwrap();
    let mut known: Vec<_> = known
        .iter()
        .map(|one| (one.funnel.as_str(), one.tenant.as_str(), one.from_ns))
        .collect();
    known.sort_unstable();
    let name = snapshot("t1", 0, 1, [0, 0]).funnel;
    let want = [
        (name.as_str(), "t1", DAY_START),
        (name.as_str(), "t1", DAY_START + HOUR_NS),
    ];
    assert_eq!(known, want);
}

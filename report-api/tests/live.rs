//! Live funnels from end to end: whatever the order of events, restarts and kills, ClickHouse, Redis, webhooks, pages
//! and Prometheus all have the batch answer.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

#[path = "live/receiver.rs"]
mod receiver;
#[path = "live/server.rs"]
mod server;
#[path = "live/shop.rs"]
mod shop;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use event_store::Store;
use funnel_engine::{Event, FunnelDefinition, Interval};
use redis::AsyncCommands as _;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use server::{Place, REDIS_PASSWORD, Server};
use shop::{Dice, HOUR, Windows, batch, events, insert};
use weir_testing::TestStore;

const FUNNELS: [(&str, &str); 4] = [
    (
        "checkout",
        r#"{"name":"Checkout","window":"2h","steps":[{"name":"Login","event":"login"},
            {"name":"Cart","event":"cart","where":[{"property":"amount","op":"gte","value":50}]},{"name":"Pay","event":["pay"]}]}"#,
    ),
    (
        "visits",
        r#"{"name":"Visits","window":"90m","count":"sessions","order":"strict",
            "steps":[{"name":"Any","event":"*"},{"name":"Cart","event":"cart"}]}"#,
    ),
    (
        "entries",
        r#"{"name":"Entries","window":"30m","count":"totals","order":"unordered",
            "steps":[{"name":"Login","event":"login"},{"name":"Cart","event":"cart"},{"name":"Pay","event":"pay"}]}"#,
    ),
    (
        "gaps",
        r#"{"name":"Gaps","window":"3h","steps":[{"name":"Login","event":"login"},
            {"name":"Cart","event":"cart","within":"40m"},{"name":"Cart","event":"pay","not_before":"5m"}]}"#,
    ),
];
const NOT_LIVE: (&str, &str) = (
    "web",
    r#"{"name":"Web","window":"1h","steps":[{"name":"A","event":"login"},{"name":"B","http":{"route":"/pay"}}]}"#,
);
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn every_sink_has_the_batch_answer_whatever_happens() {
    let running = TestStore::start().await;
    let store = &running.store;
    let (webhook, seen) = receiver::start().await;
    let files: Vec<_> = FUNNELS.into_iter().chain([NOT_LIVE]).collect();
    let place = Place::new(store.url(), &files, &webhook, receiver::SECRET);
    let funnels = FUNNELS.map(|(slug, json)| (slug, FunnelDefinition::parse(json).unwrap()));
    let now_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    let start_ns = now_ns / HOUR * HOUR - 7 * HOUR;
    let all = events(&mut Dice(5), 900, start_ns);
    let truth = |so_far: usize| batch(&funnels, &all[..so_far], Interval::Hour);
    assert!(truth(900).len() > 40);

    // Killed while events come in, and once more before it has told anything.
    feed(store, &all[..200]).await;
    let mut first = place.start("hour");
    for so_far in (200..400).step_by(40) {
        feed(store, &all[so_far..so_far + 40]).await;
        until_store_has(store, &truth(so_far + 40)).await;
    }
    let [_, highest] = revisions(store).await;
    kill(&mut first);
    feed(store, &all[400..500]).await;
    kill(&mut place.start("hour"));

    let mut second = place.start("hour");
    feed(store, &all[500..600]).await;
    until_store_has(store, &truth(600)).await;
    let page = second
        .get("/api/v1/funnels/checkout/live", &place.shop1)
        .await;
    feed(store, &all[600..900]).await;
    let whole = truth(900);
    until_store_has(store, &whole).await;
    let [lowest, _] = revisions(store).await;
    assert!(
        lowest > highest,
        "all windows have been published anew: {lowest} > {highest}"
    );
    a_page_is_told_and_ends_with_the_server(page, &whole, &mut second, &place).await;
    assert_eq!(of_webhook(&seen, &whole).await, "as the batch says");
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.failed.len(), 3);
    assert!(
        seen.failed.iter().any(|id| seen.taken.contains(id)),
        "repeated with its id"
    );
    in_redis(&place, &whole, "%Y%m%dT%H%M").await;
    what_is_logged_is_no_secret(&place);

    // The last server has ended; days are another funnel of the same name.
    let third = place.start("day");
    let days = batch(&funnels, &all, Interval::Day);
    until_store_has_days(store, &days).await;
    in_redis(&place, &days, "%Y%m%d").await;
    newest_windows_are_shown(&third, &place, &days).await;
}

/// In batches of different size; many in one go are late for those before.
async fn feed(store: &Store, events: &[Event]) {
    for events in events.chunks(37) {
        insert(store, events).await;
    }
}

fn kill(server: &mut Server) {
    server.process.0.kill().unwrap();
    server.process.0.wait().unwrap();
}

#[derive(Deserialize, clickhouse::Row)]
struct StoredWindow {
    funnel: String,
    tenant_id: String,
    window_from: i64,
    counts: Vec<u64>,
}

async fn stored(store: &Store, width_ns: i64) -> Windows {
    let sql = "SELECT funnel, tenant_id, window_from, counts FROM funnel_windows FINAL \
               WHERE toUnixTimestamp64Nano(window_to) - toUnixTimestamp64Nano(window_from) = ? AND arraySum(counts) > 0";
    let query = store.database().query(sql).bind(width_ns);
    // Before the first server has migrated there may be nothing.
    let rows: Vec<StoredWindow> = query.fetch_all().await.unwrap();
    let window = |row: StoredWindow| {
        let from = jiff::Timestamp::from_nanosecond(row.window_from.into()).unwrap();
        ((row.funnel, row.tenant_id, from.to_string()), row.counts)
    };
    rows.into_iter().map(window).collect()
}

/// The lowest and the highest revision of the windows as they stand.
async fn revisions(store: &Store) -> [u64; 2] {
    let sql = "SELECT [min(revision), max(revision)] FROM funnel_windows FINAL";
    let found: Vec<u64> = store.database().query(sql).fetch_one().await.unwrap();
    [found[0], found[1]]
}

async fn until_store_has(store: &Store, truth: &Windows) {
    until_equal(truth, async || stored(store, HOUR).await, "the store").await;
}

async fn until_store_has_days(store: &Store, truth: &Windows) {
    until_equal(
        truth,
        async || stored(store, 24 * HOUR).await,
        "the store, by day",
    )
    .await;
}

async fn until_equal<T: PartialEq + std::fmt::Debug>(
    truth: &T,
    mut look: impl AsyncFnMut() -> T,
    what: &str,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look().await;
        if seen == *truth {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what} does not come to the batch answer: {seen:?} instead of {truth:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The windows that the receiver is to be told of, as it has them.
async fn of_webhook(seen: &std::sync::Mutex<receiver::Seen>, truth: &Windows) -> &'static str {
    let wanted = truth
        .iter()
        .filter(|((funnel, tenant, _), _)| funnel == "checkout" && tenant == "t1");
    let wanted: Windows = wanted
        .map(|(key, counts)| (key.clone(), counts.clone()))
        .collect();
    let look = async || {
        let seen = seen.lock().unwrap();
        let windows = seen.windows.iter();
        let windows = windows.map(|(key, (_, counts))| (key.clone(), counts.clone()));
        windows.collect::<Windows>()
    };
    until_equal(&wanted, look, "the webhook").await;
    "as the batch says"
}

/// Every set of Redis: members of windows by their names, scores by their counts.
async fn in_redis(place: &Place, truth: &Windows, form: &str) {
    let client = redis::Client::open(place.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut wanted: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for ((funnel, tenant, from), counts) in truth {
        let from: jiff::Timestamp = from.parse().unwrap();
        let set = wanted
            .entry(format!("funnel:{}", from.strftime(form)))
            .or_default();
        let names: &[&str] = match funnel.as_str() {
            "visits" => &["Any", "Cart"],
            "gaps" => &["Login", "Cart", "Cart#3"],
            _ => &["Login", "Cart", "Pay"],
        };
        for (name, count) in names.iter().zip(counts) {
            set.insert(format!("{tenant}/{funnel}/{name}"), *count);
        }
    }
    for (key, members) in &wanted {
        let look = async || {
            let found: Vec<(String, u64)> = connection.zrange_withscores(key, 0, -1).await.unwrap();
            found.into_iter().collect::<BTreeMap<_, _>>()
        };
        until_equal(members, look, key).await;
        let expires: i64 = connection.ttl(key).await.unwrap();
        assert!(expires > 39 * 86_400, "{key} is gone in the end");
    }
}

/// The windows of server-sent events, the highest revision of each.
struct Told {
    response: Response,
    text: String,
    windows: BTreeMap<(String, String, String), (u64, Vec<u64>)>,
}

impl Told {
    const fn by(response: Response) -> Self {
        Self {
            response,
            text: String::new(),
            windows: BTreeMap::new(),
        }
    }

    /// Takes in what comes next; false when the stream has ended.
    async fn listen(&mut self) -> bool {
        let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
        let Some(chunk) = chunk.unwrap().unwrap() else {
            return false;
        };
        self.text.push_str(&String::from_utf8_lossy(&chunk));
        while let Some((event, rest)) = self.text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                assert!(event.contains("event: window"), "{event}");
                let window: Value = serde_json::from_str(data).unwrap();
                let text = |name: &str| window[name].as_str().unwrap().to_owned();
                let steps = window["steps"].as_array().unwrap().iter();
                let counts = steps.map(|step| step["count"].as_u64().unwrap()).collect();
                let revision = window["revision"].as_u64().unwrap();
                let key = (text("funnel"), text("tenant"), text("from"));
                let known = self.windows.insert(key, (revision, counts));
                assert!(known.is_none_or(|(before, _)| before < revision), "{data}");
            }
            let rest = rest.to_owned();
            self.text = rest;
        }
        true
    }

    fn counts(&self) -> Windows {
        let windows = self.windows.iter();
        windows
            .map(|(key, (_, counts))| (key.clone(), counts.clone()))
            .collect()
    }
}

/// A page of shop t1 that was open while the last events came.
async fn a_page_is_told_and_ends_with_the_server(
    page: Response,
    truth: &Windows,
    server: &mut Server,
    place: &Place,
) {
    assert_eq!(page.status(), StatusCode::OK);
    let kind = page.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/event-stream");
    let mut told = Told::by(page);
    let mine = |key: &(String, String, String)| key.0 == "checkout" && key.1 == "t1";
    let newest = truth.keys().filter(|key| mine(key)).max().unwrap();
    while told.counts().get(newest) != truth.get(newest) {
        assert!(told.listen().await, "the stream ended early");
    }
    assert!(
        told.windows.len() > 1,
        "corrections of older windows are told, too"
    );
    newest_windows_are_shown(server, place, truth).await;
    let refused = server
        .get("/api/v1/funnels/web/live", &place.operator)
        .await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    assert!(refused.text().await.unwrap().contains("--live"));
    assert!(server.process.terminate(), "ends cleanly with a page open");
    while told.listen().await {}
    assert!(told.windows.keys().all(mine), "{:?}", told.windows.keys());
    for (key, counts) in told.counts() {
        assert_eq!(truth.get(&key), Some(&counts), "{key:?}");
    }
}

/// A page that comes now is told the newest window of each shop at once; Prometheus has the sum of the shops whose
/// newest window is the newest of all.
async fn newest_windows_are_shown(server: &Server, place: &Place, truth: &Windows) {
    for (slug, json) in FUNNELS {
        let of = |tenant: &str| {
            let mine = truth.keys().filter(|key| key.0 == slug && key.1 == tenant);
            mine.max().cloned().unwrap()
        };
        let newest = ["t1", "t2"].map(of);
        let wanted: Windows = newest
            .iter()
            .map(|key| (key.clone(), truth[key].clone()))
            .collect();
        let page = server
            .get(&format!("/api/v1/funnels/{slug}/live"), &place.operator)
            .await;
        let mut told = Told::by(page);
        while told.windows.len() < 2 {
            assert!(told.listen().await);
        }
        assert_eq!(told.counts(), wanted, "{slug}");
        let last = newest.iter().map(|key| &key.2).max().unwrap();
        let shown = newest.iter().filter(|key| key.2 == *last);
        let mut sums = vec![0; truth[&newest[0]].len()];
        for key in shown {
            for (sum, count) in sums.iter_mut().zip(&truth[key]) {
                *sum += count;
            }
        }
        let definition = FunnelDefinition::parse(json).unwrap();
        let metrics = server.metrics().await;
        for (index, (step, sum)) in definition.steps.iter().zip(&sums).enumerate() {
            let is_repeated = definition.steps[..index]
                .iter()
                .any(|other| other.name == step.name);
            let number = if is_repeated {
                format!("#{}", index + 1)
            } else {
                String::new()
            };
            let name = format!("{}{number}", step.name);
            let line =
                format!("weir_funnel_step_users{{funnel=\"{slug}\",step=\"{name}\"}} {sum}\n");
            assert!(metrics.contains(&line), "{line} in {metrics}");
        }
    }
    let metrics = server.metrics().await;
    for line in [
        "weir_live_level 1",
        "weir_live_lag_rows 0",
        "weir_live_begun_total 1",
        r#"weir_live_events_total{funnel="checkout",outcome="too_late"} 0"#,
        r#"weir_publish_snapshots_total{sink="clickhouse",outcome="failed"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(metrics.contains(r#"weir_live_watermark_lag_seconds{funnel="gaps"} "#));
    assert!(
        !metrics.contains("t1") && !metrics.contains("u7"),
        "no people, no shops"
    );
}

fn what_is_logged_is_no_secret(place: &Place) {
    let log = place.log();
    assert!(
        log.contains("steps[1].http"),
        "the funnel that is not kept live is named: {log}"
    );
    for secret in [REDIS_PASSWORD, receiver::SECRET, "url-secret"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

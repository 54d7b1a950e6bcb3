//! Live funnels fed from a real store are the batch answers, whatever the order of events, restarts and erasures.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod generate;

use std::{collections::BTreeMap, time::Duration};

use event_store::{EventRow, Store};
use funnel_engine::{
    Count, Event, FunnelDefinition, Interval, Trend, WeekStart,
    feed::{Feed, FeedSettings, Polled, Published},
    live::{LiveConfig, LiveCounts, Snapshot, Tumbling},
    run_reference,
};
use generate::{Dice, definition, events};
use weir_testing::TestStore;

const HOUR: i64 = 3_600_000_000_000;
/// 2026-10-31T21:00:00Z: the events lie in two partitions.
const START: i64 = 1_793_480_400_000_000_000;
const FUNNELS: u64 = 16;

/// Every window: funnel, tenant and beginning to counts by step.
type Windows = BTreeMap<(String, String, i64), Vec<u64>>;

/// A feed and what a receiver that keeps the highest revision of each window has.
struct Follower {
    feed: Feed,
    kept: BTreeMap<(String, String, i64), (u64, Vec<u64>)>,
}

impl Follower {
    fn of(store: &Store, definitions: &[FunnelDefinition], first_revision: u64) -> Self {
        let mut live = LiveConfig::new(Tumbling::HOUR);
        // Nothing may rest on memory: few subjects, short histories, everything is late at once.
        live.lateness_ns = 0;
        live.bounds.subjects = 20;
        live.bounds.history_per_subject = 2;
        live.bounds.marks_per_subject = 6;
        let settings = FeedSettings {
            live,
            windows_back: 8,
        };
        let now = || START + 8 * HOUR;
        let definitions = definitions.iter().cloned();
        let (mut feed, refused) = Feed::new(store.clone(), definitions, settings, now);
        assert_eq!(refused, []);
        let begins_at_ns = feed.begins_at_ns();
        feed.begin(begins_at_ns, first_revision, &[]).unwrap();
        Self {
            feed,
            kept: BTreeMap::new(),
        }
    }

    fn keep(&mut self, changes: Vec<Snapshot>) {
        for change in changes {
            let counts: Vec<u64> = change.counts().collect();
            let key = (change.funnel, change.tenant, change.from_ns);
            let known = self.kept.insert(key, (change.revision, counts));
            assert!(known.is_none_or(|(revision, _)| revision < change.revision));
        }
    }

    /// Polls until all is taken in; why not, when it is stale.
    async fn level(&mut self) -> Result<(), String> {
        for _ in 0..500 {
            match self.feed.poll_once().await.unwrap() {
                Polled::Level => {
                    let changes = self.feed.take_changes(usize::MAX);
                    self.keep(changes);
                    return Ok(());
                }
                Polled::More => {}
                Polled::Waits => tokio::time::sleep(Duration::from_millis(20)).await,
                Polled::Stale(why) => return Err(why),
            }
        }
        panic!("the feed does not come to the end of the events");
    }

    /// Windows in which anybody is.
    fn windows(&self) -> Windows {
        let kept = self.kept.iter();
        let kept = kept.map(|(key, (_, counts))| (key.clone(), counts.clone()));
        kept.filter(|(_, counts)| counts.iter().any(|count| *count > 0))
            .collect()
    }

    fn counts(&self) -> LiveCounts {
        let mut sum = LiveCounts::default();
        for funnel in self.feed.figures().funnels {
            sum.applied += funnel.counts.applied;
            sum.looked_up += funnel.counts.looked_up;
            sum.evicted_open += funnel.counts.evicted_open;
            sum.too_late += funnel.counts.too_late;
            sum.refused_mark += funnel.counts.refused_mark;
            sum.refused_subject += funnel.counts.refused_subject;
        }
        sum
    }
}

/// The batch answer by windows: for every step k, who entered in a window and went on to step k.
fn batch(definitions: &[FunnelDefinition], events: &[Event]) -> Windows {
    let mut windows = Windows::new();
    for definition in definitions {
        for tenant in ["t1", "t2"] {
            let events: Vec<Event> = events
                .iter()
                .filter(|event| event.tenant() == tenant && event.at_ns >= START)
                .cloned()
                .collect();
            for step in
                (1..=definition.steps.len()).filter(|step| !definition.steps[step - 1].optional)
            {
                let trend = Trend {
                    interval: Interval::Hour,
                    timezone: jiff::tz::TimeZone::UTC,
                    week_start: WeekStart::Monday,
                    from_step: 1,
                    to_step: step,
                };
                let definition = FunnelDefinition {
                    trend: Some(trend),
                    breakdown: None,
                    ..definition.clone()
                };
                let answer = run_reference(&definition, &events).unwrap();
                for point in answer.trend {
                    let from: jiff::Timestamp = point.bucket.parse().unwrap();
                    let from_ns = i64::try_from(from.as_nanosecond()).unwrap();
                    let key = (definition.name.clone(), tenant.to_owned(), from_ns);
                    let counts = windows
                        .entry(key)
                        .or_insert_with(|| vec![0; definition.steps.len()]);
                    counts[step - 1] = point.converted;
                }
            }
        }
    }
    windows.retain(|_, counts| counts.iter().any(|count| *count > 0));
    windows
}

/// Optional steps have no trend, so they are not compared.
fn assert_same(live: &Windows, batch: &Windows, definitions: &[FunnelDefinition], when: &str) {
    let mut live = live.clone();
    for ((funnel, ..), counts) in &mut live {
        let definition = definitions.iter().find(|one| one.name == *funnel).unwrap();
        for (count, step) in counts.iter_mut().zip(&definition.steps) {
            *count *= u64::from(!step.optional);
        }
    }
    for (key, counts) in batch {
        assert_eq!(live.get(key), Some(counts), "{when}: {key:?}");
    }
    assert_eq!(live.len(), batch.len(), "{when}");
}

fn row(event: &Event) -> EventRow {
    let text = |name: &str| event.property(name).map(std::borrow::Cow::into_owned);
    let properties = ["p", "q"].map(|name| Some((name.to_owned(), text(name)?)));
    EventRow {
        tenant_id: event.tenant().to_owned(),
        user_id: event.user.clone().unwrap_or_default(),
        timestamp: event.at_ns,
        event: event.name.clone(),
        session_id: text("session"),
        trace_id: None,
        status_code: None,
        duration_ns: 0,
        properties: properties.into_iter().flatten().collect(),
    }
}

async fn insert(store: &Store, events: &[Event]) {
    let mut insert = store.database().insert::<EventRow>("events").await.unwrap();
    for event in events {
        insert.write(&row(event)).await.unwrap();
    }
    insert.end().await.unwrap();
}

async fn run(store: &Store, sql: &str) {
    store.database().query(sql).execute().await.unwrap();
}

/// Funnels of every kind that can be kept live and has a batch trend by windows.
fn funnels(dice: &mut Dice) -> Vec<FunnelDefinition> {
    let mut funnels = Vec::new();
    while (funnels.len() as u64) < FUNNELS {
        let mut drawn = definition(dice, START);
        drawn.name = format!("f{}", funnels.len());
        drawn.time_range = None;
        // The trend of a funnel with exclusions is about the whole funnel, not about one window.
        drawn.exclusions = Vec::new();
        let window = ["10m", "1h", "3h"][usize::try_from(dice.below(3)).unwrap()];
        let mut json = serde_json::to_value(&drawn).unwrap();
        json["window"] = window.into();
        let drawn = FunnelDefinition::parse(&json.to_string()).unwrap();
        let can_be_kept = drawn.order != funnel_engine::Order::Clickhouse
            && drawn
                .steps
                .iter()
                .all(|step| step.occurrence == funnel_engine::Occurrence::Any);
        if can_be_kept {
            funnels.push(drawn);
        }
    }
    for count in [Count::Users, Count::Sessions, Count::Totals] {
        assert!(funnels.iter().any(|funnel| funnel.count == count));
    }
    funnels
}

/// Events of both shops over eight hours, the first of which the feed does not look at, in a random order.
fn shuffled(dice: &mut Dice) -> Vec<Event> {
    let mut all = events(dice, "t1", 40, 0);
    all.extend(events(dice, "t2", 25, 0));
    for event in &mut all {
        event.at_ns = START - HOUR + event.at_ns * 960;
        if dice.once_in(9) {
            event.user = None;
        }
    }
    for index in (1..all.len()).rev() {
        let other = usize::try_from(dice.below(index as u64 + 1)).unwrap();
        all.swap(index, other);
    }
    all
}

/// A process can have one engine, so the chapters share it.
#[tokio::test(flavor = "multi_thread")]
async fn live_is_batch() {
    let running = TestStore::start().await;
    let store = &running.store;
    let mut dice = Dice(17);
    let (funnels, all) = (funnels(&mut dice), shuffled(&mut dice));
    out_of_order_in_batches(store, &mut dice, &funnels, &all).await;
    a_new_process_finds_the_same(store, &funnels, &all).await;
    what_is_erased_is_taken_back(store, &funnels, all).await;
}

async fn out_of_order_in_batches(
    store: &Store,
    dice: &mut Dice,
    funnels: &[FunnelDefinition],
    all: &[Event],
) {
    let mut follower = Follower::of(store, funnels, 1);
    let mut inserted = 0;
    for events in all.chunks(23) {
        insert(store, events).await;
        inserted += events.len();
        if dice.once_in(2) {
            follower.level().await.unwrap();
        }
        if dice.once_in(8) {
            run(store, "OPTIMIZE TABLE events FINAL").await;
        }
        if dice.once_in(5) {
            follower.level().await.unwrap();
            let truth = batch(funnels, &all[..inserted]);
            assert_same(&follower.windows(), &truth, funnels, "on the way");
        }
    }
    follower.level().await.unwrap();
    let truth = batch(funnels, all);
    assert_same(&follower.windows(), &truth, funnels, "in the end");
    let counts = follower.counts();
    assert!(
        counts.looked_up > 500 && counts.evicted_open > 500,
        "the past was needed: {counts:?}"
    );
    assert_eq!(
        (counts.too_late, counts.refused_mark, counts.refused_subject),
        (0, 0, 0)
    );
    assert!(truth.len() > 100, "{}", truth.len());
}

async fn a_new_process_finds_the_same(store: &Store, funnels: &[FunnelDefinition], all: &[Event]) {
    let mut follower = Follower::of(store, funnels, 1_000);
    assert_eq!(follower.feed.take_changes(usize::MAX), []);
    follower.level().await.unwrap();
    let truth = batch(funnels, all);
    assert_same(&follower.windows(), &truth, funnels, "after a restart");
    let figures = follower.feed.figures();
    assert_eq!((figures.begun, figures.lag_rows), (1, 0));
}

/// One user of shop t2 is alone in a window; erased, the window is published with zeros.
async fn what_is_erased_is_taken_back(
    store: &Store,
    funnels: &[FunnelDefinition],
    mut all: Vec<Event>,
) {
    let mut follower = Follower::of(store, funnels, 1);
    follower.level().await.unwrap();
    let before = follower.windows();
    run(
        store,
        "ALTER TABLE events DELETE WHERE tenant_id = 't2' AND user_id != 'u1' SETTINGS mutations_sync = 2",
    )
    .await;
    let why = follower.level().await.unwrap_err();
    assert!(why.contains("mutation"), "{why}");
    let published: Vec<Published> = before
        .keys()
        .map(|(funnel, tenant, from_ns)| Published {
            funnel: funnel.clone(),
            tenant: tenant.clone(),
            from_ns: *from_ns,
        })
        .collect();
    let begins_at_ns = follower.feed.begins_at_ns();
    follower
        .feed
        .begin(begins_at_ns, 1_000, &published)
        .unwrap();
    follower.level().await.unwrap();
    all.retain(|event| event.tenant() == "t1" || event.user.as_deref() == Some("u1"));
    let truth = batch(funnels, &all);
    assert_same(&follower.windows(), &truth, funnels, "after an erasure");
    let gone = before.keys().filter(|key| !truth.contains_key(*key));
    assert!(gone.clone().count() > 20);
    for key in gone {
        assert!(follower.kept[key].0 >= 1_000, "{key:?} was put right");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_live_is_named_by_its_path() {
    let parse = |json: &str| FunnelDefinition::parse(json).unwrap();
    let definitions = [
        parse(
            r#"{"name":"http","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","http":{"route":"/b"}}]}"#,
        ),
        parse(
            r#"{"name":"first","window":"1h","steps":[{"name":"A","event":"a","occurrence":"first_ever"},{"name":"B","event":"b"}]}"#,
        ),
        parse(
            r#"{"name":"fine","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#,
        ),
        parse(
            r#"{"name":"fine","window":"1h","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#,
        ),
    ];
    let settings = FeedSettings {
        live: LiveConfig::new(Tumbling::DAY),
        windows_back: 1,
    };
    let store = Store::at("http://127.0.0.1:1");
    let (feed, refused) = Feed::new(store, definitions, settings, || START);
    assert_eq!(feed.len(), 1);
    let paths: Vec<&str> = refused.iter().map(|one| one.error.path.as_str()).collect();
    assert_eq!(paths, ["steps[1].http", "steps[0].occurrence", "name"]);
    // A day back from 21:00, whole days.
    assert_eq!(feed.begins_at_ns(), START - 45 * HOUR);
}

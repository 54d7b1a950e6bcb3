//! The three backends over one store: ClickHouse and the columns read from it must say what the reference says, for
//! definitions and events drawn from seeds, with ties, duplicates, sessions and several shops.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod generate;
#[path = "generate/pushed.rs"]
mod pushed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use event_store::{ExchangeRow, Scope, Store, TenantId};
use funnel_engine::{
    Bar, Event, FunnelDefinition, FunnelResult, HeapBuilder, Member, Order, StatementKind, Which,
    members, run_from_store, run_on_clickhouse, run_reference, statement_kind,
};
use generate::Dice;
use pushed::Aim;
use serde_json::Value;
use tokio::task::{JoinSet, spawn_blocking};
use weir_testing::{TestStore, exchange};

/// Drawn definitions, each over as many users: 100,000 cases.
const DEFINITIONS: u64 = 500;
const USERS: u64 = 200;
/// Seeds that once showed a difference stay here.
const KEPT: [u64; 0] = [];
/// Statements under way at the same time.
const ASKED_AT_ONCE: usize = 2;
/// Rows of one insert.
const ROWS: usize = 50_000;

/// What is drawn from a seed.
struct Case {
    seed: u64,
    definition: FunnelDefinition,
    events: Vec<Event>,
    scope: Scope,
}

impl Case {
    fn drawn(seed: u64, start_ns: i64) -> Self {
        let mut dice = Dice(seed);
        let tenant = format!("t{seed}");
        let aim = match seed % 8 {
            0 => Aim::Plain,
            1 => Aim::Gaps,
            2 => Aim::Bent,
            3 => Aim::Shared,
            4 => Aim::Unordered,
            5 => Aim::Window(usize::try_from(seed / 8).unwrap()),
            6 => Aim::Http,
            _ => return Self::of_every_kind(seed, dice, start_ns),
        };
        // Users and sessions of two shops that are called alike are different.
        let is_of_two = seed % 9 == 0;
        let users = if is_of_two { USERS / 2 } else { USERS };
        let mut events = pushed::events(&mut dice, aim, &tenant, users, start_ns);
        let mut definition = pushed::definition(&mut dice, aim, start_ns);
        let mut scope = Scope::Tenant(TenantId::new(&tenant).unwrap());
        if is_of_two {
            let other = format!("{tenant}-too");
            events.extend(pushed::events(&mut dice, aim, &other, users, start_ns));
            definition = within_shops(&definition, &[&tenant, &other]);
            scope = Scope::Operator;
        }
        Self {
            seed,
            definition,
            events,
            scope,
        }
    }

    /// By the generator that draws everything, with what only exchanges have.
    fn of_every_kind(seed: u64, mut dice: Dice, start_ns: i64) -> Self {
        let tenant = format!("t{seed}");
        let mut events = generate::events(&mut dice, &tenant, USERS, start_ns);
        for event in &mut events {
            event
                .properties
                .insert("duration_ms".to_owned(), dice.below(900).into());
        }
        let definition = generate::definition(&mut dice, start_ns);
        let scope = Scope::Tenant(TenantId::new(&tenant).unwrap());
        Self {
            seed,
            definition,
            events,
            scope,
        }
    }
}

fn within_shops(definition: &FunnelDefinition, shops: &[&str]) -> FunnelDefinition {
    let mut json = serde_json::to_value(definition).unwrap();
    let only = serde_json::json!({"property": "tenant", "op": "in", "value": shops});
    match json["where"].as_array_mut() {
        Some(conditions) => conditions.push(only),
        None => json["where"] = Value::Array(vec![only]),
    }
    FunnelDefinition::parse(&json.to_string()).unwrap()
}

/// Yesterday, 10:00 UTC: the store forgets exchanges after 90 days.
fn start_ns() -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    i64::try_from((now / 86_400 - 1) * 86_400 + 36_000).unwrap() * 1_000_000_000
}

/// The exchange of which the store makes this event.
fn row(event: &Event) -> ExchangeRow {
    let columns = [
        "tenant",
        "session",
        "status_code",
        "duration_ms",
        "route",
        "method",
    ];
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let get = |name: &str| event.properties.get(name).map(text);
    let others = event
        .properties
        .iter()
        .filter(|(name, _)| !columns.contains(&name.as_str()));
    let usual = exchange(event.at_ns, event.user.as_deref().unwrap(), &event.name);
    ExchangeRow {
        tenant_id: get("tenant"),
        session_id: get("session"),
        trace_id: None,
        status_code: get("status_code").map(|code| code.parse().unwrap()),
        duration_ns: event.properties["duration_ms"].as_u64().unwrap() * 1_000_000,
        route: get("route").or(usual.route),
        method: get("method").or(usual.method),
        event: usual.event.filter(|name| name != "http"),
        attributes: others
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        ..usual
    }
}

async fn fill(store: &Store, seeds: &[u64], start_ns: i64) {
    let cases = seeds.iter().map(|seed| Case::drawn(*seed, start_ns));
    let rows: Vec<ExchangeRow> = cases
        .flat_map(|case| case.events)
        .map(|event| row(&event))
        .collect();
    for (number, rows) in rows.chunks(ROWS).enumerate() {
        store
            .insert_exchanges(rows, &format!("events {number}"))
            .await
            .unwrap();
    }
}

/// Everything but who answered and how long it took.
fn answer(result: &FunnelResult) -> Value {
    let mut json = serde_json::to_value(result).unwrap();
    for key in ["backend", "elapsed_ms", "events_scanned"] {
        json.as_object_mut().unwrap().remove(key);
    }
    json
}

/// Equal, but for the last digits of means, which are added up in another order.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= 1e-9 * (1.0 + one.abs())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one): (&String, &Value)| {
                other.get(key).is_some_and(|other| is_same(one, other))
            };
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

fn assert_same(case: &Case, result: &FunnelResult, reference: &FunnelResult) {
    let (ours, theirs) = (answer(result), answer(reference));
    for (key, ours) in ours.as_object().unwrap() {
        let theirs = &theirs[key];
        assert!(
            is_same(ours, theirs),
            "seed {}, {} {key}:\n{ours}\nreference:\n{theirs}\n{}",
            case.seed,
            result.backend,
            serde_json::to_string(&case.definition).unwrap()
        );
    }
}

fn heap(case: &Case) -> funnel_engine::HeapIndex {
    let mut builder = HeapBuilder::new(&case.definition);
    for event in &case.events {
        builder.push(event).unwrap();
    }
    builder.finish().unwrap()
}

/// The lists of both backends are the same, page by page, and add up to the bars.
async fn assert_lists(store: &Store, case: &Case, result: &FunnelResult) {
    let index = heap(case);
    let (scope, definition) = (&case.scope, &case.definition);
    for step in &result.steps {
        let mut listed = 0;
        for which in [Which::Dropped, Which::Converted] {
            let bar = Bar {
                step: step.step,
                which,
            };
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = (after.as_ref(), 37);
                let mut page = members(store, scope, definition, bar, page, 1)
                    .await
                    .unwrap();
                paged.append(&mut page.members);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let whole: Vec<Member> = index.members(bar, (None, usize::MAX), 2).unwrap();
            let text = serde_json::to_string(definition).unwrap();
            assert_eq!(paged, whole, "seed {}, {bar:?}: {text}", case.seed);
            if which == Which::Dropped {
                assert_eq!(
                    paged.len() as u64,
                    step.drop_off,
                    "seed {}, {bar:?}",
                    case.seed
                );
            }
            listed += paged.len() as u64;
        }
        assert_eq!(listed, step.count, "seed {}, step {}", case.seed, step.step);
    }
}

/// Asks all backends; the kind of statement, if there is one, and whether the answer says something: some reached
/// step 2, and some did not.
async fn check(store: &Store, case: Case) -> Option<(StatementKind, bool)> {
    let case = Arc::new(case);
    let reference = spawn_blocking({
        let case = Arc::clone(&case);
        move || run_reference(&case.definition, &case.events).unwrap()
    });
    let (scope, definition) = (&case.scope, &case.definition);
    let columnar = match scope {
        Scope::Tenant(_) => run_from_store(store, scope, definition, 2).await.unwrap(),
        // All shops' events are too many to be read for each definition.
        Scope::Operator => heap(&case).answer(2).unwrap(),
    };
    let kind = statement_kind(definition).ok();
    let pushed = match kind {
        Some(_) => Some(run_on_clickhouse(store, scope, definition).await),
        None => None,
    };
    let reference = reference.await.unwrap();
    assert_same(&case, &columnar, &reference);
    let pushed = pushed?;
    let pushed = pushed.unwrap_or_else(|error| panic!("seed {}: {error}", case.seed));
    assert_same(&case, &pushed, &reference);
    if case.seed % 5 == 0 && definition.order != Order::Clickhouse {
        assert_lists(store, &case, &pushed).await;
    }
    let counts: Vec<u64> = pushed.steps.iter().map(|step| step.count).collect();
    Some((kind?, counts[1] > 0 && counts[1] < counts[0]))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_backends_agree_on_a_hundred_thousand_cases() {
    let running = TestStore::start().await;
    let start_ns = start_ns();
    let seeds: Vec<u64> = KEPT.into_iter().chain(0..DEFINITIONS).collect();
    fill(&running.store, &seeds, start_ns).await;
    let modes: BTreeSet<Vec<&str>> = pushed::mode_sets().into_iter().collect();
    assert_eq!(modes.len(), 24);
    let (seeds, next) = (Arc::new(seeds), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..ASKED_AT_ONCE {
        let (store, seeds, next) = (running.store.clone(), Arc::clone(&seeds), Arc::clone(&next));
        workers.spawn(async move {
            let mut met = BTreeMap::<StatementKind, (u64, u64)>::new();
            loop {
                let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                let Some(seed) = seeds.get(place) else {
                    return met;
                };
                if let Some((kind, says)) = check(&store, Case::drawn(*seed, start_ns)).await {
                    let (asked, telling) = met.entry(kind).or_default();
                    *asked += 1;
                    *telling += u64::from(says);
                }
            }
        });
    }
    let mut met = BTreeMap::<StatementKind, (u64, u64)>::new();
    for (kind, (asked, telling)) in workers.join_all().await.into_iter().flatten() {
        let (all_asked, all_telling) = met.entry(kind).or_default();
        *all_asked += asked;
        *all_telling += telling;
    }
    tracing::info!(
        ?met,
        "kinds of statements: asked, with an answer that says something"
    );
    for kind in StatementKind::ALL {
        let (asked, telling) = met.get(&kind).copied().unwrap_or_default();
        assert!(
            asked >= 20 && telling >= 10,
            "{kind:?}: {telling} of {asked} say something; all: {met:?}"
        );
    }
}

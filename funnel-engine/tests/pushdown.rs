//! The three backends over one store: ClickHouse and the columns read from it must say what the reference says, for
//! definitions and events drawn from seeds, with ties, duplicates, sessions and several shops.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod answers;
mod cases;
mod generate;
#[path = "generate/pushed.rs"]
mod pushed;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cases::{Case, assert_lists, assert_same, fill, heap, start_ns};
use event_store::{Scope, Store};
use funnel_engine::{
    AtHand, Order, StatementKind, run_from_store, run_on_clickhouse, run_reference, statement_kind,
};
use tokio::task::{JoinSet, spawn_blocking};
use weir_testing::TestStore;

/// Drawn definitions, each over 400 users: 100,000 cases.
const DEFINITIONS: u64 = 250;
/// Seeds that once showed a difference stay here.
const KEPT: [u64; 0] = [];
/// Statements under way at the same time.
const ASKED_AT_ONCE: usize = 2;

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
    if case.seed.is_multiple_of(11) && definition.order != Order::Clickhouse {
        assert_lists(&AtHand::from(store.clone()), &case, &pushed).await;
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
            asked >= 10 && telling >= 5,
            "{kind:?}: {telling} of {asked} say something; all: {met:?}"
        );
    }
}

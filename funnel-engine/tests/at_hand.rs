//! The index beside a store that goes on filling: whatever is in files, in the hot tail, or read twice, the answer is the
//! reference's.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod answers;
mod cases;
mod generate;
#[path = "generate/pushed.rs"]
mod pushed;

use std::{sync::Arc, time::Duration};

use cases::{Case, assert_lists, assert_same, fill, start_ns};
use funnel_engine::{
    AtHand, Events, FunnelResult, IndexAtHand, Order, SharedIndex, StoreIndex, ask, plan,
    run_reference, tail::Tail,
};
use weir_testing::TestStore;

/// Drawn definitions, each over 400 users.
const DEFINITIONS: u64 = 96;
/// Of these, the events of so many are in the store at first; the others come in two further waves.
const FIRST: u64 = 40;
const SECOND: u64 = 70;

/// The index's own answer, once it has the columns.
async fn answer(at_hand: &AtHand, case: &Case) -> FunnelResult {
    let asking = async {
        loop {
            let result = ask(at_hand, &case.scope, &case.definition, 2)
                .await
                .unwrap();
            // While columns are being read, the store answers; both must be right.
            if result.backend == "columnar" {
                return result;
            }
            let reference = run_reference(&case.definition, &case.events).unwrap();
            assert_same(case, &result, &reference);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asking)
        .await
        .unwrap()
}

async fn check(at_hand: &AtHand, seeds: std::ops::Range<u64>, start_ns: i64) {
    for seed in seeds {
        let case = Case::drawn(seed, start_ns);
        // The index holds named events; exchanges are for the store.
        if plan(&case.definition, Events::Index).from != Events::Index {
            continue;
        }
        let reference = run_reference(&case.definition, &case.events).unwrap();
        let result = answer(at_hand, &case).await;
        assert_same(&case, &result, &reference);
        if seed.is_multiple_of(5) && case.definition.order != Order::Clickhouse {
            assert_lists(at_hand, &case, &result).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_what_has_just_arrived_are_one_index() {
    let running = TestStore::start().await;
    let store = &running.store;
    let folder = tempfile::tempdir().unwrap();
    let (index, rebuilt) = StoreIndex::open(folder.path()).unwrap();
    assert_eq!(rebuilt, None);
    // A clock that stands still: what was level once stays level.
    let mut tail = Tail::new(store.clone(), SharedIndex::new(index), || 1);
    let index = Arc::new(IndexAtHand::of(&tail, store.clone(), || 1));
    let at_hand = AtHand {
        store: store.clone(),
        index: Some(Arc::clone(&index)),
    };
    let start_ns = start_ns();
    assert!(!index.is_level(), "nothing has been read yet");

    // All of it hot.
    let seeds = |range: std::ops::Range<u64>| range.collect::<Vec<u64>>();
    fill(store, &seeds(0..FIRST), start_ns).await;
    tail.poll_once().await.unwrap();
    assert!(index.is_level() && index.hot_rows() > 0 && index.stats().events == 0);
    check(&at_hand, 0..8, start_ns).await;

    // In files, with more behind them.
    tail.hand_over().unwrap();
    assert!(index.hot_rows() == 0 && index.stats().events > 0);
    fill(store, &seeds(FIRST..SECOND), start_ns).await;
    tail.poll_once().await.unwrap();
    assert!(index.hot_rows() > 0);
    check(&at_hand, 30..50, start_ns).await;

    // In several files, whose segments are joined.
    tail.hand_over().unwrap();
    fill(store, &seeds(SECOND..DEFINITIONS), start_ns).await;
    tail.poll_once().await.unwrap();
    check(&at_hand, 66..74, start_ns).await;
    tail.hand_over().unwrap();
    tail.index().lock().compact().unwrap();
    check(&at_hand, 20..60, start_ns).await;
}

//! The statements of the push-down over a `Distributed` table whose shards each hold some of the users.
//!
//! Both shards are databases of one engine, reached without a network: a view gives each shard its own rows. What is
//! run is the planning of distributed statements, grouping on the shards, and bringing their subjects together; what is
//! not run is the way between servers.

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

use std::collections::BTreeSet;

use cases::{Case, assert_lists, assert_same, fill, start_ns};
use event_store::Store;
use funnel_engine::{
    AtHand, Order, StatementKind, run_on_clickhouse, run_reference, statement_kind,
};
use weir_testing::TestStore;

/// Drawn definitions, each over 400 users.
const DEFINITIONS: u64 = 32;

/// Where a user's rows lie, 0 or 1.
const SHARD: &str = "sipHash64(ifNull(tenant_id, ''), ifNull(user_id, ''))";

/// Moves the rows of a table to two shards by user, and puts a distributed table in its place.
async fn shard(store: &Store, table: &str) {
    let run = async |statement: &str| {
        let done = store.database().query(statement).execute().await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    };
    for shard in [1, 2] {
        run(&format!("CREATE DATABASE IF NOT EXISTS shard{shard}")).await;
        run(&format!("CREATE TABLE shard{shard}.{table} AS {table}")).await;
        run(&format!(
            "INSERT INTO shard{shard}.{table} SELECT * FROM {table} WHERE {SHARD} % 2 = {}",
            shard - 1
        ))
        .await;
    }
    run("CREATE DATABASE IF NOT EXISTS own").await;
    run(&format!(
        "CREATE VIEW own.{table} AS SELECT * FROM shard1.{table} WHERE shardNum() = 1
            UNION ALL SELECT * FROM shard2.{table} WHERE shardNum() = 2"
    ))
    .await;
    run(&format!("DROP TABLE {table}")).await;
    run(&format!(
        "CREATE TABLE {table} AS remote('127.0.0.1,127.0.0.1', own, {table}, 'default', '', {SHARD})"
    ))
    .await;
}

async fn rows(store: &Store, table: &str) -> u64 {
    let count = format!("SELECT count() FROM {table}");
    store.database().query(&count).fetch_one().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_spread_over_shards_are_counted_as_in_one_place() {
    let running = TestStore::start().await;
    let store = &running.store;
    let start_ns = start_ns();
    let seeds: Vec<u64> = (0..DEFINITIONS).collect();
    fill(store, &seeds, start_ns).await;
    let whole = rows(store, "events").await;
    let view = store.database().query("DROP TABLE events_of_exchanges");
    view.execute().await.unwrap();
    for table in ["events", "http_exchanges"] {
        shard(store, table).await;
    }
    let parts = [
        rows(store, "shard1.events").await,
        rows(store, "shard2.events").await,
    ];
    assert_eq!(
        (parts[0] + parts[1], rows(store, "events").await),
        (whole, whole)
    );
    assert!(
        parts.iter().all(|part| *part > whole / 3),
        "{parts:?} of {whole}"
    );
    let mut met = BTreeSet::new();
    for seed in seeds {
        let case = Case::drawn(seed, start_ns);
        let Ok(kind) = statement_kind(&case.definition) else {
            continue;
        };
        let pushed = run_on_clickhouse(store, &case.scope, &case.definition).await;
        let pushed = pushed.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let reference = run_reference(&case.definition, &case.events).unwrap();
        assert_same(&case, &pushed, &reference);
        if seed.is_multiple_of(7) && case.definition.order != Order::Clickhouse {
            assert_lists(&AtHand::from(store.clone()), &case, &pushed).await;
        }
        met.insert(kind);
    }
    assert_eq!(met, BTreeSet::from(StatementKind::ALL));
}

//! A bot whose attempts are too many for a statement is counted all the same.

use std::time::SystemTime;

use event_store::Scope;
use funnel_engine::{
    AtHand, Bar, FunnelDefinition, PushdownError, Which, ask, members, run_on_clickhouse,
};
use weir_testing::{TestStore, exchange};

/// Events of the bot: half of them start an attempt.
const EVENTS: i64 = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_the_store_is_answered_over_columns() {
    let running = TestStore::start().await;
    let (store, scope) = (&running.store, &Scope::Operator);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let start_ns = i64::try_from(now - 7_200).unwrap() * 1_000_000_000;
    let name = |number: i64| match number {
        EVENTS => "c",
        _ if number % 2 == 0 => "a",
        _ => "b",
    };
    let row = |number: i64| exchange(start_ns + number * 1_000_000, "bot", name(number));
    let rows: Vec<_> = (0..=EVENTS).map(row).collect();
    store.insert_exchanges(&rows, "bot").await.unwrap();
    let definition = FunnelDefinition::parse(
        r#"{"name":"bot","window":"1h","exclusions":[{"event":"x","from_step":1,"to_step":3}],
        "steps":[{"name":"A","event":"a"},{"name":"B","event":"b"},{"name":"C","event":"c"}]}"#,
    )
    .unwrap();
    let pushed = run_on_clickhouse(store, scope, &definition).await;
    assert!(
        matches!(pushed, Err(PushdownError::TooMuch(_))),
        "{pushed:?}"
    );
    let at_hand = AtHand::from(store.clone());
    let answered = ask(&at_hand, scope, &definition, 2).await.unwrap();
    let counts: Vec<u64> = answered.steps.iter().map(|step| step.count).collect();
    assert_eq!(
        (counts, answered.backend.as_str()),
        (vec![1, 1, 1], "columnar")
    );
    let bar = Bar {
        step: 2,
        which: Which::Converted,
    };
    let page = members(&at_hand, scope, &definition, bar, (None, 5), 2).await;
    let users: Vec<String> = page
        .unwrap()
        .members
        .into_iter()
        .map(|one| one.user_id)
        .collect();
    assert_eq!(users, ["bot"]);
}

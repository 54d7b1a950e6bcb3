//! The backends against one another: the columnar one and the push-down must say what the reference says, for
//! definitions and events drawn from seeds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod answers;
mod generate;

use answers::answer;
use funnel_engine::{Event, FunnelDefinition, FunnelResult, HeapBuilder, run_reference};
use generate::{Dice, definition, events};

/// 2026-01-05T10:00:00Z.
const START_NS: i64 = 1_767_607_200_000_000_000;
/// Drawn definitions, each over as many users.
const DEFINITIONS: u64 = 2_500;
const USERS: u64 = 40;
/// Seeds that once showed a difference stay here.
const KEPT: [u64; 1] = [1_555];

fn columnar(definition: &FunnelDefinition, events: &[Event], threads: usize) -> FunnelResult {
    let mut builder = HeapBuilder::new(definition);
    for event in events {
        builder.push(event).unwrap();
    }
    builder.finish().unwrap().answer(threads).unwrap()
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let events = events(&mut dice, "t", USERS, START_NS);
    let definition = definition(&mut dice, START_NS);
    let reference = run_reference(&definition, &events).unwrap();
    let threads = 1 + usize::try_from(seed % 3).unwrap();
    let columnar = columnar(&definition, &events, threads);
    assert_eq!(
        answer(&columnar),
        answer(&reference),
        "seed {seed}: {}\n{}",
        serde_json::to_string(&definition).unwrap(),
        differing(&definition, &events)
    );
}

/// The events of the first user whose answers differ, to look at.
fn differing(definition: &FunnelDefinition, events: &[Event]) -> String {
    let users: std::collections::BTreeSet<_> =
        events.iter().map(|event| event.user.clone()).collect();
    for user in users {
        let mut of_user: Vec<Event> = events
            .iter()
            .filter(|event| event.user == user)
            .cloned()
            .collect();
        of_user.sort_by_key(|event| event.at_ns);
        let reference = run_reference(definition, &of_user).unwrap();
        if answer(&columnar(definition, &of_user, 1)) != answer(&reference) {
            let line = |event: &Event| {
                let second = (event.at_ns - START_NS) / 1_000_000_000;
                format!("{second} {} {:?}", event.name, event.properties)
            };
            return of_user.iter().map(line).collect::<Vec<_>>().join("\n");
        }
    }
    "only together".to_owned()
}

#[test]
fn the_columnar_backend_agrees_with_the_reference_on_a_hundred_thousand_cases() {
    KEPT.into_iter().chain(0..DEFINITIONS).for_each(check);
}

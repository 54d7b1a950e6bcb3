//! The columnar scan over events that are spread over several segments in any way, against the reference.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

#[path = "generate/dice.rs"]
mod dice;

use std::collections::{BTreeMap, BTreeSet};

use dice::Dice;
use funnel_engine::{
    Event, FunnelDefinition, Judged, TenantEvents, TenantSegment,
    index::{EventRow, Segment, build},
    run_columnar, run_reference, visit_subjects,
};
use serde_json::{Value, json};

const CASES: u64 = 600;
const USERS: u64 = 120;
/// 2026-01-05T10:00:00Z.
const START_NS: i64 = 1_767_607_200_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Plain, so that the scan without gathering is met most often; with an exclusion or in another order, gathering is.
fn definition(dice: &mut Dice, names: u64) -> FunnelDefinition {
    let steps = 2 + dice.below(5);
    let step = |number: u64, dice: &mut Dice| {
        let name = |dice: &mut Dice| format!("e{}", dice.below(names.min(12)));
        let events: BTreeSet<String> = (0..=dice.below(2)).map(|_| name(dice)).collect();
        json!({ "name": number.to_string(), "event": events })
    };
    let mut json = json!({
        "name": "drawn", "window": format!("{}s", 1 + dice.below(40)),
        "steps": (0..steps).map(|number| step(number, dice)).collect::<Vec<Value>>(),
    });
    if dice.once_in(3) {
        let at = |second: i64| {
            let at = jiff::Timestamp::from_nanosecond((START_NS + second * SECOND_NS).into());
            at.unwrap().to_string()
        };
        json["time_range"] = json!({ "from": at(10), "to": at(60) });
    }
    if dice.once_in(4) {
        json["exclusions"] = json!([{ "event": "e1", "from_step": 1, "to_step": 2 }]);
    }
    if dice.once_in(6) {
        json["order"] = json!("unordered");
        json["exclusions"] = json!([]);
    }
    FunnelDefinition::parse(&json.to_string()).unwrap()
}

/// User code, time, name code.
fn rows(dice: &mut Dice, names: u64) -> Vec<(u32, i64, u16)> {
    let drawn = (0..dice.below(2_500)).map(|_| {
        let user = u32::try_from(dice.below(USERS)).unwrap();
        // Whole seconds, so that many share one.
        let at_ns = START_NS + i64::try_from(dice.below(90)).unwrap() * SECOND_NS;
        let name = if dice.once_in(3) {
            dice.below(names)
        } else {
            dice.below(names.min(6))
        };
        (user, at_ns, u16::try_from(name).unwrap())
    });
    drawn.collect()
}

/// Every event in one of the segments: by chance, by time, or by user.
fn segments(dice: &mut Dice, rows: &[(u32, i64, u16)]) -> Vec<Segment> {
    let count = 1 + dice.below(5);
    let way = dice.pick(&["chance", "time", "user"]).to_owned();
    let mut parts = vec![Vec::new(); usize::try_from(count).unwrap()];
    for (user, at_ns, name) in rows {
        let part = match way.as_str() {
            "chance" => dice.below(count),
            "time" => u64::try_from((at_ns - START_NS) / SECOND_NS).unwrap() * count / 90,
            _ => u64::from(*user) * count / USERS,
        };
        let part = parts.get_mut(usize::try_from(part).unwrap()).unwrap();
        part.push(EventRow::new(*user, *at_ns, *name));
    }
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts
        .map(|mut part| Segment::from_bytes(build(&mut part, Vec::new()).unwrap()).unwrap())
        .collect()
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    // From the 257th name on, codes are wide.
    let names = if dice.once_in(3) {
        300
    } else {
        3 + dice.below(30)
    };
    let definition = definition(&mut dice, names);
    let rows = rows(&mut dice, names);
    let segments = segments(&mut dice, &rows);
    let names: Vec<String> = (0..names).map(|name| format!("e{name}")).collect();
    let nobody = dice.once_in(2).then_some(7);
    let events: Vec<Event> = rows
        .iter()
        .map(|(user, at_ns, name)| Event {
            user: (Some(*user) != nobody).then(|| user.to_string()),
            at_ns: *at_ns,
            name: names.get(usize::from(*name)).unwrap().clone(),
            properties: BTreeMap::new(),
        })
        .collect();
    let tenants = [TenantEvents {
        names: &names,
        users: u32::try_from(USERS).unwrap(),
        nobody,
        segments: segments
            .iter()
            .map(|segment| TenantSegment {
                segment,
                columns: Vec::new(),
            })
            .collect(),
    }];
    let context = || {
        format!(
            "seed {seed}: {}",
            serde_json::to_string(&definition).unwrap()
        )
    };
    let reference = run_reference(&definition, &events).unwrap();
    let threads = 1 + usize::try_from(seed % 3).unwrap();
    let columnar = run_columnar(&definition, &tenants, threads).unwrap();
    assert_eq!(columnar.steps, reference.steps, "{}", context());
    assert_eq!(
        columnar.time_to_convert_s,
        reference.time_to_convert_s,
        "{}",
        context()
    );
    let known = rows.iter().filter(|(user, _, _)| Some(*user) != nobody);
    assert_eq!(
        columnar.events_scanned,
        known.count() as u64,
        "{}",
        context()
    );
    // Who is asked for by name is judged with times; the counts must be the same.
    let (sender, found) = std::sync::mpsc::sync_channel(usize::try_from(USERS).unwrap());
    let visitor = || {
        let sender = sender.clone();
        move |judged: Judged<'_>| {
            let level = judged.verdict.counted.first().unwrap().level;
            sender.send((judged.user, level)).unwrap();
        }
    };
    visit_subjects(&definition, &tenants, threads, visitor).unwrap();
    drop(sender);
    let levels: BTreeMap<u32, usize> = found.iter().collect();
    for step in &reference.steps {
        let count = levels.values().filter(|level| **level >= step.step).count();
        assert_eq!(count as u64, step.count, "{}", context());
    }
}

#[test]
fn however_events_are_spread_over_segments_the_answer_is_the_reference_s() {
    (0..CASES).for_each(check);
}
